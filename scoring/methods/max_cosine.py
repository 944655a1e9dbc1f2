"""MaxCosine: the cosine between a feature and the nearest of the head's weights."""

from dataclasses import dataclass
from typing import Self

import torch

from scoring.methods.contract import Scorer
from scoring.outputs import Outputs
from scoring.products import product
from scoring.statistics.gather import Training


@dataclass(frozen=True, eq=False)
class WeightDirections:
    """The head's weights divided by their norms.

    Attributes
    ----------
    unit_weight : Tensor
        float32, (n_classes, n_features); a weight vector of zeros stays one.
    """

    unit_weight: torch.Tensor

    @classmethod
    def of(cls, training: Training) -> Self:
        """Return those of the head, the same object for all methods that share them."""
        # A weight vector is divided by its norm just as a feature is.
        return training.derived((cls,), lambda: cls(Outputs(training.head, training.head.weight).unit_features))

    def max_cosine(self, outputs: Outputs) -> torch.Tensor:
        """Return max_c cos(x, w_c), float64, (n,); computed once for all methods that share it."""
        return outputs.remembered(
            self, lambda: product(outputs.unit_features, self.unit_weight).amax(dim=1).double()
        )


@dataclass(frozen=True, eq=False)
class MaxCosine(Scorer):
    """Largest cosine similarity to a weight vector.

    Attributes
    ----------
    directions : WeightDirections
        Of the head.

    References
    ----------
    Zhang and Xiang (2023), Decoupling MaxLogit for Out-of-Distribution Detection: the first part of Eq. 6.

    Notes
    -----
    A product of its own, as large as the head's. Out of the logits, (l_c - b_c) / (norm(x) norm(w_c)), it would
    cost nothing, but where the bias is larger than the rest of a logit that difference is little but rounding.
    A feature or a weight vector of zeros has no direction; its cosine counts as 0.
    """

    directions: WeightDirections

    @classmethod
    def fit(cls, training: Training) -> Self:
        """Return MaxCosine, which takes the head alone."""
        return cls(WeightDirections.of(training))

    def ood_score(self, outputs: Outputs) -> torch.Tensor:
        """Return -max_c cos(x, w_c), -1 to 1; higher = more OOD."""
        return -self.directions.max_cosine(outputs)
