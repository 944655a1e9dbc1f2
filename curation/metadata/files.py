"""The streams of a published table: a CSV file, or the members of that name in the archive that holds them."""

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from manifests.errors import InputError

ARCHIVE_ENDINGS = (".tar.gz", ".tgz", ".tar")


def is_archive(path: Path) -> bool:
    """Return whether the name of `path` is that of a tar archive."""
    return path.name.endswith(ARCHIVE_ENDINGS)


def open_streams(path: Path, member_name: str) -> Iterator[tuple[str, IO[bytes]]]:
    """Yield (name for messages, stream) of a CSV, or of each file called `member_name` in an archive.

    Nothing is unpacked: a stream is read before the next is asked for, and the archive is passed once.

    Raises
    ------
    InputError
        The file cannot be read, or the archive holds no such member.
    """
    try:
        if not is_archive(path):
            with path.open("rb") as stream:
                yield str(path), stream
            return
        found = False
        with tarfile.open(path) as archive:
            for member in archive:
                # A link would be followed to another member: none is needed, so none is.
                unpacked = archive.extractfile(member) if member.isfile() else None
                if unpacked is not None and Path(member.name).name == member_name:
                    found = True
                    yield f"{path}:{member.name}", unpacked
        if not found:
            raise InputError(f"{path}: the archive holds no {member_name}")
    except (OSError, tarfile.TarError, EOFError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
