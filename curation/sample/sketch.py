"""A square transparent layer to draw one object on, in coordinates that do not depend on its size."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

Colour = tuple[int, int, int]
Point = tuple[float, float]

_OUTLINE_WIDTH = 0.035
"""In layer units, of which a side has two. By eye: visible at 100 px, not cartoonish at 256 px."""


def colour_of(hue_deg: float, saturation: float, value: float) -> Colour:
    """Return the RGB colour of a hue in degrees and a saturation and value in [0, 1]."""
    sector, rest = divmod(hue_deg % 360 / 60, 1)
    low = value * (1 - saturation)
    falling = value * (1 - saturation * rest)
    rising = value * (1 - saturation * (1 - rest))
    red, green, blue = (
        (value, rising, low),
        (falling, value, low),
        (low, value, rising),
        (low, falling, value),
        (rising, low, value),
        (value, low, falling),
    )[int(sector)]
    return round(red * 255), round(green * 255), round(blue * 255)


def pick_colour(
    rng: np.random.Generator,
    hue_deg: tuple[float, float] = (0, 360),
    saturation: tuple[float, float] = (0.6, 1),
    value: tuple[float, float] = (0.6, 1),
) -> Colour:
    """Return a colour drawn evenly from three ranges."""
    return colour_of(rng.uniform(*hue_deg), rng.uniform(*saturation), rng.uniform(*value))


def darker(colour: Colour, factor: float = 0.6) -> Colour:
    """Return `colour` with every channel times `factor`; above 1 it is lighter."""
    red, green, blue = (min(255, round(channel * factor)) for channel in colour)
    return red, green, blue


def circle_points(n_points: int, radius: float = 1, turn_deg: float = 0, centre: Point = (0, 0)) -> list[Point]:
    """Return `n_points` even points of a circle, the first at the top, clockwise."""
    angles = [math.radians(turn_deg - 90 + 360 * step / n_points) for step in range(n_points)]
    return [(centre[0] + radius * math.cos(a), centre[1] + radius * math.sin(a)) for a in angles]


def smooth(points: Sequence[Point], n_steps: int = 8) -> list[Point]:
    """Return the closed Catmull-Rom curve through `points` as a polygon."""
    around = np.array(points)  # (n, 2)
    before, after, beyond = (np.roll(around, shift, axis=0) for shift in (1, -1, -2))
    steps = np.linspace(0, 1, n_steps, endpoint=False)[None, :, None]  # (1, n_steps, 1)
    p0, p1, p2, p3 = (side[:, None, :] for side in (before, around, after, beyond))
    curve = 0.5 * (
        2 * p1
        + (p2 - p0) * steps
        + (2 * p0 - 5 * p1 + 4 * p2 - p3) * steps**2
        + (3 * p1 - p0 - 3 * p2 + p3) * steps**3
    )  # (n, n_steps, 2)
    return [(float(x), float(y)) for x, y in curve.reshape(-1, 2)]


def mirrored(half: Sequence[Point]) -> list[Point]:
    """Return the closed outline of a shape that is symmetric left to right, from its right half, top to bottom."""
    return [*half, *((-x, y) for x, y in reversed(half) if x)]


class Sketch:
    """A square RGBA layer whose drawable part spans -1 to 1 both ways, y downwards.

    Parameters
    ----------
    side_px : int
        Side of the layer; the caller supersamples.
    """

    def __init__(self, side_px: int) -> None:
        self.image = Image.new("RGBA", (side_px, side_px))
        self._draw = ImageDraw.Draw(self.image)
        self._half = side_px / 2

    def _pixel(self, point: Point) -> Point:
        # 4 % of margin: outlines of a shape that touches +-1 stay on the layer.
        return (1 + point[0] * 0.96) * self._half, (1 + point[1] * 0.96) * self._half

    def _width(self, width: float) -> int:
        return max(1, round(width * self._half))

    def polygon(self, points: Sequence[Point], fill: Colour, outline: Colour | None = None) -> None:
        """Fill a polygon; with `outline`, trace it."""
        corners = [self._pixel(point) for point in points]
        self._draw.polygon(corners, fill=fill)
        if outline:
            self.line([*points, points[0], points[1]], outline, _OUTLINE_WIDTH)

    def blob(self, points: Sequence[Point], fill: Colour, outline: Colour | None = None) -> None:
        """Fill the smooth closed curve through `points`."""
        self.polygon(smooth(points), fill, outline)

    def ellipse(
        self,
        centre: Point,
        radii: Point,
        fill: Colour | None,
        outline: Colour | None = None,
        width: float = _OUTLINE_WIDTH,
    ) -> None:
        """Fill an upright ellipse, and trace it with `outline`."""
        corners = [
            *self._pixel((centre[0] - radii[0], centre[1] - radii[1])),
            *self._pixel((centre[0] + radii[0], centre[1] + radii[1])),
        ]
        self._draw.ellipse(corners, fill=fill, outline=outline, width=self._width(width) if outline else 0)

    def disc(self, centre: Point, radius: float, fill: Colour, outline: Colour | None = None) -> None:
        """Fill a circle."""
        self.ellipse(centre, (radius, radius), fill, outline)

    def box(
        self, corner: Point, opposite: Point, fill: Colour, outline: Colour | None = None, rounding: float = 0
    ) -> None:
        """Fill an upright rectangle from its upper left to its lower right corner."""
        self._draw.rounded_rectangle(
            [*self._pixel(corner), *self._pixel(opposite)],
            radius=rounding * self._half,
            fill=fill,
            outline=outline,
            width=self._width(_OUTLINE_WIDTH) if outline else 0,
        )

    def line(self, points: Sequence[Point], fill: Colour, width: float) -> None:
        """Draw a broken line of a width in layer units."""
        self._draw.line(
            [self._pixel(point) for point in points], fill=fill, width=self._width(width), joint="curve"
        )

    def arc(self, centre: Point, radii: Point, span_deg: tuple[float, float], fill: Colour, width: float) -> None:
        """Draw a part of an ellipse; degrees clockwise from three o'clock."""
        corners = [
            *self._pixel((centre[0] - radii[0], centre[1] - radii[1])),
            *self._pixel((centre[0] + radii[0], centre[1] + radii[1])),
        ]
        self._draw.arc(corners, *span_deg, fill=fill, width=self._width(width))

    def shade(self, light: Point, strength: float) -> None:
        """Light what is drawn so far from the direction `light`: brighter on that side, darker on the other."""
        side = self.image.width
        ramp = np.linspace(-1, 1, side, dtype=np.float32)
        towards = ramp[None, :] * light[0] + ramp[:, None] * light[1]  # (side, side)
        factor = np.clip(128 * (1 + strength * towards), 0, 255).astype(np.uint8)
        bands = self.image.split()
        lit = [
            ImageChops.add(ImageChops.multiply(band, grey), ImageChops.multiply(band, grey))
            for grey in [Image.fromarray(factor)]
            for band in bands[:3]
        ]
        self.image = Image.merge("RGBA", (*lit, bands[3]))
        self._draw = ImageDraw.Draw(self.image)


def shadow_of(layer: Image.Image, blur_px: float, opacity: float) -> Image.Image:
    """Return a soft black shadow in the shape of `layer`."""
    alpha = layer.getchannel("A").filter(ImageFilter.GaussianBlur(blur_px))
    shadow = Image.new("RGBA", layer.size)
    shadow.putalpha(alpha.point([round(value * opacity) for value in range(256)]))
    return shadow
