"""Makes the checkpoints beside this file, on which the readers are tested.

Run with PyTorch and NumPy (`pip install torch numpy`): python make_fixtures.py
The files were made with PyTorch 2.15. Every tensor that a test reads holds numbers that the test
can write down, so the files are small and need no expected values of their own.
"""

import argparse
import collections
import enum
import os
import pathlib
import pickle
import zipfile

import numpy
import torch

HERE = pathlib.Path(__file__).parent


class Schedule(enum.Enum):
    COSINE = "cosine"


class AttributeDict(dict):
    """As Lightning's: a dictionary of its own class."""


class Marked(torch.Tensor):
    """A tensor of its own class."""


class Callback:
    """Something of a training program that a reader cannot know."""

    def __init__(self):
        self.best = torch.tensor([0.5])
        self.itself = self


class Evil:
    """Python's own reader would run this command."""

    def __reduce__(self):
        return os.system, ("touch pwned-by-a-checkpoint",)


def lightning():
    """A Lightning checkpoint with views, shared storages, and much that is no tensor."""
    counted = torch.arange(24, dtype=torch.float32)
    state = collections.OrderedDict()
    state["unet.contiguous"] = counted.reshape(4, 6)
    state["unet.transposed"] = counted.reshape(4, 6).t()
    state["unet.cut"] = counted.reshape(2, 3, 4)[:, 1:, ::2]
    state["unet.expanded"] = torch.tensor([[1.0], [2.0]]).expand(2, 3)
    state["unet.scalar"] = torch.tensor(7.0)
    state["unet.empty"] = torch.zeros(0, 5)
    state["unet.subclass"] = torch.full((2,), 4.0).as_subclass(Marked)
    state["unet.parameter"] = torch.nn.Parameter(torch.full((2,), 3.0))
    for dtype in [torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32,
                  torch.int16, torch.int8, torch.uint8, torch.uint16]:
        state["unet." + str(dtype).removeprefix("torch.")] = torch.tensor([1, 2, 100]).to(dtype)
    state["unet.bool"] = torch.tensor([True, False])
    state["unet._extra_state"] = None
    state._metadata = {"": {"version": 1}}
    hyper_parameters = AttributeDict(
        image_size=(3, 64, 64), ch=64, ch_mult=[1, 2, 4, 4], attn=[2], dropout=0.1, lr=1e-4,
        numpy_lr=numpy.float64(0.25), numpy_ch=numpy.int64(32), dtype=torch.float32,
        size=torch.Size([3, 4]), schedule=Schedule.COSINE, path=pathlib.PurePosixPath("a/b"),
        namespace=argparse.Namespace(deep={"x": None}), big=2**80, minus=-1, huge=float("inf"),
        empty=AttributeDict(), flags={"b", "b"}, unicode="顔", callback=Callback(),
    )
    return {
        "epoch": 3, "global_step": 1234, "pytorch-lightning_version": "2.6.6",
        "state_dict": state, "callbacks": {"mine": Callback()}, "evil": Evil(),
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(2)}}}],
        "hyper_parameters": hyper_parameters,
    }


def rezip(source, target, change=lambda name, content: content, compression=zipfile.ZIP_STORED):
    """Copies an archive, with another compression or other contents (None drops an entry)."""
    with zipfile.ZipFile(HERE / source) as old, zipfile.ZipFile(HERE / target, "w") as new:
        for name in old.namelist():
            content = change(name, old.read(name))
            if content is not None:
                new.writestr(zipfile.ZipInfo(name), content, compression)


def replace(entry, content):
    return lambda name, old: content if name.endswith(entry) else old


def main():
    torch.save(lightning(), HERE / "lightning.ckpt")
    torch.save(lightning(), HERE / "lightning_protocol4.ckpt", pickle_protocol=4)
    rezip("lightning.ckpt", "lightning_deflated.ckpt", compression=zipfile.ZIP_DEFLATED)
    torch.save({"a.weight": torch.ones(2, 2), "a.bias": torch.zeros(2)}, HERE / "state_dict.pt")
    torch.save({"model": {"w": torch.ones(3)}, "epoch": 7}, HERE / "nested.pt")
    torch.save({"model": {"w": torch.ones(3)}, "ema": {"w": torch.ones(3)}}, HERE / "two.pt")
    torch.save(torch.nn.Linear(2, 2), HERE / "module.pt")
    torch.save({"w": torch.ones(2)}, HERE / "legacy.pt", _use_new_zipfile_serialization=False)
    torch.save({"w": torch.ones(2, dtype=torch.complex64)}, HERE / "complex.pt")
    torch.save(Evil(), HERE / "evil.pt")

    # Hostile ones: a storage shorter than declared, absent, of the other byte order; a view that
    # reaches beyond its storage, or is larger than memory.
    rezip("state_dict.pt", "short_storage.pt", replace("data/0", b"\0" * 8))
    rezip("state_dict.pt", "no_storage.pt", replace("data/1", None))
    rezip("state_dict.pt", "big_endian.pt", replace("byteorder", b"big"))
    with zipfile.ZipFile(HERE / "state_dict.pt") as archive:
        pickled = archive.read("state_dict/data.pkl")
    # The shape (2, 2) of `a.weight`: two BININT1 2 and TUPLE2.
    shape = b"K\x02K\x02\x86"
    assert shape in pickled
    reaching = pickled.replace(shape, b"K\x02K\x63\x86", 1)
    rezip("state_dict.pt", "reaching.pt", replace("data.pkl", reaching))
    billion = b"\x8a\x05" + (10**9).to_bytes(5, "little")
    overflowing = pickled.replace(shape, billion + b"\x8a\x08" + b"\xff" * 7 + b"\x7f\x86", 1)
    rezip("state_dict.pt", "overflowing.pt", replace("data.pkl", overflowing))
    # A storage of one value, expanded to 10^9 × 99.
    expanded = {"w": torch.ones(1).expand(10**9, 99)}
    torch.save(expanded, HERE / "expanded_bomb.pt")
    # Lists of lists, ten of each, twenty levels deep.
    laughs = "lol"
    for _ in range(20):
        laughs = [laughs] * 10
    torch.save({"state_dict": {"w": torch.ones(1)}, "hyper_parameters": {"lol": laughs}},
               HERE / "billion_laughs.ckpt")


if __name__ == "__main__":
    main()
