"""MSP: the probability of the most probable class."""

from dataclasses import dataclass

import torch

from scoring.methods.contract import Scorer


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

    def ood_score(self, features: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """Return 1 - max_c p_c with p = softmax(logits): 0 (certain) to 1 - 1 / n_classes; higher = more OOD."""
        top, predicted = logits.max(dim=1, keepdim=True)  # (n, 1)
        ratios = (logits.double() - top.double()).exp()  # (n, n_classes), 1 at the predicted class
        others = ratios.scatter(1, predicted, 0.0).sum(dim=1)
        return others / (1 + others)
