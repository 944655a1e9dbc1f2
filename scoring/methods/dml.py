"""DML: MaxLogit taken apart into cosine and norm, and put together with a weight."""

import math
from dataclasses import dataclass
from typing import Self

import torch

from manifests.errors import FeatureError, InputError
from scoring.heads import Head
from scoring.methods.contract import Scorer
from scoring.methods.max_cosine import WeightDirections
from scoring.outputs import Outputs
from scoring.statistics.gather import Measurement, Statistic, Training, TrainingBatch


@dataclass(frozen=True, eq=False)
class DML(Scorer):
    """Decoupled MaxLogit of one network.

    Attributes
    ----------
    directions : WeightDirections
        Of the head.
    scale : float
        lambda, the weight of the cosine against the norm.

    References
    ----------
    Zhang and Xiang (2023), Decoupling MaxLogit for Out-of-Distribution Detection, Eq. 6.

    Notes
    -----
    The authors' code gives no lambda for one network. In their test of DML+, which takes the cosine and the norm
    from two networks, each is divided by its sum over the ID test images: a lambda of mean norm / mean cosine.
    Here the same ratio is taken over training images, so that no score depends on what else is scored.
    """

    directions: WeightDirections
    scale: float

    @classmethod
    def needs(cls, head: Head, *, scale: float | None = None) -> tuple[Statistic, ...]:
        """Return the sums that lambda is made of, where it is not given; raises as `fit` for a wrong one."""
        check_scale("DML", scale)
        return (CosinesAndNorms(),) if scale is None else ()

    @classmethod
    def fit(cls, training: Training, *, scale: float | None = None) -> Self:
        """Return DML.

        Parameters
        ----------
        training : Training
            Gives the head and, where no `scale` is given, the means.
        scale : float, optional
            lambda, at least 0; by default mean norm(x) / mean max_c cos(x, w_c) over the training images.

        Raises
        ------
        InputError
            `scale` is negative or not finite.
        FeatureError
            That ratio is not positive and finite.
        """
        check_scale("DML", scale)
        if scale is None:
            scale = balancing_scale(*training[CosinesAndNorms()])
        return cls(WeightDirections.of(training), scale)

    def ood_score(self, outputs: Outputs) -> torch.Tensor:
        """Return -(lambda max_c cos(x, w_c) + norm(x)); higher = more OOD."""
        return -(self.scale * self.directions.max_cosine(outputs) + outputs.feature_norm)


@dataclass(frozen=True)
class CosinesAndNorms(Statistic):
    """Sum of max_c cos(x, w_c) and sum of norm(x) over the training images, two floats.

    Attributes
    ----------
    second : bool
        The norms are of the second model's features.
    """

    second: bool = False

    def begin(self, training: Training) -> "CosineMeasurement":
        """Return a measurement of nothing yet."""
        return CosineMeasurement(WeightDirections.of(training), second=self.second)


class CosineMeasurement(Measurement):
    """Two float64 sums."""

    def __init__(self, directions: WeightDirections, *, second: bool) -> None:
        self._directions = directions
        self._second = second
        self._sum_cosine = 0.0
        self._sum_norm = 0.0

    def add(self, batch: TrainingBatch) -> None:
        """Take in some images."""
        self._sum_cosine += float(self._directions.max_cosine(batch.outputs).sum())
        outputs = batch.outputs
        self._sum_norm += float((outputs.norm_of_second_model() if self._second else outputs.feature_norm).sum())

    def result(self) -> tuple[float, float]:
        """Return the sums."""
        return self._sum_cosine, self._sum_norm


def balancing_scale(sum_cosine: float, sum_norm: float) -> float:
    """Return mean norm / mean cosine, with which the two weigh the same over the images that were summed.

    Raises
    ------
    FeatureError
        It is not positive and finite.
    """
    scale = sum_norm / sum_cosine if sum_cosine else math.inf
    if not 0 < scale < math.inf:
        raise FeatureError(
            f"lambda = mean norm / mean MaxCosine of the training images is not positive and finite (sum "
            f"of norms {sum_norm:.6g}, sum of cosines {sum_cosine:.6g}); give a scale"
        )
    return scale


def check_scale(title: str, scale: float | None) -> None:
    """Refuse a lambda of the method `title` that is negative or not finite; raises InputError."""
    if scale is not None and not 0 <= scale < math.inf:
        raise InputError(f"{title}: expected a scale (lambda) of at least 0, found {scale}")
