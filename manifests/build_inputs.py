"""What a manifest is built from: the parts of the workspace's tables that it follows from, and their digests.

A digest is over sorted rows, not over a file's bytes: those depend on the order of rows, on the compressor, and on
columns that no manifest looks at.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from manifests import schema
from manifests.chained_log import LogHead, chain_of
from manifests.errors import StageMissingError, TableError
from manifests.official import ids_digest
from manifests.strata import main_labels, strata
from manifests.workspace import Workspace

FROM_CANDIDATES = ("url", "license_url", "author", "title", "landing_url")
FROM_DOWNLOADS = ("sha256", "width_px", "height_px")
_COLUMNS: dict[str, tuple[str, ...]] = {
    schema.CANDIDATES.file_name: FROM_CANDIDATES,
    schema.DOWNLOADS.file_name: ("status", *FROM_DOWNLOADS),
    schema.SCREEN.file_name: ("status", "reason", "duplicate_of", "risk"),
    schema.DUPLICATES.file_name: ("duplicate_of",),
    schema.QUALITY.file_name: tuple(f"is_{check}" for check in schema.QUALITY_CHECKS),
    schema.VERDICTS.file_name: ("verdict", "source", "n_out", "n_in", "n_difficult"),
}

Rows = dict[str, dict[str, Any]]
"""Image id to row."""


def table_digest(table: pa.Table) -> str:
    """Return the SHA-256 over a table's rows, sorted by image id, column by column as canonical JSON."""
    digest = hashlib.sha256()
    ordered = table.sort_by("image_id")
    for name in ordered.column_names:
        digest.update(json.dumps([name, ordered.column(name).to_pylist()], ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()


@dataclass
class BuildInputs:
    """Reads tables of a workspace and keeps the digest of each; a table that is not there is empty.

    Attributes
    ----------
    workspace : Workspace
        Where they lie.
    digests : dict of str to str
        Of what was read so far, by file name.
    """

    workspace: Workspace
    digests: dict[str, str]

    def rows(self, table: schema.TableSpec, *, is_needed: bool = False) -> Rows:
        """Return what a manifest needs of a table, by image id.

        Raises
        ------
        StageMissingError
            The table is needed and is not there.
        TableError
            It does not follow its schema.
        """
        if not is_needed and not self.workspace.has(table):
            return {}
        part = self.workspace.read(table).select(["image_id", *_COLUMNS[table.file_name]])
        self.digests[table.file_name] = table_digest(part)
        return {row["image_id"]: row for row in part.to_pylist()}

    def flags(self) -> dict[str, frozenset[str]]:
        """Return the quality flags of every picture that was looked at.

        Raises
        ------
        StageMissingError
            The stage `quality` has not been run.
        """
        rows = self.rows(schema.QUALITY, is_needed=True)
        checks = schema.QUALITY_CHECKS
        return {one: frozenset(check for check in checks if row[f"is_{check}"]) for one, row in rows.items()}

    def duplicates(self, screen: Rows) -> dict[str, str]:
        """Return the picture that each copy is a copy of, by the stage `duplicates`, else by `screen`."""
        found = self.rows(schema.DUPLICATES) or screen
        return {one: row["duplicate_of"] for one, row in found.items() if row["duplicate_of"] is not None}

    def strata(self, screen: Rows) -> dict[str, str]:
        """Return the stratum of every screened picture, by risk, and by label where there are labels."""
        risks = {one: row["risk"] for one, row in screen.items()}
        if not self.workspace.has(schema.LABELS):
            return strata(risks, None)
        labels = main_labels(self.workspace.read(schema.LABELS), sorted(risks))
        # Of a table of millions of rows, a manifest follows from one label an image.
        self.digests[schema.LABELS.file_name] = ids_digest(f"{one} {label}" for one, label in labels.items())
        return strata(risks, labels)


def log_heads(workspace: Workspace, paths: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """Return how far each log goes, by its name below the workspace.

    Raises
    ------
    TableError
        The chain of a log is broken.
    """
    heads = {}
    for path in paths:
        chain = chain_of(path)
        if chain.problem:
            raise TableError(f"{path}: {chain.problem}")
        heads[path.relative_to(workspace.root).as_posix()] = vars(chain.head)
    return heads


def head_of(stated: Any, where: str) -> LogHead:
    """Return a head as a header states it; TableError names `where` if it states none."""
    if isinstance(stated, dict) and stated.keys() == LogHead.__annotations__.keys():
        head = LogHead(**stated)
        if isinstance(head.n_lines, int) and head.n_lines >= 0 and isinstance(head.last_sha256, str):
            return head
    raise TableError(f"{where}: expected n_lines and last_sha256, found {str(stated)[:80]}")


def decision_logs(workspace: Workspace) -> list[Path]:
    """Return the annotators' logs, by name."""
    return sorted(path for path in workspace.decisions_dir.glob("*.jsonl") if not path.name.startswith("."))


def check_verdicts_follow(workspace: Workspace) -> None:
    """Refuse verdicts that no longer follow from the screen, the decisions and the rounds of inspection here.

    Raises
    ------
    StageMissingError
        Naming what changed since.
    """
    recorded = workspace.read_record("consensus", "inputs")
    rounds = sorted(workspace.inspections_dir.glob("*.json"))
    found = workspace.input_digests([workspace.path_of(schema.SCREEN), *decision_logs(workspace), *rounds])
    if recorded and recorded != found:
        changed = sorted(name for name in {*recorded, *found} if recorded.get(name) != found.get(name))
        raise StageMissingError(
            f"{', '.join(changed)} changed since the verdicts: run the stage 'consensus' again"
        )
