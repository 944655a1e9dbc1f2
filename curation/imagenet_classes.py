"""The 1,000 classes of ImageNet-1K: index, name and WordNet id."""

import csv
from pathlib import Path

from manifests.label_space import ClassName

_WNIDS_PATH = Path(__file__).parent / "label_map" / "imagenet_wnids.csv"
"""ImageNet-1K's ids in ascending order, which is how torchvision, timm and Keras number its classes."""


def imagenet_wnids() -> list[str]:
    """Return the WordNet ids of the 1,000 classes, in torchvision's order."""
    with _WNIDS_PATH.open(encoding="utf-8", newline="") as stream:
        return [row["wnid"] for row in csv.DictReader(stream, strict=True)]


def imagenet_classes() -> list[ClassName]:
    """Return the 1,000 classes in torchvision's order, with open_clip's names."""
    from curation.clip import imagenet_class_names

    named = zip(imagenet_class_names(), imagenet_wnids(), strict=True)
    return [ClassName(class_index, name, wnid) for class_index, (name, wnid) in enumerate(named)]
