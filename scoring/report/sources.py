"""What else is known of images that were scored: where their pictures lie, and what the model takes them for."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from manifests.errors import FeatureError, InputError, StageMissingError
from manifests.workspace import Workspace
from scoring.feature_sets import open_feature_set
from scoring.heads import HEAD_FILE_NAME, Head, read_head
from scoring.lineage import head_digest
from scoring.pictures import Picture, pictures_in_folder, pictures_of_workspace
from scoring.report.scored_model import ScoredModel

_NO_RECORD = (
    "no record of extract-features in this workspace says where they lie, and none of them was downloaded here."
)

WantedImages = Mapping[str, Collection[str]]
"""Image ids by set."""


@dataclass(frozen=True)
class SeenClasses:
    """The class of the largest logit of an image, and its own class, None where unknown."""

    predicted: int
    class_index: int | None


@dataclass(frozen=True)
class PicturesOfSet:
    """Pictures of one set by image id, and why there are none, where there are none."""

    pictures: Mapping[str, Picture] = field(default_factory=dict)
    reason: str | None = None


@dataclass(frozen=True)
class FeaturesFolder:
    """The features that were scored: their folder and its head."""

    path: Path
    head: Head


def find_features(workspace: Workspace, model: ScoredModel) -> FeaturesFolder | None:
    """Return the features that a folder of results was made of; None where they are not at hand any more.

    They are named in the record of the run, and known again by the digest of their head.
    """
    for recorder, name in ((workspace, f"score.{model.folder.name}"), *_own_records(model.folder)):
        for read in recorder.read_record(name, "inputs"):
            # Below the workspace, or as it was given.
            for path in (recorder.root / read, Path(read)):
                head = _head_at(path)
                if head is not None and head_digest(head) == model.record.head_sha256:
                    return FeaturesFolder(path.parent, head)
    return None


def _head_at(path: Path) -> Head | None:
    if path.name != HEAD_FILE_NAME or not path.is_file():
        return None
    try:
        return read_head(path.parent)
    except FeatureError:
        # Not the one that was scored.
        return None


def _own_records(folder: Path) -> list[tuple[Workspace, str]]:
    """Return the records in a folder that results were written to by ``score --out``."""
    recorder = Workspace(folder)
    return [(recorder, name) for name in recorder.record_names("score")]


def seen_classes(
    features: FeaturesFolder, wanted: WantedImages
) -> tuple[dict[tuple[str, str], SeenClasses], dict[str, str]]:
    """Return what is known of the wanted images by set and image id, and why nothing is known of some sets.

    A set is read chunk by chunk, so that its size does not matter.
    """
    found: dict[tuple[str, str], SeenClasses] = {}
    reasons = {}
    for set_name, image_ids in wanted.items():
        try:
            found |= _seen_in_set(features, set_name, image_ids)
        except FeatureError as error:
            reasons[set_name] = str(error)
    return found, reasons


def _seen_in_set(
    features: FeaturesFolder, set_name: str, image_ids: Collection[str]
) -> dict[tuple[str, str], SeenClasses]:
    value_set = pa.array(sorted(image_ids), pa.string())
    found = {}
    for batch in open_feature_set(features.path, set_name, features.head):
        rows = np.flatnonzero(np.asarray(pc.is_in(batch.image_ids, value_set=value_set)))
        if len(rows):
            predicted = features.head.logits(batch.features[rows]).argmax(dim=1).tolist()
            ids, classes = (
                column.take(pa.array(rows)).to_pylist() for column in (batch.image_ids, batch.class_index)
            )
            for image_id, class_seen, class_index in zip(ids, predicted, classes, strict=True):
                found[set_name, image_id] = SeenClasses(class_seen, class_index)
    return found


def find_pictures(workspace: Workspace, model_name: str, wanted: WantedImages) -> dict[str, PicturesOfSet]:
    """Return the pictures of each set, as `extract-features` recorded where it read them.

    A set without such a record was made elsewhere: of it, pictures that were downloaded here under the same image
    ids are shown.

    Parameters
    ----------
    workspace : Workspace
        With the records, and maybe pictures.
    model_name : str
        Folder below ``features/``.
    wanted : WantedImages
        Which images.
    """
    found = {}
    for set_name, image_ids in wanted.items():
        record = workspace.read_record(f"extract-features.{model_name}.{set_name}", "arguments")
        try:
            if "images" in record:
                source = pictures_in_folder(Path(record["images"]), image_ids=image_ids)
            else:
                source = pictures_of_workspace(workspace, image_ids=image_ids)
        except (InputError, StageMissingError) as error:
            found[set_name] = PicturesOfSet(reason=f"{error}." if record else _NO_RECORD)
        else:
            found[set_name] = PicturesOfSet({picture.image_id: picture for picture in source.pictures})
    return found
