"""pytorch-ood's inclusion lists: a JSON list of file names a split, and the pictures in its folder."""

import json
from pathlib import Path

from manifests.durable import write_text
from manifests.exporters.exported_set import ExportedSet, file_name
from manifests.exporters.placing import place_pictures

PICTURES_DIR = "OpenImagesO/images"
"""Where its class `OpenImagesO` looks for pictures below its `root` (`base_folder`)."""


def write_pytorch_ood(export: ExportedSet, folder: Path) -> dict[str, str]:
    """Write ``<split>_<name>.json``, and the pictures where they are exported."""
    for split, records in export.by_split().items():
        names = [file_name(record) for record in records]
        write_text(folder / f"{split}_{export.name}.json", json.dumps(names, indent=4) + "\n")
    return place_pictures(export, folder, lambda record: f"{PICTURES_DIR}/{file_name(record)}")
