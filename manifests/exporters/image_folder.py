"""A tree for torchvision's `ImageFolder`: ``<split>/ood/<image id>.jpg``.

`ImageFolder` numbers the folders of a split from 0; ``target_transform=lambda _: -1`` gives the OOD label.
"""

from pathlib import Path

from manifests.exporters.exported_set import ExportedSet, file_name
from manifests.exporters.placing import place_pictures

CLASS_FOLDER = "ood"


def write_image_folder(export: ExportedSet, folder: Path) -> dict[str, str]:
    """Place the pictures, as hard links where possible."""
    return place_pictures(export, folder, lambda record: f"{record['split']}/{CLASS_FOLDER}/{file_name(record)}")
