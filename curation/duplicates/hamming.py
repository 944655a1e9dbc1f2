"""Exact searches among 64-bit hashes: all pairs that differ in at most so many bits."""

import functools
import os
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from curation.duplicates.hashing import MIRROR_BITS
from manifests.ahead import prepared_ahead
from manifests.errors import InputError

_TILE_ROWS, _TILE_COLUMNS = 32, 4096
"""A tile of differences takes 1 MiB, which stays in a core's cache through the steps on it."""

_ROWS_A_PART = 2048

Pairs = npt.NDArray[np.int64]


def hamming_pairs(hashes: npt.NDArray[np.uint64], most_bits: int) -> Pairs:
    """Return all pairs (n_pairs, 2) of places i < j whose hashes differ in at most `most_bits` bits, sorted.

    Raises
    ------
    InputError
        `most_bits` is not in 0 to 64, or the hashes are not (n,) of uint64.
    """
    if hashes.ndim != 1:
        raise InputError(f"hashes: expected one dimension, found the shape {hashes.shape}")
    parts = [
        pairs[pairs[:, 0] < pairs[:, 1]] for pairs in near_pairs(hashes[:, None], hashes, most_bits, is_self=True)
    ]
    pairs = np.concatenate([np.empty((0, 2), np.int64), *parts])
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def near_pairs(
    windows: npt.NDArray[np.uint64],
    hashes: npt.NDArray[np.uint64],
    most_bits: int,
    *,
    is_mirrored: bool = False,
    is_self: bool = False,
) -> Iterator[Pairs]:
    """Yield the pairs (row of `windows`, place in `hashes`) where any window differs in at most `most_bits` bits.

    The search is exact and its memory bounded: pairs come in parts of so many rows, each pair once, in an order
    that depends on the hashes alone.

    Parameters
    ----------
    windows : (n, n_windows) uint64
        Hashes of the parts of each picture.
    hashes : (m,) uint64
        Hashes of whole pictures.
    most_bits : int
        Inclusive bound.
    is_mirrored : bool
        Compare with the mirror image of each whole picture too.
    is_self : bool
        Both are the same pictures in the same order: with one window each, only i <= j is looked at.
    """
    for name, values in (("windows", windows), ("hashes", hashes)):
        if values.dtype != np.uint64:
            raise InputError(f"{name}: expected uint64, found {values.dtype}")
    if not 0 <= most_bits <= 64:
        raise InputError(f"most differing bits: expected 0 to 64, found {most_bits}")
    is_triangle = is_self and windows.shape[1] == 1
    search = functools.partial(
        _near_of_part, windows, hashes, most_bits, is_mirrored=is_mirrored, is_triangle=is_triangle
    )
    n_threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    starts = range(0, len(windows), _ROWS_A_PART)
    # numpy lets go of the interpreter in each step, so that threads do for all cores.
    for _, pairs in prepared_ahead(search, starts, n_workers=n_threads, n_ahead=n_threads):
        yield pairs


def _near_of_part(
    windows: npt.NDArray[np.uint64],
    hashes: npt.NDArray[np.uint64],
    most_bits: int,
    start: int,
    *,
    is_mirrored: bool,
    is_triangle: bool,
) -> Pairs:
    found = [np.empty((0, 2), np.int64)]
    for first_row in range(start, min(start + _ROWS_A_PART, len(windows)), _TILE_ROWS):
        rows = windows[first_row : min(first_row + _TILE_ROWS, start + _ROWS_A_PART)]
        for first_column in range(first_row if is_triangle else 0, len(hashes), _TILE_COLUMNS):
            near = _near(rows, hashes[first_column : first_column + _TILE_COLUMNS], most_bits, is_mirrored)
            if near.any():
                found.append(np.argwhere(near) + np.array([first_row, first_column]))
    return np.concatenate(found)


def _near(
    windows: npt.NDArray[np.uint64], hashes: npt.NDArray[np.uint64], most_bits: int, is_mirrored: bool
) -> npt.NDArray[np.bool_]:
    """Return (n_rows, n_columns): is any window of the row near to the column's hash or, if asked, its mirror."""
    near = np.zeros((len(windows), len(hashes)), bool)
    for column in windows.T:
        differing = column[:, None] ^ hashes[None]  # (n_rows, n_columns)
        near |= np.bitwise_count(differing) <= most_bits
        if is_mirrored:
            differing ^= np.uint64(MIRROR_BITS)
            near |= np.bitwise_count(differing) <= most_bits
    return near
