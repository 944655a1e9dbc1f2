"""The stage `extract-features`: pictures in, penultimate features and the head of a classifier out."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from manifests.ahead import prepared_ahead
from manifests.durable import write_json, write_text
from manifests.errors import FeatureError, InputError, UnreadableImageError
from manifests.images import read_image
from manifests.workspace import checked_name
from scoring.classifier import Classifier, Preprocessing
from scoring.feature_sets import FeatureSetWriter, feature_set_writer
from scoring.heads import write_head
from scoring.pictures import Picture, PictureSource

DEFAULT_BATCH_SIZE = 64
DEFAULT_N_WORKERS = 2

_BATCHES_AHEAD = 2
"""Decoded pictures that wait for the network, in batches: it never waits, at 77 MB for 224 px and 64 a batch."""


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
    """

    features_path: Path
    unreadable_path: Path
    record_path: Path
    n_images: int
    n_unreadable: int
    n_labelled: int
    n_correct: int

    @property
    def top1(self) -> float | None:
        """Share of labelled images that the classifier gets right, None where no image has a label."""
        return self.n_correct / self.n_labelled if self.n_labelled else None


def extract_features(
    source: PictureSource,
    classifier: Classifier,
    *,
    set_name: str,
    features_dir: Path,
    batch_size: int = DEFAULT_BATCH_SIZE,
    n_workers: int = DEFAULT_N_WORKERS,
) -> ExtractResult:
    """Return counts after writing one feature set, sorted by image id, and beside it the head and a record.

    ``head.safetensors``, ``<set>.parquet``, ``<set>.unreadable.csv`` (image_id, status, reason) and ``<set>.json``
    each appear in one step. Pictures are decoded in threads, at most two batches ahead of the network.

    Parameters
    ----------
    source : PictureSource
        Which pictures.
    classifier : Classifier
        On the device to compute on.
    set_name : str
        ``train``, ``val``, or the name of an OOD set.
    features_dir : Path
        Made where needed.
    batch_size : int
        Pictures that go through the network at once, at least 1. It changes features by float32 rounding.
    n_workers : int
        Threads that decode, at least 1; they change nothing.

    Raises
    ------
    InputError
        `set_name` is no name; `batch_size` or `n_workers` is below 1.
    FeatureError
        The folder holds the head of another model; no picture can be read; a feature is NaN or infinite.
    """
    features_path = features_dir / f"{checked_name(set_name, 'feature set')}.parquet"
    if batch_size < 1 or n_workers < 1:
        raise InputError(
            f"extract-features: expected a batch size and a number of threads of at least 1, "
            f"found {batch_size} and {n_workers}"
        )
    _check_sets_agree(features_dir, classifier, set_name)
    write_head(features_dir, classifier.head)
    unreadable = {image_id: ("missing", reason) for image_id, reason in source.absent.items()}
    n_images = n_labelled = n_correct = 0
    with feature_set_writer(features_path, classifier.head.n_features) as writer:
        decoded = _decoded(source.pictures, classifier.preprocessing, n_workers, _BATCHES_AHEAD * batch_size)
        progress = tqdm(decoded, f"extract {set_name}", len(source.pictures), unit="image", disable=None)
        for pictures, pixels in _batches(progress, batch_size, unreadable):
            predicted = _write_batch(writer, classifier, pictures, pixels)
            n_images += len(pictures)
            n_labelled += sum(picture.class_index is not None for picture in pictures)
            n_correct += sum(
                picture.class_index == index for picture, index in zip(pictures, predicted, strict=True)
            )
        if not n_images:
            first = min(unreadable)
            raise FeatureError(
                f"{set_name}: none of {len(unreadable)} pictures can be read; "
                f"the first, {first}: {': '.join(unreadable[first])}"
            )
    result = ExtractResult(
        features_path=features_path,
        unreadable_path=features_dir / f"{set_name}.unreadable.csv",
        record_path=features_dir / f"{set_name}.json",
        n_images=n_images,
        n_unreadable=len(unreadable),
        n_labelled=n_labelled,
        n_correct=n_correct,
    )
    write_text(result.unreadable_path, _unreadable_csv(unreadable))
    write_json(result.record_path, _record(result, classifier, batch_size))
    return result


