"""`bench localize`: how many small objects of known place a mask finds, and what that adds to ten classes.

Only the weights of the sample's tiny CLIP come with the toolkit, which has seen nothing but drawings: of real
pictures (``--data``) its figures show the machinery and what chance reaches.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from curation.bench.views import SHARES, check_pictures_to_paste, pasted_pictures
from curation.clip import ClipEncoder, load_encoder
from curation.imagenet_classes import imagenet_classes
from curation.localize.heat_map import HeatMap
from curation.sample.commands import WEIGHTS_DIR
from curation.sample.pictures import IN_CLASSES, Corner, draw_planted_picture
from curation.sample.world_plan import CORNER_WIDTH_SHARE, plan_candidates
from curation.views import DEFAULT_GRID, cut_views
from manifests.errors import InputError
from manifests.images import decode_image
from manifests.masks import IS_EVIDENCE_FROM, cells_of, mask_of
from manifests.proportions import Share, counted_share
from manifests.schema import N_SHOWN_CLASSES

N_CANDIDATES = 600
HELD_OUT_SEED = 90_001
"""Added to the seed: no world of a test or a demo has these pictures."""

_WORLD_STEP = 10_000
"""Between the seeds of worlds, where one has too few pictures."""

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
    """Of one population.

    Attributes
    ----------
    population : str
        Its name.
    ious : tuple of float
        Of evidence and box, picture by picture.
    pointed : Share
        The middle of the mask's highest cells lies in the box.
    covered : Share
        At least half of the box counts as evidence.
    missed : Share
        The class is not among the ten of the highest cosines over the views.
    missed_with_masks, missed_with_more : Share
        Nor among `N_ADDED` more: those of the highest evidence, or of the next cosines.
    better_with_masks : Share
        Of the pictures on which the two differ, those whose class evidence shows and cosine does not.
    """

    population: str
    ious: tuple[float, ...]
    pointed: Share
    covered: Share
    missed: Share
    missed_with_masks: Share
    missed_with_more: Share
    better_with_masks: Share

    @property
    def mean_iou(self) -> tuple[float, float, float]:
        """Their mean IoU, and the ends of its normal interval of 95 %."""
        mean, error = float(np.mean(self.ious)), float(1.96 * np.std(self.ious) / np.sqrt(len(self.ious)))
        return mean, mean - error, mean + error

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        mean, low, high = self.mean_iou
        return {
            "population": self.population,
            "n_pictures": len(self.ious),
            "mean_iou": {"value": mean, "low": low, "high": high},
            **{name: value.as_json() for name, value in vars(self).items() if isinstance(value, Share)},
        }


@dataclass(frozen=True)
class _Found:
    """What was found in one picture."""

    is_pointed: bool
    is_covered: bool
    iou: float
    is_missed: bool
    is_missed_with_masks: bool
    is_missed_with_more: bool


def bench_localize(
    data_dir: Path | None, *, n_pictures: int | None = None, seed: int = 0, device: str = "auto"
) -> list[LocalizeFigures]:
    """Return the figures of the sample's corner objects, and of real pasted pictures where a folder is given.

    Parameters
    ----------
    data_dir : Path, optional
        As `curation.bench.views.bench_views` takes it.
    n_pictures : int, optional
        Of each population; by default those of one world of the sample, 72 or so, and 20 to paste.
    seed : int
        Chooses pictures and places.
    device : str
        As `curation.clip.load_encoder` takes it.

    Raises
    ------
    InputError
        There are to be no pictures, or `data_dir` is not such a folder.
    """
    if n_pictures is not None and n_pictures < 1:
        raise InputError(f"--images: expected at least 1, found {n_pictures}")
    if data_dir is not None:
        # Before the sample's pictures, which take a minute.
        check_pictures_to_paste(data_dir)
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
    """Yield the corner pictures of worlds of the sample that nothing was trained on or chosen by.

    Parameters
    ----------
    seed : int
        Of the worlds.
    n_pictures : int, optional
        How many; by default those of the first world.
    """
    worlds = range(1) if n_pictures is None else itertools.count()
    yield from itertools.islice(
        itertools.chain.from_iterable(_of_world(HELD_OUT_SEED + seed + world * _WORLD_STEP) for world in worlds),
        n_pictures,
    )


def _of_world(seed: int) -> Iterator[Planted]:
    for plan in plan_candidates(seed, N_CANDIDATES):
        rng = np.random.default_rng(plan.seed)
        if plan.kind == "corner" and plan.class_index is not None and plan.out_kind is not None:
            corner = Corner(plan.class_index, rng.uniform(*CORNER_WIDTH_SHARE))
            image, box = draw_planted_picture(rng, plan.out_kind, plan.size, corner)
            if box is not None:
                yield Planted("sample's corner", image, plan.class_index, box)


def localize_table(figures: Sequence[LocalizeFigures]) -> str:
    """Return the figures as a table for the terminal, each with its interval of 95 %."""
    lines = ["CLIP's heat map by the sample's tiny CLIP, which has seen drawings alone, on objects of known place"]
    for one in figures:
        differing = one.better_with_masks
        rows = [
            ("highest evidence lies in the object's box", one.pointed),
            ("half of the box is evidence", one.covered),
            (f"class not among the {N_SHOWN_CLASSES} of the highest cosines", one.missed),
            (f"  nor among {N_ADDED} more by evidence", one.missed_with_masks),
            (f"  nor among {N_ADDED} more by cosine", one.missed_with_more),
        ]
        lines += ["", f"{one.population}, {len(one.ious):,} pictures"]
        lines += [
            f"  {name:<48}{share.value:>7.3f}  ({share.low:.3f} to {share.high:.3f})" for name, share in rows
        ]
        mean, low, high = one.mean_iou
        lines += [
            f"  {'mean IoU of evidence and box':<48}{mean:>7.3f}  ({low:.3f} to {high:.3f})",
            f"  shown by one of the two alone: {differing.n_hits:,} by evidence, "
            f"{differing.n_all - differing.n_hits:,} by cosine",
        ]
    lines += [
        "",
        f"Cosines are over the views: the whole and tiles, {DEFAULT_GRID} a side.",
        "Intervals of 95 %: exact of shares, normal of the mean.",
    ]
    return "\n".join(lines)


def _measured(encoder: ClipEncoder, names: Sequence[str], planted: Sequence[Planted]) -> list[LocalizeFigures]:
    encode_names = partial(encoder.encode_class_names, template_set="simple")
    prototypes = encode_names(names)
    heat_map = HeatMap.of_label_space(encoder, encode_names, names, prototypes)
    found: dict[str, list[_Found]] = {}
    for one in planted:
        views = encoder.encode_images([view for _, view in cut_views(one.image, DEFAULT_GRID)])
        by_cosine = np.argsort(-(views @ prototypes.T).max(axis=0), kind="stable")
        evidence = heat_map.evidence(one.image, names)
        by_evidence = np.argsort(-evidence.max(axis=(1, 2)), kind="stable")
        shown = by_cosine[:N_SHOWN_CLASSES]
        added = [class_index for class_index in by_evidence if class_index not in shown][:N_ADDED]
        cells = cells_of(mask_of(evidence[one.class_index], one.image.size))
        is_pointed, is_covered, iou = found_in_box(cells, one.box, one.image.size)
        found.setdefault(one.population, []).append(
            _Found(
                is_pointed,
                is_covered,
                iou,
                one.class_index not in shown,
                one.class_index not in {*shown, *added},
                one.class_index not in by_cosine[: N_SHOWN_CLASSES + N_ADDED],
            )
        )
    return [_figures(population, of_one) for population, of_one in found.items()]


def _figures(population: str, found: Sequence[_Found]) -> LocalizeFigures:
    def share(is_hit: Callable[[_Found], bool]) -> Share:
        return counted_share(sum(map(is_hit, found)), len(found))

    differing = [one for one in found if one.is_missed_with_masks != one.is_missed_with_more]
    return LocalizeFigures(
        population,
        tuple(one.iou for one in found),
        share(lambda one: one.is_pointed),
        share(lambda one: one.is_covered),
        share(lambda one: one.is_missed),
        share(lambda one: one.is_missed_with_masks),
        share(lambda one: one.is_missed_with_more),
        counted_share(sum(one.is_missed_with_more for one in differing), len(differing)),
    )


def found_in_box(cells: npt.NDArray[np.uint8], box: Box, size_px: tuple[int, int]) -> tuple[bool, bool, float]:
    """Return whether a mask points into a box, whether it covers half of it, and their IoU.

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
    return bool(points_in), bool(both >= is_in_box.sum() / 2), float(both / (is_in_box | is_evidence).sum())
