"""ViM: the residual, scaled to a logit, against the energy of the real logits."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import torch

from manifests.errors import FeatureError
from scoring.feature_sets import FeatureBatch
from scoring.heads import Head
from scoring.methods.contract import Scorer
from scoring.methods.principal_space import PrincipalSpace


@dataclass(frozen=True, eq=False)
class ViM(Scorer):
    """Virtual-logit matching.

    Attributes
    ----------
    space : PrincipalSpace
        Fitted to training features.
    alpha : float
        Scale that makes the virtual logit as large as the largest real one, on average over the training images.

    References
    ----------
    Wang, Li, Feng, Zhang (2022), ViM: Out-Of-Distribution with Virtual-logit Matching, section 4; Eq. 6 is
    alpha.

    Notes
    -----
    The paper's score is the softmax probability of the virtual logit. As in the authors' code, its log-odds are
    returned: the same order of images, without saturation.
    """

    space: PrincipalSpace
    alpha: float

    @classmethod
    def fit(
        cls,
        head: Head,
        train: Iterable[FeatureBatch],
        *,
        dim: int | None = None,
        space: PrincipalSpace | None = None,
    ) -> Self:
        """Return ViM with alpha = sum of max_c l_c / sum of norm((x - o) R) over `train`.

        Parameters
        ----------
        head : Head
            Of the model that made the features.
        train : iterable of FeatureBatch
            Read twice, or once where `space` is given.
        dim : int, optional
            D, needed where `space` is not given.
        space : PrincipalSpace, optional
            Fitted already to the same `train`.

        Raises
        ------
        FeatureError
            As `PrincipalSpace.fit`; neither `dim` nor `space` is given; `train` is not the set that `space` was
            fitted to, or can be read only once; alpha is not finite.
        """
        if space is None:
            if dim is None:
                raise FeatureError("ViM: give dim (D), or a principal space that is fitted already")
            space = PrincipalSpace.fit(head, train, dim)
        return cls(space, _alpha(head, train, space))

    def ood_score(self, features: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """Return alpha norm((x - o) R) - log sum_c exp(l_c); higher = more OOD."""
        virtual_logit = self.alpha * self.space.residual_norm(features)  # (n,)
        return virtual_logit - torch.logsumexp(logits.double(), dim=1)

    @property
    def warnings(self) -> tuple[str, ...]:
        """The doubts of the space, and whether alpha turns the residual round."""
        if self.alpha > 0:
            return self.space.warnings
        turned = (
            f"ViM: alpha is {self.alpha:.4g}, as the largest logit of training images is not positive on average: "
            f"a larger residual then counts as less OOD"
        )
        return (*self.space.warnings, turned)


def _alpha(head: Head, train: Iterable[FeatureBatch], space: PrincipalSpace) -> float:
    sum_max_logit, sum_residual_norm, n_train = 0.0, 0.0, 0
    for batch in train:
        features = batch.features.to(head.device)
        sum_max_logit += float(head.logits(features).amax(dim=1).double().sum())
        sum_residual_norm += float(space.residual_norm(features).sum())
        n_train += len(features)
    if n_train != space.n_train:
        raise FeatureError(
            f"ViM: the principal space was fitted to {space.n_train} training images, alpha found {n_train}: "
            f"both need the same set, in a form that can be read more than once"
        )
    alpha = sum_max_logit / sum_residual_norm if sum_residual_norm else math.inf
    if not math.isfinite(alpha):
        raise FeatureError(
            f"ViM: alpha is not finite (sum of max logits {sum_max_logit:.6g} / sum of residual norms "
            f"{sum_residual_norm:.6g} over {n_train} training images)"
        )
    return alpha
