"""Drawings of objects that are no ImageNet-1K class and contain none: the out-of-distribution kinds."""

import math

import numpy as np

from curation.sample.sketch import Point, Sketch, circle_points, darker, mirrored, pick_colour

_BLACK = (24, 22, 26)


def draw_star(sketch: Sketch, rng: np.random.Generator) -> None:
    """Draw a star of four to eight points."""
    n_points, inner = int(rng.integers(4, 9)), rng.uniform(0.35, 0.55)
    fill = pick_colour(rng)
    around = circle_points(2 * n_points, 0.96)
    sketch.polygon(
        [(x, y) if k % 2 == 0 else (x * inner, y * inner) for k, (x, y) in enumerate(around)], fill, darker(fill)
    )


def draw_heart(sketch: Sketch, rng: np.random.Generator) -> None:
    """Draw a heart, at times with a smaller one inside."""
    fill = pick_colour(rng, (280, 380), (0.4, 1), (0.6, 1))
    half = [(0, -0.5), (0.3, -0.88), (0.75, -0.82), (0.96, -0.4), (0.75, 0.15), (0.35, 0.6), (0.02, 0.93)]
    sketch.blob(mirrored(half), fill, darker(fill))
    if rng.random() < 0.4:
        sketch.blob([(0.55 * x, 0.55 * y) for x, y in mirrored(half)], darker(fill, rng.uniform(0.6, 1.4)))


def draw_crescent(sketch: Sketch, rng: np.random.Generator) -> None:
    """Draw a crescent moon."""
    fill = pick_colour(rng, (35, 240), (0.05, 0.6), (0.8, 1))
    offset = rng.uniform(0.3, 0.55)
    outer = [(0.94 * math.cos(a), 0.94 * math.sin(a)) for a in np.linspace(0.9, 2 * math.pi - 0.9, 40)]
    inner = [(offset + 0.72 * math.cos(a), 0.75 * math.sin(a)) for a in np.linspace(2 * math.pi - 0.9, 0.9, 40)]
    sketch.polygon(outer + inner, fill, darker(fill, 0.75))


def draw_cloud(sketch: Sketch, rng: np.random.Generator) -> None:
    """Draw a cloud, at times with rain."""
    fill = pick_colour(rng, (190, 240), (0, 0.2), (0.6, 1))
    if rng.random() < 0.4:
        for x in np.linspace(-0.5, 0.5, 4):
            sketch.line([(float(x), 0.4), (float(x) - 0.15, 0.9)], (70, 120, 200), 0.06)
    bumps = [(-0.5, 0.12, 0.36), (-0.15, -0.2, 0.45), (0.32, -0.12, 0.4), (0.6, 0.15, 0.33)]
    for grow, colour in ((0.04, darker(fill, 0.7)), (0, fill)):
        sketch.box((-0.7 - grow, 0.05), (0.75 + grow, 0.48 + grow), colour, rounding=0.2)
        for x, y, radius in bumps:
            sketch.disc((x, y), radius * rng.uniform(0.92, 1) + grow, colour)


def draw_rainbow(sketch: Sketch, rng: np.random.Generator) -> None:
    """Draw a rainbow arch of five to seven bands."""
    n_bands = int(rng.integers(5, 8))
    width = rng.uniform(0.08, 0.12)
    for k in range(n_bands):
        radius = 0.96 - k * width
        band = pick_colour(rng, (290 * k / n_bands, 290 * k / n_bands + 15), (0.6, 0.9), (0.85, 1))
        sketch.arc((0, 0.5), (radius, radius * 1.15), (180, 360), band, width * 1.15)


def draw_house(sketch: Sketch, rng: np.random.Generator) -> None:
    """Draw a plain house: walls, gable roof, door, window."""
    wall, roof = (
        pick_colour(rng, (0, 360), (0.1, 0.6), (0.6, 1)),
        pick_colour(rng, (0, 40), (0.4, 0.9), (0.3, 0.75)),
    )
    wide = rng.uniform(0.6, 0.8)
    if rng.random() < 0.6:
        sketch.box((wide * 0.4, -0.85), (wide * 0.65, -0.2), darker(roof, 0.8))
    sketch.box((-wide, -0.1), (wide, 0.95), wall, darker(wall))
    sketch.polygon([(-wide - 0.18, -0.08), (0, -0.92), (wide + 0.18, -0.08)], roof, darker(roof))
    sketch.box((-0.16, 0.35), (0.16, 0.95), darker(roof, 0.7))
    for x in (-0.62, 0.38):
        sketch.box((wide * x, 0.12), (wide * x + 0.24, 0.36), (190, 220, 240), darker(wall))


