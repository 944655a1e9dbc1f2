"""Pictures of the sample: which classes and kinds there are, and how an object becomes a photograph."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from curation.sample import backgrounds as back
from curation.sample import nature_drawings as nature
from curation.sample import out_drawings as out
from curation.sample import thing_drawings as things
from curation.sample.sketch import Sketch, shadow_of

DrawObject = Callable[[Sketch, np.random.Generator], None]
DrawPattern = Callable[[np.random.Generator, back.Size], Image.Image]

SUPERSAMPLING = 2
"""Objects are drawn this many times larger than shown; edges are then smooth."""


@dataclass(frozen=True)
class InClass:
    """A class of the sample that is also a class of ImageNet-1K.

    Attributes
    ----------
    name, wnid : str
        Name as open_clip has it, and WordNet id.
    imagenet_index : int
        Index among the 1,000, in torchvision's order.
    draw : callable
        Draws one object of it.
    """

    name: str
    wnid: str
    imagenet_index: int
    draw: DrawObject


IN_CLASSES = (
    InClass("goldfish", "n01443537", 1, nature.draw_goldfish),
    InClass("jellyfish", "n01910747", 107, nature.draw_jellyfish),
    InClass("ladybug", "n02165456", 301, nature.draw_ladybug),
    InClass("analog clock", "n02708093", 409, things.draw_analog_clock),
    InClass("balloon", "n02782093", 417, things.draw_balloon),
    InClass("candle", "n02948072", 470, things.draw_candle),
    InClass("envelope", "n03291819", 549, things.draw_envelope),
    InClass("hourglass", "n03544143", 604, things.draw_hourglass),
    InClass("padlock", "n03874599", 695, things.draw_padlock),
    InClass("soccer ball", "n04254680", 805, things.draw_soccer_ball),
    InClass("sunglasses", "n04356056", 837, things.draw_sunglasses),
    InClass("teapot", "n04398044", 849, things.draw_teapot),
    InClass("umbrella", "n04507155", 879, things.draw_umbrella),
    InClass("sailboat", "n04612504", 914, things.draw_sailboat),
    InClass("traffic light", "n06874185", 920, things.draw_traffic_light),
    InClass("popsicle", "n07615774", 929, things.draw_popsicle),
    InClass("mushroom", "n07734744", 947, nature.draw_mushroom),
    InClass("strawberry", "n07745940", 949, nature.draw_strawberry),
    InClass("orange", "n07747607", 950, nature.draw_orange),
    InClass("lemon", "n07749582", 951, nature.draw_lemon),
    InClass("banana", "n07753592", 954, nature.draw_banana),
    InClass("pizza", "n07873807", 963, nature.draw_pizza),
    InClass("daisy", "n11939491", 985, nature.draw_daisy),
    InClass("acorn", "n12267677", 988, nature.draw_acorn),
)
"""The sample's label space: `class_index` is the place in this tuple."""

OUT_OBJECTS: dict[str, DrawObject] = {
    "star": out.draw_star, "heart": out.draw_heart, "crescent moon": out.draw_crescent, "cloud": out.draw_cloud,
    "rainbow": out.draw_rainbow, "house": out.draw_house, "tree": out.draw_tree, "smiley face": out.draw_smiley,
    "snow crystal": out.draw_snow_crystal, "arrow": out.draw_arrow, "letter": out.draw_letter,
    "lightning bolt": out.draw_lightning, "planet": out.draw_planet, "key": out.draw_key,
    "cherry": out.draw_cherry, "carrot": out.draw_carrot, "cactus": out.draw_cactus,
}  # fmt: skip
"""Objects that are no ImageNet-1K class."""

OUT_PATTERNS: dict[str, DrawPattern] = {
    "stripes": back.draw_stripes, "dots": back.draw_dots, "checks": back.draw_checks,
    "marbling": back.draw_marbling,
}  # fmt: skip
"""Patterns that fill the picture and show no object."""

OUT_KINDS = (*OUT_OBJECTS, *OUT_PATTERNS)

UPRIGHT_TURN_DEG = 22
"""Most things stand upright in photographs: turns are drawn evenly up to this, either way."""

FREE_TURN_SHARE = 0.12
"""Share of objects that lie any way round."""

EXAMPLE_SEED = 3
"""Chosen by eye: every example stands upright and shows what is typical of its class."""

