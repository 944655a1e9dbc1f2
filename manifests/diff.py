"""`diff`: which images entered, left, moved or changed between two versions, and why."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from manifests import schema
from manifests.frozen import HEADER_FILE, Manifest, read_manifest, read_part
from manifests.inert_csv import csv_text, inert
from manifests.tombstones import stated_tombstones
from manifests.versions import record_changes

COLUMNS = ("image_id", "change", "split_before", "split_after", "why")
_WORDS = {"added": "entered", "removed": "left", "moved": "moved", "changed": "changed"}


@dataclass(frozen=True)
class Difference:
    """What happened to one image.

    Attributes
    ----------
    image_id : str
        The image.
    change : str
        ``entered``, ``left``, ``moved`` (to another split) or ``changed`` (in another column).
    split_before, split_after : str or None
        Its split in each version that holds it.
    why : str
        One line.
    """

    image_id: str
    change: str
    split_before: str | None
    split_after: str | None
    why: str


@dataclass(frozen=True)
class _Side:
    """One of the versions: its records and left-out images by id, and its tombstones' reasons."""

    name: str
    records: dict[str, dict[str, Any]]
    left_out: dict[str, dict[str, Any]]
    tombstones: dict[str, str]


def manifest_diff(before: Manifest, after: Manifest) -> list[Difference]:
    """Return what makes the records of `before` into those of `after`, by change and image id.

    The reasons are those that the two folders state: no workspace is needed.

    Raises
    ------
    TableError
        A table of what was left out is damaged, or a header states no tombstones.
    """
    old, new = _side(before), _side(after)
    changes = record_changes(before.records, after.records)
    differences = []
    for part, change in _WORDS.items():
        for image_id in getattr(changes, part):
            splits = [side.records[image_id]["split"] if image_id in side.records else None for side in (old, new)]
            why = " ".join(_why(image_id, old, new).split())
            differences.append(Difference(image_id, change, splits[0], splits[1], why))
    return differences


def read_side(path: Path, manifests_dir: Path) -> Manifest:
    """Return a manifest by its folder, or by its name among those of a workspace; errors as `read_manifest`."""
    return read_manifest(path if path.is_dir() else manifests_dir / path.name)


def diff_csv(differences: Sequence[Difference]) -> str:
    """Return the differences as CSV; a text that a spreadsheet would run as a formula gets an apostrophe."""
    # Ids stay as they are: programs read them.
    rows = ([one.image_id, *(inert(getattr(one, column) or "") for column in COLUMNS[1:])] for one in differences)
    return csv_text(COLUMNS, rows)


def change_counts(differences: Sequence[Difference]) -> dict[str, int]:
    """Return how many images entered, left, moved and changed."""
    counts = Counter(one.change for one in differences)
    return {word: counts[word] for word in _WORDS.values()}


def _side(manifest: Manifest) -> _Side:
    left_out = read_part(manifest.folder, schema.LEFT_OUT)
    stones = stated_tombstones(manifest.header, str(manifest.folder / HEADER_FILE))
    reasons = {image_id: stone.reason for image_id, stone in stones.items()}
    return _Side(manifest.folder.resolve().name, _by_id(manifest.records), _by_id(left_out), reasons)


def _by_id(table: pa.Table) -> dict[str, dict[str, Any]]:
    return {row["image_id"]: row for row in table.to_pylist()}


def _why(image_id: str, old: _Side, new: _Side) -> str:
    was, now = old.records.get(image_id), new.records.get(image_id)
    if was is None and now is not None:
        return f"{_reason(image_id, old)}; then {_source(now)}"
    if now is None and was is not None:
        return f"{_source(was)}; then {_reason(image_id, new)}"
    return "; ".join(_column_changes(was or {}, now or {}))


def _reason(image_id: str, side: _Side) -> str:
    """Return why an image is not in a version."""
    row = side.left_out.get(image_id)
    if row is None:
        return f"not among what {side.name} was chosen from"
    if row["reason"] == "retired":
        return f"retired: {side.tombstones.get(image_id, 'for a reason that is not stated')}"
    votes = [f"{row[f'n_{word}']} {word}" for word in ("out", "in", "difficult") if row[f"n_{word}"]]
    return f"{row['reason']} ({', '.join(votes)})" if votes else str(row["reason"])


def _source(record: Mapping[str, Any]) -> str:
    votes = f" ({record['n_out']} out)" if record["n_out"] is not None else ""
    return f"{record['verdict_source']}{votes}"


def _column_changes(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [
        f"{column}: {_shown(was[column])} -> {_shown(now[column])}" for column in was if was[column] != now[column]
    ]


def _shown(value: Any) -> str:
    return "nothing" if value is None else str(value)
