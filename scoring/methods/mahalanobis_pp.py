"""Mahalanobis++: the Mahalanobis distance of features divided by their norm."""

from dataclasses import dataclass
from typing import Self

import torch

from scoring.heads import Head
from scoring.methods.contract import Scorer
from scoring.methods.gaussian import ClassGaussian
from scoring.outputs import Outputs
from scoring.statistics.gather import Statistic, Training
from scoring.statistics.spectrum import CovarianceSpectrum


@dataclass(frozen=True, eq=False)
class MahalanobisPlusPlus(Scorer):
    """Mahalanobis distance on the unit sphere.

    Attributes
    ----------
    gaussian : ClassGaussian
        Class means, and the covariance within classes, of features divided by their norm.

    References
    ----------
    Mueller and Hein (2025), Mahalanobis++: Improving OOD Detection via Feature Normalization.

    Notes
    -----
    Features are divided by their norm both in training and in scoring; class means are not divided again. A
    feature of zeros stays one.
    """

    gaussian: ClassGaussian

    @classmethod
    def needs(cls, head: Head) -> tuple[Statistic, ...]:
        """Return the covariance within classes of unit features."""
        return (CovarianceSpectrum(unit=True, within=True),)

    @classmethod
    def fit(cls, training: Training) -> Self:
        """Return Mahalanobis++ on the training features and their classes; raises as `ClassGaussian.fit` does."""
        return cls(ClassGaussian.fit(training, unit=True))

    def ood_score(self, outputs: Outputs) -> torch.Tensor:
        """Return min_c (u - m_c)^T P (u - m_c) with u = x / norm(x); higher = more OOD."""
        return self.gaussian.least_distance(outputs)

    @property
    def warnings(self) -> tuple[str, ...]:
        """The doubts of the covariance."""
        return self.gaussian.warnings
