"""The picture of a calibration: whether risk is a probability, and how well it tells `in` from `out`."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from curation.screening.calibration import Calibration
from curation.screening.operating_point import (
    OperatingPoint,
    auroc,
    expected_calibration_error,
    reliability,
    roc_curve,
)
from manifests.colours import BLUE, GREY, VERMILLION
from manifests.plots.style import ON_SCREEN


@dataclass(frozen=True)
class CalibrationLook:
    """Colours of the curve, of the operating point and of what stands back; size of the notes in points."""

    curve: str
    point: str
    quiet: str
    note_size: float


_PRINTED = CalibrationLook(BLUE, VERMILLION, GREY, note_size=6)


def write_calibration_plot(calibration: Calibration, path: Path) -> None:
    """Write reliability, and the ROC curve with the operating point, of the held-out half as a PNG."""
    with ON_SCREEN.figure_at(path, 7.2, 3.4) as figure:
        left, right = figure.subplots(1, 2)
        draw_reliability(left, calibration, _PRINTED)
        draw_roc(right, calibration, calibration.operating_point(), _PRINTED)
        n_in, n_out = len(calibration.held_out_in), len(calibration.held_out_out)
        figure.suptitle(f"Held-out half: {n_in:,} in, {n_out:,} out", fontsize=8)


def draw_reliability(axes: Axes, calibration: Calibration, look: CalibrationLook) -> None:
    """Draw the share that is in by risk, with intervals and the pictures of each bin."""
    bins = reliability(calibration.held_out_in, calibration.held_out_out)
    means = np.array([each.mean_risk for each in bins])
    shares = np.array([each.is_in.value for each in bins])
    bounds = np.array([(each.is_in.low, each.is_in.high) for each in bins]).T
    axes.plot([0, 1], [0, 1], color=look.quiet, linewidth=0.8, linestyle=":")
    axes.errorbar(
        means, shares, yerr=np.abs(bounds - shares), color=look.curve, marker="o", markersize=4, linewidth=1,
        capsize=2,
    )  # fmt: skip
    for each in bins:
        axes.annotate(
            f"{each.n_pictures:,}", (each.mean_risk, -0.02), fontsize=look.note_size, color=look.quiet,
            ha="center", va="top", annotation_clip=False,
        )  # fmt: skip
    axes.set(
        xlim=(-0.02, 1.02), ylim=(-0.07, 1.03), xlabel="risk (mean of the bin; grey: pictures in it)",
        ylabel="share that is in (95 % interval)",
        title=f"Reliability, ECE {expected_calibration_error(bins):.3f}",
    )  # fmt: skip


def draw_roc(axes: Axes, calibration: Calibration, point: OperatingPoint, look: CalibrationLook) -> None:
    """Draw what bounds on risk flag of `in` and lose of `out`, and the one that was chosen."""
    held_out = calibration.held_out_in, calibration.held_out_out
    lost, flagged = roc_curve(*held_out)
    # One picture lost is the least that can be seen; a logarithm shows the part that matters.
    least = 0.5 / len(calibration.held_out_out)
    axes.step(np.maximum(lost, least), flagged, where="post", color=look.curve, linewidth=1.2)
    axes.plot(max(point.lost.value, least), point.flagged.value, "o", color=look.point, markersize=5)
    axes.annotate(
        f"goal {point.max_lost:.2%}: risk > {point.drop_above:.3f}\n"
        f"{point.flagged.value:.1%} of in flagged, {point.lost.value:.2%} of out lost\n"
        f"(95 %: {point.lost.low:.2%} to {point.lost.high:.2%})",
        (0.97, 0.05), xycoords="axes fraction", ha="right", fontsize=look.note_size + 1,
        color=look.point,
    )  # fmt: skip
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set(
        xlim=(least, 1), ylim=(0, 1.03),
        xlabel=f"share of out lost (left edge: {least:.2%} or less)",
        ylabel="share of in flagged", title=f"ROC, AUROC {auroc(*held_out):.4f}",
    )  # fmt: skip
