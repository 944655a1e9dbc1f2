"""fDBD: the distance to the decision boundaries, against the distance to the mean feature."""

from dataclasses import dataclass
from typing import Self

import torch

from manifests.errors import FeatureError
from scoring.heads import Head
from scoring.methods.contract import Scorer
from scoring.outputs import Outputs
from scoring.statistics.feature_mean import Centre, FeatureMean
from scoring.statistics.gather import Statistic, Training


@dataclass(frozen=True, eq=False)
class FDBD(Scorer):
    """Fast decision-boundary distance.

    Attributes
    ----------
    per_gap : Tensor
        What a gap of 1 between the logits of predicted class p and class c adds to the mean distance,
        1 / (norm(w_p - w_c) n_p) with n_p the number of boundaries of class p, and 0 where the two have none;
        float32, (n_classes, n_classes).
    centre : Centre
        Mean of the training features.

    References
    ----------
    Liu, Qin (2024), Fast Decision Boundary based Out-of-Distribution Detector; the authors' code:
    ``run_imagenet.py`` of litianliu/fDBD-OOD.

    Notes
    -----
    The authors sum over the classes; the mean is the same but for one factor. Two classes with equal weights, to
    within rounding, have no boundary between them and are left out of each other's mean, where the authors' code
    divides by zero. OpenOOD may divide by norm(x) instead, whichever does better on its validation sets.
    """

    per_gap: torch.Tensor
    centre: Centre

    @classmethod
    def needs(cls, head: Head) -> tuple[Statistic, ...]:
        """Return the mean of the features; raises FeatureError where the head has no decision boundary."""
        _mean_distance_per_gap(head.weight)
        return (FeatureMean(),)

    @classmethod
    def fit(cls, training: Training) -> Self:
        """Return fDBD.

        Raises
        ------
        FeatureError
            All classes have the same weights.
        """
        return cls(_mean_distance_per_gap(training.head.weight), training[FeatureMean()])

    def ood_score(self, outputs: Outputs) -> torch.Tensor:
        """Return -mean_c (|l_p - l_c| / norm(w_p - w_c)) / norm(x - mean), p the predicted class.

        Higher = more OOD; never above 0. Raises FeatureError where an image lies on the mean.
        """
        gaps = outputs.top_logit[:, None] - outputs.logits  # (n, n_classes)
        mean_distance = gaps.mul_(self.per_gap[outputs.predicted]).sum(dim=1).double()
        return -mean_distance / self.centre.distance(outputs)


def _mean_distance_per_gap(weight: torch.Tensor) -> torch.Tensor:
    """Return `FDBD.per_gap` of W; raises FeatureError where a class has no boundary."""
    rows = weight.double()
    norms = rows.square().sum(dim=1)
    squares = norms[:, None] + norms - 2 * rows @ rows.T  # norm(w_p - w_c)^2
    rounding = rows.shape[1] * torch.finfo(torch.float64).eps * norms.max()
    has_boundary = squares > rounding
    n_boundaries = has_boundary.sum(dim=1, keepdim=True)
    if not n_boundaries.all():
        raise FeatureError("the head has no decision boundary: all its classes have the same weights")
    return torch.where(has_boundary, squares.clamp(min=rounding).rsqrt() / n_boundaries, 0.0).float()
