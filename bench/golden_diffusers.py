"""Writes the small golden values that Kao's importer of diffusers folders is held against.

Random tiny `UNet2DModel`s over everything that Kao reads of their configuration, and whole pipelines with one of
them. Weights and inputs are not stored: they are the functions of names that `golden.py` describes (u of the
tensor's name, the name being diffusers' own with `case.<number>.` before it; an embedding is 1.5·u), so that a test
makes them itself. A digest of all names and shapes shows that both sides mean the same tensors.

Tensors in the file, for case k:

    case.<k>.y [2,C,H,W]                  one forward pass of x = 1.7·u("case.<k>.x") at timesteps t, classes labels
    case.<k>.grad.<parameter>             for some: the gradients of the mean squared error of noise
                                          1.7·u("case.<k>.noise"), of x_0 = 0.9·u("case.<k>.x_0") noised at t
    pipeline.<k>.images [N,C,H,W]         what a pipeline gives, in [0, 1], with torch's generator of a seed

and as JSON in the metadata entry `cases` and `pipelines`: configurations, timesteps, digests, and what the
pipelines were asked for. A folder that diffusers itself saved lies beside the file, `diffusers_tiny`.

    python golden_diffusers.py
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import warnings
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import (
    DDIMPipeline,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    UNet2DModel,
)
from safetensors.torch import save_file

from golden import uniform

DATA = Path(__file__).parents[1] / "crates/kao/tests/data"
N_CASES = 34
# The last ones scale and shift by the time embedding.
SCALE_SHIFT_CASES = range(28, N_CASES)
GRADIENT_CASES = (24, 25, 26, 28)


def made(name: str, shape: tuple[int, ...], factor: float) -> torch.Tensor:
    count = int(np.prod(shape))
    return torch.from_numpy((factor * uniform(name, count)).astype(np.float32)).reshape(shape)


def weights(model: UNet2DModel, prefix: str) -> None:
    """Fills the parameters of a model by their names."""
    state = model.state_dict()
    for name, tensor in state.items():
        shape, full = tuple(tensor.shape), prefix + name
        u = uniform(full, tensor.numel())
        if name == "class_embedding.weight":
            values = 1.5 * u
        elif name.endswith(".bias"):
            values = u / 10.0
        elif len(shape) == 1:
            values = 1.0 + u / 4.0
        else:
            values = u * np.sqrt(3.0 / (tensor.numel() / shape[0]))
        state[name] = torch.from_numpy(values.astype(np.float32)).reshape(shape)
    model.load_state_dict(state)
    model.eval()


def digest(model: UNet2DModel) -> str:
    lines = sorted(f"{name} {list(tensor.shape)}" for name, tensor in model.state_dict().items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def random_config(seed: int) -> dict:
    """A configuration that differs from the constructor's defaults in some entries; others are left out."""
    draw = random.Random(seed)
    n_levels = draw.choice([1, 2, 2, 3])
    groups = draw.choice([1, 2, 4])
    small = seed in GRADIENT_CASES
    widths = [draw.choice([4, 8] if small else [8, 16, 24]) for _ in range(n_levels)]
    config = {
        "sample_size": draw.choice([8, 16, [8, 12]]) if not small else 8,
        "block_out_channels": widths,
        "layers_per_block": 1 if small else draw.choice([1, 1, 2]),
        "norm_num_groups": groups,
        "down_block_types": [draw.choice(["DownBlock2D", "AttnDownBlock2D"]) for _ in widths],
        "up_block_types": [draw.choice(["UpBlock2D", "AttnUpBlock2D"]) for _ in widths],
    }
    channels = draw.choice([3, 3, 1])
    if channels == 1:
        config |= {"in_channels": 1, "out_channels": 1}
    if draw.random() < 0.7:
        config["attention_head_dim"] = draw.choice([None, 4, 2])
    elif any(width % 8 for width in widths):
        config["attention_head_dim"] = None
    if draw.random() < 0.6:
        config["downsample_padding"] = 0
    if draw.random() < 0.6:
        config["norm_eps"] = draw.choice([1e-6, 1e-3, 1e-5])
    if draw.random() < 0.6:
        config["flip_sin_to_cos"] = draw.choice([False, True])
    if draw.random() < 0.6:
        config["freq_shift"] = draw.choice([0, 1])
    if draw.random() < 0.3:
        config["center_input_sample"] = True
    if draw.random() < 0.3 and not small:
        config["num_class_embeds"] = 3
    if draw.random() < 0.25:
        config["add_attention"] = False
    if draw.random() < 0.1:
        config["mid_block_type"] = None
    if draw.random() < 0.2:
        config["time_embedding_dim"] = 20
    if draw.random() < 0.3:
        config["dropout"] = 0.1
    if seed in SCALE_SHIFT_CASES:
        # Without this number of groups, attention in the middle would have no normalization.
        config |= {"resnet_time_scale_shift": "scale_shift", "attn_norm_num_groups": groups}
    return config


