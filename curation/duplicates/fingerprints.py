"""What duplicates are found by, of every picture, on disk: digest and thumbnail, in shards by a hash of the name.

A picture's shard depends on its name alone and a row on the picture alone, so that a run that was killed and one
that was not, on one machine or several, end in the same bytes. A rerun reads no picture that has not changed.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.duplicates.thumbnails import N_BYTES, Thumbnails, thumbnail_of_bytes
from curation.engine.engine import Engine
from curation.engine.local import LocalEngine
from curation.verified_bytes import verified_bytes
from manifests.durable import delete
from manifests.errors import UnreadableImageError
from manifests.image_ids import shard_of
from manifests.parquet import read_written_as, write_parquet
from manifests.stage_progress import ProgressBar
from manifests.stored_pictures import StoredPicture

N_SHARDS = 64
"""Of Open Images' 125,436 test images a shard holds 2,000, seconds of work on a core; of 9 million, 140,000."""

_FEW_PICTURES = 400
"""Read in this process: others would take longer to start."""

SCHEMA = pa.schema(
    [
        pa.field("name", pa.string(), nullable=False),
        pa.field("stamp", pa.string(), nullable=False),
        pa.field("sha256", pa.string()),
        pa.field("thumbnail", pa.binary(N_BYTES)),
        pa.field("reason", pa.string()),
    ]
)
"""`reason` says why a picture has no thumbnail; a row is outdated where `stamp` is not that of the file now."""


@dataclass(frozen=True)
class FileToRead:
    """One picture file.

    Attributes
    ----------
    name : str
        Image id, or path below the folder with forward slashes.
    path : Path
        The file.
    stamp : str
        Changes with the pixels: digest and rotation, or size and time of the file.
    sha256 : str or None
        Where known, what the bytes must have; else it is computed.
    rotation_deg : int or None
        Open Images' rotation, counterclockwise.
    """

    name: str
    path: Path
    stamp: str
    sha256: str | None = None
    rotation_deg: int | None = None

    @classmethod
    def of_picture(cls, picture: StoredPicture) -> "FileToRead":
        """Return the file of a downloaded picture."""
        stamp = f"{picture.sha256} {picture.rotation_deg or 0}"
        return cls(picture.image_id, picture.path, stamp, picture.sha256, picture.rotation_deg)

    @classmethod
    def in_folder(cls, folder: Path, path: Path) -> "FileToRead":
        """Return a file below a folder that somebody else filled."""
        found = path.stat()
        return cls(path.relative_to(folder).as_posix(), path, f"{found.st_size} {found.st_mtime_ns}")


@dataclass(frozen=True)
class Fingerprints:
    """Pictures that could be read: `names` and `digests` of n, and `thumbnails`, sorted by name."""

    names: list[str]
    digests: list[str]
    thumbnails: Thumbnails


def fingerprint_files(files: Sequence[FileToRead]) -> pa.Table:
    """Return the rows of one shard, sorted by name; a function of the files alone, for any engine."""
    rows = []
    for file in sorted(files, key=lambda file: file.name):
        row: dict[str, str | bytes | None] = {
            "name": file.name,
            "stamp": file.stamp,
            "sha256": file.sha256,
            "thumbnail": None,
            "reason": None,
        }
        try:
            content = verified_bytes(file.path, file.sha256)
            row["sha256"] = file.sha256 or hashlib.sha256(content).hexdigest()
            row["thumbnail"] = thumbnail_of_bytes(content, file.rotation_deg)
        except UnreadableImageError as error:
            row["reason"] = error.reason
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=SCHEMA)


