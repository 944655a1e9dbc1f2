"""The figures of every method on every OOD set, with their intervals, and the file that holds them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from manifests.errors import InputError
from scoring.bootstrap import MetricDraws, PairedDifference, bootstrap, draw_resamples, interval, paired_difference
from scoring.evaluate import ScoresOfSet
from scoring.metrics import METRIC_NAMES, Metrics, measure

Interval = tuple[float, float]

FiguresData: TypeAlias = dict[str, dict[str, dict[str, dict[str, float]]]]
"""A figure and its interval by method, OOD set and metric, as JSON has them."""

INTERVAL_WORDS = (
    "\N{PLUS-MINUS SIGN} is half the width of the 95 % bootstrap interval; where that would pass 0 or 100 %, its "
    "two ends stand in brackets."
)
"""How `percent_with_interval` is read."""


@dataclass(frozen=True)
class Figures:
    """What was measured of all methods.

    Attributes
    ----------
    methods, ood_sets : tuple of str
        In the order of the tables.
    metrics : mapping of (method, OOD set) to Metrics
        Fractions.
    intervals : mapping of (method, OOD set) to mapping of metric to (low, high)
        95 % bootstrap intervals; empty where no draws were asked for.
    differences : mapping of (method, OOD set) to mapping of metric to PairedDifference
        Method less baseline; empty without a baseline.
    baseline : str, optional
        What the others are compared with.
    """

    methods: tuple[str, ...]
    ood_sets: tuple[str, ...]
    metrics: Mapping[tuple[str, str], Metrics]
    intervals: Mapping[tuple[str, str], Mapping[str, Interval]] = field(default_factory=dict)
    differences: Mapping[tuple[str, str], Mapping[str, PairedDifference]] = field(default_factory=dict)
    baseline: str | None = None


def percent_with_interval(value: float, ends: Interval | None = None) -> str:
    """Return a fraction in percent and, where its interval is given, half the width of that.

    Where this would pass 0 or 100 % as it is printed, the interval lies to one side of the figure, and its ends
    are given instead.
    """
    shown = f"{100 * value:.2f}"
    if ends is None:
        return shown
    low, high = ends
    half_width = f"{50 * (high - low):.1f}"
    if float(half_width) <= min(float(shown), 100 - float(shown)):
        return f"{shown} \N{PLUS-MINUS SIGN}{half_width}"
    return f"{shown} [{100 * low:.2f}, {100 * high:.2f}]"


def figures_of(
    in_scores: ScoresOfSet,
    out_scores: Mapping[str, ScoresOfSet],
    *,
    n_draws: int = 0,
    seed: int = 0,
    baseline: str | None = None,
) -> Figures:
    """Return the figures of all methods.

    Parameters
    ----------
    in_scores : dict of method to array
        Scores of the ID images, (n_in,), higher = more OOD; every method in one order of images.
    out_scores : dict of OOD set to such a dict
        (n_out,).
    n_draws : int
        Bootstrap draws; 0 for no intervals.
    seed : int
        Of the draws.
    baseline : str, optional
        Method that the others are compared with, image by image.

    Raises
    ------
    InputError
        The baseline is not among the methods, or is to be compared without draws.
    FeatureError
        As `scoring.metrics.measure`.
    """
    methods = tuple(in_scores)
    if baseline is not None and (baseline not in methods or not n_draws):
        raise InputError(
            f"baseline: expected one of the methods scored ({', '.join(methods)}) and at least one bootstrap "
            f"draw, found {baseline!r} and {n_draws} draws"
        )
    if not n_draws:
        metrics = {
            (method, name): measure(in_scores[method], scores[method])
            for method in methods
            for name, scores in out_scores.items()
        }
        return Figures(methods, tuple(out_scores), metrics)
    n_in = len(next(iter(in_scores.values())))
    n_out = {name: len(next(iter(scores.values()))) for name, scores in out_scores.items()}
    resamples = draw_resamples(n_in, n_out, n_draws=n_draws, seed=seed)
    draws = {
        (method, name): drawn
        for method in methods
        for name, drawn in bootstrap(
            in_scores[method], {one: scores[method] for one, scores in out_scores.items()}, resamples
        ).items()
    }
    return Figures(
        methods,
        tuple(out_scores),
        {key: drawn.measured for key, drawn in draws.items()},
        {
            key: {metric: interval(getattr(drawn, metric)) for metric in METRIC_NAMES}
            for key, drawn in draws.items()
        },
        _differences(draws, baseline) if baseline else {},
        baseline,
    )


def results_csv(figures: Figures) -> str:
    """Return one line a method and set: fractions at full precision, then the ends of their intervals."""
    rows = []
    for (method, ood_set), metrics in figures.metrics.items():
        row: dict[str, object] = {"method": method, "set": ood_set, **asdict(metrics)}
        for metric, (low, high) in figures.intervals.get((method, ood_set), {}).items():
            row |= {f"{metric}_low": low, f"{metric}_high": high}
        rows.append(row)
    return pd.DataFrame(rows).to_csv(index=False, lineterminator="\n")


def figures_data(figures: Figures) -> FiguresData:
    """Return figures as JSON values by method, OOD set and metric: fractions, with the ends of their intervals."""
    found: FiguresData = {}
    for (method, ood_set), metrics in figures.metrics.items():
        of_set = {metric: {"value": value} for metric, value in asdict(metrics).items()}
        for metric, (low, high) in figures.intervals.get((method, ood_set), {}).items():
            of_set[metric] |= {"low": low, "high": high}
        found.setdefault(method, {})[ood_set] = of_set
    return found


def differences_data(figures: Figures) -> FiguresData:
    """Return by how much methods exceed the baseline as JSON values, by method, OOD set and metric."""
    found: FiguresData = {}
    for (method, ood_set), differences in figures.differences.items():
        found.setdefault(method, {})[ood_set] = {metric: asdict(one) for metric, one in differences.items()}
    return found


def differences_csv(figures: Figures) -> str:
    """Return one line a method, set and metric: method less baseline, interval, lost signs."""
    rows = [
        {"method": method, "baseline": figures.baseline, "set": ood_set, "metric": metric, **asdict(difference)}
        for (method, ood_set), differences in figures.differences.items()
        for metric, difference in differences.items()
    ]
    return pd.DataFrame(rows).to_csv(index=False, lineterminator="\n")


def without_images(scores: ScoresOfSet, is_kept: NDArray[np.bool_]) -> ScoresOfSet:
    """Return the scores of the images that are kept, (n,) of bool."""
    return {method: values[is_kept] for method, values in scores.items()}


def _differences(
    draws: Mapping[tuple[str, str], MetricDraws], baseline: str
) -> dict[tuple[str, str], dict[str, PairedDifference]]:
    return {
        (method, ood_set): {
            metric: paired_difference(drawn, draws[baseline, ood_set], metric) for metric in METRIC_NAMES
        }
        for (method, ood_set), drawn in draws.items()
        if method != baseline
    }
