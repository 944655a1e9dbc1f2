"""VRA: the energy of features clipped from above and set to zero below."""

import math
from dataclasses import dataclass
from typing import Self

import torch

from manifests.errors import FeatureError, InputError
from scoring.heads import Head
from scoring.methods.contract import Scorer
from scoring.methods.energy import free_energy
from scoring.outputs import Outputs
from scoring.statistics.gather import Statistic, Training
from scoring.statistics.quantile import FeatureQuantile


@dataclass(frozen=True)
class VRA(Scorer):
    """Energy after variational rectified activation, in its piecewise form (VRA-P).

    Attributes
    ----------
    low : float
        Features below it become 0, or `low` where `clips_low`.
    high : float
        Largest value that a feature keeps.
    clips_low : bool
        Whether small features are clipped, as large ones are.

    References
    ----------
    Xu, Lian, Liu, Tao (2023), VRA: Variational Rectified Activation for Out-of-distribution Detection; the
    authors' code: ``quick_ood.py`` and ``readme.md`` of zeroQiaoba/VRA.

    Notes
    -----
    The thresholds are quantiles of all entries of the training features, exact, as ReAct's. The authors' code
    takes quantiles only on CIFAR, of each feature apart (0.6 and 0.95 on CIFAR-100, the defaults here; 0.6 and
    0.9 on CIFAR-10), and on ImageNet thresholds by hand, which `fit` takes too: 0.5 and 1 for its ResNet-50, 1
    and 2 for its BiT. OpenOOD clips from below as well.
    """

    low: float
    high: float
    clips_low: bool = False

    @classmethod
    def needs(
        cls,
        head: Head,
        *,
        low_quantile: float = 0.6,
        high_quantile: float = 0.95,
        low: float | None = None,
        high: float | None = None,
        clips_low: bool = False,
    ) -> tuple[Statistic, ...]:
        """Return the quantiles that stand for thresholds not given.

        Raises
        ------
        InputError
            An option is NaN or infinite, or the thresholds cross.
        """
        given = {"low_quantile": low_quantile, "high_quantile": high_quantile, "low": low, "high": high}
        for name, value in given.items():
            if value is not None and not math.isfinite(value):
                raise InputError(f"{name}: expected a finite number, found {value}")
        if low is None and high is None and low_quantile > high_quantile:
            raise InputError(f"low_quantile {low_quantile} is above high_quantile {high_quantile}")
        if low is not None and high is not None and low > high:
            raise InputError(f"low {low} is above high {high}")
        lows = (FeatureQuantile(low_quantile),) if low is None else ()
        return (*lows, FeatureQuantile(high_quantile)) if high is None else lows

    @classmethod
    def fit(
        cls,
        training: Training,
        *,
        low_quantile: float = 0.6,
        high_quantile: float = 0.95,
        low: float | None = None,
        high: float | None = None,
        clips_low: bool = False,
    ) -> Self:
        """Return VRA with the thresholds `low` and `high`, or where one is not given, its quantile.

        Parameters
        ----------
        training : Training
            Gives the quantiles.
        low_quantile, high_quantile : float
            Shares of all entries of the training features.
        low, high : float, optional
            Thresholds by hand, in place of quantiles.
        clips_low : bool
            Whether small features become `low`, as in OpenOOD, or 0, as in the paper.

        Raises
        ------
        InputError
            As `needs`.
        FeatureError
            A threshold given by hand is on the wrong side of the quantile.
        """
        cls.needs(training.head, low_quantile=low_quantile, high_quantile=high_quantile, low=low, high=high)
        low = training[FeatureQuantile(low_quantile)] if low is None else low
        high = training[FeatureQuantile(high_quantile)] if high is None else high
        if low > high:
            raise FeatureError(f"the lower threshold, {low:.6g}, is above the upper, {high:.6g}")
        return cls(low, high, clips_low)

    def ood_score(self, outputs: Outputs) -> torch.Tensor:
        """Return -log sum_c exp(l_c), l = W z + b, z = 0 where x < low, else min(x, high); higher = more OOD."""
        features = outputs.features
        if self.clips_low:
            return free_energy(outputs.head.logits(features.clamp(min=self.low, max=self.high)))
        is_kept = torch.ge(features, self.low, out=torch.empty_like(features))
        return free_energy(outputs.head.logits(is_kept.mul_(features).clamp_(max=self.high)))
