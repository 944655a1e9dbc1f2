"""Pictures in the layout of CIFAR: its pickles, read without running code from them, and its binary files."""

import math
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manifests.errors import InputError, one_line
from manifests.plain_pickle import load_plain_pickle

SIDE_PX = 32
_PICTURE_BYTES = 3 * SIDE_PX * SIDE_PX
_MOST_FILE_BYTES = 1 << 30
"""CIFAR-100's training file, the largest, has 155 MB."""

_MOST_SHOWN = 40
_MOST_SIDES = 64
"""Of an array: as many as NumPy allows."""


@dataclass(frozen=True, eq=False)
class CifarPart:
    """One part of a data set.

    Attributes
    ----------
    name : str
        ``<data set>_<part>``, before the number of a picture in its image id.
    pixels : array
        uint8, (n, 3, 32, 32), RGB.
    targets : array
        int64, (n,), at least 0.
    """

    name: str
    pixels: NDArray[np.uint8]
    targets: NDArray[np.int64]


@dataclass(frozen=True)
class _Layout:
    """Which files a distribution of CIFAR has, and where a label stands in them."""

    data_set: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    label_key: bytes
    n_label_bytes: int

    @property
    def is_binary(self) -> bool:
        return self.test[0].endswith(".bin")


_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
_LAYOUTS = (
    _Layout("cifar10", _BATCHES, ("test_batch",), b"labels", 1),
    _Layout("cifar100", ("train",), ("test",), b"fine_labels", 2),
    _Layout("cifar10", tuple(f"{name}.bin" for name in _BATCHES), ("test_batch.bin",), b"", 1),
    _Layout("cifar100", ("train.bin",), ("test.bin",), b"", 2),
)


def is_cifar(folder: Path) -> bool:
    """Return whether files of CIFAR's names are in `folder`."""
    return any((folder / layout.test[0]).is_file() for layout in _LAYOUTS)


def read_cifar(folder: Path, part: str) -> CifarPart:
    """Return the part ``train`` or ``test`` of a folder for which `is_cifar` is true.

    Parameters
    ----------
    folder : Path
        Holds ``data_batch_1`` to ``data_batch_5`` and ``test_batch``, or ``train`` and ``test``, as pickles or
        with the suffix ``.bin``, as the site of CIFAR-10 and CIFAR-100 gives them. Of CIFAR-100 the fine labels
        are read.
    part : {"train", "test"}
        Which files.

    Raises
    ------
    InputError
        A file is missing or damaged, holds something else than arrays, numbers and words, or pixels and labels of
        another shape.
    """
    layout = next(layout for layout in _LAYOUTS if (folder / layout.test[0]).is_file())
    read: Callable[[Path, _Layout], tuple[NDArray[Any], NDArray[Any]]]
    read = _read_binary if layout.is_binary else _read_pickle
    files = [read(folder / name, layout) for name in (layout.train if part == "train" else layout.test)]
    pixels = np.concatenate([pixels for pixels, _ in files]).reshape(-1, 3, SIDE_PX, SIDE_PX)
    return CifarPart(f"{layout.data_set}_{part}", pixels, np.concatenate([targets for _, targets in files]))


def _content(path: Path) -> bytes:
    if not path.is_file():
        raise InputError(f"{path}: no such file; the other files of CIFAR beside it need it")
    if path.stat().st_size > _MOST_FILE_BYTES:
        raise InputError(
            f"{path}: expected a file of CIFAR, below {_MOST_FILE_BYTES >> 20} MiB, found a larger one"
        )
    return path.read_bytes()


def _read_binary(path: Path, layout: _Layout) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return pixels and labels of records of 1 label byte, of CIFAR-100 2, and 3,072 bytes of a picture."""
    content = np.frombuffer(_content(path), np.uint8)
    n_record = layout.n_label_bytes + _PICTURE_BYTES
    if not len(content) or len(content) % n_record:
        raise InputError(f"{path}: expected whole records of {n_record} bytes, found {len(content)} bytes")
    records = content.reshape(-1, n_record)
    return records[:, layout.n_label_bytes :], records[:, layout.n_label_bytes - 1].astype(np.int64)


def _read_pickle(path: Path, layout: _Layout) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return pixels and labels of a dict that holds them under ``data`` and ``labels`` or ``fine_labels``."""
    content = _content(path)
    try:
        found = load_plain_pickle(content, _STAND_INS, encoding="bytes")
        if isinstance(found, dict):
            found = {key: value.as_numpy() if isinstance(value, _Array) else value for key, value in found.items()}
    except (pickle.UnpicklingError, ValueError, OverflowError) as error:
        raise InputError(f"{path}: cannot be read as a pickle of CIFAR ({one_line(error)})") from error
    if not isinstance(found, dict) or b"data" not in found or layout.label_key not in found:
        raise InputError(
            f"{path}: expected a dict with data and {layout.label_key.decode()}, found {_told(found)}"
        )
    pixels, labels = found[b"data"], found[layout.label_key]
    is_right = isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8 and pixels.ndim == 2
    if not is_right or pixels.shape[1] != _PICTURE_BYTES or not len(pixels):
        raise InputError(f"{path}: data: expected uint8 of shape (n, {_PICTURE_BYTES}), found {_told(pixels)}")
    if not isinstance(labels, list) or not all(type(label) is int and label >= 0 for label in labels):
        raise InputError(f"{path}: {layout.label_key.decode()}: expected a list of class indices")
    if len(labels) != len(pixels):
        raise InputError(f"{path}: {len(pixels)} pictures and {len(labels)} labels")
    return pixels, np.array(labels, np.int64)


