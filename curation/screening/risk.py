"""Risk: the probability that a picture is in distribution, by a ridge logistic model of a few numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from manifests.errors import InputError

RIDGE = 1.0
"""Weight of half the squared coefficients of standardised numbers beside the summed log-loss (scikit-learn's
C = 1): it keeps coefficients finite where the labelled pictures can be told apart without error."""

_MOST_STEPS = 100
_CONVERGED = 1e-10


@dataclass(frozen=True)
class RiskModel:
    """A fitted model; equal labelled pictures give equal coefficients.

    Attributes
    ----------
    names : tuple of str
        Of the numbers it takes.
    means, scales, coefficients : tuple of float
        Of each number: what is subtracted, divided by and multiplied with.
    intercept : float
        Log-odds of a picture with average numbers.
    """

    names: tuple[str, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]
    coefficients: tuple[float, ...]
    intercept: float

    def risks(self, numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        """Return a probability for each row of `numbers` (n, n_numbers), float32 as `schema.SCREEN` keeps it."""
        if numbers.shape[1:] != (len(self.names),):
            raise InputError(f"risk: expected {len(self.names)} numbers a picture, found {numbers.shape[1:]}")
        log_odds = np.full(len(numbers), self.intercept)
        # Term by term: a matrix product may round otherwise for another number of pictures.
        for column, (mean, scale, weight) in enumerate(
            zip(self.means, self.scales, self.coefficients, strict=True)
        ):
            log_odds += weight * ((numbers[:, column] - mean) / scale)
        return _sigmoid(log_odds).astype(np.float32)


def fit_risk(names: Sequence[str], numbers: npt.NDArray[np.float64], is_in: npt.NDArray[np.bool_]) -> RiskModel:
    """Return the model of least log-loss plus `RIDGE` / 2 times the squared coefficients, by Newton's method.

    Parameters
    ----------
    names : sequence of str
        Of the columns.
    numbers : (n, n_numbers) float64
        Of labelled pictures; a column without spread gets the coefficient 0.
    is_in : (n,) bool
        Which of them hold an in-distribution object.

    Raises
    ------
    InputError
        A number is not finite, or all pictures have one truth.
    """
    if not np.isfinite(numbers).all():
        raise InputError("calibrate: a labelled picture has a number that is NaN or infinite")
    if is_in.all() or not is_in.any():
        raise InputError(
            f"calibrate: expected pictures of both truths, found {int(is_in.sum())} in of {len(is_in)}"
        )
    means, scales = numbers.mean(axis=0), numbers.std(axis=0)
    scales = np.where(scales > 0, scales, 1.0)
    rows = np.column_stack([np.ones(len(numbers)), (numbers - means) / scales])  # (n, 1 + n_numbers)
    penalty = np.diag([0.0] + [RIDGE] * len(names))
    # From the shares alone, so that the first step is that of the plain model.
    weights = np.zeros(rows.shape[1])
    weights[0] = np.log(is_in.mean() / (1 - is_in.mean()))
    for _ in range(_MOST_STEPS):
        step = _newton_step(rows, is_in, weights, penalty)
        weights = weights - step
        if np.abs(step).max() < _CONVERGED:
            break
    return RiskModel(
        tuple(names), tuple(means.tolist()), tuple(scales.tolist()), tuple(weights[1:].tolist()), float(weights[0])
    )


def unseen_risks(
    names: Sequence[str],
    numbers: npt.NDArray[np.float64],
    is_in: npt.NDArray[np.bool_],
    folds: npt.NDArray[np.int64],
) -> npt.NDArray[np.float32]:
    """Return the risk of each picture (n,) by a model of the pictures in all other folds.

    What a model says of pictures that it was fitted on is too good, and a bound chosen on that too low. Where no
    other fold holds an `in`, or an `out`, there is no such model, and the risk is 1: a bound never counts on it.

    Parameters
    ----------
    names, numbers, is_in
        As `fit_risk` takes them.
    folds : (n,) int64
        Of each picture.
    """
    risks = np.ones(len(numbers), np.float32)
    for fold in np.unique(folds).tolist():
        others = folds != fold
        if is_in[others].any() and not is_in[others].all():
            risks[~others] = fit_risk(names, numbers[others], is_in[others]).risks(numbers[~others])
    return risks


def _newton_step(
    rows: npt.NDArray[np.float64],
    is_in: npt.NDArray[np.bool_],
    weights: npt.NDArray[np.float64],
    penalty: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Return what to subtract; halved until the loss falls, as a full step can overshoot far from the minimum."""
    probabilities = _sigmoid(rows @ weights)
    gradient = rows.T @ (probabilities - is_in) + penalty @ weights
    curvature = (rows * (probabilities * (1 - probabilities))[:, None]).T @ rows + penalty
    step = np.asarray(np.linalg.solve(curvature, gradient), np.float64)
    before = _loss(rows, is_in, weights, penalty)
    while np.abs(step).max() > _CONVERGED and _loss(rows, is_in, weights - step, penalty) > before:
        step = step / 2
    return step


def _loss(
    rows: npt.NDArray[np.float64],
    is_in: npt.NDArray[np.bool_],
    weights: npt.NDArray[np.float64],
    penalty: npt.NDArray[np.float64],
) -> float:
    log_odds = rows @ weights
    return float(np.logaddexp(0, np.where(is_in, -log_odds, log_odds)).sum() + weights @ penalty @ weights / 2)


def _sigmoid(log_odds: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    # Through tanh, which does not overflow.
    half: npt.NDArray[np.float64] = np.tanh(log_odds / 2)
    return (1 + half) / 2
