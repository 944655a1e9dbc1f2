"""A screened workspace for the stage `localize`, and a localizer whose answers are known."""

import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from curation.localize.localize import LocalizeRules, LocalizeSummary, localize_pictures
from manifests import schema
from manifests.label_space import ClassName, write_label_space
from manifests.workspace import Workspace
from tests.picture_workspace import add_pictures, pictures

NAMES = ("cat", "dog", "sea", "tree")
SWAPPED = ("tree", "dog", "sea", "cat")
N_PICTURES = 6


@dataclass
class Lamp:
    """A localizer that finds class k in the k-th quarter from the left, as strong as the picture's first pixel."""

    digest: str = "00000000000000aa"
    name: str = "lamp"
    asked: list[tuple[str, ...]] = field(default_factory=list)
    kill_after: int | None = None
    names: tuple[str, ...] = NAMES

    def evidence(self, picture: Image.Image, names: Sequence[str]) -> np.ndarray:
        if len(self.asked) == self.kill_after:
            os.kill(os.getpid(), signal.SIGKILL)
        self.asked.append(tuple(names))
        found = np.zeros((len(names), 48, 64), np.float32)
        for place, name in enumerate(names):
            quarter = self.names.index(name)
            found[place, :, 16 * quarter : 16 * quarter + 16] = 0.5 + picture.getpixel((0, 0))[0] / 512
        return found


def shown_of(number: int) -> list[int]:
    return [number % 4, (number + 1) % 4]


def screen_row(image_id: str, number: int, **changes: object) -> dict:
    row = {
        "image_id": image_id, "status": "review", "risk": 0.5, "shown_classes": shown_of(number),
        "shown_similarities": [0.5, 0.4], "is_control": False,
    }  # fmt: skip
    return row | changes


def make_screened(root: Path, **changes: Mapping) -> Workspace:
    """A workspace after `screen`; `changes` are those of a row by image id with an ``x`` before it."""
    contents = pictures(N_PICTURES)
    workspace = add_pictures(Workspace(root), contents)
    write_screen(workspace, **changes)
    write_label_space(workspace.classes_path, [ClassName(index, name) for index, name in enumerate(NAMES)])
    return workspace


def write_screen(workspace: Workspace, **changes: Mapping) -> None:
    rows = [
        screen_row(image_id, number, **changes.get(f"x{image_id}", {}))
        for number, image_id in enumerate(pictures(N_PICTURES))
    ]
    workspace.write(schema.SCREEN, rows)


def run(workspace: Workspace, lamp: Lamp | None = None, **rules: object) -> LocalizeSummary:
    return localize_pictures(workspace, lambda: lamp or Lamp(), {}, LocalizeRules(**rules))


def files_of(workspace: Workspace) -> dict[str, bytes]:
    paths = [*workspace.masks_dir.rglob("*.parquet"), workspace.path_of(schema.LOCALIZED)]
    return {str(path.relative_to(workspace.root)): path.read_bytes() for path in paths}


def rows_of(workspace: Workspace) -> dict[tuple[str, int], dict]:
    return {(row["image_id"], row["class_index"]): row for row in workspace.read(schema.LOCALIZED).to_pylist()}
