"""Residual: how far a feature lies outside the principal space of the training features."""

from dataclasses import dataclass
from typing import Self

import torch

from scoring.heads import Head
from scoring.methods.contract import Scorer
from scoring.methods.principal_space import PrincipalSpace, principal_dim
from scoring.outputs import Outputs
from scoring.statistics.gather import Statistic, Training
from scoring.statistics.moments import SecondMoment


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
    def needs(cls, head: Head, *, dim_rule: str = "repo", dim: int | None = None) -> tuple[Statistic, ...]:
        """Return the moments; raises as `principal_dim` does."""
        principal_dim(head.n_features, rule=dim_rule, dim=dim)
        return (SecondMoment(),)

    @classmethod
    def fit(cls, training: Training, *, dim_rule: str = "repo", dim: int | None = None) -> Self:
        """Return Residual on the principal space of dimension D; raises as `PrincipalSpace.fit` does."""
        return cls(PrincipalSpace.fit(training, dim_rule=dim_rule, dim=dim))

    def ood_score(self, outputs: Outputs) -> torch.Tensor:
        """Return norm((x - o) R), at least 0; higher = more OOD."""
        return self.space.residual_norm(outputs)

    @property
    def warnings(self) -> tuple[str, ...]:
        """The doubts of the space."""
        return self.space.warnings
