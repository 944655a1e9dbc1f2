"""GradNorm: the gradient of the head's weights, in closed form."""

from dataclasses import dataclass
from typing import Self

import torch

from scoring.methods.contract import Scorer
from scoring.outputs import Outputs
from scoring.statistics.gather import Training


@dataclass(frozen=True)
class GradNorm(Scorer):
    """L1 norm of the gradient of -sum_c log p_c by the weights of the head.

    References
    ----------
    Huang, Geng, Li (2021), On the Importance of Gradients for Detecting Distributional Shifts in the Wild,
    section 3.

    Notes
    -----
    The authors go back through the network for every image. By logit c the gradient of their loss is C p_c - 1, by
    weight (c, i) it is (C p_c - 1) x_i, and its L1 norm the product of two sums: the same number from a softmax.
    The bias has no part in it, as in the ViM repository; with it the second sum would be larger by 1.
    """

    @classmethod
    def fit(cls, training: Training) -> Self:
        """Return GradNorm, which is fitted to nothing."""
        return cls()

    def ood_score(self, outputs: Outputs) -> torch.Tensor:
        """Return -sum_c |C p_c - 1| sum_i |x_i|; higher = more OOD."""
        n_classes = outputs.head.n_classes
        by_logit = (outputs.probabilities * n_classes).sub_(1).abs_().sum(dim=1)
        return -by_logit * outputs.feature_sum
