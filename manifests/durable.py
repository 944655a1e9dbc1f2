"""Writing files so that a kill at any moment leaves either the old content or the new, never a half."""

import contextlib
import errno
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from manifests.errors import TableError
from manifests.writes import changeable, destination_of, note_written

_BLOCK_BYTES = 1 << 20
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_IMAGE_ID_PATTERN = re.compile(rb'"image_id": ?"([A-Za-z0-9_-]+)"')
_TEMPORARY_PATTERN = re.compile(r"\..+\.\d+\.tmp|\.tmp[A-Za-z0-9]{6}")
"""Of `replacing`, and of the safetensors library, which writes in a file of its own beside the one it is given."""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; rename it to `path` on success, delete it on failure.

    The temporary file must be in the same folder, as a rename is atomic only within one file system.

    Raises
    ------
    OSError
        The disk is full, or the file larger than allowed; it names `path`.
    """
    path = destination_of(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with naming_full_disk(path):
            yield temporary
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
        temporary.replace(path)
        note_written(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def naming_full_disk(path: Path) -> Iterator[None]:
    """Give errors of a full disk, or of a file larger than allowed, the name of `path`: they come without."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error


def delete(path: Path) -> None:
    """Delete a file where it is there; in a dry run, from the shadow."""
    destination_of(path).unlink(missing_ok=True)


def remove_left_overs(folder: Path, *, recursive: bool) -> None:
    """Delete the temporary files that a killed process left in `folder`."""
    for place, _, names in os.walk(folder):
        for name in names:
            if _TEMPORARY_PATTERN.fullmatch(name):
                (Path(place) / name).unlink(missing_ok=True)
        if not recursive:
            return


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` in one step."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write `content` to `path` in one step, UTF-8, line ends as given."""
    write_bytes(path, content.encode())


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write `value` as indented JSON with sorted keys, so that equal values are equal bytes."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hex digits."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def sha256_of_json(value: Any) -> str:
    """Return the SHA-256 of JSON values as 64 hex digits, the same whatever the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def cut_torn_tail(path: Path) -> int:
    """Cut a last line without line end off a log and return how many bytes went.

    A process that was killed while appending leaves such a line; nothing that it said was acknowledged.
    """
    path = changeable(path)
    if not path.exists():
        return 0
    with path.open("r+b") as stream:
        size = end = stream.seek(0, os.SEEK_END)
        line_end = -1
        # From the end: a log may be longer than memory, a line is not.
        while end > 0 and line_end < 0:
            n_bytes = min(end, _BLOCK_BYTES)
            end -= n_bytes
            stream.seek(end)
            line_end = stream.read(n_bytes).rfind(b"\n")
        end += line_end + 1
        if end < size:
            stream.truncate(end)
            os.fsync(stream.fileno())
    return size - end


def images_in_log(path: Path, only: re.Pattern[bytes] | None = None) -> Iterator[str]:
    """Yield the image that each whole line of a JSON Lines log names, without reading the rest of the line.

    Of lines in which `only` is found, where it is given. A tenth of the time of `read_json_lines`. Inside another
    text the key's quotes would be escaped, so that it is found as a key alone.
    """
    with path.open("rb") as stream:
        lines = (line for line in stream if line.endswith(b"\n") and (only is None or only.search(line)))
        yield from (match[1].decode() for match in map(_IMAGE_ID_PATTERN.search, lines) if match)


def image_ids_in_log(path: Path, only: re.Pattern[bytes] | None = None) -> set[str]:
    """Return the images of `images_in_log`, each once."""
    return set(images_in_log(path, only))


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a JSON Lines log, without a torn last line.

    Raises
    ------
    TableError
        A whole line is not a JSON object; the message names file and line.
    """
    if not path.exists():
        return []
    rows = []
    content = path.read_bytes()
    for number, line in enumerate(content[: content.rfind(b"\n") + 1].splitlines(), start=1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise TableError(f"{path}, line {number}: not JSON ({error})") from error
        if not isinstance(row, dict):
            raise TableError(f"{path}, line {number}: expected a JSON object, found {type(row).__name__}")
        rows.append(row)
    return rows
