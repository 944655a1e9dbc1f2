"""KNN: the distance to the k-th nearest training image, of all of them, however many."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import torch

from manifests.errors import FeatureError, InputError
from scoring.feature_sets import FeatureBatch
from scoring.heads import Head
from scoring.largest import LargestOfRows
from scoring.methods.contract import Scorer
from scoring.outputs import Outputs
from scoring.products import product, row_norms
from scoring.statistics.bank import ImageCount, check_share, rows_in_share, spaced_rows
from scoring.statistics.feature_mean import FeatureMean
from scoring.statistics.gather import Statistic, Training

_BLOCK_ROWS = 2048
"""Scored images multiplied with a chunk of training images at a time: the products stay near the processor."""

_PREFERRED_ROWS = 16384
"""Scored images for which one reading of the training images costs a few percent of the products with them."""


@dataclass(frozen=True, eq=False)
class KNN(Scorer):
    """Distance to the k-th nearest neighbour among the training images, features divided by their norm.

    Attributes
    ----------
    train : iterable of FeatureBatch
        The training images, read once more for every call of `ood_score`.
    n_images : int
        How many they were when it was fitted.
    centre : Tensor
        Mean of their features divided by their norm, float32, (n_features,).
    k : int
        Which neighbour.
    share : float
        Share of the training images among which neighbours are looked for, evenly spaced: alpha.

    References
    ----------
    Sun, Ming, Zhu, Li (2022), Out-of-Distribution Detection with Deep Nearest Neighbors, the section Deep Nearest
    Neighbor for OOD detection.

    Notes
    -----
    - k = 50 of all training images, as OpenOOD. The authors' code for ImageNet-1K has k = 1000.
    - The authors draw a share at random; here its rows are evenly spaced.
    - The distance, where the authors' code returns its square: the same order.
    - Exact search. 1.28 million training images of 2,048 features would fill 10 GB, so none are kept: each call of
      `ood_score` reads them and keeps the k nearest so far. Let it have many images in a call (`prefers_rows`).
    - Distances come from float32 products. Of unit vectors that all lie close together these would be little but
      rounding, so vectors are taken from the centre of the training images: the error of a distance d is some
      2e-7 r^2 / d, where r <= 1 is how far they are from it. An image that is among the training images itself
      comes out 1e-3 from it rather than 0.
    """

    train: Iterable[FeatureBatch]
    n_images: int
    centre: torch.Tensor
    k: int
    share: float

    @classmethod
    def needs(cls, head: Head, *, k: int = 50, share: float = 1.0) -> tuple[Statistic, ...]:
        """Return the number of images and their mean direction; raises as `fit` for wrong options."""
        _check(k, share)
        return (ImageCount(), FeatureMean(unit=True))

    @classmethod
    def fit(cls, training: Training, *, k: int = 50, share: float = 1.0) -> Self:
        """Return KNN.

        Parameters
        ----------
        training : Training
            Its images have to be there as long as the method scores.
        k : int
            Which neighbour, at least 1.
        share : float
            Share of the training images to look among, above 0 and at most 1.

        Raises
        ------
        InputError
            `k` or `share` is none of these.
        FeatureError
            There are fewer than k images to look among.
        """
        _check(k, share)
        n_images = training[ImageCount()]
        n_neighbours = rows_in_share(n_images, share)
        if k > n_neighbours:
            raise FeatureError(
                f"k = {k} is more than the {n_neighbours} images among which neighbours are looked for (share "
                f"{share:g} of {n_images} training images)"
            )
        return cls(training.train, n_images, training[FeatureMean(unit=True)].mean.float(), k, share)

    def ood_score(self, outputs: Outputs) -> torch.Tensor:
        """Return the distance of x / norm(x) from the k-th nearest, 0 to 2; higher = more OOD.

        Raises
        ------
        FeatureError
            The training images are not as many as when it was fitted.
        """
        queries, squared_norm = self._from_centre(outputs)
        # u v - norm(v)^2 / 2, largest for the nearest v, is one product with a column more.
        queries[:, -1] = 1
        blocks = queries.split(_BLOCK_ROWS)
        nearest = [LargestOfRows(len(block), self.k, block.device) for block in blocks]
        n_read = 0
        for batch in self.train:
            rows = self._neighbours(outputs.head, batch.features, n_read)
            for block, kept in zip(blocks, nearest, strict=True):
                kept.add(product(block, rows))
            n_read += len(batch.features)
        if n_read != self.n_images:
            raise FeatureError(
                f"training images changed: {self.n_images} when it was fitted, {n_read} now; they must stay and "
                f"come in a form that can be read more than once"
            )
        closeness = torch.cat([kept.least for kept in nearest]).double()
        return (squared_norm - 2 * closeness).clamp(min=0).sqrt()

    @property
    def prefers_rows(self) -> int:
        """Every call reads all training images."""
        return _PREFERRED_ROWS

    def _neighbours(self, head: Head, features: torch.Tensor, first_row: int) -> torch.Tensor:
        chosen = features[spaced_rows(first_row, len(features), self.share)]
        rows, squared_norm = self._from_centre(Outputs(head, chosen.to(head.device)))
        rows[:, -1] = -squared_norm / 2
        return rows

    def _from_centre(self, outputs: Outputs) -> tuple[torch.Tensor, torch.Tensor]:
        """Return x / norm(x) - centre with a column more, to be filled, and its squared norm, float64 (n,)."""
        rows = torch.empty(len(outputs), len(self.centre) + 1, device=self.centre.device)
        centred = torch.sub(outputs.unit_features, self.centre, out=rows[:, :-1])
        return rows, row_norms(centred).square()


def _check(k: int, share: float) -> None:
    if k < 1:
        raise InputError(f"KNN: expected k of at least 1, found {k}")
    check_share(share, "KNN")
