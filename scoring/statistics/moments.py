"""Mean and second moment of the training features, about any point."""

from dataclasses import dataclass

import torch

from manifests.errors import FeatureError
from scoring.products import add_moment, moment_dtype, symmetric
from scoring.statistics.gather import Measurement, Statistic, Training, TrainingBatch


@dataclass(frozen=True, eq=False)
class Moments:
    """Count, mean and second moments.

    Attributes
    ----------
    n_images : int
        Number of training images.
    mean : Tensor
        float64, (n_features,).
    scatter : Tensor
        Sum of (x - mean)(x - mean)^T, float64, (n_features, n_features), symmetric.
    """

    n_images: int
    mean: torch.Tensor
    scatter: torch.Tensor

    @property
    def rounding_variance(self) -> float:
        """A variance that features have from being float32 alone: a few squares of half their last bit."""
        mean_square = self.scatter.diagonal() / self.n_images + self.mean.square()
        return 4 * torch.finfo(torch.float32).eps ** 2 * float(mean_square.max())

    def about(self, point: torch.Tensor) -> torch.Tensor:
        """Return the sum of (x - point)(x - point)^T, float64, (n_features, n_features)."""
        shift = self.mean - point
        return self.scatter + self.n_images * torch.outer(shift, shift)


@dataclass(frozen=True)
class SecondMoment(Statistic):
    """`Moments` of the features, or of features divided by their norm where `unit`."""

    unit: bool = False

    def begin(self, training: Training) -> "MomentMeasurement":
        """Return a measurement of nothing yet."""
        return MomentMeasurement(training.head.n_features, training.head.device, unit=self.unit)


class MomentMeasurement(Measurement):
    """Sums of x - pilot and of its products, where the pilot is the mean of the first images.

    Features may lie far from zero and close together; products of them as they are would keep little of how they
    differ. Sums over batches are float64; products within a batch as `moment_dtype` says.
    """

    def __init__(self, n_features: int, device: torch.device, *, unit: bool) -> None:
        self._unit = unit
        self._n_images = 0
        self._pilot: torch.Tensor | None = None
        self._sum = torch.zeros(n_features, dtype=torch.float64, device=device)
        self._lower = torch.zeros(n_features, n_features, dtype=torch.float64, device=device)

    def add(self, batch: TrainingBatch) -> None:
        """Take in some images."""
        features = batch.outputs.unit_features if self._unit else batch.outputs.features
        if self._pilot is None:
            self._pilot = features.mean(dim=0)
        dtype = moment_dtype(features.shape[1])
        shifted = features.to(dtype) - self._pilot.to(dtype)  # (n, n_features)
        add_moment(self._lower, shifted)
        self._sum += shifted.sum(dim=0)
        self._n_images += len(features)

    def result(self) -> Moments:
        """Return the moments about the mean; raises FeatureError where they are not finite."""
        assert self._pilot is not None  # a reading without an image is refused before
        shift = self._sum / self._n_images
        scatter = symmetric(self._lower) - self._n_images * torch.outer(shift, shift)
        if not torch.isfinite(scatter).all():
            raise FeatureError(
                "the mean of the training features is not finite in float32, which ends at 3.4e38: scale them down"
            )
        return Moments(self._n_images, self._pilot.double() + shift, scatter)
