"""Read what the stage `score` wrote and check that it is whole, and of one run."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from manifests.errors import InputError, StageMissingError, TableError
from manifests.parquet import read_parquet
from manifests.workspace import checked_name
from scoring.methods.table import ALL_METHODS, Method
from scoring.metrics import METRIC_NAMES, auroc
from scoring.score import RESULTS_FILE_NAME, SCORES_FILE_NAME

ScoresByMethod: TypeAlias = Mapping[str, NDArray[np.float64]]

_LARGEST_AUROC_ERROR = 1e-9
"""Far more than rounding can do to a ratio of two counts."""


@dataclass(frozen=True)
class Estimate:
    """One metric of one method on one OOD set and, where it was estimated, its interval; fractions."""

    value: float
    low: float | None = None
    high: float | None = None


MetricsByMethod: TypeAlias = Mapping[tuple[str, str], Mapping[str, Estimate]]
"""By method and OOD set, then by name of the metric."""


@dataclass(frozen=True, eq=False)
class Results:
    """A folder of results.

    Attributes
    ----------
    methods : tuple of Method
        In the order of the table of methods.
    val : str
        Name of the ID set.
    in_scores : mapping of method name to array
        Scores of its images, float64, finite, higher = more OOD.
    out_scores : mapping of OOD set to such a mapping
        In the order of the file.
    image_ids : mapping of set to pyarrow.ChunkedArray
        In the order of the scores.
    metrics : MetricsByMethod
        As in ``results.csv``.
    """

    methods: tuple[Method, ...]
    val: str
    in_scores: ScoresByMethod
    out_scores: Mapping[str, ScoresByMethod]
    image_ids: Mapping[str, pa.ChunkedArray]
    metrics: MetricsByMethod

    @property
    def ood_sets(self) -> tuple[str, ...]:
        """Names of the OOD sets, in the order of the file."""
        return tuple(self.out_scores)

    @property
    def aurocs(self) -> Mapping[tuple[str, str], Estimate]:
        """The AUROC of every method on every OOD set."""
        return {key: found["auroc"] for key, found in self.metrics.items()}

    @property
    def best_first(self) -> tuple[Method, ...]:
        """The methods by their AUROC on average over the OOD sets."""
        return tuple(sorted(self.methods, key=lambda method: -self.average(method, "auroc")))

    def average(self, method: Method, metric: str) -> float:
        """Return the mean of a metric over the OOD sets, each weighing the same."""
        return fmean(self.metrics[method.name, ood_set][metric].value for ood_set in self.ood_sets)


def read_results(scores_dir: Path, *, val: str = "val", methods: Sequence[str] | None = None) -> Results:
    """Return the results in `scores_dir`.

    Parameters
    ----------
    scores_dir : Path
        Holds ``scores.parquet`` and ``results.csv``.
    val : str
        Name of the ID set; all others are OOD.
    methods : sequence of str, optional
        Names of the methods wanted; all by default.

    Raises
    ------
    StageMissingError
        One of the two files is not there.
    TableError
        One of the two files is damaged, a column is missing, of another type or no known method, an image stands
        twice in a set, a score is empty, NaN or infinite, a line of figures is missing, doubled or no number, or
        the figures are not those of the scores.
    InputError
        No set is called `val`, or none is OOD; a wanted method is not in the file.
    """
    path = scores_dir / SCORES_FILE_NAME
    table = read_parquet(_existing(path))
    chosen = _chosen(path, _methods_in(path, table.schema), methods)
    rows_of = _rows_by_set(path, table)
    if val not in rows_of or len(rows_of) < 2:
        raise InputError(
            f"{path}: expected the ID set {val} and at least one OOD set, found {', '.join(rows_of) or 'no row'}; "
            f"name the ID set"
        )
    columns = {method.name: _finite_scores(path, table, method.name) for method in chosen}
    scores = {name: {method: column[rows] for method, column in columns.items()} for name, rows in rows_of.items()}
    in_scores = scores.pop(val)
    metrics = read_metrics(scores_dir / RESULTS_FILE_NAME, chosen, tuple(scores))
    image_ids = {name: table.column("image_id").take(rows) for name, rows in rows_of.items()}
    results = Results(chosen, val, in_scores, scores, image_ids, metrics)
    _check_of_one_run(scores_dir, results)
    return results


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise StageMissingError(
            f"{path}: no such file; run the stage 'score' first, or name the folder it wrote to"
        )
    return path


def _methods_in(path: Path, schema: pa.Schema) -> tuple[Method, ...]:
    """Return the methods that have a column, in the order of the table of methods."""
    if schema.names[:2] != ["image_id", "set"] or len(set(schema.names)) < len(schema.names):
        raise TableError(
            f"{path}: expected columns image_id, set and one a method, found {', '.join(schema.names)}"
        )
    known = {method.name: method for method in ALL_METHODS}
    names = schema.names[2:]
    if unknown := [name for name in names if name not in known]:
        raise TableError(f"{path}: column {unknown[0]} is no known method: expected some of {', '.join(known)}")
    expected = {"image_id": pa.string(), "set": pa.string()} | dict.fromkeys(names, pa.float64())
    for name, dtype in expected.items():
        if schema.field(name).type != dtype:
            raise TableError(f"{path}: column {name} should be {dtype}, is {schema.field(name).type}")
    return tuple(method for method in ALL_METHODS if method.name in names)


def _chosen(path: Path, found: Sequence[Method], names: Sequence[str] | None) -> tuple[Method, ...]:
    wanted = [method.name for method in found] if names is None else list(names)
    for name in wanted:
        if name not in {method.name for method in found}:
            known = ", ".join(method.name for method in found) or "none"
            raise InputError(f"{path}: holds no scores of method {name!r}; its methods: {known}")
    if not wanted or len(set(wanted)) < len(wanted):
        raise InputError(f"methods to plot: expected at least one, each once, found {', '.join(wanted) or 'none'}")
    return tuple(method for method in found if method.name in wanted)


def _rows_by_set(path: Path, table: pa.Table) -> dict[str, NDArray[np.int64]]:
    """Return the row numbers of each set, sets in the order in which they first stand."""
    for name in ("image_id", "set"):
        if n_empty := table.column(name).null_count:
            raise TableError(f"{path}: {n_empty} rows have no {name}")
    encoded = pc.dictionary_encode(table.column("set").combine_chunks())
    codes = encoded.indices.to_numpy()
    rows_of = {}
    for code, name in enumerate(encoded.dictionary.to_pylist()):
        rows = np.flatnonzero(codes == code)
        rows_of[checked_name(name, f"{path}: name of a set")] = rows
        n_doubled = len(rows) - len(table.column("image_id").take(rows).unique())
        if n_doubled:
            raise TableError(f"{path}: {n_doubled} rows of set {name} repeat an image_id")
    return rows_of


def _finite_scores(path: Path, table: pa.Table, method: str) -> NDArray[np.float64]:
    """Return a column of scores; an empty cell counts as NaN."""
    scores = table.column(method).to_numpy()
    if not np.isfinite(scores).all():
        row = int(np.isfinite(scores).argmin())
        image_id, name = (table.column(column)[row].as_py() for column in ("image_id", "set"))
        raise TableError(
            f"{path}: method {method} has {np.count_nonzero(~np.isfinite(scores))} scores that are empty, NaN or "
            f"infinite, that of image {image_id} of set {name} among them"
        )
    return scores


def read_metrics(path: Path, methods: Sequence[Method], ood_sets: Sequence[str]) -> MetricsByMethod:
    """Return what the file says of `methods` on `ood_sets`; it may say more, of other methods.

    Parameters
    ----------
    path : Path
        ``results.csv``, or ``results.without_known_in.csv``.
    methods, ood_sets : sequence
        What it has to hold; of the metrics, AUROC.

    Raises
    ------
    StageMissingError, TableError
        As `read_results`.
    """
    found: dict[tuple[str, str], dict[str, Estimate]] = {}
    for line, row in _lines(_existing(path)):
        key = row["method"], row["set"]
        if key in found:
            raise TableError(f"{path}, line {line}: method {key[0]} on set {key[1]} for the second time")
        found[key] = {name: _estimate(path, line, row, name) for name in METRIC_NAMES if name in row}
    wanted = [(method.name, ood_set) for method in methods for ood_set in ood_sets]
    for method_name, ood_set in wanted:
        if (method_name, ood_set) not in found:
            raise TableError(
                f"{path}: no line for method {method_name} on set {ood_set}; run the stage 'score' again"
            )
    return {key: found[key] for key in wanted}


def _estimate(path: Path, line: int, row: Mapping[str, str], name: str) -> Estimate:
    value, low, high = (_fraction(path, line, row, column) for column in (name, f"{name}_low", f"{name}_high"))
    if value is None or (low is None) != (high is None):
        raise TableError(f"{path}, line {line}: expected {name}, and {name}_low with {name}_high or neither")
    return Estimate(value, low, high)


def _lines(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream, strict=True)
            columns = reader.fieldnames or []
            if not {"method", "set", "auroc"} <= set(columns):
                raise TableError(
                    f"{path}: expected columns method, set, auroc, found {', '.join(columns) or 'none'}"
                )
            for row in reader:
                if None in row or None in row.values():
                    raise TableError(f"{path}, line {reader.line_num}: expected {len(columns)} cells")
                yield reader.line_num, row
    except (csv.Error, UnicodeDecodeError) as error:
        raise TableError(f"{path}: cannot be read as CSV ({error})") from error


def _fraction(path: Path, line: int, row: Mapping[str, str], name: str) -> float | None:
    """Return one cell, None where the column or its content is not there."""
    text = row.get(name, "")
    if not text:
        return None
    try:
        value = float(text)
    except ValueError as error:
        raise TableError(f"{path}, line {line}: {name} is no number: {text!r}") from error
    if not 0 <= value <= 1:
        raise TableError(f"{path}, line {line}: expected {name} in [0, 1], found {text}")
    return value


def _check_of_one_run(scores_dir: Path, results: Results) -> None:
    for (method, ood_set), stated in results.aurocs.items():
        value = auroc(results.in_scores[method], results.out_scores[ood_set][method])
        if abs(value - stated.value) > _LARGEST_AUROC_ERROR:
            raise TableError(
                f"{scores_dir}: AUROC of {method} on {ood_set} is {stated.value} in {RESULTS_FILE_NAME}, but "
                f"{value} by {SCORES_FILE_NAME}: the two are not of one run; run the stage 'score' again"
            )
