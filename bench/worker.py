"""One peer in its own process: builds the network, then runs timed iterations when peers.py asks for them.

Started by peers.py; one JSON object a line goes each way. Everything a library prints goes to stderr.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TextIO

import numpy as np

FORWARD, TRAINING = "forward", "training"
WARM_UP_ITERATIONS = 2
LEARNING_RATE = 1e-4

Iteration = Callable[[], np.ndarray]


def export(directory: Path, model_file: Path, batch_size: int) -> None:
    """Writes the network as ONNX, one batch and its exact f32 result: every peer starts from these."""
    import torch

    from same_network import load_network, read_config

    torch.manual_seed(0)
    config = read_config(model_file)["unet"]
    model = load_network(model_file)
    x = torch.randn(batch_size, *config["image_size"])
    t = torch.randint(config["num_steps"], (batch_size,))
    with torch.no_grad():
        eps = model(x, t)
    np.savez(directory / "batch.npz", x=x.numpy(), t=t.numpy(), eps=eps.numpy())
    names = {"input_names": ["x", "t"], "output_names": ["eps"]}
    # The TorchScript exporter, because the newer one needs one more package.
    torch.onnx.export(model, (x, t), directory / "unet.onnx", dynamo=False, opset_version=18, **names)


def torch_iteration(arguments: argparse.Namespace, x: np.ndarray, t: np.ndarray) -> Iteration:
    """A PyTorch forward pass or training step, made of the words in the contender's name."""
    import torch
    import torch.nn.functional as F

    from same_network import load_network

    words = arguments.contender.split("-")
    channels_last, compiled, bf16 = ("channels_last" in words, "compile" in words, "bf16" in words)
    training = arguments.mode == TRAINING
    torch.set_num_threads(arguments.threads)
    torch.set_num_interop_threads(1)
    torch.manual_seed(0)

    model = load_network(arguments.model)
    model.train(training)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model.to(memory_format=layout)
    images = torch.from_numpy(x).contiguous(memory_format=layout)
    timesteps = torch.from_numpy(t)
    if compiled:
        # Freezing folds weights into their kernels' layout: a few percent in f32. Under autocast it costs tenfold.
        torch._inductor.config.freezing = not training and not bf16
        network = torch.compile(model)
    else:
        network = model

    def autocast() -> contextlib.AbstractContextManager[object]:
        return torch.autocast("cpu", torch.bfloat16) if bf16 else contextlib.nullcontext()

    if not training:
        # Entered once and for all: weights keep their converted copies from one call to the next.
        torch.set_grad_enabled(False)
        autocast().__enter__()
        return lambda: network(images, timesteps).float().numpy()

    noise = torch.randn_like(images)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=LEARNING_RATE, fused=True)

    def step() -> np.ndarray:
        optimizer.zero_grad(set_to_none=True)
        with autocast():
            eps = network(images, timesteps)
        loss = F.mse_loss(eps.float(), noise)
        loss.backward()
        optimizer.step()
        return loss.detach().numpy()

    return step


def onnxruntime_iteration(arguments: argparse.Namespace, x: np.ndarray, t: np.ndarray) -> Iteration:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = arguments.threads
    options.inter_op_num_threads = 1
    path = arguments.directory / "unet.onnx"
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": x, "t": t})[0]


def openvino_iteration(arguments: argparse.Namespace, x: np.ndarray, t: np.ndarray) -> Iteration:
    import openvino

    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if arguments.contender.endswith("bf16") else "f32",
        "INFERENCE_NUM_THREADS": arguments.threads,
        "PERFORMANCE_HINT": "LATENCY",
    }
    model = openvino.Core().compile_model(arguments.directory / "unet.onnx", "CPU", settings)
    request = model.create_infer_request()
    return lambda: request.infer([x, t])[0]


LIBRARIES: dict[str, Callable[[argparse.Namespace, np.ndarray, np.ndarray], Iteration]] = {
    "torch": torch_iteration,
    "onnxruntime": onnxruntime_iteration,
    "openvino": openvino_iteration,
}


def reset_peak_memory() -> None:
    """Forgets the peak of building and compiling, where the system allows it."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory_bytes() -> int | None:
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return None


def return_free_memory() -> None:
    """Gives what the C library holds back to the system: other peers run while this one waits."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def serve(arguments: argparse.Namespace, replies: TextIO) -> None:
    library = arguments.contender.partition("-")[0]
    with np.load(arguments.directory / "batch.npz") as batch:
        x, t, expected = batch["x"], batch["t"], batch["eps"]
    iteration = LIBRARIES[library](arguments, x, t)
    result = iteration()
    if not np.isfinite(result).all():
        raise ValueError("the result is not finite")
    error = None
    if arguments.mode == FORWARD:
        error = float(np.abs(result - expected).max() / np.abs(expected).max())
    for _ in range(WARM_UP_ITERATIONS):
        iteration()
    reset_peak_memory()

    def reply(**content: object) -> None:
        print(json.dumps(content), file=replies, flush=True)

    reply(version=version(library), max_relative_error=error)
    for line in sys.stdin:
        iteration()
        seconds = []
        for _ in range(json.loads(line)["iterations"]):
            start = time.perf_counter()
            iteration()
            seconds.append(time.perf_counter() - start)
        return_free_memory()
        reply(seconds=seconds, peak_memory_bytes=peak_memory_bytes())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True, help="of Kao: the network and its weights")
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--contender", help="none: write the network and the batch, and leave")
    parser.add_argument("--mode", choices=[FORWARD, TRAINING])
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    if arguments.contender is None:
        export(arguments.directory, arguments.model, arguments.batch_size)
        return
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    serve(arguments, replies)


if __name__ == "__main__":
    main()
