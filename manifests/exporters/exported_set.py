"""What every format is written from: the images that are exported, where their pictures lie, what is known."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa

from manifests import schema
from manifests.errors import InputError

RECORDS_NAME = "records.parquet"
"""The table of the records in the exports that have one."""

Record = Mapping[str, Any]
"""One row of the manifest, and the `rotation_deg` of its picture, None where it is not known."""


@dataclass(frozen=True)
class Publication:
    """What only the publisher can say: who made the set, where it stands, since which day (YYYY-MM-DD).

    Raises
    ------
    InputError
        The address is not one of the web, or the day is none.
    """

    creators: tuple[str, ...] = ()
    url: str | None = None
    published: str | None = None

    def __post_init__(self) -> None:
        if self.url is not None and not self.url.startswith(("https://", "http://")):
            raise InputError(f"--url: expected an address that begins with https://, found {self.url!r}")
        if self.published is not None and not _is_day(self.published):
            raise InputError(f"--published: expected a day, YYYY-MM-DD, found {self.published!r}")


@dataclass(frozen=True)
class AnnotationFacts:
    """What the decision logs say of the exported images, answers of audits left aside.

    Attributes
    ----------
    n_annotators, n_answers : int
        Who answered, and answers that stand: the last one of each annotator and image.
    first_day, last_day : str or None
        Of these answers, UTC, YYYY-MM-DD.
    guidelines, tool_versions : tuple of str
        Under which they were given.
    """

    n_annotators: int = 0
    n_answers: int = 0
    first_day: str | None = None
    last_day: str | None = None
    guidelines: tuple[str, ...] = ()
    tool_versions: tuple[str, ...] = ()


@dataclass(frozen=True)
class ExportedSet:
    """A manifest without its retired images.

    Attributes
    ----------
    header : mapping
        The manifest's header.
    records : sequence of Record
        Sorted by image id.
    n_retired : int
        How many images of the manifest are left out.
    pictures : mapping of str to Path, optional
        Where the picture of each image lies; None where pictures are not exported.
    facts, publication
        For the formats that describe the set in words.
    """

    header: Mapping[str, Any]
    records: Sequence[Record]
    n_retired: int = 0
    pictures: Mapping[str, Path] | None = None
    facts: AnnotationFacts = field(default_factory=AnnotationFacts)
    publication: Publication = field(default_factory=Publication)

    @property
    def name(self) -> str:
        """The set's name, without its version."""
        return str(self.header["name"])

    @property
    def version(self) -> str:
        """X.Y.Z."""
        return str(self.header["version"])

    def by_split(self) -> dict[str, list[Record]]:
        """Return the records by split, splits and records sorted."""
        splits: dict[str, list[Record]] = {split: [] for split in sorted({r["split"] for r in self.records})}
        for record in self.records:
            splits[record["split"]].append(record)
        return splits


def _is_day(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def file_name(record: Record) -> str:
    """Return the name of a picture's file; like Open Images' mirror, it ends in .jpg whatever the bytes are."""
    return f"{record['image_id']}.jpg"


def records_table(records: Sequence[Record], path_of: Callable[[Record], str] | None = None) -> pa.Table:
    """Return the records as a table: the manifest's columns, `rotation_deg`, `label`, `path` where asked for."""
    fields = [*schema.MANIFEST.schema, pa.field("rotation_deg", pa.int32()), pa.field("label", pa.int32())]
    rows = [{**record, "label": schema.OOD_LABEL} for record in records]
    if path_of is not None:
        fields.append(pa.field("path", pa.string(), nullable=False))
        rows = [{**row, "path": path_of(row)} for row in rows]
    return pa.Table.from_pylist(rows, schema=pa.schema(fields))
