"""MSP: the probability of the most probable class."""

from dataclasses import dataclass
from typing import Self

import torch

from scoring.methods.contract import Scorer
from scoring.outputs import Outputs
from scoring.statistics.gather import Training


@dataclass(frozen=True)
class MSP(Scorer):
    """Maximum softmax probability.

    References
    ----------
    Hendrycks and Gimpel (2017), A Baseline for Detecting Misclassified and Out-of-Distribution Examples in Neural
    Networks, section 2.

    Notes
    -----
    The authors' code takes the maximum of a float32 softmax, which is exactly 1 for every confident image and so
    cannot rank them. Here the probability of *the other* classes is summed, in float64: the same number, one minus
    it, without the cancellation.
    """

    @classmethod
    def fit(cls, training: Training) -> Self:
        """Return MSP, which is fitted to nothing."""
        return cls()

    def ood_score(self, outputs: Outputs) -> torch.Tensor:
        """Return 1 - max_c p_c with p = softmax(logits): 0 (certain) to 1 - 1 / n_classes; higher = more OOD."""
        return outputs.other_probability
