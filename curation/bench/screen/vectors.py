"""Made-up embeddings with planted near-duplicates, and how fast the machine multiplies."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from manifests.devices import seconds_now

N_DIMENSIONS = 512
"""Of CLIP's ViT-B models."""

_BLOCK_ROWS = 8192
_LEAST_MARGIN = 0.002
"""No planted pair is nearer to the bound: whether it passes must not hang on how sums are rounded."""

_SPREAD = 0.06
_LEAST_SECONDS = 0.5


@dataclass(frozen=True, eq=False)
class PlantedVectors:
    """Random directions, some of them made close to another.

    Attributes
    ----------
    vectors : (n, 512) float16
        Unit length but for rounding, as a store holds them.
    pairs : (n_pairs, 2) int64
        Of the planted pairs, those whose cosine is at least the bound, each ordered, sorted.
    """

    vectors: npt.NDArray[np.float16]
    pairs: npt.NDArray[np.int64]


def planted_vectors(n_rows: int, least_similarity: float, seed: int) -> PlantedVectors:
    """Return `n_rows` vectors with one planted pair in a hundred, at cosines on both sides of `least_similarity`.

    Cosines of unrelated random directions are about 0.04, and never near a bound of 0.5 or more: the pairs over
    the bound are those planted over it and no others, as told from their float16 values in float64.
    """
    random = np.random.default_rng(seed)
    vectors = np.empty((n_rows, N_DIMENSIONS), np.float16)
    for start in range(0, n_rows, _BLOCK_ROWS):
        block = random.standard_normal((min(_BLOCK_ROWS, n_rows - start), N_DIMENSIONS), np.float32)
        vectors[start : start + len(block)] = block / np.linalg.norm(block, axis=1, keepdims=True)
    n_pairs = max(1, n_rows // 100)
    firsts, seconds = random.permutation(n_rows)[: 2 * n_pairs].reshape(2, n_pairs)
    distances = _LEAST_MARGIN + random.random(n_pairs) * (_SPREAD - _LEAST_MARGIN)
    cosines = least_similarity + np.where(np.arange(n_pairs) % 2, -distances, distances)
    along = vectors[firsts].astype(np.float64)
    across = vectors[seconds].astype(np.float64)
    across -= (across * along).sum(1, keepdims=True) / (along * along).sum(1, keepdims=True) * along
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    vectors[seconds] = cosines[:, None] * along + np.sqrt(1 - cosines**2)[:, None] * across
    is_over = (along * vectors[seconds].astype(np.float64)).sum(1) >= least_similarity
    pairs = np.sort(np.stack([firsts, seconds], axis=1)[is_over], axis=1)
    return PlantedVectors(vectors, pairs[np.lexsort(pairs.T[::-1])])


def product_rate(device: torch.device, n_columns: int = _BLOCK_ROWS) -> float:
    """Return the floating-point operations a second of float32 products of 512-vectors with `n_columns` others."""
    left = torch.rand(_BLOCK_ROWS, N_DIMENSIONS, device=device)
    right = torch.rand(N_DIMENSIONS, n_columns, device=device)
    out = torch.empty(_BLOCK_ROWS, n_columns, device=device)
    a_product_s = fastest(lambda: torch.mm(left, right, out=out), device)
    return 2 * _BLOCK_ROWS * n_columns * N_DIMENSIONS / a_product_s


def fastest(work: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of the fastest of several calls, after one that sets things up."""
    work()
    taken: list[float] = []
    while sum(taken) < _LEAST_SECONDS or len(taken) < 3:
        started = seconds_now(device)
        work()
        taken.append(seconds_now(device) - started)
    return min(taken)
