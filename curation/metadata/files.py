"""The streams of a published table: a CSV file, or the members of that name in the archive that holds them."""

import io
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, cast

from curation.tar_stream import DamagedTarError, TarReader, uncompressed
from manifests.errors import InputError

ARCHIVE_ENDINGS = (".tar.gz", ".tgz", ".tar")

_BUFFER_BYTES = 1 << 20


def is_archive(path: Path) -> bool:
    """Return whether the name of `path` is that of a tar archive."""
    return path.name.endswith(ARCHIVE_ENDINGS)


def open_streams(path: Path, member_name: str) -> Iterator[tuple[str, IO[bytes]]]:
    """Yield (name for messages, stream) of a CSV, or of each file called `member_name` in an archive.

    Nothing is unpacked: a stream is read before the next is asked for, and the archive is passed once, to its end,
    where the sum of a compressed one is checked.

    Raises
    ------
    InputError
        The file cannot be read, is not a whole archive, or holds no such member; the streams raise it too.
    """
    try:
        with ExitStack() as stack:
            raw = stack.enter_context(path.open("rb"))
            if is_archive(path):
                yield from _streams_in_archive(_Archive(uncompressed(raw, stack), path), member_name)
            else:
                yield str(path), raw
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error})") from error


def _streams_in_archive(archive: "_Archive", member_name: str) -> Iterator[tuple[str, IO[bytes]]]:
    found = False
    try:
        for member in archive.members():
            # A link would be followed to another member: none is needed, so none is.
            if member.is_regular and Path(member.name).name == member_name:
                found = True
                stream = io.BufferedReader(_MemberStream(archive), _BUFFER_BYTES)
                yield f"{archive.path}:{member.name}", cast(IO[bytes], stream)
    except DamagedTarError as error:
        raise archive.damage(error) from error
    if not found:
        raise InputError(f"{archive.path}: the archive holds no {member_name}")


class _Archive(TarReader):
    """An archive that knows its path, for messages."""

    def __init__(self, stream: IO[bytes], path: Path) -> None:
        super().__init__(stream)
        self.path = path

    def damage(self, error: DamagedTarError) -> InputError:
        """Return the error for the user."""
        return InputError(f"{self.path}: cannot be read as a whole tar archive ({error}): fetch or copy it again")


class _MemberStream(io.RawIOBase):
    """The data of the member that an archive is at."""

    def __init__(self, archive: _Archive) -> None:
        self._archive = archive

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            content = self._archive.next_bytes(len(buffer))
        except DamagedTarError as error:
            raise self._archive.damage(error) from error
        buffer[: len(content)] = content
        return len(content)
