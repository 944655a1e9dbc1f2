"""What one command did, for people and as one JSON object for machines.

The fields of the object, which later versions may add to and do not change:

``command``, ``workspace``, ``dry_run``
    What was run, and on what; ``workspace`` is null where the command takes none.
``exit_code``, ``seconds``
    0 done, 1 our error, 2 usage, 130 or 143 interrupted; and how long it took.
``counts``
    Whole numbers by name: those that the stage's record in ``provenance/`` keeps, and those printed. Of a plan,
    ``to_do`` and ``done_already``.
``data``
    What else the command has to say as data: of `status`, the funnel and the work that is under way; of
    `score`, its figures by method, OOD set and metric; of `train-dml`, `train-localizer` and every `bench`,
    theirs. Shares are fractions, units stand at the end of names, and null is a figure that is no number.
``written``
    Files, as ``path`` and ``n_files``; a folder stands for its files where they are many, and ``n_files`` is null
    where they are too many to count. In a dry run also ``change`` (``new``, ``replaced``, ``same``, ``deleted``)
    and ``size_bytes``. What a plan lists is ``new`` or ``changed``, with null where only the run can tell.
``plan``
    In a dry run of a stage that plans: `manifests.work_plan.WorkPlan`; otherwise null.
``next``
    ``command`` and ``why`` of what follows, and ``placeholders``, the words of the command that stand for your
    own; or null.
``text``, ``notices``
    Lines that the command prints to standard output and to standard error.
``error``
    Null, or ``kind`` (the error's class, ``usage``, ``interrupted`` or ``internal``, a fault of this program) and
    ``message``.
"""

import contextlib
import json
import math
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from manifests.shadow import FileChange
from manifests.work_plan import WorkPlan, size_in_words

_MOST_FILES = 8
"""Files of one folder that are named one by one."""

_MOST_COUNTED = 10_000
"""Files of a folder that are counted after a command; more take longer than is worth it."""


@dataclass(frozen=True)
class NextStep:
    """The command to run next, and why.

    Attributes
    ----------
    command : str
        As it can be pasted, but for `placeholders`.
    why : str
        In words.
    placeholders : sequence of str
        Words of the command that stand for your own, such as ``NAME``.
    """

    command: str
    why: str
    placeholders: Sequence[str] = ()

    def __str__(self) -> str:
        """Return the command, with what stands for your own in a comment that a shell skips."""
        own = f"  # put your own for {', '.join(self.placeholders)}" if self.placeholders else ""
        return f"{self.command}{own}"


