"""DML+: the cosine of one network and the norm of another."""

import math
from dataclasses import dataclass
from typing import Self

import torch

from manifests.errors import InputError
from scoring.heads import Head
from scoring.methods.contract import Scorer
from scoring.methods.dml import CosinesAndNorms, balancing_scale, check_scale
from scoring.methods.max_cosine import WeightDirections
from scoring.outputs import Outputs
from scoring.statistics.gather import Statistic, Training

SCALE_SOURCES = ("train", "id_test")


@dataclass(frozen=True, eq=False)
class DMLPlus(Scorer):
    """Decoupled MaxLogit of two networks, MCF and MNC, each trained for its part (see `scoring.dml`).

    Attributes
    ----------
    directions : WeightDirections
        Of the first network's head.
    scale : float
        lambda, the weight of the cosine against the norm.
    is_of_scored_images : bool
        Whether lambda is of the ID images that are scored.

    References
    ----------
    Zhang and Xiang (2023), Decoupling MaxLogit for Out-of-Distribution Detection, section 4.3: DML+.

    Notes
    -----
    The authors' script divides cosine and norm each by its sum over the ID test images, which is a lambda of mean
    norm / mean cosine there; one of its two published copies counts the cosine three times (a `balance` of 3). By
    default the same ratio is taken over training images, so that no score depends on what else is scored.
    """

    directions: WeightDirections
    scale: float
    is_of_scored_images: bool

    @classmethod
    def needs(
        cls, head: Head, *, scale: float | None = None, scale_from: str = "train", balance: float = 1.0
    ) -> tuple[Statistic, ...]:
        """Return the sums that lambda is made of, where these are of training images; raises as `fit`."""
        _check_options(scale, scale_from, balance)
        return (CosinesAndNorms(second=True),) if scale is None and scale_from == "train" else ()

    @classmethod
    def fit(
        cls, training: Training, *, scale: float | None = None, scale_from: str = "train", balance: float = 1.0
    ) -> Self:
        """Return DML+.

        Parameters
        ----------
        training : Training
            Of the first network, with the norms of the second.
        scale : float, optional
            lambda, at least 0; by default `balance` x mean norm / mean max_c cos(x, w_c).
        scale_from : {"train", "id_test"}
            Whose means, where no `scale` is given: training images, or, as published, the ID images that are
            scored.
        balance : float
            How much more the cosine counts than the norm where no `scale` is given; above 0.

        Raises
        ------
        InputError
            An option has no possible value, or one is given that a `scale` leaves without effect.
        FeatureError
            That ratio is not positive and finite; there are no features of a second model.
        """
        _check_options(scale, scale_from, balance)
        is_of_scored = scale is None and scale_from == "id_test"
        if scale is None:
            source = training.scored if is_of_scored else training
            scale = balance * balancing_scale(*source[CosinesAndNorms(second=True)])
        return cls(WeightDirections.of(training), scale, is_of_scored)

    def ood_score(self, outputs: Outputs) -> torch.Tensor:
        """Return -(lambda max_c cos(x, w_c) + norm(x')), x' of the second network; higher = more OOD."""
        return -(self.scale * self.directions.max_cosine(outputs) + outputs.norm_of_second_model())

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader has to know: a lambda of the test images is no detector's."""
        if not self.is_of_scored_images:
            return ()
        return (
            "the lambda of DML+ is of the ID images that are scored, as published: a detector does not know "
            "which images of a test are in distribution",
        )


def _check_options(scale: float | None, scale_from: str, balance: float) -> None:
    check_scale("DML+", scale)
    if scale_from not in SCALE_SOURCES:
        raise InputError(f"DML+: expected scale_from to be {' or '.join(SCALE_SOURCES)}, found {scale_from!r}")
    if not 0 < balance < math.inf:
        raise InputError(f"DML+: expected a balance above 0, found {balance}")
    if scale is not None and (scale_from != "train" or balance != 1.0):
        raise InputError("DML+: with a scale (lambda), scale_from and balance have no effect: leave them out")
