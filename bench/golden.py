"""Writes the small golden values that Kao's tests compare the network with where no reference folder is at hand.

Weights are not stored (a network wide enough for GroupNorm(32) has over half a million): every parameter but
the embedding table, which is stored, is a pure function of its name and the index of its element, so that a
test makes them itself:

    u(name, i) = splitmix64(fnv1a64(name) + i), top 24 bits, divided by 2^23, minus 1      in [-1, 1)
    weight of rank above one (convolution, linear)    f32( u · sqrt(3 / fan_in) ), fan_in = elements / first side
    weight of rank one (norm)                         f32( 1 + u / 4 )
    bias                                              f32( u / 10 )

in f64 until the last rounding, wrapping 64-bit arithmetic, elements in row-major order of PyTorch's shape,
names as in the checkpoint without `unet.`. splitmix64(s) mixes s + 0x9E3779B97F4A7C15, as its author does
with a state of s. The same function makes the inputs: images and noise are 1.5·u of their tensor's name.

Tensors in the file (f32 unless said):

    time_embedding.time_embedding.0.weight      the table
    x [N,3,H,W], t [N] i64, eps                 one forward pass
    silu.eps                                    the same with SiLU for Hardswish throughout
    single_channel.x, single_channel.eps        the network for images of one channel, t as above
    x_0, train.t i64, noise, x_t, train.eps     one batch; mean squared error of noise, dropout off
    losses [5] f64                              of five steps of Adam at lr 1e-4 (betas .9 .999, eps 1e-8)
    grad.<parameter>                            of the first loss, for parameters of few elements
    grad_summary.<parameter> [2] f64            for every parameter: norm of its gradient g, and sum(g · weight)

`x` checks a reader's own u. Some gradients are zero but for rounding: compare with a floor relative to the
largest of all. The configuration is JSON in the metadata entry `golden`.

    python golden.py [OUTPUT]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from unet import UNet, UNetConfig, add_noise

DEFAULT_OUTPUT = Path(__file__).parents[1] / "crates/kao/tests/data/unet_golden.safetensors"
CONFIG = UNetConfig(
    image_size=(3, 8, 8), num_steps=100, ch=32, ch_mult=(1, 2), attn=(1,), num_res_blocks=1, dropout=0.1
)
TABLE = "time_embedding.time_embedding.0.weight"
LEARNING_RATE = 1e-4
ADAM_STEPS = 5
LARGEST_STORED_GRADIENT = 1024
STORED_GRADIENTS = ("downblocks.2.shortcut.weight", "downblocks.2.attn.proj_q.weight", "upblocks.3.shortcut.weight")


def fnv1a64(text: str) -> int:
    digest = 0xCBF29CE484222325
    for byte in text.encode():
        digest = (digest ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return digest


def uniform(name: str, count: int) -> np.ndarray:
    """u(name, 0..count) of the module's description, f64 in [-1, 1)."""
    with np.errstate(over="ignore"):
        z = np.uint64(fnv1a64(name)) + np.arange(count, dtype=np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return (z >> np.uint64(40)).astype(np.float64) / 2.0**23 - 1.0


def filled(name: str, shape: torch.Size) -> Tensor:
    """The value of the parameter of that name and shape."""
    u = uniform(name, shape.numel())
    if name.endswith(".bias"):
        values = u / 10.0
    elif len(shape) == 1:
        values = 1.0 + u / 4.0
    else:
        values = u * np.sqrt(3.0 / (shape.numel() // shape[0]))
    return torch.from_numpy(values.astype(np.float32)).reshape(shape)


def images(name: str, n: int, config: UNetConfig) -> Tensor:
    shape = (n, *config.image_size)
    return torch.from_numpy((1.5 * uniform(name, int(np.prod(shape)))).astype(np.float32)).reshape(shape)


def make_model(config: UNetConfig) -> UNet:
    model = UNet(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name != TABLE:
                parameter.copy_(filled(name, parameter.shape))
    return model


def forward_values() -> dict[str, Tensor]:
    t = torch.tensor([3, 97])
    x = images("x", len(t), CONFIG)
    single_channel = dataclasses.replace(CONFIG, image_size=(1, *CONFIG.image_size[1:]))
    single_x = images("single_channel.x", len(t), single_channel)
    model = make_model(CONFIG)
    with torch.no_grad():
        return {
            TABLE: model.state_dict()[TABLE],
            "x": x,
            "t": t,
            "eps": model(x, t),
            "silu.eps": make_model(dataclasses.replace(CONFIG, activation="silu"))(x, t),
            "single_channel.x": single_x,
            "single_channel.eps": make_model(single_channel)(single_x, t),
        }


def training_values() -> dict[str, Tensor]:
    model = make_model(CONFIG)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    start = {name: p.detach().clone() for name, p in trained.items()}
    t = torch.tensor([0, 20, 60, 99])
    x_0, noise = images("x_0", len(t), CONFIG), images("noise", len(t), CONFIG)
    x_t = add_noise(x_0, t, noise, CONFIG.num_steps)
    values = {"x_0": x_0, "train.t": t, "noise": noise, "x_t": x_t}

    optimizer = torch.optim.Adam(trained.values(), lr=LEARNING_RATE)
    losses = []
    for step in range(ADAM_STEPS):
        optimizer.zero_grad()
        eps = model(x_t, t)
        loss = F.mse_loss(eps, noise)
        loss.backward()
        losses.append(loss.item())
        if step == 0:
            values["train.eps"] = eps.detach()
            for name, parameter in trained.items():
                gradient = parameter.grad.clone()
                if gradient.numel() <= LARGEST_STORED_GRADIENT or name in STORED_GRADIENTS:
                    values[f"grad.{name}"] = gradient
                g = gradient.double()
                summary = torch.stack([g.norm(), (g * start[name].double()).sum()])
                values[f"grad_summary.{name}"] = summary
        optimizer.step()
    values["losses"] = torch.tensor(losses, dtype=torch.float64)
    return values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", metavar="OUTPUT", type=Path, nargs="?", default=DEFAULT_OUTPUT)
    output: Path = parser.parse_args().output

    torch.set_num_threads(1)
    # Without the two entries that the original's checkpoints have not.
    original = {k: v for k, v in dataclasses.asdict(CONFIG).items() if k not in ("patch_size", "norm_groups")}
    # One entry: safetensors writes several in an order that changes from run to run.
    golden = {
        "script": "bench/golden.py",
        "torch": str(torch.__version__),
        "hyper_parameters": {**original, "lr": LEARNING_RATE},
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    save_file(forward_values() | training_values(), output, {"golden": json.dumps(golden)})
    print(f"{output}: {output.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
