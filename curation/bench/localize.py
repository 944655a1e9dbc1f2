"""`bench localize`: how many small objects of known place a mask finds, and what that adds to ten classes.

Only the weights of the sample's tiny CLIP come with the toolkit, which has seen nothing but drawings: of real
pictures (``--data``) its figures show the machinery and what chance reaches.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from curation.bench.views import SHARES, pasted_pictures
from curation.clip import ClipEncoder, load_encoder
from curation.imagenet_classes import imagenet_classes
from curation.localize.heat_map import HeatMap
from curation.sample.commands import WEIGHTS_DIR
from curation.sample.pictures import IN_CLASSES, Corner, draw_planted_picture
from curation.sample.world_plan import CORNER_WIDTH_SHARE, plan_candidates
from curation.views import DEFAULT_GRID, cut_views
from manifests.images import decode_image
from manifests.masks import IS_EVIDENCE_FROM, cells_of, mask_of
from manifests.schema import N_SHOWN_CLASSES

N_CANDIDATES = 600
HELD_OUT_SEED = 90_001
"""Added to the seed: no world of a test or a demo has these pictures."""

N_ADDED = 3
"""Classes of the highest evidence that are shown beside the ten, against as many more of the highest cosine."""

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Planted:
    """A picture with an object of a class in a box (left, top, right, bottom)."""

    population: str
    image: Image.Image
    class_index: int
    box: Box


@dataclass(frozen=True)
class LocalizeFigures:
    """Of one population, shares of its `n_pictures`, but for `iou`, a mean.

    Attributes
    ----------
    pointed : float
        The middle of the mask's highest cells lies in the box.
    covered : float
        At least half of the box counts as evidence.
    iou : float
        Of evidence and box.
    missed : float
        The class is not among the ten of the highest cosines over the views.
    missed_with_masks, missed_with_more : float
        Nor among `N_ADDED` more: those of the highest evidence, or of the next cosines.
    """

    population: str
    n_pictures: int
    pointed: float
    covered: float
    iou: float
    missed: float
    missed_with_masks: float
    missed_with_more: float


def bench_localize(
    data_dir: Path | None, *, n_pictures: int | None = None, seed: int = 0, device: str = "auto"
) -> list[LocalizeFigures]:
    """Return the figures of the sample's corner objects, and of real pasted pictures where a folder is given.

    Parameters
    ----------
    data_dir : Path, optional
        As `curation.bench.views.bench_views` takes it.
    n_pictures : int, optional
        Of each population at most; by default 72 of the sample and 20 to paste.
    seed : int
        Chooses pictures and places.
    device : str
        As `curation.clip.load_encoder` takes it.
    """
    weights = (str(WEIGHTS_DIR / "tiny_clip.json"), str(WEIGHTS_DIR / "tiny_clip.safetensors"))
    encoder = load_encoder(*weights, device)
    corners = list(corner_pictures(seed, n_pictures))
    figures = _measured(encoder, [known.name for known in IN_CLASSES], corners)
    if data_dir is not None:
        pasted = [
            Planted(f"pasted {SHARES[one.share]:.0%}", decode_image(one.content), one.class_index, one.box)
            for one in pasted_pictures(data_dir, 20 if n_pictures is None else n_pictures, seed)
        ]
        figures += _measured(encoder, [known.name for known in imagenet_classes()], pasted)
    return figures


def corner_pictures(seed: int, n_pictures: int | None = None) -> Iterator[Planted]:
    """Yield the corner pictures of a world of the sample that nothing was trained on or chosen by."""
    plans = [plan for plan in plan_candidates(HELD_OUT_SEED + seed, N_CANDIDATES) if plan.kind == "corner"]
    for plan in plans[:n_pictures]:
        rng = np.random.default_rng(plan.seed)
        if plan.class_index is not None and plan.out_kind is not None:
            corner = Corner(plan.class_index, rng.uniform(*CORNER_WIDTH_SHARE))
            image, box = draw_planted_picture(rng, plan.out_kind, plan.size, corner)
            if box is not None:
                yield Planted("sample's corner", image, plan.class_index, box)


def localize_table(figures: Sequence[LocalizeFigures]) -> str:
    """Return the figures as a table for the terminal."""
    lines = [
        "CLIP's heat map by the sample's tiny CLIP, which has seen drawings alone, on objects of known place",
        "pointed: the mask's highest evidence lies in the object's box; covered: half of the box is evidence;",
        f"missed: the class is not among the {N_SHOWN_CLASSES} of the highest cosines over the views (whole and "
        f"{DEFAULT_GRID} tiles a side),",
        f"nor among {N_ADDED} more by evidence, or {N_ADDED} more by cosine",
        f"{'population':<17}{'n':>4}{'pointed':>9}{'covered':>9}{'IoU':>7}{'missed':>8}{'by evidence':>13}"
        f"{'by cosine':>11}",
    ]
    lines += [
        f"{one.population:<17}{one.n_pictures:>4}{one.pointed:>9.2f}{one.covered:>9.2f}{one.iou:>7.2f}"
        f"{one.missed:>8.3f}{one.missed_with_masks:>13.3f}{one.missed_with_more:>11.3f}"
        for one in figures
    ]
    return "\n".join(lines)


def _measured(encoder: ClipEncoder, names: Sequence[str], planted: Sequence[Planted]) -> list[LocalizeFigures]:
    encode_names = partial(encoder.encode_class_names, template_set="simple")
    prototypes = encode_names(names)
    heat_map = HeatMap.of_label_space(encoder, encode_names, names, prototypes)
    rows: dict[str, list[tuple[float, ...]]] = {}
    for one in planted:
        views = encoder.encode_images([view for _, view in cut_views(one.image, DEFAULT_GRID)])
        order = np.argsort(-(views @ prototypes.T).max(axis=0), kind="stable")
        evidence = heat_map.evidence(one.image, names)
        cells = cells_of(mask_of(evidence[one.class_index], one.image.size))
        added = [
            k for k in np.argsort(-evidence.max(axis=(1, 2)), kind="stable") if k not in order[:N_SHOWN_CLASSES]
        ]
        is_missed = one.class_index not in order[:N_SHOWN_CLASSES]
        rows.setdefault(one.population, []).append((
            *found_in_box(cells, one.box, one.image.size),
            is_missed,
            is_missed and one.class_index not in added[:N_ADDED],
            one.class_index not in order[: N_SHOWN_CLASSES + N_ADDED],
        ))  # fmt: skip
    return [
        LocalizeFigures(population, len(of_one), *np.mean(of_one, axis=0).tolist())
        for population, of_one in rows.items()
    ]


def found_in_box(cells: npt.NDArray[np.uint8], box: Box, size_px: tuple[int, int]) -> tuple[float, float, float]:
    """Return whether a mask points into a box, whether it covers half of it (1 or 0), and their IoU.

    Parameters
    ----------
    cells : (height, width) uint8
        Of the mask.
    box : tuple of int
        Left, top, right, bottom, in pixels of a picture of `size_px` (width, height).
    """
    height, width = cells.shape
    middles_x = (np.arange(width) + 0.5) * size_px[0] / width
    middles_y = (np.arange(height) + 0.5) * size_px[1] / height
    is_column, is_row = (box[0] <= middles_x) & (middles_x < box[2]), (box[1] <= middles_y) & (middles_y < box[3])
    is_in_box = is_row[:, None] & is_column
    is_evidence = cells >= IS_EVIDENCE_FROM
    rows, columns = np.nonzero(cells == cells.max())
    points_in = is_in_box[round(rows.mean()), round(columns.mean())] and cells.max() > 0
    both = (is_in_box & is_evidence).sum()
    return float(points_in), float(both >= is_in_box.sum() / 2), float(both / (is_in_box | is_evidence).sum())
