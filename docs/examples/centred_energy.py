"""CentredEnergy: the energy, weighed by how far the feature lies from the mean of the training features."""

from dataclasses import dataclass
from typing import Self

import torch

from scoring.heads import Head
from scoring.methods.contract import Scorer
from scoring.outputs import Outputs
from scoring.statistics.feature_mean import Centre, FeatureMean
from scoring.statistics.gather import Statistic, Training


@dataclass(frozen=True, eq=False)
class CentredEnergy(Scorer):
    """Energy times distance to the mean of the training features: OOD images have less of both.

    Attributes
    ----------
    centre : Centre
        Mean of the training features.

    References
    ----------
    None: a worked example of the toolkit's documentation.
    """

    centre: Centre

    @classmethod
    def needs(cls, head: Head) -> tuple[Statistic, ...]:
        """Return the mean of the features."""
        return (FeatureMean(),)

    @classmethod
    def fit(cls, training: Training) -> Self:
        """Return CentredEnergy on the training features."""
        return cls(training[FeatureMean()])

    def ood_score(self, outputs: Outputs) -> torch.Tensor:
        """Return -log sum_c exp(l_c) norm(x - m), m the mean of the training features; higher = more OOD."""
        return -outputs.log_sum_exp * self.centre.distance(outputs)
