"""The last section: how each stage was run here, as its record tells."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from manifests.errors import TableError
from manifests.report.parts import Folded, Part, Section, Table, Text
from manifests.workspace import Workspace

_ENDINGS = (".failed", ".interrupted")
_NEEDED = {
    "stage": str, "outcome": str, "arguments": dict, "inputs": dict, "counts": dict, "started": str, "ended": str,
    "versions": dict,
}  # fmt: skip


@dataclass(frozen=True)
class RunRecord:
    """One record of ``provenance/``: its name, what it says, and when the run started and ended."""

    name: str
    content: Mapping[str, Any]
    started: datetime
    ended: datetime

    @property
    def duration_s(self) -> float:
        """How long the run took."""
        return (self.ended - self.started).total_seconds()


def provenance_sections(workspace: Workspace) -> list[Section]:
    """Return a table of all runs, and for each, folded, its arguments, inputs, versions and counts."""
    records, problems = read_records(workspace)
    if not records and not problems:
        missing = "No stage has been run here: each leaves a record of its arguments, inputs and versions."
        return [Section("provenance", "Provenance", missing=missing)]
    parts: list[Part] = [
        Text(
            "Each stage writes down how it was run. A run that failed or was interrupted is kept beside the last "
            "one that was done."
        ),
        _summary(records),
        *(_folded(record) for record in records),
    ]
    return [Section("provenance", "Provenance", parts, problem="; ".join(problems) or None)]


def read_records(workspace: Workspace) -> tuple[list[RunRecord], list[str]]:
    """Return all records, by when they started, and what is wrong with those that cannot be read."""
    records, problems = [], []
    for path in sorted((workspace.root / "provenance").glob("*.json")):
        try:
            records.append(_read_record(path))
        except TableError as error:
            problems.append(str(error))
    return sorted(records, key=lambda record: (record.started, record.ended, record.name)), problems


def _read_record(path: Path) -> RunRecord:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        wrong = [key for key, kind in _NEEDED.items() if not isinstance(content[key], kind)]
        if wrong:
            raise TypeError(f"{wrong[0]} is of another type")
        started, ended = (datetime.fromisoformat(content[word]) for word in ("started", "ended"))
        if started.tzinfo is None or ended.tzinfo is None:
            raise ValueError("a time without its zone")
    except (ValueError, KeyError, TypeError) as error:
        raise TableError(f"{path}: not the record of a stage ({error})") from error
    return RunRecord(path.stem, content, started, ended)


def duration(seconds: float) -> str:
    """Return a duration in the units that a reader thinks in."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min"


def _summary(records: Sequence[RunRecord]) -> Table:
    rows = [
        (
            _title(record), record.content["outcome"], _moment(record.content["started"]),
            duration(record.duration_s), _counted(record.content["counts"]),
        )
        for record in records
    ]  # fmt: skip
    header = ("Run", "Outcome", "Started (UTC)", "Took", "Counts")
    return Table(header, rows, "All runs, the earliest first.", frozenset({2, 3}))


def _folded(record: RunRecord) -> Folded:
    content = record.content
    summary = f"{_title(record)}: {content['outcome']}, {duration(record.duration_s)}{_seed(record)}"
    parts: list[Text | Table | Folded] = []
    for caption, word in (("Arguments", "arguments"), ("Counts", "counts"), ("Details", "details")):
        if content.get(word):
            parts.append(_pairs(caption, content[word]))
    if content["inputs"]:
        inputs = _pairs("Files that were read, with their SHA-256", content["inputs"])
        parts.append(Folded(f"{len(content['inputs']):,} files were read", [inputs]))
    parts.append(_pairs("Versions", content["versions"]))
    return Folded(summary, parts)


def _pairs(caption: str, values: Mapping[str, Any]) -> Table:
    return Table(("Name", "Value"), [(key, _shown(values[key])) for key in sorted(values)], caption)


def _title(record: RunRecord) -> str:
    name = record.name
    for ending in _ENDINGS:
        name = name.removesuffix(ending)
    of = name.removeprefix(record.content["stage"]).strip(".")
    return f"{record.content['stage']} ({of})" if of else str(record.content["stage"])


def _seed(record: RunRecord) -> str:
    """Return the seed as a command takes it, if there is one: it is no quantity, and has no separators."""
    seed = record.content.get("seed")
    return "" if seed is None else f", seed {seed}"


def _moment(iso: str) -> str:
    return iso[:19].replace("T", " ")


def _counted(counts: Mapping[str, Any]) -> str:
    return ", ".join(f"{word} {_shown(n)}" for word, n in sorted(counts.items()))


def _shown(value: Any) -> str:
    """Return a JSON value for a reader: numbers with separators, nothing for null, nested values as JSON."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
