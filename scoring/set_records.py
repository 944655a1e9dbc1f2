"""The record beside a feature set: how it was made and of what, whether it can stay, and its rows read back."""

import contextlib
import csv
import io
import json
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from manifests.errors import FeatureError
from scoring.feature_model import FeatureModel
from scoring.feature_sets import open_feature_set
from scoring.lineage import MODEL_KEYS
from scoring.odin_input import OdinInput
from scoring.partial_sets import Part, PartRows

_UNREADABLE_COLUMNS = ("image_id", "status", "reason")


def features_settings(model: FeatureModel, odin: OdinInput | None, batch_size: int) -> dict[str, Any]:
    """Return everything but the pictures that features depend on, to the last bit, as JSON values."""
    return {
        "weights_digest": model.weights_digest,
        "preprocessing": model.preprocessing_record(),
        "odin": None if odin is None else {"temperature": odin.temperature, "epsilon": odin.epsilon},
        "batch_size": batch_size,
        "device": model.head.device.type,
    }


def check_sets_agree(features_dir: Path, settings: Mapping[str, Any], set_name: str) -> None:
    """Refuse a folder whose other sets were made by other weights, preprocessing or perturbation.

    A record without a word on ODIN is from before it could be said: plain pictures.

    Raises
    ------
    FeatureError
        Naming the record, what differs, and what to do; or a record is damaged.
    """
    others = [path.with_suffix(".json") for path in features_dir.glob("*.parquet") if path.stem != set_name]
    for path in sorted(path for path in others if path.exists()):
        try:
            record = {"odin": None} | json.loads(path.read_text(encoding="utf-8"))
            found = {name: record[name] for name in MODEL_KEYS}
        except (ValueError, KeyError, TypeError) as error:
            raise FeatureError(f"{path}: not the record of a set ({error})") from error
        if differing := [name for name in MODEL_KEYS if found[name] != settings[name]]:
            raise FeatureError(
                f"{path}: this set was made with another {differing[0]} ({found[differing[0]]}, now "
                f"{settings[differing[0]]}); use another folder, or delete the set"
            )


@dataclass(frozen=True, eq=False)
class FinishedSet:
    """A set that an earlier run wrote with the settings of now.

    Attributes
    ----------
    features_path, unreadable_path : Path
        Its rows, and the rows of what could not be read.
    counts : mapping of str to int
        ``images``, ``unreadable``, ``labelled`` and ``correct``.
    parts : mapping of str to str
        Digest of the pictures of each part by the name of the part.
    inputs_sha256 : str
        Of all that it is made of.
    """

    features_path: Path
    unreadable_path: Path
    counts: Mapping[str, int]
    parts: Mapping[str, str]
    inputs_sha256: str

    @contextlib.contextmanager
    def reading_back(self) -> Iterator[Callable[[Part], PartRows]]:
        """Yield a function that returns the rows of a part of this set; parts are asked for in their order.

        Raises
        ------
        FeatureError
            A row that the record speaks of is not there.
        """
        unreadable = _read_unreadable(self.unreadable_path)
        rows = self._rows()

        def row_of(image_id: str) -> torch.Tensor | None:
            # Asked for in the order of ids: rows that are passed over are of parts made anew, or of none.
            return next((row for name, row in rows if name == image_id), None)

        def part_rows(part: Part) -> PartRows:
            image_ids = [picture.image_id for picture in part.pictures]
            wanted = [image_id for image_id in image_ids if image_id not in unreadable]
            found = [row for row in map(row_of, wanted) if row is not None]
            if len(found) < len(wanted):
                raise FeatureError(f"{self.features_path}: lacks images that its record speaks of; delete the set")
            return PartRows(
                self.parts[part.name],
                {image_id: unreadable[image_id] for image_id in image_ids if image_id in unreadable},
                torch.stack(found) if found else torch.empty(0, 0),
            )

        try:
            yield part_rows
        finally:
            rows.close()

    def _rows(self) -> Generator[tuple[str, torch.Tensor], None, None]:
        for batch in open_feature_set(self.features_path.parent, self.features_path.stem):
            yield from zip(batch.image_ids.to_pylist(), batch.features, strict=True)


def finished_set(features_path: Path, settings: Mapping[str, Any]) -> FinishedSet | None:
    """Return the set at `features_path` if an earlier run finished it with equal `settings`, else None.

    A set that is damaged, or whose record is or does not say of which pictures it was made, is one to make anew.
    """
    unreadable_path, record_path = unreadable_path_of(features_path), record_path_of(features_path)
    if not (features_path.is_file() and unreadable_path.is_file() and record_path.is_file()):
        return None
    try:
        record = json.loads(record_path.read_text(encoding="utf-8"))
        is_alike = all(record[name] == settings[name] for name in settings)
        n_images = open_feature_set(features_path.parent, features_path.stem).n_images
        if not is_alike or n_images != record["counts"]["images"]:
            return None
        return FinishedSet(
            features_path, unreadable_path, dict(record["counts"]), dict(record["parts"]), record["inputs_sha256"]
        )
    except (ValueError, KeyError, TypeError, FeatureError):
        return None


def unreadable_path_of(features_path: Path) -> Path:
    """Return where the rows of what could not be read lie: ``<set>.unreadable.csv``."""
    return features_path.with_suffix(".unreadable.csv")


def record_path_of(features_path: Path) -> Path:
    """Return where the record lies: ``<set>.json``."""
    return features_path.with_suffix(".json")


def unreadable_csv(unreadable: Mapping[str, tuple[str, str]]) -> str:
    """Return the CSV of image_id, status and reason, sorted by image_id."""
    stream = io.StringIO()
    rows = csv.writer(stream, lineterminator="\n")
    rows.writerow(_UNREADABLE_COLUMNS)
    rows.writerows((image_id, *unreadable[image_id]) for image_id in sorted(unreadable))
    return stream.getvalue()


def _read_unreadable(path: Path) -> dict[str, tuple[str, str]]:
    try:
        _, *rows = csv.reader(io.StringIO(path.read_text(encoding="utf-8")), strict=True)
        return {image_id: (status, reason) for image_id, status, reason in rows}
    except (ValueError, csv.Error) as error:
        raise FeatureError(
            f"{path}: expected {','.join(_UNREADABLE_COLUMNS)} in each row; delete the set"
        ) from error
