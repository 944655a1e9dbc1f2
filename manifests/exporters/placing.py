"""The pictures of an export: each compared with its frozen digest, then linked or read."""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from manifests.ahead import prepared_ahead
from manifests.durable import naming_full_disk, sha256_of_file
from manifests.errors import InputError
from manifests.exporters.exported_set import ExportedSet, Record

_N_WORKERS = min(8, os.cpu_count() or 1)
# Bounds what waits in memory: 64 pictures of Open Images are about 20 MB.
_N_AHEAD = 64


def place_pictures(export: ExportedSet, folder: Path, path_of: Callable[[Record], str]) -> dict[str, str]:
    """Put every picture at its relative path below `folder`, as a hard link where possible; return the digests.

    Raises
    ------
    InputError
        A picture is not there, or is not the one that was frozen.
    """
    if export.pictures is None:
        return {}
    digests = {}
    targets = {record["image_id"]: path_of(record) for record in export.records}
    for parent in sorted({(folder / target).parent for target in targets.values()}):
        parent.mkdir(parents=True, exist_ok=True)
    found = prepared_ahead(
        lambda record: _checked_digest(record, _source(export, record)),
        export.records, n_workers=_N_WORKERS, n_ahead=_N_AHEAD,
    )  # fmt: skip
    for record, digest in found:
        target = targets[record["image_id"]]
        _link_or_copy(_source(export, record), folder / target)
        digests[target] = digest
    return digests


def checked_contents(export: ExportedSet, records: Sequence[Record]) -> Iterator[tuple[Record, bytes]]:
    """Yield each record with the bytes of its picture, in order.

    Raises
    ------
    InputError
        As `place_pictures`.
    """

    def content_of(record: Record) -> bytes:
        source = _source(export, record)
        try:
            content = source.read_bytes()
        except FileNotFoundError as error:
            raise _missing(source) from error
        _check(record, source, hashlib.sha256(content).hexdigest())
        return content

    yield from prepared_ahead(content_of, records, n_workers=_N_WORKERS, n_ahead=_N_AHEAD)


def size_bytes(export: ExportedSet, record: Record) -> int:
    """Return the size of a picture's file."""
    source = _source(export, record)
    try:
        return source.stat().st_size
    except FileNotFoundError as error:
        raise _missing(source) from error


def _source(export: ExportedSet, record: Record) -> Path:
    if export.pictures is None:
        raise InputError("this format holds the pictures: expected a workspace with them")
    return export.pictures[record["image_id"]]


def _checked_digest(record: Record, source: Path) -> str:
    try:
        digest = sha256_of_file(source)
    except FileNotFoundError as error:
        raise _missing(source) from error
    _check(record, source, digest)
    return digest


def _missing(source: Path) -> InputError:
    return InputError(f"{source} is not there: run the stage 'download' for this manifest's images first")


def _check(record: Record, source: Path, digest: str) -> None:
    # Null: the image comes from a published list and had not been downloaded when it was frozen.
    if record["sha256"] not in (None, digest):
        raise InputError(f"{source}: its bytes are not those that were frozen; delete it and run 'download' again")


def _link_or_copy(source: Path, target: Path) -> None:
    with contextlib.suppress(OSError):
        os.link(source, target)
        return
    # Another file system: a hard link is not possible there.
    with naming_full_disk(target):
        shutil.copyfile(source, target)
