"""A list for the downloader aria2: address, file name and digest of each picture, for ``aria2c -i``.

https://aria2.github.io/manual/en/html/aria2c.html#input-file
"""

from pathlib import Path

from manifests.durable import write_text
from manifests.errors import InputError
from manifests.exporters.exported_set import ExportedSet, Record, file_name
from manifests.exporters.placing import place_pictures


def write_aria2_list(export: ExportedSet, folder: Path) -> dict[str, str]:
    """Write ``<split>.txt`` for each split, and the pictures where they are exported.

    Raises
    ------
    InputError
        An image has no address.
    """
    for split, records in export.by_split().items():
        write_text(folder / f"{split}.txt", "".join(_entry(record) for record in records))
    return place_pictures(export, folder, lambda record: f"pictures/{file_name(record)}")


def _entry(record: Record) -> str:
    if record["url"] is None:
        raise InputError(f"aria2: {record['image_id']} has no address")
    lines = [record["url"], f"  out={file_name(record)}"]
    if record["sha256"] is not None:
        lines.append(f"  checksum=sha-256={record['sha256']}")
    return "\n".join(lines) + "\n"
