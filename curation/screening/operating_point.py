"""How well risks tell labelled pictures apart, and from which risk on pictures are dropped."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from manifests.errors import InputError
from manifests.proportions import Share, counted_share
from manifests.ranking import Ranking

_ROUNDING = 1e-9
"""The exact product of a share such as 0.07 and a number may fall just short of a whole."""

N_CALIBRATION_BINS = 10
"""Of `expected_calibration_error` and of the reliability plot: equal widths on [0, 1], as Guo et al. (2017)."""


@dataclass(frozen=True)
class OperatingPoint:
    """A bound on risk, and what it does to pictures that chose neither the bound nor the model.

    Attributes
    ----------
    max_lost : float
        The goal: largest share of truly OOD pictures that may be dropped.
    drop_above : float
        Pictures of a higher risk are dropped; 1 drops none.
    n_fit_out : int
        The `out` pictures that the bound was chosen on.
    lost : Share
        Of the held-out `out` pictures, those that would be dropped.
    flagged : Share
        Of the held-out `in` pictures, those that would be dropped.
    """

    max_lost: float
    drop_above: float
    n_fit_out: int
    lost: Share
    flagged: Share

    def __str__(self) -> str:
        if not self.max_lost:
            return "  goal: 0 % of out dropped; so nothing is"
        if self.n_fit_out < least_out(self.max_lost):
            return (
                f"  goal: {self.max_lost:.2%} of out dropped; nothing is dropped: that goal needs "
                f"{least_out(self.max_lost):,} out in the half to fit on, about twice as many in all, found "
                f"{self.n_fit_out:,}"
            )
        return (
            f"  goal: {self.max_lost:.2%} of out lost, as expected; risk above {self.drop_above:.4f} is dropped\n"
            f"  of held-out out: {self.lost} dropped\n"
            f"  of held-out in: {self.flagged} dropped"
        )


def drop_bound(out_risks: npt.NDArray[np.float32], max_lost: float) -> float:
    """Return the lowest bound above which, of further pictures that are `out`, a share of `max_lost` is expected.

    Of n + 1 pictures in random order, each is as likely as any other to be the new one: it is above the (k + 1)-th
    highest of the n others with a probability of (k + 1) / (n + 1) at most. So k is the largest for which that is
    no more than `max_lost` (Wilks 1941; Vovk, Gammerman & Shafer 2005, as conformal prediction). This asks for
    risks by models that have not seen the pictures. Of fewer than `least_out`, the bound is 1: nothing is dropped.

    It is one of the risks themselves, so that ties are kept rather than lost.

    Raises
    ------
    InputError
        `max_lost` is no share, or there is no risk.
    """
    check_max_lost(max_lost)
    if not len(out_risks):
        raise InputError("calibrate: no labelled picture is out, so no bound can be chosen")
    n_above = math.floor(max_lost * (len(out_risks) + 1) + _ROUNDING) - 1
    if n_above < 0:
        return 1.0
    if n_above >= len(out_risks):
        return 0.0
    return float(np.sort(out_risks)[::-1][n_above])


def least_out(max_lost: float) -> int:
    """Return how many `out` pictures a goal above 0 needs for any to be dropped: 199 for 0.5 %."""
    return math.ceil(1 / max_lost - _ROUNDING) - 1


def check_max_lost(max_lost: float) -> None:
    """Refuse a goal that is no share.

    Raises
    ------
    InputError
        It is below 0 or above 1.
    """
    if not 0 <= max_lost <= 1:
        raise InputError(f"--max-lost: expected a share of 0 to 1, found {max_lost}")


def operating_point(
    fit_out_risks: npt.NDArray[np.float32],
    held_out_out_risks: npt.NDArray[np.float32],
    held_out_in_risks: npt.NDArray[np.float32],
    max_lost: float,
) -> OperatingPoint:
    """Return the bound chosen on the fit half and what it does to the held-out half."""
    bound = drop_bound(fit_out_risks, max_lost)
    lost, flagged = (share_above(risks, bound) for risks in (held_out_out_risks, held_out_in_risks))
    return OperatingPoint(max_lost, bound, len(fit_out_risks), lost, flagged)


def share_above(risks: npt.NDArray[np.float32], bound: float) -> Share:
    """Return the share of pictures whose risk, (n,), is above a bound."""
    return counted_share(int((risks > bound).sum()), len(risks))


def auroc(in_risks: npt.NDArray[np.float32], out_risks: npt.NDArray[np.float32]) -> float:
    """Return the probability that an `in` picture has a higher risk than an `out` one, ties counted half."""
    return Ranking.of(-in_risks, -out_risks).auroc()


def roc_curve(
    in_risks: npt.NDArray[np.float32], out_risks: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return shares of `out` lost and of `in` flagged at every bound, from (0, 0) to (1, 1)."""
    return Ranking.of(-in_risks, -out_risks).roc()


@dataclass(frozen=True)
class ReliabilityBin:
    """Pictures whose risk is in [low, high): how many, their mean risk, and how many of them are `in`."""

    low: float
    high: float
    n_pictures: int
    mean_risk: float
    is_in: Share


def reliability(in_risks: npt.NDArray[np.float32], out_risks: npt.NDArray[np.float32]) -> list[ReliabilityBin]:
    """Return the bins that hold a picture, lowest risk first; a risk of 1 falls into the last."""
    risks = np.concatenate([in_risks, out_risks]).astype(np.float64)
    is_in = np.arange(len(risks)) < len(in_risks)
    places = np.minimum((risks * N_CALIBRATION_BINS).astype(int), N_CALIBRATION_BINS - 1)
    bins = []
    for place in np.unique(places).tolist():
        own = places == place
        share = counted_share(int(is_in[own].sum()), int(own.sum()))
        low, high = place / N_CALIBRATION_BINS, (place + 1) / N_CALIBRATION_BINS
        bins.append(ReliabilityBin(low, high, share.n_all, float(risks[own].mean()), share))
    return bins


def expected_calibration_error(bins: Sequence[ReliabilityBin]) -> float:
    """Return the mean over pictures of |mean risk - share in| of their bin (Guo et al. 2017, equation 3)."""
    n_pictures = sum(each.n_pictures for each in bins)
    return sum(each.n_pictures * abs(each.mean_risk - each.is_in.value) for each in bins) / n_pictures
