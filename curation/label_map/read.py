"""The label map as it comes with the package."""

import csv
from dataclasses import dataclass
from pathlib import Path

MAP_PATH = Path(__file__).parent / "open_images_to_imagenet.csv"
MAP_COLUMNS = ("mid", "label_name", "wnid", "class_index", "class_name", "relation", "evidence")


@dataclass(frozen=True)
class MappedLabel:
    """An Open Images label that means a class.

    Attributes
    ----------
    wnid : str
        The WordNet id of the class.
    class_index : int
        0 to 999, in torchvision's order.
    is_narrower : bool
        The label is a kind of the class: its presence means the class, its absence nothing.
    """

    wnid: str
    class_index: int
    is_narrower: bool


def read_label_map(path: Path = MAP_PATH) -> dict[str, MappedLabel]:
    """Return the reviewed map by MID."""
    with path.open(encoding="utf-8", newline="") as stream:
        return {
            row["mid"]: MappedLabel(row["wnid"], int(row["class_index"]), row["relation"] == "narrower")
            for row in csv.DictReader(stream, strict=True)
        }
