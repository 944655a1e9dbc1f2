"""Reading a body of bounded size, on the wire and after decoding."""

import zlib

from urllib3.response import BaseHTTPResponse

from curation.network.failures import BrokenExchangeError, TooLargeError, UnusableAnswerError

_BLOCK_BYTES = 1 << 16
# zlib's window for a gzip or a zlib header, found by itself.
_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32
_DECODED = ("gzip", "x-gzip", "deflate")


def read_body(response: BaseHTTPResponse, max_bytes: int) -> bytes:
    """Return the body as the server meant it, or raise.

    Raises
    ------
    TooLargeError
        More than `max_bytes` were announced, came, or came out of the decoding.
    BrokenExchangeError
        The connection ended before the body did.
    UnusableAnswerError
        The body is in an encoding that was not asked for and is not read.
    """
    announced = response.length_remaining
    if announced is not None and announced > max_bytes:
        raise TooLargeError(f"over {max_bytes} bytes", response.status)
    if announced is None:
        content = _read_to_the_end(response, max_bytes)
    else:
        # One read of the announced length fills one buffer of that length and copies nothing.
        content = response.read(max(announced, 1), decode_content=False)
        if len(content) != announced:
            raise BrokenExchangeError("the body did not arrive whole")
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    return content if encoding in ("", "identity") else _decoded(content, encoding, max_bytes, response.status)


def drain(response: BaseHTTPResponse) -> bool:
    """Read a short error page to its end and return whether that was it: the connection can be used again."""
    announced = response.length_remaining
    if announced is not None and announced > _BLOCK_BYTES:
        return False
    n_left = _BLOCK_BYTES
    while n_left > 0:
        block = response.read(n_left, decode_content=False)
        if not block:
            return True
        n_left -= len(block)
    return False


def _read_to_the_end(response: BaseHTTPResponse, max_bytes: int) -> bytes:
    content = bytearray()
    while block := response.read(_BLOCK_BYTES, decode_content=False):
        content += block
        if len(content) > max_bytes:
            raise TooLargeError(f"over {max_bytes} bytes", response.status)
    return bytes(content)


def _decoded(content: bytes, encoding: str, max_bytes: int, status: int) -> bytes:
    """Return what `content` unfolds to; memory stays within the cap, whatever the ratio."""
    if encoding not in _DECODED:
        raise UnusableAnswerError("the body is in an encoding that was not asked for", status)
    decoded = bytearray()
    while content:
        decoder = zlib.decompressobj(_GZIP_OR_ZLIB)
        try:
            decoded += decoder.decompress(content, max_bytes + 1 - len(decoded))
        except zlib.error as error:
            raise UnusableAnswerError(f"the body is not {encoding}, as its header says", status) from error
        if len(decoded) > max_bytes:
            raise TooLargeError(f"over {max_bytes} bytes", status)
        if not decoder.eof:
            raise BrokenExchangeError("the body did not arrive whole")
        # A gzip body may have several members, one after the other.
        content = decoder.unused_data
    return bytes(decoded)
