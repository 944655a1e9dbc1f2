"""One picture as it arrived: is it one, and then into its place; imports little, as processes start with it."""

import contextlib
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from manifests.errors import UnreadableImageError
from manifests.images import inspect_image

Found = dict[str, Any]
"""Status and reason, and of a picture its columns of the table."""


def check_picture(content: bytes, known_digests: Mapping[str, str]) -> Found:
    """Return what `content` is: ``ok`` with digest and sizes, or the status and the reason why it is no picture.

    Parameters
    ----------
    content : bytes
        The file as served.
    known_digests : mapping of str to str
        SHA-256 of stand-ins for pictures, each with its source.
    """
    digest = hashlib.sha256(content).hexdigest()
    if digest in known_digests:
        return {"status": "placeholder", "reason": f"the picture is known: {known_digests[digest]}"}
    try:
        width_px, height_px = inspect_image(content)
    except UnreadableImageError as error:
        return {"status": error.status, "reason": error.reason}
    return {
        "status": "ok",
        "reason": None,
        "sha256": digest,
        "size_bytes": len(content),
        "width_px": width_px,
        "height_px": height_px,
    }


def place_picture(path: Path, content: bytes) -> None:
    """Write `content` beside `path` and rename it to that, without fsync.

    Raises
    ------
    OSError
        It cannot be written; nothing of it is left, and the error names `path`.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        try:
            descriptor = _create(temporary)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = _create(temporary)
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(descriptor, view) :]
        finally:
            os.close(descriptor)
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error


def _create(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
