"""Scores as charts: one set against another, what ViM combines, ROC curves, histograms."""

from collections.abc import Iterator
from itertools import islice

from manifests.plots.page import GROUND, IN_PAGE, INK, LINE, QUIET, SERIES, WIDE_IN, svg_of
from manifests.plots.style import TEXT_WIDTH_IN
from manifests.report.parts import Chart, Part, Text
from scoring.methods.table import Method
from scoring.plots.combination import BOTH, FEATURE, LOGIT, N_POINTS, combination_figure, has_combination
from scoring.plots.histogram_grid import histogram_grid
from scoring.plots.plot import comparison_figure_of, roc_figure_of
from scoring.plots.results import Results
from scoring.plots.style import N_LINES, PlotLook
from scoring.report.scored_model import ScoredModel

_BLUE, _VERMILLION, _GREEN, _ORANGE, _PURPLE, _SKY_BLUE, _GREY = SERIES

PAGE = PlotLook(
    ink=INK,
    quiet=QUIET,
    faint=LINE,
    ground=GROUND,
    blue=_BLUE,
    vermillion=_VERMILLION,
    green=_GREEN,
    orange=_ORANGE,
    purple=_PURPLE,
    sky_blue=_SKY_BLUE,
    in_fill=(_BLUE, 0.35),
    let_through_fill=(_VERMILLION, 0.4),
    # What fills the width of a printed page fills that of a chart.
    scale=WIDE_IN / TEXT_WIDTH_IN,
    has_halo=False,
    style=IN_PAGE,
)

_N_NAMED = 3
"""Methods that the description of a chart names."""


def chart_parts(model: ScoredModel) -> list[Part]:
    """Return the charts of one model, each followed by nothing but its caption."""
    return [*_comparisons(model), *_combination(model), *_roc_curves(model), *_histograms(model)]


def _comparisons(model: ScoredModel) -> Iterator[Part]:
    results = model.results
    y_set, *others = results.ood_sets
    if not others:
        yield Text(f"AUROC on one OOD set against another: {y_set} is the only OOD set.", is_quiet=True)
    for x_set in others:
        figure = comparison_figure_of(results, x_set=x_set, y_set=y_set, look=PAGE)
        best = [
            f"{method.title} {_percent(results, method, x_set)} and {_percent(results, method, y_set)}"
            for method in results.best_first[:_N_NAMED]
        ]
        yield Chart(
            svg_of(figure, f"{model.key}-comparison-{x_set}"),
            caption=f"AUROC on {y_set} against that on {x_set}, as in Figure 1 of the ViM paper. A method far "
            "from the diagonal is good at one kind of OOD images and not at the other.",
            description=f"AUROC of {len(results.methods)} methods on {x_set} and {y_set}; the best on average: "
            f"{'; '.join(best)}.",
        )


def _combination(model: ScoredModel) -> Iterator[Part]:
    results = model.results
    if not has_combination(results):
        yield Text("Residual against Energy: needs the scores of both.", is_quiet=True)
        return
    figure = combination_figure(results, alpha=model.record.fitted.get("alpha"), look=PAGE)
    sizes = {name: len(ids) for name, ids in results.image_ids.items()}
    drawn = ", ".join(f"{min(n, N_POINTS):,} of {n:,} of {name}" for name, n in sizes.items())
    yield Chart(
        svg_of(figure, f"{model.key}-combination"),
        caption="What ViM combines: the logits alone see what lies to the right, the features alone what lies "
        "above. ViM adds the two, so that its threshold is a slanted line. What is right of a line, or above it, "
        f"is called OOD. Each dot is an image, drawn by a fixed seed: {drawn}.",
        description="Scatter plot of Residual against Energy with the thresholds that keep 95 % of ID images. "
        + _let_through_words(results),
    )


def _let_through_words(results: Results) -> str:
    """Return the fpr95_in of the methods whose thresholds are drawn, in words."""
    drawn = [method for method in results.methods if method.name in (LOGIT, FEATURE, BOTH)]
    of_sets = [
        f"{ood_set}: "
        + ", ".join(
            f"{method.title} {100 * results.metrics[method.name, ood_set]['fpr95_in'].value:.2f} %"
            for method in drawn
        )
        for ood_set in results.ood_sets
    ]
    return f"OOD images let through (fpr95_in): {'; '.join(of_sets)}."


def _roc_curves(model: ScoredModel) -> Iterator[Part]:
    results = model.results
    for ood_set in results.ood_sets:
        figure = roc_figure_of(results, ood_set, n_methods=N_LINES, look=PAGE)
        n_methods = len(results.methods)
        which = f"the {N_LINES} of {n_methods} methods best on average" if n_methods > N_LINES else "all methods"
        yield Chart(
            svg_of(figure, f"{model.key}-roc-{ood_set}"),
            caption=f"ROC curves on {ood_set}: {which}. Where a curve crosses the dashed line, 95 % of ID images "
            "are kept: the share of OOD images let through there is fpr95_in.",
            description="ROC curves; " + _auroc_words(results, ood_set),
        )


def _histograms(model: ScoredModel) -> Iterator[Part]:
    for ood_set in model.results.ood_sets:
        yield Chart(
            svg_of(histogram_grid(model.results, ood_set, look=PAGE), f"{model.key}-histograms-{ood_set}"),
            caption=f"Scores of ID images and of {ood_set} by every method, with its AUROC in percent, best "
            "first; to the right more OOD. Every method has an axis of its own. Scores far out of the bulk are "
            "counted below it; bins far higher than the others are cut.",
            description="Histograms of the scores of each method; " + _auroc_words(model.results, ood_set),
        )


def _auroc_words(results: Results, ood_set: str) -> str:
    """Return the best methods on a set in words."""
    ordered = sorted(results.methods, key=lambda method: -results.aurocs[method.name, ood_set].value)
    best = islice(ordered, _N_NAMED)
    return "best AUROC: " + ", ".join(f"{one.title} {_percent(results, one, ood_set)}" for one in best) + "."


def _percent(results: Results, method: Method, ood_set: str) -> str:
    return f"{100 * results.aurocs[method.name, ood_set].value:.2f} %"
