"""Does it work? The losses beside each other: WFC and CFC, and what each method makes of their features."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from manifests.text_table import aligned, stacked
from scoring.dml.feature_folders import VAL
from scoring.dml.history import EpochFigures
from scoring.figures import Figures, differences_data, figures_data, figures_of
from scoring.score import score
from scoring.score_settings import FigureSettings, SetNames

METHODS = ("max_logit", "max_cosine", "max_norm", "dml")
"""What is scored of each network."""

DML_PLUS = "dml_plus of mcf and mnc"
BASELINE = "max_logit of linear"
"""MaxLogit of an ordinary classifier, as the authors' script ``test_vim.py`` scores it: there, neither weights nor
features are normalised."""

COSINE_BASELINE = "max_cosine of cosine"
"""MaxLogit of the logits that ``cosine`` learnt by, in order: they were cosines times a constant."""

_NORM_UNSEEN = (
    "max_logit of cosine and of mcf: norm x cosine, of a norm that their loss never saw. Their logits in",
    "training were cosines times a constant, whose MaxLogit is max_cosine in order.",
)

PUBLISHED_DATA = "cifar100"
PUBLISHED = {
    "textures": {"auroc": 0.9111, "fpr95_in": 0.4187}, "svhn": {"auroc": 0.9721, "fpr95_in": 0.1758},
    "lsun_c": {"auroc": 0.9723, "fpr95_in": 0.1748}, "lsun_r": {"auroc": 0.9451, "fpr95_in": 0.2772},
    "isun": {"auroc": 0.9384, "fpr95_in": 0.2989}, "places365": {"auroc": 0.8245, "fpr95_in": 0.7170},
}  # fmt: skip
"""Figures of DML+ with WRN-40-2 on CIFAR-100 (their FPR95 has ID as positive: ``fpr95_in``), from the README of
github.com/Z-ZHHH/CVPR23-DML: means of five draws of 2,000 images a set."""

PUBLISHED_MEAN = {"auroc": 0.9272, "fpr95_in": 0.3437}

_TITLES = {"auroc": "AUROC", "fpr95_in": "fpr95_in"}
"""Of the metrics that the table has."""

_FPR95_IN = "fpr95_in: share of OOD images let through where 95 % of ID images are kept."


@dataclass(frozen=True)
class Comparison:
    """What the networks came to.

    Attributes
    ----------
    data_name : str
        What they learnt.
    last : mapping of loss to EpochFigures
        The last epoch of each.
    figures : Figures
        Methods are called ``<method> of <loss>``; each is compared with `BASELINE`.
    beside_cosine : Figures
        Of DML+ and `COSINE_BASELINE`, compared with the latter.
    scale : float
        lambda of DML+.
    """

    data_name: str
    last: Mapping[str, EpochFigures]
    figures: Figures
    beside_cosine: Figures
    scale: float


def compare(
    features_dirs: Mapping[str, Path],
    last: Mapping[str, EpochFigures],
    ood_sets: Sequence[str],
    scores_dir: Path,
    *,
    data_name: str,
    device: str = "auto",
) -> Comparison:
    """Return the figures of the networks in `features_dirs`, by loss, of all of `scoring.dml.recipe.LOSSES`.

    Each folder is scored as the command ``score`` does, into a folder of its name below `scores_dir`, and DML+
    over two of them.

    Raises
    ------
    FeatureError
        As `scoring.score.score`.
    """
    names = SetNames(tuple(ood_sets))
    without_draws = FigureSettings(n_draws=0)
    tables: dict[str, tuple[Path, str]] = {}
    for loss, folder in features_dirs.items():
        result = score(
            folder, names, scores_dir / folder.name, methods=METHODS, figures=without_draws, device=device
        )
        tables |= {f"{method} of {loss}": (result.paths[0], method) for method in METHODS}
    mcf, mnc = features_dirs["mcf"], features_dirs["mnc"]
    pair = score(
        mcf, names, scores_dir / f"{mcf.name}.{mnc.name}", methods=["dml_plus"], figures=without_draws,
        second_dir=mnc, device=device,
    )  # fmt: skip
    tables[DML_PLUS] = (pair.paths[0], "dml_plus")
    scores = {name: _scores_by_set(*table) for name, table in tables.items()}
    return Comparison(
        data_name,
        dict(last),
        _compared_with(BASELINE, scores, ood_sets),
        _compared_with(COSINE_BASELINE, {name: scores[name] for name in (COSINE_BASELINE, DML_PLUS)}, ood_sets),
        pair.fitted["lambda of DML+"],
    )


def comparison_table(comparison: Comparison) -> str:
    """Return the networks, the figures of all methods, and the paper's claims with what was found."""
    rows = [["network", "right of val, %", "WFC", "CFC"]]
    rows += [
        [loss, f"{100 * one.val_accuracy:.2f}", _number(one.wfc), _number(one.cfc)]
        for loss, one in comparison.last.items()
    ]
    lines = [*aligned(rows), "", *_figure_lines(comparison), "", _FPR95_IN, *_NORM_UNSEEN]
    for figures in (comparison.figures, comparison.beside_cosine):
        lines += ["", *_difference_lines(figures)]
    return "\n".join([*lines, "", *_claims(comparison)])


