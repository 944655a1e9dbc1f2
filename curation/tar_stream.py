"""The headers of a tar archive, read as a stream in bounded memory (POSIX ustar and pax, GNU long names).

Not `tarfile`: it keeps every header that it has read, reads extension headers and sparse maps of any length into
memory, follows chains of them by recursion, and takes an archive that is cut off between two members for a whole
one.
"""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO, cast

from manifests.errors import InputError

_BLOCK_BYTES = 512
_SKIP_BYTES = 1 << 20
_GZIP_MAGIC = b"\x1f\x8b"

MAX_EXTENSION_BYTES = 64 << 10
"""Longest extension header (long names, pax records); the names of Open Images' archives need none."""

MAX_EXTENSIONS_IN_A_ROW = 8

MAX_BYTES_AFTER_END = 1 << 20
"""Zeros after the end mark, with which an archive fills its last record; GNU tar's have 10 KiB unless told."""

_REGULAR_TYPES = (b"0", b"\0", b"7")
# Links, devices, folders and pipes: whatever size they claim, no data follows.
_TYPES_WITHOUT_DATA = (b"1", b"2", b"3", b"4", b"5", b"6")
_PAX, _PAX_GLOBAL, _GNU_LONG_NAME, _GNU_LONG_LINK = b"x", b"g", b"L", b"K"


class DamagedTarError(InputError):
    """The stream is not a whole tar archive; the message says what is wrong, the caller where."""


@dataclass(frozen=True)
class TarMember:
    """One member; `n_bytes` of data follow its header."""

    name: str
    is_regular: bool
    n_bytes: int


def uncompressed(raw: IO[bytes], stack: ExitStack) -> IO[bytes]:
    """Return what a file holds, from its start, through gzip where it begins so; `stack` closes that."""
    is_gzip = raw.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
    raw.seek(0)
    # It checks the stream's own sum, and inflates no more than it is asked for.
    return cast(IO[bytes], stack.enter_context(gzip.GzipFile(fileobj=raw))) if is_gzip else raw


class TarReader:
    """Reads members one after another.

    Parameters
    ----------
    stream : binary file
        The archive, uncompressed; only read forward.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._position = 0
        self._n_left = 0
        self._n_padding = 0

    def members(self) -> Iterator[TarMember]:
        """Yield each member, up to the end mark; `content` may be asked for before the next is.

        Raises
        ------
        DamagedTarError
            A header is damaged or beyond the bounds of this file, the archive ends without its mark, or something
            stands after that which is no padding.
        """
        pax: dict[str, str] = {}
        n_extensions = 0
        while any(block := self._next_header()):
            kind, n_bytes = block[156:157], _checked_size(block)
            if kind in (_PAX, _PAX_GLOBAL, _GNU_LONG_NAME, _GNU_LONG_LINK):
                n_extensions += 1
                if n_bytes > MAX_EXTENSION_BYTES or n_extensions > MAX_EXTENSIONS_IN_A_ROW:
                    raise DamagedTarError("an extension header is too long")
                self._expect(n_bytes)
                pax |= _extension(kind, self.content())
                continue
            member = _member(block, kind, n_bytes, pax)
            self._expect(member.n_bytes)
            yield member
            pax, n_extensions = {}, 0
        self._read_to_the_end()

    def content(self) -> bytes:
        """Return the data of the member that was yielded last."""
        n_bytes, self._n_left = self._n_left, 0
        return self._exactly(n_bytes)

    def next_bytes(self, n_bytes: int) -> bytes:
        """Return up to so many of the next bytes of the member that was yielded last, none at its end."""
        content = self._exactly(min(n_bytes, self._n_left))
        self._n_left -= len(content)
        return content

    def _read_to_the_end(self) -> None:
        """Read what fills the last record, to the end of the stream, where a compressed one checks its sum."""
        end = self._position
        while block := self._read(_BLOCK_BYTES):
            start = self._position - len(block)
            if any(block):
                raise DamagedTarError(f"something stands after its end mark, at byte {start}")
            if start - end >= MAX_BYTES_AFTER_END:
                raise DamagedTarError(f"over {MAX_BYTES_AFTER_END} zeros stand after its end mark at byte {end}")

    def _expect(self, n_bytes: int) -> None:
        self._n_left, self._n_padding = n_bytes, -n_bytes % _BLOCK_BYTES

    def _next_header(self) -> bytes:
        n_to_skip = self._n_left + self._n_padding
        self._expect(0)
        while n_to_skip:
            n_to_skip -= len(self._exactly(min(n_to_skip, _SKIP_BYTES)))
        return self._exactly(_BLOCK_BYTES)

    def _exactly(self, n_bytes: int) -> bytes:
        content = self._read(n_bytes)
        if len(content) < n_bytes:
            raise DamagedTarError("it is cut off")
        return content

    def _read(self, n_bytes: int) -> bytes:
        try:
            content = self._stream.read(n_bytes)
            self._position += len(content)
            return content
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DamagedTarError("the compressed data are damaged or cut off") from error


def _checked_size(block: bytes) -> int:
    """Return the size in a header, whose sum must be right."""
    found = sum(block) - sum(block[148:156]) + 8 * ord(" ")
    if found != _number(block[148:156]):
        raise DamagedTarError("a header is damaged")
    return _number(block[124:136])


def _number(field: bytes) -> int:
    if field[0] == 0x80:
        return int.from_bytes(field[1:])  # GNU, for 8 GiB and more
    digits = field.split(b"\0")[0].strip()
    if digits.strip(b"01234567"):
        raise DamagedTarError("a header is damaged")
    return int(digits or b"0", 8)


def _member(block: bytes, kind: bytes, n_bytes: int, pax: dict[str, str]) -> TarMember:
    if kind == b"S" or any(key.startswith("GNU.sparse.") for key in pax):
        raise DamagedTarError("it holds a sparse file")
    name = _text(block[:100])
    if block[257:263] == b"ustar\0" and (prefix := _text(block[345:500])):
        name = f"{prefix}/{name}"
    if "size" in pax:
        if not (pax["size"].isascii() and pax["size"].isdigit() and len(pax["size"]) < 20):
            raise DamagedTarError("a header is damaged")
        n_bytes = int(pax["size"])
    if kind in _TYPES_WITHOUT_DATA:
        n_bytes = 0
    return TarMember(pax.get("path", name), kind in _REGULAR_TYPES, n_bytes)


def _extension(kind: bytes, content: bytes) -> dict[str, str]:
    """Return what an extension header says of the next member, as pax records."""
    if kind == _GNU_LONG_NAME:
        return {"path": _text(content)}
    records = {}
    while kind == _PAX and content.rstrip(b"\0"):
        digits, _, rest = content.partition(b" ")
        n_bytes = int(digits) if digits.isdigit() and len(digits) < 8 else 0
        key, equals, value = content[len(digits) + 1 : n_bytes - 1].partition(b"=")
        if not rest or not equals or n_bytes > len(content):
            raise DamagedTarError("a header is damaged")
        records[_text(key)] = _text(value)
        content = content[n_bytes:]
    return records


def _text(field: bytes) -> str:
    return field.split(b"\0")[0].decode("utf-8", "surrogateescape")
