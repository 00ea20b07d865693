"""Measures how long a newcomer waits: a cold build of Kao, its first command and its tests, from a clean clone.

    python3 build.py                                    the last commit, once
    python3 build.py --commits OLD NEW --rounds 3       two commits in turns
    python3 build.py --dry-run                          count crates and build nothing

Every turn clones the repository anew into a temporary folder, with a target folder of its own. Dependencies are
fetched beforehand, so that no network is measured. Results go to results/NAME.json and NAME.md. README.md beside
this file says how to read them. Needs Python alone, git and cargo.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from machine import busy_cpu_seconds, describe_machine, machine_in_words

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
# The README's two commands, the first one in two parts: what is built, and what then runs.
PHASES = {
    "build": ["cargo", "build", "--release"],
    "first command": ["cargo", "run", "--release", "--", "sample"],
    "tests": ["cargo", "test", "--release", "--workspace"],
}
TREE = ["cargo", "tree", "-e", "normal", "--prefix", "none"]
# A developer's own settings, which a newcomer has not: wrappers that cache, other flags, another target folder.
REMOVED_VARIABLES = re.compile(
    r"RUSTFLAGS|RUSTC|RUSTC(_WORKSPACE)?_WRAPPER|CARGO_(TARGET_DIR|INCREMENTAL|ENCODED_RUSTFLAGS|BUILD_.*|PROFILE_.*)"
)
FAILED_TEST = re.compile(r"^test (\S+) \.\.\. FAILED", re.MULTILINE)
TEST_RESULT = re.compile(r"^test result: .*?(\d+) passed; (\d+) failed; (\d+) ignored", re.MULTILINE)

Turn = dict[str, Any]


class TurnFailed(Exception):
    """A commit cannot be cloned, built or tested; the message says why in one line."""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def output_of(command: list[str | Path], directory: Path, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise TurnFailed(f"`{' '.join(map(str, command[:3]))}`: {last_line(done.stderr)}")
    return done.stdout


def hash_of(name: str, repository: Path) -> str:
    try:
        return output_of(["git", "rev-parse", "--verify", f"{name}^{{commit}}"], repository).strip()
    except TurnFailed:
        raise TurnFailed(f"--commits {name}: no commit of that name in {repository.name}")


def last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("error", "fatal"))]
    return (errors or lines or ["no message"])[-1][:300]


def newcomers_environment(clone: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not REMOVED_VARIABLES.fullmatch(name)}
    return kept | {"CARGO_TARGET_DIR": str(clone / "target"), "CARGO_TERM_COLOR": "never"}


def clone_of(repository: Path, commit: str, directory: Path) -> Path:
    """A clean clone at that commit, with all dependencies fetched."""
    clone = directory / "clone"
    output_of(["git", "clone", "--quiet", "--no-checkout", repository, clone], directory)
    output_of(["git", "checkout", "--quiet", "--detach", commit], clone)
    output_of(["cargo", "fetch", "--locked", "--quiet"], clone, newcomers_environment(clone))
    return clone


def count_crates(clone: Path) -> int:
    """Crates of the default build, a name and version counted once."""
    lines = output_of([*TREE, "--locked"], clone, newcomers_environment(clone)).splitlines()
    return len({tuple(line.split()[:2]) for line in lines if line.strip()})


def timed(command: list[str], clone: Path, log: Path) -> dict[str, Any]:
    """Wall and CPU seconds of a command and of all it started, and what others used of the machine meanwhile."""
    environment = newcomers_environment(clone) | {"CARGO_NET_OFFLINE": "true"}
    busy_before, start = busy_cpu_seconds(), time.monotonic()
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            cwd=clone,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            # Of a process that has ended, with all of its children that it waited for: cargo waits for every one.
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
    process.returncode = os.waitstatus_to_exitcode(status)
    wall, busy_after = time.monotonic() - start, busy_cpu_seconds()
    cpu = usage.ru_utime + usage.ru_stime
    others = None
    if busy_before is not None and busy_after is not None:
        others = max(busy_after - busy_before - cpu, 0.0) / wall
    text = log.read_text(errors="replace")
    if process.returncode != 0:
        failed = ", ".join(FAILED_TEST.findall(text)[:10])
        reason = f"tests that failed: {failed}" if failed else last_line(text)
        raise TurnFailed(f"`{' '.join(command)}`, exit status {process.returncode}: {reason}")
    measured = {"wall_seconds": wall, "cpu_seconds": cpu, "others_cpus": others}
    counts = [tuple(map(int, match)) for match in TEST_RESULT.findall(text)]
    if counts:
        measured["tests"] = dict(zip(("passed", "failed", "ignored"), map(sum, zip(*counts))))
    return measured


def turn_of(commit: str, settings: argparse.Namespace) -> Turn:
    """All phases for one commit from a clone that is removed afterwards; those after a failed one are left out."""
    directory = Path(tempfile.mkdtemp(prefix="kao-build-", dir=settings.directory))
    turn: Turn = {"phases": {}}
    try:
        clone = clone_of(settings.repository, commit, directory)
        turn["crates"] = count_crates(clone)
        if settings.dry_run:
            return turn
        for phase in settings.phases:
            measured = timed(PHASES[phase], clone, directory / "log")
            turn["phases"][phase] = measured
            others = "" if measured["others_cpus"] is None else f", others {measured['others_cpus']:.2f} CPUs"
            say(f"  {phase}: {measured['wall_seconds']:.1f} s, {measured['cpu_seconds']:.1f} s of CPU time{others}")
            program = clone / "target/release" / settings.binary
            if program.is_file():
                turn["binary_bytes"] = program.stat().st_size
    except TurnFailed as reason:
        turn["failed"] = str(reason)
        say(f"  failed: {reason}")
    finally:
        shutil.rmtree(directory)
    return turn


def median_of(turns: list[Turn], *path: str) -> float | None:
    """The median of an entry over the turns that have it."""
    values = []
    for turn in turns:
        entry: Any = turn
        for name in path:
            entry = None if entry is None else entry.get(name)
        if entry is not None:
            values.append(entry)
    return statistics.median(values) if values else None


def rows(phases: list[str], turns: list[Turn]) -> list[tuple[str, float | None, int]]:
    """(what, median, digits after the point) of one commit."""
    found = []
    for phase in phases:
        for entry, unit in (("wall_seconds", "s"), ("cpu_seconds", "CPU s"), ("others_cpus", "CPUs used by others")):
            digits = 2 if entry == "others_cpus" else 1
            found.append((f"{phase}, {unit}", median_of(turns, "phases", phase, entry), digits))
    if phases:
        binary = median_of(turns, "binary_bytes")
        found.append(("program, MiB", None if binary is None else binary / 2**20, 1))
    found.append(("crates", median_of(turns, "crates"), 0))
    return found


def markdown(results: dict[str, Any]) -> str:
    settings, commits = results["settings"], results["commits"]
    phases = [] if settings["dry_run"] else settings["phases"]
    columns = [rows(phases, commit["turns"]) for commit in commits]
    first = columns[0]
    heads = [f"{commit['name']} ({commit['hash'][:10]})" for commit in commits]
    heads += [f"÷ {commits[0]['name']}"] if len(commits) == 2 else []
    lines = [
        f"# Cold build, {results['date'][:10]}",
        "",
        f"{machine_in_words(results['machine'])}; {results['tools']}.",
        f"Rounds: {settings['rounds']}, in turns, each from a clean clone with fetched dependencies. Figures are "
        "medians.",
        "",
        f"| | {' | '.join(heads)} |",
        f"|---|{'---:|' * len(heads)}",
    ]
    for index, (what, base, digits) in enumerate(first):
        values = [column[index][1] for column in columns]
        cells = ["–" if value is None else f"{value:.{digits}f}" for value in values]
        if len(values) == 2:
            compared = base and values[1] is not None and "others" not in what
            cells.append(f"{values[1] / base:.2f}" if compared else "–")
        lines.append(f"| {what} | {' | '.join(cells)} |")
    for commit in commits:
        for turn in commit["turns"]:
            tests = turn["phases"].get("tests", {}).get("tests")
            if tests is not None:
                words = ", ".join(f"{count} {outcome}" for outcome, count in tests.items())
                lines += ["", f"{commit['name']}: tests {words}."]
                break
    failures = [
        f"- {commit['name']}: {turn['failed']}" for commit in commits for turn in commit["turns"] if "failed" in turn
    ]
    if failures:
        lines += ["", "## Failed", "", *failures]
    return "\n".join(lines) + "\n"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commits", nargs="+", default=["HEAD"], metavar="COMMIT", help="one, or two to compare")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument(
        "--phases", nargs="+", choices=list(PHASES), default=list(PHASES), metavar="PHASE", help=", ".join(PHASES)
    )
    parser.add_argument("--dry-run", action="store_true", help="clone, fetch and count crates; build nothing")
    parser.add_argument("--repository", type=Path, default=HERE.parent, help="to clone")
    parser.add_argument("--binary", default="kao", help="name of the program whose size is told")
    parser.add_argument(
        "--directory", type=Path, help="where clones are made, some gigabytes each; by default the system's for such"
    )
    parser.add_argument("--name", default="build", help="of the files in results/")
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error(f"--rounds: found {arguments.rounds}, expected at least 1")
    if len(arguments.commits) > 2:
        parser.error(f"--commits: found {len(arguments.commits)}, expected one or two")
    arguments.phases = [phase for phase in PHASES if phase in arguments.phases]
    arguments.repository = arguments.repository.resolve()
    return arguments


def main() -> int:
    settings = parse_arguments()
    try:
        hashes = [hash_of(name, settings.repository) for name in settings.commits]
        versions = [output_of([tool, "--version"], settings.repository).strip() for tool in ("rustc", "cargo")]
    except (TurnFailed, OSError) as error:
        say(f"error: {error}")
        return 1
    commits = [{"name": name, "hash": digest, "turns": []} for name, digest in zip(settings.commits, hashes)]
    results = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": describe_machine(),
        "tools": ", ".join(versions),
        "settings": {"rounds": settings.rounds, "phases": settings.phases, "dry_run": settings.dry_run},
        "commits": commits,
    }
    stem = RESULTS / settings.name
    stem.parent.mkdir(parents=True, exist_ok=True)
    try:
        for round_index in range(settings.rounds):
            # The other commit begins every second round, so that none always finds the warmer disk cache.
            for commit in commits if round_index % 2 == 0 else reversed(commits):
                say(f"round {round_index + 1}/{settings.rounds}: {commit['name']}")
                commit["turns"].append(turn_of(commit["hash"], settings))
                Path(f"{stem}.json").write_text(json.dumps(results, indent=1) + "\n")
                Path(f"{stem}.md").write_text(markdown(results))
    except KeyboardInterrupt:
        say(f"interrupted; turns that ended are kept in {RESULTS.name}/{settings.name}.*")
        return 130
    print(markdown(results))
    return 1 if any("failed" in turn for commit in commits for turn in commit["turns"]) else 0


if __name__ == "__main__":
    raise SystemExit(main())
