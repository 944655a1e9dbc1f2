"""The secret in an annotator's link, kept from run to run, so that a page that is open goes on after a restart."""

import os
import re
import secrets
import stat
from pathlib import Path

from manifests.durable import replacing
from manifests.errors import InputError
from manifests.workspace import Workspace

_TOKEN_PATTERN = re.compile(r"[A-Za-z0-9_-]{43}")


def kept_token(workspace: Workspace, annotator_id: str) -> str:
    """Return the token of an annotator's link: that of the last run, or a new one where there is none.

    Whoever can read the file can also write the log beside it, so it gives nothing away to them. One that others
    than its owner may read is replaced, and deleting it makes the old link useless.

    Raises
    ------
    InputError
        The file cannot be written.
    """
    path = workspace.root / "fiftyone" / annotator_id / "link.secret"
    token = _read_private(path)
    if token is None:
        token = secrets.token_urlsafe(32)
        try:
            with replacing(path) as temporary:
                # From its first moment on readable by nobody else.
                temporary.touch(mode=0o600)
                temporary.write_text(token, encoding="ascii")
        except OSError as error:
            raise InputError(f"{path}: cannot be written ({error.strerror})") from error
    return token


def _read_private(path: Path) -> str | None:
    """Return the token in `path`, or None where it is missing, damaged, or readable by others."""
    try:
        with path.open(encoding="ascii") as stream:
            is_private = stat.S_IMODE(os.fstat(stream.fileno()).st_mode) & 0o077 == 0
            token = stream.read()
    except (OSError, UnicodeDecodeError):
        return None
    return token if is_private and _TOKEN_PATTERN.fullmatch(token) else None
