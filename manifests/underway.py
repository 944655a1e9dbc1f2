"""What is under way in a workspace, or did not come to its end: how far it is, and how long it will take."""

import os
import platform
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from manifests import schema
from manifests.durable import image_ids_in_log
from manifests.folder_lock import HOLDER_NAME
from manifests.stage_progress import NOTE_NAME
from manifests.stage_state import changed_at, json_of
from manifests.workspace import Workspace

RUNNING, KILLED, INTERRUPTED, FAILED, INCOMPLETE = "running", "killed", "interrupted", "failed", "not complete"


@dataclass(frozen=True)
class Underway:
    """One stage that runs, or has not come to its end.

    Attributes
    ----------
    stage : str
        Its command, and of what.
    state : str
        ``running``; ``killed``, by its lock that nobody holds any more; ``interrupted`` or ``failed``, by its
        record; or ``not complete``, by what it has written.
    n_done, n_total, n_failed : int or None
        How far it is; None where that is not recorded.
    unit : str
        What is counted.
    per_s, seconds_left : float or None
        Measured since it began; None of one that does not run.
    who : str
        Process, machine and start, where known.
    """

    stage: str
    state: str
    n_done: int | None = None
    n_total: int | None = None
    n_failed: int | None = None
    unit: str = "images"
    per_s: float | None = None
    seconds_left: float | None = None
    who: str = ""

    @property
    def command(self) -> str:
        """The stage's command alone."""
        return self.stage.split(" ")[0]

    def __str__(self) -> str:
        told = [f"{self.state}: {self.stage}"]
        if self.n_done is not None and self.n_total:
            told.append(f"{self.n_done:,} of {self.n_total:,} {self.unit} ({self.n_done / self.n_total:.0%})")
        if self.n_failed:
            told.append(f"{self.n_failed:,} failed")
        if self.per_s is not None:
            # Steps of a training may take a minute each.
            told.append(
                f"{self.per_s:,.1f} a second" if self.per_s >= 0.1 else f"one in {_duration(1 / self.per_s)}"
            )
        if self.seconds_left is not None:
            told.append(f"about {_duration(self.seconds_left)} left")
        return ", ".join([*told, self.who] if self.who else told)


def underway(workspace: Workspace) -> list[Underway]:
    """Return what is under way: the holder of the lock first, then what was left, by stage."""
    held = list(_of_holder(workspace))
    # While a stage runs here, what it has not finished is no news.
    if any(one.state == RUNNING for one in held):
        return held
    found = held
    # The note of a killed process says more than what it left; both say more than a record.
    for told in (_of_download, _of_embed, _of_features, _of_records):
        stages = {one.command for one in found if one.n_done is not None or told is _of_records}
        found = found + [one for one in told(workspace) if one.command not in stages]
    return found


def _of_holder(workspace: Workspace) -> Iterator[Underway]:
    holder = json_of(workspace.root / HOLDER_NAME)
    if not holder:
        return
    note = json_of(workspace.root / NOTE_NAME)
    is_here = holder.get("host") == platform.node()
    state = KILLED if is_here and not _is_alive(int(holder.get("process", 0))) else RUNNING
    who = f"process {holder.get('process')} on {holder.get('host')} since {holder.get('since')}"
    stage = str(holder.get("stage"))
    if not note:
        yield Underway(stage, state, who=who)
        return
    per_s, seconds_left = _pace(note) if state == RUNNING else (None, None)
    what, unit = str(note.get("what")), "images" if note.get("unit") == "img" else f"{note.get('unit')}s"
    yield Underway(
        stage if what.startswith(stage) else f"{stage} ({what})", state, note.get("n_done"), note.get("n_total"),
        note.get("n_failed"), unit, per_s, seconds_left, who,
    )  # fmt: skip


def _pace(note: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Return how many a second, and the seconds left, by a note of progress."""
    n_new, seconds = note["n_done"] - note["n_before"], note["at"] - note["started"]
    if n_new <= 0 or seconds <= 0:
        return None, None
    per_s = n_new / seconds
    if note["n_total"] is None:
        return per_s, None
    # The note may be seconds old.
    return per_s, max(0.0, (note["n_total"] - note["n_done"]) / per_s - (time.time() - note["at"]))


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return process > 0


def _of_download(workspace: Workspace) -> Iterator[Underway]:
    log_path, table_path = workspace.downloads_log_path, workspace.path_of(schema.DOWNLOADS)
    candidates_path = workspace.path_of(schema.CANDIDATES)
    # The log is appended to before the table is written: a later one is of a run that did not end.
    if not (log_path.exists() and candidates_path.exists()) or changed_at(table_path) >= changed_at(log_path):
        return
    known = sorted(image_ids_in_log(log_path))
    wanted = _column(workspace.path_to_read(schema.CANDIDATES), "image_id")
    n_known = pc.sum(pc.is_in(wanted, value_set=pa.array(known, pa.string()))).as_py() or 0
    yield Underway("download", INCOMPLETE, n_known, len(wanted))


def _of_embed(workspace: Workspace) -> Iterator[Underway]:
    """Yield the stores without the file that comes last; an image is in a shard with all of its views."""
    for path in sorted(workspace.embeddings_dir.glob("*/model.json")):
        if (path.parent / "unreadable.parquet").exists() or not workspace.has(schema.DOWNLOADS):
            continue
        statuses = _column(workspace.path_to_read(schema.DOWNLOADS), "status")
        n_done = sum(len(pc.unique(_column(shard, "image_id"))) for shard in path.parent.glob("shard-*.parquet"))
        n_total = pc.sum(pc.equal(statuses, "ok")).as_py() or 0
        yield Underway(f"embed (store {path.parent.name})", INCOMPLETE, n_done, n_total)


def _of_features(workspace: Workspace) -> Iterator[Underway]:
    for folder in sorted(workspace.features_dir.glob("*/*.parts")):
        yield Underway(f"extract-features ({folder.parent.name}, set {folder.stem})", INCOMPLETE)


def _of_records(workspace: Workspace) -> Iterator[Underway]:
    """Yield the last runs that left a record but did not end well."""
    for state in (FAILED, INTERRUPTED):
        for path in sorted((workspace.root / "provenance").glob(f"*.{state}.json")):
            name = path.name.removesuffix(f".{state}.json")
            if changed_at(path) > changed_at(path.with_name(f"{name}.json")):
                record = json_of(path)
                # To the second, as the others; the record has it finer.
                ended = re.sub(r"\.\d+", "", str(record.get("ended", "")))
                yield Underway(str(record.get("stage", name)), state, who=f"ended {ended}".rstrip())


def _column(path: Path, name: str) -> pa.ChunkedArray:
    return pq.ParquetFile(path).read([name]).column(name)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
