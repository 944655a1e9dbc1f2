"""The bytes of a picture file, checked to be those that its row speaks of."""

import hashlib
from pathlib import Path

from manifests.errors import UnreadableImageError


def verified_bytes(path: Path, sha256: str | None) -> bytes:
    """Return the content of a file.

    Parameters
    ----------
    path : Path
        The file.
    sha256 : str or None
        What its bytes are known by; None where nothing is known of them.

    Raises
    ------
    UnreadableImageError
        The file cannot be read, or holds other bytes: what is made of them would be kept under a wrong digest.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UnreadableImageError("undecodable", f"cannot be read ({error.strerror})") from error
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise UnreadableImageError("undecodable", "the file is not the one downloaded: run 'download --verify'")
    return content