def _told(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of shape {value.shape}"
    if isinstance(value, dict):
        words = sorted(_shown(key) for key in value if isinstance(key, str | bytes))
        return f"the keys {', '.join(words[:5]) or 'none'}"
    return type(value).__name__


def _shown(value: Any) -> str:
    """Return a word for a message, cut; of anything else the name of its type, as it may be of any size."""
    return repr(value[:_MOST_SHOWN]) if isinstance(value, str | bytes) else type(value).__name__


class _Latin1:
    """Stands in for ``_codecs.encode``, with which Python 3 writes bytes into a pickle of Python 2's protocol."""

    __slots__ = ()

    def __call__(self, text: str, encoding: str) -> bytes:
        if encoding != "latin1":
            raise pickle.UnpicklingError(f"asks for the codec {_shown(encoding)}")
        return text.encode("latin1")


class _ByteKind:
    """Stands in for the only ``numpy.dtype`` that pixels have."""

    __slots__ = ()

    def __call__(self, code: Any, *_flags: Any) -> "_ByteKind":
        if code not in (b"u1", "u1"):
            raise pickle.UnpicklingError(f"holds an array of {_shown(code)}, expected one of u1")
        return self

    def __setstate__(self, state: Any) -> None:
        """Take the byte order and the like, which say nothing of single bytes."""


class _ArrayKind:
    """Stands in for ``numpy.ndarray``, which a pickle names and has no need to call."""

    __slots__ = ()


class _Array:
    """Stands in for an array: keeps the shape and bytes that a pickle gives it, to be judged afterwards."""

    __slots__ = ("content", "shape")

    def __init__(self) -> None:
        self.shape: Any = None
        self.content: Any = None

    def __setstate__(self, state: Any) -> None:
        _, self.shape, kind, is_fortran, self.content = state
        if not isinstance(kind, _ByteKind) or is_fortran:
            raise pickle.UnpicklingError("holds an array that is not one of u1, row by row")

    def as_numpy(self) -> NDArray[np.uint8]:
        """Return the array, once its shape is that of its bytes."""
        is_shape = isinstance(self.shape, tuple) and len(self.shape) <= _MOST_SIDES
        is_shape = is_shape and all(type(side) is int and 0 <= side <= _MOST_FILE_BYTES for side in self.shape)
        is_content = isinstance(self.content, bytes | bytearray)
        if not is_shape or not is_content or math.prod(self.shape) != len(self.content):
            raise pickle.UnpicklingError("holds an array whose bytes are not those of its shape")
        return np.frombuffer(self.content, np.uint8).reshape(self.shape)


class _Reconstruct:
    """Stands in for the function of NumPy that begins an array without elements."""

    __slots__ = ()

    def __call__(self, kind: Any, shape: Any, code: Any) -> _Array:
        if not isinstance(kind, _ArrayKind) or shape != (0,):
            raise pickle.UnpicklingError("asks for an array with elements before it gives them")
        return _Array()


class _FromBuffer:
    """Stands in for the function of NumPy that makes an array of bytes, which protocol 5 asks for."""

    __slots__ = ()

    def __call__(self, content: Any, kind: Any, shape: Any, order: Any) -> _Array:
        if not isinstance(kind, _ByteKind) or order != "C":
            raise pickle.UnpicklingError("holds an array that is not one of u1, row by row")
        array = _Array()
        array.shape, array.content = shape, content
        return array


_STAND_INS: Mapping[tuple[str, str], Any] = {
    ("_codecs", "encode"): _Latin1(),
    ("numpy", "dtype"): _ByteKind(),
    ("numpy", "ndarray"): _ArrayKind(),
    # The name of the module before and since NumPy 2.
    ("numpy.core.multiarray", "_reconstruct"): _Reconstruct(),
    ("numpy._core.multiarray", "_reconstruct"): _Reconstruct(),
    ("numpy.core.numeric", "_frombuffer"): _FromBuffer(),
    ("numpy._core.numeric", "_frombuffer"): _FromBuffer(),
}
"""Of NumPy's parts, which are no safer than functions: with them a file makes an array of objects out of bytes,
which are then taken for addresses. What stands in for them has no attribute that the file could set."""
