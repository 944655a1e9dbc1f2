"""Localizers put to phrases whose masks are known."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from curation.localize.localizer import Localizer
from curation.localize.metrics import SegmentationFigures, count_pixels, segmentation_figures
from curation.localize.referring_set import ReferringExample
from manifests.stage_progress import ProgressBar

LEAST_EVIDENCE = 0.5
"""From which evidence on a place counts as named; `Localizer` promises it."""

_N_TRIED = 200
"""Thresholds that `fitted_threshold` tries: one a half percent of the pixels."""


def evaluate(
    localizer: Localizer,
    examples: Sequence[ReferringExample],
    *,
    n_phrases: int | None = None,
    threshold: float = LEAST_EVIDENCE,
) -> SegmentationFigures:
    """Return the figures of a localizer's answers, each at the full size of its picture.

    Parameters
    ----------
    localizer : Localizer
        Asked phrase by phrase.
    examples : sequence of ReferringExample
        With their masks.
    n_phrases : int, optional
        Phrases asked of each example, its first ones; the authors ask one while training, all at last.
    threshold : float
        From which evidence on a place counts as named.
    """
    answers = _answers(localizer, examples, n_phrases)
    return segmentation_figures(count_pixels(truth, evidence >= threshold) for truth, evidence in answers)


def fitted_threshold(localizer: Localizer, examples: Sequence[ReferringExample]) -> float:
    """Return the threshold of the largest mean IoU on examples that the localizer will not be judged by.

    Tried are the quantiles of its own evidence on the first phrase of each example, whatever its range; of equals
    the smallest is taken. The evidence is kept in memory: a few hundred examples are enough, and all it is for.
    """
    answers = list(_answers(localizer, examples, n_phrases=1))
    values = np.concatenate([evidence.ravel() for _, evidence in answers])
    # Evidence that occurs, of the type in which it is compared: nothing is rounded to another side.
    tried = np.unique(np.quantile(values, np.linspace(0, 1, _N_TRIED + 1), method="inverted_cdf"))
    mean_ious = [
        segmentation_figures(count_pixels(truth, evidence >= at) for truth, evidence in answers).mean_iou
        for at in tried
    ]
    return float(tried[int(np.argmax(mean_ious))])


def _answers(
    localizer: Localizer, examples: Sequence[ReferringExample], n_phrases: int | None
) -> Iterator[tuple[npt.NDArray[np.bool_], npt.NDArray[np.float32]]]:
    """Yield the true mask and the evidence of each phrase, both of the picture's size."""
    with ProgressBar(len(examples), f"evaluate {localizer.name}", unit="example") as bar:
        for example in examples:
            picture, mask = example.read()
            truth = np.array(mask) >= 128
            for evidence in localizer.evidence(picture, example.phrases[:n_phrases]):
                yield truth, at_size(evidence, picture.width, picture.height)
            bar.update()


def at_size(evidence: npt.NDArray[np.float32], width: int, height: int) -> npt.NDArray[np.float32]:
    """Return evidence at a picture's size, bilinear."""
    return np.array(Image.fromarray(evidence).resize((width, height), Image.Resampling.BILINEAR))
