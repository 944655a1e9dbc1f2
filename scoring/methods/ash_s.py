"""ASH-S: the energy of the largest features of each image, multiplied by what was lost with the others."""

from dataclasses import dataclass
from typing import Self

import torch

from scoring.heads import Head
from scoring.methods.activation_shaping import energy_of_scaled, kept_features, number_kept, sharpening
from scoring.methods.contract import Scorer
from scoring.outputs import Outputs
from scoring.products import product
from scoring.statistics.gather import Statistic, Training


@dataclass(frozen=True)
class ASHS(Scorer):
    """Activation shaping that prunes and sharpens.

    Attributes
    ----------
    n_kept : int
        Number k of largest features of an image that are kept.

    References
    ----------
    Djurisic, Bozanic, Ashok, Liu (2023), Extremely Simple Activation Shaping for Out-of-Distribution Detection;
    the authors' code: ``ash_s`` in ``ash.py`` of andrijazz/ash, ``ash_s@90`` in its
    ``config/imagenet_config.yml``.

    Notes
    -----
    Equal features at the threshold share the places left, see `kept_features`. An image of zeros, NaN in the
    authors' code, has the energy of the bias. The factor is made for features after a ReLU; see `sharpening` for
    what negative ones do to it. It multiplies W z, in float64, in place of z.
    """

    n_kept: int

    @classmethod
    def needs(cls, head: Head, *, quantile: float = 0.90) -> tuple[Statistic, ...]:
        """Return nothing; raises as `number_kept` does."""
        number_kept(head.n_features, quantile)
        return ()

    @classmethod
    def fit(cls, training: Training, *, quantile: float = 0.90) -> Self:
        """Return ASH-S that sets to zero what is below the `quantile` of an image's own features."""
        return cls(number_kept(training.head.n_features, quantile))

    def ood_score(self, outputs: Outputs) -> torch.Tensor:
        """Return -log sum_c exp(l_c) with l = exp(s1 / s2) W z + b; higher = more OOD.

        z are the features but for those pruned, s1 and s2 the sums of the features before and after. Raises as
        `sharpening` does.
        """
        factor = sharpening(outputs, self.n_kept)
        pruned = kept_features(outputs, self.n_kept).mul_(outputs.features)
        return energy_of_scaled(product(pruned, outputs.head.weight), factor, outputs.head.bias)
