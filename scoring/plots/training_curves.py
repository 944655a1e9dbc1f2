"""The course of a training: loss, accuracy, WFC and CFC after every epoch."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from manifests.colours import BLUE, GREY, VERMILLION
from scoring.plots.style import TEXT_WIDTH_IN, house_style, in_percent, new_figure

_HEIGHT_IN = 1.9


class Epoch(Protocol):
    """What is drawn of an epoch; see `scoring.dml.history.EpochFigures`."""

    @property
    def epoch(self) -> int:
        """From 1."""
        ...

    @property
    def center_weight(self) -> float:
        """Of the center loss in this epoch."""
        ...

    @property
    def loss(self) -> float:
        """Mean over the training pictures."""
        ...

    @property
    def train_accuracy(self) -> float:
        """A fraction."""
        ...

    @property
    def val_accuracy(self) -> float:
        """A fraction."""
        ...

    @property
    def wfc(self) -> float | None:
        """Within-class feature convergence."""
        ...

    @property
    def cfc(self) -> float | None:
        """Class-mean feature convergence."""
        ...


def training_figure(history: Sequence[Epoch], *, title: str) -> Figure:
    """Return four plots side by side over the epochs: loss, accuracy, WFC on a logarithmic scale, and CFC.

    Parameters
    ----------
    history : sequence of Epoch
        At least one. A vertical line stands where the weight of the center loss changes. The accuracy on training
        pictures is of the epoch as it went, with crops and dropout, so that it may be below that of others.
    title : str
        Above all four.
    """
    epochs = [one.epoch for one in history]
    steps = [after.epoch for before, after in pairwise(history) if after.center_weight != before.center_weight]
    with house_style():
        figure = new_figure(TEXT_WIDTH_IN, _HEIGHT_IN)
        figure.suptitle(f"{title} (dotted: the center loss counts more from there on)" if steps else title)
        loss_axes, accuracy_axes, wfc_axes, cfc_axes = figure.subplots(1, 4)
        _curve(loss_axes, epochs, [one.loss for one in history])
        loss_axes.set_title("loss")
        _curve(accuracy_axes, epochs, [one.train_accuracy for one in history], label="train")
        _curve(accuracy_axes, epochs, [one.val_accuracy for one in history], colour=VERMILLION, label="val")
        accuracy_axes.set_title("accuracy, %")
        accuracy_axes.set_ylim(0, 1)
        in_percent(accuracy_axes.yaxis)
        accuracy_axes.legend(loc="lower right", handlelength=1.2)
        for axes, name, values in (
            (wfc_axes, "WFC", [one.wfc for one in history]),
            (cfc_axes, "CFC", [one.cfc for one in history]),
        ):
            _curve(axes, epochs, values)
            axes.set_title(f"{name} (0 at its best)")
        if any(one.wfc for one in history):
            wfc_axes.set_yscale("log")
            wfc_axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            wfc_axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            wfc_axes.yaxis.set_minor_formatter(NullFormatter())
        for axes in (loss_axes, accuracy_axes, wfc_axes, cfc_axes):
            axes.set_xlabel("epoch")
            axes.set_xlim(min(epochs) - 0.5, max(epochs) + 0.5)
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            for step in steps:
                axes.axvline(step - 0.5, color=GREY, linestyle=":", linewidth=0.6)
    return figure


def _curve(
    axes: Axes, epochs: Sequence[int], values: Sequence[float | None], *, colour: str = BLUE, label: str = ""
) -> None:
    known = [(epoch, value) for epoch, value in zip(epochs, values, strict=True) if value is not None]
    # A single epoch is a point, which a line would not show.
    marker = "." if len(known) == 1 else ""
    axes.plot(
        [epoch for epoch, _ in known], [value for _, value in known], color=colour, marker=marker, label=label
    )
