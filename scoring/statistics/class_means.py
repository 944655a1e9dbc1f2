"""Mean features of each class, by label, or of the images that the head gets right."""

from dataclasses import dataclass

import torch

from manifests.errors import FeatureError
from scoring.statistics.gather import UNKNOWN_CLASS, Measurement, Statistic, Training, TrainingBatch
from scoring.statistics.sums_by_class import SumsByClass


@dataclass(frozen=True, eq=False)
class ClassMeans:
    """Means by class.

    Attributes
    ----------
    counts : Tensor
        Images of each class, int64, (n_classes,), each at least 1.
    means : Tensor
        float64, (n_classes, n_features).
    """

    counts: torch.Tensor
    means: torch.Tensor

    @property
    def between(self) -> torch.Tensor:
        """Sum over images of (m_c - m)(m_c - m)^T, m the mean of all, float64, (n_features, n_features)."""
        weights = self.counts.double()[:, None]
        centred = self.means - (weights * self.means).sum(dim=0) / weights.sum()
        return (weights * centred).T @ centred


@dataclass(frozen=True)
class MeansByClass(Statistic):
    """`ClassMeans` by label.

    Attributes
    ----------
    unit : bool
        Of features divided by their norm.
    correct_only : bool
        Of images whose largest logit is that of their class.
    """

    unit: bool = False
    correct_only: bool = False

    def begin(self, training: Training) -> "ClassMeasurement":
        """Return a measurement of nothing yet."""
        return ClassMeasurement(self, training)


class ClassMeasurement(Measurement):
    """Float64 sums and counts by class."""

    def __init__(self, statistic: MeansByClass, training: Training) -> None:
        head = training.head
        self._statistic = statistic
        self._by_class = SumsByClass(head.n_classes, head.n_features, head.device)

    def add(self, batch: TrainingBatch) -> None:
        """Take in some images; raises FeatureError where one has no class."""
        classes = batch.class_index
        if (classes == UNKNOWN_CLASS).any():
            n_unknown = int((classes == UNKNOWN_CLASS).sum())
            raise FeatureError(
                f"needs the class of every training image; {n_unknown} of rows {batch.first_row} to "
                f"{batch.first_row + len(classes) - 1} have none (class_index is empty)"
            )
        outputs = batch.outputs
        features = outputs.unit_features if self._statistic.unit else outputs.features
        if self._statistic.correct_only:
            is_correct = outputs.predicted == classes
            classes, features = classes[is_correct], features[is_correct]
        self._by_class.add(classes, features)

    def result(self) -> ClassMeans:
        """Return counts and means; raises FeatureError where a class has no image."""
        counts, sums = self._by_class.counts, self._by_class.sums
        empty = (counts == 0).nonzero().flatten().tolist()
        if empty:
            which = "training image that the head gets right" if self._statistic.correct_only else "training image"
            raise FeatureError(
                f"needs every class; {len(empty)} of {len(counts)} have no {which}, class {empty[0]} among them"
            )
        return ClassMeans(counts, sums / counts[:, None])
