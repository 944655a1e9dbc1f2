"""What every method promises: a frozen object that exists only fitted."""

from abc import ABC, abstractmethod
from typing import Any, Self

import torch

from scoring.heads import Head
from scoring.outputs import Outputs
from scoring.statistics.gather import Statistic, Training


class Scorer(ABC):
    """A fitted method. Its options are the keyword arguments of `needs` and `fit`, the same for both."""

    @classmethod
    def needs(cls, head: Head, *args: Any, **options: Any) -> tuple[Statistic, ...]:
        """Return what `fit` will ask of the training images, so that all methods are fitted in common readings.

        Raises
        ------
        FeatureError
            The method cannot be fitted to this head with these options, whatever the training images are.
        """
        return ()

    @classmethod
    @abstractmethod
    def fit(cls, training: Training, *args: Any, **options: Any) -> Self:
        """Return the method fitted to the head and, where it needs any, statistics of `training`.

        Raises
        ------
        FeatureError
            It cannot be fitted; the message is the reason.
        """

    @abstractmethod
    def ood_score(self, outputs: Outputs) -> torch.Tensor:
        """Return one score an image, higher = more OOD: float64, (n,). Each depends on its image alone."""

    @property
    def prefers_rows(self) -> int:
        """How many images to score in one call, where every call is dear whatever their number; 0 elsewhere."""
        return 0

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader of the scores has to know of the fit, one sentence each; mostly nothing."""
        return ()
