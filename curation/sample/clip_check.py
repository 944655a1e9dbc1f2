"""How well a CLIP encoder tells apart what a world shows: the figures that its training prints and tests bound."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from curation.sample.world import SUBSET, World
from curation.views import cut_views
from manifests.images import read_image
from manifests.label_space import read_label_space
from manifests.ranking import Ranking
from manifests.schema import N_SHOWN_CLASSES

if TYPE_CHECKING:
    from curation.clip import ClipEncoder

_Similarities = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ClipFigures:
    """What an encoder reaches on a world; shares in [0, 1].

    Attributes
    ----------
    top1 : float
        Share of plain in-class candidates whose most similar name is their class.
    auroc : float
        Probability that a plain in-class candidate has a higher greatest similarity than a plain one without.
    unseen_auroc : float
        The same against the kinds given as unseen.
    corner_top1, corner_shown : dict of int to float
        By tiles a side (0: whole picture only), share of corner candidates whose class is the most similar one,
        and is among the classes shown to an annotator.
    in_above, out_above : float
        Share of plain candidates with and without an in-class object whose greatest similarity, over the views of
        the last tiling, is above the bound given.
    """

    top1: float
    auroc: float
    unseen_auroc: float
    corner_top1: dict[int, float]
    corner_shown: dict[int, float]
    in_above: float
    out_above: float


def clip_figures(
    encoder: "ClipEncoder",
    world: World,
    unseen_kinds: Sequence[str],
    *,
    above: float,
    grids: Sequence[int] = (0, 2, 3),
) -> ClipFigures:
    """Return the figures of `encoder` on `world`, with prototypes from the world's class names."""
    names = [known.name for known in read_label_space(world.classes_path)]
    with world.truth_path.open(encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["kind"] in ("plain", "corner")]
    prototypes = encoder.encode_class_names(names, "openai")  # (n_classes, d)
    plain_in = [row for row in rows if row["kind"] == "plain" and row["truth"] == "in"]
    plain_out = [row for row in rows if row["kind"] == "plain" and row["truth"] == "out"]
    corner = [row for row in rows if row["kind"] == "corner"]
    in_similarities = _similarities(encoder, world, plain_in, prototypes, 0)
    in_scores = in_similarities.max(axis=1)
    out_scores = _similarities(encoder, world, plain_out, prototypes, 0).max(axis=1)
    tiled = {
        name: _similarities(encoder, world, rows_of, prototypes, grids[-1]).max(axis=1)
        for name, rows_of in (("in", plain_in), ("out", plain_out))
    }
    is_unseen = np.array([row["drawn"] in unseen_kinds for row in plain_out])
    by_grid = {grid: _similarities(encoder, world, corner, prototypes, grid) for grid in grids}
    return ClipFigures(
        top1=_share_within(in_similarities, plain_in, 1),
        # A similarity is higher for ID.
        auroc=Ranking.of(-in_scores, -out_scores).auroc(),
        unseen_auroc=Ranking.of(-in_scores, -out_scores[is_unseen]).auroc(),
        corner_top1={grid: _share_within(by_grid[grid], corner, 1) for grid in grids},
        corner_shown={grid: _share_within(by_grid[grid], corner, N_SHOWN_CLASSES) for grid in grids},
        in_above=float((tiled["in"] > above).mean()),
        out_above=float((tiled["out"] > above).mean()),
    )


def _similarities(
    encoder: "ClipEncoder", world: World, rows: Sequence[dict[str, str]], prototypes: _Similarities, grid: int
) -> _Similarities:
    """Return the greatest similarity over the views of each picture, (n_rows, n_classes)."""
    greatest = []
    for row in rows:
        image = read_image(_picture_path(world, row["image_id"]))
        greatest.append(
            (encoder.encode_images([view for _, view in cut_views(image, grid)]) @ prototypes.T).max(axis=0)
        )
    return np.stack(greatest)


def _picture_path(world: World, image_id: str) -> Path:
    return world.mirror_dir / SUBSET / f"{image_id}.jpg"


def _share_within(similarities: _Similarities, rows: Sequence[dict[str, str]], n_best: int) -> float:
    truth = np.array([int(row["class_index"]) for row in rows])
    own = similarities[np.arange(len(truth)), truth]
    return float((np.sum(similarities > own[:, None], axis=1) < n_best).mean())
