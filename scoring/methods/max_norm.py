"""MaxNorm: the norm of a feature."""

from dataclasses import dataclass
from typing import Self

import torch

from scoring.methods.contract import Scorer
from scoring.outputs import Outputs
from scoring.statistics.gather import Training


@dataclass(frozen=True)
class MaxNorm(Scorer):
    """Euclidean norm of the feature.

    References
    ----------
    Zhang and Xiang (2023), Decoupling MaxLogit for Out-of-Distribution Detection: the second part of Eq. 6.
    """

    @classmethod
    def fit(cls, training: Training) -> Self:
        """Return MaxNorm, which is fitted to nothing."""
        return cls()

    def ood_score(self, outputs: Outputs) -> torch.Tensor:
        """Return -norm(x), at most 0; higher = more OOD."""
        return -outputs.feature_norm
