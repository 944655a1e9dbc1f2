"""MaxLogit: the largest logit."""

from dataclasses import dataclass

import torch

from scoring.methods.contract import Scorer


@dataclass(frozen=True)
class MaxLogit(Scorer):
    """Maximum logit.

    References
    ----------
    Hendrycks et al. (2022), Scaling Out-of-Distribution Detection for Real-World Settings, section 3.
    """

    def ood_score(self, features: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """Return -max_c l_c; higher = more OOD."""
        return -logits.amax(dim=1).double()
