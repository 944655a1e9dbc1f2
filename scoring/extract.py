"""The stage `extract-features`: pictures in, penultimate features and the head of a classifier out."""

import contextlib
import operator
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manifests.allocator import keep_freed_memory
from manifests.durable import sha256_of_json, write_json, write_text
from manifests.errors import FeatureError, InputError
from manifests.stage_progress import ProgressBar
from manifests.stage_state import json_of
from manifests.work_plan import WorkPlan, weights_to_fetch
from manifests.workspace import checked_name
from scoring.feature_model import FeatureModel
from scoring.feature_sets import FeatureSetWriter, feature_set_writer
from scoring.heads import Head, write_head
from scoring.network_pass import NetworkPass, Speed
from scoring.odin_input import OdinInput
from scoring.partial_sets import Part, PartRows, PartStore, parts_of, parts_sha256
from scoring.pictures import PictureSource
from scoring.set_records import (
    FinishedSet,
    check_sets_agree,
    features_settings,
    finished_set,
    record_path_of,
    unreadable_csv,
    unreadable_path_of,
)

DEFAULT_BATCH_SIZE = 64
DEFAULT_N_WORKERS = 2

_BATCHES_A_PART = 4
_LEAST_PART = 64
"""A stop costs half a part on average, seconds to a minute; a part costs a file that is forced to disk."""


@dataclass(frozen=True)
class ExtractResult:
    """What `extract_features` wrote.

    Attributes
    ----------
    features_path, unreadable_path, record_path : Path
        ``<set>.parquet``, ``<set>.unreadable.csv`` and ``<set>.json``.
    n_images : int
        Rows written.
    n_unreadable : int
        Pictures that cannot be read, or were asked for and are not there.
    n_labelled, n_correct : int
        Rows with a class index, and those of them whose largest logit is that class.
    n_done_before : int
        Pictures that earlier runs had done, and this one did not repeat.
    speed : Speed
        Of the others.
    """

    features_path: Path
    unreadable_path: Path
    record_path: Path
    n_images: int
    n_unreadable: int
    n_labelled: int
    n_correct: int
    n_done_before: int
    speed: Speed

    @property
    def top1(self) -> float | None:
        """Share of labelled images that the classifier gets right, None where no image has a label."""
        return self.n_correct / self.n_labelled if self.n_labelled else None


def extract_features(
    source: PictureSource,
    model: FeatureModel,
    *,
    set_name: str,
    features_dir: Path,
    odin: OdinInput | None = None,
    batch_size: int = DEFAULT_BATCH_SIZE,
    n_workers: int = DEFAULT_N_WORKERS,
) -> ExtractResult:
    """Return counts after writing one feature set, sorted by image id, and beside it the head and a record.

    ``head.safetensors``, ``<set>.parquet``, ``<set>.unreadable.csv`` (image_id, status, reason) and ``<set>.json``
    each appear in one step. Until then finished parts lie in ``<set>.parts/``: a run that was stopped goes on with
    those that are missing and ends in the bytes of an undisturbed one, and so does a run over a set that is there
    and of which some pictures changed. While the parts are put together they take their room on disk twice.

    Parameters
    ----------
    source : PictureSource
        Which pictures.
    model : FeatureModel
        On the device to compute on.
    set_name : str
        ``train``, ``val``, or the name of an OOD set.
    features_dir : Path
        Made where needed.
    odin : OdinInput, optional
        Take the features of pictures perturbed by ODIN; such sets have a folder of their own.
    batch_size : int
        Pictures that go through the network at once, at least 1. It changes features by float32 rounding.
    n_workers : int
        Threads that decode, at least 1; they change nothing.

    Raises
    ------
    InputError
        `set_name` is no name; `batch_size` or `n_workers` is below 1.
    FeatureError
        The folder holds the head or sets of another model, preprocessing or perturbation; no picture can be read;
        a feature is NaN or infinite.
    """
    features_path = features_dir / f"{checked_name(set_name, 'feature set')}.parquet"
    if batch_size < 1 or n_workers < 1:
        raise InputError(
            f"extract-features: expected a batch size and a number of threads of at least 1, "
            f"found {batch_size} and {n_workers}"
        )
    keep_freed_memory()
    settings = features_settings(model, odin, batch_size)
    check_sets_agree(features_dir, settings, set_name)
    write_head(features_dir, model.head)
    finished = finished_set(features_path, settings)
    store = PartStore(features_path.with_suffix(".parts"), sha256_of_json(settings))
    parts = _parts_to_make(source, batch_size)
    digests = _known_parts(parts, store, finished, set_name, n_workers)
    network_pass = NetworkPass(model, odin, batch_size=batch_size, n_workers=n_workers)
    speed = _make_missing_parts(parts, digests, store, network_pass, set_name)
    made_of = _made_of(source, digests)
    if finished is not None and finished.inputs_sha256 == made_of["inputs_sha256"]:
        counts = finished.counts
    else:
        with _rows_of_parts(store, finished, digests) as rows_of:
            counts = _put_together(source, parts, rows_of, features_path, model.head)
        write_json(record_path_of(features_path), {**_described(model), **settings, **made_of, "counts": counts})
    store.delete()
    return _result(features_path, counts, len(source.pictures), speed)


