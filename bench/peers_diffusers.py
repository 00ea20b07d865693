"""Times one folder of diffusers in diffusers and in Kao, in turns: a forward pass, and a DDIM pipeline of 20 steps.

    python peers.py --diffusers FOLDER
    python peers.py --diffusers cifar10-32 celebahq-256 training-example

The three names stand for the configurations of published models, with random weights: google/ddpm-cifar10-32,
google/ddpm-celebahq-256, and the one of the library's training example at 64x64. Each program runs in a process of
its own, so that its peak memory is its own. Printed are medians, the ratio of medians, and peak memory; before
anything is timed the predictions of both are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import describe_machine, machine_in_words

STEPS = 20
SEED = 7
OLD = {"downsample_padding": 0, "flip_sin_to_cos": False, "freq_shift": 1, "norm_eps": 1e-6, "attention_head_dim": None}
CONFIGS = {
    "cifar10-32": {
        "sample_size": 32,
        "block_out_channels": [128, 256, 256, 256],
        "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
        **OLD,
    },
    "celebahq-256": {
        "sample_size": 256,
        "block_out_channels": [128, 128, 256, 256, 512, 512],
        "down_block_types": ["DownBlock2D"] * 4 + ["AttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "AttnUpBlock2D"] + ["UpBlock2D"] * 4,
        **OLD,
    },
    "training-example": {
        "sample_size": 64,
        "block_out_channels": [128, 128, 256, 256, 512, 512],
        "down_block_types": ["DownBlock2D"] * 4 + ["AttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "AttnUpBlock2D"] + ["UpBlock2D"] * 4,
    },
}


def make(name: str, folder: Path) -> Path:
    """A folder with the configuration of that name and random weights."""
    import torch
    from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel

    torch.manual_seed(0)
    DDIMPipeline(UNet2DModel(**CONFIGS[name]), DDIMScheduler()).save_pretrained(folder)
    return folder


def peer(folder: str, batch_size: int, rounds: int, threads: int, pipeline: bool) -> None:
    """In a process of its own: prints seconds of each round, and the peak memory, as JSON."""
    import torch
    from diffusers import DDIMPipeline
    from diffusers.utils.logging import disable_progress_bar

    disable_progress_bar()
    torch.set_num_threads(threads)
    loaded = DDIMPipeline.from_pretrained(folder)
    loaded.set_progress_bar_config(disable=True)
    sides = loaded.unet.config.sample_size
    x = torch.randn(batch_size, loaded.unet.config.in_channels, sides, sides)
    t = torch.full((batch_size,), 500)

    def once() -> None:
        if pipeline:
            generator = torch.Generator().manual_seed(SEED)
            loaded(batch_size=batch_size, generator=generator, num_inference_steps=STEPS, output_type="np")
        else:
            with torch.inference_mode():
                loaded.unet(x, t)

    if not pipeline:
        once()
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        once()
        seconds.append(time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": seconds, "peak": peak}))


def diffusers_turn(settings: argparse.Namespace, folder: Path, batch_size: int, pipeline: bool) -> dict:
    # A pipeline is 20 passes, and Kao's runs once in a turn too.
    rounds = 1 if pipeline else settings.rounds
    words = [str(folder), str(batch_size), str(rounds), str(settings.threads), str(int(pipeline))]
    environment = os.environ | {"OMP_NUM_THREADS": str(settings.threads)}
    ran = subprocess.run(
        [sys.executable, __file__, "--peer", *words], env=environment, check=True, capture_output=True, text=True
    )
    return json.loads(ran.stdout.splitlines()[-1])


def kao_turn(settings: argparse.Namespace, folder: Path, batch_size: int, pipeline: bool) -> dict:
    common = ["--model", str(folder), "--batch-size", str(batch_size), "--threads", str(settings.threads)]
    if not pipeline:
        words = ["bench", *common, "--forward-only", "--rounds", str(settings.rounds), "--warmup", "1", "--json"]
        told = json.loads(subprocess.run([settings.kao, *words], check=True, capture_output=True, text=True).stdout)
        return {"seconds": [told["forward"]["ms_per_image"] * batch_size / 1000.0], "peak": told["peak_memory_bytes"]}
    with tempfile.TemporaryDirectory() as out:
        words = ["sample", *common, "--sampler", "ddim", "--steps", str(STEPS), "--count", str(batch_size)]
        command = [settings.kao, *words, "--seed", str(SEED), "--out", f"{out}/grid.png"]
        told, peak = run_measured(command)
    seconds = re.search(r" · ([0-9.]+) s ", told)
    minutes = re.search(r" · ([0-9]+) min(?: ([0-9]+) s)? ", told)
    took = float(seconds.group(1)) if seconds else 60.0 * int(minutes.group(1)) + float(minutes.group(2) or 0)
    return {"seconds": [took], "peak": peak}


def run_measured(command: list) -> tuple[str, int]:
    """What a program said on standard error, and the most memory that it had, in bytes."""
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        told = said.read()
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, command, stderr=told)
    return told, usage.ru_maxrss * 1024


def compare(settings: argparse.Namespace) -> None:
    print(machine_in_words(describe_machine()), flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        for name in settings.diffusers:
            folder = Path(name) if Path(name).is_dir() else make(name, Path(scratch) / name)
            for batch_size in settings.batch_sizes:
                for pipeline in (False,) if settings.no_pipeline else (False, True):
                    ours, theirs = [], []
                    for _ in range(settings.turns):
                        theirs.append(diffusers_turn(settings, folder, batch_size, pipeline))
                        ours.append(kao_turn(settings, folder, batch_size, pipeline))
                    medians = [
                        statistics.median(second for turn in turns for second in turn["seconds"]) for turns in (ours, theirs)
                    ]
                    peaks = [max(turn["peak"] for turn in turns) / 2**20 for turns in (ours, theirs)]
                    what = f"DDIM, {STEPS} steps" if pipeline else "forward"
                    print(
                        f"{name}, batch {batch_size}, {what}: Kao {medians[0]:.3f} s, diffusers {medians[1]:.3f} s, "
                        f"ratio {medians[1] / medians[0]:.2f}; peak MiB {peaks[0]:.0f} and {peaks[1]:.0f}",
                        flush=True,
                    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--peer"]:
        folder, batch_size, rounds, threads, pipeline = sys.argv[2:]
        peer(folder, int(batch_size), int(rounds), int(threads), pipeline == "1")
    else:
        raise SystemExit(__doc__)
