"""Turns the results of peers.py into a Markdown table and a plot.

    python report.py results/NAME.json      write NAME.md and NAME.png again
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from machine import machine_in_words

Measurement = dict[str, Any]
TITLES = {"forward": "Forward pass", "training": "Training step (forward, loss, backward, Adam)"}
# The network of results that do not describe one: this was the only one then.
FIRST_NETWORK = {"parameters": 25_368_963, "image_size": [3, 64, 64]}
COLOURS = {"kao": "#d62f63", "torch": "#7f8fa6", "onnxruntime": "#5b9aa0", "openvino": "#b8a16a"}


def phases(measurements: list[Measurement]) -> list[tuple[str, int, list[Measurement]]]:
    """(mode, batch size, its measurements, fastest first), modes and sizes in the order they were run."""
    grouped: dict[tuple[str, int], list[Measurement]] = {}
    for measurement in measurements:
        grouped.setdefault((measurement["mode"], measurement["batch_size"]), []).append(measurement)
    return [
        (mode, batch_size, sorted(members, key=lambda m: m["ms_per_image"]))
        for (mode, batch_size), members in grouped.items()
    ]


def fastest(members: list[Measurement], admitted: Callable[[Measurement], bool]) -> Measurement | None:
    return min(filter(admitted, members), key=lambda m: m["ms_per_image"], default=None)


def yardsticks(members: list[Measurement]) -> list[tuple[str, Measurement | None]]:
    """What every time is divided by, with its column's name."""
    torch_f32 = fastest(members, lambda m: m["library"] == "torch" and m["precision"] == "f32")
    torch_any = fastest(members, lambda m: m["library"] == "torch")
    peer_any = fastest(members, lambda m: m["library"] != "kao")
    return [("÷ best PyTorch f32", torch_f32), ("÷ best PyTorch", torch_any), ("÷ best peer", peer_any)]


def table(members: list[Measurement]) -> list[str]:
    measures = yardsticks(members)
    columns = ["", "version", "ms/image, median", "min", *(name for name, _ in measures)]
    columns += ["peak memory, MiB", "error", "calm rounds"]
    lines = [f"| {' | '.join(columns)} |", f"|---|---|{'---:|' * (len(columns) - 2)}"]
    for m in members:
        ratios = [f"{m['ms_per_image'] / base['ms_per_image']:.2f}" if base else "–" for _, base in measures]
        peak = m["peak_memory_bytes"]
        error = m["max_relative_error"]
        row = [
            f"**{m['label']}**" if m["library"] == "kao" else m["label"],
            m["version"],
            f"{m['ms_per_image']:.1f}",
            f"{m['min_ms_per_image']:.1f}",
            *ratios,
            f"{peak / 2**20:.0f}" if peak else "–",
            f"{error:.0e}" if error is not None else "–",
            f"{m['calm_rounds']} of {len(m['samples'])}",
        ]
        lines.append(f"| {' | '.join(row)} |")
    return lines


def verdicts(members: list[Measurement]) -> list[str]:
    lines = []
    for m in members:
        if m["library"] == "kao":
            ratios = [
                f"{m['ms_per_image'] / base['ms_per_image']:.2f} of {what} ({base['label']})"
                for what, (_, base) in zip(("PyTorch's best f32", "PyTorch's best", "the best peer"), yardsticks(members))
                if base is not None
            ]
            if ratios:
                lines.append(f"{m['label']} takes {', '.join(ratios)}.")
    kao = next((m for m in members if m["key"] == "kao"), None)
    for other in members:
        if kao is not None and other["library"] == "kao" and other is not kao:
            ratio = kao["ms_per_image"] / other["ms_per_image"]
            lines.append(f"{kao['label']} takes {ratio:.2f} of the time of {other['label']}.")
    return lines


def network_in_words(settings: dict[str, Any]) -> str:
    network = settings.get("network", FIRST_NETWORK)
    _, height, width = network["image_size"]
    return f"{network['parameters'] / 1e6:.1f}M-parameter UNet, {height}×{width}"


def markdown(results: dict[str, Any]) -> str:
    machine, settings = results["machine"], results["settings"]
    tuning = ", ".join(f"{k}={v}" for k, v in settings["tuning_environment"].items())
    lines = [
        f"# Kao and its peers, {results['date'][:10]}",
        "",
        f"{machine_in_words(machine)}, Python {machine['python']}.",
        f"Network `{settings['preset']}` ({network_in_words(settings)}), {settings['threads']} threads; "
        f"{settings['rounds']} rounds in turns of {settings['iterations_per_round']} timed iterations; times are "
        "medians over the calm rounds.",
        f"A round is calm for a contender when everything else keeps at most {settings['disturbed_above_cpus']} CPUs "
        "busy during its turn; without a calm one, all rounds count.",
        f"Environment: {tuning or 'nothing set that tunes threads or memory'}.",
    ]
    for mode, batch_size, members in phases(results["measurements"]):
        lines += ["", f"## {TITLES[mode]}, batch size {batch_size}", "", *table(members)]
        for verdict in verdicts(members):
            lines += ["", verdict]
    if results["dropped"]:
        lines += ["", "## Dropped", "", *(f"- {line}" for line in results["dropped"])]
    return "\n".join(lines) + "\n"


def plot(results: dict[str, Any], path: Path) -> None:
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ModuleNotFoundError as error:
        print(f"no plot: {error}", file=sys.stderr)
        return
    groups = phases(results["measurements"])
    if not groups:
        return
    modes = list(dict.fromkeys(mode for mode, _, _ in groups))
    sizes = list(dict.fromkeys(batch_size for _, batch_size, _ in groups))
    figure, axes = pyplot.subplots(
        len(sizes), len(modes), figsize=(7.5 * len(modes), 3.2 * len(sizes)), squeeze=False, layout="constrained"
    )
    for axis in axes.flat:
        axis.set_visible(False)
    for mode, batch_size, members in groups:
        axis = axes[sizes.index(batch_size)][modes.index(mode)]
        axis.set_visible(True)
        labels = [m["label"] for m in members]
        medians = [m["ms_per_image"] for m in members]
        spread = [[m["ms_per_image"] - min(m["round_medians"]) for m in members]]
        spread.append([max(m["round_medians"]) - m["ms_per_image"] for m in members])
        bars = axis.barh(
            labels, medians, xerr=spread, color=[COLOURS[m["library"]] for m in members], ecolor="#444444", capsize=2
        )
        axis.bar_label(bars, [f"{median:.1f}" for median in medians], padding=6, fontsize=8)
        axis.invert_yaxis()
        axis.margins(x=0.12)
        axis.set_title(f"{TITLES[mode]}, batch size {batch_size}", fontsize=10)
        axis.set_xlabel("ms per image: median, and range of the rounds", fontsize=8)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    machine, settings = results["machine"], results["settings"]
    title = f"{settings['preset']}: {network_in_words(settings)} · {machine['cpu']}, {settings['threads']} threads"
    figure.suptitle(title, fontsize=11)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def write_report(results: dict[str, Any], stem: Path) -> None:
    """Writes STEM.json, STEM.md and STEM.png."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    Path(f"{stem}.json").write_text(json.dumps(results, indent=1) + "\n")
    Path(f"{stem}.md").write_text(markdown(results))
    plot(results, Path(f"{stem}.png"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    path: Path = parser.parse_args().results
    write_report(json.loads(path.read_text()), path.with_suffix(""))


if __name__ == "__main__":
    main()
