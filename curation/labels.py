"""The stage `labels`: what people and machines say is in each candidate, in Open Images' words and ImageNet's."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.label_map.read import MAP_PATH, MappedLabel, read_label_map
from curation.metadata.csv_tables import read_tables
from curation.metadata.files import open_streams
from curation.metadata.id_keys import IdSet
from curation.metadata.label_table import CLASS_NAMES_CSV, LABELS_CSV, ROWS_SCHEMA
from curation.metadata.sorted_rows import SortedRows
from manifests import schema
from manifests.errors import InputError
from manifests.funnel import VERIFIED_IMAGES
from manifests.parquet import write_rows
from manifests.workspace import Workspace

_ORDER = ("image_id", "source", "label_mid", "confidence")


@dataclass(frozen=True)
class LabelFiles:
    """Official files, each a CSV or the V3 archive that holds it.

    Attributes
    ----------
    human, machine : sequence of Path
        Image-level labels that people verified, and that a classifier gave.
    class_names : Path
        The class descriptions.
    """

    human: Sequence[Path]
    machine: Sequence[Path]
    class_names: Path


def collect_labels(workspace: Workspace, files: LabelFiles) -> dict[str, int]:
    """Write ``labels.parquet``, the labels of the candidates, and return counts.

    Files are streamed; rows of other images are passed over and counted, and a row that stands twice is kept once.
    A label without a description keeps its MID and has no name.

    Raises
    ------
    StageMissingError
        There are no candidates.
    InputError
        A file cannot be read, or a row is malformed.
    """
    arguments = {
        "human": [str(path) for path in files.human],
        "machine": [str(path) for path in files.machine],
        "class_names": str(files.class_names),
    }
    inputs = [workspace.path_of(schema.CANDIDATES), *files.human, *files.machine, files.class_names, MAP_PATH]
    with (
        workspace.stage("labels", arguments, inputs) as record,
        SortedRows(ROWS_SCHEMA, workspace.root, _ORDER) as rows,
    ):
        if not (files.human or files.machine):
            raise InputError("labels: expected --human or --machine files")
        candidates = _candidate_ids(workspace)
        names = _read_class_names(files.class_names)
        n_others = sum(
            _take(path, source, candidates, rows)
            for source, paths in (("human", files.human), ("machine", files.machine))
            for path in paths
        )
        counted: Counter[str] = Counter({"of_other_images": n_others, VERIFIED_IMAGES: 0})
        finished = _finished(rows.tables(), names, read_label_map(), counted)
        write_rows(workspace.path_of(schema.LABELS), schema.LABELS, finished)
        record.counts = dict(counted)
        return record.counts


def _candidate_ids(workspace: Workspace) -> IdSet:
    with pq.ParquetFile(workspace.path_to_read(schema.CANDIDATES)) as file:
        return IdSet(batch.column("image_id") for batch in file.iter_batches(columns=["image_id"]))


def _read_class_names(path: Path) -> pa.Table:
    """Return MID and name of each class, each MID once."""
    if not path.is_file():
        raise InputError(f"--class-names {path}: there is no such file")
    names: dict[str, str] = {}
    for where, stream in open_streams(path, "class-descriptions.csv"):
        for table in read_tables(stream, where, CLASS_NAMES_CSV):
            for row in table.to_pylist():
                if names.setdefault(row["label_mid"], row["label_name"]) != row["label_name"]:
                    raise InputError(f"{where}: {row['label_mid']} has two names: delete one of its rows")
    if not names:
        raise InputError(f"--class-names {path}: holds no class: is it the whole file?")
    return pa.table({"label_mid": pa.array(names), "label_name": pa.array(names.values(), pa.string())})


def _take(path: Path, source: str, candidates: IdSet, rows: SortedRows) -> int:
    """Put the candidates' labels of one file into `rows` and return how many are of other images."""
    if not path.is_file():
        raise InputError(f"--{source} {path}: there is no such file")
    n_others = 0
    for where, stream in open_streams(path, f"annotations-{source}.csv"):
        for table in read_tables(stream, where, LABELS_CSV):
            strange = table.column("source").filter(pc.not_equal(table.column("source"), source))
            if len(strange):
                raise InputError(f"--{source} {where}: holds labels of the source {strange[0].as_py()}")
            is_ours = candidates.contains(table.column("image_id"))
            n_others += len(is_ours) - int(is_ours.sum())
            rows.add(table.filter(pa.array(is_ours)))
    return n_others


