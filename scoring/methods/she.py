"""SHE: how far the feature goes along the mean of those that the head gets right."""

from dataclasses import dataclass
from typing import Self

import torch

from scoring.heads import Head
from scoring.methods.contract import Scorer
from scoring.outputs import Outputs
from scoring.products import power_of_two_above
from scoring.statistics.class_means import MeansByClass
from scoring.statistics.gather import Statistic, Training

_PATTERNS = MeansByClass(correct_only=True)


@dataclass(frozen=True, eq=False)
class SHE(Scorer):
    """Simplified Hopfield energy.

    Attributes
    ----------
    patterns : Tensor
        Stored pattern S_c of each class: mean feature of its training images that the head gets right, float32,
        (n_classes, n_features), over `unit`.
    unit : float
        A power of two, 1 but for very large or small features, whose products with each other float32 cannot hold.

    References
    ----------
    Zhang et al. (2023), Out-of-Distribution Detection based on In-Distribution Data Patterns Memorization with
    Modern Hopfield Energy; the authors' code: ``Utils/score_calculation.py`` of zjs975584714/SHE_ood_detection.

    Notes
    -----
    The authors' log sum exp runs over the one pattern of the predicted class, so it is the inner product itself.
    For ImageNet their code averages batch means, of which later ones weigh more; here, as in OpenOOD and
    pytorch-ood, every image weighs the same. The authors' perturbation of the input is left out, as in both.
    """

    patterns: torch.Tensor
    unit: float

    @classmethod
    def needs(cls, head: Head) -> tuple[Statistic, ...]:
        """Return the class means of images that the head gets right."""
        return (_PATTERNS,)

    @classmethod
    def fit(cls, training: Training) -> Self:
        """Return SHE with the stored patterns.

        Raises
        ------
        FeatureError
            A training image has no class, or the head gets none of a class right.
        """
        means = training[_PATTERNS].means
        unit = power_of_two_above(means)
        return cls((means / unit).float(), unit)

    def ood_score(self, outputs: Outputs) -> torch.Tensor:
        """Return -x . S_c, c the predicted class; higher = more OOD."""
        products = self.patterns[outputs.predicted].mul_(outputs.features)  # (n, n_features)
        return products.sum(dim=1).double() * -self.unit
