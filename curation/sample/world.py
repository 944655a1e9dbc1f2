"""The sample's world: pictures, Open-Images-shaped metadata, a mirror's folder, an ImageNet and the truth."""

import csv
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from curation.engine.local import LocalEngine
from curation.sample.made_up_rows import COLUMNS, make_up_row
from curation.sample.pictures import IN_CLASSES, Corner, draw_example, draw_in_picture, draw_out_picture
from curation.sample.world_plan import CORNER_WIDTH_SHARE, CandidatePlan, plan_candidates
from manifests.durable import write_bytes, write_text
from manifests.errors import InputError
from manifests.images import jpeg_bytes
from manifests.label_space import ClassName, write_label_space

SUBSET = "test"
TRUTH_COLUMNS = ("image_id", "truth", "class_index", "kind", "drawn", "duplicate_of")
LABEL_COLUMNS = ("file", "class_index")

MIN_CANDIDATES = 40
"""Below this the shares of the mix mean nothing."""

IMAGENET_SIDE_PX = (96, 129)
EXAMPLE_SIDE_PX = 160
MIRROR_QUALITY, ORIGINAL_QUALITY = 88, 95
SERIAL_BELOW = 250
"""Fewer pictures than this are drawn before a pool of processes has started."""
_TASKS_A_PART = 32
"""A message to a process and back takes about as long as one picture."""

_HTML_PAGE = b"<!DOCTYPE html>\n<html><head><title>Photo unavailable</title></head><body>410</body></html>\n"


@dataclass(frozen=True)
class World:
    """Where the parts of a world lie.

    Attributes
    ----------
    metadata_path : Path
        ``metadata/test-images-with-rotation.csv``: what `candidates` reads.
    mirror_dir : Path
        Folder for `curation.sample.mirror.serving`: ``test/<image_id>.jpg``.
    truth_path : Path
        ``truth.csv``; `kind` is ``plain`` or a key of `CANDIDATE_MIX`. Of a broken picture, the truth as drawn.
    classes_path : Path
        ``classes.csv``: the label space, with ImageNet's names and WordNet ids.
    imagenet_train_dir, imagenet_val_dir : Path
        Folders of pictures of the in-classes.
    train_labels_path, val_labels_path : Path
        Their labels; `file` is relative to the folder of pictures.
    examples_dir : Path
        ``<class_index>/1.jpg``: one clear picture a class for the annotators.
    """

    root: Path
    metadata_path: Path
    mirror_dir: Path
    truth_path: Path
    classes_path: Path
    imagenet_train_dir: Path
    train_labels_path: Path
    imagenet_val_dir: Path
    val_labels_path: Path
    examples_dir: Path


def world_at(folder: Path) -> World:
    """Return the paths of a world below `folder`, made or yet to be made."""
    imagenet = folder / "imagenet"
    return World(
        root=folder,
        metadata_path=folder / "metadata" / "test-images-with-rotation.csv",
        mirror_dir=folder / "mirror",
        truth_path=folder / "truth.csv",
        classes_path=folder / "classes.csv",
        imagenet_train_dir=imagenet / "train",
        train_labels_path=imagenet / "train_labels.csv",
        imagenet_val_dir=imagenet / "val",
        val_labels_path=imagenet / "val_labels.csv",
        examples_dir=folder / "examples",
    )


def make_world(
    folder: Path,
    *,
    seed: int = 0,
    n_candidates: int = 600,
    n_train: int = 50,
    n_val: int = 12,
    n_workers: int | None = None,
) -> World:
    """Draw a world into `folder` and return its paths; the same arguments give the same bytes.

    Parameters
    ----------
    folder : Path
        Made where it is not there; files of the same name are replaced.
    seed : int
        Another seed gives another world of the same kinds; 0 is the demo's.
    n_candidates : int
        Rows of the metadata.
    n_train, n_val : int
        ImageNet-like pictures a class.
    n_workers : int, optional
        Processes that draw; by default one a core, at most four. No effect on the bytes.

    Raises
    ------
    InputError
        `n_candidates` is below `MIN_CANDIDATES`.
    """
    if n_candidates < MIN_CANDIDATES:
        raise InputError(f"n_candidates: expected {MIN_CANDIDATES} or more, found {n_candidates}")
    world = world_at(folder)
    plans = plan_candidates(seed, n_candidates)
    labelled = [*_labelled("train", seed, n_train), *_labelled("val", seed, n_val)]
    tasks = [*(_Task(world, plan) for plan in plans), *(_Task(world, picture) for picture in labelled)]
    rows = [row for row in _drawn(tasks, n_workers) if row is not None]
    _write_csv(world.metadata_path, COLUMNS, sorted(rows, key=lambda row: row["ImageID"]))
    _write_csv(world.truth_path, TRUTH_COLUMNS, sorted(map(_truth_row, plans), key=lambda row: row["image_id"]))
    for path, part in ((world.train_labels_path, "train"), (world.val_labels_path, "val")):
        _write_csv(path, LABEL_COLUMNS, (_label_row(picture) for picture in labelled if picture.part == part))
    _write_classes(world)
    return world


@dataclass(frozen=True)
class _LabelledPicture:
    """A picture of the world's ImageNet."""

    part: str
    seed: tuple[int, ...]
    class_index: int
    number: int

    @property
    def file(self) -> str:
        if self.part == "val":
            # One flat folder, as ImageNet's validation set is: names must not say the class.
            return f"val_{np.random.default_rng(self.seed).integers(2**32):08x}.jpg"
        # The stem is the image id, so it must be unique over all classes.
        return f"{self.class_index}/train_{self.class_index:02d}_{self.number + 1:04d}.jpg"


