"""Sorted rows, for methods that look at the largest features or probabilities of each image."""

import numpy as np
import torch

from manifests.ahead import done_in_threads


def sorted_rows(values: torch.Tensor) -> torch.Tensor:
    """Return each row of `values` (n, k) sorted, smallest first, as (n, k) of the same type on the same device.

    On a CPU NumPy sorts them, with the vector instructions of the processor and as many threads as PyTorch has.
    For 4,096 rows of 2,048 that takes less time than PyTorch's ``topk`` of one in ten, and serves every share.
    """
    if values.device.type != "cpu":
        return values.sort(dim=1).values
    rows = values.numpy().copy()
    parts = np.array_split(rows, torch.get_num_threads())
    list(done_in_threads(_sort, parts, n_threads=len(parts)))
    return torch.from_numpy(rows)


def _sort(rows: np.ndarray) -> None:
    rows.sort(axis=1)
