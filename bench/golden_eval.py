"""Writes the golden values that Kao's tests compare the sliced Wasserstein distance with.

An implementation apart from Kao's, after Karras et al. 2018 (Progressive Growing of GANs, section 5): Laplacian
pyramid by 5 x 5 binomial kernel with mirrored edges, 128 patches of 7 x 7 per image and level, each set's
patches normalized per channel, 512 random directions, mean absolute difference of sorted projections, times
1000. Everything is in f64.

What is left to chance follows Kao's streams: ChaCha12 keyed by (seed, purpose, image, draw), each a 64-bit
little-endian number. Places of patches are purpose 6, the image's position, the level: for each patch x, then
y, each from 64 bits by multiply and shift. Directions are purpose 7, the direction's number, the level: pairs
of normals by Box and Muller from two 32-bit words, rounded to f32, the vector then brought to length 1.

Images are not stored: value i of a set is u(name, i) of golden.py, smoothed along the flattened array with
weights 1/4, 1/2, 1/4 around i (circular) where the set is a smooth one.

    python golden_eval.py [OUTPUT]                 needs numpy
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

DEFAULT_OUTPUT = Path(__file__).parents[1] / "crates/kao/src/eval/testdata/golden.json"
PATCHES, DIRECTIONS = 6, 7
PATCH_SIDE, PATCHES_PER_IMAGE, N_DIRECTIONS, MIN_SIDE = 7, 128, 512, 16
CASES = (
    {"shape": (5, 3, 32, 32), "seed": 999},
    {"shape": (3, 3, 33, 46), "seed": 1},
    {"shape": (4, 1, 16, 16), "seed": 2},
)


def uniform(name: str, count: int) -> np.ndarray:
    digest = 0xCBF29CE484222325
    for byte in name.encode():
        digest = (digest ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    with np.errstate(over="ignore"):
        z = np.uint64(digest) + np.arange(count, dtype=np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return (z >> np.uint64(40)).astype(np.float64) / 2.0**23 - 1.0


def images(name: str, shape: tuple[int, ...], smooth: bool) -> np.ndarray:
    u = uniform(name, int(np.prod(shape)))
    if smooth:
        u = (np.roll(u, 1) + 2.0 * u + np.roll(u, -1)) / 4.0
    return u.astype(np.float32).astype(np.float64).reshape(shape)


def words(seed: int, purpose: int, image: int, draw: int, count: int) -> np.ndarray:
    """The first 32-bit words of a stream."""
    key = np.array([seed, purpose, image, draw], dtype="<u8").view("<u4")
    n_blocks = -(-count // 16)
    state = np.zeros((16, n_blocks), dtype=np.uint32)
    state[0:4] = np.frombuffer(b"expand 32-byte k", dtype="<u4")[:, None]
    state[4:12] = key[:, None]
    state[12] = np.arange(n_blocks)
    x = state.copy()

    def turned(v: np.ndarray, by: int) -> np.ndarray:
        return (v << np.uint32(by)) | (v >> np.uint32(32 - by))

    def quarter(a: int, b: int, c: int, d: int) -> None:
        for to, source, mixed, by in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            x[to] += x[source]
            x[mixed] = turned(x[mixed] ^ x[to], by)

    with np.errstate(over="ignore"):
        for _ in range(6):
            for k in range(4):
                quarter(k, 4 + k, 8 + k, 12 + k)
            for k in range(4):
                quarter(k, 4 + (k + 1) % 4, 8 + (k + 2) % 4, 12 + (k + 3) % 4)
        x += state
    return x.T.reshape(-1)[:count]


def places(seed: int, image: int, level: int, height: int, width: int) -> list[tuple[int, int]]:
    drawn = words(seed, PATCHES, image, level, 4 * PATCHES_PER_IMAGE).astype("<u4").view("<u8")
    below = [
        int(bits) * bound >> 64
        for bits, bound in zip(drawn, [width - PATCH_SIDE + 1, height - PATCH_SIDE + 1] * PATCHES_PER_IMAGE)
    ]
    return list(zip(below[0::2], below[1::2]))


def directions(seed: int, level: int, size: int) -> np.ndarray:
    rows = []
    for number in range(N_DIRECTIONS):
        drawn = words(seed, DIRECTIONS, number, level, size + size % 2).astype(np.float64)
        radius = np.sqrt(-2.0 * np.log((drawn[0::2] + 1.0) / 2.0**32))
        angle = 2.0 * np.pi * drawn[1::2] / 2.0**32
        normals = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)[:size]
        normals = normals.astype(np.float32).astype(np.float64)
        rows.append(normals / np.linalg.norm(normals))
    return np.array(rows)


def smoothed(x: np.ndarray) -> np.ndarray:
    """The 5 x 5 binomial kernel over the last two axes, edges mirrored about the outermost pixels."""
    for axis in (-2, -1):
        n = x.shape[axis]
        pad = [(0, 0)] * x.ndim
        pad[axis] = (2, 2)
        padded = np.pad(x, pad, mode="reflect")
        taps = [np.take(padded, range(k, k + n), axis=axis) for k in range(5)]
        x = sum(weight / 16.0 * tap for weight, tap in zip((1, 4, 6, 4, 1), taps))
    return x


def pyramid(x: np.ndarray) -> list[np.ndarray]:
    levels = []
    while True:
        coarse = smoothed(x)[..., ::2, ::2]
        if min(coarse.shape[-2:]) < MIN_SIDE:
            return [*levels, x]
        spread = np.zeros_like(x)
        spread[..., ::2, ::2] = coarse
        levels.append(x - 4.0 * smoothed(spread))
        x = coarse


def patches(level_images: np.ndarray, seed: int, level: int) -> np.ndarray:
    n, channels, height, width = level_images.shape
    cut = np.array([
        image[:, y : y + PATCH_SIDE, x : x + PATCH_SIDE]
        for k, image in enumerate(level_images)
        for x, y in places(seed, k, level, height, width)
    ])
    cut -= cut.mean(axis=(0, 2, 3), keepdims=True)
    cut /= cut.std(axis=(0, 2, 3), keepdims=True)
    return cut.reshape(n * PATCHES_PER_IMAGE, -1)


def distances(a: np.ndarray, b: np.ndarray, seed: int) -> list[float]:
    found = []
    for level, (of_a, of_b) in enumerate(zip(pyramid(a), pyramid(b))):
        of_a, of_b = patches(of_a, seed, level), patches(of_b, seed, level)
        towards = directions(seed, level, of_a.shape[1]).T
        difference = np.abs(np.sort(of_a @ towards, axis=0) - np.sort(of_b @ towards, axis=0))
        found.append(1e3 * float(difference.mean()))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", metavar="OUTPUT", type=Path, nargs="?", default=DEFAULT_OUTPUT)
    output: Path = parser.parse_args().output
    cases = []
    for case in CASES:
        shape, seed = case["shape"], case["seed"]
        rough, smooth, other = (
            images("rough", shape, False),
            images("smooth", shape, True),
            images("other", shape, False),
        )
        levels = pyramid(rough)
        cases.append({
            **case,
            "resolutions": [level.shape[-2:] for level in levels],
            # Root of the mean square and a corner of every level of the first image.
            "levels": [[float(np.sqrt((level[0] ** 2).mean())), float(level[0, 0, 0, 0]), float(level[0, -1, -1, -1])] for level in levels],
            "rough_smooth": distances(rough, smooth, seed),
            "rough_other": distances(rough, other, seed),
        })
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps({"script": "bench/golden_eval.py", "cases": cases}, indent=1) + "\n")
    print(f"{output}: {output.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