def forward_cases(tensors: dict) -> list[dict]:
    cases = []
    schedule = DDPMScheduler()
    for k in range(N_CASES):
        config = random_config(k)
        model = UNet2DModel(**config)
        prefix = f"case.{k}."
        weights(model, prefix)
        sides = config["sample_size"]
        h, w = sides if isinstance(sides, list) else (sides, sides)
        shape = (2, config.get("in_channels", 3), h, w)
        timesteps = [(37 * k + 3) % 1000, 999 - 13 * k]
        labels = [k % 3, 2] if "num_class_embeds" in config else None
        case = {"config": config, "timesteps": timesteps, "labels": labels, "digest": digest(model)}
        t = torch.tensor(timesteps)
        arguments = {} if labels is None else {"class_labels": torch.tensor(labels)}
        with torch.no_grad():
            tensors[f"{prefix}y"] = model(made(f"{prefix}x", shape, 1.7), t, **arguments).sample
        if k in GRADIENT_CASES:
            x_0, noise = made(f"{prefix}x_0", shape, 0.9), made(f"{prefix}noise", shape, 1.7)
            loss = F.mse_loss(model(schedule.add_noise(x_0, noise, t), t).sample, noise)
            loss.backward()
            case["loss"] = loss.item()
            for name, parameter in model.named_parameters():
                tensors[f"{prefix}grad.{name}"] = parameter.grad
        cases.append(case)
    return cases


PIPELINE_UNET = {
    "sample_size": 8,
    "block_out_channels": [8, 16],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "attention_head_dim": 4,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
}


def pipelines(tensors: dict) -> list[dict]:
    sigma_ends = {"beta_start": 1e-4, "beta_end": 0.02}
    betas = np.linspace(0.001, 0.1, 50).tolist()
    asked = [
        ("ddim", {}, 10, 0.0),
        ("ddim", {}, 10, 1.0),
        ("ddim", {"timestep_spacing": "trailing", "clip_sample": False}, 20, 0.0),
        ("ddim", {"timestep_spacing": "trailing", "clip_sample_range": 1.5}, 10, 1.0),
        ("ddim", {"steps_offset": 1, "set_alpha_to_one": False, "beta_schedule": "scaled_linear"}, 10, 0.5),
        ("ddim", {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}, 10, 0.0),
        ("ddim", {"thresholding": True, "dynamic_thresholding_ratio": 0.9, "sample_max_value": 1.4}, 10, 0.0),
        ("ddim", {"trained_betas": betas, "num_train_timesteps": 50}, 10, 1.0),
        ("ddpm", {"variance_type": "fixed_small"}, 100, None),
        ("ddpm", {"variance_type": "fixed_large"}, 100, None),
        ("ddpm", {"prediction_type": "sample", "timestep_spacing": "linspace", "beta_schedule": "squaredcos_cap_v2"}, 20, None),
        ("ddpm", {"beta_schedule": "sigmoid", "clip_sample": False, "num_train_timesteps": 100}, 100, None),
        ("dpm++", {"timestep_spacing": "trailing", "final_sigmas_type": "zero", **sigma_ends}, 20, None),
        (
            "dpm++",
            {"timestep_spacing": "trailing", "final_sigmas_type": "zero", "thresholding": True, "sample_max_value": 2.0},
            12,
            None,
        ),
    ]
    done = []
    for k, (kind, settings, steps, eta) in enumerate(asked):
        model = UNet2DModel(**PIPELINE_UNET)
        weights(model, "pipeline.")
        classes = {"ddim": DDIMScheduler, "ddpm": DDPMScheduler, "dpm++": DPMSolverMultistepScheduler}
        scheduler = classes[kind](**settings)
        generator = torch.Generator().manual_seed(40 + k)
        arguments = {"batch_size": 2, "generator": generator, "num_inference_steps": steps, "output_type": "pt"}
        if kind == "ddim":
            pipeline, arguments = DDIMPipeline(model, scheduler), arguments | {"eta": eta}
        else:
            pipeline = DDPMPipeline(model, scheduler)
        # A pipeline replaces DDPM's scheduler by DDIM's own, and a scheduler by another that was not asked for.
        pipeline.scheduler = scheduler
        pipeline.set_progress_bar_config(disable=True)
        tensors[f"pipeline.{k}.images"] = pipeline(**arguments).images.contiguous()
        written = {"_class_name": type(scheduler).__name__, **settings}
        done.append({"sampler": kind, "scheduler": written, "steps": steps, "eta": eta, "seed": 40 + k})
    return done


def random_numbers(tensors: dict) -> None:
    """What torch.randn gives on the CPU, lengths that are and are not multiples of 16 one after the other."""
    torch.manual_seed(999)
    tensors["randn.0"] = torch.randn(64)
    tensors["randn.1"] = torch.randn(3, 5, 5)
    tensors["randn.2"] = torch.randn(16)
    torch.manual_seed(2**32 + 5)
    tensors["randn.wrapped"] = torch.randn(32)
    # What the original's program draws before x_T, by number.
    torch.manual_seed(7)
    torch.empty(1000).uniform_()
    tensors["randn.skipped"] = torch.randn(32)


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    tensors: dict[str, torch.Tensor] = {}
    cases, asked = forward_cases(tensors), pipelines(tensors)
    random_numbers(tensors)
    metadata = {
        "cases": json.dumps(cases),
        "pipelines": json.dumps(asked),
        "pipeline_unet": json.dumps(PIPELINE_UNET),
    }
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(tensors, DATA / "diffusers_golden.safetensors", metadata)

    folder = DATA / "diffusers_tiny"
    shutil.rmtree(folder, ignore_errors=True)
    model = UNet2DModel(**(PIPELINE_UNET | {"block_out_channels": [4, 4], "norm_num_groups": 2}))
    weights(model, "tiny.")
    DDPMPipeline(model, DDPMScheduler(variance_type="fixed_large")).save_pretrained(folder)
    x = made("tiny.x", (2, 3, 8, 8), 1.7)
    with torch.no_grad():
        save_file({"y": model(x, torch.tensor([5, 700])).sample.contiguous()}, folder / "expected.safetensors")


if __name__ == "__main__":
    main()
