"""All that the workspace knows of each stored picture, as columns: what a curator sees in the App's sidebar."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from annotation.ballots import read_ballots
from annotation.decisions import Decision
from annotation.review import read_class_names
from manifests import schema
from manifests.frozen import frozen_folders, read_manifest
from manifests.stored_pictures import StoredPicture, stored_pictures
from manifests.versions import parse_version
from manifests.workspace import Workspace


@dataclass(frozen=True)
class Fact:
    """One column: its name, what a cell is (``text texts number count truth``), and its group in the sidebar."""

    name: str
    kind: str
    group: str


FACTS = (
    Fact("image_id", "text", "picture"),
    Fact("labels_human", "texts", "picture"),
    Fact("labels_machine", "texts", "picture"),
    Fact("quality_flags", "texts", "picture"),
    Fact("license", "text", "picture"),
    Fact("author", "text", "picture"),
    Fact("status", "text", "screen"),
    Fact("reason", "text", "screen"),
    Fact("risk", "number", "screen"),
    Fact("nearest_class", "text", "screen"),
    Fact("shown_classes", "texts", "screen"),
    Fact("is_control", "truth", "screen"),
    Fact("duplicate_group", "text", "duplicates"),
    Fact("duplicate_group_size", "count", "duplicates"),
    Fact("verdict", "text", "annotation"),
    Fact("verdict_source", "text", "annotation"),
    Fact("n_out", "count", "annotation"),
    Fact("n_in", "count", "annotation"),
    Fact("n_difficult", "count", "annotation"),
    Fact("disagreement", "number", "annotation"),
    Fact("answers", "texts", "annotation"),
    Fact("notes", "texts", "annotation"),
    Fact("n_notes", "count", "annotation"),
    Fact("gold_answer", "text", "annotation"),
    Fact("manifest_split", "texts", "manifest"),
)

Cells = Mapping[str, Any]
"""Of one column, cells by image id; an image that is not in it has none."""


def read_facts(workspace: Workspace) -> tuple[dict[str, StoredPicture], dict[str, Cells]]:
    """Return the stored pictures by id, sorted, and of each of `FACTS` the cells of those that have one.

    Only `candidates` and `download` must have been run: the columns of a stage that is still to come are empty.

    Raises
    ------
    StageMissingError
        There are no pictures yet.
    TableError
        A table, a log or a manifest is damaged.
    """
    pictures = stored_pictures(Workspace(workspace.root.resolve()))
    columns: dict[str, Cells] = {"image_id": {image_id: image_id for image_id in pictures}}
    for read in (_origin, _labels, _quality, _screened, _duplicates, _verdicts, _answers, _gold, _splits):
        columns.update(read(workspace))
    return pictures, columns


def disagreement(answers: Iterable[str]) -> float | None:
    """Return the share of pairs of answers that differ, in [0, 1]; None with fewer than two answers."""
    given = sorted(answers)
    n_pairs = len(given) * (len(given) - 1) // 2
    if not n_pairs:
        return None
    n_equal = sum(n * (n - 1) // 2 for n in (given.count(answer) for answer in set(given)))
    return 1 - n_equal / n_pairs


def _column(workspace: Workspace, table: schema.TableSpec, names: Mapping[str, str]) -> dict[str, Cells]:
    """Return columns of a table under names of ours, without empty cells; none where there is no table."""
    if not workspace.has(table):
        return {}
    read = workspace.read(table).select(["image_id", *names])
    image_ids = read.column("image_id").to_pylist()
    return {
        ours: {
            image_id: cell
            for image_id, cell in zip(image_ids, read.column(theirs).to_pylist(), strict=True)
            if cell is not None
        }
        for theirs, ours in names.items()
    }


def _origin(workspace: Workspace) -> dict[str, Cells]:
    return _column(workspace, schema.CANDIDATES, {"license_url": "license", "author": "author"})


def _labels(workspace: Workspace) -> dict[str, Cells]:
    if not workspace.has(schema.LABELS):
        return {}
    found: dict[str, dict[str, list[str]]] = {source: {} for source in schema.LABEL_SOURCES}
    # People also say what is not there: with a confidence of 0.
    said = workspace.read(schema.LABELS).filter(pc.field("confidence") > 0)
    names = pc.coalesce(said.column("label_name"), said.column("label_mid"))
    columns = (said.column("source"), said.column("image_id"), names)
    for source, image_id, name in zip(*(column.to_pylist() for column in columns), strict=True):
        found[source].setdefault(image_id, []).append(name)
    return {
        f"labels_{source}": {image_id: sorted(set(of_image)) for image_id, of_image in of_images.items()}
        for source, of_images in found.items()
    }


def _quality(workspace: Workspace) -> dict[str, Cells]:
    flags = _column(workspace, schema.QUALITY, {f"is_{check}": check for check in schema.QUALITY_CHECKS})
    raised: dict[str, list[str]] = {}
    for check, cells in flags.items():
        for image_id, is_raised in cells.items():
            if is_raised:
                raised.setdefault(image_id, []).append(check)
    return {"quality_flags": raised}


def _screened(workspace: Workspace) -> dict[str, Cells]:
    own = ("status", "reason", "risk", "is_control", "shown_classes")
    columns = _column(workspace, schema.SCREEN, {name: name for name in own})
    known = read_class_names(workspace)

    def name_of(class_index: int) -> str:
        return known[class_index].name if class_index in known else f"class {class_index}"

    shown = {
        image_id: [name_of(class_index) for class_index in indices]
        for image_id, indices in columns.get("shown_classes", {}).items()
    }
    nearest = {image_id: names[0] for image_id, names in shown.items() if names}
    return columns | {"shown_classes": shown, "nearest_class": nearest}


def _duplicates(workspace: Workspace) -> dict[str, Cells]:
    alike = _column(workspace, schema.DUPLICATES, {"duplicate_of": "of"}).get("of", {})
    sizes: dict[str, int] = {}
    for representative in alike.values():
        sizes[representative] = sizes.get(representative, 1) + 1
    group = dict(alike) | {representative: representative for representative in sizes}
    return {
        "duplicate_group": group,
        "duplicate_group_size": {image_id: sizes[representative] for image_id, representative in group.items()},
    }


def _verdicts(workspace: Workspace) -> dict[str, Cells]:
    names = {"verdict": "verdict", "source": "verdict_source"}
    return _column(workspace, schema.VERDICTS, names)


def _answers(workspace: Workspace) -> dict[str, Cells]:
    """Return what the logs say now, whether `consensus` has been run since or not."""
    ballots = read_ballots(workspace)
    known = read_class_names(workspace)
    votes: dict[str, list[str]] = {}
    said: dict[str, list[str]] = {}
    notes: dict[str, list[str]] = {}
    for queue in ("first", "inspection", "dispute"):
        for annotator_id, given in ballots.votes(queue).items():
            who = annotator_id if queue == "first" else f"{annotator_id} ({queue})"
            for image_id, decision in given.items():
                if queue == "first":
                    votes.setdefault(image_id, []).append(decision.answer)
                said.setdefault(image_id, []).append(f"{who}: {_told(decision, known)}")
                if decision.note:
                    notes.setdefault(image_id, []).append(f"{who}: {decision.note}")
    counts = {
        f"n_{answer}": {image_id: given.count(answer) for image_id, given in votes.items()}
        for answer in ("out", "in", "difficult")
    }
    shares = {image_id: disagreement(given) for image_id, given in votes.items()}
    return counts | {
        "answers": said,
        "notes": notes,
        "n_notes": {image_id: len(of_image) for image_id, of_image in notes.items()},
        "disagreement": {image_id: share for image_id, share in shares.items() if share is not None},
    }


def _told(decision: Decision, known: Mapping[int, Any]) -> str:
    if decision.class_index is None:
        return decision.answer
    name = known[decision.class_index].name if decision.class_index in known else str(decision.class_index)
    return f"{decision.answer} ({name})"


def _gold(workspace: Workspace) -> dict[str, Cells]:
    return _column(workspace, schema.GOLD, {"answer": "gold_answer"})


def _splits(workspace: Workspace) -> dict[str, Cells]:
    """Return where each image is in the newest manifest of every name."""
    splits: dict[str, list[str]] = {}
    for folder in newest_manifests(frozen_folders(workspace.manifests_dir)):
        records = read_manifest(folder).records.select(["image_id", "split"]).to_pydict()
        for image_id, split in zip(*records.values(), strict=True):
            splits.setdefault(image_id, []).append(f"{folder.name}: {split}")
    return {"manifest_split": splits}


def newest_manifests(folders: Sequence[Path]) -> list[Path]:
    """Return of every name the folder ``<name>-<version>`` of the highest version, by name."""
    newest: dict[str, Path] = {}
    for folder in sorted(folders, key=lambda folder: parse_version(folder.name.rpartition("-")[2])):
        newest[folder.name.rpartition("-")[0]] = folder
    return [newest[name] for name in sorted(newest)]
