"""Results on a terminal, in the layout of the ViM paper's Table 2."""

from collections.abc import Sequence
from dataclasses import asdict
from statistics import fmean
from textwrap import TextWrapper
from typing import Any

from manifests.text_table import TERMINAL_COLUMNS, stacked
from scoring.contamination import ContaminationLimits
from scoring.figures import INTERVAL_WORDS, Figures, differences_data, figures_data, percent_with_interval
from scoring.methods.table import Method
from scoring.score import ScoreResult

_FPR95_IN = (
    "fpr95_in: share of OOD images let through where 95 % of ID images are kept, rounded down to whole images "
    "(FPR95 of the ViM paper)."
)
_FPR95_OUT = (
    "fpr95_out: share of ID images lost where 95 % of OOD images are caught, rounded up (FPR95 of OpenOOD)."
)


def results_table(result: ScoreResult) -> str:
    """Return methods as rows and OOD sets as columns, in percent, and below what the figures mean."""
    lines = _figures(result.figures, result.methods)
    if result.without_known_in is not None:
        counts = ", ".join(f"{n} of {name}" for name, n in result.n_known_in.items())
        lines += ["", f"Without images known to be in distribution ({counts}):", ""]
        lines += _figures(result.without_known_in, result.methods)
    for name, limits in result.limits.items():
        lines += ["", *_limits(name, limits)]
    if result.figures.differences:
        lines += ["", *_differences(result.figures, result.methods)]
    notes = [_FPR95_IN, _FPR95_OUT, "The two are never comparable. " + _counts(result)]
    if result.figures.intervals:
        notes.append(f"{INTERVAL_WORDS} All are in results.csv.")
    notes += [f"Left out: {name}: {reason}." for name, reason in result.refused.items()]
    notes += [f"Warning: {warning}." for warning in result.warnings]
    # A path or a name stays whole, to be copied.
    lay = TextWrapper(TERMINAL_COLUMNS, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return "\n".join([*lines, "", *(line for note in notes for line in lay.wrap(note))])


def results_data(result: ScoreResult) -> dict[str, Any]:
    """Return all figures, not those of the table alone, as JSON values; without what was not asked for."""
    data: dict[str, Any] = {"figures": figures_data(result.figures)}
    if result.without_known_in is not None:
        data |= {"n_known_in": result.n_known_in, "without_known_in": figures_data(result.without_known_in)}
    if result.limits:
        data["contamination_limits"] = {name: asdict(limits) for name, limits in result.limits.items()}
    if result.figures.differences:
        data |= {"baseline": result.figures.baseline, "differences": differences_data(result.figures)}
    return {**data, "fitted": result.fitted, "refused": result.refused, "warnings": result.warnings}


def _figures(figures: Figures, methods: Sequence[Method]) -> list[str]:
    lines = ["AUROC / fpr95_in, %", *_block(figures, methods, ("auroc", "fpr95_in"))]
    return [*lines, "", "fpr95_out, %", *_block(figures, methods, ("fpr95_out",))]


def _block(figures: Figures, methods: Sequence[Method], metrics: Sequence[str]) -> list[str]:
    has_average = len(figures.ood_sets) > 1
    rows = [["method", "source", *figures.ood_sets, *(["average"] if has_average else [])]]
    for method in methods:
        cells = [
            " / ".join(_percent(figures, method.name, name, metric) for metric in metrics)
            for name in figures.ood_sets
        ]
        if has_average:
            of_sets = [figures.metrics[method.name, name] for name in figures.ood_sets]
            means = [fmean(getattr(one, metric) for one in of_sets) for metric in metrics]
            cells.append(" / ".join(f"{100 * mean:.2f}" for mean in means))
        rows.append([method.title, method.family, *cells])
    return stacked(rows, n_words=2)


def _percent(figures: Figures, method: str, ood_set: str, metric: str) -> str:
    ends = figures.intervals.get((method, ood_set))
    return percent_with_interval(
        getattr(figures.metrics[method, ood_set], metric), None if ends is None else ends[metric]
    )


def _differences(figures: Figures, methods: Sequence[Method]) -> list[str]:
    """Return how much each method's AUROC is above the baseline's, with the interval of the difference."""
    rows = [["method", *figures.ood_sets]]
    for method in methods:
        if method.name == figures.baseline:
            continue
        differences = [figures.differences[method.name, name]["auroc"] for name in figures.ood_sets]
        rows.append(
            [method.title]
            + [f"{100 * one.difference:+.2f} [{100 * one.low:+.2f}, {100 * one.high:+.2f}]" for one in differences]
        )
    title = next(method.title for method in methods if method.name == figures.baseline)
    return [f"AUROC less that of {title}, percentage points, with 95 % interval", *stacked(rows)]


def _limits(ood_set: str, limits: ContaminationLimits) -> list[str]:
    """Return what no detector can pass on a set of which a share is really in distribution."""
    ends = [end for end in (limits.at_low, limits.at_high) if end is not None]

    def told(metric: str) -> str:
        value = f"{100 * getattr(limits.at_rate, metric):.2f}"
        between = sorted(100 * getattr(end, metric) for end in ends)
        return f"{value} [{between[0]:.2f}, {between[1]:.2f}]" if between else value

    return [
        f"{ood_set} holds images that are really in distribution: a detector perfect on the others has",
        f"  AUROC {told('auroc_ceiling')}, fpr95_in {told('fpr95_in_floor')}, "
        f"fpr95_out {told('fpr95_out_floor')};",
        "  better figures tell the sources of the sets apart",
    ]


def _counts(result: ScoreResult) -> str:
    fitted = ", ".join(f"{name} = {value:.4g}" for name, value in result.fitted.items())
    images = ", ".join(f"{name} {n_images}" for name, n_images in result.n_images.items())
    return f"Images: {images}." + (f" Fitted: {fitted}." if fitted else "")