def comparison_data(comparison: Comparison) -> dict[str, Any]:
    """Return all figures, not those of the table alone, as JSON values: fractions and their 95 % intervals.

    Differences stand below what each method is compared with.
    """
    figures = comparison.figures
    return {
        "networks": {loss: asdict(one) for loss, one in comparison.last.items()},
        "figures": figures_data(figures),
        "differences": {
            compared.baseline: differences_data(compared) for compared in (figures, comparison.beside_cosine)
        },
        "dml_plus_scale": comparison.scale,
        "published": _published(comparison),
    }


def _scores_by_set(path: Path, method: str) -> dict[str, NDArray[np.float64]]:
    """Return the scores of a method by set, each sorted by image id, as folders may have other orders."""
    table = pq.read_table(path, columns=["set", "image_id", method]).sort_by(
        [("set", "ascending"), ("image_id", "ascending")]
    )
    sets, values = np.array(table.column("set").to_pylist()), table.column(method).to_numpy()
    return {name: values[sets == name] for name in np.unique(sets)}


def _compared_with(
    baseline: str, scores: Mapping[str, Mapping[str, NDArray[np.float64]]], ood_sets: Sequence[str]
) -> Figures:
    """Return the figures of scores by method and set, each method compared with one of them."""
    in_scores, *out_scores = ({name: by_set[one] for name, by_set in scores.items()} for one in (VAL, *ood_sets))
    return figures_of(in_scores, dict(zip(ood_sets, out_scores, strict=True)), n_draws=1000, baseline=baseline)


def _published(comparison: Comparison) -> dict[str, dict[str, float]] | None:
    """Return what the paper's README has of the sets compared; None on other data."""
    if comparison.data_name != PUBLISHED_DATA:
        return None
    return {name: PUBLISHED[name] for name in comparison.figures.ood_sets if name in PUBLISHED}


def _figure_lines(comparison: Comparison) -> list[str]:
    """Return a table a metric, as columns of both would be wider than a terminal; of a single set one table."""
    auroc, fpr95_in = (_figure_rows(comparison, metric) for metric in _TITLES)
    if len(comparison.figures.ood_sets) > 1:
        return [*stacked(auroc), "", *stacked(fpr95_in)]
    heading = [f"on {comparison.figures.ood_sets[0]}, %", *_TITLES.values()]
    rows = [[*row, same[-1]] for row, same in zip(auroc, fpr95_in, strict=True)]
    return aligned([heading, *rows[1:]])


def _figure_rows(comparison: Comparison, metric: str) -> list[list[str]]:
    figures = comparison.figures
    has_average = len(figures.ood_sets) > 1
    rows = [[f"{_TITLES[metric]}, %", *figures.ood_sets, *(["average"] if has_average else [])]]
    for method in figures.methods:
        found = [float(getattr(figures.metrics[method, name], metric)) for name in figures.ood_sets]
        rows.append([method, *map(_percent, [*found, fmean(found)] if has_average else found)])
    if comparison.data_name == PUBLISHED_DATA:
        cells = [_percent(PUBLISHED[name][metric]) if name in PUBLISHED else "" for name in figures.ood_sets]
        if has_average:
            is_whole = set(figures.ood_sets) == PUBLISHED.keys()
            cells.append(_percent(PUBLISHED_MEAN[metric]) if is_whole else "")
        rows.append(["DML+ as published", *cells])
    return rows


def _difference_lines(figures: Figures) -> list[str]:
    """Return on which sets DML+ is ahead of what the figures are compared with."""
    rows = []
    for name in figures.ood_sets:
        found = figures.differences[DML_PLUS, name]["auroc"]
        word = "ahead" if found.low > 0 else "behind" if found.high < 0 else "not told apart"
        ends = f"[{100 * found.low:+.2f}, {100 * found.high:+.2f}]"
        rows.append([name, word, f"{100 * found.difference:+.2f}", ends])
    title = f"AUROC of DML+ less that of {figures.baseline}, percentage points, with 95 % interval"
    return [title, *aligned(rows, n_words=2)]


def _claims(comparison: Comparison) -> list[str]:
    last = comparison.last
    lines = [
        _fall("CFC", "focal loss", last["cosine"].cfc, last["mcf"].cfc),
        _fall("WFC", "center loss", last["cosine"].wfc, last["mnc"].wfc),
        f"lambda of DML+, mean norm of mnc / mean cosine of mcf on the training images: {comparison.scale:.4g}",
    ]
    if comparison.data_name == PUBLISHED_DATA:
        means = ", ".join(f"{_TITLES[metric]} {_percent(value)}" for metric, value in PUBLISHED_MEAN.items())
        lines += [f"Published for WRN-40-2 and 200 epochs: {means}, the average of", ", ".join(PUBLISHED)]
    return lines


def _fall(name: str, by: str, before: float | None, after: float | None) -> str:
    if before is None or after is None:
        return f"{name} with {by}: not defined"
    word = "falls" if after < before else "does not fall"
    return f"{name} {word} with {by}: {before:.4g} to {after:.4g}"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
