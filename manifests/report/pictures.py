"""Pictures of a page: in it, or in files beside it that are made anew only where their source has changed."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

from manifests.ahead import done_in_threads
from manifests.durable import cut_torn_tail, read_json_lines, remove_left_overs, write_text
from manifests.errors import WorkspaceLockedError
from manifests.image_ids import is_image_id
from manifests.report.parts import CardPicture
from manifests.stage_progress import ProgressBar
from manifests.thumbnails import NO_PICTURE, data_address, thumbnail

_INDEX_FILE = "index.jsonl"
_LOCK_FILE = ".lock"

_N_THREADS = os.cpu_count() or 1
"""Pixels are decoded and encoded outside of Python's lock."""

Source = tuple[Path, int | None]
"""A file and how it is turned: two pictures of one source are one thumbnail."""


@dataclass(frozen=True)
class Shown:
    """What a page shows of a picture: an address (for a file, below its folder), or in words why there is none."""

    address: str = ""
    problem: str = ""


@dataclass
class PictureCounts:
    """How many pictures were made, were there already, and could not be shown."""

    made: int = 0
    reused: int = 0
    without: int = 0


def source_of(picture: CardPicture) -> Source:
    """Return what tells the thumbnail of `picture` from others."""
    return picture.path, picture.rotation_deg


def inline_pictures(pictures: Iterable[CardPicture], counts: PictureCounts) -> dict[Source, Shown]:
    """Return each picture as an address that holds it, by its source."""
    sources = list(dict.fromkeys(map(source_of, pictures)))
    found: dict[Source, Shown] = {}
    thumbnails = done_in_threads(lambda source: thumbnail(*source), sources, n_threads=_N_THREADS)
    for source, made in zip(sources, thumbnails, strict=True):
        found[source] = Shown(problem=made) if isinstance(made, str) else Shown(data_address(made))
        counts.made += not found[source].problem
        counts.without += bool(found[source].problem)
    return found


def n_inline_due(pictures: Iterable[CardPicture]) -> int:
    """Return how many thumbnails `inline_pictures` would try to make: those whose source is there."""
    return sum(path.is_file() for path, _ in set(map(source_of, pictures)))


def stored_pictures_beside(
    folder: Path, pictures: Iterable[CardPicture], counts: PictureCounts
) -> dict[Source, Shown]:
    """Return for each picture the thumbnail in `folder`, ``<first 2 of name>/<name>.jpg``, by its source.

    A thumbnail is made where there is none, or where size or time of its source, or its turn, are not those that
    the folder's index tells. Thumbnails of the index that no picture needs any more are deleted.

    Parameters
    ----------
    folder : Path
        Made where it is not there.
    pictures : iterable of CardPicture
        All pictures that the page shows from files.
    counts : PictureCounts
        Gets what was done.

    Raises
    ------
    WorkspaceLockedError
        Another process is at work on the folder.
    TableError
        The index is damaged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / _LOCK_FILE)
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        raise WorkspaceLockedError(f"{folder} is in use by another report: wait for its end") from None
    try:
        remove_left_overs(folder, recursive=True)
        return _stored(folder, _named(pictures, folder), counts)
    finally:
        lock.release()


def _stored(folder: Path, names: Mapping[Source, str], counts: PictureCounts) -> dict[Source, Shown]:
    index_path = folder / _INDEX_FILE
    cut_torn_tail(index_path)
    known = _index(folder)
    found: dict[Source, Shown] = {}
    rows: dict[str, dict[str, Any]] = {}
    results = done_in_threads(
        lambda item: _entry(folder, item[1], item[0], known.get(item[1])), names.items(), n_threads=_N_THREADS
    )
    # Appended as they are made: after a kill, what was made is not made again.
    with (
        index_path.open("a", encoding="utf-8") as index,
        ProgressBar(len(names), "thumbnails", unit="picture") as progress,
    ):
        for (source, name), row in zip(names.items(), results, strict=True):
            if row is not known.get(name):
                index.write(_line(row))
            rows[name] = row
            found[source] = Shown(problem=row["problem"]) if row["problem"] else Shown(name)
            counts.reused += row is known.get(name) and not row["problem"]
            counts.made += row is not known.get(name) and not row["problem"]
            counts.without += bool(row["problem"])
            progress.update(n_failed=int(bool(row["problem"])))
    write_text(index_path, "".join(_line(rows[name]) for name in sorted(rows)))
    for name in known.keys() - rows.keys():
        # The index may have come from elsewhere: nothing is deleted but what this file could have made.
        if _is_own_name(name):
            (folder / name).unlink(missing_ok=True)
    return found


def n_due(folder: Path, pictures: Iterable[CardPicture]) -> tuple[int, int]:
    """Return how many thumbnails `stored_pictures_beside` would make, and how many it would not."""
    known = _index(folder)
    named = _named(pictures, folder).items()
    due = [_known_row(folder, name, source, known.get(name)) is None for source, name in named]
    return sum(due), len(due) - sum(due)


def _index(folder: Path) -> dict[str, dict[str, Any]]:
    return {str(row.get("thumbnail")): row for row in read_json_lines(folder / _INDEX_FILE)}


def _known_row(folder: Path, name: str, source: Source, known: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the index's row of one thumbnail where it still holds, or that of a picture that is not there."""
    row = _fingerprint(folder, name, source)
    if row["size_bytes"] is None:
        missing = row | {"thumbnail_bytes": 0, "problem": NO_PICTURE}
        return known if known == missing else missing
    if known is not None and row.items() <= known.items() and _is_as_told(folder / name, known):
        return known
    return None


