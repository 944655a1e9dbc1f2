"""The stage `score`: a folder of features in, scores of every image and figures of every method out."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import torch

from manifests.allocator import keep_freed_memory
from manifests.devices import device_name
from manifests.durable import write_json, write_text
from manifests.errors import FeatureError, InputError
from scoring.chosen_methods import check_baseline_is_in, chosen_methods, without_idle_sets
from scoring.contamination import ContaminationLimits, LeftOut, contamination_limits, leave_out
from scoring.evaluate import ScoresOfSet, score_sets, write_score_table
from scoring.feature_convergence import feature_convergence
from scoring.feature_sets import FeatureSet, open_feature_set
from scoring.figures import Figures, differences_csv, figures_of, results_csv, without_images
from scoring.heads import Head, read_head
from scoring.lineage import RECORD_FILE_NAME, check_may_replace, lineage_of
from scoring.methods.dml_plus import DMLPlus
from scoring.methods.fitting import FittedMethods, fit_methods
from scoring.methods.table import Method
from scoring.methods.vim import ViM
from scoring.score_settings import AS_THE_AUTHORS, WITH_INTERVALS, FigureSettings, FitSettings, SetNames
from scoring.second_model import read_second_model
from scoring.statistics.class_means import MeansByClass
from scoring.statistics.gather import Training
from scoring.statistics.moments import SecondMoment

SCORES_FILE_NAME = "scores.parquet"
RESULTS_FILE_NAME = "results.csv"
WITHOUT_KNOWN_IN_FILE_NAME = "results.without_known_in.csv"
DIFFERENCES_FILE_NAME = "differences.csv"


@dataclass(frozen=True)
class ScoreResult:
    """What `score` found.

    Attributes
    ----------
    methods : tuple of Method
        Those that were scored, in the order of the table of methods.
    refused : mapping of method name to str
        The reason, for those that cannot be fitted.
    names : SetNames
        The sets.
    figures : Figures
        Of all images.
    without_known_in : Figures, optional
        Of all but those known to be in distribution.
    n_known_in : mapping of OOD set to int
        How many of them each set holds.
    limits : mapping of OOD set to ContaminationLimits
        What its contamination lets a detector reach.
    n_images : dict of str to int
        Images of each set that was read.
    fitted : mapping of str to float
        ``D`` of the principal space and ``alpha`` of ViM, lambda of DML+, and ``WFC`` and ``CFC`` of the model
        (see `feature_convergence`) beside Mahalanobis, where these were fitted.
    warnings : tuple of str
        What a reader of the figures has to know, one sentence each.
    paths : tuple of Path
        The files written, the scores first.
    """

    methods: tuple[Method, ...]
    refused: Mapping[str, str]
    names: SetNames
    figures: Figures
    without_known_in: Figures | None
    n_known_in: Mapping[str, int]
    limits: Mapping[str, ContaminationLimits]
    n_images: Mapping[str, int]
    fitted: Mapping[str, float]
    warnings: tuple[str, ...]
    paths: tuple[Path, ...]


def score(
    features_dir: Path,
    names: SetNames,
    out_dir: Path,
    *,
    methods: Sequence[str] | None = None,
    fit: FitSettings = AS_THE_AUTHORS,
    figures: FigureSettings = WITH_INTERVALS,
    second_dir: Path | None = None,
    device: str = "auto",
    chunk_rows: int | None = None,
) -> ScoreResult:
    """Return the figures of each method on each OOD set, after writing scores, results and a record.

    ``scores.parquet``, ``results.csv`` and ``score.json`` go to `out_dir`, each in one step and all after the last
    figure is made; with them ``differences.csv`` where there is a baseline, and ``results.without_known_in.csv``.

    Parameters
    ----------
    features_dir : Path
        Holds ``head.safetensors`` and one Parquet file a set, whoever made them.
    names : SetNames
        Which set is what.
    out_dir : Path
        Where the files go.
    methods : sequence of str, optional
        Names out of the table of methods. All by default, and then one that cannot be fitted is left out with a
        reason; one that is named, that options are given for, or that is the baseline, has to be fitted.
    fit, figures : FitSettings, FigureSettings
        How methods are fitted, and what is made of their scores.
    second_dir : Path, optional
        Folder of features of the same sets by a second model, for the methods of two models.
    device : {"auto", "cpu", "cuda", "cuda:N"}
        Where to compute.
    chunk_rows : int, optional
        Images read at a time.

    Raises
    ------
    InputError
        A method, mode, option or device is unknown; a method needs training features and no set of them is named,
        or a second model and there is none, or there is one for no method;
        the baseline is not among the methods; no image known to be in distribution is in an OOD set.
    FeatureError
        A set or the head is missing or damaged or they do not fit each other; an OOD set shares images with an ID
        set; a second model has other images, classes or manifests; a method that was asked for cannot be fitted;
        a score is not finite; sets or earlier results are of another model or manifest.
    """
    keep_freed_memory()
    place = torch.device(device_name(device, has_cuda=torch.cuda.is_available()))
    if unknown := sorted(figures.contamination.keys() - set(names.ood)):
        raise InputError(f"contamination: {unknown[0]!r} is not among the OOD sets {', '.join(names.ood)}")
    head = read_head(features_dir)
    moved_by = lineage_of(features_dir, head, names.scored)["model"]["odin"]
    chosen, fit = chosen_methods(methods, fit, moved_by, has_second=second_dir is not None)
    check_baseline_is_in(chosen, figures.baseline)
    names = without_idle_sets(names, chosen, fit)
    sets = {name: open_feature_set(features_dir, name, head, chunk_rows) for name in (*names.of_id, *names.ood)}
    _check_out_is_not_in(sets, names)
    lineage = lineage_of(features_dir, head, tuple(sets))
    doubts: tuple[str, ...] = ()
    if second_dir is not None:
        second = read_second_model(second_dir, features_dir, head, lineage, tuple(sets))
        doubts = second.warnings
        sets = {name: second.paired(one, chunk_rows) for name, one in sets.items()}
        lineage = {**lineage, "second_model": second.model}
    check_may_replace(out_dir, lineage)
    known_in = _known_in(sets, names, figures)

    head = head.to(place)
    validation = Training(head, sets[names.fit_val]) if names.fit_val else None
    training = Training(
        head, sets[names.train] if names.train else (), validation=validation,
        scored=Training(head, sets[names.val]), group_of=fit.group_of,
    )  # fmt: skip
    fitted = fit_methods(chosen, training, mode=fit.mode, overrides=fit.options)
    asked_for = {*(methods or ()), *fit.options, *filter(None, [figures.baseline])}
    _check_asked_for(fitted, asked_for)
    scored_sets = [sets[name] for name in names.scored]
    fitted, scores = _scored(scored_sets, head, fitted, asked_for)

    in_scores, out_scores = scores[names.val], {name: scores[name] for name in names.ood}
    with_all = _figures(in_scores, out_scores, figures)
    without = None
    if known_in:
        kept = {name: without_images(scores[name], ~listed.is_left_out) for name, listed in known_in.items()}
        without = _figures(in_scores, kept, figures)
    convergence, refused = _convergence(fitted, training)
    scores_path = out_dir / SCORES_FILE_NAME
    write_score_table(scores_path, scored_sets, scores)
    result = ScoreResult(
        methods=tuple(method for method in chosen if method.name in fitted.scorers),
        refused=fitted.refused,
        names=names,
        figures=with_all,
        without_known_in=without,
        n_known_in={name: listed.n_left_out for name, listed in known_in.items()},
        limits={name: contamination_limits(one) for name, one in figures.contamination.items()},
        n_images={name: feature_set.n_images for name, feature_set in sets.items()},
        fitted=_fitted_numbers(fitted) | convergence,
        warnings=(*doubts, *_warnings(sets, names, fitted), *refused),
        paths=(scores_path, *_write_figures(out_dir, with_all, without)),
    )
    write_json(out_dir / RECORD_FILE_NAME, _record(result, lineage, fitted, fit, figures))
    return result


def _check_out_is_not_in(sets: Mapping[str, FeatureSet], names: SetNames) -> None:
    for ood_set in names.ood:
        for id_set in names.of_id:
            if shared := _n_shared(sets[ood_set], sets[id_set]):
                raise FeatureError(
                    f"{sets[ood_set].path}: {shared} of its {sets[ood_set].n_images} images are in the ID set "
                    f"{id_set} too; an image is either in distribution or out of it"
                )


def _check_asked_for(fitted: FittedMethods, asked_for: Collection[str]) -> None:
    for name, reason in fitted.refused.items():
        if name in asked_for:
            raise FeatureError(f"{name}: {reason}")
    if not fitted.scorers:
        raise FeatureError(f"no method can be fitted: {'; '.join(map(': '.join, fitted.refused.items()))}")


def _scored(
    sets: Sequence[FeatureSet], head: Head, fitted: FittedMethods, asked_for: Collection[str]
) -> tuple[FittedMethods, Mapping[str, ScoresOfSet]]:
    """Return the methods that can score all images, and their scores."""
    scored = score_sets(sets, head, fitted.scorers, required=asked_for)
    scorers = {name: scorer for name, scorer in fitted.scorers.items() if name not in scored.failed}
    return replace(fitted, scorers=scorers, refused={**fitted.refused, **scored.failed}), scored.scores


def _warnings(sets: Mapping[str, FeatureSet], names: SetNames, fitted: FittedMethods) -> tuple[str, ...]:
    warnings = []
    for name in filter(None, (names.train, names.fit_val)):
        if shared := _n_shared(sets[names.val], sets[name]):
            warnings.append(
                f"{shared} of the {sets[names.val].n_images} images of {names.val} are in {name} too, which "
                f"flatters the methods that are fitted on it"
            )
    warnings += [warning for scorer in fitted.scorers.values() for warning in scorer.warnings]
    return tuple(dict.fromkeys(warnings))


def _n_shared(one: FeatureSet, other: FeatureSet) -> int:
    return int(pc.sum(pc.is_in(one.image_ids, value_set=other.image_ids.combine_chunks())).as_py())


def _known_in(sets: Mapping[str, FeatureSet], names: SetNames, settings: FigureSettings) -> dict[str, LeftOut]:
    """Return which images of each OOD set are known to be in distribution; nothing where none are listed."""
    if not settings.known_in:
        return {}
    found = {name: leave_out(sets[name].image_ids, settings.known_in) for name in names.ood}
    for name, listed in found.items():
        if listed.is_left_out.all():
            raise FeatureError(f"{sets[name].path}: all of its images are listed as known to be in distribution")
    if not any(listed.n_left_out for listed in found.values()):
        raise InputError(
            f"known in-distribution images: none of the {len(settings.known_in)} listed is in "
            f"{', '.join(names.ood)}"
        )
    return found


def _figures(in_scores: ScoresOfSet, out_scores: Mapping[str, ScoresOfSet], settings: FigureSettings) -> Figures:
    return figures_of(
        in_scores, out_scores, n_draws=settings.n_draws, seed=settings.seed, baseline=settings.baseline
    )


def _fitted_numbers(fitted: FittedMethods) -> dict[str, float]:
    vim, dml_plus = fitted.scorers.get("vim"), fitted.scorers.get("dml_plus")
    numbers: dict[str, float] = {}
    if isinstance(vim, ViM):
        numbers |= {"D": vim.space.dim, "alpha": vim.alpha}
    if isinstance(dml_plus, DMLPlus):
        numbers["lambda of DML+"] = dml_plus.scale
    return numbers


def _convergence(fitted: FittedMethods, training: Training) -> tuple[dict[str, float], list[str]]:
    """Return WFC and CFC, or why there are none, where Mahalanobis needed the same statistics: nothing is read."""
    if "mahalanobis" not in fitted.scorers:
        return {}, []
    try:
        measured = feature_convergence(training.head, training[SecondMoment()], training[MeansByClass()])
    except FeatureError as error:
        return {}, [str(error)]
    return {"WFC": measured.within_class, "CFC": measured.class_mean}, []


def _write_figures(out_dir: Path, figures: Figures, without: Figures | None) -> list[Path]:
    texts = {RESULTS_FILE_NAME: results_csv(figures)}
    if figures.baseline is not None:
        texts[DIFFERENCES_FILE_NAME] = differences_csv(figures)
    if without is not None:
        texts[WITHOUT_KNOWN_IN_FILE_NAME] = results_csv(without)
    for name in (RESULTS_FILE_NAME, DIFFERENCES_FILE_NAME, WITHOUT_KNOWN_IN_FILE_NAME):
        if name in texts:
            write_text(out_dir / name, texts[name])
        else:
            # Of an earlier run, whose scores are gone.
            (out_dir / name).unlink(missing_ok=True)
    return [out_dir / name for name in texts]


def _record(
    result: ScoreResult,
    lineage: Mapping[str, Any],
    fitted: FittedMethods,
    fit: FitSettings,
    figures: FigureSettings,
) -> dict[str, Any]:
    """Return how the figures came about, as JSON values; the same inputs give the same bytes."""
    return {
        "lineage": lineage,
        "sets": {"train": result.names.train, "val": result.names.val, "fit_val": result.names.fit_val,
                 "ood": list(result.names.ood)},
        "n_images": dict(result.n_images),
        "mode": fit.mode,
        "options": {name: dict(options) for name, options in fitted.options.items()},
        "fitted": dict(result.fitted),
        "refused": dict(result.refused),
        "warnings": list(result.warnings),
        "bootstrap": {"n_draws": figures.n_draws, "seed": figures.seed},
        "n_known_in": dict(result.n_known_in),
        "contamination": {name: asdict(one) for name, one in figures.contamination.items()},
    }  # fmt: skip
