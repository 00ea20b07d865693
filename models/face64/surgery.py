"""What was done to the weights between the stages of face64's training (see README.md here).

    python surgery.py widen IN OUT           the first level from 32 to 64 channels
    python surgery.py excise IN OUT FACES    a spot of huge activations removed, 8 groups a normalization
    python surgery.py deepen IN OUT          two residual blocks a level instead of one

and for the second generation:

    python surgery.py broaden IN OUT         the second level from 64 to 128 channels
    python surgery.py detail IN OUT          layers at full resolution behind the patches
    python surgery.py wake IN OUT            faint vectors of tags get random names besides
    python surgery.py louder IN OUT LENGTH   vectors of tags that are shorter made so long
    python surgery.py modulate IN OUT FACES LENGTH    time and tags scale and shift behind the second
                                             normalization of a block, where they were added before
                                             it; the vectors of tags get this length
    python surgery.py guided IN OUT SCALE BELOW STEPS    the model says by itself that the built-in guide
                                             guides it, below which noise level, and in how many steps

IN and OUT are Kao's model files; FACES is a folder of drawn faces. The first two, `broaden`, `wake`,
`louder` and `modulate` leave a network that is near what it was, not equal to it: some hundred steps of training heal
the rest.
The others leave its function as it was. Needs numpy, torch, safetensors and pillow.
"""

import json
import struct
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))
import unet  # noqa: E402

OLD_WIDTH, WIDTH = 32, 64
N_TIMESTEPS = 1000
NORM_GROUPS = 8
N_FACES = 96
# Where the spot lay, by the side of the feature map.
SPOT = {32: (18, 20), 16: (9, 10), 8: (4, 5)}
TABLE, LINEAR = "time_embedding.time_embedding.0.weight", "time_embedding.time_embedding."


def read(path):
    """Tensors in the file's order, and the metadata."""
    data = Path(path).read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__")
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        dtype = {"F32": np.float32, "F16": np.float16}[entry["dtype"]]
        values = np.frombuffer(data[8 + length :][begin:end], dtype=dtype)
        tensors[name] = values.reshape(entry["shape"]).astype(np.float32)
    return tensors, metadata