def _finished(
    tables: Iterator[pa.Table], names: pa.Table, label_map: dict[str, MappedLabel], counted: Counter[str]
) -> Iterator[pa.Table]:
    """Yield sorted rows, each once, with their names and classes, and count them."""
    name_mids = names.column("label_mid").combine_chunks()
    mapped_mids = pa.array(label_map)
    wnids = pa.array([label.wnid for label in label_map.values()])
    for table in tables:
        once = table.filter(pa.array(_differs_from_last(table)))
        mids = once.column("label_mid").combine_chunks()
        label_name = names.column("label_name").combine_chunks().take(pc.index_in(mids, name_mids))
        wnid = wnids.take(pc.index_in(mids, mapped_mids))
        counted["repeated"] += table.num_rows - once.num_rows
        counted["without_name"] += label_name.null_count
        counted["of_imagenet_classes"] += len(wnid) - wnid.null_count
        for each in pc.value_counts(once.column("source").combine_chunks()).to_pylist():
            counted[each["values"]] += each["counts"]
        columns = {name: once.column(name) for name in once.column_names} | {
            "label_name": label_name, "wnid": wnid,
        }  # fmt: skip
        # Tables never part the rows of one image.
        counted[VERIFIED_IMAGES] += _n_verified_present(columns)
        yield pa.table([columns[name] for name in schema.LABELS.schema.names], schema=schema.LABELS.schema)


def _n_verified_present(columns: Mapping[str, pa.ChunkedArray]) -> int:
    """Return of how many images people said, and nobody denied, that a label of an ImageNet class is there."""
    table = pa.table({name: columns[name] for name in ("image_id", "label_mid", "confidence")})
    is_ours = pc.and_(pc.equal(columns["source"], "human"), pc.is_valid(columns["wnid"]))
    answers = table.filter(is_ours).group_by(["image_id", "label_mid"]).aggregate([("confidence", "min")])
    is_present = pc.equal(answers.column("confidence_min"), 1)
    return len(answers.column("image_id").filter(is_present).unique())


def _differs_from_last(table: pa.Table) -> np.ndarray:
    """Return for each row of a sorted table whether it is not the row before once more."""
    differs = np.ones(table.num_rows, bool)
    if table.num_rows > 1:
        pairs = ((column[1:], column[:-1]) for column in (each.combine_chunks() for each in table.columns))
        differs[1:] = np.any(
            [pc.not_equal(one, other).to_numpy(zero_copy_only=False) for one, other in pairs], axis=0
        )
    return differs


@dataclass(frozen=True)
class VerifiedClasses:
    """What people verified of one image, as class indices in torchvision's order: classes there, and not there."""

    present: frozenset[int]
    absent: frozenset[int]


def verified_classes(workspace: Workspace) -> dict[str, VerifiedClasses]:
    """Return what people verified of each candidate, where that is anything about an ImageNet class.

    A class is present where a label that means it, or a kind of it, was verified present; absent where a label
    that means it was verified absent and none says present. A label verified both ways says nothing.

    Raises
    ------
    StageMissingError
        The stage `labels` has not been run here.
    """
    path = workspace.path_to_read(schema.LABELS)
    label_map = read_label_map()
    said: dict[str, dict[str, set[float]]] = {}
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(columns=["image_id", "label_mid", "source", "confidence", "wnid"]):
            is_ours = pc.and_(pc.equal(batch.column("source"), "human"), pc.is_valid(batch.column("wnid")))
            for row in batch.filter(is_ours).to_pylist():
                said.setdefault(row["image_id"], {}).setdefault(row["label_mid"], set()).add(row["confidence"])
    found = {image_id: _verified(answers, label_map) for image_id, answers in said.items()}
    return {image_id: classes for image_id, classes in found.items() if classes.present or classes.absent}


def _verified(answers: dict[str, set[float]], label_map: dict[str, MappedLabel]) -> VerifiedClasses:
    present = {label_map[mid].class_index for mid, answer in answers.items() if answer == {1.0}}
    absent = {
        label_map[mid].class_index
        for mid, answer in answers.items()
        if answer == {0.0} and not label_map[mid].is_narrower
    }
    return VerifiedClasses(frozenset(present), frozenset(absent - present))
