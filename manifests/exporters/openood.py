"""OpenOOD's image lists in its folder shape, as its `ImglistDataset` reads them.

A line is ``<path below images_largescale> <label>``, split at the first space. The folder is laid out as OpenOOD's
``data``: copy its contents there. Its configurations take the split `val` for tuning and `test` for results.
"""

from pathlib import Path

from manifests import schema
from manifests.durable import write_text
from manifests.exporters.exported_set import ExportedSet, Record, file_name
from manifests.exporters.placing import place_pictures

LISTS_DIR = "benchmark_imglist/imagenet"
PICTURES_DIR = "images_largescale"


def write_openood(export: ExportedSet, folder: Path) -> dict[str, str]:
    """Write ``benchmark_imglist/imagenet/<split>_<name>.txt``, and the pictures where they are exported."""

    def listed(record: Record) -> str:
        return f"{export.name}/images/{file_name(record)}"

    for split, records in export.by_split().items():
        lines = [f"{listed(record)} {schema.OOD_LABEL}\n" for record in records]
        write_text(folder / LISTS_DIR / f"{split}_{export.name}.txt", "".join(lines))
    return place_pictures(export, folder, lambda record: f"{PICTURES_DIR}/{listed(record)}")
