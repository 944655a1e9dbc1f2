"""What the tiny CLIP is trained on: views drawn for it alone, each with the name of what it shows."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import numpy.typing as npt
from PIL import Image

from curation.sample.backgrounds import draw_background, draw_clutter, photograph
from curation.sample.pictures import IN_CLASSES, OUT_OBJECTS, OUT_PATTERNS, draw_object

HELD_OUT_KINDS = ("cherry", "key", "snow crystal", "planet", "lightning bolt", "marbling")
"""Out-of-distribution kinds that CLIP never sees, so that the demo meets some that are new to it."""

TRAINED_OUT_OBJECTS = tuple(kind for kind in OUT_OBJECTS if kind not in HELD_OUT_KINDS)
TRAINED_OUT_PATTERNS = tuple(kind for kind in OUT_PATTERNS if kind not in HELD_OUT_KINDS)
EMPTY_NAMES = ("blank background",)

VIEW_NAMES = (
    *(in_class.name for in_class in IN_CLASSES), *TRAINED_OUT_OBJECTS, *TRAINED_OUT_PATTERNS, *EMPTY_NAMES
)  # fmt: skip
"""The names that captions are made of; a view's label is its place here."""

VIEW_SIDE_PX = 72
"""Side of a stored view: 64 px, the model's input, plus 8 to shift it by while training."""

_DRAWN_SIDE_PX = 2 * VIEW_SIDE_PX
# Drawn larger and reduced, as the photographs of a world are on their way into the model.

_IN_SHARE = 0.62
# Most views show an in-class: it is what has to be told apart.

_ALL_DRAWINGS = {**{c.name: c.draw for c in IN_CLASSES}, **OUT_OBJECTS}


def draw_views(seed: int, n_views: int, n_workers: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Return views (n, VIEW_SIDE_PX, VIEW_SIDE_PX, 3) and their labels (n,), places in `VIEW_NAMES`."""
    numbers = [(seed, number) for number in range(n_views)]
    with ProcessPoolExecutor(n_workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        drawn = list(pool.map(draw_view, numbers, chunksize=256))
    return np.stack([view for view, _ in drawn]), np.array([label for _, label in drawn])


def draw_view(seed: tuple[int, int]) -> tuple[npt.NDArray[np.uint8], int]:
    """Return one view and its label: a whole picture, or what a tile of one would show."""
    # 7 keeps these streams apart from those of every world.
    rng = np.random.default_rng([7, *seed])
    draw = rng.random()
    if draw < _IN_SHARE:
        name = IN_CLASSES[int(rng.integers(len(IN_CLASSES)))].name
    elif draw < 0.97:
        name = str(rng.choice([*TRAINED_OUT_OBJECTS, *TRAINED_OUT_PATTERNS]))
    else:
        name = EMPTY_NAMES[0]
    image = _ground(rng, name)
    if name in _ALL_DRAWINGS:
        is_tile = rng.random() < 0.5
        if is_tile and rng.random() < 0.5:
            # A tile that shows a small object shows a piece of the picture's subject too.
            other = str(rng.choice(TRAINED_OUT_OBJECTS))
            _paste(rng, image, other, share=(0.6, 1.2), out_of_frame=(0.45, 0.75))
        _paste(
            rng,
            image,
            name,
            share=(0.2, 0.6) if is_tile else (0.45, 1.05),
            out_of_frame=(0, 0.25 if is_tile else 0.1),
        )
    draw_clutter(rng, image, int(rng.integers(0, 3)))
    view = photograph(rng, image).resize((VIEW_SIDE_PX, VIEW_SIDE_PX), Image.Resampling.BOX)
    return np.asarray(view), VIEW_NAMES.index(name)


def _ground(rng: np.random.Generator, name: str) -> Image.Image:
    size = (_DRAWN_SIDE_PX, _DRAWN_SIDE_PX)
    if name in OUT_PATTERNS:
        return OUT_PATTERNS[name](rng, size)
    if name in {c.name for c in IN_CLASSES} and rng.random() < 0.15:
        return OUT_PATTERNS[str(rng.choice(TRAINED_OUT_PATTERNS))](rng, size)
    image = draw_background(rng, size)
    draw_clutter(rng, image, int(rng.integers(0, 7)))
    return image


def _paste(
    rng: np.random.Generator,
    image: Image.Image,
    name: str,
    *,
    share: tuple[float, float],
    out_of_frame: tuple[float, float],
) -> None:
    """Paste an object whose side is `share` of the view; some of it may lie outside, over one random edge."""
    side = round(rng.uniform(*share) * image.width)
    slack = image.width - side
    place = [round(rng.uniform(min(0, slack), max(0, slack))) for _ in range(2)]
    cut = round(rng.uniform(*out_of_frame) * side)
    if cut and (out_of_frame[0] > 0 or rng.random() < 0.5):
        place[int(rng.integers(2))] = int(rng.choice([-cut, image.width - side + cut]))
    layer = draw_object(_ALL_DRAWINGS[name], rng, side)
    image.paste(layer, (place[0], place[1]), layer)
