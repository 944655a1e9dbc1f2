"""Residual: how far a feature lies outside the principal space of the training features."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import torch

from scoring.feature_sets import FeatureBatch
from scoring.heads import Head
from scoring.methods.contract import Scorer
from scoring.methods.principal_space import PrincipalSpace


@dataclass(frozen=True, eq=False)
class Residual(Scorer):
    """Norm of the residual.

    Attributes
    ----------
    space : PrincipalSpace
        Fitted to training features.

    References
    ----------
    Wang, Li, Feng, Zhang (2022), ViM: Out-Of-Distribution with Virtual-logit Matching, section 4.
    """

    space: PrincipalSpace

    @classmethod
    def fit(cls, head: Head, train: Iterable[FeatureBatch], *, dim: int) -> Self:
        """Return Residual on the principal space of `train`; raises as `PrincipalSpace.fit` does."""
        return cls(PrincipalSpace.fit(head, train, dim))

    def ood_score(self, features: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """Return norm((x - o) R), at least 0; higher = more OOD."""
        return self.space.residual_norm(features)

    @property
    def warnings(self) -> tuple[str, ...]:
        """The doubts of the space."""
        return self.space.warnings
