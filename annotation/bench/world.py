"""A made-up workspace of any size for `bench annotate`: tables like real ones, and real JPEGs under many names."""

import hashlib
import os
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from annotation.decision_log import open_log
from annotation.decisions import Decision
from manifests import schema
from manifests.label_space import ClassName, write_label_space
from manifests.workspace import Workspace

N_CLASSES = 1000
OTHER_ANNOTATOR = "ben"

_SIZE_PX = (1024, 768)
_EXAMPLE_PX = (256, 192)
# A file system may allow 65,000 names for one file.
_N_PICTURES = 16
_GRAIN = 12
_AT = "2026-01-02T03:04:05.678+00:00"


def make_world(root: Path, n_rows: int, seed: int) -> Workspace:
    """Return a screened workspace of `n_rows` pictures, half of which one other annotator has answered.

    Example pictures of all classes lie in ``examples`` beside its tables.
    """
    workspace = Workspace(root)
    drawn = random.Random(seed)
    ids = sorted(hashlib.sha256(f"{seed} {number}".encode()).hexdigest()[:16] for number in range(n_rows))
    _make_pictures(workspace, ids, seed)
    classes = [ClassName(index, f"made-up class {index}", f"n{index:08d}") for index in range(N_CLASSES)]
    write_label_space(workspace.classes_path, classes)
    empty = dict.fromkeys(schema.CANDIDATES.schema.names)
    url = "https://pictures.invalid/"
    rows = [empty | {"image_id": image_id, "subset": "test", "url": url + image_id} for image_id in ids]
    workspace.write(schema.CANDIDATES, rows)
    workspace.write(schema.DOWNLOADS, [_download(workspace, image_id) for image_id in ids])
    workspace.write(schema.SCREEN, [_screened(image_id, drawn) for image_id in ids])
    with open_log(workspace, OTHER_ANNOTATOR) as log:
        log.append_all(list(_answers(ids[::2], drawn)))
    return workspace


def _make_pictures(workspace: Workspace, ids: list[str], seed: int) -> None:
    workspace.root.mkdir(parents=True)
    originals = [workspace.root / f"original-{number}.jpg" for number in range(_N_PICTURES)]
    for number, original in enumerate(originals):
        _picture(seed + number).save(original, "JPEG", quality=90)
    for number, image_id in enumerate(ids):
        path = workspace.root / workspace.relative_image_path(image_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(originals[number % _N_PICTURES], path)
    example = workspace.root / "example.jpg"
    _picture(seed).resize(_EXAMPLE_PX).save(example, "JPEG", quality=90)
    for class_index in range(N_CLASSES):
        folder = workspace.root / "examples" / str(class_index)
        folder.mkdir(parents=True)
        os.link(example, folder / "example.jpg")


def _picture(seed: int) -> Image.Image:
    """Return soft shapes with the grain of a camera: of plain colour, a JPEG would be too quick to decode."""
    drawn = np.random.default_rng(seed)
    shapes = Image.fromarray(drawn.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    smooth = np.asarray(shapes.resize(_SIZE_PX, Image.Resampling.BICUBIC), dtype=np.float32)
    grainy = smooth + drawn.normal(0, _GRAIN, smooth.shape)
    return Image.fromarray(grainy.clip(0, 255).astype(np.uint8))


def _download(workspace: Workspace, image_id: str) -> dict[str, object]:
    width_px, height_px = _SIZE_PX
    return dict.fromkeys(schema.DOWNLOADS.schema.names) | {
        "image_id": image_id,
        "status": "ok",
        "attempts": 1,
        "sha256": hashlib.sha256(image_id.encode()).hexdigest(),
        "path": workspace.relative_image_path(image_id),
        "width_px": width_px,
        "height_px": height_px,
    }


def _screened(image_id: str, drawn: random.Random) -> dict[str, object]:
    n_shown = schema.N_SHOWN_CLASSES
    return dict.fromkeys(schema.SCREEN.schema.names) | {
        "image_id": image_id,
        "status": "review",
        "risk": drawn.random(),
        "shown_classes": drawn.sample(range(N_CLASSES), n_shown),
        "shown_similarities": sorted((drawn.random() for _ in range(n_shown)), reverse=True),
        "shown_sources": ["clip"] * n_shown,
        "shown_views": ["full"] * n_shown,
        "is_control": drawn.random() < 0.01,
    }


def _answers(image_ids: list[str], drawn: random.Random) -> Iterator[Decision]:
    for image_id in image_ids:
        yield made_up_answer(image_id, drawn.choices(("out", "difficult", "skip"), (90, 8, 2))[0])


def made_up_answer(image_id: str, answer: str) -> Decision:
    """Return a decision as the panel would have stored it."""
    return Decision(
        decision_id=f"made-up-{image_id}",
        image_id=image_id,
        answer=answer,
        class_index=None,
        shown_classes=tuple(range(schema.N_SHOWN_CLASSES)),
        queue="first",
        seconds=2.5,
        guideline="made-up",
        tool_version="made-up",
        at=_AT,
    )
