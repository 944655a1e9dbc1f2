"""The records as one table: CSV for people, Parquet for `scoring.exported_images`, our own torch data set."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from manifests import schema
from manifests.durable import replacing, write_text
from manifests.exporters.exported_set import (
    RECORDS_NAME,
    ExportedSet,
    Record,
    file_name,
    records_table,
)
from manifests.exporters.placing import place_pictures
from manifests.inert_csv import csv_text, inert

CSV_NAME = "records.csv"
# An image id is letters, digits, '_' and '-', which no spreadsheet runs, and must stay what it is.
_OWN_WORDS = ("image_id", "sha256", "path")


def picture_path(record: Record) -> str:
    """Return where these formats hold a picture: in 256 folders at most for ids in hex, as a workspace does."""
    return f"images/{record['image_id'][:2]}/{file_name(record)}"


def write_csv_table(export: ExportedSet, folder: Path) -> dict[str, str]:
    """Write ``records.csv``, and the pictures where exported; texts that a spreadsheet would run get a '."""
    table = records_table(export.records, None if export.pictures is None else picture_path)
    rows = ([_cell(name, value) for name, value in row.items()] for row in table.to_pylist())
    write_text(folder / CSV_NAME, csv_text(table.column_names, rows))
    return place_pictures(export, folder, picture_path)


def write_torch_folder(export: ExportedSet, folder: Path) -> dict[str, str]:
    """Write ``records.parquet`` and the pictures."""
    write_records(folder / RECORDS_NAME, records_table(export.records, picture_path))
    return place_pictures(export, folder, picture_path)


def write_records(path: Path, table: pa.Table) -> None:
    """Write a table of records as Parquet."""
    with replacing(path) as temporary:
        # Without compression, as compressed bytes differ between versions of a compressor.
        pq.write_table(table, temporary, compression="none", row_group_size=schema.ROW_GROUP_ROWS)


def _cell(name: str, value: str | int | None) -> str | int | None:
    return inert(value) if isinstance(value, str) and name not in _OWN_WORDS else value
