"""The stage `plot`: a folder of results in, pictures out."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from matplotlib.figure import Figure

from manifests.errors import InputError
from manifests.plots.style import FORMATS
from manifests.stage_progress import ProgressBar
from manifests.work_plan import WorkPlan
from scoring.plots.comparison import ComparedMethod, comparison_figure
from scoring.plots.histograms import histogram_figure
from scoring.plots.results import Results, read_results
from scoring.plots.roc import RocCurve, roc_figure, roc_points
from scoring.plots.style import N_LINES, PRINTED, PlotLook
from scoring.score import RESULTS_FILE_NAME, SCORES_FILE_NAME

NamedPlot: TypeAlias = tuple[str, Callable[[], Figure]]
"""A file name without suffix, and what draws it."""


@dataclass(frozen=True)
class PlotResult:
    """What `plot_results` made.

    Attributes
    ----------
    paths : tuple of Path
        The files written: histograms, ROC curves, comparisons.
    left_out : tuple of str
        What was not drawn and why, one sentence each.
    """

    paths: tuple[Path, ...]
    left_out: tuple[str, ...]


def plot_results(
    scores_dir: Path,
    out_dir: Path,
    *,
    val: str = "val",
    methods: Sequence[str] | None = None,
    against: str | None = None,
    file_format: str = "png",
) -> PlotResult:
    """Return the plots of a folder of results, after writing them.

    One ``histogram-<method>`` a method, one ``roc-<set>`` an OOD set, and ``auroc-<set>-against-<set>`` for each
    OOD set against one of them. Each file is written in one step; equal input gives equal bytes.

    Parameters
    ----------
    scores_dir : Path
        Holds ``scores.parquet`` and ``results.csv``.
    out_dir : Path
        Where the pictures go.
    val : str
        Name of the ID set; all others are OOD.
    methods : sequence of str, optional
        Names of the methods to draw; all by default.
    against : str, optional
        The OOD set whose AUROC is on the horizontal axis, in the paper ImageNet-O; the first by default.
    file_format : {"png", "svg", "pdf"}
        PNG has 300 dots an inch.

    Raises
    ------
    InputError
        The format or the set `against` is not known; otherwise as `read_results`.
    StageMissingError, TableError
        As `read_results`.
    """
    pictures, left_out = _to_draw(scores_dir, out_dir, val, methods, against=against, file_format=file_format)
    with ProgressBar(len(pictures), "plot", unit="picture") as progress:
        for path, draw in pictures.items():
            PRINTED.style.write(draw(), path)
            progress.update()
    return PlotResult(tuple(pictures), left_out)


def plan_plots(
    scores_dir: Path,
    out_dir: Path,
    *,
    val: str = "val",
    methods: Sequence[str] | None = None,
    against: str | None = None,
    file_format: str = "png",
) -> WorkPlan:
    """Return what `plot_results` would write; parameters and errors as there."""
    pictures, left_out = _to_draw(scores_dir, out_dir, val, methods, against=against, file_format=file_format)
    return WorkPlan(
        len(pictures), 0, unit="pictures",
        reads=[str(scores_dir / name) for name in (SCORES_FILE_NAME, RESULTS_FILE_NAME)],
        writes=[str(path) for path in pictures],
        notes=[f"left out: {reason}" for reason in left_out],
    )  # fmt: skip


def _to_draw(
    scores_dir: Path,
    out_dir: Path,
    val: str,
    methods: Sequence[str] | None,
    *,
    against: str | None,
    file_format: str,
) -> tuple[Mapping[Path, Callable[[], Figure]], tuple[str, ...]]:
    """Return by path what draws each picture, and what is left out; parameters and errors as `plot_results`."""
    if file_format not in FORMATS:
        raise InputError(f"format of the plots: expected one of {', '.join(FORMATS)}, found {file_format!r}")
    results = read_results(scores_dir, val=val, methods=methods)
    x_set = against or results.ood_sets[0]
    if x_set not in results.ood_sets:
        raise InputError(f"plot against {x_set}: expected an OOD set, one of {', '.join(results.ood_sets)}")
    named = [*_histograms(results), *_roc_curves(results), *_comparisons(results, x_set)]
    left_out = []
    if len(results.ood_sets) == 1:
        left_out.append(f"AUROC of one OOD set against another: {x_set} is the only OOD set of {scores_dir}")
    return {out_dir / f"{name}.{file_format}": draw for name, draw in named}, tuple(left_out)


def roc_figure_of(
    results: Results, ood_set: str, *, n_methods: int | None = None, look: PlotLook = PRINTED
) -> Figure:
    """Return the ROC curves of all methods, or of the `n_methods` best on average, on one OOD set."""
    methods = results.best_first[:n_methods]
    coloured = [method.title for method in methods[:N_LINES]]
    curves = [
        RocCurve(
            method.title,
            *roc_points(results.in_scores[method.name], results.out_scores[ood_set][method.name]),
            results.aurocs[method.name, ood_set].value,
        )
        for method in methods
    ]
    has_grey = len(methods) > len(coloured)
    return roc_figure(
        curves,
        coloured=coloured,
        in_name=results.val,
        out_name=ood_set,
        note=f"in colour: the {len(coloured)} best\non average over the OOD sets" if has_grey else "",
        look=look,
    )


def comparison_figure_of(results: Results, *, x_set: str, y_set: str, look: PlotLook = PRINTED) -> Figure:
    """Return the AUROC of all methods on `y_set` against that on `x_set`."""
    compared = [
        ComparedMethod(
            method.title,
            method.family,
            x=results.aurocs[method.name, x_set],
            y=results.aurocs[method.name, y_set],
        )
        for method in results.methods
    ]
    return comparison_figure(compared, x_set=x_set, y_set=y_set, look=look)


def _histograms(results: Results) -> Iterator[NamedPlot]:
    for method in results.methods:
        yield (
            f"histogram-{method.name}",
            functools.partial(
                histogram_figure,
                results.in_scores[method.name],
                {ood_set: scores[method.name] for ood_set, scores in results.out_scores.items()},
                title=method.title,
                val=results.val,
                aurocs={ood_set: results.aurocs[method.name, ood_set].value for ood_set in results.ood_sets},
            ),
        )


def _roc_curves(results: Results) -> Iterator[NamedPlot]:
    for ood_set in results.ood_sets:
        yield f"roc-{ood_set}", functools.partial(roc_figure_of, results, ood_set)


def _comparisons(results: Results, x_set: str) -> Iterator[NamedPlot]:
    for y_set in results.ood_sets:
        if y_set != x_set:
            yield (
                f"auroc-{y_set}-against-{x_set}",
                functools.partial(comparison_figure_of, results, x_set=x_set, y_set=y_set),
            )
