"""SCALE: the energy of features multiplied by how evenly they are spread."""

from dataclasses import dataclass
from typing import Self

import torch

from scoring.heads import Head
from scoring.methods.activation_shaping import energy_of_scaled, number_kept, sharpening
from scoring.methods.contract import Scorer
from scoring.outputs import Outputs
from scoring.statistics.gather import Statistic, Training


@dataclass(frozen=True)
class SCALE(Scorer):
    """The factor of ASH-S without its pruning.

    Attributes
    ----------
    n_kept : int
        Number k of largest features of an image that the factor weighs against all.

    References
    ----------
    Xu, Chen, Franchi, Yao (2024), Scaling for Training Time and Post-hoc Out-of-distribution Detection
    Enhancement; the authors' code: ``openood/networks/scale_net.py`` of kai422/SCALE, percentile 85 in its
    ``configs/postprocessors/scale.yml``.

    Notes
    -----
    The factor multiplies l - b in place of x, in float64: no product beyond that of the head. An image of zeros,
    NaN in the authors' code, has the energy of the bias. The factor is made for features after a ReLU; see
    `sharpening` for what negative ones do to it.
    """

    n_kept: int

    @classmethod
    def needs(cls, head: Head, *, quantile: float = 0.85) -> tuple[Statistic, ...]:
        """Return nothing; raises as `number_kept` does."""
        number_kept(head.n_features, quantile)
        return ()

    @classmethod
    def fit(cls, training: Training, *, quantile: float = 0.85) -> Self:
        """Return SCALE that weighs the features above the `quantile` of an image's own."""
        return cls(number_kept(training.head.n_features, quantile))

    def ood_score(self, outputs: Outputs) -> torch.Tensor:
        """Return -log sum_c exp(l_c) with l = exp(s1 / s2) W x + b; higher = more OOD.

        s1 is the sum of all features, s2 that of the k largest. Raises as `sharpening` does.
        """
        products = outputs.logits.double() - outputs.head.bias
        return energy_of_scaled(products, sharpening(outputs, self.n_kept), outputs.head.bias)
