"""ASH-P: the energy of the largest features of each image, the others set to zero."""

from dataclasses import dataclass
from typing import Self

import torch

from scoring.heads import Head
from scoring.methods.activation_shaping import kept_features, number_kept
from scoring.methods.contract import Scorer
from scoring.methods.energy import free_energy
from scoring.outputs import Outputs
from scoring.statistics.gather import Statistic, Training


@dataclass(frozen=True)
class ASHP(Scorer):
    """Activation shaping that prunes.

    Attributes
    ----------
    n_kept : int
        Number k of largest features of an image that are kept.

    References
    ----------
    Djurisic, Bozanic, Ashok, Liu (2023), Extremely Simple Activation Shaping for Out-of-Distribution Detection;
    the authors' code: ``ash_p`` in ``ash.py`` of andrijazz/ash, whose default the quantile is.

    Notes
    -----
    Equal features at the threshold share the places left, see `kept_features`. The method is made for features
    after a ReLU: of others, as after a layer norm, the most negative are the first to go.
    """

    n_kept: int

    @classmethod
    def needs(cls, head: Head, *, quantile: float = 0.65) -> tuple[Statistic, ...]:
        """Return nothing; raises as `number_kept` does."""
        number_kept(head.n_features, quantile)
        return ()

    @classmethod
    def fit(cls, training: Training, *, quantile: float = 0.65) -> Self:
        """Return ASH-P that sets to zero what is below the `quantile` of an image's own features."""
        return cls(number_kept(training.head.n_features, quantile))

    def ood_score(self, outputs: Outputs) -> torch.Tensor:
        """Return -log sum_c exp(l_c) with l = W z + b, z the features but for those pruned; higher = more OOD."""
        pruned = kept_features(outputs, self.n_kept).mul_(outputs.features)
        return free_energy(outputs.head.logits(pruned))
