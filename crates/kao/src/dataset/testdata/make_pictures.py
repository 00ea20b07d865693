"""Writes the pictures of this folder, with Pillow (13.0.0; `pip install pillow`).

cmyk.jpg, orientation.jpg, first_frame.{gif,png,webp}: files that the `image` crate cannot write.
resize_*.png: what Pillow makes of a pattern, against which `fit` is checked. The pattern and the
steps are those of torchvision on Pillow images: `Resize(side)` and `CenterCrop(side)` for crop,
`Resize((side, side))` for stretch, both bicubic; torchvision hands Pillow images to Pillow.
jpeg/*.jpg: Pillow's subsamplings and scans; those that it cannot write are made by `Recipe` in
decode/jpeg/tests.rs, which checks them. jpeg/*.png: what libjpeg-turbo (3.2.0, in Pillow) makes of
each. lossy.webp: of the kind that the tests cannot write.
"""

from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
QUADRANTS = [(220, 30, 40), (30, 200, 60), (40, 60, 210), (240, 230, 50)]


def quadrants(width, height, colours):
    """Top left, top right, bottom left, bottom right."""
    image = Image.new("RGB", (width, height))
    for k, colour in enumerate(colours):
        box = (width // 2 * (k % 2), height // 2 * (k // 2))
        image.paste(colour, (*box, box[0] + width // 2, box[1] + height // 2))
    return image


def pattern(width, height):
    """Smooth in places and full of fine detail in others; `pattern` in tests/fit.rs is its twin."""
    image = Image.new("RGB", (width, height))
    for y in range(height):
        for x in range(width):
            image.putpixel(
                (x, y), tuple((3 * x * x + 5 * y * y + 2 * x * y + 91 * c) // 16 % 256 for c in range(3))
            )
    return image


def stretch(image, side):
    return image.resize((side, side), Image.Resampling.BICUBIC)


def crop(image, side):
    width, height = image.size
    if width <= height:
        width, height = side, int(side * height / width)
    else:
        width, height = int(side * width / height), side
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = int(round((width - side) / 2.0)), int(round((height - side) / 2.0))
    return image.crop((left, top, left + side, top + side))


# CMYK without any conversion profile: each quadrant is one ink, or all of them lightly.
inks = [(200, 0, 0, 0), (0, 200, 0, 0), (0, 0, 200, 0), (40, 40, 40, 100)]
image = Image.new("CMYK", (32, 32))
for k, ink in enumerate(inks):
    image.paste(ink, (16 * (k % 2), 16 * (k // 2), 16 * (k % 2) + 16, 16 * (k // 2) + 16))
image.save(HERE / "cmyk.jpg", quality=95)

# Orientation 6; the test patches in the other values.
exif = Image.Exif()
exif[0x0112] = 6
quadrants(32, 16, QUADRANTS).save(HERE / "orientation.jpg", quality=95, subsampling=0, exif=exif)

# The first frame is red and has a transparent hole at the left, the second blue.
first = Image.new("RGBA", (24, 24), (255, 0, 0, 255))
first.paste((0, 0, 0, 0), (2, 8, 10, 16))
second = Image.new("RGBA", (24, 24), (0, 0, 255, 255))
for name, options in [("gif", {"disposal": 2}), ("png", {}), ("webp", {"lossless": True})]:
    first.save(
        HERE / f"first_frame.{name}", save_all=True, append_images=[second], duration=100, **options
    )

for width, height, side in [(97, 71, 32), (50, 203, 32), (21, 13, 32), (220, 220, 64)]:
    source = pattern(width, height)
    stretch(source, side).save(HERE / f"resize_{width}x{height}_stretch_{side}.png", optimize=True)
    if width != height:
        crop(source, side).save(HERE / f"resize_{width}x{height}_crop_{side}.png", optimize=True)

(HERE / "jpeg").mkdir(exist_ok=True)
source = pattern(37, 29)
for name, image, options in [
    ("grey", source.convert("L"), {}),
    ("444", source, {"subsampling": 0}),
    ("422", source, {"subsampling": 1}),
    ("420", source, {"subsampling": 2}),
    ("restarts", source, {"subsampling": 2, "restart_marker_blocks": 2}),
    ("progressive", source, {"subsampling": 2, "progressive": True}),
    ("cmyk", source.convert("CMYK"), {}),
    ("rgb", source, {"keep_rgb": True}),
]:
    image.save(HERE / "jpeg" / f"{name}.jpg", quality=75, **options)
for path in (HERE / "jpeg").glob("*.jpg"):
    Image.open(path).convert("RGB").save(path.with_suffix(".png"), optimize=True)
source.save(HERE / "lossy.webp", quality=60)
