"""The append-only log of one annotator, ``decisions/<annotator_id>.jsonl``: the truth about their work.

Every line carries the SHA-256 of the line before it (the first line carries 64 zeros), so that a line altered,
removed or moved shows. What the chain cannot show is a change to the very last line, or lines missing at the
end: the record of `consensus` keeps the last hash of each log, and `decisions verify` compares it.
"""

import contextlib
import io
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import filelock

from annotation.decisions import Decision, checked_annotator_id
from annotation.log_reader import LogReader
from manifests.durable import cut_torn_tail
from manifests.errors import InputError, TableError, WorkspaceLockedError
from manifests.workspace import Workspace
from manifests.writes import changeable, note_written


def log_path(workspace: Workspace, annotator_id: str) -> Path:
    """Return where the decisions of `annotator_id` lie."""
    return workspace.decisions_dir / f"{checked_annotator_id(annotator_id)}.jsonl"


def annotator_ids(workspace: Workspace) -> list[str]:
    """Return the ids of all annotators who have a log here, sorted."""
    return sorted(path.stem for path in workspace.decisions_dir.glob("*.jsonl") if not path.name.startswith("."))


def read_decisions(path: Path) -> list[Decision]:
    """Return the decisions of one log, oldest first, without a torn last line; none when there is no file.

    Raises
    ------
    TableError
        A line does not follow the schema, the chain is broken, a decision_id stands twice, or an ``undo``
        takes back nothing; the message names file and line.
    """
    return read_log(path).decisions


def read_log(path: Path) -> LogReader:
    """Return the log in `path` as read to its end, empty where there is no file; errors as `read_decisions`."""
    reader = LogReader(path)
    if path.exists():
        reader.read_on()
    return reader


class DecisionLog:
    """One annotator's log, open for writing; made by `open_log`.

    Attributes
    ----------
    annotator_id : str
        Whose it is.
    decisions : list of Decision
        All that is on disk, oldest first.
    """

    def __init__(self, path: Path, annotator_id: str) -> None:
        self.annotator_id = annotator_id
        self._path = path
        self._reader = read_log(path)
        self._size_bytes = path.stat().st_size

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self._path

    @property
    def decisions(self) -> list[Decision]:
        """All decisions on disk, oldest first."""
        return self._reader.decisions

    def find(self, decision_id: str) -> Decision | None:
        """Return the decision stored under `decision_id`, or None."""
        return self._reader.find(decision_id)

    def append(self, decision: Decision) -> bool:
        """Store `decision` and return when it is on disk; False when this decision_id was stored before.

        Raises
        ------
        InputError
            The decision_id was used for another answer, an ``undo`` takes back nothing, or the file cannot be
            written (the message says why; nothing of the decision is left in the file).
        TableError
            Another program has changed the file.
        """
        return self.append_all([decision]) == 1

    def append_all(self, decisions: Sequence[Decision]) -> int:
        """Store `decisions` with one wait for the disk; return how many were new. Errors as in `append`."""
        n_before = len(self.decisions)
        try:
            lines = [line for decision in decisions if (line := self._taken(decision)) is not None]
            self._write(b"".join(line + b"\n" for line in lines))
        except BaseException:
            # What was taken in memory is not on disk: go back to what is.
            self._reader.give_back(n_before)
            raise
        return len(lines)

    def _taken(self, decision: Decision) -> bytes | None:
        stored = self._reader.find(decision.decision_id)
        if stored is None:
            line = _line(decision, self._reader.last_hash)
            self._reader.take(line)
            return line
        if not stored.says_the_same(decision):
            raise InputError(
                f"{self._path}: decision {decision.decision_id} is already stored with another answer"
            )
        return None

    def _write(self, content: bytes) -> None:
        try:
            with self._path.open("r+b", buffering=0) as stream:
                found_bytes = stream.seek(0, os.SEEK_END)
                if found_bytes != self._size_bytes:
                    raise TableError(
                        f"{self._path}: expected {self._size_bytes} bytes, found {found_bytes}: another program "
                        "has changed this log since it was opened; restart to read it again"
                    )
                self._write_at_end(stream, content)
        except OSError as error:
            raise InputError(
                f"{self._path}: the answer could not be stored ({error.strerror or error})"
            ) from error
        self._size_bytes += len(content)
        note_written(self._path)

    def _write_at_end(self, stream: io.FileIO, content: bytes) -> None:
        try:
            written_bytes = stream.write(content)
            if written_bytes != len(content):
                raise OSError(f"only {written_bytes} of {len(content)} bytes could be written")
            os.fsync(stream.fileno())
        except OSError:
            # A full disk may have taken half a line: without the cut, the next answer would be glued to it.
            stream.truncate(self._size_bytes)
            raise


@contextlib.contextmanager
def open_log(workspace: Workspace, annotator_id: str, *, timeout_s: float = 0) -> Iterator[DecisionLog]:
    """Hold the log of `annotator_id` for writing; make it where there is none, cut off a torn last line.

    Parameters
    ----------
    workspace : Workspace
        Where the log lies.
    annotator_id : str
        Whose log.
    timeout_s : float
        How long to wait for another writer.

    Raises
    ------
    WorkspaceLockedError
        Another process writes this annotator's answers.
    TableError
        The log is damaged, see `read_decisions`.
    InputError
        The folder cannot be written.
    """
    path = changeable(log_path(workspace, annotator_id))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(path.with_name(f".{path.name}.lock"))
        lock.acquire(timeout=timeout_s)
    except filelock.Timeout:
        raise WorkspaceLockedError(
            f"{path}: another process is writing the answers of {annotator_id!r}; an annotator answers in one "
            "place at a time"
        ) from None
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error
    try:
        cut_torn_tail(path)
        touch_durably(path)
        yield DecisionLog(path, annotator_id)
    finally:
        lock.release()


def _line(decision: Decision, previous: str) -> bytes:
    return json.dumps(decision.to_row() | {"previous": previous}, sort_keys=True, ensure_ascii=False).encode()


def touch_durably(path: Path) -> None:
    """Make the file if it is not there, and its name in the folder too: fsync of a file does not keep its name."""
    path.touch()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
