"""Reading and writing Parquet files: in one step, with bytes that depend on the rows alone."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from manifests import schema
from manifests.durable import replacing
from manifests.errors import TableError


def write_parquet(path: Path, table: pa.Table) -> None:
    """Write `table` in one step; equal tables give equal bytes with one version of pyarrow."""
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", row_group_size=schema.ROW_GROUP_ROWS)


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Return the table in `path`, or some of its columns.

    Raises
    ------
    TableError
        The file is not Parquet, or is damaged.
    """
    try:
        return pq.ParquetFile(path).read(None if columns is None else list(columns))
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise TableError(f"{path}: cannot be read as Parquet ({error})") from error


def read_written_as(
    path: Path, expected: pa.Schema, *, rerun: str, columns: Sequence[str] | None = None
) -> pa.Table:
    """Return one of the files that a stage keeps for itself in a folder, or some of its columns.

    Parameters
    ----------
    path : Path
        The file.
    expected : pyarrow.Schema
        What this version writes.
    rerun : str
        What makes a file anew that is not there, such as ``run 'localize' again``.
    columns : sequence of str, optional
        Those to read.

    Raises
    ------
    TableError
        The file is not Parquet, is damaged, or has other columns than this version writes; the message ends in
        what to do.
    """
    try:
        difference = schema.difference_of_form(parquet_schema(path), expected)
        if not difference:
            return read_parquet(path, columns)
    except TableError as error:
        # Of a folder in parts only this one is lost: the others stay.
        raise TableError(f"{error}: delete it and {rerun}") from error
    raise TableError(
        f"{path}: another version of the toolkit wrote it ({difference}): delete {path.parent} and {rerun}"
    )


def parquet_schema(path: Path) -> pa.Schema:
    """Return the schema of the table in `path`; errors as of `read_parquet`."""
    try:
        return pq.ParquetFile(path).schema_arrow
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise TableError(f"{path}: cannot be read as Parquet ({error})") from error


def write_rows(path: Path, spec: schema.TableSpec, tables: Iterable[pa.Table]) -> int:
    """Write sorted tables as one file in one step, in row groups of one size, and return the number of rows.

    Equal rows give equal bytes, however they are parted. Each row group is checked against `spec`.

    Raises
    ------
    TableError
        A row group does not follow the schema.
    """
    n_rows = 0
    with replacing(path) as temporary, pq.ParquetWriter(temporary, spec.schema, compression="zstd") as writer:
        for group in _row_groups(tables):
            writer.write_table(spec.check(group, str(path)), row_group_size=schema.ROW_GROUP_ROWS)
            n_rows += group.num_rows
    return n_rows


def _row_groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    waiting: list[pa.Table] = []
    n_waiting = 0
    for table in tables:
        begin = 0
        while table.num_rows - begin >= schema.ROW_GROUP_ROWS - n_waiting:
            head = table.slice(begin, schema.ROW_GROUP_ROWS - n_waiting)
            begin += head.num_rows
            yield pa.concat_tables([*waiting, head]).combine_chunks()
            waiting, n_waiting = [], 0
        if begin < table.num_rows:
            waiting.append(table.slice(begin))
            n_waiting += table.num_rows - begin
    if waiting:
        yield pa.concat_tables(waiting).combine_chunks()
