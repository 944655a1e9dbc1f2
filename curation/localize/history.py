"""What each epoch of a localizer's training came to."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from curation.localize.metrics import PRECISION_AT, SegmentationFigures


@dataclass(frozen=True)
class EpochFigures:
    """What an epoch gave.

    Attributes
    ----------
    epoch : int
        Counted from 1.
    learning_rate, loss : float
        Adam's rate, and the mean loss of the steps.
    figures : SegmentationFigures
        On the validation examples, the first phrase of each.
    """

    epoch: int
    learning_rate: float
    loss: float
    figures: SegmentationFigures

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "EpochFigures":
        """Return an epoch from what JSON made of `dataclasses.asdict`; TypeError or KeyError where it is none."""
        figures = SegmentationFigures(
            **{**record["figures"], "precision_at": tuple(record["figures"]["precision_at"])}
        )
        return cls(**{**record, "figures": figures})

    def row(self) -> dict[str, float]:
        """Return it by column, in the order of the table of epochs."""
        return {
            "epoch": self.epoch,
            "learning_rate": self.learning_rate,
            "loss": self.loss,
            **self.figures.as_row(),
        }

    def told(self, n_epochs: int, images_per_s: float) -> str:
        """Return the epoch in one line."""
        parts = [
            f"loss {self.loss:.4f}",
            f"mean IoU {self.figures.mean_iou:.3f}",
            f"overall IoU {self.figures.overall_iou:.3f}",
            f"precision at {PRECISION_AT[0]:g} {self.figures.precision_at[0]:.3f}",
            f"{images_per_s:,.0f} images/s",
        ]
        return f"epoch {self.epoch}/{n_epochs}: {', '.join(parts)}"