def write(path, tensors, metadata):
    header, offset = {"__metadata__": metadata}, 0
    for name, values in tensors.items():
        end = offset + 4 * values.size
        header[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": [offset, end]}
        offset = end
    words = json.dumps(header).encode()
    words += b" " * (-len(words) % 8)
    body = b"".join(np.ascontiguousarray(v, dtype=np.float32).tobytes() for v in tensors.values())
    Path(path).write_bytes(struct.pack("<Q", len(words)) + words + body)


def replaced(metadata, before, after):
    assert any(before in text for text in metadata.values()), f"no {before} in the metadata"
    return {key: text.replace(before, after) for key, text in metadata.items()}


def widen(source, target):
    """Every channel of the first level twice, what reads it splitting its weights at random between
    the two (Chen et al. 2016, "Net2Net"): the same function, but for the normalizations that see
    old and doubled channels together, and the time embedding, which is fitted."""
    tensors, metadata = read(source)
    new, random = dict(tensors), np.random.default_rng(1)

    def doubled(values, first=0, end=None):
        return np.concatenate([values[:first], np.repeat(values[first:end], 2), values[end:]] if end else
                              [values[:first], np.repeat(values[first:], 2, axis=0)])

    def shared(weight, first=0, end=None):
        end = weight.shape[1] if end is None else end
        part = weight[:, first:end]
        share = random.uniform(0.25, 0.75, size=part.shape).astype(np.float32)
        both = np.repeat(part, 2, axis=1)
        both[:, 0::2], both[:, 1::2] = part * share, part * (1 - share)
        return np.concatenate([weight[:, :first], both, weight[:, end:]], axis=1)

    def widen_inputs(block, first, end):
        for kind in ("weight", "bias"):
            name = f"{block}.block1.0.{kind}"
            new[name] = doubled(new[name], first, end)
        for layer in ("block1.2", "shortcut"):
            if f"{block}.{layer}.weight" in new:
                new[f"{block}.{layer}.weight"] = shared(new[f"{block}.{layer}.weight"], first, end)

    def widen_outputs(block):
        for layer in ("block1.2", "block2.3", "temb_proj.1", "shortcut"):
            for kind in ("weight", "bias"):
                if f"{block}.{layer}.{kind}" in new:
                    new[f"{block}.{layer}.{kind}"] = doubled(new[f"{block}.{layer}.{kind}"])
        for kind in ("weight", "bias"):
            new[f"{block}.block2.0.{kind}"] = doubled(new[f"{block}.block2.0.{kind}"])
        new[f"{block}.block2.3.weight"] = shared(new[f"{block}.block2.3.weight"])

    # The time embedding's table has other frequencies: the first layer is fitted to its outputs.
    table = unet.sinusoidal_table(N_TIMESTEPS, WIDTH).double().numpy()
    before = tensors[TABLE].astype(np.float64) @ tensors[LINEAR + "1.weight"].T + tensors[LINEAR + "1.bias"]
    rows = np.concatenate([table, np.ones((N_TIMESTEPS, 1))], axis=1)
    fitted = np.linalg.solve(rows.T @ rows + 1e-3 * np.eye(WIDTH + 1), rows.T @ before)
    new[TABLE] = table.astype(np.float32)
    new[LINEAR + "1.weight"] = doubled(fitted[:WIDTH].T.astype(np.float32))
    new[LINEAR + "1.bias"] = doubled(fitted[WIDTH].astype(np.float32))
    new[LINEAR + "3.weight"] = shared(doubled(new[LINEAR + "3.weight"]))
    new[LINEAR + "3.bias"] = doubled(new[LINEAR + "3.bias"])
    for name in tensors:
        if name.endswith("temb_proj.1.weight"):
            new[name] = shared(new[name])

    for name in ("head", "downblocks.1.net"):
        new[f"{name}.weight"] = doubled(new[f"{name}.weight"])
        new[f"{name}.bias"] = doubled(new[f"{name}.bias"])
    new["downblocks.1.net.weight"] = shared(new["downblocks.1.net.weight"])
    widen_outputs("downblocks.0")
    widen_inputs("downblocks.0", 0, 32)
    widen_inputs("downblocks.2", 0, 32)
    # Beside 64 channels from below, those of the skip.
    widen_inputs("upblocks.4", 64, 96)
    widen_outputs("upblocks.6")
    widen_inputs("upblocks.6", 64, 96)
    widen_outputs("upblocks.7")
    widen_inputs("upblocks.7", 0, 64)
    for kind in ("weight", "bias"):
        new[f"tail.0.{kind}"] = doubled(new[f"tail.0.{kind}"])
    new["tail.2.weight"] = shared(new["tail.2.weight"])
    metadata = replaced(metadata, '"ch":32,"ch_mult":[1,2,4]', '"ch":64,"ch_mult":[1,1,2]')
    write(target, new, metadata)


def widened(num_res_blocks):
    """The architecture from stage 4 on."""
    return unet.UNetConfig(
        image_size=(12, 32, 32), ch=WIDTH, ch_mult=(1, 1, 2), attn=(1, 2), num_res_blocks=num_res_blocks,
        dropout=0.0, activation="silu",
    )


class Found(Exception):
    """Ends a forward pass at the layer that is looked at."""


def excise(source, target, faces):
    """Layer by layer, on noised faces: a normalization in 8 groups is fitted to what it gave in 32,
    away from the spot; and a block of the way up that still has the spot loses the directions it
    lies in."""
    torch.manual_seed(0)
    tensors, metadata = read(source)
    state = {name: torch.from_numpy(values) for name, values in tensors.items()}
    config = widened(num_res_blocks=1)
    old, new = unet.UNet(config).eval(), unet.UNet(config).eval()
    old.load_state_dict(state)
    new.load_state_dict(state)
    layers = dict(new.named_modules())
    norms = {name for name, layer in layers.items() if isinstance(layer, torch.nn.GroupNorm)}
    for name in norms:
        layers[name].num_groups = NORM_GROUPS

    pictures = [Image.open(path).convert("RGB") for path in sorted(Path(faces).rglob("*.png"))[:N_FACES]]
    x_0 = torch.tensor(np.stack([np.asarray(p, dtype=np.float32) / 127.5 - 1 for p in pictures]))
    x_0 = x_0.permute(0, 3, 1, 2)
    sigma = torch.linspace(0.02 ** (1 / 7), 80 ** (1 / 7), N_TIMESTEPS, dtype=torch.float64) ** 7
    alpha_bars = (1 / (1 + sigma**2)).float()
    levels = torch.cos((torch.arange(len(x_0)) + 0.5) / len(x_0) * torch.pi / 2) ** 2
    t = torch.tensor([min(int((alpha_bars > level).sum()), N_TIMESTEPS - 1) for level in levels])
    alpha_bar = alpha_bars[t].view(-1, 1, 1, 1)
    x_t = alpha_bar.sqrt() * x_0 + (1 - alpha_bar).sqrt() * torch.randn_like(x_0)
    x_t = torch.nn.functional.pixel_unshuffle(x_t, 2)

    order, outputs = [], {}
    blocks = (unet.ResidualBlock, unet.Upsample)

    def keep(name):
        def hook(_layer, _inputs, output):
            outputs[name] = output
            if name in norms:
                order.append(name)

        return hook

    for name, layer in old.named_modules():
        if name in norms or isinstance(layer, blocks):
            layer.register_forward_hook(keep(name))
    with torch.no_grad():
        old(x_t, t)

    def look(name):
        seen = {}

        def hook(_layer, inputs, output):
            seen.update(input=inputs[0], output=output)
            raise Found

        handle = layers[name].register_forward_hook(hook)
        try:
            with torch.no_grad():
                new(x_t, t)
        except Found:
            pass
        handle.remove()
        return seen

    def elsewhere(side):
        mask, (y, x), reach = torch.ones(side, side, dtype=torch.bool), SPOT[side], side // 8
        mask[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1] = False
        return mask

    def calibrate(name):
        x = look(name)["input"]
        mask = elsewhere(x.shape[2])
        flat = lambda values: values[:, :, mask].transpose(0, 1).flatten(1)  # noqa: E731
        here = flat(torch.nn.functional.group_norm(x, NORM_GROUPS, eps=1e-5))
        there = flat(outputs[name])
        mean_here, mean_there = here.mean(1, keepdim=True), there.mean(1, keepdim=True)
        covariance = ((here - mean_here) * (there - mean_there)).mean(1)
        gamma = covariance / (here.var(1, unbiased=False) + 1e-4)
        layers[name].weight.data = gamma
        layers[name].bias.data = mean_there[:, 0] - gamma * mean_here[:, 0]

    def remove_spot(name):
        block = layers[name]
        if isinstance(block, unet.Upsample):
            writers = [block.net]
        else:
            writers = [block.block2[3]]
            writers += [] if isinstance(block.shortcut, torch.nn.Identity) else [block.shortcut]
            writers += [] if isinstance(block.attn, torch.nn.Identity) else [block.attn.proj]
        for _ in range(4):
            output = look(name)["output"]
            mask, (y, x) = elsewhere(output.shape[2]), SPOT[output.shape[2]]
            usual = output[:, :, mask].mean(2)[:, :, None, None]
            spot = (output - usual)[:, :, y - 2 : y + 3, x - 2 : x + 3].permute(0, 2, 3, 1).flatten(0, 2)
            energy = spot.pow(2).sum(1)
            spot = spot[energy > energy.quantile(0.8)]
            _, strengths, directions = torch.linalg.svd(spot, full_matrices=False)
            if strengths[0] / len(spot) ** 0.5 < 4.5 * output[:, :, mask].std():
                return
            direction = directions[0]
            project = torch.eye(len(direction)) - torch.outer(direction, direction)
            for writer in writers:
                writer.weight.data = torch.einsum("oi,ijkl->ojkl", project, writer.weight.data)
                writer.bias.data = project @ writer.bias.data
            # The mean of what is taken away stays.
            writers[0].bias.data += direction * (outputs[name][:, :, mask].mean((0, 2)) @ direction)

    waiting = [f"upblocks.{i}" for i in range(2, 8)]
    for name in order:
        # A block ends where another's normalization begins.
        while waiting and (name.startswith("tail") or name.startswith("upblocks")
                           and int(name.split(".")[1]) > int(waiting[0].split(".")[1])):
            remove_spot(waiting.pop(0))
        calibrate(name)
    activation = '"activation":"silu"'
    metadata = replaced(metadata, activation, f'{activation},"norm_groups":{NORM_GROUPS}')
    write(target, {name: new.state_dict()[name].numpy() for name in tensors}, metadata)


def deepen(source, target):
    """A second residual block behind the first of every level, on both ways. Its last convolution and
    the projection of its attention are zero and its shortcut passes on what comes from below, so that
    it does nothing until it is trained; its other weights are fresh."""
    torch.manual_seed(0)
    tensors, metadata = read(source)
    config = widened(num_res_blocks=2)
    new = {name: values.numpy().copy() for name, values in unet.UNet(config).state_dict().items()}
    # Where the blocks of a level and its change of size stand now, by where they stood.
    moved = {"downblocks": [0, 2, 3, 5, 6], "upblocks": [0, 2, 3, 4, 6, 7, 8, 10]}
    kept = set()
    for name, values in tensors.items():
        path = name.split(".")
        if path[0] in moved:
            path[1] = str(moved[path[0]][int(path[1])])
        name = ".".join(path)
        assert new[name].shape == values.shape, name
        new[name] = values
        kept.add(name)
    for name in new.keys() - kept:
        if ".block2.3." in name or ".attn.proj." in name or name.endswith(".shortcut.bias"):
            new[name][:] = 0
        elif name.endswith(".shortcut.weight"):
            outputs, inputs = new[name].shape[:2]
            new[name][:] = np.eye(outputs, inputs, dtype=np.float32)[:, :, None, None]
    metadata = replaced(metadata, '"num_res_blocks":1', '"num_res_blocks":2')
    write(target, new, metadata)


def broaden(source, target):
    """Every channel of the second level twice, as in `widen`. The first block of the third level gets as
    many channels as it gives, so what its shortcut did moves into the convolution before it, and its
    other branch and what reads that convolution's output on the way up begin anew."""
    tensors, metadata = read(source)
    new, random = dict(tensors), np.random.default_rng(1)

    def doubled(values, first=0, end=None):
        end = len(values) if end is None else end
        return np.concatenate([values[:first], np.repeat(values[first:end], 2, axis=0), values[end:]])

    def shared(weight, first=0, end=None):
        end = weight.shape[1] if end is None else end
        part = weight[:, first:end]
        share = random.uniform(0.3, 0.7, size=part.shape).astype(np.float32)
        both = np.repeat(part, 2, axis=1)
        both[:, 0::2], both[:, 1::2] = part * share, part * (1 - share)
        return np.concatenate([weight[:, :first], both, weight[:, end:]], axis=1)

    def double(name, kinds=("weight", "bias")):
        for kind in kinds:
            new[f"{name}.{kind}"] = doubled(new[f"{name}.{kind}"])

    def widen_outputs(block, has_shortcut):
        layers = ["block1.2", "block2.3", "temb_proj.1", "block2.0"] + ["shortcut"] * has_shortcut
        for layer in layers:
            double(f"{block}.{layer}")
        new[f"{block}.block2.3.weight"] = shared(new[f"{block}.block2.3.weight"])
        double(f"{block}.attn.norm")
        for layer in ("proj_q", "proj_k", "proj_v", "proj"):
            name = f"{block}.attn.{layer}"
            new[f"{name}.weight"] = shared(doubled(new[f"{name}.weight"]))
            new[f"{name}.bias"] = doubled(new[f"{name}.bias"])
        # Twice the products, and a scale of one over the root of twice the channels.
        for kind in ("weight", "bias"):
            new[f"{block}.attn.proj_q.{kind}"] = new[f"{block}.attn.proj_q.{kind}"] / np.float32(2**0.5)

    def widen_inputs(block, *ranges):
        for first, end in sorted(ranges, reverse=True):
            for kind in ("weight", "bias"):
                name = f"{block}.block1.0.{kind}"
                new[name] = doubled(new[name], first, end)
            for layer in ("block1.2", "shortcut"):
                if f"{block}.{layer}.weight" in new:
                    new[f"{block}.{layer}.weight"] = shared(new[f"{block}.{layer}.weight"], first, end)

    def fresh(scale=1.0):
        bound = scale / np.sqrt(9 * 128)
        return random.uniform(-bound, bound, (128, 128, 3, 3)).astype(np.float32)

    widen_outputs("downblocks.3", has_shortcut=False)
    new["downblocks.3.shortcut.weight"] = np.repeat(np.eye(64, dtype=np.float32), 2, axis=0)[:, :, None, None]
    new["downblocks.3.shortcut.bias"] = np.zeros(128, np.float32)
    widen_inputs("downblocks.4", (0, 64))
    widen_outputs("downblocks.4", has_shortcut=False)

    around = tensors["downblocks.6.shortcut.weight"][:, :, 0, 0]
    offset = tensors["downblocks.6.shortcut.bias"]
    moved = np.einsum("oi,ijkl->ojkl", around, tensors["downblocks.5.net.weight"])
    new["downblocks.5.net.weight"] = shared(moved)
    new["downblocks.5.net.bias"] = around @ tensors["downblocks.5.net.bias"] + offset
    del new["downblocks.6.shortcut.weight"], new["downblocks.6.shortcut.bias"]
    new["downblocks.6.block1.0.weight"] = np.ones(128, np.float32)
    new["downblocks.6.block1.0.bias"] = np.zeros(128, np.float32)
    new["downblocks.6.block1.2.weight"] = fresh()
    new["downblocks.6.block2.3.weight"] = np.zeros((128, 128, 3, 3), np.float32)

    for kind, value in (("weight", 1.0), ("bias", 0.0)):
        name = f"upblocks.2.block1.0.{kind}"
        new[name] = np.concatenate([tensors[name][:128], np.full(128, value, np.float32)])
    first = tensors["upblocks.2.block1.2.weight"][:, :128]
    new["upblocks.2.block1.2.weight"] = np.concatenate([first, fresh(0.3)], axis=1)
    shortcut = tensors["upblocks.2.shortcut.weight"][:, :, 0, 0]
    back = shortcut[:, 128:] @ np.linalg.pinv(around)
    new["upblocks.2.shortcut.weight"] = np.concatenate([shortcut[:, :128], back], axis=1)[:, :, None, None]
    new["upblocks.2.shortcut.bias"] = tensors["upblocks.2.shortcut.bias"] - back @ offset

    for block, ranges in (("4", [(128, 192)]), ("5", [(0, 64), (64, 128)]), ("6", [(0, 64)])):
        widen_inputs(f"upblocks.{block}", *ranges)
        widen_outputs(f"upblocks.{block}", has_shortcut=True)
    new["upblocks.7.net.weight"] = shared(doubled(new["upblocks.7.net.weight"]))
    new["upblocks.7.net.bias"] = doubled(new["upblocks.7.net.bias"])
    widen_inputs("upblocks.8", (0, 64))
    write(target, new, replaced(metadata, '"ch_mult":[1,1,2]', '"ch_mult":[1,2,2]'))


def detail(source, target, width=32):
    """Layers at full resolution of `width` channels. The last of them is zero."""
    tensors, metadata = read(source)
    random, features = np.random.default_rng(2), width // 4

    def uniform(shape, fan_in):
        bound = 1 / np.sqrt(fan_in)
        return random.uniform(-bound, bound, shape).astype(np.float32)

    # As many more features for each pixel of a patch.
    more = uniform((4 * features, WIDTH, 3, 3), 9 * WIDTH)
    tensors["tail.2.weight"] = np.concatenate([tensors["tail.2.weight"], more])
    tensors["tail.2.bias"] = np.concatenate([tensors["tail.2.bias"], np.zeros(4 * features, np.float32)])
    inputs = 3 + features + 3
    tensors["detail.0.weight"] = uniform((width, inputs, 3, 3), 9 * inputs)
    tensors["detail.0.bias"] = uniform(width, 9 * inputs)
    tensors["detail.1.weight"], tensors["detail.1.bias"] = np.ones(width, np.float32), np.zeros(width, np.float32)
    tensors["detail.3.weight"], tensors["detail.3.bias"] = np.zeros((3, width, 3, 3), np.float32), np.zeros(3, np.float32)
    groups = f'"norm_groups":{NORM_GROUPS}'
    write(target, tensors, replaced(metadata, groups, f'{groups},"detail_channels":{width}'))


def wake(source, target, shortest=1.2, share=0.9):
    """Vectors of tags that are shorter than `shortest`: their direction, and as much of a random one,
    each of length `share`. A vector that began at zero grows as slowly as the network learns to hear
    it; a random one is a name that can be heard at once."""
    tensors, metadata = read(source)
    vectors = tensors["tag_embedding.weight"]
    lengths = np.linalg.norm(vectors, axis=0)
    faint = lengths < shortest
    names = np.random.default_rng(3).normal(size=vectors.shape).astype(np.float32)
    names /= np.linalg.norm(names, axis=0)
    directions = vectors[:, faint] / np.maximum(lengths[faint], 1e-12)
    vectors[:, faint] = share * directions + share * names[:, faint]
    write(target, tensors, metadata)


def louder(source, target, length):
    """Vectors of tags that are shorter than `length`, as long as that: what an update of the layers
    that hear a tag changes in its images is proportional to the length of its vector."""
    tensors, metadata = read(source)
    vectors = tensors["tag_embedding.weight"]
    lengths = np.linalg.norm(vectors, axis=0)
    tensors["tag_embedding.weight"] = vectors * np.maximum(1, float(length) / np.maximum(lengths, 1e-12))
    write(target, tensors, metadata)


def modulate(source, target, faces, length, n_faces=1536, ridge=1e-3):
    """A row that was added before a normalization changes its statistics, and what is normalized then
    differs from what it would be without by a scale and a shift. Both are fitted, block after block
    and channel by channel, as functions of the time embedding with its tags. What they are functions
    of may as well be a time embedding with longer vectors of tags (see `louder`)."""
    torch.manual_seed(0)
    tensors, metadata = read(source)
    config = json.loads(metadata["kao"])
    vocabulary = {entry["tag"]: index for index, entry in enumerate(config["tags"])}
    with open(Path(faces) / "metadata.jsonl", encoding="utf-8") as lines:
        entries = [json.loads(line) for line, _ in zip(lines, range(n_faces))]
    tags = torch.zeros(n_faces, len(vocabulary))
    pictures = []
    for row, entry in zip(tags, entries):
        row[[vocabulary[tag] for tag in entry["tags"]]] = 1
        pictures.append(np.asarray(Image.open(Path(faces) / entry["file_name"]).convert("RGB"), dtype=np.float32))
    tags[::10] = 0
    x_0 = torch.tensor(np.stack(pictures) / 127.5 - 1).permute(0, 3, 1, 2)
    sigma = torch.linspace(0.02 ** (1 / 7), 80 ** (1 / 7), N_TIMESTEPS, dtype=torch.float64) ** 7
    alpha_bars = (1 / (1 + sigma**2)).float()
    t = torch.randint(0, N_TIMESTEPS, (n_faces,))
    alpha_bar = alpha_bars[t].view(-1, 1, 1, 1)
    x_t = alpha_bar.sqrt() * x_0 + (1 - alpha_bar).sqrt() * torch.randn_like(x_0)

    network = unet.UNet(unet.UNetConfig(
        patch_size=2, ch_mult=(1, 2, 2), attn=(1, 2), activation="silu", norm_groups=NORM_GROUPS
    )).eval()
    ends = ("tail.2", "detail", "tag_embedding")
    state = {name: torch.from_numpy(v) for name, v in tensors.items() if not name.startswith(ends)}
    network.load_state_dict(state, strict=False)
    vectors, bias = (torch.from_numpy(tensors[f"tag_embedding.{kind}"]) for kind in ("weight", "bias"))
    longer = vectors * (float(length) / vectors.norm(dim=0)).clamp(min=1)
    times = network.time_embedding(t).detach()
    lengths = times.norm(dim=1).mean(), (tags @ longer.T).norm(dim=1).mean()
    print(f"time embeddings are {lengths[0]:.1f} long, tags of a face {lengths[1]:.1f}")
    heard = torch.nn.functional.silu(times + tags @ longer.T + bias)
    before = torch.nn.functional.silu(times + tags @ vectors.T + bias)
    rows = torch.cat([heard, torch.ones(n_faces, 1)], 1).double()

    seen = {}

    def summary(name, values):
        """Deviations of the groups."""
        groups = values.reshape(len(values), NORM_GROUPS, -1)
        seen.setdefault(name, []).append(groups.var(2, unbiased=False).add(1e-5).sqrt())

    for name, block in network.named_modules():
        if isinstance(block, unet.ResidualBlock):
            block.block1.register_forward_hook(lambda _l, _i, output, name=name: summary(name + " bare", output))
            block.block2[0].register_forward_hook(lambda _l, inputs, _o, name=name: summary(name, inputs[0]))
    network.time_embedding.register_forward_hook(lambda _l, _i, output: output + part_tags @ vectors.T + bias)
    with torch.no_grad():
        for part in range(0, n_faces, 128):
            part_tags = tags[part : part + 128]
            network(x_t[part : part + 128], t[part : part + 128])
    for name, block in network.named_modules():
        if not isinstance(block, unet.ResidualBlock):
            continue
        bare, whole = (torch.cat(seen[key]) for key in (name + " bare", name))
        linear, norm = block.temb_proj[1], block.block2[0]
        gamma, beta = norm.weight.detach(), norm.bias.detach()
        width = len(gamma) // NORM_GROUPS
        added = (before @ linear.weight.T + linear.bias).detach()
        groups = added.reshape(n_faces, NORM_GROUPS, -1)
        centred = groups - groups.mean(2, keepdim=True)
        scale = (bare / whole - 1).repeat_interleave(width, 1)
        shift = gamma * centred.flatten(1) / whole.repeat_interleave(width, 1) - beta * scale
        wanted = torch.cat([scale, shift], 1).double()
        fitted = torch.linalg.solve(rows.T @ rows + ridge * n_faces * torch.eye(rows.shape[1]), rows.T @ wanted)
        left = (rows @ fitted - wanted).pow(2).mean(0) / wanted.var(0).clamp(min=1e-12)
        left = left[: len(gamma)].mean(), left[len(gamma) :].mean()
        print(f"{name}: {left[0]:.3f} of the variance of scales left, {left[1]:.3f} of that of shifts")
        tensors[f"{name}.temb_proj.1.weight"] = fitted[:-1].T.float().numpy()
        tensors[f"{name}.temb_proj.1.bias"] = fitted[-1].float().numpy()
    tensors["tag_embedding.weight"] = longer.numpy()
    config["unet"]["resnet_time_scale_shift"] = "scale_shift"
    metadata["kao"] = json.dumps(config, separators=(",", ":"))
    write(target, tensors, metadata)


def guided(source, target, scale, below, steps):
    """Says in the metadata how the model is sampled where nobody says otherwise."""
    tensors, metadata = read(source)
    config = json.loads(metadata["kao"])
    guide = {"model": "built-in-guide", "guidance": float(scale), "below": float(below)}
    config["sampling"] = {**config.get("sampling", {}), "steps": int(steps), "guide": guide}
    metadata["kao"] = json.dumps(config, separators=(",", ":"))
    write(target, tensors, metadata)


if __name__ == "__main__":
    commands = {
        "widen": (widen, 2),
        "excise": (excise, 3),
        "deepen": (deepen, 2),
        "broaden": (broaden, 2),
        "detail": (detail, 2),
        "wake": (wake, 2),
        "louder": (louder, 3),
        "modulate": (modulate, 4),
        "guided": (guided, 5),
    }
    command, count = commands.get(sys.argv[1] if len(sys.argv) > 1 else "", (None, 0))
    if command is None or len(sys.argv) != 2 + count:
        sys.exit(__doc__)
    command(*sys.argv[2:])
