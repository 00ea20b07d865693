"""Makes grid.png beside this file: what torchvision draws, for the test in ../grid.rs.

Run with `pip install torch torchvision`: python make_grid.py (made with torchvision 0.29)
Value i of the batch is ((37 · i) mod 300) / 127.5 − 1.1, so some lie outside [-1, 1].
"""

import pathlib

import torch
from torchvision.utils import save_image

SHAPE = (7, 3, 5, 4)

i = torch.arange(torch.Size(SHAPE).numel(), dtype=torch.int64)
images = ((37 * i % 300).to(torch.float32) / 127.5 - 1.1).reshape(SHAPE)
save_image((images + 1) / 2, pathlib.Path(__file__).with_name("grid.png"), nrow=3)
