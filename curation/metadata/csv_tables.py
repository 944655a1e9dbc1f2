"""The fast CSV reader: blocks of whole records through pyarrow, and every doubtful one through the exact reader.

A block goes the fast way only where both readers must agree: its quotes open and close cells, it holds no NUL and
no lone carriage return, each record has its cells, and each cell passes the vectorised checks of its table. All
else is read again record by record, which either gives the rows or names the line.
"""

import csv
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from curation.metadata.csv_rows import MOST_CELL_CHARACTERS, read_rows
from manifests.errors import InputError

_BLOCK_BYTES = 8 << 20
_MOST_HEADER_BYTES = 1 << 16
_EXACT_ROWS = 8_192
_BOM = b"\xef\xbb\xbf"
_QUOTE, _COMMA, _LINE_FEED, _RETURN = b'",\n\r'


@dataclass(frozen=True)
class CsvForm:
    """One published table: its headers and what becomes of its cells.

    Attributes
    ----------
    headers : tuple of tuple of str
        The column rows that the table may have.
    schema : pyarrow.Schema
        Of the tables that come out.
    convert_table : callable
        From a table of the file's columns, all strings without nulls, to one of `schema`; None where any cell is
        not plainly well-formed.
    convert_row : callable
        From one record to one row of `schema`; a ValueError says which cell is not what it should be. It defines
        what is accepted: `convert_table` gives the same rows or None.
    has_header : bool
        Whether the first line is one of `headers`; else one of them may stand there.
    """

    headers: tuple[tuple[str, ...], ...]
    schema: pa.Schema
    convert_table: Callable[[pa.Table], pa.Table | None]
    convert_row: Callable[[dict[str, str]], dict[str, Any]]
    has_header: bool = True


def read_tables(stream: IO[bytes], where: str, form: CsvForm) -> Iterator[pa.Table]:
    """Yield the rows of a CSV file in its order, in tables of bounded size.

    Raises
    ------
    InputError
        The header is none of the form's, or a record is malformed; the message names file and line.
    """
    columns, tail = _read_header(stream, where, form)
    n_lines = 0 if tail else 1
    while True:
        block, tail, is_whole = _next_block(tail, stream)
        if not block:
            return
        if not is_whole:
            rest = io.BufferedReader(_Joined(block + tail, stream))
            yield from _exact_tables(rest, where, form, columns, n_lines)
            return
        table = _fast_table(block, form, columns)
        if table is not None:
            yield table
        else:
            yield from _exact_tables(io.BytesIO(block), where, form, columns, n_lines)
        n_lines += block.count(b"\n")


def _read_header(stream: IO[bytes], where: str, form: CsvForm) -> tuple[tuple[str, ...], bytes]:
    """Return the columns of the file, and its first line where that is a record already."""
    line = stream.readline(_MOST_HEADER_BYTES).removeprefix(_BOM)
    try:
        found = tuple(next(csv.reader([line.decode()]), ()))
    except (UnicodeDecodeError, csv.Error):
        found = (repr(line[:200]),)
    if found in form.headers:
        return found, b""
    if not form.has_header:
        return form.headers[0], line
    expected = " or ".join(",".join(header) for header in form.headers)
    raise InputError(f"{where}, line 1: expected the columns {expected}, found {','.join(found)[:200]!r}")


def _next_block(tail: bytes, stream: IO[bytes]) -> tuple[bytes, bytes, bool]:
    """Return a block of records, the bytes after it, and whether its quotes show that it ends with a record.

    The first block of a stream begins with a record, and so does what follows a block that ends with one.
    """
    read = stream.read(_BLOCK_BYTES)
    content = tail + read
    positions = np.flatnonzero(np.frombuffer(content, np.uint8) == _QUOTE)
    end = len(content) if len(read) == 0 else content.rfind(b"\n") + 1
    while read and end:
        n_quotes = int(np.searchsorted(positions, end))
        if n_quotes % 2 == 0:
            break
        end = content.rfind(b"\n", 0, int(positions[n_quotes - 1])) + 1
    if end == 0 and content:
        return content, b"", False
    block = content[:end]
    positions = positions[: np.searchsorted(positions, end)]
    is_whole = _quotes_enclose_cells(np.frombuffer(block, np.uint8), positions)
    return block, content[end:], is_whole and not _has_empty_line(block, positions)


