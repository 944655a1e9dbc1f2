"""Decision logs of several machines brought together, and checked."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from annotation.decision_log import annotator_ids, log_path, open_log, read_log
from annotation.log_heads import change_of, recorded_heads
from annotation.log_reader import LogReader
from manifests import schema
from manifests.durable import write_bytes
from manifests.errors import InputError, TableError
from manifests.workspace import Workspace


@dataclass(frozen=True)
class MergeSummary:
    """What a merge changed.

    Attributes
    ----------
    n_added : dict of str to int
        Decisions taken over, by annotator; 0 where there was nothing new.
    unknown_image_ids : tuple of str
        Images of the logs taken over that are no candidates here, sorted; their answers are kept.
    """

    n_added: dict[str, int]
    unknown_image_ids: tuple[str, ...]


@dataclass(frozen=True)
class LogCheck:
    """One log: whose, how many lines are in order, and what is wrong after them, if anything."""

    annotator_id: str
    n_lines: int
    problem: str | None


def merge_logs(workspace: Workspace, others: Sequence[Path]) -> MergeSummary:
    """Take over the decision logs of other workspaces.

    A log that goes on where ours ends replaces ours in one step; one that ours goes on from changes nothing. Of
    two that have parted, neither can be taken without loss: then nothing is taken over at all.

    Parameters
    ----------
    workspace : Workspace
        Gains the decisions.
    others : sequence of Path
        Roots of other workspaces.

    Raises
    ------
    InputError
        A folder holds no decisions, or logs of one annotator have parted; all are named, with the line.
    TableError
        A log is damaged; the message names file and line.
    WorkspaceLockedError
        An annotator whose log is to grow is answering here, or another process is at work.
    """
    with workspace.stage("decisions-merge", {"from": [path.name for path in others]}) as record:
        best: dict[str, LogReader] = {
            name: read_log(log_path(workspace, name)) for name in annotator_ids(workspace)
        }
        n_before = {name: len(log.decisions) for name, log in best.items()}
        parted = []
        for root in others:
            for name, theirs in _logs_of(root).items():
                ours = best.setdefault(name, theirs)
                line = _first_difference(ours, theirs)
                if line is not None:
                    parted.append(f"{name}: {ours.path} and {theirs.path} differ from line {line} on")
                elif len(theirs.decisions) > len(ours.decisions):
                    best[name] = theirs
        if parted:
            raise InputError(
                f"logs of one annotator have parted, nothing was merged: {'; '.join(parted)}. Both are kept; give "
                "one of them another annotator's name to use both"
            )
        added = {name: log for name, log in best.items() if len(log.decisions) > n_before.get(name, 0)}
        for name, log in added.items():
            _replace(workspace, name, log)
        record.counts = {name: len(log.decisions) - n_before.get(name, 0) for name, log in sorted(best.items())}
        unknown = _unknown_image_ids(workspace, added)
        record.details = {"unknown_image_ids": list(unknown)}
    return MergeSummary(record.counts, unknown)


def check_logs(workspace: Workspace) -> list[LogCheck]:
    """Return for each log whether its chain holds, and whether it still begins with what `consensus` has read."""
    heads = recorded_heads(workspace)
    checks = []
    for name in sorted({*annotator_ids(workspace), *heads}):
        path = log_path(workspace, name)
        log = LogReader(path)
        problem = None
        try:
            if path.exists():
                log.read_on()
        except TableError as error:
            problem = str(error)
        checks.append(LogCheck(name, len(log.decisions), problem or change_of(log, heads.get(name))))
    return checks


def _logs_of(root: Path) -> dict[str, LogReader]:
    other = Workspace(root)
    names = annotator_ids(other)
    if not names:
        raise InputError(f"{root}: expected a workspace with decisions/<annotator>.jsonl, found none")
    return {name: read_log(log_path(other, name)) for name in names}


def _first_difference(ours: LogReader, theirs: LogReader) -> int | None:
    """Return the first line, from 1, in which two logs differ, or None where one goes on from the other."""
    n_both = min(len(ours.decisions), len(theirs.decisions))
    # Each line carries the hash of the one before: where the last ones agree, all do.
    if ours.hash_of(n_both) == theirs.hash_of(n_both):
        return None
    return next(line for line in range(1, n_both + 1) if ours.hash_of(line) != theirs.hash_of(line))


def _replace(workspace: Workspace, annotator_id: str, log: LogReader) -> None:
    # Under the annotator's own lock: a session that is open would write behind the back of the new file.
    with open_log(workspace, annotator_id):
        write_bytes(log_path(workspace, annotator_id), log.path.read_bytes()[: log.n_bytes])


def _unknown_image_ids(workspace: Workspace, added: dict[str, LogReader]) -> tuple[str, ...]:
    known: set[str] = set()
    if workspace.has(schema.CANDIDATES):
        known = set(workspace.read(schema.CANDIDATES).column("image_id").to_pylist())
    return tuple(sorted({decision.image_id for log in added.values() for decision in log.decisions} - known))
