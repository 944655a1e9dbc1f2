"""A folder of results as the report reads it: figures and scores, and the record of how they came about."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from manifests.errors import TableError
from scoring.contamination import Contamination
from scoring.lineage import RECORD_FILE_NAME
from scoring.metrics import METRIC_NAMES
from scoring.plots.results import MetricsByMethod, Results, read_metrics, read_results
from scoring.score import RESULTS_FILE_NAME, WITHOUT_KNOWN_IN_FILE_NAME


@dataclass(frozen=True)
class ScoreRecord:
    """What ``score.json`` says.

    Attributes
    ----------
    val : str
        Name of the ID set.
    ood_sets : tuple of str
        In the order in which they were asked for.
    mode : str
        Whose settings: ``authors`` or ``openood``.
    n_draws : int
        Bootstrap draws of the intervals, 0 for none.
    n_images, n_known_in : mapping of set to int
        Images that were read, and OOD images known to be in distribution.
    fitted : mapping of str to float
        D, alpha, WFC and CFC, where fitted.
    refused : mapping of method name to str
        The reason.
    warnings : tuple of str
        One sentence each.
    contamination : mapping of OOD set to Contamination
        As given to `score`.
    head_sha256 : str
        Of the model.
    manifests : mapping of set to (name, content_sha256)
        Those that were made of a frozen manifest.
    """

    val: str
    ood_sets: tuple[str, ...]
    mode: str
    n_draws: int
    n_images: Mapping[str, int]
    n_known_in: Mapping[str, int]
    fitted: Mapping[str, float]
    refused: Mapping[str, str]
    warnings: tuple[str, ...]
    contamination: Mapping[str, Contamination]
    head_sha256: str
    manifests: Mapping[str, tuple[str, str]]


@dataclass(frozen=True, eq=False)
class ScoredModel:
    """One folder of ``scores/``.

    Attributes
    ----------
    folder : Path
        Named after the model.
    key : str
        Anchor of its section.
    results : Results
        OOD sets in the order of the record.
    record : ScoreRecord
        How they came about.
    without_known_in : MetricsByMethod, optional
        The metrics without the images known to be in distribution.
    """

    folder: Path
    key: str
    results: Results
    record: ScoreRecord
    without_known_in: MetricsByMethod | None


def read_scored_model(folder: Path, key: str) -> ScoredModel:
    """Return the results in `folder`.

    Raises
    ------
    TableError
        The record is damaged, or speaks of other sets or metrics than the tables hold.
    InputError, StageMissingError
        As `scoring.plots.results.read_results`.
    """
    record = read_record(folder / RECORD_FILE_NAME)
    results = read_results(folder, val=record.val)
    if set(results.ood_sets) != set(record.ood_sets):
        raise TableError(
            f"{folder}: {RECORD_FILE_NAME} is of the OOD sets {', '.join(record.ood_sets)}, but the scores of "
            f"{', '.join(results.ood_sets)}: they are not of one run; run the stage 'score' again"
        )
    # In the order asked for, whatever the order of rows.
    results = replace(
        results,
        out_scores={name: results.out_scores[name] for name in record.ood_sets},
        image_ids={name: results.image_ids[name] for name in (record.val, *record.ood_sets)},
    )
    without = None
    if record.n_known_in:
        without = read_metrics(folder / WITHOUT_KNOWN_IN_FILE_NAME, results.methods, results.ood_sets)
    for path, metrics in ((RESULTS_FILE_NAME, results.metrics), (WITHOUT_KNOWN_IN_FILE_NAME, without or {})):
        if any(found.keys() != set(METRIC_NAMES) for found in metrics.values()):
            raise TableError(f"{folder / path}: expected the columns {', '.join(METRIC_NAMES)}; run 'score' again")
    return ScoredModel(folder, key, results, record, without)


def read_record(path: Path) -> ScoreRecord:
    """Return what a ``score.json`` says.

    Raises
    ------
    TableError
        It is damaged.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        manifests = found["lineage"]["manifests"]
        return ScoreRecord(
            val=str(found["sets"]["val"]),
            ood_sets=tuple(map(str, found["sets"]["ood"])),
            mode=str(found["mode"]),
            n_draws=int(found["bootstrap"]["n_draws"]),
            n_images=_of_type(found["n_images"], int),
            n_known_in=_of_type(found["n_known_in"], int),
            fitted=_of_type(found["fitted"], float),
            refused=_of_type(found["refused"], str),
            warnings=tuple(map(str, found["warnings"])),
            contamination={name: Contamination(**given) for name, given in found["contamination"].items()},
            head_sha256=str(found["lineage"]["model"]["head_sha256"]),
            manifests={name: (one["name"], one["content_sha256"]) for name, one in manifests.items() if one},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise TableError(
            f"{path}: not the record of the stage 'score' ({type(error).__name__}: {error})"
        ) from error


def _of_type(found: Mapping[str, Any], kind: type) -> dict[str, Any]:
    return {str(name): kind(value) for name, value in found.items()}