def _quotes_enclose_cells(characters: np.ndarray, positions: np.ndarray) -> bool:
    """Return whether every quote opens or closes a cell, or is one of a pair inside a quoted cell.

    Only then is the number of quotes before a line feed, even or odd, the same as being outside or inside a cell.
    """
    if len(positions) % 2:
        return False
    opening, closing = positions[0::2], positions[1::2]
    before = np.where(opening > 0, characters[opening - 1], _LINE_FEED)
    after_at = np.minimum(closing + 1, len(characters) - 1)
    after = np.where(closing + 1 < len(characters), characters[after_at], _LINE_FEED)
    # The second quote of a pair "opens" right after the first "closed".
    is_pair = np.zeros(len(opening) + 1, bool)
    is_pair[1:-1] = opening[1:] == closing[:-1] + 1
    opens = (before == _COMMA) | (before == _LINE_FEED) | is_pair[:-1]
    closes = (after == _COMMA) | (after == _LINE_FEED) | (after == _RETURN) | is_pair[1:]
    return bool(opens.all() and closes.all())


def _has_empty_line(block: bytes, positions: np.ndarray) -> bool:
    """Return whether a line outside quoted cells is empty: pyarrow makes a row of it, the exact reader refuses."""
    if not (block.startswith((b"\n", b"\r\n")) or b"\n\n" in block or b"\n\r\n" in block):
        return False
    return any(
        np.searchsorted(positions, match.start()) % 2 == 0 for match in re.finditer(rb"(?<![^\n])\r?\n", block)
    )


def _fast_table(block: bytes, form: CsvForm, columns: tuple[str, ...]) -> pa.Table | None:
    """Return the converted block; None where the exact reader must decide."""
    # pyarrow would leave out a byte order mark in front of any block, which is a character like others here.
    if block.startswith(_BOM) or b"\0" in block or block.count(b"\r") != block.count(b"\r\n"):
        return None
    try:
        table = pyarrow.csv.read_csv(
            pa.BufferReader(block),
            pyarrow.csv.ReadOptions(use_threads=False, block_size=len(block) + 1, column_names=columns),
            pyarrow.csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
            pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(columns, pa.string()), check_utf8=True),
        ).combine_chunks()
    except pa.ArrowInvalid:
        return None
    if any((pc.max(pc.binary_length(column)).as_py() or 0) > MOST_CELL_CHARACTERS for column in table.columns):
        return None
    return form.convert_table(table)


def _exact_tables(
    stream: IO[bytes], where: str, form: CsvForm, columns: tuple[str, ...], n_lines_before: int
) -> Iterator[pa.Table]:
    rows = (
        _exact_row(form, dict(zip(columns, cells, strict=True)), f"{where}, line {line}")
        for line, cells in read_rows(stream, where, len(columns), n_lines_before=n_lines_before)
    )
    while some := list(islice(rows, _EXACT_ROWS)):
        yield pa.Table.from_pylist(some, schema=form.schema)


def _exact_row(form: CsvForm, cells: dict[str, str], where: str) -> dict[str, Any]:
    try:
        return form.convert_row(cells)
    except ValueError as error:
        raise InputError(f"{where}: {error}") from error


class _Joined(io.RawIOBase):
    """Bytes that were read ahead, then the rest of their stream."""

    def __init__(self, ahead: bytes, stream: IO[bytes]) -> None:
        self._ahead, self._stream = io.BytesIO(ahead), stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        read = self._ahead.read(len(buffer)) or self._stream.read(len(buffer))
        buffer[: len(read)] = read
        return len(read)
