"""ReAct: the energy of features clipped from above."""

from dataclasses import dataclass
from typing import Self

import torch

from scoring.heads import Head
from scoring.methods.contract import Scorer
from scoring.methods.energy import free_energy
from scoring.outputs import Outputs
from scoring.statistics.gather import Statistic, Training
from scoring.statistics.quantile import FeatureQuantile


@dataclass(frozen=True)
class ReAct(Scorer):
    """Energy after rectified activation.

    Attributes
    ----------
    clip : float
        Largest value that a feature keeps.

    References
    ----------
    Sun, Guo, Li (2021), ReAct: Out-of-distribution Detection With Rectified Activations, Eq. 1.

    Notes
    -----
    As in the authors' code nothing is clipped from below. The quantile is exact, over all entries of all training
    features.
    """

    clip: float

    @classmethod
    def needs(cls, head: Head, *, quantile: float = 0.99) -> tuple[Statistic, ...]:
        """Return the quantile."""
        return (FeatureQuantile(quantile),)

    @classmethod
    def fit(cls, training: Training, *, quantile: float = 0.99) -> Self:
        """Return ReAct that clips at the `quantile` of all entries of the training features."""
        return cls(training[FeatureQuantile(quantile)])

    def ood_score(self, outputs: Outputs) -> torch.Tensor:
        """Return -log sum_c exp(l_c) with l = W min(x, clip) + b; higher = more OOD."""
        return free_energy(outputs.head.logits(outputs.features.clamp(max=self.clip)))
