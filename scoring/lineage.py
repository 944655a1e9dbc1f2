"""Which model made a folder of features, on which manifest, and whether results may stand beside each other."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from manifests.errors import FeatureError
from scoring.heads import Head

RECORD_FILE_NAME = "score.json"

MODEL_KEYS = ("weights_digest", "preprocessing", "odin")
"""Sets that differ in these cannot be compared; in batch size and device they differ by rounding."""


def head_digest(head: Head) -> str:
    """Return the SHA-256 of W and b, which tells models apart whoever made the features."""
    digest = hashlib.sha256()
    for tensor in (head.weight, head.bias):
        digest.update(f"{tuple(tensor.shape)}\n".encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def lineage_of(features_dir: Path, head: Head, set_names: Sequence[str]) -> dict[str, Any]:
    """Return what the records beside the sets say of model and manifests, after checking that they agree.

    Sets made elsewhere have no record; of them only the head is known.

    Returns
    -------
    dict
        ``model`` (head_sha256, weights_digest, preprocessing, odin) and ``manifests`` (by set, None where it was
        not made of one), as JSON values.

    Raises
    ------
    FeatureError
        A record is damaged; two sets were made by different weights or preprocessing, or from different versions
        of one manifest.
    """
    records = {name: _record_of_set(features_dir / f"{name}.json") for name in set_names}
    told = {name: record for name, record in records.items() if record is not None}
    first: tuple[str, dict[str, Any]] | None = None
    for name, record in told.items():
        model = {key: record.get(key) for key in MODEL_KEYS}
        if first is None:
            first = (name, model)
        if differing := [key for key in MODEL_KEYS if model[key] != first[1][key]]:
            raise FeatureError(
                f"{features_dir}: the sets {first[0]} and {name} were made with another {differing[0]} "
                f"({first[1][differing[0]]} and {model[differing[0]]}); their scores must not be mixed"
            )
    manifests = {name: told[name].get("manifest") if name in told else None for name in set_names}
    _check_one_version(features_dir, manifests)
    return {
        "model": {"head_sha256": head_digest(head), **(first[1] if first else dict.fromkeys(MODEL_KEYS))},
        "manifests": manifests,
    }


def model_name_of(features_dir: Path, set_names: Sequence[str]) -> str | None:
    """Return what the records beside the sets call their model; None where none says. Raises as `lineage_of`."""
    for name in set_names:
        record = _record_of_set(features_dir / f"{name}.json")
        if record is not None and isinstance(record.get("model"), str):
            return str(record["model"])
    return None


def check_may_replace(out_dir: Path, lineage: Mapping[str, Any]) -> None:
    """Refuse to write results where those of another model, or of another version of a manifest, are.

    Raises
    ------
    FeatureError
        Such results are in `out_dir`, or its record is damaged.
    """
    found = _lineage_in(out_dir / RECORD_FILE_NAME)
    if found is None:
        return
    if any(found.get(key) != lineage.get(key) for key in ("model", "second_model")):
        raise FeatureError(f"{out_dir}: holds the scores of another model; give another --out, or delete them")
    before = {name: manifest for name, manifest in found["manifests"].items() if manifest}
    for name, manifest in lineage["manifests"].items():
        if manifest and name in before and before[name] != manifest:
            raise FeatureError(
                f"{out_dir}: holds scores of {name} from manifest {before[name]['name']}, now it is of "
                f"{manifest['name']}; give another --out, or delete them"
            )


def _check_one_version(features_dir: Path, manifests: Mapping[str, Any]) -> None:
    versions: dict[str, tuple[str, Any]] = {}
    for name, manifest in manifests.items():
        if not manifest:
            continue
        title = manifest["name"].rpartition("-")[0]
        other, known = versions.setdefault(title, (name, manifest))
        if known != manifest:
            raise FeatureError(
                f"{features_dir}: {other} is of manifest {known['name']}, {name} of {manifest['name']}: results "
                f"of two versions must not be mixed; score them apart"
            )


def _record_of_set(path: Path) -> dict[str, Any] | None:
    """Return the record beside a set, of which the parts that are read later are what they should be."""
    record = _record(path)
    if record is None:
        return None
    _check_manifest(path, "manifest", record.get("manifest"))
    odin = record.get("odin")
    if odin is not None and not (
        isinstance(odin, dict) and _is_number(odin.get("temperature")) and _is_number(odin.get("epsilon"))
    ):
        raise FeatureError(f"{path}: odin: expected null, or temperature and epsilon as numbers, found {odin!r}")
    return record


def _lineage_in(path: Path) -> dict[str, Any] | None:
    """Return the lineage in the record of earlier results."""
    record = _record(path)
    if record is None:
        return None
    found = record.get("lineage")
    if not (isinstance(found, dict) and all(isinstance(found.get(key), dict) for key in ("model", "manifests"))):
        raise FeatureError(f"{path}: lineage: expected an object with the objects model and manifests")
    for name, manifest in found["manifests"].items():
        _check_manifest(path, f"lineage: manifests: {name}", manifest)
    return found


def _check_manifest(path: Path, where: str, manifest: Any) -> None:
    if manifest is not None and not (
        isinstance(manifest, dict)
        and all(isinstance(manifest.get(key), str) for key in ("name", "content_sha256"))
    ):
        raise FeatureError(
            f"{path}: {where}: expected null, or name and content_sha256 as strings, found {manifest!r}"
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _record(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FeatureError(f"{path}: cannot be read as a record ({error})") from error
    if not isinstance(record, dict):
        raise FeatureError(f"{path}: not a record, but {type(record).__name__}")
    return record
