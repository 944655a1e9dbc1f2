"""Pictures of SVHN: the one array of pixels in its MATLAB files, read without SciPy."""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from manifests.errors import InputError

FILE_NAMES = ("selected_test_32x32.mat", "test_32x32.mat")
"""What test files are called; the first, of 1,000 pictures a digit, is made by code for CIFAR's benchmarks."""

SIDE_PX = 32
_HEADER_BYTES = 128
_VERSION_AND_ORDER = b"\x00\x01IM"
"""Level 5, little-endian: how the header ends in all files of SVHN."""

_MATRIX, _COMPRESSED, _UINT8 = 14, 15, 2
_UINT8_CLASS = 9
_MOST_BYTES = 1 << 30
"""The test file has 64 MB, and 80 MB of pixels."""


def svhn_file(folder: Path) -> Path | None:
    """Return the test file of SVHN in `folder`; None where there is none."""
    return next((folder / name for name in FILE_NAMES if (folder / name).is_file()), None)


def read_svhn(path: Path) -> NDArray[np.uint8]:
    """Return the pictures of a file of SVHN's cropped digits, uint8 (n, 3, 32, 32), RGB.

    Parameters
    ----------
    path : Path
        MATLAB's level 5 format, whose variable ``X`` is uint8 of shape (32, 32, 3, n).

    Raises
    ------
    InputError
        The file is no such file, is torn or damaged, or holds another ``X``.
    """
    if path.stat().st_size > _MOST_BYTES:
        raise InputError(f"{path}: expected a file of SVHN, below {_MOST_BYTES >> 20} MiB, found a larger one")
    content = path.read_bytes()
    if content[_HEADER_BYTES - 4 : _HEADER_BYTES] != _VERSION_AND_ORDER:
        raise InputError(f"{path}: expected a MATLAB file of level 5 (little-endian), as SVHN's are")
    try:
        for kind, body in _elements(memoryview(content)[_HEADER_BYTES:]):
            if kind == _COMPRESSED:
                kind, body = next(_elements(_inflated(body)))
            if kind == _MATRIX and (pixels := _pixels_named_x(body)) is not None:
                return pixels
    except (struct.error, zlib.error, ValueError, StopIteration) as error:
        raise InputError(f"{path}: damaged or torn ({error or 'an element is empty'})") from error
    raise InputError(f"{path}: expected a variable X of pixels, as in SVHN's cropped digits")


def _elements(content: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Return kind and bytes of each element; each begins on a multiple of 8 bytes, but for compressed ones."""
    place = 0
    while place < len(content):
        kind, n_bytes = struct.unpack_from("<II", content, place)
        begin = place + 8
        if kind >> 16:  # up to four bytes stand in the second half of the tag
            kind, n_bytes, begin = kind & 0xFFFF, kind >> 16, place + 4
        end = begin + n_bytes
        if end > len(content):
            raise ValueError(f"an element of {n_bytes} bytes where {len(content) - begin} are left")
        yield kind, content[begin:end]
        place = end if kind == _COMPRESSED else end + -end % 8


def _inflated(body: memoryview) -> memoryview:
    machine = zlib.decompressobj()
    content = machine.decompress(body, _MOST_BYTES)
    if not machine.eof:
        raise ValueError(f"a compressed element is torn, or holds more than {_MOST_BYTES >> 20} MiB")
    return memoryview(content)


def _pixels_named_x(body: memoryview) -> NDArray[np.uint8] | None:
    """Return the pictures of a matrix element; None where the variable has another name."""
    flags, shape, name, *values = _elements(body)
    if bytes(name[1]) != b"X":
        return None
    if not values or not flags[1]:
        raise ValueError("X: its kind or its values are missing")
    sides = np.frombuffer(shape[1], "<i4")
    is_right = flags[1][0] == _UINT8_CLASS and len(sides) == 4 and tuple(sides[:3]) == (SIDE_PX, SIDE_PX, 3)
    kind, pixels = values[0]
    if not is_right or kind != _UINT8 or sides[3] < 1 or len(pixels) != np.prod(sides, dtype=np.int64):
        raise ValueError(f"X: expected uint8 of shape (32, 32, 3, n), found shape {tuple(sides.tolist())}")
    # MATLAB counts the first axis fastest: here as (n, channel, column, row).
    by_column = np.frombuffer(pixels, np.uint8).reshape(-1, 3, SIDE_PX, SIDE_PX)
    return np.ascontiguousarray(by_column.transpose(0, 1, 3, 2))
