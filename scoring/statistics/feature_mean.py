"""Mean of the training features, and how far images are from it."""

from dataclasses import dataclass

import torch

from manifests.errors import FeatureError
from scoring.outputs import Outputs
from scoring.statistics.gather import Measurement, Statistic, Training, TrainingBatch


@dataclass(frozen=True, eq=False)
class Centre:
    """Where the training features are on average.

    Attributes
    ----------
    mean : Tensor
        float64, (n_features,).
    """

    mean: torch.Tensor

    def distance(self, outputs: Outputs) -> torch.Tensor:
        """Return norm(x - mean), float64, (n,), each above zero; computed once for all methods that divide by it.

        Raises
        ------
        FeatureError
            An image lies on the mean.
        """
        return outputs.remembered(self, lambda: self._distance(outputs))

    def _distance(self, outputs: Outputs) -> torch.Tensor:
        centred = outputs.features - self.mean.float()  # (n, n_features)
        distance = torch.linalg.vector_norm(centred, dim=1, dtype=torch.float64)
        if n_at_mean := int((distance == 0).sum()):
            raise FeatureError(
                f"divides by the distance to the mean of the training features, and {n_at_mean} of {len(outputs)} "
                f"images lie on it; are the features of all images the same?"
            )
        return distance


@dataclass(frozen=True)
class FeatureMean(Statistic):
    """`Centre` of the features, or of features divided by their norm where `unit`; no second moment is needed."""

    unit: bool = False

    def begin(self, training: Training) -> "MeanMeasurement":
        """Return a measurement of nothing yet."""
        return MeanMeasurement(training.head.n_features, training.head.device, unit=self.unit)


class MeanMeasurement(Measurement):
    """Float64 sum and count."""

    def __init__(self, n_features: int, device: torch.device, *, unit: bool) -> None:
        self._unit = unit
        self._n_images = 0
        self._sum = torch.zeros(n_features, dtype=torch.float64, device=device)

    def add(self, batch: TrainingBatch) -> None:
        """Take in some images."""
        features = batch.outputs.unit_features if self._unit else batch.outputs.features
        self._sum += features.sum(dim=0, dtype=torch.float64)
        self._n_images += len(batch.outputs)

    def result(self) -> Centre:
        """Return the mean."""
        return Centre(self._sum / self._n_images)
