"""Compares Kao with PyTorch, ONNX Runtime and OpenVINO on the same network, in turns, on this machine.

    python peers.py --setup                         make the virtual environment, install the peers, compare
    python peers.py --batch-sizes 8 --threads 2     compare with what is installed
    python peers.py --preset small64                the same for another network
    python peers.py --diffusers FOLDER              a folder of diffusers there and here: see peers_diffusers.py

Results go to results/NAME.json, NAME.md and NAME.png. README.md beside this file says how to read them.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import json
import os
import selectors
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import peers_diffusers
from machine import busy_cpu_seconds, describe_machine
from report import write_report
from same_network import DEFAULT_KAO, NetworkError, preset_model, read_config

HERE = Path(__file__).resolve().parent
DEFAULT_VENV = HERE.parent / "target/bench-venv"
RESULTS = HERE / "results"
FORWARD, TRAINING = "forward", "training"
# A turn is disturbed when other processes used more CPU time than this share of one core meanwhile.
DISTURBANCE = 0.2
DISTURBANCE_PAUSE_SECONDS = 2.0
START_TIMEOUT_SECONDS = 900
TURN_TIMEOUT_SECONDS = 900
TUNING_VARIABLES = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD", "OMP_", "KMP_", "ONEDNN_", "KAO_")


class ContenderFailed(Exception):
    """A contender cannot start or go on; the message says why in one line."""


@dataclasses.dataclass(frozen=True)
class Contender:
    key: str
    label: str
    library: str
    precision: str
    trains: bool
    environment: tuple[tuple[str, str], ...] = ()
    # Of Kao, where it is another than --kao names.
    program: Path | None = None


@dataclasses.dataclass
class Turn:
    """What one contender did in one round, in milliseconds per image.

    `others_cpus` is how many CPUs everything else on the machine kept busy meanwhile, where that is known.
    """

    median: float
    min: float
    samples: list[float]
    peak_memory_bytes: int | None
    others_cpus: float | None = None


KAO = Contender("kao", "Kao f32", "kao", "f32", True)
PEERS = (
    Contender("torch-f32", "PyTorch f32", "torch", "f32", True),
    Contender("torch-f32-channels_last", "PyTorch f32, channels-last", "torch", "f32", True),
    Contender("torch-f32-channels_last-compile", "PyTorch f32, channels-last, compiled", "torch", "f32", True),
    Contender("torch-bf16-channels_last", "PyTorch bf16 autocast, channels-last", "torch", "bf16", True),
    Contender(
        "torch-bf16-channels_last-compile", "PyTorch bf16 autocast, channels-last, compiled", "torch", "bf16", True
    ),
    Contender("onnxruntime-f32", "ONNX Runtime f32", "onnxruntime", "f32", False),
    Contender("openvino-f32", "OpenVINO f32", "openvino", "f32", False),
    Contender("openvino-bf16", "OpenVINO bf16", "openvino", "bf16", False),
)


class Peer:
    """A worker process that is stopped whenever it is not its turn, so that no thread of it spins."""

    def __init__(
        self, contender: Contender, mode: str, batch_size: int, directory: Path, settings: argparse.Namespace
    ) -> None:
        self.batch_size = batch_size
        self.log = (directory / f"{contender.key}.log").open("w+")
        command = [sys.executable, "-W", "ignore", str(HERE / "worker.py")]
        command += ["--contender", contender.key, "--mode", mode, "--batch-size", str(batch_size)]
        command += ["--threads", str(settings.threads), "--directory", str(directory)]
        command += ["--model", str(settings.model)]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env=worker_environment(settings.threads, directory),
            start_new_session=True,
        )
        try:
            ready = self.read(START_TIMEOUT_SECONDS)
        except ContenderFailed:
            self.close()
            raise
        self.version = str(ready["version"])
        self.max_relative_error: float | None = ready["max_relative_error"]
        self.signal(signal.SIGSTOP)

    def turn(self, iterations: int) -> Turn:
        self.signal(signal.SIGCONT)
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps({"iterations": iterations}), file=self.process.stdin, flush=True)
        answer = self.read(TURN_TIMEOUT_SECONDS)
        self.signal(signal.SIGSTOP)
        samples = [1e3 * seconds / self.batch_size for seconds in answer["seconds"]]
        return Turn(statistics.median(samples), min(samples), samples, answer["peak_memory_bytes"])

    def cpu_seconds(self) -> float | None:
        with contextlib.suppress(OSError):
            # After the name, which may hold anything, user and system ticks are the 12th and 13th entries.
            entries = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
            return (int(entries[11]) + int(entries[12])) / os.sysconf("SC_CLK_TCK")
        return None

    def read(self, timeout_seconds: float) -> dict[str, Any]:
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            if not selector.select(timeout_seconds):
                raise ContenderFailed(f"no answer within {timeout_seconds} s")
        line = self.process.stdout.readline()
        if not line:
            raise ContenderFailed(self.last_words())
        return json.loads(line)

    def last_words(self) -> str:
        status = self.process.wait()
        self.log.seek(0)
        lines = [line for line in self.log.read().splitlines() if line.strip()]
        if lines and lines[-1].startswith("ModuleNotFoundError"):
            return f"not installed ({lines[-1]})"
        return f"exit status {status}: {lines[-1] if lines else 'no message'}"

    def signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def close(self) -> None:
        self.signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
        self.log.close()


class Kao:
    """The program, run afresh each turn through `kao bench --json`."""

    def __init__(self, contender: Contender, mode: str, batch_size: int, settings: argparse.Namespace) -> None:
        self.mode = mode
        self.environment = os.environ | dict(contender.environment)
        self.max_relative_error: float | None = None
        self.parameters = settings.network["parameters"]
        self.used_seconds = 0.0
        program = program_of(contender, settings)
        self.command = [str(program), "bench", "--preset", settings.preset, "--json"]
        self.command += ["--batch-size", str(batch_size), "--threads", str(settings.threads)]
        if mode == FORWARD:
            self.command.append("--forward-only")
        version = subprocess.run([program, "--version"], capture_output=True, text=True)
        self.version = version.stdout.strip().removeprefix("kao ") or "unknown"

    def turn(self, iterations: int) -> Turn:
        command = [*self.command, "--rounds", str(iterations)]
        with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as messages:
            process = subprocess.Popen(command, stdout=output, stderr=messages, env=self.environment)
            try:
                _, status, usage = os.wait4(process.pid, 0)
            except BaseException:
                process.kill()
                process.wait()
                raise
            process.returncode = os.waitstatus_to_exitcode(status)
            self.used_seconds += usage.ru_utime + usage.ru_stime
            output.seek(0)
            messages.seek(0)
            if process.returncode != 0:
                words = messages.read().strip().splitlines()
                raise ContenderFailed(f"exit status {process.returncode}: {words[0] if words else 'no message'}")
            text = output.read()
        try:
            answer = json.loads(text)
            parameters = int(answer["parameters"])
            measured = answer[self.mode]
            median = float(measured["ms_per_image"])
        except (ValueError, KeyError, TypeError) as error:
            raise ContenderFailed(f"`kao bench --json` printed no {self.mode}.ms_per_image ({error!r})")
        if parameters != self.parameters:
            raise ContenderFailed(f"its network has {parameters:,} parameters, that of the peers {self.parameters:,}")
        samples = [float(sample) for sample in measured.get("samples", [median])]
        best = float(measured.get("min_ms_per_image", median))
        return Turn(median, best, samples, usage.ru_maxrss * 1024)

    def cpu_seconds(self) -> float:
        return self.used_seconds

    def close(self) -> None:
        """Nothing outlives a turn."""


def worker_environment(threads: int, directory: Path) -> dict[str, str]:
    return os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "PYTHONDONTWRITEBYTECODE": "1",
        "TORCHINDUCTOR_CACHE_DIR": str(directory.parent / "inductor"),
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
    }


def program_of(contender: Contender, settings: argparse.Namespace) -> Path:
    return contender.program or settings.kao


def not_found(program: Path) -> str:
    return f"{os.path.relpath(program, HERE.parent)} not found (cargo build --release makes it)"


def difference_from_pytorch(contender: Contender, settings: argparse.Namespace) -> float | None:
    """The largest relative one between what this Kao and PyTorch predict; `None` where PyTorch is missing."""
    program = program_of(contender, settings)
    if not program.is_file():
        raise ContenderFailed(not_found(program))
    command = [sys.executable, "-W", "ignore", str(HERE / "same_network.py"), "--json"]
    command += ["--kao", str(program), "--model", str(settings.model), "--threads", str(settings.threads)]
    environment = os.environ | dict(contender.environment)
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.stdout:
        answer = json.loads(done.stdout)
        if not answer["same"]:
            raise ContenderFailed(f"it does not compute what PyTorch does: {answer['errors']}")
        return answer["errors"]["one prediction"]
    words = done.stderr.strip().splitlines()
    reason = words[-1].removeprefix("error: ") if words else f"exit status {done.returncode}"
    if not reason.startswith("ModuleNotFoundError"):
        raise ContenderFailed(reason)
    say(f"{contender.label}: not compared with PyTorch's network ({reason})")
    return None


def observed_turn(participant: Peer | Kao, iterations: int) -> Turn:
    """One turn, with what others used of the machine meanwhile."""
    start, busy_before, own_before = time.monotonic(), busy_cpu_seconds(), participant.cpu_seconds()
    turn = participant.turn(iterations)
    busy_after, own_after = busy_cpu_seconds(), participant.cpu_seconds()
    if None not in (busy_before, own_before, busy_after, own_after):
        others = (busy_after - busy_before) - (own_after - own_before)
        turn.others_cpus = max(others, 0.0) / (time.monotonic() - start)
    return turn


def calm_turn(participant: Peer | Kao, iterations: int, attempts: int) -> Turn:
    """A turn that nothing disturbed, or else the least disturbed of so many attempts."""
    turns: list[Turn] = []
    while len(turns) < attempts:
        if turns:
            time.sleep(DISTURBANCE_PAUSE_SECONDS)
        turn = observed_turn(participant, iterations)
        if is_calm(turn):
            return turn
        turns.append(turn)
    return min(turns, key=lambda turn: turn.others_cpus)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Comparison:
    """The rounds of every batch size and mode, and the results so far."""

    def __init__(self, contenders: list[Contender], settings: argparse.Namespace) -> None:
        self.contenders = contenders
        self.settings = settings
        self.dropped: list[str] = []
        self.errors: dict[Contender, float] = {}
        self.measurements: list[dict[str, Any]] = []

    def results(self) -> dict[str, Any]:
        settings = self.settings
        return {
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "machine": describe_machine(),
            "settings": {
                "preset": settings.preset,
                "network": settings.network,
                "threads": settings.threads,
                "rounds": settings.rounds,
                "iterations_per_round": settings.iterations,
                "attempts_at_a_calm_turn": settings.attempts,
                "disturbed_above_cpus": DISTURBANCE,
                "tuning_environment": {k: v for k, v in os.environ.items() if k.startswith(TUNING_VARIABLES)},
            },
            "dropped": self.dropped,
            "measurements": self.measurements,
        }

    def drop(self, contender: Contender, mode: str, batch_size: int, reason: object) -> None:
        self.note_dropped(f"{contender.label}, {mode}, batch size {batch_size}: dropped: {reason}")

    def note_dropped(self, line: str) -> None:
        self.dropped.append(line)
        say(line)

    def check_kao(self) -> None:
        """Leaves out what is no Kao with the network of the peers, and notes how closely the others agree."""
        for contender in [contender for contender in self.contenders if contender.library == "kao"]:
            try:
                error = difference_from_pytorch(contender, self.settings)
            except ContenderFailed as reason:
                self.contenders.remove(contender)
                self.note_dropped(f"{contender.label}: dropped: {reason}")
            else:
                if error is not None:
                    self.errors[contender] = error

    def run(self, directory: Path) -> None:
        self.check_kao()
        for batch_size in self.settings.batch_sizes:
            batch_directory = directory / f"batch{batch_size}"
            batch_directory.mkdir()
            self.export(batch_size, batch_directory)
            for mode in self.settings.modes:
                self.run_phase(mode, batch_size, batch_directory)
                write_report(self.results(), RESULTS / self.settings.name)

    def export(self, batch_size: int, directory: Path) -> None:
        command = [sys.executable, "-W", "ignore", str(HERE / "worker.py")]
        command += ["--batch-size", str(batch_size), "--directory", str(directory)]
        command += ["--model", str(self.settings.model)]
        environment = worker_environment(self.settings.threads, directory)
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode != 0:
            words = done.stderr.strip().splitlines()
            say(f"the network cannot be written for the peers: {words[-1] if words else 'no message'}")

    def run_phase(self, mode: str, batch_size: int, directory: Path) -> None:
        say(f"{mode}, batch size {batch_size}")
        running: dict[Contender, Peer | Kao] = {}
        turns: dict[Contender, list[Turn]] = {}
        try:
            for contender in self.contenders:
                if mode == TRAINING and not contender.trains:
                    continue
                try:
                    if contender.library == "kao":
                        running[contender] = Kao(contender, mode, batch_size, self.settings)
                        if mode == FORWARD:
                            running[contender].max_relative_error = self.errors.get(contender)
                    else:
                        running[contender] = Peer(contender, mode, batch_size, directory, self.settings)
                    turns[contender] = []
                except ContenderFailed as reason:
                    self.drop(contender, mode, batch_size, reason)
            for round_index in range(self.settings.rounds):
                for contender in rotated(running, round_index):
                    try:
                        turn = calm_turn(running[contender], self.settings.iterations, self.settings.attempts)
                        turns[contender].append(turn)
                    except ContenderFailed as reason:
                        self.drop(contender, mode, batch_size, reason)
                        running.pop(contender).close()
                medians = (f"{c.key} {turns[c][-1].median:.1f}" for c in running)
                say(f"round {round_index + 1}/{self.settings.rounds}: {'  '.join(medians)}")
            for contender, participant in running.items():
                measurement = {
                    **{k: v for k, v in dataclasses.asdict(contender).items() if k not in ("trains", "program")},
                    "version": participant.version,
                    "mode": mode,
                    "batch_size": batch_size,
                    **summary(turns[contender]),
                    "max_relative_error": participant.max_relative_error,
                }
                self.measurements.append(measurement)
        finally:
            for participant in running.values():
                participant.close()


def rotated(contenders: Iterable[Contender], by: int) -> list[Contender]:
    """Another one begins each round, so that none always follows the same neighbour's heat."""
    order = list(contenders)
    by %= max(len(order), 1)
    return order[by:] + order[:by]


