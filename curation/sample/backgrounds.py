"""What lies behind the objects, patterns that are pictures of their own, and what a camera does to a picture."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from curation.sample.sketch import pick_colour

Size = tuple[int, int]
"""Width and height in pixels."""

_Pixels = npt.NDArray[np.float32]  # (height, width, 3), 0 to 255
_Plane = npt.NDArray[np.float32]  # (height, width)


def _grid(size: Size) -> tuple[_Plane, _Plane]:
    """Return x and y of every pixel in units of the longer side, 0 in the middle."""
    width, height = size
    longest = max(size)
    x = (np.arange(width, dtype=np.float32) - width / 2) / longest
    y = (np.arange(height, dtype=np.float32) - height / 2) / longest
    return np.broadcast_to(x[None, :], (height, width)), np.broadcast_to(y[:, None], (height, width))


def _blend(share: _Plane, first: tuple[int, int, int], second: tuple[int, int, int]) -> _Pixels:
    near, far = np.array(first, np.float32), np.array(second, np.float32)
    return near + np.clip(share, 0, 1)[..., None] * (far - near)


def _image(pixels: _Pixels) -> Image.Image:
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _fractal_noise(rng: np.random.Generator, size: Size, coarsest: int, n_octaves: int) -> _Plane:
    """Return noise in 0..1: octaves of random grids, each twice as fine and half as strong."""
    total = np.zeros((size[1], size[0]), np.float32)
    for octave in range(n_octaves):
        cells = coarsest * 2**octave
        grid = Image.fromarray(rng.random((cells, cells), dtype=np.float32))
        total += np.asarray(grid.resize(size, Image.Resampling.BICUBIC)) / 2**octave
    low, high = float(total.min()), float(total.max())
    return (total - low) / max(high - low, 1e-6)


def _soft_colour(rng: np.random.Generator) -> tuple[int, int, int]:
    # Muted, so that saturated objects stand out from most backgrounds though not from all.
    return pick_colour(rng, (0, 360), (0.05, 0.5), (0.35, 1))


def _gradient(rng: np.random.Generator, size: Size) -> Image.Image:
    x, y = _grid(size)
    angle = rng.uniform(0, 2 * np.pi)
    return _image(_blend(0.5 + np.cos(angle) * x + np.sin(angle) * y, _soft_colour(rng), _soft_colour(rng)))


def _glow(rng: np.random.Generator, size: Size) -> Image.Image:
    x, y = _grid(size)
    distance = np.hypot(x - rng.uniform(-0.3, 0.3), y - rng.uniform(-0.3, 0.3))
    return _image(_blend(distance * rng.uniform(1, 2), _soft_colour(rng), _soft_colour(rng)))


def _horizon(rng: np.random.Generator, size: Size) -> Image.Image:
    _, y = _grid(size)
    line = rng.uniform(0, 0.25)
    sky = _blend(y + 0.5, pick_colour(rng, (190, 225), (0.2, 0.6), (0.7, 1)), (245, 240, 235))
    ground = _blend(2 * (y - line), _soft_colour(rng), pick_colour(rng, (20, 140), (0.2, 0.6), (0.3, 0.7)))
    return _image(np.where((y < line)[..., None], sky, ground))


def _plaster(rng: np.random.Generator, size: Size) -> Image.Image:
    return _image(
        _blend(_fractal_noise(rng, size, int(rng.integers(2, 7)), 4), _soft_colour(rng), _soft_colour(rng))
    )


def _planks(rng: np.random.Generator, size: Size) -> Image.Image:
    _, y = _grid(size)
    grain = _fractal_noise(rng, (max(4, size[0] // 16), size[1]), 8, 3)
    streaks = np.asarray(Image.fromarray(grain).resize(size, Image.Resampling.BILINEAR))
    n_planks = int(rng.integers(3, 8))
    shade = np.where((y * n_planks) % 1 < 0.04, 0.55, 1)[..., None].astype(np.float32)
    wood = pick_colour(rng, (15, 45), (0.25, 0.6), (0.5, 0.85))
    return _image(_blend(streaks, wood, pick_colour(rng, (15, 45), (0.3, 0.6), (0.35, 0.7))) * shade)


def _bokeh(rng: np.random.Generator, size: Size) -> Image.Image:
    image = _gradient(rng, size)
    pen = ImageDraw.Draw(image, "RGBA")
    for _ in range(int(rng.integers(5, 16))):
        x, y, radius = rng.uniform(0, size[0]), rng.uniform(0, size[1]), rng.uniform(0.03, 0.15) * max(size)
        pen.ellipse(
            [x - radius, y - radius, x + radius, y + radius], fill=(*_soft_colour(rng), int(rng.integers(60, 170)))
        )
    return image.filter(ImageFilter.GaussianBlur(max(size) * rng.uniform(0.006, 0.03)))


_BACKGROUNDS: tuple[Callable[[np.random.Generator, Size], Image.Image], ...] = (
    _gradient, _glow, _horizon, _plaster, _planks, _bokeh,
)  # fmt: skip


def draw_background(rng: np.random.Generator, size: Size) -> Image.Image:
    """Return one of six kinds of quiet background."""
    return _BACKGROUNDS[int(rng.integers(len(_BACKGROUNDS)))](rng, size)


def draw_clutter(rng: np.random.Generator, image: Image.Image, n_pieces: int) -> None:
    """Lay `n_pieces` shapeless things over `image`: sticks, pebbles, scraps of paper."""
    pen = ImageDraw.Draw(image, "RGBA")
    longest = max(image.size)
    for _ in range(n_pieces):
        x, y = rng.uniform(0, image.width), rng.uniform(0, image.height)
        reach, angle = rng.uniform(0.02, 0.09) * longest, rng.uniform(0, np.pi)
        fill = (*_soft_colour(rng), int(rng.integers(140, 255)))
        dx, dy = reach * np.cos(angle), reach * np.sin(angle)
        form = rng.integers(3)
        if form == 0:
            pen.line([x - 2 * dx, y - 2 * dy, x + 2 * dx, y + 2 * dy], fill=fill, width=max(1, int(reach / 4)))
        elif form == 1:
            pen.ellipse([x - reach, y - reach * 0.6, x + reach, y + reach * 0.6], fill=fill)
        else:
            pen.polygon(
                [(x - dx, y - dy), (x + dy, y - dx), (x + dx * 1.4, y + dy), (x - dy, y + dx * 0.7)], fill=fill
            )


def draw_stripes(rng: np.random.Generator, size: Size) -> Image.Image:
    """Return straight or waving stripes of two colours."""
    x, y = _grid(size)
    angle, n_stripes = rng.uniform(0, np.pi), rng.uniform(4, 14)
    along = np.cos(angle) * x + np.sin(angle) * y
    across = np.cos(angle) * y - np.sin(angle) * x
    wave = rng.choice([0, rng.uniform(0.02, 0.08)]) * np.sin(12 * across)
    return _image(
        _blend(
            6 * np.sin(2 * np.pi * n_stripes * (along + wave)) + 0.5,
            pick_colour(rng, saturation=(0.2, 1)),
            _soft_colour(rng),
        )
    )


def draw_dots(rng: np.random.Generator, size: Size) -> Image.Image:
    """Return a field of dots, in rows or scattered."""
    image = _gradient(rng, size)
    pen = ImageDraw.Draw(image)
    step, jitter = rng.uniform(0.09, 0.2) * max(size), rng.choice([0.0, 0.6])
    radius, fill = step * rng.uniform(0.2, 0.4), pick_colour(rng)
    for row in range(int(size[1] / step) + 2):
        for column in range(int(size[0] / step) + 2):
            x = (column + 0.5 * (row % 2) + jitter * rng.uniform(-0.5, 0.5)) * step
            y = (row + jitter * rng.uniform(-0.5, 0.5)) * step
            pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=fill)
    return image


def draw_checks(rng: np.random.Generator, size: Size) -> Image.Image:
    """Return squares of two colours, turned at random."""
    x, y = _grid(size)
    angle, n_squares = rng.uniform(0, np.pi / 2), rng.uniform(2.5, 7)
    u, v = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    waves = 40 * np.sin(2 * np.pi * n_squares * u) * np.sin(2 * np.pi * n_squares * v)
    return _image(_blend(waves + 0.5, pick_colour(rng, saturation=(0.1, 1), value=(0.1, 0.8)), _soft_colour(rng)))


def draw_marbling(rng: np.random.Generator, size: Size) -> Image.Image:
    """Return veins of noise in three colours."""
    noise = _fractal_noise(rng, size, int(rng.integers(2, 5)), 5)
    veins = 0.5 + 0.5 * np.sin(rng.uniform(10, 30) * noise)
    base = _blend(veins, pick_colour(rng, saturation=(0.3, 1)), _soft_colour(rng))
    return _image(base + (noise[..., None] - 0.5) * 60)


def photograph(rng: np.random.Generator, image: Image.Image) -> Image.Image:
    """Return `image` as a middling camera would: off in exposure and colour, noisy, at times blurred."""
    if rng.random() < 0.3:
        image = image.filter(ImageFilter.GaussianBlur(max(image.size) * rng.uniform(0.002, 0.012)))
    pixels = np.asarray(image, np.float32)
    if rng.random() < 0.04:
        pixels = np.repeat(pixels.mean(axis=2, keepdims=True), 3, axis=2)
    cast = rng.uniform(0.9, 1.1, size=3).astype(np.float32) * np.float32(rng.uniform(0.75, 1.15))
    x, y = _grid(image.size)
    vignette = 1 - np.float32(rng.uniform(0, 0.7)) * (x**2 + y**2)
    noise = rng.standard_normal((*pixels.shape[:2], 1), dtype=np.float32) * np.float32(rng.uniform(0.5, 6))
    return _image(pixels * cast * vignette[..., None] + np.float32(rng.uniform(-10, 25)) + noise)