def plan_extract(
    source: PictureSource, *, set_name: str, features_dir: Path, batch_size: int, weights: tuple[str, str]
) -> WorkPlan:
    """Return how many pictures a run would take through the network, told without loading the model.

    A part that is there counts as done: a run reads its pictures again, and makes it anew where they, the model or
    its preprocessing have changed. `weights` are the model's name, and the tag or path of its weights.
    """
    features_path = features_dir / f"{checked_name(set_name, 'feature set')}.parquet"
    made = {path.stem for path in features_path.with_suffix(".parts").glob("*.safetensors")}
    made |= json_of(record_path_of(features_path)).get("parts", {}).keys()
    parts = _parts_to_make(source, batch_size)
    n_due = sum(len(part.pictures) for part in parts if part.name not in made)
    files = (
        features_path, record_path_of(features_path), unreadable_path_of(features_path),
        features_dir / "head.safetensors",
    )  # fmt: skip
    absent = [f"{len(source.absent):,} pictures are asked for and not there"] if source.absent else []
    return WorkPlan(
        n_due, len(source.pictures) - n_due, reads=[f"{len(source.pictures):,} pictures"],
        fetches=weights_to_fetch(*weights), writes=[str(path) for path in files],
        notes=[*absent, "if model and pictures are those of the parts that are there"],
    )  # fmt: skip


def _parts_to_make(source: PictureSource, batch_size: int) -> list[Part]:
    return parts_of(source.pictures, max(_LEAST_PART, _BATCHES_A_PART * batch_size))


def extract_summary(result: ExtractResult) -> str:
    """Return in one line what was written, how good the classifier is, and how fast it went."""
    told = [f"{result.n_images:,} of {result.features_path.stem}", f"{result.n_unreadable:,} unreadable"]
    if result.top1 is not None:
        told.append(f"top-1 {result.top1:.3f} of {result.n_labelled:,} labelled")
    if result.n_done_before:
        told.append("all done before" if not result.speed.n_images else f"{result.n_done_before:,} done before")
    if result.speed.n_images:
        alone = result.speed.model_images_per_s
        compared = "" if alone is None else f" (the model alone: {_rate(alone)})"
        told.append(f"{_rate(result.speed.images_per_s)} images/s{compared}")
    return f"extract-features: {', '.join(told)}; {result.features_path}"


def _rate(images_per_s: float) -> str:
    return f"{images_per_s:,.0f}" if images_per_s >= 10 else f"{images_per_s:.1f}"


def _result(features_path: Path, counts: Mapping[str, int], n_pictures: int, speed: Speed) -> ExtractResult:
    return ExtractResult(
        features_path=features_path,
        unreadable_path=unreadable_path_of(features_path),
        record_path=record_path_of(features_path),
        n_images=counts["images"],
        n_unreadable=counts["unreadable"],
        n_labelled=counts["labelled"],
        n_correct=counts["correct"],
        n_done_before=n_pictures - speed.n_images,
        speed=speed,
    )


