"""Feature sets on disk: the only place in `scoring` that reads and writes them.

A folder of features holds one ``<set>.parquet`` a set, and a head, whoever made it. A set is read in chunks, so
that 1.28 million rows of 2,048 features never sit in memory; only its ids do.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from manifests.ahead import Task, one_thread_ahead
from manifests.durable import replacing
from manifests.errors import FeatureError
from manifests.schema import features_schema
from manifests.workspace import checked_name
from scoring.heads import Head
from scoring.outputs import Outputs

GROUP_ROWS = 4096
"""Rows of a written row group: 32 MiB at 2,048 features."""

_CHUNK_BYTES = 16 << 20
"""Features, or their logits in float64, of the rows read at a time: large enough for a fast product, and few
enough that what all methods make of them fits in some hundred MiB."""
_MOST_CHUNK_ROWS = 4096

_READ_BUFFER_BYTES = 1 << 20
_COLUMNS = ["image_id", "class_index", "features"]


@dataclass(frozen=True, eq=False)
class FeatureBatch:
    """Some rows of a feature set.

    Attributes
    ----------
    image_ids : pyarrow.StringArray
        (n,), no nulls.
    class_index : pyarrow.Int32Array
        (n,), null where unknown.
    features : Tensor
        Penultimate features, float32, (n, n_features), finite, on the CPU.
    second_norm : Tensor, optional
        Norms of the features of a second model (see `scoring.second_model`), float64, (n,), on the CPU.
    """

    image_ids: pa.Array
    class_index: pa.Array
    features: torch.Tensor
    second_norm: torch.Tensor | None = None

    def outputs(self, head: Head) -> Outputs:
        """Return what is known of these images when they are scored, on the device of `head`."""
        second_norm = None if self.second_norm is None else self.second_norm.to(head.device)
        return Outputs(head, self.features.to(head.device), second_norm)


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """One feature set on disk; iterating yields its rows as `FeatureBatch`, and may be repeated.

    Attributes
    ----------
    path : Path
        The Parquet file.
    n_features : int
        Number of features N of each row.
    image_ids : pyarrow.ChunkedArray
        Every id of the set, in the file's order, each once.
    chunk_rows : int
        Largest number of rows in one batch.
    """

    path: Path
    n_features: int
    image_ids: pa.ChunkedArray
    chunk_rows: int

    @property
    def name(self) -> str:
        """Name of the set: ``train``, ``val``, or an OOD set's own."""
        return self.path.stem

    @property
    def n_images(self) -> int:
        """Number of rows."""
        return len(self.image_ids)

    def class_index(self) -> pa.ChunkedArray:
        """Return the classes of all images, int32, null where unknown, in the file's order."""
        try:
            return pq.read_table(self.path, columns=["class_index"]).column("class_index")
        except (pa.ArrowException, OSError) as error:
            raise FeatureError(f"{self.path}: cannot be read as Parquet ({error})") from error

    def __iter__(self) -> Iterator[FeatureBatch]:
        rows_of_file = self._rows_of_file()
        waiting = self._begin(rows_of_file)
        try:
            while (batch := waiting.result()) is not None:
                waiting = self._begin(rows_of_file)
                yield batch
        finally:
            # Left early: what is being read is let finish, as the file closes after this.
            waiting.drop()
            waiting.wait()

    def _begin(self, rows_of_file: Iterator[pa.RecordBatch]) -> Task[FeatureBatch | None]:
        # The room is made in this thread, where it will be freed: read into Arrow's own memory, features would
        # pass from one thread to the other, and allocators hoard such memory (1 GB more at 2,048 features).
        room = torch.empty(self.chunk_rows, self.n_features)
        task = Task(partial(self._next_batch, rows_of_file, room))
        one_thread_ahead().begin(task)
        return task

    def _rows_of_file(self) -> Iterator[pa.RecordBatch]:
        # Buffered, as a row group of another writer may hold half a gigabyte; and one row group at a time, as
        # Arrow otherwise keeps those ahead in memory too.
        with pq.ParquetFile(self.path, buffer_size=_READ_BUFFER_BYTES) as file:
            for group in range(file.num_row_groups):
                yield from file.iter_batches(self.chunk_rows, [group], _COLUMNS, use_threads=False)

    def _next_batch(self, rows_of_file: Iterator[pa.RecordBatch], room: torch.Tensor) -> FeatureBatch | None:
        """Return the next rows, with their features in `room`, or None after the last."""
        try:
            rows = next(rows_of_file, None)
        except (pa.ArrowException, OSError) as error:
            raise FeatureError(f"{self.path}: cannot be read as Parquet ({error})") from error
        if rows is None:
            return None
        column = rows.column("features")
        values = column.flatten()
        if column.null_count or values.null_count:
            raise FeatureError(f"{self.path}: column features holds empty cells")
        features = room[: len(rows)]
        # NumPy, as torch would call up a second team of threads beside the one that computes.
        array = features.numpy()
        np.copyto(array, values.to_numpy().reshape(array.shape))
        # A sum tells at a tenth of the cost whether there is anything to look for.
        with np.errstate(over="ignore", invalid="ignore"):
            is_doubtful = not np.isfinite(array.sum())
        if is_doubtful and not (is_finite := np.isfinite(array).all(axis=1)).all():
            first = rows.column("image_id")[int(is_finite.argmin())].as_py()
            raise FeatureError(f"{self.path}: image {first} has a NaN or infinite feature")
        return FeatureBatch(rows.column("image_id"), rows.column("class_index"), features)


