"""Reading official Open Images metadata files, row by row, refusing what is malformed with file and line."""

import base64
import binascii
import csv
import io
import math
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from manifests.errors import InputError
from manifests.image_ids import is_image_id, read_image_ids
from manifests.mirror import MIRROR_URL, picture_url

SUBSETS = ("train", "validation", "test")

_V3_COLUMNS = (
    "ImageID", "Subset", "OriginalURL", "OriginalLandingURL", "License", "AuthorProfileURL", "Author", "Title",
    "OriginalSize", "OriginalMD5", "Thumbnail300KURL",
)  # fmt: skip
_V4_COLUMNS = (*_V3_COLUMNS, "Rotation")


def read_metadata(path: Path, *, subset_of_list: str = "test") -> Iterator[dict[str, Any]]:
    """Yield one row of ``candidates.parquet`` for each image of a metadata file.

    Parameters
    ----------
    path : Path
        V3 ``images.csv``, the ``.tar.gz`` that holds it, a V4-V7 ``*-images-with-rotation.csv``, or a list of
        bare ids (``.txt``, as ViM's ``openimage_o.txt``).
    subset_of_list : str
        The subset of the images of a bare list, which names none.

    Raises
    ------
    InputError
        The file cannot be read or is of no known form, or a row is malformed; the message names file and line.
    """
    if not path.is_file():
        raise InputError(f"--metadata {path}: there is no such file")
    try:
        if path.name.endswith((".tar.gz", ".tgz", ".tar")):
            yield from _read_archive(path)
        elif path.suffix == ".csv":
            with path.open("rb") as stream:
                yield from _read_csv(stream, str(path))
        elif path.suffix == ".txt":
            yield from (_bare_row(image_id, subset_of_list) for image_id in read_image_ids(path))
        else:
            raise InputError(f"--metadata {path}: expected .csv, .tar.gz or a list .txt")
    except (OSError, tarfile.TarError, EOFError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error


def _bare_row(image_id: str, subset: str) -> dict[str, Any]:
    return {"image_id": image_id, "subset": subset, "url": picture_url(MIRROR_URL, subset, image_id)}


def _read_archive(path: Path) -> Iterator[dict[str, Any]]:
    found = False
    with tarfile.open(path) as archive:
        for member in archive:
            stream = archive.extractfile(member) if Path(member.name).name == "images.csv" else None
            if stream is not None:
                found = True
                yield from _read_csv(stream, f"{path}:{member.name}")
    if not found:
        raise InputError(f"{path}: the archive holds no images.csv")


@contextmanager
def _text(stream: IO[bytes]) -> Iterator[io.TextIOWrapper]:
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
    try:
        yield text
    finally:
        text.detach()


def _read_csv(stream: IO[bytes], where: str) -> Iterator[dict[str, Any]]:
    with _text(stream) as text:
        reader = csv.reader(text, strict=True)
        try:
            columns = tuple(next(reader, ()))
            if columns not in (_V3_COLUMNS, _V4_COLUMNS):
                raise InputError(
                    f"{where}, line 1: expected the columns {','.join(_V3_COLUMNS)}[,Rotation], "
                    f"found {','.join(columns)[:200]!r}"
                )
            for cells in reader:
                if len(cells) != len(columns):
                    raise InputError(
                        f"{where}, line {reader.line_num}: expected {len(columns)} cells, found {len(cells)}"
                    )
                try:
                    yield _row(dict(zip(columns, cells, strict=True)))
                except ValueError as error:
                    raise InputError(f"{where}, line {reader.line_num}: {error}") from error
        except (csv.Error, UnicodeDecodeError) as error:
            raise InputError(f"{where}, line {reader.line_num + 1}: not CSV in UTF-8 ({error})") from error


def _row(cells: dict[str, str]) -> dict[str, Any]:
    """Return a candidate's row; a ValueError says which cell is not what it should be."""
    image_id, subset = cells["ImageID"], cells["Subset"]
    if not is_image_id(image_id):
        raise ValueError(f"ImageID: expected 1 to 64 letters, digits, '_' or '-', found {image_id[:80]!r}")
    if subset not in SUBSETS:
        raise ValueError(f"Subset: expected one of {', '.join(SUBSETS)}, found {subset[:80]!r}")
    return {
        "image_id": image_id,
        "subset": subset,
        "url": picture_url(MIRROR_URL, subset, image_id),
        "original_url": cells["OriginalURL"] or None,
        "landing_url": cells["OriginalLandingURL"] or None,
        "license_url": cells["License"] or None,
        "author": cells["Author"] or None,
        "author_profile_url": cells["AuthorProfileURL"] or None,
        "title": cells["Title"] or None,
        "original_size_bytes": _size(cells["OriginalSize"]),
        "original_md5": _md5(cells["OriginalMD5"]),
        "rotation_deg": _rotation(cells.get("Rotation", "")),
    }


def _size(text: str) -> int | None:
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or int(text) >= 2**63:
        raise ValueError(f"OriginalSize: expected bytes as a whole number, found {text[:80]!r}")
    return int(text)


def _md5(text: str) -> str | None:
    """Return the hex form of an MD5 that Open Images gives as base64 of its 16 bytes."""
    if not text:
        return None
    try:
        digest = base64.b64decode(text, validate=True)
    except binascii.Error:
        digest = b""
    if len(digest) != 16:
        raise ValueError(f"OriginalMD5: expected base64 of 16 bytes, found {text[:80]!r}")
    return digest.hex()


def _rotation(text: str) -> int | None:
    """Return degrees counterclockwise; None where unknown (``nan``: no longer on Flickr)."""
    if not text:
        return None
    try:
        degrees = float(text)
    except ValueError:
        degrees = -1.0
    if math.isnan(degrees):
        return None
    if degrees not in (0, 90, 180, 270):
        raise ValueError(f"Rotation: expected 0, 90, 180, 270 or nan, found {text[:80]!r}")
    return int(degrees)
