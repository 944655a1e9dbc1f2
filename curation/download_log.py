"""The log of `download`: one line an image and attempt to get it, the truth that the table is made from.

A line is handed to the operating system as soon as its picture has come to an end, so that a killed process loses
nothing of it, and is on the disk (fsync) about a second later, so that a power cut loses a second.
"""

import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from manifests import schema
from manifests.durable import cut_torn_tail
from manifests.errors import TableError
from manifests.image_ids import is_image_id

_SECONDS_A_SYNC = 1.0

_SHA256 = re.compile(r"[0-9a-f]{64}")

Row = dict[str, Any]

# Kept: `json.dumps` makes one for each row, which costs more than the row.
_TO_JSON = json.JSONEncoder(sort_keys=True, ensure_ascii=False).encode


class DownloadLog:
    """An open log; lines are known by the byte at which they start.

    Parameters
    ----------
    path : Path
        Made where it is not there. A last line without line end, as a killed process or a power cut leaves it, is
        cut off: nothing that it said was acknowledged.
    is_read_only : bool
        Whether the log is left as it is, torn end and all, or not there: for a plan.
    """

    def __init__(self, path: Path, *, is_read_only: bool = False) -> None:
        self.path = path
        self._is_read_only = is_read_only
        self._place = path if path.exists() or not is_read_only else Path(os.devnull)
        flags = os.O_RDONLY if is_read_only else os.O_WRONLY | os.O_APPEND | os.O_CREAT
        self._writer = os.open(self._place, flags, 0o666)
        try:
            self._reader = self._place.open("rb")
            self._synced_at = time.monotonic()
            if not is_read_only:
                cut_torn_tail(path)
        except BaseException:
            os.close(self._writer)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if not self._is_read_only:
                os.fsync(self._writer)
        finally:
            os.close(self._writer)
            self._reader.close()

    def rows(self) -> Iterator[tuple[int, Row]]:
        """Yield (start, row) of each line, in the order of the log.

        Raises
        ------
        TableError
            A line is not one of this log; the message names it.
        """
        start = 0
        with self._place.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                if not line.endswith(b"\n"):
                    return
                yield start, self._checked(line, f"line {number}")
                start += len(line)

    def row_at(self, start: int) -> Row:
        """Return the row of the line that starts at byte `start`."""
        self._reader.seek(start)
        return self._checked(self._reader.readline(), f"byte {start}")

    def append(self, rows: Sequence[Mapping[str, Any]]) -> list[int]:
        """Append `rows` and return where each starts; a disk that is full leaves the log as it was.

        Raises
        ------
        OSError
            The lines cannot be written.
        """
        lines = [_TO_JSON(row).encode() + b"\n" for row in rows]
        end = os.lseek(self._writer, 0, os.SEEK_END)
        starts = []
        start = end
        for line in lines:
            starts.append(start)
            start += len(line)
        try:
            _write_all(self._writer, b"".join(lines))
            if time.monotonic() - self._synced_at > _SECONDS_A_SYNC:
                os.fsync(self._writer)
                self._synced_at = time.monotonic()
        except OSError as error:
            os.ftruncate(self._writer, end)
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        return starts

    def _checked(self, line: bytes, where: str) -> Row:
        try:
            row = json.loads(line)
        except ValueError as error:
            raise TableError(f"{self.path}, {where}: not JSON ({error})") from error
        is_row = (
            isinstance(row, dict)
            and is_image_id(str(row.get("image_id")))
            and row.get("status") in schema.DOWNLOAD_STATUSES
            and isinstance(row.get("url"), str)
            and isinstance(row.get("attempts"), int)
        )
        is_whole = is_row and (row["status"] != "ok" or _is_stored(row))
        if not is_whole:
            raise TableError(f"{self.path}, {where}: not a line of this log: {str(row)[:80]}")
        return dict(row)


def _is_stored(row: Row) -> bool:
    has_digest = isinstance(row.get("sha256"), str) and _SHA256.fullmatch(row["sha256"]) is not None
    return has_digest and isinstance(row.get("path"), str) and isinstance(row.get("size_bytes"), int)


def _write_all(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
