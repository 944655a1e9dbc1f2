"""Localizers put to phrases whose masks are known."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

from curation.localize.localizer import Localizer
from curation.localize.metrics import MaskCounts, SegmentationFigures, count_pixels, segmentation_figures
from curation.localize.referring_set import ReferringExample

LEAST_EVIDENCE = 0.5
"""From which evidence on a place counts as named; `Localizer` promises it."""

_TRIED = tuple(round(0.05 * step, 2) for step in range(1, 20))


@dataclass(frozen=True)
class Evaluation:
    """Answers at one or more thresholds.

    Attributes
    ----------
    answers : dict of float to list of MaskCounts
        By threshold, in the order of examples and phrases.
    """

    answers: dict[float, list[MaskCounts]]

    def figures(self, threshold: float = LEAST_EVIDENCE) -> SegmentationFigures:
        """Return the figures at a threshold."""
        return segmentation_figures(self.answers[threshold])

    def best_threshold(self) -> float:
        """Return the threshold of the largest mean IoU, the smallest of equals."""
        return max(sorted(self.answers), key=lambda threshold: self.figures(threshold).mean_iou)


def evaluate(
    localizer: Localizer,
    examples: Sequence[ReferringExample],
    *,
    n_phrases: int | None = None,
    thresholds: Sequence[float] = (LEAST_EVIDENCE,),
) -> Evaluation:
    """Return the answers of a localizer, each at the full size of its picture.

    Parameters
    ----------
    localizer : Localizer
        Asked phrase by phrase.
    examples : sequence of ReferringExample
        With their masks.
    n_phrases : int, optional
        Phrases asked of each example, its first ones; the authors ask one while training, all at last.
    thresholds : sequence of float
        Of the evidence.
    """
    answers: dict[float, list[MaskCounts]] = {threshold: [] for threshold in thresholds}
    for example in tqdm(examples, desc=f"evaluate {localizer.name}", unit="example", disable=None, leave=False):
        picture, mask = example.read()
        truth = np.array(mask) >= 128
        for evidence in localizer.evidence(picture, example.phrases[:n_phrases]):
            full = at_size(evidence, picture.width, picture.height)
            for threshold in thresholds:
                answers[threshold].append(count_pixels(truth, full >= threshold))
    return Evaluation(answers)


def fitted_threshold(localizer: Localizer, examples: Sequence[ReferringExample]) -> float:
    """Return the threshold that suits a localizer best on examples that it will not be judged by."""
    return evaluate(localizer, examples, n_phrases=1, thresholds=_TRIED).best_threshold()


def at_size(evidence: npt.NDArray[np.float32], width: int, height: int) -> npt.NDArray[np.float32]:
    """Return evidence at a picture's size, bilinear."""
    return np.array(Image.fromarray(evidence).resize((width, height), Image.Resampling.BILINEAR))
