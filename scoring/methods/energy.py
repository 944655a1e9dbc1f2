"""Energy: the free energy of the logits."""

from dataclasses import dataclass
from typing import Self

import torch

from scoring.methods.contract import Scorer
from scoring.outputs import Outputs
from scoring.statistics.gather import Training


def free_energy(logits: torch.Tensor) -> torch.Tensor:
    """Return -log sum_c exp(l_c), float64, (n,), of logits (n, n_classes) other than the head's own."""
    top = logits.amax(dim=1, keepdim=True)
    # Exponentials of what is at most 0 need no more than float32: the largest of them is 1.
    ratios = (logits - top).float().exp_()
    return -(ratios.sum(dim=1).double().log_() + top[:, 0])


@dataclass(frozen=True)
class Energy(Scorer):
    """Free energy at temperature 1.

    References
    ----------
    Liu, Wang, Owens, Li (2020), Energy-based Out-of-distribution Detection, Eq. 4 with T = 1.
    """

    @classmethod
    def fit(cls, training: Training) -> Self:
        """Return Energy, which is fitted to nothing."""
        return cls()

    def ood_score(self, outputs: Outputs) -> torch.Tensor:
        """Return -log sum_c exp(l_c); higher = more OOD."""
        return -outputs.log_sum_exp
