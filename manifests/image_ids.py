"""Image ids: what one looks like, in which part of a store it lies, and lists of them."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from manifests.errors import InputError

IMAGE_ID_PATTERN = re.compile(r"[A-Za-z0-9_-]{1,64}")

# `test/0a1b.jpg` (Open Images), `0a1b.jpg` (ViM), `openimage_o/images/0a1b.jpg -1` (OpenOOD), `0a1b`.
_LIST_LINE = re.compile(
    r"(?:(?:[A-Za-z0-9_.-]+/)*(?P<folder>[A-Za-z0-9_.-]+)/)?(?P<image_id>[A-Za-z0-9_-]{1,64})(?:\.jpe?g)?(?: -1)?"
)


def is_image_id(text: str) -> bool:
    """Return whether `text` may be an image id: 1 to 64 of ``A-Z a-z 0-9 _ -``, so no path."""
    return IMAGE_ID_PATTERN.fullmatch(text) is not None


def shard_of(name: str, n_shards: int) -> int:
    """Return in which of `n_shards` parts of a store an image lies: this depends on its id, or name, alone."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) % n_shards


@dataclass(frozen=True, slots=True)
class ListedImage:
    """One line of a list: the image, the folder right above it where the line names one, and the line's number."""

    image_id: str
    folder: str | None
    line: int


def read_image_ids(path: Path) -> list[str]:
    """Return the ids of a list file, in the file's order.

    Raises
    ------
    InputError
        As `read_image_list`.
    """
    return [image.image_id for image in read_image_list(path)]


def read_image_list(path: Path) -> list[ListedImage]:
    """Return the images of a list file, in the file's order.

    One id a line; the forms of the published lists are taken too: ``<id>.jpg`` (ViM),
    ``<folder>/<id>.jpg -1`` (OpenOOD) and ``test/<id>`` (Open Images). Empty lines are passed over.

    Raises
    ------
    InputError
        The file cannot be read, a line holds no id, an id stands twice, or the list is empty.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a list of image ids ({error})") from error
    found: dict[str, ListedImage] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        match = _LIST_LINE.fullmatch(line.strip())
        if match is None or ".." in line.split("/"):
            raise InputError(
                f"{path}, line {number}: expected an image id such as 0a1b2c3d4e5f6071, found {line[:80]!r}"
            )
        image_id = match["image_id"]
        if image_id in found:
            raise InputError(
                f"{path}, line {number}: image id {image_id} stands already in line {found[image_id].line}"
            )
        found[image_id] = ListedImage(image_id, match["folder"], number)
    if not found:
        raise InputError(f"{path}: holds no image id")
    return list(found.values())
