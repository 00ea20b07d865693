"""Takes the network of a preset from Kao, and makes sure that PyTorch computes the same.

    python same_network.py --preset small64            names, shapes and results of a preset's network
    python same_network.py --model FILE.safetensors    the same of a trained model

Kao is the only one that knows its presets: it draws a few pictures, trains one step on them, and the model
that it writes holds the configuration and the weights. PyTorch loads these. Both then predict from the same
noise: once, and along four steps of DDIM, so that the time embedding is looked at too.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from unet import UNet

DEFAULT_KAO = Path(__file__).resolve().parents[1] / "target/release/kao"
# Largest differences that are rounding, relative to the largest magnitude.
TOLERANCES = {"one prediction": 1e-4, "four steps of DDIM": 1e-3}
N_IMAGES = 2
WALK_STEPS = 4
LARGEST_HEADER_BYTES = 100_000_000


class NetworkError(Exception):
    """A network cannot be had from Kao, or is not the same; the message says why in one line."""


def run_kao(program: Path, *arguments: str | Path) -> None:
    command = [str(program), *map(str, arguments)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise NetworkError(f"{program.name} cannot be run: {error.strerror}")
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.startswith("error")]
        why = lines[-1] if lines else f"exit status {done.returncode}"
        raise NetworkError(f"`kao {arguments[0]}`: {why.removeprefix('error: ')}")


def preset_model(program: Path, preset: str, directory: Path) -> Path:
    """A model of that preset, after one step of training."""
    faces, run = directory / "faces", directory / "run"
    run_kao(program, "draw", "--count", "8", "--out", faces)
    small = "--steps 1 --batch-size 1 --validation-images 1 --sample-count 0 --keep-checkpoints 1"
    run_kao(program, "train", "--data", faces, "--out", run, "--preset", preset, *small.split())
    model = directory / f"{preset}.safetensors"
    (run / "model.safetensors").rename(model)
    shutil.rmtree(run)
    shutil.rmtree(faces)
    return model


def read_config(model: Path) -> dict[str, Any]:
    """The configuration in a Kao model, with the number of `parameters` as PyTorch counts them."""
    try:
        with model.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > LARGEST_HEADER_BYTES:
                raise ValueError("its header is too long")
            header = json.loads(file.read(length))
        config = json.loads(header.pop("__metadata__")["kao"])
        config["parameters"] = sum(math.prod(tensor["shape"]) for tensor in header.values())
    except (OSError, ValueError, KeyError, struct.error) as error:
        raise NetworkError(f"{model.name} is no model of Kao: {error!r}")
    return config


def load_network(model: Path) -> UNet:
    """The network in a Kao model, in PyTorch; every name and shape must be the same."""
    from safetensors.torch import load_file

    from unet import UNet, UNetConfig

    try:
        network = UNet(UNetConfig.from_kao(read_config(model)["unet"]))
        network.load_state_dict({name: tensor.float() for name, tensor in load_file(model).items()})
    except (ValueError, RuntimeError) as error:
        raise NetworkError(f"PyTorch has another network than Kao: {textwrap.shorten(str(error), 300)}")
    return network.eval()


def alpha_bars(schedule: dict[str, Any]) -> np.ndarray:
    """ᾱ [T] of the schedules that presets use, in f64."""
    import numpy as np

    kind, n_timesteps = schedule["kind"], schedule["n_timesteps"]
    if kind == "linear":
        return np.cumprod(1.0 - np.linspace(schedule["beta_start"], schedule["beta_end"], n_timesteps))
    if kind == "karras":
        # σ from 0.02 to 80, evenly in σ^(1/7) (Karras et al. 2022, equation 5).
        sigma = np.linspace(0.02 ** (1 / 7), 80.0 ** (1 / 7), n_timesteps) ** 7
        return 1.0 / (1.0 + sigma**2)
    raise NetworkError(f"the schedule is {kind}; linear and karras can be compared")


def denoised(prediction: str, output: Tensor, x: Tensor, alpha_bar: float) -> tuple[Tensor, Tensor]:
    """x̂_0 and ε̂ of what the network predicts."""
    signal, noise = math.sqrt(alpha_bar), math.sqrt(1.0 - alpha_bar)
    if prediction == "epsilon":
        return (x - noise * output) / signal, output
    x_0 = output if prediction == "x0" else signal * x - noise * output
    return x_0, (x - signal * x_0) / noise


def predicted(prediction: str, x_0: Tensor, x: Tensor, alpha_bar: float) -> Tensor:
    """What the network predicted, from the x̂_0 that followed from it."""
    signal, noise = math.sqrt(alpha_bar), math.sqrt(1.0 - alpha_bar)
    if prediction == "x0":
        return x_0
    return (x - signal * x_0) / noise if prediction == "epsilon" else (signal * x - x_0) / noise


def compare(program: Path, model: Path, threads: int) -> dict[str, float]:
    """Largest differences between Kao and PyTorch on this model, relative to the largest magnitude."""
    import torch
    from safetensors.torch import load_file, save_file

    from unet import relative_error

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    network, config = load_network(model), read_config(model)
    prediction, levels = config["prediction"], alpha_bars(config["schedule"])
    x_t = torch.randn(N_IMAGES, *config["unet"]["image_size"], dtype=torch.float32).double()

    def kao(n_steps: int) -> Tensor:
        with tempfile.TemporaryDirectory(prefix="kao-same-network-") as name:
            directory = Path(name)
            noise, result = directory / "noise.safetensors", directory / "result.safetensors"
            save_file({"x_T": x_t.float()}, noise)
            run_kao(
                program, "sample", "--model", model, "--noise", noise, "--save-tensors", result,
                "--out", directory / "grid.png", "--steps", str(n_steps), "--threads", str(threads),
                "--sampler", "ddim", "--spacing", "trailing", "--end", "clean",
            )  # fmt: skip
            return load_file(result)["x_0"].double()

    @torch.no_grad()
    def pytorch(n_steps: int) -> Tensor:
        x = x_t
        n_timesteps = len(levels)
        visited = [int(k * n_timesteps / n_steps + 0.5) - 1 for k in range(n_steps, 0, -1)]
        for t, t_prev in zip(visited, [*visited[1:], None]):
            output = network(x.float(), torch.full((N_IMAGES,), t)).double()
            x_0, epsilon = denoised(prediction, output, x, levels[t])
            arrived = 1.0 if t_prev is None else levels[t_prev]
            x = math.sqrt(arrived) * x_0 + math.sqrt(1.0 - arrived) * epsilon
        return x

    last = levels[-1]
    one = [predicted(prediction, walk(1), x_t, last) for walk in (kao, pytorch)]
    walked = [walk(WALK_STEPS) for walk in (kao, pytorch)]
    return dict(zip(TOLERANCES, (relative_error(*one), relative_error(*walked))))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kao", type=Path, default=DEFAULT_KAO, help="the program")
    parser.add_argument("--preset", default="anime64")
    parser.add_argument("--model", type=Path, help="a Kao model (.safetensors), in place of a preset's")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="kao-same-network-") as directory:
            model = arguments.model or preset_model(arguments.kao, arguments.preset, Path(directory))
            errors = compare(arguments.kao, model, arguments.threads)
            config = read_config(model)
    except NetworkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    same = all(error <= TOLERANCES[name] for name, error in errors.items())
    if arguments.json:
        print(json.dumps({"same": same, "errors": errors}))
    else:
        print(f"{'network':22} {json.dumps(config['unet'])}")
        print(f"{'parameters':22} {config['parameters']:,}, all names and shapes the same")
        for name, error in errors.items():
            print(f"{name:22} max relative error {error:.1e} (at most {TOLERANCES[name]:g})")
        print("the same network" if same else "not the same network")
    return 0 if same else 1


if __name__ == "__main__":
    raise SystemExit(main())
