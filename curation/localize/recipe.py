"""How a localizer is trained: the settings of the paper, and what may be changed in them."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from manifests.draws import drawn_number
from manifests.training_files import check_ranges


@dataclass(frozen=True)
class Recipe:
    """How to train; the defaults are the authors' settings.

    Attributes
    ----------
    n_epochs : int
        Passes over the examples.
    milestone : int
        Epochs at the full learning rate; a tenth of it afterwards.
    batch_size : int
        Examples of a step.
    learning_rate : float
        Adam's.
    bridger_factor : float
        Times the learning rate for the Bridger. The paper has 10 with a vision transformer, the authors' settings
        1.
    seed : int
        Of weights, order, phrases and dropout.
    """

    n_epochs: int = 50
    milestone: int = 35
    batch_size: int = 32
    learning_rate: float = 1e-4
    bridger_factor: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        ranges = {
            "n_epochs": (self.n_epochs >= 1, "at least 1"),
            "milestone": (self.milestone >= 0, "at least 0"),
            "batch_size": (self.batch_size >= 1, "at least 1"),
            "learning_rate": (0 < self.learning_rate < math.inf, "a number above 0"),
            "bridger_factor": (0 < self.bridger_factor < math.inf, "a number above 0"),
            "seed": (self.seed >= 0, "at least 0"),
        }
        check_ranges("train-localizer", self, ranges)

    def learning_rate_at(self, epoch: int) -> float:
        """Return the rate of an epoch, counted from 0."""
        return self.learning_rate * (0.1 if epoch >= self.milestone else 1.0)

    def seed_of(self, purpose: str, epoch: int = 0) -> int:
        """Return the seed of one purpose in one epoch, so that no draw depends on what was drawn before it."""
        return drawn_number(purpose, str(epoch), self.seed)

    def record(self) -> dict[str, Any]:
        """Return the settings, as JSON values, that a training that goes on must keep: all but how long it is."""
        return {name: value for name, value in asdict(self).items() if name != "n_epochs"}
