"""Mahalanobis: the distance from the nearest class mean."""

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
class Mahalanobis(Scorer):
    """Mahalanobis distance with one covariance for all classes.

    Attributes
    ----------
    gaussian : ClassGaussian
        Class means, and the covariance within classes.

    References
    ----------
    Lee, Lee, Lee, Shin (2018), A Simple Unified Framework for Detecting Out-of-Distribution Samples and
    Adversarial Attacks, Eq. 2. As in the ViM paper: last features only, no input perturbation, no ensemble.
    """

    gaussian: ClassGaussian

    @classmethod
    def needs(cls, head: Head) -> tuple[Statistic, ...]:
        """Return the covariance within classes."""
        return (CovarianceSpectrum(within=True),)

    @classmethod
    def fit(cls, training: Training) -> Self:
        """Return Mahalanobis on the training features and their classes; raises as `ClassGaussian.fit` does."""
        return cls(ClassGaussian.fit(training))

    def ood_score(self, outputs: Outputs) -> torch.Tensor:
        """Return min_c (x - m_c)^T P (x - m_c), P the inverse covariance within classes; higher = more OOD."""
        return self.gaussian.least_distance(outputs)

    @property
    def warnings(self) -> tuple[str, ...]:
        """The doubts of the covariance."""
        return self.gaussian.warnings
