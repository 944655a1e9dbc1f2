"""What every method promises, and what it may be fitted on.

A method is a frozen object that exists only fitted. `Training` hands out the statistics that several methods
need, so that each is measured once.
"""

import functools
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from scoring.feature_sets import FeatureBatch
from scoring.heads import Head
from scoring.methods.principal_space import PrincipalSpace, principal_dim


class Scorer(ABC):
    """A fitted method."""

    @abstractmethod
    def ood_score(self, features: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """Return one score an image, higher = more OOD.

        Parameters
        ----------
        features : Tensor
            Penultimate features, float32, (n, n_features), on the device that the method was fitted on.
        logits : Tensor
            ``Head.logits(features)``, float32, (n, n_classes).

        Returns
        -------
        Tensor
            float64, (n,). Each image's score depends on that image alone.
        """

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader of the scores has to know of the fit, one sentence each; mostly nothing."""
        return ()


@dataclass(frozen=True, eq=False)
class Training:
    """What methods are fitted on.

    Attributes
    ----------
    head : Head
        On the device to compute on.
    train : iterable of FeatureBatch
        The training features in chunks; read more than once, so a generator will not do. Empty where no method
        that is asked for needs any.
    dim_rule, dim : str and int, optional
        D, the dimension of the principal space, as `principal_dim` takes it.
    """

    head: Head
    train: Iterable[FeatureBatch] = ()
    dim_rule: str = "repo"
    dim: int | None = None

    @functools.cached_property
    def principal_space(self) -> PrincipalSpace:
        """The space shared by Residual and ViM, fitted when first asked for."""
        dim = principal_dim(self.head.n_features, rule=self.dim_rule, dim=self.dim)
        return PrincipalSpace.fit(self.head, self.train, dim)
