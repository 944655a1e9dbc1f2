"""Exact search among unit vectors: all pairs whose cosine is at least a bound."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch

from manifests.devices import device_name
from manifests.errors import InputError

_BLOCK_ROWS = 2048
"""A block of products takes 16 MiB; larger ones are no faster on a processor."""

_LENGTH_TOLERANCE = 2e-3
"""float16 keeps 11 bits of each number, which moves the length of a unit vector by at most 5e-4."""

Pairs = npt.NDArray[np.int64]


def close_pairs(embeddings: npt.NDArray[np.float32], least_similarity: float, *, device: str = "auto") -> Pairs:
    """Return all pairs (n_pairs, 2) of rows i < j whose cosine is at least `least_similarity`, sorted; exact.

    Parameters
    ----------
    embeddings : (n, n_dimensions) float32
        Unit vectors.
    least_similarity : float
        Inclusive bound on the product in float32.
    device : str
        Where the products are computed.

    Raises
    ------
    InputError
        A row is not of unit length, or the bound is not in -1 to 1.
    """
    pairs = np.concatenate(
        [np.empty((0, 2), np.int64), *close_blocks(embeddings, None, least_similarity, device=device)]
    )
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def close_blocks(
    rows: npt.NDArray[np.float32],
    columns: npt.NDArray[np.float32] | None,
    least_similarity: float,
    *,
    device: str = "auto",
) -> Iterator[Pairs]:
    """Yield the close pairs (row, column) block by block, so that memory stays bounded however many there are.

    Parameters
    ----------
    rows : (n, n_dimensions) float32
        Unit vectors.
    columns : (m, n_dimensions) float32, or None
        Unit vectors to compare with; None for `rows` themselves, each pair then once, with row < column.
    least_similarity, device
        As `close_pairs`.
    """
    if not -1 <= least_similarity <= 1:
        raise InputError(f"least similarity: expected -1 to 1, found {least_similarity}")
    is_self = columns is None
    place = device_of(device)
    left = _unit(rows).to(place)
    right = left if columns is None else _unit(columns).to(place)
    for start in range(0, len(left), _BLOCK_ROWS):
        block = left[start : start + _BLOCK_ROWS]
        for other in range(start if is_self else 0, len(right), _BLOCK_ROWS):
            close = block @ right[other : other + _BLOCK_ROWS].T >= least_similarity  # (n_rows, n_columns)
            if is_self and other == start:
                close = close.triu(1)
            # To ask first is cheap, and most blocks hold none.
            if bool(close.any()):
                yield close.nonzero().cpu().numpy() + np.array([start, other])


def device_of(wanted: str) -> torch.device:
    """Return where products are computed; raises as `manifests.devices.device_name`."""
    return torch.device(device_name(wanted, has_cuda=torch.cuda.is_available()))


def _unit(vectors: npt.NDArray[np.float32]) -> torch.Tensor:
    """Return vectors as a tensor, after checking that each has unit length: NaN and zero vectors have not."""
    tensor = torch.from_numpy(np.ascontiguousarray(vectors, np.float32))
    if tensor.ndim != 2:
        raise InputError(f"embeddings: expected two dimensions, found the shape {tuple(tensor.shape)}")
    # The opposite of "is near 1", as a NaN is on neither side of a bound.
    is_odd = ~((tensor.norm(dim=1) - 1).abs() <= _LENGTH_TOLERANCE)
    if bool(is_odd.any()):
        place = int(is_odd.nonzero()[0])
        raise InputError(f"embeddings: row {place} has the length {float(tensor[place].norm()):.6g}, not 1")
    return tensor
