"""The stage `quality`: scores and flags of every downloaded picture, in one pass over the files."""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation.screening.checks import CHECKS, picture_facts
from curation.verified_bytes import verified_bytes
from manifests import schema
from manifests.ahead import prepared_ahead
from manifests.errors import InputError, StageMissingError, UnreadableImageError
from manifests.image_ids import shard_of
from manifests.images import decode_image
from manifests.parquet import read_written_as, write_parquet
from manifests.stage_progress import ProgressBar
from manifests.stored_pictures import StoredPicture, stored_pictures
from manifests.work_plan import WorkPlan
from manifests.workspace import Workspace

_N_PARTS = 256
_PICTURES_AHEAD = 4
"""Pictures a worker that wait, decoded; more would only cost memory."""


def measure_quality(workspace: Workspace, *, n_workers: int = 2) -> dict[str, int]:
    """Write ``quality.parquet`` and return how many pictures were measured, each check flags, and cannot be read.

    Work is kept in parts of pictures chosen by a hash of their id, so a run that was stopped goes on where it
    was, and only new and changed pictures are measured.

    Raises
    ------
    InputError
        `n_workers` is below 1.
    StageMissingError
        There is no downloaded picture.
    """
    if n_workers < 1:
        raise InputError(f"--workers: expected 1 or more, found {n_workers}")
    thresholds = {name: check.threshold for name, check in CHECKS.items()}
    inputs = [workspace.path_of(schema.CANDIDATES), workspace.path_of(schema.DOWNLOADS)]
    with workspace.stage("quality", {"thresholds": thresholds}, inputs) as record:
        pictures = stored_pictures(workspace)
        parts = _in_parts(pictures.values())
        with ProgressBar(len(pictures), "quality") as bar:
            tables = []
            for part, wanted in sorted(parts.items()):
                tables.append(_measured_part(workspace, part, wanted, n_workers))
                bar.update(len(wanted), n_failed=len(wanted) - tables[-1].num_rows)
        table = _flagged(pa.concat_tables(tables))
        workspace.write(schema.QUALITY, table)
        record.counts = {"measured": table.num_rows, "unreadable": len(pictures) - table.num_rows} | {
            name: pc.sum(table.column(f"is_{name}")).as_py() or 0 for name in CHECKS
        }
        return record.counts


def plan_quality(workspace: Workspace) -> WorkPlan:
    """Return which pictures a run would read; `StageMissingError` as `measure_quality`."""
    pictures = stored_pictures(workspace)
    n_known = sum(
        len(_known_of_part(_path_of_part(workspace, part), wanted)[0])
        for part, wanted in _in_parts(pictures.values()).items()
    )
    n_due = len(pictures) - n_known
    writes = [str(workspace.path_of(schema.QUALITY)), *([str(workspace.root / "quality")] if n_due else [])]
    return WorkPlan(n_due, n_known, reads=[f"{n_due:,} pictures"] if n_due else [], writes=writes)


def _in_parts(pictures: Iterable[StoredPicture]) -> dict[int, list[StoredPicture]]:
    parts: dict[int, list[StoredPicture]] = {}
    for picture in pictures:
        parts.setdefault(shard_of(picture.image_id, _N_PARTS), []).append(picture)
    return parts


def flagged_images(workspace: Workspace, checks: Sequence[str], but: Collection[str] = ()) -> set[str]:
    """Return the pictures that one of `checks` flags; of no checks, none, whether `quality` has run or not.

    Parameters
    ----------
    workspace : Workspace
        With downloads.
    checks : sequence of str
        Names of `CHECKS`.
    but : collection of str
        Pictures that cannot be read, and so were not measured.

    Raises
    ------
    StageMissingError
        There are checks, and `quality` has not run, or not on the pictures as they are stored now.
    """
    if not checks:
        return set()
    table = workspace.read(schema.QUALITY)
    measured = dict(zip(*table.select(["image_id", "sha256"]).to_pydict().values(), strict=True))
    for image_id, picture in stored_pictures(workspace).items():
        if image_id not in but and measured.get(image_id) != picture.sha256:
            raise StageMissingError(
                f"{workspace.path_of(schema.QUALITY)} does not have {image_id} as it is stored now: run the stage "
                "'quality' again, or 'download --verify' where that cannot read it"
            )
    found: set[str] = set()
    for check in checks:
        found.update(table.filter(table.column(f"is_{check}")).column("image_id").to_pylist())
    return found


_SCORES = [field for field in schema.QUALITY.schema if not field.name.startswith("is_")]
_PART_SCHEMA = pa.schema([*_SCORES, pa.field("rotation_deg", pa.int16(), nullable=False)])


def _measured_part(workspace: Workspace, part: int, wanted: Collection[StoredPicture], n_workers: int) -> pa.Table:
    """Return the scores of `wanted`, after measuring those that the part on disk lacks and writing it anew."""
    path = _path_of_part(workspace, part)
    known, n_stored = _known_of_part(path, wanted)
    missing = [picture for picture in wanted if picture.image_id not in known]
    ahead = prepared_ahead(_scores, missing, n_workers=n_workers, n_ahead=_PICTURES_AHEAD * n_workers)
    measured = {picture.image_id: row for picture, row in ahead if row is not None}
    rows = sorted((known | measured).values(), key=lambda row: row["image_id"])
    table = pa.Table.from_pylist(rows, schema=_PART_SCHEMA)
    if missing or len(rows) < n_stored:
        write_parquet(path, table)
    return table


def _path_of_part(workspace: Workspace, part: int) -> Path:
    return workspace.root / "quality" / f"part-{part:04d}.parquet"


def _known_of_part(path: Path, wanted: Collection[StoredPicture]) -> tuple[dict[str, dict[str, Any]], int]:
    """Return the rows on disk of those of `wanted` that have not changed since, and how many rows there are."""
    stored: dict[str, dict[str, Any]] = {}
    if path.exists():
        table = read_written_as(path, _PART_SCHEMA, rerun="run 'quality' again")
        stored = {row["image_id"]: row for row in table.to_pylist()}
    known = {
        picture.image_id: row
        for picture in wanted
        if (row := stored.get(picture.image_id)) and (row["sha256"], row["rotation_deg"]) == picture.pixels
    }
    return known, len(stored)


def _scores(picture: StoredPicture) -> dict[str, str | float] | None:
    try:
        image = decode_image(verified_bytes(picture.path, picture.sha256), picture.rotation_deg)
    except UnreadableImageError:
        return None
    facts = picture_facts(image)
    return {
        "image_id": picture.image_id, "sha256": picture.sha256, "rotation_deg": picture.rotation_deg or 0,
        **{f"{name}_score": score for name, score in facts.items()},
    }  # fmt: skip


def _flagged(scores: pa.Table) -> pa.Table:
    columns = {name: scores.column(name) for name in scores.column_names}
    for name, check in CHECKS.items():
        compare = pc.greater if check.is_high_bad else pc.less
        columns[f"is_{name}"] = compare(scores.column(f"{name}_score"), pa.scalar(check.threshold, pa.float32()))
    return pa.table([columns[name] for name in schema.QUALITY.schema.names], schema=schema.QUALITY.schema)
