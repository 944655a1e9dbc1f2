"""Comparing a folder of pictures with the records of a manifest: which are missing, changed, or not in it."""

import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manifests.ahead import done_in_threads
from manifests.errors import UnreadableImageError
from manifests.image_structure import image_structure
from manifests.images import inspect_image

_SUFFIX = ".jpg"
_LARGEST_BYTES = 64 << 20
"""Longer files are hashed, but not decoded; the stage `download` stores none of them."""

_BLOCK_BYTES = 256 << 10
_HEAD_BYTES = 4 << 10
"""Where a header declares the picture's size, but for files that begin with long EXIF."""

_FILES_AT_A_TIME = 32

MISSING, CHANGED, EXTRA, UNDECODABLE, SIZE = "missing", "changed", "extra", "undecodable", "size"


@dataclass(frozen=True)
class Depth:
    """How far to look into pictures.

    Attributes
    ----------
    reads_bytes : bool
        Read every picture: its SHA-256, and its size by its header. One whose SHA-256 no record states is decoded
        too. (Of the others it is proof enough: what `download` stored, it had decoded to the end.)
    decodes_all : bool
        Decode every picture.
    """

    reads_bytes: bool = False
    decodes_all: bool = False


Finding = tuple[str, str]
"""What is wrong (one of the words above), and where."""


class _Reader(threading.local):
    """Reads files block by block into a buffer a thread: what is hashed is still in the core's cache."""

    def __init__(self) -> None:
        self._block = memoryview(bytearray(_BLOCK_BYTES))

    def digest_and_head(self, path: Path) -> tuple[str, bytes]:
        """Return the SHA-256 of a file and its first bytes."""
        digest = hashlib.sha256()
        head: bytes | None = None
        with path.open("rb", buffering=0) as stream:
            while n_bytes := stream.readinto(self._block):
                if head is None:
                    head = bytes(self._block[: min(n_bytes, _HEAD_BYTES)])
                digest.update(self._block[:n_bytes])
        return digest.hexdigest(), head or b""


def picture_findings(
    records: Sequence[Mapping[str, Any]],
    folder: Path,
    depth: Depth,
    *,
    others: AbstractSet[str] = frozenset(),
    place_of: Callable[[str], str] | None = None,
) -> list[Finding]:
    """Return what is wrong with the pictures in a folder, by kind and path, whatever the number of threads.

    Parameters
    ----------
    records : sequence of mapping
        Of the manifest, sorted by image id.
    folder : Path
        With ``<image id>.jpg``, at any depth unless `place_of` says where.
    depth : Depth
        How far to look.
    others : set of str
        Images whose pictures may lie there too.
    place_of : callable, optional
        From an image id to the one path, below the folder that `folder` lies in, where its picture may be, and be
        itself: no link.
    """
    paths, findings = _found(folder, {record["image_id"] for record in records} | others, place_of)
    present = []
    for record in records:
        path = paths.get(record["image_id"])
        if path is None:
            findings.append((MISSING, f"{record['image_id']}{_SUFFIX}"))
        else:
            present.append((record, path))
    if depth.reads_bytes or depth.decodes_all:
        findings += _read_all(present, folder, depth)
    return sorted(findings)


def _found(
    folder: Path, known: AbstractSet[str], place_of: Callable[[str], str] | None
) -> tuple[dict[str, Path], list[Finding]]:
    """Return where the picture of each known image lies, and the files that are none, stand twice or elsewhere."""

    def is_in_place(path: Path, image_id: str) -> bool:
        return place_of is None or (path == folder.parent / place_of(image_id) and not path.is_symlink())

    paths: dict[str, Path] = {}
    findings = []
    for place, folders, names in os.walk(folder):
        folders.sort()
        # A walk does not follow them: what lies behind is not looked at.
        links = [path for path in (Path(place, name) for name in folders) if path.is_symlink()]
        findings += [(EXTRA, f"{path.relative_to(folder).as_posix()} (a link)") for path in links]
        for name in sorted(names):
            if name.startswith("."):
                continue
            path = Path(place, name)
            image_id = name.removesuffix(_SUFFIX)
            is_new = name.endswith(_SUFFIX) and image_id in known and image_id not in paths
            if is_new and is_in_place(path, image_id):
                paths[image_id] = path
            else:
                findings.append((EXTRA, path.relative_to(folder).as_posix()))
    return paths, findings


def _read_all(present: Sequence[tuple[Mapping[str, Any], Path]], folder: Path, depth: Depth) -> Iterator[Finding]:
    reader = _Reader()

    def findings_of(part: Sequence[tuple[Mapping[str, Any], Path]]) -> list[Finding]:
        return [
            (kind, f"{path.relative_to(folder).as_posix()}: {why}")
            for record, path in part
            for kind, why in _picture_findings(record, path, reader, depth)
        ]

    parts = [present[begin : begin + _FILES_AT_A_TIME] for begin in range(0, len(present), _FILES_AT_A_TIME)]
    # hashlib lets other threads run while it works, so each core hashes.
    for found in done_in_threads(findings_of, parts, n_threads=os.cpu_count() or 1):
        yield from found


def _picture_findings(
    record: Mapping[str, Any], path: Path, reader: _Reader, depth: Depth
) -> Iterator[tuple[str, str]]:
    stated = record["sha256"]
    try:
        found, head = reader.digest_and_head(path)
        if stated == found and not depth.decodes_all:
            size_px = _declared_size(head) or _declared_size(path.read_bytes())
            # Turned by EXIF, a picture declares its sides the other way round.
            expected = {record["width_px"], record["height_px"]}
            if None not in expected and set(size_px or ()) != expected:
                yield SIZE, _size_text(size_px, record)
            return
        if stated not in (None, found):
            yield CHANGED, f"its sha256 is {found[:12]}, not {stated[:12]}"
        yield from _decoding_findings(record, path)
    except OSError as error:
        yield MISSING, f"cannot be read ({error.strerror})"


def _decoding_findings(record: Mapping[str, Any], path: Path) -> Iterator[tuple[str, str]]:
    n_bytes = path.stat().st_size
    if n_bytes > _LARGEST_BYTES:
        yield UNDECODABLE, f"{n_bytes:,} bytes are more than any picture may have ({_LARGEST_BYTES:,})"
        return
    try:
        size_px = inspect_image(path.read_bytes())
    except UnreadableImageError as error:
        yield UNDECODABLE, str(error)
        return
    if record["width_px"] is not None and size_px != (record["width_px"], record["height_px"]):
        yield SIZE, _size_text(size_px, record)


def _declared_size(content: bytes) -> tuple[int, int] | None:
    structure = image_structure(content)
    if structure is None or not structure.width_px:
        return None
    return structure.width_px, structure.height_px


def _size_text(size_px: tuple[int, int] | None, record: Mapping[str, Any]) -> str:
    found = "no size" if size_px is None else f"{size_px[0]} x {size_px[1]} px"
    return f"{found}, not {record['width_px']} x {record['height_px']}"
