"""How well masks fit: figures of single answers and of all pixels together, in [0, 1], higher is better.

Two measures are called "mean IoU" in this field. `SegmentationFigures.mean_iou` is the mean over answers of the
object's IoU, as referring segmentation has it; `class_mean_iou` is the mean over the two classes, object and
background, of the IoU over all pixels of all answers, as semantic segmentation has it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

PRECISION_AT = (0.5, 0.6, 0.7, 0.8, 0.9)
"""IoU that an answer has to exceed, for `SegmentationFigures.precision_at`."""


@dataclass(frozen=True)
class MaskCounts:
    """Pixels of one answer.

    Attributes
    ----------
    n_both : int
        In the true mask and in the answer.
    n_missed : int
        In the true mask only.
    n_wrong : int
        In the answer only.
    n_neither : int
        In none.
    """

    n_both: int
    n_missed: int
    n_wrong: int
    n_neither: int

    @property
    def iou(self) -> float:
        """Intersection over union; of two empty masks 0, as the authors' code."""
        union = self.n_both + self.n_missed + self.n_wrong
        return self.n_both / union if union else 0.0


def count_pixels(truth: npt.NDArray[np.bool_], answer: npt.NDArray[np.bool_]) -> MaskCounts:
    """Return the counts of two masks of one shape."""
    n_both = int(np.count_nonzero(truth & answer))
    n_true, n_answered = int(np.count_nonzero(truth)), int(np.count_nonzero(answer))
    return MaskCounts(n_both, n_true - n_both, n_answered - n_both, truth.size - n_true - n_answered + n_both)


@dataclass(frozen=True)
class SegmentationFigures:
    """Figures of many answers.

    Attributes
    ----------
    n_answers : int
        Phrases asked.
    mean_iou : float
        Mean of the answers' IoU.
    overall_iou : float
        Intersections of all answers over unions of all answers: large objects weigh more.
    precision_at : tuple of float
        Share of the answers whose IoU is above each of `PRECISION_AT`.
    pixel_accuracy : float
        Share of all pixels that are right.
    mean_pixel_accuracy : float
        Mean of the shares of the object's and of the background's pixels that are right.
    class_mean_iou : float
        Mean of the IoU of object and background over all pixels.
    """

    n_answers: int
    mean_iou: float
    overall_iou: float
    precision_at: tuple[float, ...]
    pixel_accuracy: float
    mean_pixel_accuracy: float
    class_mean_iou: float

    @classmethod
    def from_row(cls, row: Mapping[str, float], n_answers: int) -> "SegmentationFigures":
        """Return figures from what `as_row` made of them; KeyError where one lacks, others are left alone."""
        return cls(
            n_answers=n_answers,
            mean_iou=row["mean_iou"],
            overall_iou=row["overall_iou"],
            precision_at=tuple(row[f"precision_at_{at:g}"] for at in PRECISION_AT),
            pixel_accuracy=row["pixel_accuracy"],
            mean_pixel_accuracy=row["mean_pixel_accuracy"],
            class_mean_iou=row["class_mean_iou"],
        )

    def as_row(self) -> dict[str, float]:
        """Return them by name, in the order to print."""
        precisions = {
            f"precision_at_{at:g}": share for at, share in zip(PRECISION_AT, self.precision_at, strict=True)
        }
        return {
            "mean_iou": self.mean_iou,
            "overall_iou": self.overall_iou,
            **precisions,
            "pixel_accuracy": self.pixel_accuracy,
            "mean_pixel_accuracy": self.mean_pixel_accuracy,
            "class_mean_iou": self.class_mean_iou,
        }


def segmentation_figures(answers: Iterable[MaskCounts]) -> SegmentationFigures:
    """Return the figures of some answers; those of no answers are all 0. A class without pixels is left out."""
    counts = list(answers)
    ious = [one.iou for one in counts]
    n_both, n_missed = sum(one.n_both for one in counts), sum(one.n_missed for one in counts)
    n_wrong, n_neither = sum(one.n_wrong for one in counts), sum(one.n_neither for one in counts)
    n_all = n_both + n_missed + n_wrong + n_neither
    return SegmentationFigures(
        n_answers=len(counts),
        mean_iou=_mean(ious),
        overall_iou=_share(n_both, n_both + n_missed + n_wrong),
        precision_at=tuple(_mean([float(iou > at) for iou in ious]) for at in PRECISION_AT),
        pixel_accuracy=_share(n_both + n_neither, n_all),
        mean_pixel_accuracy=_mean_share((n_both, n_both + n_missed), (n_neither, n_neither + n_wrong)),
        class_mean_iou=_mean_share((n_both, n_all - n_neither), (n_neither, n_all - n_both)),
    )


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _mean_share(*parts: tuple[int, int]) -> float:
    return _mean([part / whole for part, whole in parts if whole])


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0