@dataclass(frozen=True)
class _Task:
    world: World
    picture: CandidatePlan | _LabelledPicture


def _labelled(part: str, seed: int, n_pictures: int) -> list[_LabelledPicture]:
    stream = {"train": 3, "val": 4}[part]
    return [
        _LabelledPicture(part, (seed, stream, class_index, number), class_index, number)
        for class_index in range(len(IN_CLASSES))
        for number in range(n_pictures)
    ]


def _drawn(tasks: Sequence[_Task], n_workers: int | None) -> list[dict[str, str] | None]:
    workers = min(4, os.cpu_count() or 1) if n_workers is None else n_workers
    if workers < 2 or len(tasks) < SERIAL_BELOW:
        return _draw_part(tasks)
    parts = [tasks[begin : begin + _TASKS_A_PART] for begin in range(0, len(tasks), _TASKS_A_PART)]
    return [row for rows in LocalEngine(workers).map(_draw_part, parts) for row in rows]


def _draw_part(tasks: Sequence[_Task]) -> list[dict[str, str] | None]:
    return [_draw(task) for task in tasks]


def _draw(task: _Task) -> dict[str, str] | None:
    """Write one picture; return its metadata row where it is a candidate."""
    if isinstance(task.picture, CandidatePlan):
        return _draw_candidate(task.world, task.picture)
    _draw_labelled(task.world, task.picture)
    return None


def _draw_labelled(world: World, picture: _LabelledPicture) -> None:
    rng = np.random.default_rng(picture.seed)
    folder = world.imagenet_train_dir if picture.part == "train" else world.imagenet_val_dir
    side = int(rng.integers(*IMAGENET_SIDE_PX))
    image = draw_in_picture(rng, picture.class_index, (side, side))
    write_bytes(folder / picture.file, jpeg_bytes(image, MIRROR_QUALITY))


def _draw_candidate(world: World, plan: CandidatePlan) -> dict[str, str]:
    image = _upright_picture(plan)
    # What is the candidate's own, not its source's: how a copy differs, and the row.
    own = np.random.default_rng([5, *bytes.fromhex(plan.image_id)])
    if plan.kind == "near_duplicate":
        image = _altered(own, image)
    original = jpeg_bytes(image, ORIGINAL_QUALITY)
    stored = jpeg_bytes(image.rotate(-plan.rotation_deg, expand=True), MIRROR_QUALITY)
    content = _as_served(own, plan.kind, stored)
    if content is not None:
        write_bytes(world.mirror_dir / SUBSET / f"{plan.image_id}.jpg", content)
    return make_up_row(own, plan.image_id, original, plan.rotation)


def _upright_picture(plan: CandidatePlan) -> Image.Image:
    rng = np.random.default_rng(plan.seed)
    if plan.out_kind is None:
        if plan.class_index is None:
            raise InputError(f"{plan.image_id}: a plan needs an out kind or a class")
        return draw_in_picture(rng, plan.class_index, plan.size)
    corner = None if plan.class_index is None else Corner(plan.class_index, rng.uniform(*CORNER_WIDTH_SHARE))
    return draw_out_picture(rng, plan.out_kind, plan.size, corner)


def _altered(rng: np.random.Generator, image: Image.Image) -> Image.Image:
    """Return `image` as a re-upload: a little smaller, brighter or darker, compressed once more."""
    scale = rng.uniform(0.85, 0.98)
    smaller = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
    brighter = ImageEnhance.Brightness(smaller).enhance(rng.uniform(0.9, 1.12))
    return Image.open(io.BytesIO(jpeg_bytes(brighter, int(rng.integers(60, 85))))).convert("RGB")


def _as_served(rng: np.random.Generator, kind: str, stored: bytes) -> bytes | None:
    """Return what the mirror holds for a candidate of `kind`, None where it holds nothing."""
    if kind == "broken_missing":
        return None
    if kind == "broken_html":
        return _HTML_PAGE
    if kind == "broken_empty":
        return b""
    if kind == "broken_truncated":
        return stored[: int(len(stored) * rng.uniform(0.3, 0.8))]
    if kind == "broken_garbage":
        return rng.bytes(len(stored))
    return stored


def _write_classes(world: World) -> None:
    """Write the label space, and the annotators' example of each class."""
    classes = [ClassName(class_index, known.name, known.wnid) for class_index, known in enumerate(IN_CLASSES)]
    write_label_space(world.classes_path, classes)
    for class_index in range(len(IN_CLASSES)):
        example = jpeg_bytes(draw_example(class_index, EXAMPLE_SIDE_PX), ORIGINAL_QUALITY)
        write_bytes(world.examples_dir / str(class_index) / "1.jpg", example)


def _truth_row(plan: CandidatePlan) -> dict[str, str]:
    return {
        "image_id": plan.image_id,
        "truth": plan.truth,
        "class_index": "" if plan.class_index is None else str(plan.class_index),
        "kind": "plain" if plan.kind.startswith("plain") else plan.kind,
        "drawn": plan.out_kind or IN_CLASSES[plan.class_index or 0].name,
        "duplicate_of": plan.duplicate_of or "",
    }


def _label_row(picture: _LabelledPicture) -> dict[str, str]:
    return {"file": picture.file, "class_index": str(picture.class_index)}


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[dict[str, str]]) -> None:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, stream.getvalue())
