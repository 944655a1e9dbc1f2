"""Millions of image ids in eight bytes each."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

_NO_DIGIT = 255
_DIGIT_VALUES = np.full(256, _NO_DIGIT, np.uint8)
_DIGIT_VALUES[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16)

Keys = npt.NDArray[np.uint64]


def _hex_values(ids: pa.StringArray) -> tuple[Keys, npt.NDArray[np.bool_]]:
    """Return the number that each id of 16 lower-case hex digits writes, and which ids are such."""
    is_hex = np.asarray(pc.equal(pc.binary_length(ids), 16))
    long_enough = ids if is_hex.all() else ids.filter(pa.array(is_hex))
    offsets = np.frombuffer(long_enough.buffers()[1], np.int32)[long_enough.offset :]
    text = np.frombuffer(long_enough.buffers()[2] or b"", np.uint8)
    digits = _DIGIT_VALUES[text[offsets[0] : offsets[len(long_enough)]].reshape(-1, 16)]
    numbers = np.ascontiguousarray(digits[:, 0::2] << 4 | digits[:, 1::2] & 15).view(">u8")[:, 0]
    values = np.zeros(len(ids), np.uint64)
    values[is_hex] = numbers
    is_hex[is_hex] = (digits != _NO_DIGIT).all(axis=1)
    return values, is_hex


def id_keys(ids: pa.ChunkedArray | pa.StringArray) -> Keys:
    """Return a number for each id: equal for equal ids, and nearly never for others.

    Open Images' ids are 64-bit numbers in hex, whose keys are exact; any other text is hashed.
    """
    whole = ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids
    keys, is_hex = _hex_values(whole)
    if not is_hex.all():
        keys[~is_hex] = pd.util.hash_array(whole.filter(pa.array(~is_hex)).to_numpy(zero_copy_only=False))
    return keys


class KeyLedger:
    """Keys seen so far, eight bytes each, to find those seen more than once."""

    def __init__(self) -> None:
        self._parts: list[Keys] = []

    def add(self, keys: Keys) -> None:
        """Enter keys."""
        self._parts.append(keys)

    def repeated(self) -> Keys:
        """Return the keys that were entered more than once, sorted; the ledger is empty after it."""
        if not self._parts:
            return np.zeros(0, np.uint64)
        keys = np.concatenate(self._parts)
        self._parts.clear()
        keys.sort()
        return np.unique(keys[1:][keys[1:] == keys[:-1]])


class IdSet:
    """A set of image ids, exact and compact, that answers for whole columns at once."""

    def __init__(self, parts: Iterable[pa.ChunkedArray | pa.StringArray]) -> None:
        numbers, self._others = [np.zeros(0, np.uint64)], set[str]()
        for part in parts:
            whole = part.combine_chunks() if isinstance(part, pa.ChunkedArray) else part
            values, is_hex = _hex_values(whole)
            numbers.append(values[is_hex])
            self._others.update(whole.filter(pa.array(~is_hex)).to_pylist())
        self._numbers = np.unique(np.concatenate(numbers))

    def __len__(self) -> int:
        return len(self._numbers) + len(self._others)

    def contains(self, ids: pa.ChunkedArray | pa.StringArray) -> npt.NDArray[np.bool_]:
        """Return for each id whether it is in the set."""
        whole = ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids
        values, is_hex = _hex_values(whole)
        is_in = np.zeros(len(whole), bool)
        if len(self._numbers):
            at = np.minimum(np.searchsorted(self._numbers, values), len(self._numbers) - 1)
            is_in = is_hex & (self._numbers[at] == values)
        if self._others and not is_hex.all():
            others = whole.filter(pa.array(~is_hex)).to_pylist()
            is_in[~is_hex] = [text in self._others for text in others]
        return is_in
