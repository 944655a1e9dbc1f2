"""The pictures of a workspace on disk: checked before they are stored, moved aside where they are not as recorded.

A picture is written beside its place and renamed, without fsync: a killed process leaves it whole or not at all.
After a power cut a file may be short or empty; its size in the log shows that on the next run, and ``--verify``
anything else.
"""

import contextlib
import errno
import hashlib
import os
import shutil
import threading
from pathlib import Path
from typing import Any

from curation.placeholders import KNOWN_DIGESTS
from manifests.durable import replacing, sha256_of_file
from manifests.errors import UnreadableImageError
from manifests.images import inspect_image
from manifests.workspace import Workspace

QUARANTINE = "quarantine"


class PictureStore:
    """Where the pictures lie; may be used by several threads for different images.

    Parameters
    ----------
    workspace : Workspace
        Whose pictures.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        # More at a time are not faster, and each may need 4 bytes for each of 50 million pixels.
        self._decoders = threading.BoundedSemaphore(os.cpu_count() or 1)

    def take(self, image_id: str, content: bytes) -> dict[str, Any]:
        """Check a picture, store it if it is one, and return status, reason and its columns of the table.

        Raises
        ------
        OSError
            It cannot be written; nothing of it is left.
        """
        digest = hashlib.sha256(content).hexdigest()
        if digest in KNOWN_DIGESTS:
            return {"status": "placeholder", "reason": f"the picture is known: {KNOWN_DIGESTS[digest]}"}
        try:
            with self._decoders:
                width_px, height_px = inspect_image(content)
        except UnreadableImageError as error:
            return {"status": error.status, "reason": error.reason}
        path = self._workspace.relative_image_path(image_id)
        _place(self._workspace.root / path, content)
        return {
            "status": "ok",
            "reason": None,
            "sha256": digest,
            "size_bytes": len(content),
            "width_px": width_px,
            "height_px": height_px,
            "path": path,
        }

    def path_of(self, image_id: str) -> Path:
        """Return where the picture of an image lies or would lie."""
        return self._workspace.root / self._workspace.relative_image_path(image_id)

    def size_of(self, image_id: str) -> int | None:
        """Return the bytes of the stored picture, or None where there is none."""
        try:
            return self.path_of(image_id).stat().st_size
        except FileNotFoundError:
            return None

    def digest_of(self, image_id: str) -> str:
        """Return the SHA-256 of the stored picture."""
        return sha256_of_file(self.path_of(image_id))

    def move_aside(self, image_id: str) -> Path:
        """Move the stored picture to ``quarantine/<image_id>.<16 digits of its SHA-256>.jpg``; return that."""
        path = self.path_of(image_id)
        aside = self._workspace.root / QUARANTINE / f"{image_id}.{self.digest_of(image_id)[:16]}.jpg"
        aside.parent.mkdir(exist_ok=True)
        try:
            path.replace(aside)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            # The folder of pictures may be a link to another disk.
            with replacing(aside) as temporary:
                shutil.copyfile(path, temporary)
            path.unlink()
        return aside


def _place(path: Path, content: bytes) -> None:
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
