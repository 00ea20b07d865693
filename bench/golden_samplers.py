"""Writes the golden values that Kao's tests compare its samplers with: those of diffusers' schedulers.

The network is a closed form, so that both sides compute the same one: the exact denoiser of data whose values
are drawn from two Gaussians, +MEAN and -MEAN with the variance SPREAD^2. With a = sqrt(alpha_bar), s^2 = 1 -
alpha_bar and V = a^2 SPREAD^2 + s^2,

    x0(x)  = a SPREAD^2 / V x + MEAN tanh(a MEAN x / V) (1 - a^2 SPREAD^2 / V)
    eps(x) = (x - a x0) / s

It is not linear, so methods of different order differ. The schedule is the linear one, 1e-4 to 2e-2 over 1000
timesteps. Starts and noise are multiples of u(name, i) of golden.py.

What is chosen so that diffusers means what Kao means:
- timestep_spacing "trailing", with numbers of steps that divide 1000: it rounds halves to even, Kao up.
- the walk ends at the clean image: final_sigmas_type "zero" (Heun and Euler ancestral know no other).
- states in sigma-space are x / sqrt(alpha_bar), so they begin at x_T / sqrt(alpha_bar).
- Heun's scheduler interleaves: every timestep but the first is visited twice, so one step of Kao's is two
  calls there; the last is one.
- UniPC: order 2, bh2, predict_x0, lower_order_final, no corrector disabled.
- the noise of the stochastic ones is given to both: randn_tensor of their modules is replaced.

What cannot be equal: solver_order 3 of DPMSolverMultistepScheduler lacks a factor of 2 before D2 (the second
divided difference is half of the second derivative), as the original program does, which makes it a method of
second order. Kao takes the whole of it. Its tests compare with half of it; the values here are diffusers' own.

Of use_karras_sigmas only the timesteps are compared: diffusers goes from level to level and tells the network
the nearest timestep, Kao goes from timestep to timestep, so that the network sees the noise that it is told.

    python golden_samplers.py [OUTPUT]                 needs torch and diffusers (0.42.1 made the stored ones)
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import diffusers
import numpy as np
import torch
from diffusers.schedulers import (
    scheduling_dpmsolver_multistep,
    scheduling_euler_ancestral_discrete,
    scheduling_euler_discrete,
    scheduling_heun_discrete,
    scheduling_unipc_multistep,
)

from golden_eval import uniform

DEFAULT_OUTPUT = Path(__file__).parents[1] / "crates/kao/src/sampler/testdata/golden.json"
MEAN, SPREAD = 0.7, 0.2
SHAPE = (1, 1, 4, 4)
STEPS = (5, 10, 20)
COMMON = {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 2e-2, "beta_schedule": "linear"}
TRAILING = {**COMMON, "timestep_spacing": "trailing"}
ALPHA_BARS = np.cumprod(1.0 - np.linspace(1e-4, 2e-2, 1000))


def epsilon(x: torch.Tensor, timestep: int) -> torch.Tensor:
    alpha_bar = ALPHA_BARS[timestep]
    signal, noise = alpha_bar**0.5, (1.0 - alpha_bar) ** 0.5
    variance = alpha_bar * SPREAD**2 + 1.0 - alpha_bar
    linear = signal * SPREAD**2 / variance * x
    x0 = linear + MEAN * torch.tanh(signal * MEAN / variance * x) * (1.0 - alpha_bar * SPREAD**2 / variance)
    return (x - signal * x0) / noise


def values(name: str, scale: float) -> torch.Tensor:
    """Numbers that single precision holds."""
    drawn = (scale * uniform(name, int(np.prod(SHAPE)))).astype(np.float32)
    return torch.from_numpy(drawn.astype(np.float64).reshape(SHAPE))


def listed(images: torch.Tensor) -> list[float]:
    return [float(f"{value:.9g}") for value in images.flatten().tolist()]


def start() -> torch.Tensor:
    return values("x_T", 2.5)


def step_noise(step: int) -> torch.Tensor:
    return values(f"z.{step}", 2.0)


def walk(module, scheduler, n_steps: int) -> tuple[list[float], int]:
    """x_0, and how often the network was evaluated."""
    drawn = iter(range(n_steps))
    if hasattr(module, "randn_tensor"):
        module.randn_tensor = lambda *_, **__: step_noise(next(drawn))
    scheduler.set_timesteps(n_steps)
    in_sigma_space = float(scheduler.init_noise_sigma) != 1.0
    first = int(scheduler.timesteps[0])
    x = start() / ALPHA_BARS[first] ** 0.5 if in_sigma_space else start()
    n_evaluations = 0
    for t in scheduler.timesteps:
        assert float(t) == int(t)
        predicted = epsilon(scheduler.scale_model_input(x, t).double(), int(t))
        n_evaluations += 1
        x = scheduler.step(predicted, t, x).prev_sample.double()
    return listed(x), n_evaluations


def schedulers():
    dpm = {**TRAILING, "final_sigmas_type": "zero"}
    yield "euler", scheduling_euler_discrete, lambda: diffusers.EulerDiscreteScheduler(**dpm)
    yield "heun", scheduling_heun_discrete, lambda: diffusers.HeunDiscreteScheduler(**TRAILING)
    ancestral = diffusers.EulerAncestralDiscreteScheduler
    yield "euler-a", scheduling_euler_ancestral_discrete, lambda: ancestral(**TRAILING)
    multistep = diffusers.DPMSolverMultistepScheduler
    for name, kind, order in (
        ("dpm++", "dpmsolver++", 2),
        ("dpm++-3m", "dpmsolver++", 3),
        ("dpm++-sde", "sde-dpmsolver++", 2),
    ):
        make = lambda kind=kind, order=order: multistep(**dpm, algorithm_type=kind, solver_order=order)
        yield name, scheduling_dpmsolver_multistep, make
    unipc = lambda: diffusers.UniPCMultistepScheduler(**dpm, solver_order=2, solver_type="bh2")
    yield "unipc", scheduling_unipc_multistep, unipc


def karras_timesteps(n_steps: int) -> list[int]:
    scheduler = diffusers.DPMSolverMultistepScheduler(**COMMON, use_karras_sigmas=True)
    scheduler.set_timesteps(n_steps)
    return [int(t) for t in scheduler.timesteps]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", nargs="?", type=Path, default=DEFAULT_OUTPUT)
    output = parser.parse_args().output
    runs = []
    for name, module, make in schedulers():
        for n_steps in STEPS:
            x_0, n_evaluations = walk(module, make(), n_steps)
            runs.append({"sampler": name, "steps": n_steps, "evaluations": n_evaluations, "x_0": x_0})
    golden = {
        "diffusers": diffusers.__version__,
        "x_T": listed(start()),
        "z": [listed(step_noise(step)) for step in range(max(STEPS))],
        "runs": runs,
        "karras": {str(n): karras_timesteps(n) for n in (5, 10, 20)},
    }
    rows = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in golden.items() if key != "runs")
    lines = ",\n".join(json.dumps(run) for run in runs)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text("{\n" + rows + ',\n"runs": [\n' + lines + "\n]\n}\n")


if __name__ == "__main__":
    main()
