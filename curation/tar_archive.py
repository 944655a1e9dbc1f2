"""Pictures out of the official archives, instead of single requests; nothing is unpacked by its own name.

Names in an archive choose nothing: a member is taken only where the last part of its name is a wanted id, and the
caller stores it by that id. Links and devices are never followed or made.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, cast

from curation.fetch import Fetched
from curation.tar_stream import DamagedTarError, TarReader, uncompressed
from manifests.errors import InputError
from manifests.image_ids import IMAGE_ID_PATTERN

# No part may be empty or `..`, so that a name that is absolute or leaves the archive is nobody's.
_MEMBER_NAME = re.compile(
    rf"(?:\./)?(?:(?!\.\.?/)[^/]+/)*(?P<image_id>{IMAGE_ID_PATTERN.pattern})\.jpe?g", re.DOTALL
)


class _StoppedError(Exception):
    """The user asks to stop; never leaves this file."""


class _Watched:
    """A stream that is read no further once the user asks to stop: nothing else ends a skip of many gigabytes."""

    def __init__(self, stream: IO[bytes], is_stopped: Callable[[], bool]) -> None:
        self._stream, self._is_stopped = stream, is_stopped

    def read(self, n_bytes: int) -> bytes:
        if self._is_stopped():
            raise _StoppedError
        return self._stream.read(n_bytes)


def pictures_in_tar(
    path: Path, is_wanted: Callable[[str], bool], max_bytes: int, is_stopped: Callable[[], bool] = lambda: False
) -> Iterator[tuple[str, Fetched]]:
    """Yield (image id, what came of it) for each wanted member, in the order of the archive.

    Parameters
    ----------
    path : Path
        A tar archive, plain or compressed with gzip.
    is_wanted : callable
        Whether an image id is wanted; asked for each member, so that a second one of the same id can be declined.
    max_bytes : int
        Longest picture.
    is_stopped : callable
        Asked before every read, of 1 MiB at most where members are skipped; once it says so, nothing more comes.

    Raises
    ------
    InputError
        The file cannot be read, is not such an archive, is damaged or cut off; what came before has been yielded.
    """
    try:
        with ExitStack() as stack:
            reader = TarReader(cast(IO[bytes], _Watched(_opened(path, stack), is_stopped)))
            for member in reader.members():
                match = _MEMBER_NAME.fullmatch(member.name)
                if match is None or not is_wanted(match["image_id"]):
                    continue
                if not member.is_regular:
                    fetched = Fetched("refused", "in the archive it is not a regular file", None, 1)
                elif member.n_bytes > max_bytes:
                    fetched = Fetched("too_large", f"over {max_bytes} bytes", None, 1)
                else:
                    fetched = Fetched("ok", None, None, 1, reader.content())
                yield match["image_id"], fetched
    except _StoppedError:
        return
    except DamagedTarError as error:
        raise InputError(
            f"--from-tar {path}: not a whole tar archive: {error}; what came before is saved"
        ) from error


def _opened(path: Path, stack: ExitStack) -> IO[bytes]:
    try:
        return uncompressed(stack.enter_context(path.open("rb")), stack)
    except OSError as error:
        raise InputError(f"--from-tar {path}: cannot be read ({error.strerror})") from error
