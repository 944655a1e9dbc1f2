"""RMDS: the Mahalanobis distance from the nearest class, less that from all classes together."""

from dataclasses import dataclass
from typing import Self

import torch

from scoring.heads import Head
from scoring.methods.contract import Scorer
from scoring.methods.gaussian import ClassGaussian, Whitening
from scoring.outputs import Outputs
from scoring.products import row_norms
from scoring.statistics.gather import Statistic, Training
from scoring.statistics.moments import SecondMoment
from scoring.statistics.spectrum import CovarianceSpectrum


@dataclass(frozen=True, eq=False)
class RMDS(Scorer):
    """Relative Mahalanobis distance.

    Attributes
    ----------
    gaussian : ClassGaussian
        Class means, the mean of all, and the covariance within classes.
    whitening : Whitening
        Of the covariance of all training features about their mean.

    References
    ----------
    Ren, Fort, Liu, Roy, Padhy, Lakshminarayanan (2021), A Simple Fix to Mahalanobis Distance for Improving
    Near-OOD Detection, section 2.
    """

    gaussian: ClassGaussian
    whitening: Whitening

    @classmethod
    def needs(cls, head: Head) -> tuple[Statistic, ...]:
        """Return the two covariances."""
        return (CovarianceSpectrum(within=True), CovarianceSpectrum())

    @classmethod
    def fit(cls, training: Training) -> Self:
        """Return RMDS on the training features and their classes; raises as `ClassGaussian.fit` does."""
        gaussian, moments = ClassGaussian.fit(training), training[SecondMoment()]
        whitening = Whitening.of(training[CovarianceSpectrum()], moments, "covariance of all features")
        return cls(gaussian, whitening)

    def ood_score(self, outputs: Outputs) -> torch.Tensor:
        """Return min_c MD_c - MD_0; higher = more OOD.

        MD_c = (x - m_c)^T P (x - m_c) with the inverse covariance within classes, and MD_0 = (x - m)^T P_0 (x - m)
        with mean and inverse covariance of all training features.
        """
        white = self.whitening.of_rows(outputs.features - self.gaussian.mean)  # (n, rank)
        from_all = row_norms(white).square()
        return self.gaussian.least_distance(outputs) - from_all

    @property
    def warnings(self) -> tuple[str, ...]:
        """The doubts of the two covariances."""
        return (*self.gaussian.warnings, *self.whitening.warnings)