def _decoded(
    pictures: Sequence[Picture], preprocessing: Preprocessing, n_workers: int, n_ahead: int
) -> Iterator[tuple[Picture, torch.Tensor | UnreadableImageError]]:
    """Return pictures in order as network input, or as the error of reading them; at most `n_ahead` wait."""

    def decode(picture: Picture) -> torch.Tensor | UnreadableImageError:
        try:
            return preprocessing.pixels(read_image(picture.path, picture.rotation_deg))
        except UnreadableImageError as error:
            return error

    return prepared_ahead(decode, pictures, n_workers=n_workers, n_ahead=n_ahead)


def _batches(
    decoded: Iterable[tuple[Picture, torch.Tensor | UnreadableImageError]],
    batch_size: int,
    unreadable: dict[str, tuple[str, str]],
) -> Iterator[tuple[list[Picture], torch.Tensor]]:
    """Yield full batches of what was read, (n, 3, side, side), and enter in `unreadable` what was not."""
    pictures: list[Picture] = []
    inputs: list[torch.Tensor] = []
    for picture, pixels in decoded:
        if isinstance(pixels, UnreadableImageError):
            unreadable[picture.image_id] = (pixels.status, pixels.reason)
            continue
        pictures.append(picture)
        inputs.append(pixels)
        if len(pictures) == batch_size:
            yield pictures, torch.stack(inputs)
            pictures, inputs = [], []
    if pictures:
        yield pictures, torch.stack(inputs)


def _write_batch(
    writer: FeatureSetWriter, classifier: Classifier, pictures: Sequence[Picture], pixels: torch.Tensor
) -> list[int]:
    """Write the features of one batch and return the class of each picture's largest logit."""
    features = classifier.features(pixels)
    is_finite = torch.isfinite(features).all(dim=1)  # (n,)
    if not is_finite.all():
        first = pictures[int(is_finite.int().argmin())].image_id
        raise FeatureError(f"model {classifier.name!r}: image {first} gets a NaN or infinite feature")
    writer.write(
        [picture.image_id for picture in pictures], [picture.class_index for picture in pictures], features
    )
    return classifier.head.logits(features).argmax(dim=1).tolist()


def _unreadable_csv(unreadable: Mapping[str, tuple[str, str]]) -> str:
    stream = io.StringIO()
    rows = csv.writer(stream, lineterminator="\n")
    rows.writerow(["image_id", "status", "reason"])
    rows.writerows((image_id, *unreadable[image_id]) for image_id in sorted(unreadable))
    return stream.getvalue()


def _check_sets_agree(features_dir: Path, classifier: Classifier, set_name: str) -> None:
    """Refuse a folder whose other sets were made by other weights or preprocessing: they are not comparable."""
    own = _made_by(classifier)
    others = [path.with_suffix(".json") for path in features_dir.glob("*.parquet") if path.stem != set_name]
    for path in sorted(path for path in others if path.exists()):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            found = {name: record[name] for name in own}
        except (ValueError, KeyError, TypeError) as error:
            raise FeatureError(f"{path}: not the record of a set ({error})") from error
        if differing := [name for name in own if found[name] != own[name]]:
            raise FeatureError(
                f"{path}: this set was made with another {differing[0]} ({found[differing[0]]}, now "
                f"{own[differing[0]]}); use another folder, or delete the set"
            )


def _made_by(classifier: Classifier) -> dict[str, Any]:
    # Through JSON, as tuples come back as lists.
    preprocessing = json.loads(json.dumps(asdict(classifier.preprocessing)))
    return {"weights_digest": classifier.weights_digest, "preprocessing": preprocessing}


def _record(result: ExtractResult, classifier: Classifier, batch_size: int) -> dict[str, object]:
    return {
        "model": classifier.name,
        **_made_by(classifier),
        "n_features": classifier.head.n_features,
        "n_classes": classifier.head.n_classes,
        "batch_size": batch_size,
        "device": classifier.head.device.type,
        "counts": {
            "images": result.n_images,
            "unreadable": result.n_unreadable,
            "labelled": result.n_labelled,
            "correct": result.n_correct,
        },
    }