def open_feature_set(
    features_dir: Path, set_name: str, head: Head | None = None, chunk_rows: int | None = None
) -> FeatureSet:
    """Return the set ``<features_dir>/<set_name>.parquet`` after checking its columns and ids.

    Parameters
    ----------
    features_dir : Path
        A folder of features.
    set_name : str
        Name of the set.
    head : Head, optional
        The head that the features must fit.
    chunk_rows : int, optional
        Rows of a batch, at least 1; as many as are read fast where not given.

    Raises
    ------
    InputError
        `set_name` is no name of a set.
    FeatureError
        The file is not there or is damaged, a column is missing or of another type, there is no row, an id is
        empty or stands twice, or the features are not as many as the head takes. NaN and infinity are found,
        and refused, on reading the batches.
    """
    path = features_dir / f"{checked_name(set_name, 'feature set')}.parquet"
    if not path.is_file():
        known = ", ".join(sorted(other.stem for other in features_dir.glob("*.parquet"))) or "none"
        raise FeatureError(f"{path}: no such file; the sets in this folder: {known}")
    try:
        with pq.ParquetFile(path, buffer_size=_READ_BUFFER_BYTES) as file:
            n_features = _n_features(path, file.schema_arrow)
            image_ids = file.read(columns=["image_id"]).column("image_id")
    except (pa.ArrowException, OSError) as error:
        raise FeatureError(f"{path}: cannot be read as Parquet ({error})") from error
    _check_ids(path, image_ids)
    if head is not None and head.n_features != n_features:
        raise FeatureError(
            f"{path}: has {n_features} features an image, the head beside it takes {head.n_features}: "
            f"they are not of one model"
        )
    largest_row = max(4 * n_features, 8 * head.n_classes if head is not None else 0)
    fast = min(max(_CHUNK_BYTES // largest_row, 1), _MOST_CHUNK_ROWS)
    return FeatureSet(path, n_features, image_ids, fast if chunk_rows is None else chunk_rows)


@contextlib.contextmanager
def feature_set_writer(path: Path, n_features: int) -> Iterator["FeatureSetWriter"]:
    """Yield a writer of one feature set; the file appears under its name only when all went well."""
    with (
        replacing(path) as temporary,
        # Features do not repeat, so that a dictionary of them only costs; zstd would take 0.56 of the room for
        # rectified features, and three times as long to read (0.45 against 1.4 GB a second on one core).
        pq.ParquetWriter(temporary, features_schema(n_features), compression="none", use_dictionary=False) as file,
    ):
        writer = FeatureSetWriter(file)
        yield writer
        writer.flush()


class FeatureSetWriter:
    """Collects rows into row groups of `GROUP_ROWS`; made by `feature_set_writer`."""

    def __init__(self, file: pq.ParquetWriter) -> None:
        self._file = file
        self._tables: list[pa.Table] = []
        self._n_waiting = 0

    def write(self, image_ids: Sequence[str], class_index: Sequence[int | None], features: torch.Tensor) -> None:
        """Add rows: n ids, n class indices (None where unknown) and features (n, n_features)."""
        schema = self._file.schema
        values = pa.array(np.ascontiguousarray(features.detach().cpu().numpy(), dtype=np.float32).reshape(-1))
        lists = pa.FixedSizeListArray.from_arrays(values, type=schema.field("features").type)
        columns = [pa.array(image_ids, pa.string()), pa.array(class_index, pa.int32()), lists]
        self._tables.append(pa.Table.from_arrays(columns, schema=schema))
        self._n_waiting += len(image_ids)
        if self._n_waiting >= GROUP_ROWS:
            self.flush()

    def flush(self) -> None:
        """Write what waits as one row group."""
        if self._tables:
            self._file.write_table(pa.concat_tables(self._tables), row_group_size=self._n_waiting)
        self._tables = []
        self._n_waiting = 0


def _n_features(path: Path, found: pa.Schema) -> int:
    expected = {"image_id": pa.string(), "class_index": pa.int32()}
    for name, dtype in expected.items():
        position = found.get_field_index(name)
        if position < 0:
            raise FeatureError(f"{path}: expected a column {name} ({dtype}), found {', '.join(found.names)}")
        if found.field(position).type != dtype:
            raise FeatureError(f"{path}: column {name} should be {dtype}, is {found.field(position).type}")
    position = found.get_field_index("features")
    if position < 0:
        raise FeatureError(f"{path}: expected a column features, found {', '.join(found.names)}")
    dtype = found.field(position).type
    if not pa.types.is_fixed_size_list(dtype) or dtype.value_type != pa.float32() or dtype.list_size < 1:
        raise FeatureError(f"{path}: column features should be fixed_size_list<float>[n_features], is {dtype}")
    return dtype.list_size


def _check_ids(path: Path, image_ids: pa.ChunkedArray) -> None:
    if not len(image_ids):
        raise FeatureError(f"{path}: holds no image")
    if image_ids.null_count:
        raise FeatureError(f"{path}: {image_ids.null_count} rows have no image_id")
    if len(image_ids.unique()) != len(image_ids):
        counts = pc.value_counts(image_ids)
        repeated = counts.filter(pc.greater(counts.field("counts"), 1))
        first = repeated.field("values")[0].as_py()
        raise FeatureError(f"{path}: {len(repeated)} image ids stand in more than one row, {first} among them")
