"""NCI: how near the centred feature points to the weights of its class, and how large the feature is."""

import math
from dataclasses import dataclass
from typing import Self

import torch

from manifests.errors import InputError
from scoring.heads import Head
from scoring.methods.contract import Scorer
from scoring.outputs import Outputs
from scoring.statistics.feature_mean import Centre, FeatureMean
from scoring.statistics.gather import Statistic, Training


@dataclass(frozen=True, eq=False)
class NCI(Scorer):
    """Neural-collapse inspired detector.

    Attributes
    ----------
    logits_of_mean : Tensor
        W m + b for the mean m of the training features, float64, (n_classes,).
    centre : Centre
        That mean.
    alpha : float
        Weight of the L1 norm of the feature.

    References
    ----------
    Liu, Qin (2025), Detecting Out-of-Distribution through the Lens of Neural Collapse; the authors' code is
    OpenOOD's ``nci_postprocessor.py``, with alpha = 0.0001 in its ``configs/postprocessors/nci.yml``.

    Notes
    -----
    (x - m) . w_c = l_c - (W m + b)_c: no product beyond that of the head. OpenOOD chooses alpha from 0.0001 to
    0.1 by validation sets with OOD images in them; nothing is chosen here. pytorch-ood has alpha = 0 by default.
    """

    logits_of_mean: torch.Tensor
    centre: Centre
    alpha: float

    @classmethod
    def needs(cls, head: Head, *, alpha: float = 0.0001) -> tuple[Statistic, ...]:
        """Return the mean of the features; raises InputError where `alpha` is negative or not finite."""
        if not 0 <= alpha < math.inf:
            raise InputError(f"alpha: expected a number of at least 0, found {alpha}")
        return (FeatureMean(),)

    @classmethod
    def fit(cls, training: Training, *, alpha: float = 0.0001) -> Self:
        """Return NCI with weight `alpha` of the L1 norm."""
        head, centre = training.head, training[FeatureMean()]
        return cls(head.weight.double() @ centre.mean + head.bias, centre, alpha)

    def ood_score(self, outputs: Outputs) -> torch.Tensor:
        """Return -(x - m) . w_c / norm(x - m) - alpha norm_1(x), c the predicted class; higher = more OOD.

        Raises FeatureError where an image lies on the mean.
        """
        along_weight = outputs.top_logit.double() - self.logits_of_mean[outputs.predicted]
        return -along_weight / self.centre.distance(outputs) - self.alpha * outputs.feature_sum
