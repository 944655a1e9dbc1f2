"""The exact CSV reader: one record at a time, each with its line. It defines what the fast one may accept."""

import csv
import re
from collections.abc import Iterator
from typing import IO

from manifests.errors import InputError

MOST_CELL_CHARACTERS = 131_072
"""The csv module's own limit of a cell: a quote that never closes ends here, not at the end of the file."""

_MOST_LINE_BYTES = 1 << 20
_LONE_RETURN = re.compile(r"(?<=\r)(?!\n)")


class _Lines:
    """The lines of a byte stream as text; `number` is that of the last one given out."""

    def __init__(self, stream: IO[bytes], where: str, n_before: int) -> None:
        self._stream, self._where, self.number = stream, where, n_before

    def __iter__(self) -> Iterator[str]:
        while line := self._stream.readline(_MOST_LINE_BYTES):
            self.number += 1
            if len(line) == _MOST_LINE_BYTES:
                raise self.refusal(f"a line of more than {_MOST_LINE_BYTES:,} bytes")
            if b"\0" in line:
                raise self.refusal("a NUL byte")
            try:
                text = line.decode()
            except UnicodeDecodeError as error:
                raise self.refusal(str(error)) from error
            # A lone carriage return ends a record too, as in Python's universal newlines, but counts as no line.
            yield from filter(None, _LONE_RETURN.split(text))

    def refusal(self, reason: str, line: int | None = None) -> InputError:
        return InputError(f"{self._where}, line {line or self.number}: not CSV in UTF-8 ({reason})")


def read_rows(
    stream: IO[bytes], where: str, n_columns: int, *, n_lines_before: int = 0
) -> Iterator[tuple[int, list[str]]]:
    """Yield (line on which the record begins, its cells) of a CSV without header.

    Parameters
    ----------
    stream : binary file
        Where records begin.
    where : str
        Name of the file for messages.
    n_columns : int
        Cells that each record must have.
    n_lines_before : int
        Lines that the file has before `stream`.

    Raises
    ------
    InputError
        A record is not CSV in UTF-8, or has another number of cells; the message names file and line.
    """
    lines = _Lines(stream, where, n_lines_before)
    reader = csv.reader(lines, strict=True)
    while True:
        begins = lines.number + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise lines.refusal(str(error), begins) from error
        if cells is None:
            return
        if len(cells) != n_columns:
            raise InputError(f"{where}, line {begins}: expected {n_columns} cells, found {len(cells)}")
        yield begins, cells
