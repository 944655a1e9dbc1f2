"""Drawings of in-distribution classes that grow, swim or are eaten; each varies with the generator it is given."""

import math

import numpy as np

from curation.sample.sketch import Sketch, circle_points, darker, pick_colour

_WHITE = (250, 248, 242)
_BLACK = (24, 22, 26)
_LEAF_HUE = (85, 140)


def draw_goldfish(sketch: Sketch, rng: np.random.Generator) -> None:
    """Draw a goldfish, swimming left or right."""
    body = pick_colour(rng, (10, 42), (0.8, 1), (0.85, 1))
    facing = rng.choice([-1, 1])
    plump = rng.uniform(0.32, 0.52)
    fin = darker(body, rng.uniform(0.75, 0.95))
    tail = [(-0.4, 0), (-0.95, -rng.uniform(0.35, 0.6)), (-0.72, 0), (-0.95, rng.uniform(0.35, 0.6))]
    sketch.blob([(facing * x, y) for x, y in tail], fin)
    sketch.polygon(
        [(facing * x, y) for x, y in [(-0.2, -plump * 0.8), (0.05, -plump - 0.28), (0.35, -plump * 0.8)]], fin
    )
    sketch.blob(
        [(facing * x, y) for x, y in [(-0.5, 0), (0.1, -plump), (0.75, -0.12), (0.75, 0.1), (0.1, plump)]], body
    )
    sketch.polygon([(facing * x, y) for x, y in [(0.1, 0.05), (-0.25, 0.35), (-0.05, 0.4)]], fin)
    sketch.arc((facing * 0.18, 0), (0.2, plump * 0.8), (-70, 70) if facing > 0 else (110, 250), darker(body), 0.03)
    sketch.disc((facing * 0.52, -0.1), 0.1, _WHITE, _BLACK)
    sketch.disc((facing * 0.54, -0.1), 0.05, _BLACK)


def draw_jellyfish(sketch: Sketch, rng: np.random.Generator) -> None:
    """Draw a jellyfish with a bell and waving tentacles."""
    bell = pick_colour(rng, (180, 330), (0.2, 0.6), (0.8, 1))
    depth = rng.uniform(0.55, 0.8)
    n_tentacles = int(rng.integers(5, 10))
    for x in np.linspace(-0.55, 0.55, n_tentacles):
        phase, swing = rng.uniform(0, 6), rng.uniform(0.04, 0.1)
        length = rng.uniform(0.6, 1)
        steps = np.linspace(0, length, 14)
        points = [(float(x + swing * math.sin(7 * y + phase)), float(-0.05 + y)) for y in steps]
        sketch.line(points, darker(bell, rng.uniform(0.65, 0.95)), rng.uniform(0.04, 0.09))
    rim = [(0.75 - 0.25 * k, 0.02 if k % 2 else 0.12) for k in range(7)]
    sketch.blob(
        [
            (-0.72, -0.3),
            (-0.4, -0.3 - depth * 0.7),
            (0, -0.2 - depth),
            (0.4, -0.3 - depth * 0.7),
            (0.72, -0.3),
            *rim,
        ],
        bell,
    )
    sketch.ellipse((-0.22, -0.55), (0.12, 0.2), darker(bell, 1.2))
    for x in (-0.25, 0, 0.25):
        sketch.ellipse((x, -0.25), (0.1, 0.08), darker(bell, 0.8))


def draw_ladybug(sketch: Sketch, rng: np.random.Generator) -> None:
    """Draw a ladybug from above."""
    shell = pick_colour(rng, (-12, 25), (0.85, 1), (0.7, 0.95))
    for y in (-0.3, 0.1, 0.5):
        reach = rng.uniform(0.82, 0.98)
        sketch.line([(-reach, y - 0.12), (0, y), (reach, y - 0.12)], _BLACK, 0.07)
    sketch.line([(-0.3, -0.98), (-0.12, -0.7), (0.12, -0.7), (0.3, -0.98)], _BLACK, 0.05)
    sketch.disc((0, -0.55), 0.33, _BLACK)
    sketch.disc((-0.18, -0.7), 0.07, _WHITE)
    sketch.disc((0.18, -0.7), 0.07, _WHITE)
    sketch.ellipse((0, 0.15), (rng.uniform(0.62, 0.74), 0.75), shell, darker(shell))
    sketch.line([(0, -0.55), (0, 0.88)], _BLACK, 0.05)
    spot = rng.uniform(0.09, 0.16)
    for y in [-0.15, 0.2, 0.55] if rng.random() < 0.6 else [-0.05, 0.42]:
        x = rng.uniform(0.26, 0.42)
        sketch.disc((-x, y), spot, _BLACK)
        sketch.disc((x, y), spot, _BLACK)


def draw_mushroom(sketch: Sketch, rng: np.random.Generator) -> None:
    """Draw a mushroom, a stem under a cap, at times spotted."""
    cap = pick_colour(rng, (-5, 45), (0.45, 0.95), (0.45, 0.9))
    stem = pick_colour(rng, (30, 55), (0.05, 0.25), (0.8, 0.98))
    width, thick = rng.uniform(0.7, 0.98), rng.uniform(0.14, 0.28)
    height = rng.uniform(0.6, 0.95)
    sketch.blob(
        [
            (-thick, -0.15),
            (thick, -0.15),
            (thick * 1.1, 0.5),
            (thick * 1.5, 0.92),
            (0, 0.97),
            (-thick * 1.5, 0.92),
            (-thick * 1.1, 0.5),
        ],
        stem,
        darker(stem, 0.75),
    )
    sketch.ellipse((0, -0.02), (width * 0.85, 0.16), darker(stem, 0.82))
    sketch.blob(
        [
            (-width, 0.02),
            (-width * 0.75, -height * 0.6),
            (0, -height),
            (width * 0.75, -height * 0.6),
            (width, 0.02),
            (width * 0.5, 0.06),
            (0, 0.02),
            (-width * 0.5, 0.06),
        ],
        cap,
        darker(cap),
    )
    if rng.random() < 0.55:
        for _ in range(int(rng.integers(4, 9))):
            x, y = rng.uniform(-0.55, 0.55) * width, rng.uniform(-0.75, -0.15) * height
            sketch.ellipse((x, y), (rng.uniform(0.06, 0.13), rng.uniform(0.05, 0.1)), _WHITE)


def draw_strawberry(sketch: Sketch, rng: np.random.Generator) -> None:
    """Draw a strawberry with seeds and a green crown."""
    flesh = pick_colour(rng, (-12, 12), (0.75, 1), (0.75, 0.98))
    leaf = pick_colour(rng, _LEAF_HUE, (0.6, 0.95), (0.4, 0.75))
    wide = rng.uniform(0.62, 0.85)
    sketch.blob(
        [
            (0, -0.6),
            (wide * 0.75, -0.62),
            (wide, -0.2),
            (wide * 0.6, 0.5),
            (0, 0.97),
            (-wide * 0.6, 0.5),
            (-wide, -0.2),
            (-wide * 0.75, -0.62),
        ],
        flesh,
        darker(flesh, 0.75),
    )
    seed = pick_colour(rng, (40, 58), (0.4, 0.8), (0.85, 1))
    for row, y in enumerate(np.arange(-0.4, 0.8, rng.uniform(0.2, 0.28))):
        reach = wide * (0.85 - 0.8 * max(y, 0))
        for x in np.arange(-reach + 0.1 * (row % 2), reach - 0.03, 0.24):
            sketch.ellipse((float(x) + 0.06, float(y)), (0.025, 0.045), seed)
    n_leaves = int(rng.integers(5, 8))
    tips = circle_points(n_leaves, 0.48, rng.uniform(0, 40), (0, -0.66))
    for x, y in tips:
        y = -0.66 + (y + 0.66) * 0.55
        sketch.polygon([(-0.12 + x * 0.2, -0.72), (x, y), (0.12 + x * 0.2, -0.62)], leaf, darker(leaf))
    sketch.line([(0, -0.68), (rng.uniform(-0.15, 0.15), -0.97)], leaf, 0.09)


def draw_orange(sketch: Sketch, rng: np.random.Generator) -> None:
    """Draw an orange, whole or as a cut half."""
    peel = pick_colour(rng, (22, 38), (0.85, 1), (0.88, 1))
    radius = rng.uniform(0.82, 0.95)
    sketch.disc((0, 0), radius, peel, darker(peel, 0.8))
    if rng.random() < 0.4:
        flesh = darker(peel, rng.uniform(0.9, 1.05))
        sketch.disc((0, 0), radius * 0.88, (255, 240, 205))
        n_segments = int(rng.integers(8, 12))
        for k in range(n_segments):
            inner = circle_points(1, 0.1, 360 * k / n_segments)
            outer = [
                circle_points(1, radius * 0.82, 360 * (k + d) / n_segments)[0] for d in (-0.4, -0.2, 0, 0.2, 0.4)
            ]
            sketch.polygon([*inner, *outer], flesh)
        return
    for _ in range(40):
        (x, y), reach = circle_points(1, 1, rng.uniform(0, 360))[0], rng.uniform(0, 0.75)
        sketch.disc((x * reach, y * reach), 0.02, darker(peel, 0.85))
    sketch.disc((rng.uniform(-0.2, 0.2), -radius * 0.7), 0.09, (95, 125, 45))
    if rng.random() < 0.5:
        leaf = pick_colour(rng, _LEAF_HUE, (0.6, 0.9), (0.4, 0.7))
        sketch.blob([(0, -0.66), (0.3, -0.92), (0.68, -0.82), (0.35, -0.62)], leaf, darker(leaf))


def draw_lemon(sketch: Sketch, rng: np.random.Generator) -> None:
    """Draw a lemon with its two nipples, whole or as a round slice."""
    peel = pick_colour(rng, (47, 60), (0.75, 1), (0.88, 1))
    if rng.random() < 0.25:
        sketch.disc((0, 0), 0.9, peel, darker(peel, 0.8))
        sketch.disc((0, 0), 0.78, (255, 252, 225))
        for k in range(9):
            outer = [circle_points(1, 0.73, 40 * (k + d))[0] for d in (-0.38, 0, 0.38)]
            sketch.polygon([*circle_points(1, 0.08, 40 * k), *outer], darker(peel, 1.05))
        return
    tall = rng.uniform(0.52, 0.68)
    half = [(0.98, 0.0), (0.8, -0.15), (0.45, -tall * 0.9), (0, -tall), (-0.45, -tall * 0.9), (-0.78, -0.15)]
    sketch.blob(
        [*half, (-0.97, 0.02), (-0.78, 0.17), (-0.45, tall * 0.9), (0, tall), (0.45, tall * 0.9), (0.8, 0.15)],
        peel,
        darker(peel, 0.75),
    )
    for _ in range(25):
        sketch.disc((rng.uniform(-0.55, 0.55), rng.uniform(-0.4, 0.4)), 0.018, darker(peel, 0.85))
    if rng.random() < 0.5:
        leaf = pick_colour(rng, _LEAF_HUE, (0.6, 0.9), (0.4, 0.7))
        sketch.blob([(-0.8, -0.05), (-0.75, -0.5), (-0.4, -0.75), (-0.5, -0.35)], leaf, darker(leaf))


def draw_banana(sketch: Sketch, rng: np.random.Generator) -> None:
    """Draw one banana or a bunch of two or three."""
    peel = pick_colour(rng, (46, 64), (0.65, 0.95), (0.85, 1))
    bend = rng.uniform(0.35, 0.6)
    for k in range(int(rng.integers(1, 4))):
        lift = 0.22 * k
        outer = [(-0.92, -0.45), (-0.55, 0.3 - lift), (0.05, 0.6 - lift), (0.65, 0.4 - lift), (0.93, -0.12 - lift)]
        inner = [
            (0.8, -0.2 - lift),
            (0.5, 0.4 - bend * 0.75 - lift),
            (0.05, 0.62 - bend - lift),
            (-0.45, 0.1 - bend * 0.45 - lift * 0.6),
            (-0.78, -0.6),
        ]
        sketch.blob([*outer, *inner], darker(peel, 1 - 0.06 * k), darker(peel, 0.6))
        sketch.disc((0.88, -0.18 - lift), 0.07, (88, 62, 34))
    sketch.polygon([(-0.96, -0.5), (-0.74, -0.62), (-0.8, -0.88), (-0.95, -0.84)], (110, 88, 40))


def draw_pizza(sketch: Sketch, rng: np.random.Generator) -> None:
    """Draw a pizza, whole or a slice, with toppings."""
    crust, cheese = (
        pick_colour(rng, (25, 36), (0.5, 0.75), (0.65, 0.85)),
        pick_colour(rng, (38, 52), (0.4, 0.75), (0.9, 1)),
    )
    is_slice = rng.random() < 0.4
    if is_slice:
        sketch.blob(
            [(-0.85, -0.75), (0, -0.95), (0.85, -0.75), (0.75, -0.5), (0, -0.62), (-0.75, -0.5)],
            crust,
            darker(crust),
        )
        sketch.polygon([(-0.72, -0.6), (0, -0.72), (0.72, -0.6), (0, 0.97)], cheese, darker(cheese, 0.8))
        places = [(-0.35, -0.4), (0.3, -0.42), (0, 0.02), (0.02, 0.5), (-0.02, -0.35)]
    else:
        sketch.disc((0, 0), 0.97, crust, darker(crust))
        sketch.disc((0, 0), 0.83, pick_colour(rng, (5, 20), (0.7, 0.9), (0.7, 0.85)))
        sketch.blob(circle_points(14, 0.78, rng.uniform(0, 30)), cheese)
        reaches = rng.uniform(0.15, 0.65, size=11)
        places = [circle_points(1, float(reach), 33 * k)[0] for k, reach in enumerate(reaches)]
    topping = pick_colour(rng, (-8, 10), (0.65, 0.9), (0.6, 0.8))
    for x, y in places:
        sketch.disc((x, y), rng.uniform(0.09, 0.15), topping, darker(topping, 0.75))
    for x, y in places[::2]:
        sketch.ellipse(
            (x * 0.75 + 0.1, y * 0.75 + 0.12), (0.09, 0.04), pick_colour(rng, (90, 130), (0.6, 0.9), (0.3, 0.55))
        )
    if not is_slice:
        for turn_deg in (0, 60, 120):
            ((x, y),) = circle_points(1, 0.85, turn_deg + 10)
            sketch.line([(x, y), (-x, -y)], darker(cheese, 0.72), 0.025)


def draw_daisy(sketch: Sketch, rng: np.random.Generator) -> None:
    """Draw a daisy: white to pink rays around a yellow disc, at times on a stem."""
    ray = pick_colour(rng, (300, 360), (0, 0.22), (0.93, 1))
    drop = -0.3 if rng.random() < 0.5 else 0.0
    reach = 0.97 + drop
    if drop:
        stem = pick_colour(rng, _LEAF_HUE, (0.5, 0.8), (0.35, 0.65))
        sketch.line([(0, drop), (rng.uniform(-0.15, 0.15), 0.4), (0, 0.98)], stem, 0.08)
        sketch.blob([(0.02, 0.75), (0.3, 0.4), (0.5, 0.4), (0.3, 0.65)], stem)
    n_rays = int(rng.integers(10, 20))
    turn_deg = rng.uniform(0, 30)
    for k in range(n_rays):
        left, tip, right = (
            circle_points(1, r, turn_deg + 360 * (k + d) / n_rays, (0, drop))[0]
            for r, d in ((reach * 0.8, -0.36), (reach, 0), (reach * 0.8, 0.36))
        )
        sketch.blob([(0, drop), left, tip, right], ray, darker(ray, 0.78))
    sketch.disc(
        (0, drop), reach * rng.uniform(0.24, 0.36), pick_colour(rng, (40, 55), (0.8, 1), (0.85, 1)), (170, 110, 20)
    )


def draw_acorn(sketch: Sketch, rng: np.random.Generator) -> None:
    """Draw an acorn in its cup."""
    nut = pick_colour(rng, (22, 46), (0.5, 0.85), (0.5, 0.8))
    cup = pick_colour(rng, (18, 34), (0.45, 0.7), (0.28, 0.48))
    wide = rng.uniform(0.5, 0.64)
    sketch.blob(
        [
            (-wide, -0.3),
            (-wide * 0.9, 0.3),
            (-0.16, 0.82),
            (0, 0.98),
            (0.16, 0.82),
            (wide * 0.9, 0.3),
            (wide, -0.3),
        ],
        nut,
        darker(nut),
    )
    sketch.ellipse((-wide * 0.4, 0.15), (0.07, 0.3), darker(nut, 1.3))
    rim = wide + 0.13
    sketch.blob(
        [(-rim, -0.2), (-rim * 0.8, -0.6), (0, -0.78), (rim * 0.8, -0.6), (rim, -0.2), (0, -0.1)], cup, darker(cup)
    )
    for row in range(3):
        for x in np.arange(-rim + 0.2, rim - 0.1, 0.2):
            sketch.arc(
                (float(x) + 0.1 * (row % 2), -0.3 - 0.14 * row), (0.1, 0.08), (0, 180), darker(cup, 1.5), 0.03
            )
    sketch.line([(0, -0.72), (rng.uniform(-0.2, 0.2), -0.97)], cup, 0.11)
