"""The picture that explains one row of ``screen.parquet``: the image, its views, the classes and their sources."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from matplotlib.patches import Rectangle
from PIL import Image

from manifests import schema
from manifests.colours import BLUE, GREY, VERMILLION
from manifests.errors import InputError
from manifests.images import read_image
from manifests.label_space import read_label_space
from manifests.plots.style import ON_SCREEN
from manifests.stored_pictures import stored_pictures
from manifests.tiles import FULL, view_box
from manifests.workspace import Workspace

_TITLE_CHARS = 60

_NEAR_SHARE = 0.03
_BADGE_POINTS = 15
"""Height of a badge with the places of the classes that a tile raised; several tiles may begin nearly together."""


def explain(workspace: Workspace, image_id: str, path: Path) -> None:
    """Write a PNG of one screened picture: whole with its tiles, and each shown class with its source and view.

    Raises
    ------
    InputError
        `screen` has no such image, or shows no classes of it.
    StageMissingError
        `screen` has not run here.
    UnreadableImageError
        The picture cannot be read any more.
    """
    table = workspace.read(schema.SCREEN)
    rows = table.filter(pc.equal(table.column("image_id"), image_id)).to_pylist()
    if not rows:
        raise InputError(f"--explain {image_id}: no such image in {workspace.path_of(schema.SCREEN)}")
    row = rows[0]
    if not row["shown_classes"]:
        raise InputError(f"--explain {image_id}: {row['status']} as {row['reason']}, no classes were compared")
    stored = stored_pictures(workspace)[image_id]
    names = {known.class_index: known.name for known in read_label_space(workspace.classes_path)}
    image = read_image(stored.path, stored.rotation_deg)
    with ON_SCREEN.figure_at(path, 9, 5.2) as figure:
        columns = figure.add_gridspec(1, 2, width_ratios=(1, 1.1))
        left, right = (figure.add_subfigure(columns[0, place]) for place in (0, 1))
        _draw_whole(left, image, row)
        _draw_classes(right, image, row, names)


def _draw_whole(figure: SubFigure, image: Image.Image, row: Mapping[str, Any]) -> None:
    axes = figure.subplots()
    axes.imshow(image)
    axes.set_axis_off()
    corners: list[tuple[int, int]] = []
    for view in dict.fromkeys(row["shown_views"]):
        if view != FULL:
            left, top, right, bottom = view_box(view, image.width, image.height)
            size = right - left, bottom - top
            axes.add_patch(
                Rectangle((left, top), *size, fill=False, edgecolor=VERMILLION, linewidth=1.2, clip_on=False)
            )
            near = sum(abs(left - x) + abs(top - y) < _NEAR_SHARE * image.width for x, y in corners)
            corners.append((left, top))
            places = [
                str(place) for place, raised_by in enumerate(row["shown_views"], start=1) if raised_by == view
            ]
            box = {"boxstyle": "round,pad=0.25", "facecolor": VERMILLION, "edgecolor": "white", "linewidth": 0.8}
            axes.annotate(
                ", ".join(places), (left, top), (5, -5 - _BADGE_POINTS * near), textcoords="offset points",
                fontsize=7, weight="bold", color="white", va="top", bbox=box,
            )  # fmt: skip
    reason = f" as {row['reason']}" if row["reason"] else ""
    duplicate = f" of {row['duplicate_of']}" if row["duplicate_of"] else ""
    control = ", a control image" if row["is_control"] else ""
    figure.suptitle(
        f"{row['image_id']}\n{row['status']}{reason}{duplicate}{control}, risk {row['risk']:.3f}", fontsize=9
    )


def _draw_classes(figure: SubFigure, image: Image.Image, row: Mapping[str, Any], names: Mapping[int, str]) -> None:
    shown = list(
        zip(row["shown_classes"], row["shown_similarities"], row["shown_sources"], row["shown_views"], strict=True)
    )
    grid = figure.subplots(len(shown), 2, width_ratios=(1, 7), squeeze=False)
    highest = max(similarity for _, similarity, _, _ in shown)
    absent = set(row["absent_classes"] or ())
    for place, ((thumb, line), (class_index, similarity, source, view)) in enumerate(
        zip(grid, shown, strict=True), start=1
    ):
        thumb.imshow(_view(image, view))
        thumb.set_axis_off()
        _draw_line(line, similarity / highest if highest > 0 else 0.0)
        name = names.get(class_index, "?")[:_TITLE_CHARS]
        known = ", people say absent" if class_index in absent else ""
        line.text(0.0, 0.62, f"{place}. {name} ({class_index}{known})", fontsize=8, va="bottom")
        line.text(0.0, 0.02, f"{source}, {view}, cosine {similarity:.3f}", fontsize=6.5, color=GREY, va="bottom")


def _draw_line(axes: Axes, share: float) -> None:
    axes.set(xlim=(0, 1), ylim=(0, 1.3))
    axes.set_axis_off()
    axes.barh(0.5, float(np.clip(share, 0, 1)), height=0.12, color=BLUE)


def _view(image: Image.Image, view: str) -> Image.Image:
    return image.crop(view_box(view, image.width, image.height))
