"""What can be shown of classes: names, example pictures, and the name of the guideline that annotators follow."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from annotation.review import ReviewItem
from manifests.errors import InputError
from manifests.label_space import ClassName
from manifests.tiles import FULL, view_box

GUIDELINE = "vim-section-5"
"""The paper's instructions: one of the classes shown = in, none of them = out, cannot decide = difficult."""


@dataclass(frozen=True)
class Catalogue:
    """The classes as annotators see them.

    Attributes
    ----------
    class_names : mapping of int to ClassName
        The label space; a class without a name is shown by its index.
    examples : mapping of int to Path
        Example pictures of classes, where there are any.
    guideline : str
        Name and version of the instructions, stored with every answer.
    """

    class_names: Mapping[int, ClassName]
    examples: Mapping[int, Path]
    guideline: str = GUIDELINE

    def name_of(self, class_index: int) -> str:
        """Return what people call a class."""
        known = self.class_names.get(class_index)
        return known.name if known else f"class {class_index}"

    def shown_class(self, class_index: int) -> dict[str, Any]:
        """Return one class as JSON values: class_index, name, wnid, example_path."""
        known, example = self.class_names.get(class_index), self.examples.get(class_index)
        return {
            "class_index": class_index,
            "name": self.name_of(class_index),
            "wnid": (known.wnid or None) if known else None,
            "example_path": str(example) if example else None,
        }

    def all_classes(self) -> list[dict[str, Any]]:
        """Return the whole label space as `shown_class` gives each, in the order of class_index."""
        return [self.shown_class(class_index) for class_index in sorted(self.class_names)]

    def shown_item(self, item: ReviewItem) -> dict[str, Any]:
        """Return one picture with its classes as JSON values: nothing of risk, control images or gold."""
        width_px, height_px = item.upright_size_px
        proposals = zip(
            item.shown_classes, item.shown_similarities, item.shown_sources, item.shown_views, strict=True
        )
        return {
            "image_id": item.image_id,
            "path": str(item.path),
            "rotation_deg": item.rotation_deg,
            "width_px": width_px,
            "height_px": height_px,
            "note": "",
            "classes": [
                self.shown_class(class_index)
                | {"similarity": similarity, "source": source, "view": view}
                | {"box": _box(view, width_px, height_px)}
                for class_index, similarity, source, view in proposals
            ],
            "answers": [],
        }


def _box(view: str | None, width_px: int, height_px: int) -> list[float] | None:
    """Return where a view lies, in fractions of the upright picture; None of the whole one."""
    if view is None or view == FULL:
        return None
    try:
        left, top, right, bottom = view_box(view, width_px, height_px)
    except InputError:
        # Embedded at another size than this copy has: without the frame the class is still worth showing.
        return None
    return [left / width_px, top / height_px, right / width_px, bottom / height_px]