def _entry(folder: Path, name: str, source: Source, known: dict[str, Any] | None) -> dict[str, Any]:
    """Return the index's row of one thumbnail: `known` itself where it still holds, else of one made now."""
    found = _known_row(folder, name, source, known)
    if found is not None:
        return found
    row, target = _fingerprint(folder, name, source), folder / name
    made = thumbnail(*source)
    if isinstance(made, str):
        target.unlink(missing_ok=True)
        return row | {"thumbnail_bytes": 0, "problem": made}
    target.parent.mkdir(exist_ok=True)
    # Renamed but not forced to the disk, which would take longer than making it: its size is compared instead.
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    temporary.write_bytes(made)
    temporary.replace(target)
    return row | {"thumbnail_bytes": len(made), "problem": ""}


def _fingerprint(folder: Path, name: str, source: Source) -> dict[str, Any]:
    """Return what tells whether a thumbnail is that of its source as it is now; no size where there is no file."""
    path, rotation_deg = source
    row = {"thumbnail": name, "source": _relative(path, folder), "rotation_deg": rotation_deg}
    try:
        found = path.stat()
    except OSError:
        return row | {"size_bytes": None, "modified_ns": None}
    return row | {"size_bytes": found.st_size, "modified_ns": found.st_mtime_ns}


def _is_as_told(target: Path, known: Mapping[str, Any]) -> bool:
    if known.get("problem"):
        return True
    return target.is_file() and target.stat().st_size == known.get("thumbnail_bytes")


def _named(pictures: Iterable[CardPicture], folder: Path) -> dict[Source, str]:
    """Return a file name for each source: by its image id, or else, and where that is taken, by where it lies."""
    names: dict[Source, str] = {}
    taken: set[str] = set()
    for picture in pictures:
        source = source_of(picture)
        if source in names:
            continue
        stem = picture.name
        # Two names that differ in the case of a letter are one file on some systems.
        if not is_image_id(stem) or stem.lower() in taken:
            place = f"{_relative(picture.path, folder)} {picture.rotation_deg}"
            stem = hashlib.sha256(place.encode(errors="surrogateescape")).hexdigest()[:32]
        taken.add(stem.lower())
        names[source] = f"{stem[:2]}/{stem}.jpg"
    return names


def _is_own_name(name: str) -> bool:
    stem = name[3:].removesuffix(".jpg")
    return is_image_id(stem) and name == f"{stem[:2]}/{stem}.jpg"


def _relative(path: Path, folder: Path) -> str:
    # A workspace that was moved keeps its thumbnails. Links out of the page's folder are followed: where a dry run
    # looks at the workspace through links, it finds the same places.
    if not path.is_relative_to(folder.parent):
        path, folder = path.resolve(), folder.resolve()
    return Path(os.path.relpath(path, folder)).as_posix()


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, sort_keys=True) + "\n"
