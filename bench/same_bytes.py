"""Compares what two `kao` programs write, byte by byte.

Both run the same commands, each in a folder of its own, on the built-in model (and any model named
with --model) with few images and steps. Standard output and every file that they write must agree;
texts in pictures too. Use it to show that a change does not change results:

    python3 bench/same_bytes.py OLD_KAO NEW_KAO
    python3 bench/same_bytes.py OLD_KAO NEW_KAO --model run --only sample
    python3 bench/same_bytes.py OLD_KAO NEW_KAO --except 'metadata.jsonl|prepare'
    python3 bench/same_bytes.py OLD_KAO NEW_KAO --without-texts command,image,inputs

Only the standard library is used. Takes two to three minutes on two cores.
"""

import argparse
import json
import re
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SAMPLERS = ["ddim", "dpm++", "ddpm"]
SPACINGS = ["linear", "quadratic", "trailing", "leading"]


def noise_file(path, shape, n_steps):
    """x_T and z of a fixed sequence of numbers, spread as noise is."""

    def values(n, seed):
        state, out = seed, bytearray()
        for _ in range(n):
            total = 0.0
            for _ in range(4):
                state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
                total += (state >> 33) / 2**31 - 0.5
            out += struct.pack("<f", total * 1.7320508)
        return bytes(out)

    n = 1
    for length in shape:
        n *= length
    x_t, z = values(n, 1), values(n * n_steps, 2)
    header = {
        "x_T": {"dtype": "F32", "shape": shape, "data_offsets": [0, len(x_t)]},
        "z": {
            "dtype": "F32",
            "shape": [n_steps, *shape],
            "data_offsets": [len(x_t), len(x_t) + len(z)],
        },
    }
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + x_t + z)


def commands(models):
    """Lists of arguments, in the order in which they are run: later ones use earlier results."""
    yield "draw --count 40 --size 64 --seed 3 --out faces"
    yield "draw --count 12 --size 40 --seed 4 --out odd"
    yield "prepare odd prepared --size 32"
    yield "prepare odd stretched --size 24 --fit stretch --keep-duplicates --strict"
    yield "prepare faces again --size 64 --min-side 20"
    yield "convert built-in model.safetensors"
    yield "convert built-in half.safetensors --half"
    for index, model in enumerate(models):
        of = f"sample --model {model} --count 3 --batch-size 2"
        name = f"m{index}-"
        for sampler in SAMPLERS:
            yield f"{of} --sampler {sampler} --steps 4 --out {name}{sampler}.png --save-tensors {name}{sampler}.safetensors"
            yield f"{of} --sampler {sampler} --steps 3 --clip --out {name}{sampler}-clip.png"
        for sampler in ["ddim", "dpm++"]:
            for eta in ["0.5", "1"]:
                yield f"{of} --sampler {sampler} --eta {eta} --steps 4 --out {name}{sampler}-{eta}.png --save-tensors {name}{sampler}-{eta}.safetensors"
        for spacing in SPACINGS:
            for end in ["first", "clean"]:
                yield f"{of} --spacing {spacing} --end {end} --steps 3 --out {name}{spacing}-{end}.png"
            yield f"{of} --spacing {spacing} --steps 3 --out {name}{spacing}.png"
        yield f"{of} --sampler ddpm --variance beta --steps 3 --out {name}beta.png"
        yield f"{of} --eta 0 --steps 3 --out {name}eta.png"
        for sampler in SAMPLERS:
            yield f"{of} --sampler {sampler} --noise noise.safetensors --steps 3 --out {name}{sampler}-noise.png"
        yield f"{of} --eta 1 --noise noise.safetensors --steps 3 --out {name}eta-noise.png"
        yield f"{of} --steps 5 --strip {name}strip.png --strip-images 2 --strip-moments 4 --out {name}s.png"
        yield f"{of} --steps 2 --strip {name}strip1.png --strip-moments 1 --columns 2 --seed 5 --out {name}s1.png"
        for extra in ["", " --sampler dpm++ --eta 1", " --sampler ddpm", " --seed 5"]:
            out = extra.replace(" ", "").replace("-", "")
            yield f"recover --model {model} --data faces --count 2 --t 40 --steps 4{extra} --out {name}recover{out}.png"
        yield f"recover --model {model} --data faces/face-000001.png --t 9 --origin-bug --steps 3 --out {name}bug.png"
        yield f"eval --model {model} --data faces --count 8 --steps 2 --json --neighbours {name}near.png"
        yield f"eval --model {model} --data faces --count 6 --steps 2 --eta 1 --json --all-neighbours"
    yield "eval --samples again --data faces --count 10 --json"
    yield "sweep --model built-in --count 2 --columns 2 --max-steps 10 --out sweep"
    yield "sweep --model built-in --count 1 --max-steps 10 --spacing trailing --seed 2 --out sweep2"


