"""A workspace: the folder of tables, pictures and logs in which the stages meet."""

import contextlib
import json
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow as pa

from manifests import schema
from manifests.durable import remove_left_overs, sha256_of_file, write_json
from manifests.errors import InputError, StageMissingError, TableError
from manifests.folder_lock import held
from manifests.parquet import parquet_schema, read_parquet, write_parquet
from manifests.process_edge import current_ending
from manifests.stage_progress import noting_progress
from manifests.writes import is_led_elsewhere

DISTRIBUTION_NAME = "openimage-o-toolkit"
DEMO_MARKER_NAME = ".made-by-demo"
"""File of a workspace that `demo` made, and that it may empty."""

_RECORDED_PACKAGES = ("numpy", "open-clip-torch", "pillow", "pyarrow", "timm", "torch")
_NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


def tool_version() -> str:
    """Return the version of the toolkit as installed."""
    return metadata.version(DISTRIBUTION_NAME)


def checked_name(name: str, what: str) -> str:
    """Return `name` if it can be a folder's name, so that no model or set name leaves the workspace.

    Raises
    ------
    InputError
        `name` is not letters, digits, ``_ . -``, starting with a letter or digit.
    """
    if not _NAME_PATTERN.fullmatch(name):
        raise InputError(f"{what}: expected letters, digits, '_', '.' or '-', found {name!r}")
    return name


@dataclass
class StageRecord:
    """What one run of a stage leaves in ``provenance/``; the stage fills in `counts` and `seed`."""

    counts: dict[str, int] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    seed: int | None = None


