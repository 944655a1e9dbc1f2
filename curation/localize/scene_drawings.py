"""The things of a generated scene, each in one plain colour, and what they lie on."""

from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image

from curation.sample.sketch import Colour, Sketch, circle_points, colour_of, darker

_OVERSAMPLING = 4

COLOURS: Mapping[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "red": ((-8, 8), (0.8, 1), (0.75, 1)),
    "yellow": ((50, 60), (0.8, 1), (0.85, 1)),
    "green": ((105, 140), (0.7, 1), (0.5, 0.8)),
    "blue": ((215, 235), (0.75, 1), (0.7, 1)),
    "purple": ((275, 295), (0.6, 0.9), (0.5, 0.75)),
    "white": ((0, 360), (0, 0.05), (0.95, 1)),
    "black": ((0, 360), (0, 0.2), (0.05, 0.15)),
}
"""Ranges of hue in degrees, saturation and value."""


def _ring(sketch: Sketch, colour: Colour) -> None:
    sketch.ellipse((0, 0), (0.95, 0.95), None, colour, 0.34)


def _ball(sketch: Sketch, colour: Colour) -> None:
    sketch.disc((0, 0), 0.95, colour)


def _square(sketch: Sketch, colour: Colour) -> None:
    sketch.box((-0.85, -0.85), (0.85, 0.85), colour)


def _triangle(sketch: Sketch, colour: Colour) -> None:
    sketch.polygon([(0, -0.95), (0.95, 0.8), (-0.95, 0.8)], colour)


def _star(sketch: Sketch, colour: Colour) -> None:
    outer, inner = circle_points(5, 0.98, centre=(0, 0.06)), circle_points(5, 0.4, 36, centre=(0, 0.06))
    sketch.polygon([point for pair in zip(outer, inner, strict=True) for point in pair], colour)


def _cross(sketch: Sketch, colour: Colour) -> None:
    sketch.box((-0.3, -0.95), (0.3, 0.95), colour)
    sketch.box((-0.95, -0.3), (0.95, 0.3), colour)


def _cup(sketch: Sketch, colour: Colour) -> None:
    sketch.ellipse((0.5, -0.1), (0.42, 0.42), None, darker(colour, 0.85), 0.17)
    sketch.polygon([(-0.85, -0.8), (0.5, -0.8), (0.35, 0.85), (-0.7, 0.85)], colour)


def _moon(sketch: Sketch, colour: Colour) -> None:
    outer = circle_points(48, 0.95)[0:25]
    inner = [(0.55 * x, y) for x, y in reversed(outer)]
    sketch.polygon([(0.6 - x * 1.25, y) for x, y in [*outer, *inner]], colour)


KINDS: Mapping[str, Callable[[Sketch, Colour], None]] = {
    "ring": _ring,
    "ball": _ball,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "cup": _cup,
    "moon": _moon,
}


def draw_thing(rng: np.random.Generator, kind: str, colour: str, side_px: int) -> Image.Image:
    """Return a thing on a transparent square of this side, in a shade of its colour."""
    hue, saturation, value = (float(rng.uniform(*bounds)) for bounds in COLOURS[colour])
    sketch = Sketch(side_px * _OVERSAMPLING)
    KINDS[kind](sketch, colour_of(hue, saturation, value))
    sketch.shade((float(rng.uniform(-1, 1)), -0.7), 0.1)
    return sketch.image.resize((side_px, side_px), Image.Resampling.BOX)


def draw_background(rng: np.random.Generator, side_px: int) -> Image.Image:
    """Return an RGB square: a slope between two dull colours, with grain."""
    ends = [colour_of(rng.uniform(0, 360), rng.uniform(0.05, 0.25), rng.uniform(0.4, 0.75)) for _ in range(2)]
    angle = rng.uniform(0, 2 * np.pi)
    ramp = np.linspace(-1, 1, side_px)
    slope = (ramp[None, :] * np.cos(angle) + ramp[:, None] * np.sin(angle)) / 2.83 + 0.5  # (side, side), in [0, 1]
    pixels = slope[..., None] * ends[0] + (1 - slope[..., None]) * ends[1]
    pixels += rng.normal(0, 4, size=(side_px, side_px, 1))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
