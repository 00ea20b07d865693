"""Checks what Kao exports: a folder of diffusers comes back from Kao, and its ONNX file computes the same.

Random UNet2DModels are saved by diffusers, converted to Kao models, and written again as folders and as ONNX files.
The folder must open in DDPMPipeline and DDIMPipeline without a warning and without missing or unexpected tensors,
and predict as the first one; so must the ONNX file in ONNX Runtime (and OpenVINO, where it is installed).

    python exported.py KAO
"""

from __future__ import annotations

import logging
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from diffusers import DDIMPipeline, DDPMPipeline, DDPMScheduler, UNet2DModel

from diffusers.utils.logging import disable_progress_bar

from golden_diffusers import N_CASES, made, random_config, weights

BOUND = 1e-5


class Warnings(logging.Handler):
    """Collects what the library says."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


def error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def main() -> None:
    kao = Path(sys.argv[1]).resolve()
    torch.set_num_threads(1)
    disable_progress_bar()
    # What is said of a package that is not installed is not about the folder.
    plainly = {"low_cpu_mem_usage": False}
    heard = Warnings()
    logger = logging.getLogger("diffusers")
    logger.addHandler(heard)
    worst = {"folder": 0.0, "onnx": 0.0, "openvino": 0.0}
    try:
        import openvino
    except ImportError:
        openvino = None
    for k in range(N_CASES):
        config = random_config(k)
        model = UNet2DModel(**config)
        weights(model, f"case.{k}.")
        sides = config["sample_size"]
        h, w = sides if isinstance(sides, list) else (sides, sides)
        x = made(f"case.{k}.x", (2, config.get("in_channels", 3), h, w), 1.7)
        t = torch.tensor([3, 700])
        n_classes = config.get("num_class_embeds")
        labels = {} if n_classes is None else {"class_labels": torch.tensor([1, 2])}
        with torch.no_grad():
            expected = model(x, t, **labels).sample.numpy()
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            DDPMPipeline(model, DDPMScheduler()).save_pretrained(folder / "a")
            for words in (["a", "b.safetensors"], ["b.safetensors", "c", "--to", "diffusers"], ["b.safetensors", "d.onnx"]):
                subprocess.run([kao, "--quiet", "convert", *words], cwd=folder, check=True, stdout=subprocess.DEVNULL)
            heard.texts.clear()
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                again = DDPMPipeline.from_pretrained(folder / "c", **plainly).unet
                DDIMPipeline.from_pretrained(folder / "c", **plainly)
                _, loading = UNet2DModel.from_pretrained(folder / "c/unet", output_loading_info=True, **plainly)
            said = heard.texts + [str(w.message) for w in caught]
            said = [text for text in said if "attention_head_dim=None" not in text]
            assert not said, said
            assert not any(loading.values()), loading
            with torch.no_grad():
                worst["folder"] = max(worst["folder"], error(again(x, t, **labels).sample.numpy(), expected))
            inputs = {"sample": x.numpy(), "timestep": t.numpy()}
            if n_classes is not None:
                inputs["tags"] = np.eye(n_classes, dtype=np.float32)[[1, 2]]
            session = onnxruntime.InferenceSession(folder / "d.onnx", providers=["CPUExecutionProvider"])
            found = session.run(["prediction"], inputs)[0]
            worst["onnx"] = max(worst["onnx"], error(found, expected))
            if openvino is not None:
                compiled = openvino.compile_model(folder / "d.onnx", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
                worst["openvino"] = max(worst["openvino"], error(compiled(inputs)["prediction"], expected))
    print(worst)
    assert worst["folder"] <= BOUND and worst["onnx"] <= BOUND and worst["openvino"] <= 10 * BOUND, worst


if __name__ == "__main__":
    main()
