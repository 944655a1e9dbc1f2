"""Two populations in the order of their scores: AUROC and ROC, which depend on that order alone.

Ties count as ties, nothing is scaled.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, eq=False)
class Ranking:
    """How many images of either population score at most the k distinct scores, ascending, (k + 1,) from 0."""

    n_in_at_most: NDArray[np.int64]
    n_out_at_most: NDArray[np.int64]

    @classmethod
    def of(cls, in_scores: ArrayLike, out_scores: ArrayLike) -> Self:
        """Return the ranking of two populations.

        Parameters
        ----------
        in_scores, out_scores : array_like
            Scores of the ID and the OOD images, (n_in,) and (n_out,), neither empty, all finite, higher = more
            OOD. Of what is higher for ID, such as a risk, hand in the negatives.
        """
        scores = np.concatenate([in_scores, out_scores])
        order = np.argsort(scores)
        ascending = scores[order]
        ends = np.flatnonzero(np.append(ascending[1:] != ascending[:-1], True)) + 1
        n_in_at_most = np.append(0, np.cumsum(order < len(np.asarray(in_scores)))[ends - 1])
        return cls(n_in_at_most, np.append(0, ends) - n_in_at_most)

    @property
    def n_in(self) -> int:
        """How many ID images there are."""
        return int(self.n_in_at_most[-1])

    @property
    def n_out(self) -> int:
        """How many OOD images there are."""
        return int(self.n_out_at_most[-1])

    def auroc(self) -> float:
        """Return P(out > in) + P(out = in) / 2 over all pairs, in [0, 1]."""
        # Twice the Mann-Whitney statistic, in integers: an ID image below an OOD one counts twice, at a tie once.
        n_below_and_at_most = self.n_in_at_most[:-1] + self.n_in_at_most[1:]
        return float(np.diff(self.n_out_at_most) @ n_below_and_at_most) / (2 * self.n_in * self.n_out)

    def roc(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return share of OOD and of ID at or below every distinct score, from (0, 0) to (1, 1), each (k + 1,)."""
        return self.n_out_at_most / self.n_out, self.n_in_at_most / self.n_in
