"""The course of a localizer's training: loss, IoU and precision after every epoch."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from curation.localize.history import EpochFigures
from curation.localize.metrics import PRECISION_AT
from manifests.plots.curves import CurvePanel, curves_figure
from manifests.plots.style import ON_PAPER

_PRECISIONS = (0.5, 0.7, 0.9)


def write_curves(history: Sequence[EpochFigures], path: Path, *, title: str) -> None:
    """Write a PNG of three plots side by side; a dotted line stands where the learning rate falls.

    Parameters
    ----------
    history : sequence of EpochFigures
        At least one.
    path : Path
        The file.
    title : str
        Above all three.
    """
    falls = [after.epoch for before, after in pairwise(history) if after.learning_rate < before.learning_rate]
    figures = [one.figures for one in history]
    iou = {"mean": [one.mean_iou for one in figures], "overall": [one.overall_iou for one in figures]}
    precision = {f"{at:g}": [one.precision_at[PRECISION_AT.index(at)] for one in figures] for at in _PRECISIONS}
    panels = (
        CurvePanel("loss", {"loss": [one.loss for one in history]}),
        CurvePanel("IoU, %", iou, scale="percent"),
        CurvePanel("IoU above, % of answers", precision, scale="percent"),
    )
    figure = curves_figure(
        [one.epoch for one in history],
        panels,
        title=f"{title} (dotted: the learning rate falls)" if falls else title,
        steps=falls,
    )
    ON_PAPER.write(figure, path)
