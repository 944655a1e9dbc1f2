"""Does it work? The three losses beside each other: WFC and CFC, and what each method makes of their features."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from manifests.text_table import aligned
from scoring.dml.feature_folders import VAL
from scoring.dml.history import EpochFigures
from scoring.figures import Figures, figures_of
from scoring.score import score
from scoring.score_settings import FigureSettings, SetNames

METHODS = ("max_logit", "max_cosine", "max_norm", "dml")
"""What is scored of each network."""

DML_PLUS = "dml_plus of mcf and mnc"
BASELINE = "max_logit of cosine"

PUBLISHED_DATA = "cifar100"
PUBLISHED = {
    "textures": (91.11, 41.87), "svhn": (97.21, 17.58), "lsun_c": (97.23, 17.48), "lsun_r": (94.51, 27.72),
    "isun": (93.84, 29.89), "places365": (82.45, 71.70),
}  # fmt: skip
"""AUROC and FPR95 (ID positive, as ``fpr95_in``) of DML+ with WRN-40-2 on CIFAR-100, from the README of
github.com/Z-ZHHH/CVPR23-DML: means of five draws of 2,000 images a set."""

PUBLISHED_MEAN = (92.72, 34.37)


@dataclass(frozen=True)
class Comparison:
    """What the three networks came to.

    Attributes
    ----------
    data_name : str
        What they learnt.
    last : mapping of loss to EpochFigures
        The last epoch of each.
    figures : Figures
        Methods are called ``<method> of <loss>``; each is compared with `BASELINE`.
    scale : float
        lambda of DML+.
    """

    data_name: str
    last: Mapping[str, EpochFigures]
    figures: Figures
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
    """Return the figures of the networks in `features_dirs`, of ``cosine``, ``mcf`` and ``mnc``.

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
    in_scores, *out_scores = ({name: by_set[one] for name, by_set in scores.items()} for one in (VAL, *ood_sets))
    figures = figures_of(
        in_scores, dict(zip(ood_sets, out_scores, strict=True)), n_draws=1000, baseline=BASELINE
    )  # fmt: skip
    return Comparison(data_name, dict(last), figures, pair.fitted["lambda of DML+"])


def comparison_table(comparison: Comparison) -> str:
    """Return the networks, the figures of all methods, and the paper's three claims with what was found."""
    rows = [["network", "right of val, %", "WFC", "CFC"]]
    rows += [
        [loss, f"{100 * one.val_accuracy:.2f}", _number(one.wfc), _number(one.cfc)]
        for loss, one in comparison.last.items()
    ]
    lines = [*aligned(rows), "", "AUROC / fpr95_in, %", *aligned(_figure_rows(comparison))]
    return "\n".join([*lines, "", *_claims(comparison)])


def _scores_by_set(path: Path, method: str) -> dict[str, NDArray[np.float64]]:
    """Return the scores of a method by set, each sorted by image id, as folders may have other orders."""
    table = pq.read_table(path, columns=["set", "image_id", method]).sort_by(
        [("set", "ascending"), ("image_id", "ascending")]
    )
    sets, values = np.array(table.column("set").to_pylist()), table.column(method).to_numpy()
    return {name: values[sets == name] for name in np.unique(sets)}


def _figure_rows(comparison: Comparison) -> list[list[str]]:
    figures = comparison.figures
    rows = [["method", *figures.ood_sets, "average"]]
    for method in figures.methods:
        found = [figures.metrics[method, name] for name in figures.ood_sets]
        pairs = [(100 * one.auroc, 100 * one.fpr95_in) for one in found]
        rows.append([method, *map(_pair, pairs), _pair(_mean(pairs))])
    if comparison.data_name == PUBLISHED_DATA:
        cells = [_pair(PUBLISHED[name]) if name in PUBLISHED else "" for name in figures.ood_sets]
        is_whole = set(figures.ood_sets) == PUBLISHED.keys()
        rows.append(["DML+ as published", *cells, _pair(PUBLISHED_MEAN) if is_whole else ""])
    return rows


def _claims(comparison: Comparison) -> list[str]:
    figures, last = comparison.figures, comparison.last
    lines = [
        _fall("CFC", "focal loss", last["cosine"].cfc, last["mcf"].cfc),
        _fall("WFC", "center loss", last["cosine"].wfc, last["mnc"].wfc),
    ]
    for name in figures.ood_sets:
        found = figures.differences[DML_PLUS, name]["auroc"]
        ends = f"[{100 * found.low:+.2f}, {100 * found.high:+.2f}]"
        word = "ahead" if found.low > 0 else "behind" if found.high < 0 else "not told apart"
        lines.append(
            f"AUROC of DML+ less MaxLogit of cosine on {name}: {100 * found.difference:+.2f} points {ends}: {word}"
        )
    lines.append(
        f"lambda of DML+, mean norm of mnc / mean cosine of mcf on the training images: {comparison.scale:.4g}"
    )
    if comparison.data_name == PUBLISHED_DATA:
        lines.append(
            f"Published for WRN-40-2 and 200 epochs, on the average of {', '.join(PUBLISHED)}: "
            f"AUROC {PUBLISHED_MEAN[0]}, fpr95_in {PUBLISHED_MEAN[1]}"
        )
    return lines


def _fall(name: str, by: str, before: float | None, after: float | None) -> str:
    if before is None or after is None:
        return f"{name} with {by}: not defined"
    word = "falls" if after < before else "does not fall"
    return f"{name} {word} with {by}: {before:.4g} to {after:.4g}"


def _mean(pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return fmean(auroc for auroc, _ in pairs), fmean(fpr for _, fpr in pairs)


def _pair(values: tuple[float, float]) -> str:
    return f"{values[0]:.2f} / {values[1]:.2f}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
