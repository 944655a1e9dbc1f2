"""MaxLogit: the largest logit."""

from dataclasses import dataclass
from typing import Self

import torch

from scoring.methods.contract import Scorer
from scoring.outputs import Outputs
from scoring.statistics.gather import Training


@dataclass(frozen=True)
class MaxLogit(Scorer):
    """Maximum logit.

    References
    ----------
    Hendrycks et al. (2022), Scaling Out-of-Distribution Detection for Real-World Settings, section 3.
    """

    @classmethod
    def fit(cls, training: Training) -> Self:
        """Return MaxLogit, which is fitted to nothing."""
        return cls()

    def ood_score(self, outputs: Outputs) -> torch.Tensor:
        """Return -max_c l_c; higher = more OOD."""
        return -outputs.top_logit.double()
