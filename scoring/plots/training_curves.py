"""The course of a training: loss, accuracy, WFC and CFC after every epoch."""

from collections.abc import Sequence
from itertools import pairwise

from matplotlib.figure import Figure

from manifests.plots.curves import CurvePanel, curves_figure
from scoring.dml.history import EpochFigures


def training_figure(history: Sequence[EpochFigures], *, title: str) -> Figure:
    """Return four plots side by side over the epochs: loss, accuracy, WFC on a logarithmic scale, and CFC.

    Parameters
    ----------
    history : sequence of EpochFigures
        At least one. A vertical line stands where the weight of the center loss changes. The accuracy on training
        pictures is of the epoch as it went, with crops and dropout, so that it may be below that of others.
    title : str
        Above all four.
    """
    steps = [after.epoch for before, after in pairwise(history) if after.center_weight != before.center_weight]
    accuracy = {
        "train": [one.train_accuracy for one in history],
        "val": [one.val_accuracy for one in history],
    }
    panels = (
        CurvePanel("loss", {"loss": [one.loss for one in history]}),
        CurvePanel("accuracy, %", accuracy, scale="percent"),
        CurvePanel("WFC (0 at its best)", {"WFC": [one.wfc for one in history]}, scale="log"),
        CurvePanel("CFC (0 at its best)", {"CFC": [one.cfc for one in history]}),
    )
    return curves_figure(
        [one.epoch for one in history],
        panels,
        title=f"{title} (dotted: the center loss counts more from there on)" if steps else title,
        steps=steps,
    )