def draw_tree(sketch: Sketch, rng: np.random.Generator) -> None:
    """Draw a tree: a trunk under a round crown, or a fir of stacked triangles."""
    crown = pick_colour(rng, (70, 160), (0.4, 0.9), (0.35, 0.75))
    sketch.box((-0.11, 0.2), (0.11, 0.97), (115, 78, 45), (75, 50, 28))
    if rng.random() < 0.5:
        for k in range(3):
            wide, base = 0.45 + 0.18 * k, -0.3 + 0.42 * k
            sketch.polygon(
                [(-wide, base), (0, base - 0.65), (wide, base)], darker(crown, 1 - 0.08 * k), darker(crown, 0.6)
            )
        return
    for x, y in [(0, -0.45), (-0.35, -0.15), (0.35, -0.15), (-0.2, -0.55), (0.25, -0.55), (0, 0)]:
        sketch.disc((x, y), rng.uniform(0.36, 0.42), darker(crown, rng.uniform(0.85, 1.1)))


def draw_smiley(sketch: Sketch, rng: np.random.Generator) -> None:
    """Draw a smiling or frowning round face."""
    skin = pick_colour(rng, (35, 65), (0.6, 1), (0.85, 1)) if rng.random() < 0.7 else pick_colour(rng)
    sketch.disc((0, 0), 0.95, skin, darker(skin, 0.55))
    eye = rng.uniform(0.08, 0.15)
    for x in (-0.34, 0.34):
        sketch.ellipse((x, -0.25), (eye, eye * 1.5), _BLACK)
    smile = rng.random() < 0.75
    sketch.arc((0, 0.1 if smile else 0.75), (0.5, 0.45), (20, 160) if smile else (200, 340), _BLACK, 0.09)


def draw_snow_crystal(sketch: Sketch, rng: np.random.Generator) -> None:
    """Draw a six-armed snow crystal."""
    ink = pick_colour(rng, (180, 240), (0.1, 0.7), (0.7, 1))
    width, places = rng.uniform(0.05, 0.1), rng.uniform(0.3, 0.8, size=2)
    for arm in range(6):
        sketch.line([(0, 0), circle_points(1, 0.95, 60 * arm)[0]], ink, width)
        for place in places:
            start = circle_points(1, float(place), 60 * arm)[0]
            for side in (-35, 35):
                end = circle_points(1, 0.25, 60 * arm + side, start)[0]
                sketch.line([start, end], ink, width * 0.8)


def draw_arrow(sketch: Sketch, rng: np.random.Generator) -> None:
    """Draw a block arrow, single or double."""
    fill, thick = pick_colour(rng), rng.uniform(0.15, 0.3)
    head = rng.uniform(0.05, 0.4)
    tail = 0.95 if rng.random() < 0.7 else 0.45
    half = [(0, -0.96), (0.65, -head), (thick, -head), (thick, tail)]
    sketch.polygon(mirrored(half), fill, darker(fill))
    if tail < 0.9:
        sketch.polygon([(-0.65, 0.3), (0.65, 0.3), (0, 0.96)], fill)


def draw_letter(sketch: Sketch, rng: np.random.Generator) -> None:
    """Draw one of the capital letters A, E, F, H, K, L, M, N, T, V, X, Z as strokes."""
    strokes: dict[str, list[Point]] = {
        "A": [(-0.7, 0.9), (0, -0.9), (0.7, 0.9)], "E": [(0.6, -0.85), (-0.5, -0.85), (-0.5, 0.85), (0.6, 0.85)],
        "L": [(-0.5, -0.9), (-0.5, 0.85), (0.6, 0.85)],
        "M": [(-0.75, 0.9), (-0.7, -0.85), (0, 0.3), (0.7, -0.85), (0.75, 0.9)],
        "N": [(-0.6, 0.9), (-0.6, -0.85), (0.6, 0.85), (0.6, -0.9)], "V": [(-0.7, -0.9), (0, 0.85), (0.7, -0.9)],
        "Z": [(-0.65, -0.85), (0.65, -0.85), (-0.65, 0.85), (0.7, 0.85)], "T": [(-0.7, -0.85), (0.7, -0.85)],
    }  # fmt: skip
    bars: dict[str, list[Point]] = {
        "A": [(-0.4, 0.3), (0.4, 0.3)],
        "E": [(-0.5, 0), (0.4, 0)],
        "T": [(0, -0.85), (0, 0.9)],
    }
    letter = str(rng.choice(sorted(strokes)))
    ink, width = pick_colour(rng, (0, 360), (0.2, 1), (0.1, 0.9)), rng.uniform(0.15, 0.28)
    sketch.line(strokes[letter], ink, width)
    if letter in bars:
        sketch.line(bars[letter], ink, width)