OUT_OF_FRAME = 0.06
"""How far an object that fills the frame may be moved, as a share of its own side."""


@dataclass(frozen=True)
class Corner:
    """A small in-class object in a corner of another picture.

    Attributes
    ----------
    class_index : int
        Which class.
    width_share : float
        Its side over the picture's width.
    """

    class_index: int
    width_share: float


def draw_object(draw: DrawObject, rng: np.random.Generator, side_px: int) -> Image.Image:
    """Return one lit and turned object on a transparent square of `side_px`."""
    sketch = Sketch(side_px * SUPERSAMPLING)
    draw(sketch, rng)
    sketch.shade((rng.uniform(-1, 1), -1), rng.uniform(0.05, 0.3))
    limit = 180 if rng.random() < FREE_TURN_SHARE else UPRIGHT_TURN_DEG
    turned = sketch.image.rotate(rng.uniform(-limit, limit), Image.Resampling.BILINEAR, expand=True)
    return turned.resize((side_px, side_px), Image.Resampling.BOX, reducing_gap=None)


def draw_in_picture(rng: np.random.Generator, class_index: int, size: back.Size) -> Image.Image:
    """Return a picture of `size` whose main object is of the class."""
    image = _scenery(rng, size)
    _place_main(rng, image, IN_CLASSES[class_index].draw)
    return _finished(rng, image)


def draw_out_picture(
    rng: np.random.Generator, kind: str, size: back.Size, corner: Corner | None = None
) -> Image.Image:
    """Return a picture of an out-of-distribution kind, with an in-class object in a corner where one is given."""
    return draw_planted_picture(rng, kind, size, corner)[0]


def draw_planted_picture(
    rng: np.random.Generator, kind: str, size: back.Size, corner: Corner | None
) -> tuple[Image.Image, tuple[int, int, int, int] | None]:
    """Return what `draw_out_picture` does, and the box (left, top, right, bottom) of the object in the corner."""
    box = None
    if kind in OUT_PATTERNS:
        image = OUT_PATTERNS[kind](rng, size)
    else:
        image = _scenery(rng, size)
        _place_main(rng, image, OUT_OBJECTS[kind])
    if corner is not None:
        side = max(8, round(corner.width_share * size[0]))
        margin = round(0.02 * size[0])
        x, y = (int(rng.choice([margin, length - side - margin])) for length in size)
        _paste(image, draw_object(IN_CLASSES[corner.class_index].draw, rng, side), x, y)
        box = (x, y, x + side, y + side)
    return _finished(rng, image), box


def draw_example(class_index: int, side_px: int) -> Image.Image:
    """Return the clear picture of a class that annotators see beside its name: one object on a plain ground."""
    rng = np.random.default_rng([EXAMPLE_SEED, class_index])
    image = Image.new("RGB", (side_px, side_px), (226, 230, 234))
    side = round(0.92 * side_px)
    margin = (side_px - side) // 2
    _paste(image, draw_object(IN_CLASSES[class_index].draw, rng, side), margin, margin)
    return image


def _scenery(rng: np.random.Generator, size: back.Size) -> Image.Image:
    image = back.draw_background(rng, size)
    back.draw_clutter(rng, image, int(rng.integers(0, 7)))
    return image


def _place_main(rng: np.random.Generator, image: Image.Image, draw: DrawObject) -> None:
    # The object is the photograph's subject: 45 to 105 % of the shorter side, and nearer the middle than the edge.
    side = round(rng.uniform(0.45, 1.05) * min(image.size))
    x, y = (
        round(
            (length - side) / 2 + (rng.random() + rng.random() - 1) * max(length - side, OUT_OF_FRAME * side) / 2
        )
        for length in image.size
    )
    _paste(image, draw_object(draw, rng, side), x, y, shadow=rng.uniform(0, 0.55))


def _paste(image: Image.Image, layer: Image.Image, x: int, y: int, shadow: float = 0.3) -> None:
    offset = max(1, layer.width // 30)
    cast = shadow_of(layer, offset, shadow)
    image.paste(cast, (x + offset, y + offset), cast)
    image.paste(layer, (x, y), layer)


def _finished(rng: np.random.Generator, image: Image.Image) -> Image.Image:
    back.draw_clutter(rng, image, int(rng.integers(0, 3)))
    return back.photograph(rng, image)
