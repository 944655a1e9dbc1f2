"""What `download` knows of every candidate while it runs, in 37 bytes each: nine million are 333 MB."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curation.download_log import DownloadLog, Row
from manifests import schema
from manifests.errors import TableError
from manifests.image_ids import is_image_id
from manifests.workspace import Workspace

_ROWS_A_BATCH = 2048
_HEX_ID = re.compile(r"[0-9a-f]{16}")

_CODES = {status: code for code, status in enumerate(schema.DOWNLOAD_STATUSES, start=1)}
OK = _CODES["ok"]


def candidate_batches(workspace: Workspace, columns: Sequence[str]) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield (number of the first row, batch) over the candidates, a few thousand rows at a time.

    Raises
    ------
    StageMissingError
        `candidates` has not been run.
    TableError
        The file cannot be read, or is of another version.
    """
    path = workspace.path_to_read(schema.CANDIDATES)
    # Arrow's own allocators keep what each thread has freed: 24 MB more at 8,000 pictures than at 1,000, this 6.
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        with pq.ParquetFile(path) as file:
            first = 0
            for batch in file.iter_batches(_ROWS_A_BATCH, columns=list(columns), use_threads=False):
                yield first, batch
                first += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        raise TableError(f"{path}: cannot be read as Parquet ({error})") from error


class DownloadState:
    """The last line of the log for each candidate, by its position in the table of candidates.

    Parameters
    ----------
    workspace : Workspace
        With candidates.
    log : DownloadLog
        Read once, from its start.

    Attributes
    ----------
    codes : numpy.ndarray of int8, shape (n_images,)
        Number of the status in `schema.DOWNLOAD_STATUSES`, from 1 (`OK`); 0 where nothing is known.
    starts : numpy.ndarray of int64, shape (n_images,)
        Where the line starts in the log.
    sizes : numpy.ndarray of int64, shape (n_images,)
        Bytes of the stored picture.
    digests : numpy.ndarray of uint64, shape (n_images,)
        First 64 bits of the SHA-256 of a picture that arrived.

    Raises
    ------
    TableError
        An id stands twice, or could be a path.
    """

    def __init__(self, workspace: Workspace, log: DownloadLog) -> None:
        where = workspace.path_of(schema.CANDIDATES)
        batches = (batch.column(0).to_pylist() for _, batch in candidate_batches(workspace, ["image_id"]))
        keys = np.concatenate([np.empty(0, np.uint64), *(_keys(image_ids, where) for image_ids in batches)])
        self._order = np.argsort(keys, kind="stable")
        self._sorted_keys = keys[self._order]
        if np.any(self._sorted_keys[1:] == self._sorted_keys[:-1]):
            raise TableError(f"{where}: an image_id stands in more than one row")
        self.n_images = len(keys)
        self.codes = np.zeros(self.n_images, np.int8)
        self.starts = np.full(self.n_images, -1, np.int64)
        self.sizes = np.zeros(self.n_images, np.int32)
        self.digests = np.zeros(self.n_images, np.uint64)
        for starts, rows in _blocks(log.rows()):
            positions = self.positions([row["image_id"] for row in rows])
            for position, start, row in zip(positions, starts, rows, strict=True):
                if position >= 0:
                    self.note(position, start, row)

    def positions(self, image_ids: Sequence[str]) -> list[int]:
        """Return the position of each id among the candidates, -1 where it is none."""
        keys = np.array([_key(image_id) for image_id in image_ids], np.uint64)
        if not self.n_images:
            return [-1] * len(keys)
        found = np.minimum(np.searchsorted(self._sorted_keys, keys), self.n_images - 1)
        return np.where(self._sorted_keys[found] == keys, self._order[found], -1).tolist()

    def note(self, position: int, start: int, row: Row) -> None:
        """Take a line of the log as the last word on a candidate."""
        is_ok = row["status"] == "ok"
        self.codes[position] = _CODES[row["status"]]
        self.starts[position] = start
        self.sizes[position] = row["size_bytes"] if is_ok else 0
        self.digests[position] = int(row["sha256"][:16], 16) if is_ok else 0


def _blocks(rows: Iterable[tuple[int, Row]]) -> Iterator[tuple[list[int], list[Row]]]:
    starts: list[int] = []
    block: list[Row] = []
    for start, row in rows:
        starts.append(start)
        block.append(row)
        if len(block) == _ROWS_A_BATCH:
            yield starts, block
            starts, block = [], []
    yield starts, block


def _keys(image_ids: Sequence[str], where: object) -> np.ndarray:
    for image_id in image_ids:
        if not is_image_id(image_id):
            raise TableError(f"{where}: expected an image id, found {image_id!r}")
    return np.array([_key(image_id) for image_id in image_ids], np.uint64)


def _key(image_id: str) -> int:
    """Return an id as 64 bits: those of Open Images are that; of others, a hash.

    That two of nine million hashes are equal has a chance of 2 in a million, and is refused, not confused.
    """
    if _HEX_ID.fullmatch(image_id):
        return int(image_id, 16)
    return int.from_bytes(hashlib.blake2b(image_id.encode(), digest_size=8).digest())