def is_calm(turn: Turn) -> bool:
    return turn.others_cpus is None or turn.others_cpus <= DISTURBANCE


def summary(turns: list[Turn]) -> dict[str, Any]:
    """The figures of the calm turns, or of all where there is none, beside the samples of all."""
    calm = [turn for turn in turns if is_calm(turn)]
    medians = [turn.median for turn in calm or turns]
    peaks = [turn.peak_memory_bytes for turn in turns if turn.peak_memory_bytes is not None]
    return {
        "ms_per_image": statistics.median(medians),
        "min_ms_per_image": min(turn.min for turn in calm or turns),
        "round_medians": medians,
        "calm_rounds": len(calm),
        "samples": [turn.samples for turn in turns],
        "others_cpus": [turn.others_cpus for turn in turns],
        "peak_memory_bytes": max(peaks, default=None),
    }


def set_up(directory: Path) -> None:
    """Makes the virtual environment and goes on inside it; a peer that cannot be installed is left out."""
    python = directory / "bin/python"
    if not python.exists():
        say(f"making {directory}")
        venv.create(directory, with_pip=True)
    for requirement in (HERE / "requirements.txt").read_text().split():
        done = subprocess.run([python, "-m", "pip", "install", "--quiet", requirement], stdout=sys.stderr)
        if done.returncode != 0:
            say(f"{requirement} cannot be installed: its contenders are left out")
    remaining = [argument for argument in sys.argv[1:] if argument != "--setup"]
    os.execv(python, [str(python), str(Path(__file__).resolve()), *remaining])