def _known_parts(
    parts: Sequence[Part], store: PartStore, finished: FinishedSet | None, set_name: str, n_workers: int
) -> dict[str, str]:
    """Return the parts that need not be made, with the digest of their pictures, after reading these again."""
    claimed = {part.name: {store.pictures_sha256(part)} for part in parts}
    if finished is not None:
        for name in finished.parts.keys() & claimed.keys():
            claimed[name].add(finished.parts[name])
    to_check = [part for part in parts if claimed[part.name] != {None}]
    n_pictures = sum(len(part.pictures) for part in to_check)
    with ProgressBar(n_pictures, f"check {set_name}") as progress:
        found = parts_sha256(to_check, n_workers, progress.update)
    return {name: digest for name, digest in found.items() if digest in claimed[name]}


def _make_missing_parts(
    parts: Sequence[Part], digests: dict[str, str], store: PartStore, network_pass: NetworkPass, set_name: str
) -> Speed:
    """Store the parts that are not among `digests`, and enter them there."""
    missing = [part for part in parts if part.name not in digests]
    n_all = sum(len(part.pictures) for part in parts)
    n_missing = sum(len(part.pictures) for part in missing)

    def keep(part: Part, rows: PartRows) -> None:
        store.write(part, rows)
        digests[part.name] = rows.pictures_sha256

    with ProgressBar(n_all, f"extract {set_name}", initial=n_all - n_missing) as progress:
        return network_pass.run(missing, keep, progress.update)


def _described(model: FeatureModel) -> dict[str, Any]:
    return {"model": model.name, "n_features": model.head.n_features, "n_classes": model.head.n_classes}


def _made_of(source: PictureSource, digests: Mapping[str, str]) -> dict[str, Any]:
    labels = {picture.image_id: picture.class_index for picture in source.pictures}
    return {
        "manifest": None if source.manifest is None else dict(source.manifest),
        "parts": dict(digests),
        "inputs_sha256": sha256_of_json([digests, labels, dict(source.absent), source.manifest]),
    }


@contextlib.contextmanager
def _rows_of_parts(
    store: PartStore, finished: FinishedSet | None, digests: Mapping[str, str]
) -> Iterator[Callable[[Part], PartRows]]:
    """Yield a function that returns the rows of a part, as stored or out of the finished set, in order."""
    with contextlib.nullcontext() if finished is None else finished.reading_back() as rows_of_finished:

        def rows_of(part: Part) -> PartRows:
            is_stored = store.pictures_sha256(part) == digests[part.name]
            return store.read(part) if is_stored or rows_of_finished is None else rows_of_finished(part)

        yield rows_of


def _put_together(
    source: PictureSource,
    parts: Sequence[Part],
    rows_of: Callable[[Part], PartRows],
    features_path: Path,
    head: Head,
) -> dict[str, int]:
    """Write the feature set and the list of what could not be read, and return counts."""
    unreadable = {image_id: ("missing", reason) for image_id, reason in source.absent.items()}
    counts = Counter[str]()
    with feature_set_writer(features_path, head.n_features) as writer:
        for part in parts:
            rows = rows_of(part)
            unreadable |= rows.unreadable
            counts.update(_write_part(writer, head, part, rows))
        if not counts["images"]:
            first = min(unreadable)
            raise FeatureError(
                f"{features_path.stem}: none of {len(unreadable)} pictures can be read; "
                f"the first, {first}: {': '.join(unreadable[first])}"
            )
        # From here to the new record there is none: an old one must not speak of the new rows.
        record_path_of(features_path).unlink(missing_ok=True)
    write_text(unreadable_path_of(features_path), unreadable_csv(unreadable))
    return {"images": 0, "labelled": 0, "correct": 0, **counts, "unreadable": len(unreadable)}


def _write_part(writer: FeatureSetWriter, head: Head, part: Part, rows: PartRows) -> dict[str, int]:
    """Write the rows of a part and return how many there are, have a class, and have the largest logit there."""
    pictures = [picture for picture in part.pictures if picture.image_id not in rows.unreadable]
    if not pictures:
        return {}
    classes = [picture.class_index for picture in pictures]
    writer.write([picture.image_id for picture in pictures], classes, rows.features)
    is_labelled = [class_index is not None for class_index in classes]
    predicted = head.logits(rows.features[is_labelled].to(head.device)).argmax(dim=1).tolist()
    known = [class_index for class_index in classes if class_index is not None]
    n_correct = sum(map(operator.eq, predicted, known))
    return {"images": len(pictures), "labelled": len(known), "correct": n_correct}
