"""Float64 sums and counts of rows by class."""

import torch


class SumsByClass:
    """Sums of the rows taken in, by class.

    Parameters
    ----------
    n_classes, n_columns : int
        Shape of the sums.
    device : torch.device
        Where the rows come from.

    Attributes
    ----------
    counts : Tensor
        Rows of each class, int64, (n_classes,).
    sums : Tensor
        float64, (n_classes, n_columns).
    """

    def __init__(self, n_classes: int, n_columns: int, device: torch.device) -> None:
        self.counts = torch.zeros(n_classes, dtype=torch.int64, device=device)
        self.sums = torch.zeros(n_classes, n_columns, dtype=torch.float64, device=device)
        self._room = self.sums.new_empty(0, n_columns)

    def add(self, classes: torch.Tensor, rows: torch.Tensor) -> None:
        """Take in float32 rows (n, n_columns) of classes (n,)."""
        if len(self._room) < len(rows):
            # Kept for the next rows: room as large as this costs more to get than to fill.
            self._room = rows.new_empty(rows.shape, dtype=torch.float64)
        self.sums.index_add_(0, classes, self._room[: len(rows)].copy_(rows))
        self.counts += torch.bincount(classes, minlength=len(self.counts))
