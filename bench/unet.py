"""The noise-prediction UNet in PyTorch: the peer that Kao is measured against and the oracle of its golden values.

Parameter names are those of the Lightning checkpoints without the `unet.` prefix.

    python unet.py                          count the parameters of the default network
    python unet.py --check REFERENCE_DIR    compare with the stored arrays of the original program
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ACTIVATIONS: dict[str, type[nn.Module]] = {"hardswish": nn.Hardswish, "silu": nn.SiLU}
DEFAULT_PARAMETERS = 25_368_963
TOLERANCE = 1e-4


@dataclasses.dataclass(frozen=True)
class UNetConfig:
    """Names as in a checkpoint's `hyper_parameters`; `attn` lists the levels that carry attention.

    `patch_size` and `norm_groups` are Kao's own: the original has neither, which the defaults stand for.
    """

    image_size: tuple[int, int, int] = (3, 64, 64)
    num_steps: int = 1000
    patch_size: int = 1
    ch: int = 64
    ch_mult: tuple[int, ...] = (1, 2, 4, 4)
    attn: tuple[int, ...] = (2,)
    num_res_blocks: int = 2
    dropout: float = 0.1
    activation: str = "hardswish"
    norm_groups: int = 32

    @classmethod
    def from_hyper_parameters(cls, hyper_parameters: dict[str, Any]) -> UNetConfig:
        """Takes what describes the network and leaves the rest (learning rate, diffusion, …)."""
        names = {field.name for field in dataclasses.fields(cls)} & hyper_parameters.keys()
        return cls.from_kao({name: hyper_parameters[name] for name in names})

    @classmethod
    def from_kao(cls, unet: dict[str, Any]) -> UNetConfig:
        """Takes the `unet` entry of a Kao model's configuration, in which nothing may be unknown."""
        unknown = unet.keys() - {field.name for field in dataclasses.fields(cls)}
        if unknown:
            raise ValueError(f"Kao's network has {', '.join(sorted(unknown))}, which this one does not know")
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in unet.items()})


def group_norm(channels: int, config: UNetConfig) -> nn.GroupNorm:
    return nn.GroupNorm(config.norm_groups, channels, eps=1e-5)


def conv3x3(c_in: int, c_out: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, 3, stride=stride, padding=1)


def sinusoidal_table(num_steps: int, ch: int) -> Tensor:
    """[num_steps, ch]: row t is [sin(t·f), cos(t·f)] with f_k = exp(-k·ln(10000)/(ch/2 - 1))."""
    half = ch // 2
    frequencies = torch.exp(torch.arange(half) * -(math.log(10000.0) / (half - 1)))
    angles = torch.arange(num_steps)[:, None] * frequencies[None, :]
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class TimeEmbedding(nn.Module):
    """[N] time steps to [N, 4·ch]."""

    def __init__(self, config: UNetConfig, activation: type[nn.Module]) -> None:
        super().__init__()
        width = 4 * config.ch
        table = sinusoidal_table(config.num_steps, config.ch)
        self.time_embedding = nn.Sequential(
            nn.Embedding.from_pretrained(table, freeze=True),
            nn.Linear(config.ch, width),
            activation(),
            nn.Linear(width, width),
        )

    def forward(self, t: Tensor) -> Tensor:
        return self.time_embedding(t)


class Attention(nn.Module):
    """One head over all channels; every pixel attends to every pixel."""

    def __init__(self, channels: int, config: UNetConfig) -> None:
        super().__init__()
        self.norm = group_norm(channels, config)
        self.proj_q = nn.Conv2d(channels, channels, 1)
        self.proj_k = nn.Conv2d(channels, channels, 1)
        self.proj_v = nn.Conv2d(channels, channels, 1)
        self.proj = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        n, c, height, width = x.shape
        h = self.norm(x)
        q, k, v = (
            proj(h).permute(0, 2, 3, 1).reshape(n, 1, height * width, c)
            for proj in (self.proj_q, self.proj_k, self.proj_v)
        )
        h = F.scaled_dot_product_attention(q, k, v)
        return x + self.proj(h.reshape(n, height, width, c).permute(0, 3, 1, 2))


