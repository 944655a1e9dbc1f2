"""GEN: a generalized entropy of the largest probabilities."""

from dataclasses import dataclass
from typing import Self

import torch

from manifests.errors import InputError
from scoring.heads import Head
from scoring.methods.contract import Scorer
from scoring.outputs import Outputs
from scoring.sorting import sorted_rows
from scoring.statistics.gather import Statistic, Training


@dataclass(frozen=True)
class GEN(Scorer):
    """Generalized entropy.

    Attributes
    ----------
    gamma : float
        Exponent, above 0.
    top : int
        Number M of largest probabilities; all where there are no more classes.

    References
    ----------
    Liu, Lochman, Zach (2023), GEN: Pushing the Limits of Softmax-Based Out-of-Distribution Detection; the authors'
    code: ``benchmark.py`` of XixiLiu95/GEN, whose defaults these are.

    Notes
    -----
    1 - p of the predicted class is summed from the other classes: in the authors' float32 it is 0, and the term
    with it, as soon as p rounds to 1. pytorch-ood clamps p to [1e-7, 1 - 1e-7] instead, which changes the term of
    every smaller p; nothing is clamped here. It also takes the mean over the M classes, and all classes by
    default.
    """

    gamma: float
    top: int

    @classmethod
    def needs(cls, head: Head, *, gamma: float = 0.1, top: int = 100) -> tuple[Statistic, ...]:
        """Return nothing; raises InputError where `gamma` is not above 0 or `top` not at least 1."""
        if not 0 < gamma < float("inf"):
            raise InputError(f"gamma: expected a number above 0, found {gamma}")
        if top < 1:
            raise InputError(f"top: expected at least 1 class, found {top}")
        return ()

    @classmethod
    def fit(cls, training: Training, *, gamma: float = 0.1, top: int = 100) -> Self:
        """Return GEN with exponent `gamma` over the `top` largest probabilities."""
        return cls(gamma, top)

    def ood_score(self, outputs: Outputs) -> torch.Tensor:
        """Return sum_j p_j^gamma (1 - p_j)^gamma over the M largest p, at least 0; higher = more OOD."""
        log_sum_exp = outputs.log_sum_exp[:, None]
        largest = sorted_rows(outputs.logits)[:, -self.top :]  # (n, M), the predicted class last
        log_p = largest[:, :-1].double() - log_sum_exp
        others = (log_p + torch.log1p(-log_p.exp())).mul_(self.gamma).exp_().sum(dim=1)
        top_probability = (outputs.top_logit.double() - outputs.log_sum_exp).exp()
        return others + (top_probability * outputs.other_probability).pow(self.gamma)
