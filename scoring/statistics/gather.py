"""Reading the training features: as often as the deepest statistic needs, twice at most for the methods here."""

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch

from manifests.errors import FeatureError
from manifests.stage_progress import ProgressBar
from scoring.feature_sets import FeatureBatch
from scoring.heads import Head
from scoring.outputs import Outputs

UNKNOWN_CLASS = -1


@dataclass(frozen=True, eq=False)
class TrainingBatch:
    """Some training images.

    Attributes
    ----------
    outputs : Outputs
        Their features and logits, on the device of the head.
    class_index : Tensor
        int64, (n,); `UNKNOWN_CLASS` where a row has none.
    first_row : int
        Number of training images before these.
    """

    outputs: Outputs
    class_index: torch.Tensor
    first_row: int


class Measurement(ABC):
    """A statistic that is being measured."""

    @abstractmethod
    def add(self, batch: TrainingBatch) -> None:
        """Take in some images."""

    @abstractmethod
    def result(self) -> Any:
        """Return the statistic of all images taken in; raises FeatureError where they do not give one."""


class Statistic(ABC):
    """The name of something measured on training features. Equal ones are measured once."""

    @property
    def depends_on(self) -> tuple["Statistic", ...]:
        """What has to be known before the reading begins."""
        return ()

    @abstractmethod
    def begin(self, training: "Training") -> Measurement:
        """Return a measurement of nothing yet."""


class Training:
    """Training features and what was measured on them.

    Parameters
    ----------
    head : Head
        On the device to compute on.
    train : iterable of FeatureBatch
        Read as often as `gather` needs, so a generator will not do.
    validation : Training, optional
        The same of the ID validation images that the mode ``openood`` fits some methods on.
    scored : Training, optional
        The same of the ID images that are scored, for what a published script takes from them.
    group_of : sequence of int, optional
        Group of each class, for the methods that add up groups of classes.
    """

    def __init__(
        self,
        head: Head,
        train: Iterable[FeatureBatch] = (),
        *,
        validation: "Training | None" = None,
        scored: "Training | None" = None,
        group_of: Sequence[int] | None = None,
    ) -> None:
        self.head = head
        self.train = train
        self.group_of = group_of
        self.n_reads = 0
        self._validation = validation
        self._scored = scored
        self._n_images: int | None = None
        self._known: dict[Hashable, Any] = {}

    @property
    def has_validation(self) -> bool:
        """Whether ID validation images were given."""
        return self._validation is not None

    @property
    def validation(self) -> "Training":
        """The ID validation images.

        Raises
        ------
        FeatureError
            None were given.
        """
        if self._validation is None:
            raise FeatureError(
                "this fit is on ID validation images, as OpenOOD's: name a set of them that is not scored "
                "(--fit-val NAME)"
            )
        return self._validation

    @property
    def scored(self) -> "Training":
        """The ID images that are scored.

        Raises
        ------
        FeatureError
            None were given.
        """
        if self._scored is None:
            raise FeatureError("this fit is on the ID images that are scored, and there are none here")
        return self._scored

    def gather(self, statistics: Iterable[Statistic]) -> Self:
        """Measure all `statistics` that are not known yet in as few readings as they allow, and return self.

        Raises
        ------
        FeatureError
            There is no training image, a reading gives other images than the one before, a class index is not
            one of the head's, or a statistic that is asked for cannot be had.
        """
        waiting = {statistic for one in statistics for statistic in _with_dependencies(one)} - self._known.keys()
        while waiting:
            ready = {one for one in waiting if all(other in self._known for other in one.depends_on)}
            self._measure(ready)
            waiting -= ready
        return self

    def __getitem__(self, statistic: Statistic) -> Any:
        """Return one statistic; it is measured now where it was not gathered before."""
        return self.derived(statistic, lambda: self.gather([statistic])._known[statistic])

    def derived(self, key: Hashable, compute: Callable[[], Any]) -> Any:
        """Return what `compute` made of known statistics when `key` was first asked for, or raise as it did."""
        if key not in self._known:
            self._known[key] = _outcome(compute)
        known = self._known[key]
        if isinstance(known, FeatureError):
            raise known
        return known

    def _measure(self, statistics: Iterable[Statistic]) -> None:
        """Read all images once. What fails for one statistic is kept as its value: other methods go on."""
        begun = {statistic: _outcome(functools.partial(statistic.begin, self)) for statistic in statistics}
        n_images = 0
        for batch in self._batches():
            for statistic, measurement in begun.items():
                if isinstance(measurement, Measurement):
                    begun[statistic] = _outcome(functools.partial(_added, measurement, batch))
            n_images = batch.first_row + len(batch.outputs)
        if not n_images:
            raise FeatureError("there is no training image to fit methods to")
        if self._n_images not in (None, n_images):
            raise FeatureError(
                f"reading {self.n_reads} of the training features gave {n_images} images, the one before "
                f"{self._n_images}: they must come in a form that can be read more than once"
            )
        self._n_images = n_images
        for statistic, measurement in begun.items():
            is_measured = isinstance(measurement, Measurement)
            self._known[statistic] = _outcome(measurement.result) if is_measured else measurement

    def _batches(self) -> Iterator[TrainingBatch]:
        self.n_reads += 1
        first_row = 0
        total = getattr(self.train, "n_images", None)
        with ProgressBar(total, f"fit, reading {self.n_reads}") as progress:
            for batch in self.train:
                outputs = batch.outputs(self.head)
                yield TrainingBatch(outputs, self._class_index(batch), first_row)
                first_row += len(outputs)
                progress.update(len(outputs))

    def _class_index(self, batch: FeatureBatch) -> torch.Tensor:
        classes = batch.class_index.fill_null(UNKNOWN_CLASS).to_numpy(zero_copy_only=False).astype(np.int64)
        beyond = (classes >= self.head.n_classes) | (classes < UNKNOWN_CLASS)
        if beyond.any():
            row = int(beyond.argmax())
            raise FeatureError(
                f"training image {batch.image_ids[row].as_py()}: class index {classes[row]} is not one of the "
                f"head's {self.head.n_classes} classes"
            )
        return torch.from_numpy(classes).to(self.head.device)


def _with_dependencies(statistic: Statistic) -> Iterator[Statistic]:
    yield statistic
    for other in statistic.depends_on:
        yield from _with_dependencies(other)


def _added(measurement: Measurement, batch: TrainingBatch) -> Measurement:
    measurement.add(batch)
    return measurement


def _outcome(compute: Callable[[], Any]) -> Any:
    """Return a statistic, or why it cannot be had."""
    try:
        return compute()
    except FeatureError as error:
        return error
