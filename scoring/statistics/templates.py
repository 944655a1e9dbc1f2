"""Mean softmax of the images predicted as each class: the templates of KL-Matching."""

from dataclasses import dataclass

import torch

from scoring.statistics.gather import Measurement, Statistic, Training, TrainingBatch
from scoring.statistics.sums_by_class import SumsByClass


@dataclass(frozen=True, eq=False)
class Templates:
    """Mean softmax by predicted class.

    Attributes
    ----------
    counts : Tensor
        Images predicted as each class, int64, (n_classes,); may be zero.
    sums : Tensor
        Sum of their softmax, float64, (n_classes, n_classes).
    """

    counts: torch.Tensor
    sums: torch.Tensor


@dataclass(frozen=True)
class SoftmaxByPrediction(Statistic):
    """`Templates` of the training images."""

    def begin(self, training: Training) -> "TemplateMeasurement":
        """Return a measurement of nothing yet."""
        return TemplateMeasurement(training.head.n_classes, training.head.device)


class TemplateMeasurement(Measurement):
    """Float64 sums and counts by predicted class."""

    def __init__(self, n_classes: int, device: torch.device) -> None:
        self._by_class = SumsByClass(n_classes, n_classes, device)

    def add(self, batch: TrainingBatch) -> None:
        """Take in some images."""
        self._by_class.add(batch.outputs.predicted, batch.outputs.probabilities)

    def result(self) -> Templates:
        """Return counts and sums."""
        return Templates(self._by_class.counts, self._by_class.sums)
