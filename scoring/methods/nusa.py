"""NuSA: the share of a feature that the head can see."""

from dataclasses import dataclass
from typing import Self

import torch

from manifests.errors import FeatureError
from scoring.heads import Head
from scoring.methods.contract import Scorer
from scoring.methods.principal_space import origin_of, rank_tolerance
from scoring.outputs import Outputs
from scoring.products import product, row_norms
from scoring.statistics.gather import Statistic, Training


@dataclass(frozen=True, eq=False)
class NuSA(Scorer):
    """Null-space analysis of the head's weights.

    Attributes
    ----------
    origin : Tensor
        o = -pinv(W) b, float32, (n_features,).
    column_space : Tensor
        Orthonormal basis of what W does not lose, float32, (rank, n_features).

    References
    ----------
    Wang, Li, Feng, Zhang (2022), ViM: Out-Of-Distribution with Virtual-logit Matching, Eq. 2, after Cook, Zare,
    Gader (2020), Outlier Detection through Null Space Analysis of Neural Networks.
    """

    origin: torch.Tensor
    column_space: torch.Tensor

    @classmethod
    def needs(cls, head: Head) -> tuple[Statistic, ...]:
        """Return nothing; raises FeatureError where W has no null space."""
        _check_has_null_space(head)
        return ()

    @classmethod
    def fit(cls, training: Training) -> Self:
        """Return NuSA on the weights of the head.

        Raises
        ------
        FeatureError
            There are no more features than classes: nothing is lost, and every score would be the same.
        """
        head = training.head
        _check_has_null_space(head)
        _, singular, directions = torch.linalg.svd(head.weight.double(), full_matrices=False)
        is_kept = singular > rank_tolerance(head) * singular[0]
        return cls(origin_of(head).float(), directions[is_kept].float())

    def ood_score(self, outputs: Outputs) -> torch.Tensor:
        """Return -norm(x - o projected on the column space of W^T) / norm(x - o), -1 to 0; higher = more OOD."""
        shifted = outputs.features - self.origin
        seen = row_norms(product(shifted, self.column_space))
        norm = row_norms(shifted)
        # At the origin itself nothing is seen and nothing is lost.
        return -seen / norm.clamp(min=torch.finfo(torch.float64).tiny)


def _check_has_null_space(head: Head) -> None:
    if head.n_features <= head.n_classes:
        raise FeatureError(
            f"needs more features than classes, found {head.n_features} features and {head.n_classes} classes: "
            f"the null space of the head is empty, so that the score is 1 for every image"
        )