class FingerprintStore:
    """A folder of shards.

    Parameters
    ----------
    folder : Path
        Made when the first shard is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def update(
        self, files: Iterable[FileToRead], engine: Engine | None = None, *, n_workers: int = 2
    ) -> Counter[str]:
        """Read what is new or has changed, forget what is not among `files`, and return counts.

        Parameters
        ----------
        files : iterable of FileToRead
            All pictures that the store should hold, each name once.
        engine : Engine, optional
            Where files are read; by default in processes of this machine.
        n_workers : int
            How many of these.

        Returns
        -------
        Counter
            ``new``, ``kept`` and ``unreadable``; the last are tried again by every run.
        """
        wanted: dict[int, list[FileToRead]] = {shard: [] for shard in range(N_SHARDS)}
        for file in files:
            wanted[shard_of(file.name, N_SHARDS)].append(file)
        counts: Counter[str] = Counter(new=0, kept=0, unreadable=0)
        work = []
        for shard, shard_files in wanted.items():
            missing = self._missing(shard, shard_files)
            counts["kept"] += len(shard_files) - len(missing)
            if missing:
                work.append((shard, missing))
        n_new = sum(len(missing) for _, missing in work)
        engine = engine or LocalEngine(1 if n_new <= _FEW_PICTURES else n_workers)
        tables = engine.map(fingerprint_files, [missing for _, missing in work])
        with ProgressBar(n_new, "hash") as bar:
            for (shard, missing), table in zip(work, tables, strict=True):
                self._add(shard, table)
                n_unreadable = table.column("thumbnail").null_count
                counts["unreadable"] += n_unreadable
                counts["new"] += len(missing) - n_unreadable
                bar.update(len(missing), n_failed=n_unreadable)
        return counts

    def shards(self) -> Iterator[Fingerprints]:
        """Yield the readable pictures of each shard."""
        for shard in range(N_SHARDS):
            table = self._read(shard)
            if table.num_rows:
                yield _fingerprints(table)

    def read(self) -> Fingerprints:
        """Return all readable pictures, sorted by name."""
        return _fingerprints(pa.concat_tables([self._read(shard) for shard in range(N_SHARDS)]).sort_by("name"))

    def _missing(self, shard: int, files: Sequence[FileToRead]) -> list[FileToRead]:
        """Return the files that a shard lacks, after taking out what is outdated, unreadable or not wanted."""
        table = self._read(shard)
        stamps = {file.name: file.stamp for file in files}
        names, stored = table.column("name").to_pylist(), table.column("stamp").to_pylist()
        is_readable = table.column("thumbnail").is_valid().to_pylist()
        holds = [
            stamps.get(name) == stamp and readable
            for name, stamp, readable in zip(names, stored, is_readable, strict=True)
        ]
        if not all(holds):
            table = table.filter(pa.array(holds, pa.bool_()))
            self._write(shard, table)
        known = set(table.column("name").to_pylist())
        return [file for file in files if file.name not in known]

    def _add(self, shard: int, rows: pa.Table) -> None:
        self._write(shard, pa.concat_tables([self._read(shard), rows]).sort_by("name"))

    def _path(self, shard: int) -> Path:
        return self.folder / f"shard-{shard:04d}.parquet"

    def _read(self, shard: int) -> pa.Table:
        path = self._path(shard)
        if not path.exists():
            return SCHEMA.empty_table()
        return read_written_as(path, SCHEMA, rerun="run the same command again")

    def _write(self, shard: int, table: pa.Table) -> None:
        if table.num_rows:
            write_parquet(self._path(shard), table)
        else:
            delete(self._path(shard))


def _fingerprints(table: pa.Table) -> Fingerprints:
    table = table.filter(table.column("thumbnail").is_valid())
    return Fingerprints(
        table.column("name").to_pylist(),
        table.column("sha256").to_pylist(),
        Thumbnails.from_rows(_bytes_of(table.column("thumbnail"))),
    )


def _bytes_of(column: pa.ChunkedArray) -> npt.NDArray[np.uint8]:
    """Return a column of thumbnails without nulls as (n, `N_BYTES`), by way of no object a row."""
    parts = [
        np.frombuffer(chunk.buffers()[1], np.uint8, len(chunk) * N_BYTES, chunk.offset * N_BYTES)
        for chunk in column.chunks
        if len(chunk)
    ]
    return np.concatenate([np.empty(0, np.uint8), *parts]).reshape(-1, N_BYTES)
