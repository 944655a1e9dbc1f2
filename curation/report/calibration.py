"""The section of the calibration: whether risk is a probability, and what the chosen bound loses and finds."""

from dataclasses import dataclass
from pathlib import Path

from curation.screening.calibration import Calibration
from curation.screening.operating_point import (
    OperatingPoint,
    auroc,
    expected_calibration_error,
    least_out,
    reliability,
)
from curation.screening.plots.calibration import CalibrationLook, draw_reliability, draw_roc
from manifests.durable import sha256_of_file
from manifests.plots.page import BAD, IN_PAGE, QUIET, SERIES, WIDE_IN, svg_of
from manifests.proportions import Share
from manifests.report.parts import Chart, Section, Table, Text
from manifests.workspace import Workspace

KEY, TITLE = "calibration", "Calibration"

_LOOK = CalibrationLook(SERIES[0], BAD, QUIET, note_size=7)


@dataclass(frozen=True)
class UsedCalibration:
    """The calibration that the screen was made with, and the operating point that it took of it."""

    calibration: Calibration
    point: OperatingPoint


def used_calibration(workspace: Workspace) -> UsedCalibration | str | None:
    """Return what the last screen was calibrated by, None where it was not, or why that cannot be told any more.

    Raises
    ------
    InputError
        The file is as it was, and yet no calibration.
    """
    arguments, inputs = (workspace.read_record("screen", part) for part in ("arguments", "inputs"))
    if arguments and "calibration" not in arguments:
        return "the record of the last screen does not tell by what it was calibrated: run 'screen' again"
    name = arguments.get("calibration")
    if name is None:
        return None
    # What lies elsewhere is recorded as it was named.
    path = next((path for path in (workspace.root / name, Path(name)) if path.is_file()), None)
    if path is None:
        return f"{name}, with which the pictures were screened, is no longer there"
    if sha256_of_file(path) != inputs.get(name):
        return f"{name} has changed since the pictures were screened with it: run 'screen' again"
    calibration = Calibration.read(path)
    return UsedCalibration(calibration, calibration.operating_point(arguments.get("max_lost")))


def calibration_section(workspace: Workspace) -> Section:
    """Return the section: reliability, ROC curve and operating point, all of the held-out half."""
    used = used_calibration(workspace)
    default = workspace.root / "calibration.json"
    if isinstance(used, str):
        return Section(KEY, TITLE, missing=f"{used}.")
    if used is None:
        if not default.is_file():
            missing = (
                "Risk has not been calibrated, so it orders the queue and is no probability: `python cli.py "
                "calibrate --labelled FILE`, then `screen --calibration FILE`."
            )
            return Section(KEY, TITLE, missing=missing)
        calibration = Calibration.read(default)
        used = UsedCalibration(calibration, calibration.operating_point())
    return Section(KEY, TITLE, [_summary(used.calibration), _chart(used), _point_table(used.point)])


def _summary(calibration: Calibration) -> Text:
    n_in, n_out = len(calibration.held_out_in), len(calibration.held_out_out)
    return Text(
        f"Every figure here is taken on {n_in:,} in-distribution and {n_out:,} out-of-distribution pictures that "
        "people labelled and that chose neither the model nor the bound. They hold for pictures like these: the "
        "risk of another mix of in and out is no probability."
    )


def _chart(used: UsedCalibration) -> Chart:
    calibration = used.calibration
    held_out = calibration.held_out_in, calibration.held_out_out
    bins = reliability(*held_out)
    with IN_PAGE.applied():
        figure = IN_PAGE.new_figure(WIDE_IN, 3.6)
        left, right = figure.subplots(1, 2)
        draw_reliability(left, calibration, _LOOK)
        draw_roc(right, calibration, used.point, _LOOK)
        svg = svg_of(figure, "calibration")
    return Chart(
        svg,
        "Left: pictures in ten bins of risk. Where the share that is in equals the risk (dotted), risk is a "
        "probability; the numbers below count the pictures of a bin, and few make a long interval. Right: what "
        "each bound on risk would find of what is in, and lose of what is out; the dot is the bound chosen.",
        f"AUROC {auroc(*held_out):.4f}; expected calibration error {expected_calibration_error(bins):.3f}. "
        + "; ".join(
            f"risk {each.low:.1f} to {each.high:.1f}: {each.is_in.value:.1%} of {each.n_pictures:,} are in"
            for each in bins
        ),
    )


def _point_table(point: OperatingPoint) -> Table:
    rows = [
        ("goal: share of out that may be lost", f"{point.max_lost:.2%}", "", ""),
        ("out pictures that the bound was chosen on", f"{point.n_fit_out:,}", "", ""),
        ("dropped above a risk of", f"{point.drop_above:.4f}", "", ""),
        ("out that it would drop: the loss", *_cells(point.lost)),
        ("in that it would drop: the yield", *_cells(point.flagged)),
    ]
    caption = "The operating point, and what it does to the held-out half."
    if point.max_lost and point.n_fit_out < least_out(point.max_lost):
        caption += (
            f" That goal needs {least_out(point.max_lost):,} out pictures to choose on; so nothing is dropped."
        )
    return Table(("operating point", "value", "pictures", "95 % interval"), rows, caption, frozenset({1, 2, 3}))


def _cells(share: Share) -> tuple[str, str, str]:
    return f"{share.value:.2%}", f"{share.n_hits:,} of {share.n_all:,}", f"{share.low:.2%} to {share.high:.2%}"
