"""Tables larger than memory, sorted by image id: split by leading characters on disk, sorted part by part."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc

from manifests.durable import naming_full_disk

_MOST_PART_BYTES = 192 << 20
_LONGEST_ID = 64
_SPILLED = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)


class SortedRows:
    """Rows put in in any order, given out sorted.

    Use it with ``with``. Rows lie in nameless temporary files, one for each character that an id has at one place,
    and a part that is too large to sort in memory is split again by the next character. The system takes the files
    back when the process ends, however it ends.

    Parameters
    ----------
    table_schema : pyarrow.Schema
        Of the rows; it has ``image_id``.
    folder : Path
        Where the temporary files lie, on a disk with room for all rows.
    sort_columns : sequence of str
        The order; ``image_id`` comes first.
    most_part_bytes : int
        A larger part is split again.
    """

    def __init__(
        self,
        table_schema: pa.Schema,
        folder: Path,
        sort_columns: Sequence[str] = ("image_id",),
        *,
        most_part_bytes: int = _MOST_PART_BYTES,
    ) -> None:
        self._schema, self._folder, self._sort_columns = table_schema, folder, sort_columns
        self._most_part_bytes = most_part_bytes
        self._place = 0
        self._parts: dict[int, _Part] = {}

    def __enter__(self) -> "SortedRows":
        return self

    def __exit__(self, *_: object) -> None:
        for part in self._parts.values():
            part.close()
        self._parts.clear()

    def add(self, table: pa.Table) -> None:
        """Put rows in."""
        if table.num_rows == 0:
            return
        characters = _characters_at(table.column("image_id").combine_chunks(), self._place)
        found = np.unique(characters)
        if len(found) > 1:
            order = np.argsort(characters, kind="stable")
            table, characters = table.take(pa.array(order)), characters[order]
        ends = [*np.searchsorted(characters, found[1:]).tolist(), table.num_rows]
        begins = [0, *ends[:-1]]
        for character, begin, end in zip(found.tolist(), begins, ends, strict=True):
            part = self._parts.get(character)
            if part is None:
                part = self._parts[character] = _Part(self._schema, self._folder)
            part.write(table.slice(begin, end - begin))

    def tables(self) -> Iterator[pa.Table]:
        """Yield all rows sorted, in tables that fit in memory, once; equal ids are never parted."""
        for character in sorted(self._parts):
            part = self._parts[character]
            if part.n_bytes <= self._most_part_bytes or self._place == _LONGEST_ID:
                yield self._sorted(pa.Table.from_batches(part.batches(), self._schema).combine_chunks())
            else:
                yield from self._split(part)
            part.close()

    def _split(self, part: "_Part") -> Iterator[pa.Table]:
        with SortedRows(
            self._schema, self._folder, self._sort_columns, most_part_bytes=self._most_part_bytes
        ) as finer:
            finer._place = self._place + 1
            for batch in part.batches():
                finer.add(pa.Table.from_batches([batch]))
            yield from finer.tables()

    def _sorted(self, table: pa.Table) -> pa.Table:
        ids = table.column("image_id").combine_chunks()
        is_sorted = len(self._sort_columns) == 1 and pc.all(pc.less(ids[:-1], ids[1:]), min_count=0).as_py()
        return table if is_sorted else table.sort_by([(name, "ascending") for name in self._sort_columns])


class _Part:
    """The rows of one leading character, in one temporary file."""

    def __init__(self, table_schema: pa.Schema, folder: Path) -> None:
        self.n_bytes = 0
        self._folder = folder
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        self._writer = pa.ipc.new_stream(self._file, table_schema, options=_SPILLED)

    def write(self, table: pa.Table) -> None:
        self.n_bytes += table.nbytes
        with naming_full_disk(self._folder):
            self._writer.write_table(table)

    def batches(self) -> Iterator[pa.RecordBatch]:
        with naming_full_disk(self._folder):
            self._writer.close()
            self._file.seek(0)
        yield from pa.ipc.open_stream(self._file, options=pa.ipc.IpcReadOptions(use_threads=False))

    def close(self) -> None:
        # What a full disk did not take is tried once more, and fails as it did.
        with naming_full_disk(self._folder):
            self._file.close()


def _characters_at(ids: pa.StringArray, place: int) -> npt.NDArray[np.uint8]:
    """Return the byte at one place of each id, 0 where the id is shorter."""
    offsets = np.frombuffer(ids.buffers()[1], np.int32)[ids.offset : ids.offset + len(ids) + 1]
    text = np.frombuffer(ids.buffers()[2], np.uint8)
    at = offsets[:-1] + place
    return np.where(at < offsets[1:], text[np.minimum(at, len(text) - 1)], 0).astype(np.uint8)
