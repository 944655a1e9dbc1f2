"""Timing a peer on as many images as a few seconds allow, and saying so."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from manifests.devices import seconds_now

BUDGET_S = 3.0
"""Scoring stops after the batch that goes beyond it."""


@dataclass(frozen=True)
class PeerCost:
    """What somebody else's code takes for a method, beside ours.

    Attributes
    ----------
    method : str
        Our name of it.
    peer : str
        Whose code, and what of it.
    fit_s : float, optional
        Of all training images; None where it was left out or there is nothing to fit.
    score_s : float
        Of `n_timed` images.
    n_timed, n_scored : int
        How many were scored for the clock, and how many there are to score.
    ours_s : float, optional
        What ours takes for the same fit and the same `n_scored` images, from the same arrays.
    agreement : float, optional
        How well the scores agree, in the measure of the table that this is a row of.
    note : str
        What was left out, or why there is nothing; mostly empty.
    """

    method: str
    peer: str
    fit_s: float | None
    score_s: float
    n_timed: int
    n_scored: int
    ours_s: float | None
    agreement: float | None
    note: str = ""

    @property
    def total_s(self) -> float | None:
        """Fit, and the scores of all images, extrapolated from those timed; None where it failed."""
        if not self.n_timed:
            return None
        return (self.fit_s or 0.0) + self.score_s * self.n_scored / self.n_timed

    @property
    def ratio(self) -> float | None:
        """How many times as long as ours it takes."""
        return self.total_s / self.ours_s if self.total_s is not None and self.ours_s else None


@dataclass(frozen=True, eq=False)
class TimedScores:
    """Scores of the first images, float64, (n_timed,), and the seconds they took."""

    scores: NDArray[np.float64]
    seconds: float


def timed_scores(
    score: Callable[[slice], NDArray[np.floating] | torch.Tensor],
    n_rows: int,
    batch_rows: int,
    device: torch.device,
    *,
    budget_s: float = BUDGET_S,
) -> TimedScores:
    """Return the scores of as many batches as the budget allows, at least one, after one that is not timed.

    Parameters
    ----------
    score : callable
        Takes a slice of images, returns their scores.
    n_rows : int
        Images there are.
    batch_rows : int
        Images in one call.
    device : torch.device
        Whose clock.
    budget_s : float
        Seconds.
    """
    score(slice(0, min(batch_rows, n_rows)))
    parts: list[NDArray[np.float64]] = []
    seconds, first = 0.0, 0
    while first < n_rows and (not parts or seconds < budget_s):
        rows = slice(first, min(first + batch_rows, n_rows))
        started = seconds_now(device)
        scores = score(rows)
        seconds += seconds_now(device) - started
        parts.append(torch.as_tensor(scores).detach().cpu().numpy().astype(np.float64))
        first = rows.stop
    return TimedScores(np.concatenate(parts), seconds)