def run(program, line, folder):
    return subprocess.run(
        [program, *line.split()], cwd=folder, capture_output=True, stdin=subprocess.DEVNULL
    )


def contents(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def without_times(name, data):
    """A sweep writes down how long each run took."""
    if name.endswith(".json"):
        data = re.sub(rb'"seconds": [0-9.e-]+', b'"seconds": 0', data)
    if name.endswith("index.html"):
        data = re.sub(rb"[0-9.]+( s</(?:p|td)>)", rb"0\1", data)
        data = re.sub(rb"<td>[0-9.]+</td>(?=<td>0 s)", rb"<td>0</td>", data)
    return data


def without_texts(data, keys):
    """A PNG without its texts of these keys, which only one of the programs may write."""
    if not data.startswith(b"\x89PNG") or not keys:
        return data
    kept, at = data[:8], 8
    while at < len(data):
        length = struct.unpack(">I", data[at : at + 4])[0]
        chunk = data[at : at + 12 + length]
        is_text = chunk[4:8] in (b"tEXt", b"iTXt")
        if not (is_text and chunk[8:].split(b"\0")[0].decode("latin-1") in keys):
            kept += chunk
        at += len(chunk)
    return kept


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("--model", action="append", default=[], help="besides the built-in one")
    parser.add_argument("--only", default="", help="commands that begin so (and what they need)")
    parser.add_argument("--without-texts", default="", help="keys of texts that do not count")
    parser.add_argument("--except", dest="intended", help="intended differences, as a pattern")
    arguments = parser.parse_args()
    programs = [str(Path(path).resolve()) for path in (arguments.old, arguments.new)]
    models = ["built-in"] + [str(Path(model).resolve()) for model in arguments.model]

    started = time.time()
    wrong, n_commands = [], 0
    with tempfile.TemporaryDirectory() as place:
        folders = [Path(place) / which for which in ("old", "new")]
        for folder in folders:
            folder.mkdir()
            noise_file(folder / "noise.safetensors", [3, 3, 64, 64], 3)
        for line in commands(models):
            needed = line.startswith(("draw", "prepare"))
            if arguments.only and not needed and not line.startswith(arguments.only):
                continue
            old, new = (run(program, line, folder) for program, folder in zip(programs, folders))
            n_commands += 1
            if old.returncode != 0 or new.returncode != 0:
                words = (new.stderr if new.returncode else old.stderr).decode(errors="replace")
                wrong.append(f"kao {line}: exit codes {old.returncode} and {new.returncode}: {words}")
            elif old.stdout != new.stdout:
                wrong.append(f"kao {line}: other results on standard output")
        keys = set(filter(None, arguments.without_texts.split(",")))
        old, new = (
            {name: without_texts(data, keys) for name, data in contents(folder).items()}
            for folder in folders
        )
        for name in sorted(old.keys() | new.keys()):
            if name not in old or name not in new:
                wrong.append(f"{name}: only one of them wrote it")
            elif without_times(name, old[name]) != without_times(name, new[name]):
                wrong.append(f"{name}: other bytes")
        n_files = len(old)
    if arguments.intended:
        wrong = [line for line in wrong if not re.search(arguments.intended, line)]
    print(f"{n_commands} commands, {n_files} files, {time.time() - started:.0f} s")
    for line in wrong:
        print(f"DIFFERS  {line}")
    print("different" if wrong else "the same bytes")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
