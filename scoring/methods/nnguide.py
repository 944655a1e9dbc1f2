"""NNGuide: the energy, guided by how near the nearest training images are."""

from dataclasses import dataclass
from typing import Self

import torch

from manifests.errors import FeatureError, InputError
from scoring.heads import Head
from scoring.largest import LargestOfRows
from scoring.methods.contract import Scorer
from scoring.outputs import Outputs
from scoring.products import product
from scoring.statistics.bank import GuideBank
from scoring.statistics.gather import Statistic, Training

_BANK_ROWS = 4096
"""Rows of the bank multiplied at a time, so that the products stay small."""


@dataclass(frozen=True, eq=False)
class NNGuide(Scorer):
    """Energy times the mean similarity to the k nearest of a bank.

    Attributes
    ----------
    bank : Tensor
        g_i = x_i / norm(x_i) log sum_c exp(l_c) of some training images, float32, (n_rows, n_features).
    k : int
        How many of them guide.

    References
    ----------
    Park, Jung, Teoh (2023), Nearest Neighbor Guidance for Out-of-Distribution Detection.

    Notes
    -----
    - The authors' code draws 1 % of the training images at random and has k = 10; here the 1 % are evenly spaced,
      so that it takes no seed.
    - OpenOOD takes the first images, whole batches of 200 until they are more than 1 %, and k = 100.
    """

    bank: torch.Tensor
    k: int

    @classmethod
    def needs(cls, head: Head, *, k: int = 10, share: float = 0.01, rows: str = "spaced") -> tuple[Statistic, ...]:
        """Return the bank; raises as `fit` for wrong options."""
        _check_k(k)
        return (GuideBank(share, rows),)

    @classmethod
    def fit(cls, training: Training, *, k: int = 10, share: float = 0.01, rows: str = "spaced") -> Self:
        """Return NNGuide.

        Parameters
        ----------
        training : Training
            Gives the bank.
        k : int
            How many of the bank guide, at least 1.
        share : float
            Share of the training images in the bank, above 0 and at most 1.
        rows : {"spaced", "first"}
            Evenly spaced ones, or the first, as OpenOOD.

        Raises
        ------
        InputError
            An option is none of these.
        FeatureError
            The bank is larger than a bank may be, or smaller than k.
        """
        _check_k(k)
        bank = training[GuideBank(share, rows)]
        if k > len(bank):
            raise FeatureError(
                f"k = {k} is more than the {len(bank)} images of the bank, which holds {share:g} of the training "
                f"images; give a larger share or a smaller k"
            )
        return cls(bank, k)

    def ood_score(self, outputs: Outputs) -> torch.Tensor:
        """Return -log sum_c exp(l_c) times the mean of the k largest g_i x / norm(x); higher = more OOD."""
        nearest = LargestOfRows(len(outputs), self.k, outputs.features.device)
        for rows in self.bank.split(_BANK_ROWS):
            nearest.add(product(outputs.unit_features, rows))
        return -outputs.log_sum_exp * nearest.values.double().mean(dim=1)


def _check_k(k: int) -> None:
    if k < 1:
        raise InputError(f"NNGuide: expected k of at least 1, found {k}")
