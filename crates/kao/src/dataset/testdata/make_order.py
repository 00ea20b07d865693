"""Writes split.txt and order.txt: the formulas of split.rs and loader.rs, in plain Python.

ChaCha8 is written out here after RFC 8439 (with 8 rounds, a 64-bit block counter and a 64-bit
stream number, as Bernstein has it), so that the order of training pictures is checked against
something other than the crate that draws it.
"""

import hashlib
from pathlib import Path

HERE = Path(__file__).parent
MASK = 0xFFFFFFFF


def chacha8(key, stream):
    """The words of one stream, in order."""
    constants = [int.from_bytes(b"expand 32-byte k"[i : i + 4], "little") for i in range(0, 16, 4)]
    key = [int.from_bytes(key[i : i + 4], "little") for i in range(0, 32, 4)]
    block = 0
    while True:
        start = constants + key + [block & MASK, block >> 32, stream & MASK, stream >> 32]
        s = list(start)

        def quarter(a, b, c, d):
            for x, y, z, turn in [(a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)]:
                s[x] = (s[x] + s[y]) & MASK
                s[z] ^= s[x]
                s[z] = (s[z] << turn | s[z] >> (32 - turn)) & MASK

        for _ in range(4):
            for column in range(4):
                quarter(column, 4 + column, 8 + column, 12 + column)
            for k in range(4):
                quarter(k, 4 + (k + 1) % 4, 8 + (k + 2) % 4, 12 + (k + 3) % 4)
        yield from ((a + b) & MASK for a, b in zip(s, start))
        block += 1


def below(bound, words):
    threshold = 2**32 % bound
    while True:
        product = next(words) * bound
        if product & MASK >= threshold:
            return product >> 32


def epoch_order(n, seed, epoch):
    """(position in the order of contents, flip) of each place."""
    key = hashlib.sha256(b"kao loader 1" + seed.to_bytes(8, "little")).digest()
    words = chacha8(key, epoch)
    order = list(range(n))
    for last in range(n - 1, 0, -1):
        other = below(last + 1, words)
        order[last], order[other] = order[other], order[last]
    return [(index, next(words) & 1) for index in order]


def split(content_hash, seed, validation, test):
    digest = hashlib.sha256(b"kao split 1" + seed.to_bytes(8, "little") + content_hash).digest()
    place = (int.from_bytes(digest[:8], "big") >> 11) / 2**53
    return "t" if place < test else "v" if place < test + validation else "T"


hashes = [hashlib.sha256(k.to_bytes(8, "little")).digest() for k in range(64)]
(HERE / "split.txt").write_text("".join(split(h, 999, 0.3, 0.3) for h in hashes) + "\n")

with open(HERE / "order.txt", "w") as file:
    for n, seed, epoch in [(7, 999, 0), (7, 999, 1), (40, 2**63 + 5, 2**33)]:
        places = " ".join(f"{index}{'f' if flip else ''}" for index, flip in epoch_order(n, seed, epoch))
        file.write(f"{n} {seed} {epoch}: {places}\n")
