"""A generated referring set: drawn scenes, phrases such as "the small red ring left of the cup", exact masks."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from curation.localize.scene_drawings import COLOURS, KINDS, draw_background, draw_thing
from curation.localize.scene_phrases import Thing, phrases_of
from manifests.durable import write_bytes, write_json
from manifests.errors import InputError, one_line
from manifests.stage_progress import ProgressBar

SCENES = "scenes"
"""Name of the data set in the layout of `curation.localize.referring_set`."""

SCENE_PX = 160
SIZES = {"small": (0.24, 0.28), "large": (0.42, 0.50)}
"""Side of a thing over the scene's. A localizer answers in cells of 4 px: of a thing 6 cells wide even one that is
found has a poor outline, and these are 10 and more."""

N_THINGS = (2, 4)
N_PHRASES = 3
_SPLITS = ("train", "val", "test")
_N_TRIES = 200
_SETTINGS_FILE = "scenes.json"


@dataclass(frozen=True, eq=False)
class Scene:
    """One drawn scene.

    Attributes
    ----------
    picture : Image
        RGB, `SCENE_PX` square.
    masks : ndarray of bool, (n_things, SCENE_PX, SCENE_PX)
        Which pixels each thing covers; no pixel is covered twice.
    things : tuple of Thing
        In the order of `masks`.
    target : int
        The thing that `phrases` name.
    phrases : tuple of str
        Each names it and no other.
    """

    picture: Image.Image
    masks: npt.NDArray[np.bool_]
    things: tuple[Thing, ...]
    target: int
    phrases: tuple[str, ...]


def make_scene(seed: int, split: str, number: int) -> Scene:
    """Return one scene; each split draws from streams of its own."""
    rng = np.random.default_rng([seed, _SPLITS.index(split), number])
    while True:
        things = _things(rng)
        phrases = phrases_of(rng, things, 0, N_PHRASES)
        # Without a phrase, the scene holds a twin of its target at a place that no relation tells apart. A thing
        # alone, as others found no room beside it, would ask nothing of the phrase.
        if phrases and len(things) >= N_THINGS[0]:
            return _drawn(rng, things, tuple(phrases))


def _things(rng: np.random.Generator) -> list[Thing]:
    """Return things that do not touch, the target first, then ones that share words with it."""
    n_things = int(rng.integers(N_THINGS[0], N_THINGS[1] + 1))
    kind, colour, size = (str(rng.choice(words)) for words in (list(KINDS), list(COLOURS), list(SIZES)))
    wanted = [(kind, colour, size)]
    while len(wanted) < n_things:
        other = (str(rng.choice(list(KINDS))), str(rng.choice(list(COLOURS))), str(rng.choice(list(SIZES))))
        # Half of the others share two or three of the target's words, so that no single word gives it away.
        shared = rng.random(3) < (0.75 if rng.random() < 0.5 else 0.1)
        wanted.append(tuple(np.where(shared, wanted[0], other).tolist()))
    things: list[Thing] = []
    for words in wanted:
        for _ in range(_N_TRIES):
            thing = Thing(*words, *(float(place) for place in rng.uniform(0.1, 0.9, size=2)))
            if _has_room(thing, things):
                things.append(thing)
                break
    return things


def _has_room(thing: Thing, others: list[Thing]) -> bool:
    reach = SIZES[thing.size][1] / 2
    if not reach <= min(thing.x, thing.y) <= max(thing.x, thing.y) <= 1 - reach:
        return False
    return all(
        max(abs(thing.x - other.x), abs(thing.y - other.y)) > reach + SIZES[other.size][1] / 2 for other in others
    )


def _drawn(rng: np.random.Generator, things: list[Thing], phrases: tuple[str, ...]) -> Scene:
    picture = draw_background(rng, SCENE_PX)
    masks = np.zeros((len(things), SCENE_PX, SCENE_PX), dtype=bool)
    for place, thing in enumerate(things):
        side = round(rng.uniform(*SIZES[thing.size]) * SCENE_PX)
        layer = draw_thing(rng, thing.kind, thing.colour, side)
        corner = (round(thing.x * SCENE_PX - side / 2), round(thing.y * SCENE_PX - side / 2))
        picture.paste(layer, corner, layer)
        alpha = Image.new("L", picture.size)
        alpha.paste(layer.getchannel("A"), corner)
        masks[place] = np.array(alpha) >= 128
    return Scene(picture, masks, tuple(things), 0, phrases)


def write_scenes(root: Path, counts: Mapping[str, int], seed: int) -> None:
    """Write scenes in the layout of `curation.localize.referring_set`; what is there of the same settings stays.

    Parameters
    ----------
    root : Path
        The layout's root.
    counts : mapping
        Scenes of each of the splits ``train``, ``val`` and ``test``.
    seed : int
        Of all draws.

    Raises
    ------
    InputError
        Scenes of other settings are there, which a training may have learnt from.
    """
    if check_scenes(root, counts, seed):
        return
    with ProgressBar(sum(counts.values()), "draw", unit="scene") as bar:
        for split, n_scenes in counts.items():
            entries = []
            for number in range(n_scenes):
                entries.append(_written(root, make_scene(seed, split, number), f"{split}_{number:05d}"))
                bar.update()
            write_bytes(root / "anns" / SCENES / f"{split}.json", json.dumps(entries, indent=0).encode())
    write_json(root / _SETTINGS_FILE, _settings(counts, seed))


def _settings(counts: Mapping[str, int], seed: int) -> dict[str, object]:
    sizes = {size: list(sides) for size, sides in SIZES.items()}
    return {"seed": seed, "counts": dict(counts), "scene_px": SCENE_PX, "sizes": sizes}


def check_scenes(root: Path, counts: Mapping[str, int], seed: int) -> bool:
    """Return whether scenes are drawn already; parameters and InputError as `write_scenes`."""
    path = root / _SETTINGS_FILE
    if not path.exists():
        return False
    try:
        found = dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise InputError(
            f"{path}: not the settings of drawn scenes ({one_line(error)}); delete the folder, or give another "
            "--out"
        ) from error
    for name, value in _settings(counts, seed).items():
        if found.get(name) != value:
            raise InputError(
                f"{path}: {name}: the scenes there were drawn with {found.get(name)}, and now it is {value}; "
                "give the same, or another --out"
            )
    return True


def _written(root: Path, scene: Scene, name: str) -> dict[str, object]:
    write_bytes(root / "images" / "train2014" / f"{name}.png", _png(scene.picture))
    mask = Image.fromarray(scene.masks[scene.target].astype(np.uint8) * 255)
    write_bytes(root / "masks" / SCENES / f"{name}.png", _png(mask))
    rows, columns = (
        scene.masks[scene.target].any(axis=1).nonzero()[0],
        scene.masks[scene.target].any(0).nonzero()[0],
    )
    return {
        "bbox": [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1],
        "cat": list(KINDS).index(scene.things[scene.target].kind),
        "segment_id": name,
        "img_name": f"{name}.png",
        "sentences": [{"idx": i, "sent_id": i, "sent": phrase} for i, phrase in enumerate(scene.phrases)],
        "sentences_num": len(scene.phrases),
    }


def _png(image: Image.Image) -> bytes:
    content = BytesIO()
    image.save(content, "PNG")
    return content.getvalue()
