"""Matrix products, the part of every score that costs time: one path for CPU and GPU.

On a CPU, float32 products go through oneDNN as a 1 x 1 convolution of a channels-last picture. PyTorch's own
`mm` calls MKL there, which on processors of other makers than Intel takes the narrow instructions: twice as slow
on a recent AMD, equal elsewhere.
"""

import math

import torch

_BLOCK_COLUMNS = 512
"""Width of the blocks of a symmetric product: wide enough for a fast product, narrow enough to skip a triangle."""

_LARGEST_DOUBLE_COLUMNS = 512
"""Moments of up to so many features are multiplied in float64, which costs next to nothing there; above that, it
would take three times as long as float32."""

_LEAST_ROWS, _LEAST_COLUMNS = 128, 2
"""For fewer, oneDNN takes other kernels, which add up in another order: an image alone would score otherwise than
among others. Found to end at 10 to 40 rows, by width and threads; one column never comes out of it."""

_FLOAT32_NOISE = 1e-7

_LEAST_FLOAT32_NORM, _LARGEST_FLOAT32_NORM = 1e-15, 1e18
"""Float32 squares are infinite from 2e19 and lose digits below 1e-19: norms beyond these are taken in float64."""

_LEAST_EXPONENT, _LARGEST_EXPONENT = -30, 30
"""Between these powers of two may the largest of some values lie for float32 to hold their squares and sums of
squares, with room to spare on both sides."""


def product(rows: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return rows weight^T for rows (n, k) and weight (m, k) of one type and device, as (n, m).

    Float32 products are float32 throughout on a GPU too, never TensorFloat-32, unless the caller asked torch for
    it. On a CPU a row's product does not depend on the rows beside it, nor on how many they are; a GPU's library
    chooses its kernel by their number.
    """
    has_convolution = torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled
    if rows.device.type != "cpu" or rows.dtype != torch.float32 or not has_convolution:
        return rows @ weight.T
    n, k, m = len(rows), rows.shape[1], len(weight)
    if not n * m:
        return rows.new_zeros(n, m)
    if n < _LEAST_ROWS or m < _LEAST_COLUMNS:
        return product(_with_rows(rows, _LEAST_ROWS), _with_rows(weight, _LEAST_COLUMNS))[:n, :m]
    picture = rows.contiguous().view(1, n, 1, k).permute(0, 3, 1, 2)  # (1, k, n, 1), channels last
    multiplied = torch.nn.functional.conv2d(picture, weight.contiguous().view(m, k, 1, 1))
    return multiplied.permute(0, 2, 3, 1).reshape(n, m)


def _with_rows(matrix: torch.Tensor, least: int) -> torch.Tensor:
    """Return a matrix with rows of zeros below it, where it has fewer rows than `least`."""
    return torch.nn.functional.pad(matrix, (0, 0, 0, max(least - len(matrix), 0)))


def row_norms(rows: torch.Tensor) -> torch.Tensor:
    """Return the norm of each of the float32 rows (n, k), float64, (n,), finite for finite rows."""
    norms = torch.linalg.vector_norm(rows, dim=1).double()
    # In float64 all of them would take five times as long.
    beyond = ((norms < _LEAST_FLOAT32_NORM) | (norms > _LARGEST_FLOAT32_NORM)).nonzero().flatten()
    if len(beyond):
        norms[beyond] = torch.linalg.vector_norm(rows[beyond], dim=1, dtype=torch.float64)
    return norms


def triangular_product(rows: torch.Tensor, lower: torch.Tensor) -> torch.Tensor:
    """Return rows lower for rows (n, k) and a lower triangular matrix (k, k), skipping most of its zeros."""
    k = rows.shape[1]
    parts = []
    for start in range(0, k, _BLOCK_COLUMNS):
        stop = min(start + _BLOCK_COLUMNS, k)
        parts.append(product(rows[:, start:], lower[start:, start:stop].T))
    return torch.cat(parts, dim=1)


def moment_dtype(n_features: int) -> torch.dtype:
    """Return the type in which rows are multiplied with each other: float64 where that is cheap, else float32.

    Sums over chunks are float64 in any case.
    """
    return torch.float64 if n_features <= _LARGEST_DOUBLE_COLUMNS else torch.float32


def moment_noise(eigenvalues: torch.Tensor) -> float:
    """Return below what an eigenvalue of a moment is rounding, for all of them in ascending order, (n_features,).

    Float64 products: as SciPy's `pinvh`. Float32 products: 1e-7 of the mean; layer-normed features, which lie on a
    hyperplane, were found to give its normal 6e-9 of the mean at most.
    """
    if moment_dtype(len(eigenvalues)) == torch.float64:
        return len(eigenvalues) * torch.finfo(torch.float64).eps * float(eigenvalues[-1])
    return _FLOAT32_NOISE * float(eigenvalues.mean())


def power_of_two_above(values: torch.Tensor) -> float:
    """Return the least power of two above all absolute values, or 1 where float32 holds their squares well.

    Values divided by it keep their digits. In float32, a square is infinite from 2e19 and zero below 1e-23.
    """
    low, high = values.aminmax()
    exponent = math.frexp(max(-float(low), float(high)))[1]
    return 1.0 if _LEAST_EXPONENT <= exponent <= _LARGEST_EXPONENT else 2.0 ** min(max(exponent, -126), 126)


def add_moment(lower: torch.Tensor, rows: torch.Tensor) -> None:
    """Add rows^T rows to the lower triangle of `lower`.

    Parameters
    ----------
    lower : Tensor
        float64, (k, k), changed in place. What stands above the diagonal means nothing; see `symmetric`.
    rows : Tensor
        (n, k), n above 0.
    """
    unit = power_of_two_above(rows)
    columns = rows.T.contiguous() if unit == 1 else (rows / unit).T.contiguous()  # (k, n)
    for start in range(0, len(columns), _BLOCK_COLUMNS):
        stop = min(start + _BLOCK_COLUMNS, len(columns))
        lower[start:stop, :stop].add_(product(columns[start:stop], columns[:stop]), alpha=unit**2)


def symmetric(lower: torch.Tensor) -> torch.Tensor:
    """Return the symmetric matrix of a lower triangle."""
    return lower.tril() + lower.tril(-1).T