class ResidualBlock(nn.Module):
    def __init__(
        self, c_in: int, c_out: int, config: UNetConfig, activation: type[nn.Module], attention: bool
    ) -> None:
        super().__init__()
        self.block1 = nn.Sequential(group_norm(c_in, config), activation(), conv3x3(c_in, c_out))
        self.temb_proj = nn.Sequential(activation(), nn.Linear(4 * config.ch, c_out))
        self.block2 = nn.Sequential(
            group_norm(c_out, config), activation(), nn.Dropout(config.dropout), conv3x3(c_out, c_out)
        )
        self.shortcut = nn.Identity() if c_in == c_out else nn.Conv2d(c_in, c_out, 1)
        self.attn = Attention(c_out, config) if attention else nn.Identity()

    def forward(self, x: Tensor, temb: Tensor) -> Tensor:
        h = self.block1(x) + self.temb_proj(temb)[:, :, None, None]
        return self.attn(self.shortcut(x) + self.block2(h))


class Downsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.net = conv3x3(channels, channels, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Upsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.net = conv3x3(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class UNet(nn.Module):
    """Images [N, C, H, W] and time steps [N] to the predicted noise [N, C, H, W].

    With a `patch_size` p above 1, each patch of p × p pixels is one pixel of C·p² channels inside.
    """

    def __init__(self, config: UNetConfig = UNetConfig()) -> None:
        super().__init__()
        activation = ACTIVATIONS[config.activation]
        self.patch_size = config.patch_size
        image_channels = config.image_size[0] * config.patch_size**2
        levels = range(len(config.ch_mult))

        def block(c_in: int, c_out: int, attention: bool) -> ResidualBlock:
            return ResidualBlock(c_in, c_out, config, activation, attention)

        self.time_embedding = TimeEmbedding(config, activation)
        self.head = conv3x3(image_channels, config.ch)

        self.downblocks = nn.ModuleList()
        width = config.ch
        skip_widths = [width]
        for level in levels:
            for _ in range(config.num_res_blocks):
                level_width = config.ch * config.ch_mult[level]
                self.downblocks.append(block(width, level_width, level in config.attn))
                width = level_width
                skip_widths.append(width)
            if level != levels[-1]:
                self.downblocks.append(Downsample(width))
                skip_widths.append(width)

        self.middle_blocks = nn.ModuleList([block(width, width, True), block(width, width, False)])

        self.upblocks = nn.ModuleList()
        for level in reversed(levels):
            for _ in range(config.num_res_blocks + 1):
                level_width = config.ch * config.ch_mult[level]
                c_in = width + skip_widths.pop()
                self.upblocks.append(block(c_in, level_width, level in config.attn))
                width = level_width
            if level != 0:
                self.upblocks.append(Upsample(width))

        self.tail = nn.Sequential(group_norm(width, config), activation(), conv3x3(width, image_channels))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        temb = self.time_embedding(t)
        h = self.head(F.pixel_unshuffle(x, self.patch_size) if self.patch_size > 1 else x)
        skips = [h]
        for module in self.downblocks:
            h = module(h) if isinstance(module, Downsample) else module(h, temb)
            skips.append(h)
        for module in self.middle_blocks:
            h = module(h, temb)
        for module in self.upblocks:
            if isinstance(module, Upsample):
                h = module(h)
            else:
                h = module(torch.cat([h, skips.pop()], dim=1), temb)
        h = self.tail(h)
        return F.pixel_shuffle(h, self.patch_size) if self.patch_size > 1 else h


def count_parameters(model: nn.Module) -> int:
    """Trainable and fixed parameters alike: the embedding table counts."""
    return sum(parameter.numel() for parameter in model.parameters())


def alphas_cumprod(num_steps: int) -> Tensor:
    """ᾱ [num_steps] of the linear schedule, β from 1e-4 to 2e-2, in float32 like the original."""
    return torch.cumprod(1.0 - torch.linspace(1e-4, 2e-2, num_steps), dim=0)


def add_noise(x_0: Tensor, t: Tensor, noise: Tensor, num_steps: int) -> Tensor:
    """x_t = √ᾱ_t x_0 + √(1-ᾱ_t) ε."""
    alpha_bar_t = alphas_cumprod(num_steps)[t][:, None, None, None]
    return alpha_bar_t.sqrt() * x_0 + (1.0 - alpha_bar_t).sqrt() * noise


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """Largest difference, relative to the largest magnitude expected."""
    difference = (actual.double() - expected.double()).abs().max()
    return float(difference / expected.double().abs().max())


def load_checkpoint(path: Path) -> UNet:
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    model = UNet(UNetConfig.from_hyper_parameters(checkpoint["hyper_parameters"]))
    prefix = "unet."
    state = checkpoint["state_dict"].items()
    model.load_state_dict({k.removeprefix(prefix): v for k, v in state if k.startswith(prefix)})
    return model


def gradient_error(model: UNet, expected: dict[str, Tensor]) -> float:
    """Worst error over the parameters, each relative to its own largest magnitude.

    Some gradients are zero but for rounding (a bias just before a norm of one channel a group, the bias of
    the keys), so no magnitude counts as smaller than a thousandth of the largest of all.
    """
    gradients = {f"grad.unet.{name}": p.grad for name, p in model.named_parameters() if p.grad is not None}
    magnitude = {name: float(expected[name].abs().max()) for name in gradients}
    floor = 1e-3 * max(magnitude.values())
    return max(
        float((gradient - expected[name]).abs().max()) / max(magnitude[name], floor)
        for name, gradient in gradients.items()
    )


def check(reference: Path) -> bool:
    """Prints every comparison with the original program's arrays and says whether all hold."""
    from safetensors.torch import load_file

    model = load_checkpoint(reference / "tiny.ckpt").eval()
    walks = load_file(reference / "tiny.ddim.safetensors")
    training = load_file(reference / "tiny.train.safetensors")
    errors: dict[str, float] = {}

    with torch.no_grad():
        errors["eps"] = relative_error(model(walks["unet.x"], walks["unet.t"]), walks["unet.eps"])
    table = model.time_embedding.time_embedding[0].weight
    errors["time embedding table"] = relative_error(sinusoidal_table(*table.shape), table)
    num_steps = len(table)

    x_t = add_noise(training["x_0"], training["t"], training["noise"], num_steps)
    errors["x_t"] = relative_error(x_t, training["x_t"])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    losses = []
    for step in range(len(training["losses"])):
        optimizer.zero_grad()
        loss = F.mse_loss(model(training["x_t"], training["t"]), training["noise"])
        loss.backward()
        losses.append(loss.item())
        if step == 0:
            errors["gradients (worst)"] = gradient_error(model, training)
        optimizer.step()
    errors["losses of five Adam steps"] = relative_error(torch.tensor(losses), training["losses"])

    for name, error in errors.items():
        print(f"{name:28} max relative error {error:.2e}")
    return max(errors.values()) <= TOLERANCE


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", metavar="REFERENCE_DIR", type=Path)
    arguments = parser.parse_args()

    parameters = count_parameters(UNet())
    right = parameters == DEFAULT_PARAMETERS
    print(f"{'parameters':28} {parameters:,} (expected {DEFAULT_PARAMETERS:,})")
    if arguments.check is not None:
        right &= check(arguments.check)
        print("agrees" if right else f"does not agree within {TOLERANCE:g}")
    return 0 if right else 1


if __name__ == "__main__":
    raise SystemExit(main())
