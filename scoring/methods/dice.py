"""DICE: the energy of a head of which only the weights that contribute most are kept."""

import math
from dataclasses import dataclass
from typing import Self

import torch

from manifests.errors import FeatureError, InputError
from scoring.heads import Head
from scoring.methods.contract import Scorer
from scoring.methods.energy import free_energy
from scoring.outputs import Outputs
from scoring.statistics.feature_mean import FeatureMean
from scoring.statistics.gather import Statistic, Training


@dataclass(frozen=True, eq=False)
class DICE(Scorer):
    """Energy after directed sparsification.

    Attributes
    ----------
    sparse_head : Head
        The head with zeros for the weights that were dropped.

    References
    ----------
    Sun, Li (2022), DICE: Leveraging Sparsification for Out-of-Distribution Detection; the authors' code:
    ``models/route.py`` of deeplearning-wisc/dice, ``--p 70`` for ImageNet in its ``demo-imagenet.sh``.

    Notes
    -----
    The authors' code multiplies every image with every weight and sums, n C N numbers; here it is one product
    with the sparse head. As there, a weight is kept whose contribution is above the quantile of all C N of them,
    so that of equal ones at the quantile none is.
    """

    sparse_head: Head

    @classmethod
    def needs(cls, head: Head, *, sparsity: float = 0.70) -> tuple[Statistic, ...]:
        """Return the mean of the features; raises InputError where `sparsity` is not in [0, 1)."""
        if not 0 <= sparsity < 1:
            raise InputError(f"sparsity: expected 0 <= sparsity < 1, found {sparsity}")
        return (FeatureMean(),)

    @classmethod
    def fit(cls, training: Training, *, sparsity: float = 0.70) -> Self:
        """Return DICE without the share `sparsity` of weights W_ci that contribute least, W_ci mean(x_i).

        Raises
        ------
        FeatureError
            No weight is left.
        """
        head = training.head
        contributions = (head.weight * training[FeatureMean()].mean).flatten()  # float64, (C N,)
        # Above the interpolated quantile is above the smaller of the two ranks that it lies between.
        rank = math.floor((len(contributions) - 1) * sparsity)
        threshold = contributions.kthvalue(rank + 1).values
        is_kept = (contributions > threshold).view_as(head.weight)
        if not is_kept.any():
            raise FeatureError(
                f"no weight is left: none contributes more than {float(threshold):.4g}, the {sparsity} quantile "
                f"of the contributions W_ci mean(x_i)"
            )
        return cls(Head(head.weight * is_kept, head.bias))

    def ood_score(self, outputs: Outputs) -> torch.Tensor:
        """Return -log sum_c exp(l_c) with l of the sparse head; higher = more OOD."""
        return free_energy(self.sparse_head.logits(outputs.features))