class Workspace:
    """The folder of one curation run.

    Parameters
    ----------
    root : Path
        The folder; made when the first stage writes.
    announce_wait : callable, optional
        Where another process is at work here, a stage tells this who, and waits; without it, that is an error.
    """

    def __init__(self, root: Path, *, announce_wait: Callable[[str], None] | None = None) -> None:
        self.root = root
        self._announce_wait = announce_wait

    def path_of(self, table: schema.TableSpec) -> Path:
        """Return where `table` lies."""
        return self.root / table.file_name

    def has(self, table: schema.TableSpec) -> bool:
        """Return whether `table` has been written."""
        return self.path_of(table).exists()

    def path_to_read(self, table: schema.TableSpec) -> Path:
        """Return where `table` lies, for who reads a part of it, after looking at its columns alone.

        Raises
        ------
        StageMissingError
            The stage that writes it has not been run here.
        TableError
            The file is damaged, or of a version with other columns.
        """
        path = self.path_of(table)
        if not path.exists():
            raise StageMissingError(
                f"{path} is not there: run the stage '{table.written_by}' on this workspace first"
            )
        if difference := schema.difference_of_form(parquet_schema(path), table.schema):
            has_parts = table.parts_dir is not None and (self.root / table.parts_dir).exists()
            which = f"it and {self.root / str(table.parts_dir)}" if has_parts else "it"
            # Moved away, as some stages read what their last run wrote.
            raise TableError(
                f"{path}: another version of the toolkit wrote it ({difference}): move {which} away and run the "
                f"stage '{table.written_by}' again, with the options that it had: "
                f"{shlex.join(['python', 'cli.py', *table.written_by.split(), '--workspace', str(self.root)])}"
            )
        return path

    def read(self, table: schema.TableSpec) -> pa.Table:
        """Return `table`, checked against its schema.

        Raises
        ------
        StageMissingError
            As `path_to_read`.
        TableError
            The file does not follow the schema.
        """
        path = self.path_to_read(table)
        return table.check(read_parquet(path), str(path))

    def write(self, table: schema.TableSpec, rows: Sequence[Mapping[str, Any]] | pa.Table) -> Path:
        """Write `table` sorted by image_id, in one step, after checking it; return its path."""
        content = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(list(rows), schema=table.schema)
        path = self.path_of(table)
        write_parquet(path, table.check(content.sort_by("image_id"), str(path)))
        return path

    @property
    def downloads_log_path(self) -> Path:
        """The log that `download` appends to, one line an image."""
        return self.root / "downloads.jsonl"

    @property
    def embeddings_dir(self) -> Path:
        """Folder with one folder a model digest."""
        return self.root / "embeddings"

    @property
    def masks_dir(self) -> Path:
        """Folder with one folder a localizer digest."""
        return self.root / "masks"

    @property
    def fingerprints_dir(self) -> Path:
        """Folder with digest and thumbnail of every picture, from which duplicates and leaks are found."""
        return self.root / "fingerprints"

    @property
    def classes_path(self) -> Path:
        """The in-distribution classes that `screen` compared with: class_index, name, wnid."""
        return self.root / "classes.csv"

    @property
    def decisions_dir(self) -> Path:
        """Folder with one log an annotator."""
        return self.root / "decisions"

    @property
    def inspections_dir(self) -> Path:
        """Folder with one file a round of inspection."""
        return self.root / "inspections"

    @property
    def audits_dir(self) -> Path:
        """Folder with one table an audit."""
        return self.root / "audits"

    @property
    def certificates_dir(self) -> Path:
        """Folder with one file an audit that has ended."""
        return self.root / "certificates"

    @property
    def features_dir(self) -> Path:
        """Folder with one folder a model, each with sets and a head."""
        return self.root / "features"

    def find_features(self, wanted: Path | None) -> Path:
        """Return a folder of features: a path, a name below `features_dir`, or the only one there.

        Raises
        ------
        InputError
            `wanted` is not given, and the workspace holds none or several.
        """
        return _the_only(self.features_dir, "*/head.safetensors", wanted, "--features")

    @property
    def scores_dir(self) -> Path:
        """Folder with one folder a model."""
        return self.root / "scores"

    def find_scores(self, wanted: Path | None) -> Path:
        """Return a folder of results: a path, a name below `scores_dir`, or the only one there.

        Raises
        ------
        InputError
            As `find_features`.
        """
        return _the_only(self.scores_dir, "*/scores.parquet", wanted, "--scores")

    @property
    def manifests_dir(self) -> Path:
        """Folder with one folder a frozen manifest."""
        return self.root / "manifests"

    @property
    def tombstones_path(self) -> Path:
        """The log that `retire` appends to, one line a withdrawn image."""
        return self.root / "tombstones.jsonl"

    @staticmethod
    def relative_image_path(image_id: str) -> str:
        """Return where the picture of `image_id` lies below the workspace, with forward slashes."""
        return f"images/{image_id[:2]}/{image_id}.jpg"

    @contextlib.contextmanager
    def stage(
        self,
        name: str,
        arguments: Mapping[str, Any],
        inputs: Sequence[Path] = (),
        *,
        record_as: str | None = None,
        out_dir: Path | None = None,
    ) -> Iterator[StageRecord]:
        """Hold the workspace for one stage and record how it was run.

        Parameters
        ----------
        name : str
            The stage's command.
        arguments : mapping
            Its arguments as resolved, JSON values.
        inputs : sequence of Path
            Files that were read; each goes into the record with its SHA-256.
        record_as : str, optional
            Name of the record, where a stage may be run several times with different outputs.
        out_dir : Path, optional
            A folder that the user may give and that the stage goes on with: it is held too, as one that works on
            another workspace may be given the same. Made where it is not there.

        Raises
        ------
        WorkspaceLockedError
            Another process is at work here, or in `out_dir`.
        """
        file_name = checked_name(record_as or name, "record")
        with self._locked(name), self._held_too(out_dir, name):
            record = StageRecord()
            started = datetime.now(UTC)
            outcome = "failed"
            try:
                yield record
                outcome = "done"
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt) or current_ending().number is not None:
                    outcome = "interrupted"
                raise
            finally:
                # A run that failed leaves the table of an earlier one, whose record must stay.
                ending = "json" if outcome == "done" else f"{outcome}.json"
                content = {
                    "stage": name,
                    "outcome": outcome,
                    "arguments": dict(arguments),
                    "inputs": self.input_digests(inputs),
                    "input_sizes": {
                        self.name_in_records(path): path.stat().st_size for path in inputs if path.is_file()
                    },
                    "seed": record.seed,
                    "counts": record.counts,
                    "details": record.details,
                    # Finer than a second: short stages that follow each other stay in their order.
                    "started": started.isoformat(timespec="microseconds"),
                    "ended": datetime.now(UTC).isoformat(timespec="microseconds"),
                    "versions": _versions(),
                }
                write_json(self.root / "provenance" / f"{file_name}.{ending}", content)

    def record_names(self, stage_name: str) -> list[str]:
        """Return the names of the records that runs of a stage left when they were done, sorted."""
        paths = (self.root / "provenance").glob(f"{stage_name}*.json")
        endings = (".failed", ".interrupted")
        return sorted(path.stem for path in paths if not path.stem.endswith(endings))

    def read_record(self, record_name: str, part: str) -> dict[str, Any]:
        """Return one part (``inputs``, ``counts``, ...) of the record of the last run of a stage that was done.

        Empty where there is no such record.

        Raises
        ------
        TableError
            The record is damaged.
        """
        path = self.root / "provenance" / f"{record_name}.json"
        try:
            return dict(json.loads(path.read_text(encoding="utf-8"))[part]) if path.exists() else {}
        except (ValueError, KeyError, TypeError) as error:
            raise TableError(f"{path}: not the record of a stage ({error})") from error

    def input_digests(self, paths: Iterable[Path]) -> dict[str, str]:
        """Return the SHA-256 of each file that is there, by its name below the workspace, or else its path."""
        return {self.name_in_records(path): sha256_of_file(path) for path in paths if path.is_file()}

    def name_in_records(self, path: Path) -> str:
        """Return what records call a file: its name below the workspace, or else its path."""
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)

    @contextlib.contextmanager
    def _held_too(self, out_dir: Path | None, stage_name: str) -> Iterator[None]:
        if out_dir is not None:
            try:
                out_dir.mkdir(parents=True, exist_ok=True)
            except (FileExistsError, NotADirectoryError):
                raise InputError(f"--out {out_dir}: expected a folder, found a file there or above it") from None
        # The workspace itself may be given: it is held already.
        if out_dir is None or out_dir.samefile(self.root):
            yield
            return
        with held(out_dir, stage_name, option="--out"):
            yield

    @contextlib.contextmanager
    def _locked(self, stage_name: str) -> Iterator[None]:
        self._make_root()
        with held(self.root, stage_name, option="--workspace", announce_wait=self._announce_wait):
            if not is_led_elsewhere():
                self._sweep()
            with noting_progress(self.root):
                yield

    def _sweep(self) -> None:
        """Delete what killed processes left half-written: under the lock, nobody else is writing here."""
        for name in (
            "",
            "images",
            "decisions",
            "inspections",
            "audits",
            "certificates",
            "quarantine",
            "embeddings",
            "masks",
            "fingerprints",
            "quality",
            "features",
            "scores",
            "manifests",
            "provenance",
            "training",
            "localizer",
        ):
            remove_left_overs(self.root / name, recursive=bool(name))

    def _make_root(self) -> None:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"--workspace {self.root}: cannot be made or written ({error.strerror})") from error


def _the_only(parent: Path, pattern: str, wanted: Path | None, flag: str) -> Path:
    """Return `wanted`, a path or a name below `parent`, or the folder of the only file there of this pattern."""
    if wanted is not None:
        below = parent / wanted
        return below if below.is_dir() and not wanted.is_dir() else wanted
    folders = sorted(path.parent for path in parent.glob(pattern))
    if len(folders) == 1:
        return folders[0]
    names = ", ".join(folder.name for folder in folders) or "none"
    raise InputError(f"{flag}: expected a folder; in {parent} there are: {names}")


def _versions() -> dict[str, str]:
    versions = {"python": sys.version.split()[0], DISTRIBUTION_NAME: tool_version()}
    for package in _RECORDED_PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions
