"""Sum of the largest logits of the training images."""

from dataclasses import dataclass

from scoring.statistics.gather import Measurement, Statistic, Training, TrainingBatch


@dataclass(frozen=True)
class TopLogitSum(Statistic):
    """Sum of max_c l_c over the training images, a float."""

    def begin(self, training: Training) -> "TopLogitMeasurement":
        """Return a measurement of nothing yet."""
        return TopLogitMeasurement()


class TopLogitMeasurement(Measurement):
    """A float64 sum."""

    def __init__(self) -> None:
        self._sum = 0.0

    def add(self, batch: TrainingBatch) -> None:
        """Take in some images."""
        self._sum += float(batch.outputs.top_logit.double().sum())

    def result(self) -> float:
        """Return the sum."""
        return self._sum
