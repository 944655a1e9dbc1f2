"""Draw the hard cases of the annotators' pages into ``docs/hard_cases``: ``python docs/hard_cases.py``."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageEnhance, ImageFilter, ImageOps

from curation.sample.backgrounds import draw_background, photograph
from curation.sample.pictures import IN_CLASSES, OUT_OBJECTS, draw_object
from curation.sample.sketch import shadow_of

FOLDER = Path(__file__).parent / "hard_cases"
SIZE = (360, 270)
QUALITY = 85

Draw = Callable[[np.random.Generator], Image.Image]


def small_in_a_corner(rng: np.random.Generator) -> Image.Image:
    """Return a house with a strawberry in the lower corner, a tenth of the width."""
    image = draw_background(rng, SIZE)
    _place(image, _drawn(rng, "house", 200), 90, 40)
    _place(image, _drawn(rng, "strawberry", 38), 312, 222)
    return photograph(rng, image)


def picture_on_a_wall(rng: np.random.Generator) -> Image.Image:
    """Return a cactus before a wall on which a framed picture of a banana hangs."""
    image = Image.new("RGB", SIZE, (206, 199, 184))
    frame = Image.new("RGB", (104, 84), (92, 64, 40))
    frame.paste(Image.new("RGB", (88, 68), (232, 236, 228)), (8, 8))
    _place(frame, _drawn(rng, "banana", 58), 23, 13)
    image.paste(frame, (226, 34))
    ImageDraw.Draw(image).rectangle([0, 226, 360, 270], fill=(139, 115, 85))
    _place(image, _drawn(rng, "cactus", 190), 36, 56)
    return photograph(rng, image)


def cut_off_by_the_frame(rng: np.random.Generator) -> Image.Image:
    """Return a tree, and at the edge less than half of a soccer ball."""
    image = draw_background(rng, SIZE)
    _place(image, _drawn(rng, "tree", 230), 30, 20)
    _place(image, _drawn(rng, "soccer ball", 120), 305, 140)
    return photograph(rng, image)


def half_hidden(rng: np.random.Generator) -> Image.Image:
    """Return a sailboat behind the boards of a fence."""
    image = draw_background(rng, SIZE)
    _place(image, _drawn(rng, "sailboat", 190), 90, 20)
    pen = ImageDraw.Draw(image)
    for left in range(-10, 360, 46):
        pen.rectangle([left, 96, left + 33, 270], fill=(150, 124, 96), outline=(104, 82, 60))
    pen.rectangle([0, 126, 360, 142], fill=(132, 106, 80))
    return photograph(rng, image)


def drawn_in_chalk(rng: np.random.Generator) -> Image.Image:
    """Return a blackboard with the outline of a mushroom."""
    board = Image.new("RGB", SIZE, (38, 58, 52))
    mushroom = Image.new("RGB", SIZE, (255, 255, 255))
    _place(mushroom, _drawn(rng, "mushroom", 200), 80, 34, shadow=0)
    lines = (
        mushroom.convert("L").filter(ImageFilter.FIND_EDGES).point([min(255, 4 * level) for level in range(256)])
    )
    grain = Image.fromarray(rng.integers(120, 256, (SIZE[1], SIZE[0]), dtype=np.uint8))
    board.paste(Image.new("RGB", SIZE, (232, 230, 220)), mask=ImageChops.multiply(_without_edge(lines), grain))
    return photograph(rng, board)


def reflected_in_a_puddle(rng: np.random.Generator) -> Image.Image:
    """Return a path with a puddle that mirrors an umbrella; the umbrella itself is outside the picture."""
    image = Image.new("RGB", SIZE, (146, 138, 128))
    puddle = Image.new("RGB", SIZE, (120, 140, 160))
    _place(puddle, ImageOps.flip(_drawn(rng, "umbrella", 150)), 110, 76, shadow=0)
    puddle = ImageEnhance.Contrast(puddle.filter(ImageFilter.GaussianBlur(1.2))).enhance(0.6)
    shape = Image.new("L", SIZE)
    ImageDraw.Draw(shape).ellipse([50, 62, 322, 242], fill=255)
    image.paste(puddle, mask=shape.filter(ImageFilter.GaussianBlur(3)))
    return photograph(rng, image)


def several_classes(rng: np.random.Generator) -> Image.Image:
    """Return a pizza with a small lemon beside it."""
    image = draw_background(rng, SIZE)
    _place(image, _drawn(rng, "pizza", 220), 40, 26)
    _place(image, _drawn(rng, "lemon", 62), 276, 176)
    return photograph(rng, image)


def neighbouring_kind(rng: np.random.Generator) -> Image.Image:
    """Return cherries, which are no class of ImageNet-1K."""
    image = draw_background(rng, SIZE)
    _place(image, _drawn(rng, "cherry", 210), 76, 32)
    return photograph(rng, image)


def looks_alike(rng: np.random.Generator) -> Image.Image:
    """Return the sun above the sea, round and of the colour of an orange."""
    image = Image.new("RGB", SIZE, (122, 82, 96))
    glow = Image.new("L", SIZE)
    ImageDraw.Draw(glow).ellipse([90, 20, 270, 200], fill=190)
    image.paste(Image.new("RGB", SIZE, (250, 180, 110)), mask=glow.filter(ImageFilter.GaussianBlur(40)))
    pen = ImageDraw.Draw(image)
    pen.ellipse([130, 62, 230, 162], fill=(250, 140, 28))
    pen.rectangle([0, 186, 360, 270], fill=(58, 66, 96))
    for y in range(192, 266, 12):
        reach = int(rng.integers(18, 60))
        pen.line([180 - reach, y, 180 + reach, y], fill=(214, 132, 78), width=4)
    return photograph(rng, image)


def too_blurred(rng: np.random.Generator) -> Image.Image:
    """Return something yellow in the dark, far out of focus."""
    image = Image.new("RGB", SIZE, (52, 48, 50))
    _place(image, _drawn(rng, "lemon", 66), 150, 108)
    return photograph(rng, ImageEnhance.Brightness(image.filter(ImageFilter.GaussianBlur(9))).enhance(0.8))


CASES: dict[str, tuple[int, Draw]] = {
    "small_in_a_corner": (3, small_in_a_corner),
    "picture_on_a_wall": (1, picture_on_a_wall),
    "cut_off_by_the_frame": (2, cut_off_by_the_frame),
    "half_hidden": (5, half_hidden),
    "drawn_in_chalk": (4, drawn_in_chalk),
    "reflected_in_a_puddle": (2, reflected_in_a_puddle),
    "several_classes": (6, several_classes),
    "neighbouring_kind": (7, neighbouring_kind),
    "looks_alike": (8, looks_alike),
    "too_blurred": (9, too_blurred),
}
"""Each case by the name of its file, with a seed that was chosen by eye."""


def draw_case(name: str) -> Image.Image:
    """Return the picture of one case; the same every time."""
    seed, draw = CASES[name]
    return draw(np.random.default_rng([2203, seed]))


def _drawn(rng: np.random.Generator, name: str, side_px: int) -> Image.Image:
    known = {one.name: one.draw for one in IN_CLASSES} | OUT_OBJECTS
    return draw_object(known[name], rng, side_px)


def _place(image: Image.Image, layer: Image.Image, x: int, y: int, shadow: float = 0.35) -> None:
    if shadow:
        cast = shadow_of(layer, 4, shadow)
        image.paste(cast, (x + 4, y + 4), cast)
    image.paste(layer, (x, y), layer)


def _without_edge(lines: Image.Image) -> Image.Image:
    """Return lines without those that the filter finds at the picture's own edge."""
    clean = Image.new("L", lines.size)
    clean.paste(lines.crop((2, 2, lines.width - 2, lines.height - 2)), (2, 2))
    return clean


def main() -> None:
    """Write all cases."""
    FOLDER.mkdir(exist_ok=True)
    for name in CASES:
        draw_case(name).save(FOLDER / f"{name}.jpg", quality=QUALITY)


if __name__ == "__main__":
    main()
