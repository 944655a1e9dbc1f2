"""Energy: the free energy of the logits."""

from dataclasses import dataclass

import torch

from scoring.methods.contract import Scorer


@dataclass(frozen=True)
class Energy(Scorer):
    """Free energy at temperature 1.

    References
    ----------
    Liu, Wang, Owens, Li (2020), Energy-based Out-of-distribution Detection, Eq. 4 with T = 1.
    """

    def ood_score(self, features: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """Return -log sum_c exp(l_c); higher = more OOD."""
        return -torch.logsumexp(logits.double(), dim=1)