def kao_variant(text: str) -> Contender:
    """`LABEL:NAME=VALUE[,NAME=VALUE…]`, as in `AVX2:KAO_SIMD=avx2`."""
    label, _, assignments = text.partition(":")
    pairs = [assignment.partition("=") for assignment in assignments.split(",")]
    if not label or not all(name and equals for name, equals, _ in pairs):
        raise argparse.ArgumentTypeError(f"found {text!r}, expected LABEL:NAME=VALUE")
    environment = tuple((name, value) for name, _, value in pairs)
    return Contender(f"kao-{label}", f"Kao f32, {label}", "kao", "f32", True, environment)


def other_kao(text: str) -> Contender:
    """`LABEL:PROGRAM`, as in `before:../old/target/release/kao`."""
    label, _, program = text.partition(":")
    if not label or not program:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected LABEL:PROGRAM")
    return Contender(f"kao-{label}", f"Kao f32, {label}", "kao", "f32", True, program=Path(program).resolve())


def take_network(arguments: argparse.Namespace, contenders: list[Contender], directory: Path) -> None:
    """Has the first Kao that is there make a model of the preset; the network and its weights come from it."""
    programs = [arguments.kao, *(contender.program for contender in contenders if contender.program)]
    program = next((program for program in programs if program.is_file()), None)
    if program is None:
        raise NetworkError(f"{not_found(arguments.kao)}; the network comes from it")
    arguments.model = preset_model(program, arguments.preset, directory)
    config = read_config(arguments.model)
    arguments.network = {"parameters": config["parameters"], **config["unet"]}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    keys = [KAO.key, *(peer.key for peer in PEERS)]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser.add_argument("--setup", action="store_true", help="make the virtual environment and run in it")
    parser.add_argument("--venv", type=Path, default=DEFAULT_VENV, help="where --setup makes it")
    parser.add_argument("--preset", default="anime64", help="of Kao: the network to compare on")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 8, 32], metavar="N")
    parser.add_argument("--modes", nargs="+", choices=[FORWARD, TRAINING], default=[FORWARD, TRAINING])
    parser.add_argument("--threads", type=int, default=cores)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--iterations", type=int, default=3, help="timed ones of each contender in a round")
    parser.add_argument(
        "--attempts", type=int, default=3, help="at a turn during which other processes keep less than "
        f"{DISTURBANCE} CPUs busy; the calmest counts"
    )
    parser.add_argument("--contenders", nargs="+", choices=keys, default=keys, metavar="KEY", help=", ".join(keys))
    parser.add_argument("--kao", type=Path, default=DEFAULT_KAO, help="the program to measure")
    parser.add_argument(
        "--kao-variant",
        type=kao_variant,
        action="append",
        default=[],
        metavar="LABEL:NAME=VALUE",
        help="run Kao once more with these environment variables, as a contender of its own",
    )
    parser.add_argument(
        "--kao-other",
        type=other_kao,
        action="append",
        default=[],
        metavar="LABEL:PROGRAM",
        help="run another Kao, such as one built from an older commit, as a contender of its own",
    )
    parser.add_argument("--name", default="peers", help="of the files in results/")
    parser.add_argument(
        "--diffusers", nargs="+", default=[], metavar="FOLDER", help="time these folders in diffusers and Kao, no peers"
    )
    parser.add_argument("--turns", type=int, default=3, help="of each program, with --diffusers")
    parser.add_argument("--no-pipeline", action="store_true", help="with --diffusers: forward passes alone")
    arguments = parser.parse_args()
    for option in ("threads", "rounds", "iterations", "attempts"):
        if getattr(arguments, option) < 1:
            parser.error(f"--{option}: found {getattr(arguments, option)}, expected at least 1")
    if min(arguments.batch_sizes) < 1:
        parser.error(f"--batch-sizes: found {min(arguments.batch_sizes)}, expected at least 1")
    labels = [contender.label for contender in (*arguments.kao_variant, *arguments.kao_other)]
    for label in labels:
        if labels.count(label) > 1:
            parser.error(f"{label!r} is named twice; every --kao-variant and --kao-other needs its own label")
    arguments.kao = arguments.kao.resolve()
    return arguments


def main() -> int:
    arguments = parse_arguments()
    if arguments.setup:
        set_up(arguments.venv)
    if arguments.diffusers:
        peers_diffusers.compare(arguments)
        return 0
    chosen = [contender for contender in (KAO, *PEERS) if contender.key in arguments.contenders]
    comparison = Comparison([*arguments.kao_variant, *arguments.kao_other, *chosen], arguments)
    directory = Path(tempfile.mkdtemp(prefix="kao-peers-"))
    try:
        take_network(arguments, comparison.contenders, directory)
        comparison.run(directory)
    except NetworkError as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say(f"interrupted; phases that ended are kept in {RESULTS / arguments.name}.*")
        return 130
    finally:
        shutil.rmtree(directory)
    if not comparison.measurements:
        say("error: no contender could be measured")
        return 1
    print((RESULTS / f"{arguments.name}.md").read_text())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