@dataclass
class RunReport:
    """What is known of one run; filled in while it goes on.

    Attributes
    ----------
    arguments : tuple of str
        The command line.
    command : str or None
        None until the command line was understood.
    workspace : Path or None
        Of the command.
    is_dry_run : bool
        Whether nothing is to be written.
    counts, data : dict
        As in the object.
    written : list of Path
        Files that were written.
    changes : list of FileChange
        In a dry run, what would be written.
    plan : WorkPlan or None
        In a dry run of a stage that plans.
    next_step : NextStep or None
        What follows.
    error : tuple of str, or None
        Kind and message.
    """

    arguments: tuple[str, ...] = ()
    command: str | None = None
    workspace: Path | None = None
    is_dry_run: bool = False
    counts: dict[str, int] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    written: list[Path] = field(default_factory=list)
    changes: list[FileChange] = field(default_factory=list)
    plan: WorkPlan | None = None
    next_step: NextStep | None = None
    error: tuple[str, str] | None = None
    started: float = field(default_factory=time.monotonic)

    def take_records(self) -> None:
        """Add the counts of the stage records among the files written."""
        for path in dict.fromkeys(self.written):
            if path.parent.name == "provenance" and path.suffix == ".json" and path.is_file():
                self.counts |= json.loads(path.read_text(encoding="utf-8"))["counts"]

    def dry_run_lines(self) -> list[str]:
        """Return what a dry run says after what the stage itself says."""
        lines = self.plan.lines() if self.plan is not None else []
        for one in [] if self.plan is not None else self._told_changes():
            size = "" if one["change"] == "deleted" else f", {size_in_words(one['size_bytes'])}"
            lines.append(f"would write {_named(one)}: {one['change']}{size}")
        return [*lines, "dry run: nothing was written, fetched or locked"]

    def as_json(self, exit_code: int, *, text: str, notices: str) -> str:
        """Return the object in one line."""
        step, error = self.next_step, self.error
        return json.dumps(
            {
                "command": self.command,
                "workspace": None if self.workspace is None else str(self.workspace),
                "dry_run": self.is_dry_run,
                "exit_code": exit_code,
                "seconds": round(time.monotonic() - self.started, 3),
                "counts": self.counts,
                "data": _without_nan(self.data),
                "written": self._told_changes() if self.is_dry_run else _folded_paths(self.written),
                "plan": None if self.plan is None else self.plan.as_json(),
                "next": None if step is None else asdict(step),
                "text": text.splitlines(),
                "notices": notices.splitlines(),
                "error": None if error is None else {"kind": error[0], "message": error[1]},
            },
            ensure_ascii=False,
            default=str,
        )

    def _told_changes(self) -> list[dict[str, Any]]:
        if self.plan is not None:
            return [
                {"path": path, "n_files": None, "change": "changed" if Path(path).exists() else "new",
                 "size_bytes": None}
                for path in self.plan.writes
            ]  # fmt: skip
        groups: dict[tuple[Path, str], list[FileChange]] = {}
        for change in self.changes:
            groups.setdefault((change.path.parent, change.change), []).append(change)
        rows = []
        for (folder, word), group in groups.items():
            few = len(group) <= _MOST_FILES
            for path, files in [(one.path, [one]) for one in group] if few else [(folder, group)]:
                size_bytes = sum(one.size_bytes for one in files)
                rows.append({"path": str(path), "n_files": len(files), "change": word, "size_bytes": size_bytes})
        return rows


def _without_nan(value: Any) -> Any:
    """Return `value` with null for what is no finite number: JSON has no word for it."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _without_nan(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(one) for one in value]
    return value


def _named(row: Mapping[str, Any]) -> str:
    return str(row["path"]) if row["n_files"] == 1 else f"{row['n_files']:,} files in {row['path']}"


def _folded_paths(paths: list[Path]) -> list[dict[str, Any]]:
    folders = {path for path in paths if path.is_dir()}
    once = sorted({path for path in paths if path.is_file() and not folders.intersection(path.parents)})
    n_in_folder = Counter(path.parent for path in once)
    n_files: dict[Path, int | None] = {folder: _n_files_in(folder) for folder in folders}
    for path in once:
        n_beside = n_in_folder[path.parent]
        n_files |= {path: 1} if n_beside <= _MOST_FILES else {path.parent: n_beside}
    return [{"path": str(path), "n_files": n} for path, n in sorted(n_files.items())]


def _n_files_in(folder: Path) -> int | None:
    """Return how many files a folder holds, None where they are too many to count."""
    names = (name for _, _, names in os.walk(folder) for name in names if not name.startswith("."))
    n_files = sum(1 for _ in islice(names, _MOST_COUNTED + 1))
    return n_files if n_files <= _MOST_COUNTED else None


# A stack, as the demo runs commands within its own.
_reports: list[RunReport] = []


@contextlib.contextmanager
def reporting(report: RunReport) -> Iterator[RunReport]:
    """Make `report` the one of the command that runs now."""
    _reports.append(report)
    try:
        yield report
    finally:
        _reports.pop()


def current_report() -> RunReport:
    """Return the report of the command that runs now; one that nobody reads where none does."""
    return _reports[-1] if _reports else RunReport()


def is_nested() -> bool:
    """Return whether the command that runs now was run by another, as those of the demo are."""
    return len(_reports) > 1