def draw_lightning(sketch: Sketch, rng: np.random.Generator) -> None:
    """Draw a lightning bolt."""
    fill, lean = pick_colour(rng, (40, 60), (0.6, 1), (0.9, 1)), rng.uniform(-0.1, 0.15)
    bolt = [
        (0.2, -0.97),
        (-0.5, 0.12),
        (-0.05, 0.12),
        (-0.3 - lean, 0.97),
        (0.55, -0.2),
        (0.08, -0.2),
        (0.45 + lean, -0.97),
    ]
    sketch.polygon(bolt, fill, darker(fill))


def draw_planet(sketch: Sketch, rng: np.random.Generator) -> None:
    """Draw a banded planet with a ring."""
    ground, ring = pick_colour(rng), pick_colour(rng, (20, 60), (0.2, 0.6), (0.7, 1))
    tall = rng.uniform(0.12, 0.25)
    sketch.arc((0, 0), (0.97, tall), (180, 360), ring, 0.08)
    sketch.disc((0, 0), 0.6, ground, darker(ground))
    for y in (-0.3, 0.05, 0.32):
        reach = math.sqrt(0.33 - y * y)
        sketch.line([(-reach, y), (reach, y)], darker(ground, rng.uniform(0.75, 1.25)), 0.1)
    sketch.arc((0, 0), (0.97, tall), (0, 180), ring, 0.08)


def draw_key(sketch: Sketch, rng: np.random.Generator) -> None:
    """Draw a door key."""
    metal, bow = pick_colour(rng, (35, 50), (0.1, 0.8), (0.5, 0.9)), rng.uniform(0.26, 0.36)
    sketch.ellipse((-0.6, 0), (bow, bow), None, metal, 0.13)
    sketch.line([(-0.6 + bow, 0), (0.95, 0)], metal, 0.13)
    for x, length in ((0.6, rng.uniform(0.2, 0.35)), (0.88, rng.uniform(0.2, 0.4))):
        sketch.line([(x, 0), (x, length)], metal, 0.12)


def draw_cherry(sketch: Sketch, rng: np.random.Generator) -> None:
    """Draw a pair of cherries on their stalks, with a leaf."""
    flesh = pick_colour(rng, (-20, 8), (0.7, 1), (0.5, 0.9))
    sketch.line([(-0.45, 0.4), (-0.2, -0.3), (0.1, -0.85)], (85, 110, 45), 0.06)
    sketch.line([(0.5, 0.45), (0.35, -0.3), (0.1, -0.85)], (85, 110, 45), 0.06)
    leaf = pick_colour(rng, (85, 140), (0.6, 0.9), (0.4, 0.7))
    sketch.blob([(0.1, -0.85), (0.45, -0.95), (0.85, -0.7), (0.45, -0.6)], leaf, darker(leaf))
    for x, y in ((-0.48, 0.52), (0.5, 0.55)):
        sketch.disc((x, y), 0.39, flesh, darker(flesh))
        sketch.disc((x - 0.13, y - 0.14), 0.07, darker(flesh, 1.7))


def draw_carrot(sketch: Sketch, rng: np.random.Generator) -> None:
    """Draw a carrot with its greens."""
    root, wide = pick_colour(rng, (15, 32), (0.75, 1), (0.85, 1)), rng.uniform(0.22, 0.36)
    for x in (-0.25, 0, 0.25):
        sketch.blob(
            [(0, -0.4), (x - 0.1, -0.8), (x, -0.98), (x + 0.1, -0.8)],
            pick_colour(rng, (90, 140), (0.6, 0.9), (0.4, 0.7)),
        )
    sketch.blob(mirrored([(0.1, -0.5), (wide, -0.38), (wide * 0.75, 0.2), (0.05, 0.95)]), root, darker(root, 0.7))
    for y in rng.uniform(-0.3, 0.5, size=4):
        sketch.line([(-0.1, float(y)), (0.06, float(y) + 0.03)], darker(root, 0.75), 0.04)


def draw_cactus(sketch: Sketch, rng: np.random.Generator) -> None:
    """Draw a two-armed cactus on a heap of sand; not in a pot, which is an ImageNet class."""
    green = pick_colour(rng, (95, 160), (0.4, 0.85), (0.35, 0.7))
    for side, height in ((-1, rng.uniform(-0.4, 0)), (1, rng.uniform(-0.5, 0.1))):
        sketch.line([(0, 0.3), (side * 0.48, 0.3), (side * 0.48, height)], green, 0.22)
        sketch.disc((side * 0.48, height), 0.105, green)
    sketch.box((-0.2, -0.92), (0.2, 0.85), green, darker(green), 0.18)
    for x in (-0.08, 0.08):
        sketch.line([(x, -0.75), (x, 0.55)], darker(green, 0.75), 0.03)
    sketch.polygon(
        [(-0.7, 0.95), (-0.3, 0.72), (0.25, 0.7), (0.7, 0.95)], pick_colour(rng, (35, 48), (0.3, 0.5), (0.8, 0.95))
    )
