"""The pictures of a workspace on disk: checked before they are stored, moved aside where they are not as recorded.

A picture is written beside its place and renamed, without fsync: a killed process leaves it whole or not at all.
After a power cut a file may be short or empty; its size in the log shows that on the next run, and ``--verify``
anything else.
"""

import errno
import os
import shutil
import threading
from pathlib import Path

from curation.picture_check import Found, check_picture, place_picture
from curation.placeholders import KNOWN_DIGESTS
from manifests.durable import replacing, sha256_of_file
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

    def take(self, image_id: str, content: bytes) -> Found:
        """Check a picture, store it if it is one, and return status, reason and its columns of the table.

        Raises
        ------
        OSError
            It cannot be written; nothing of it is left.
        """
        with self._decoders:
            found = check_picture(content, KNOWN_DIGESTS)
        if found["status"] == "ok":
            path = self._workspace.relative_image_path(image_id)
            place_picture(self._workspace.root / path, content)
            found["path"] = path
        return found

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
