"""Whether two small pictures are one photograph: one is laid over the other, mirrored, cropped, scaled or turned.

Hash and embedding only propose pairs; this decides. From the best placements (`placement`) an affine map is
refined by Gauss-Newton steps on the squared difference of details (Lucas & Kanade 1981; Baker & Matthews, IJCV
2004, forwards additive). A few figures tell how well the pictures then fit.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as functional

from curation.duplicates.placement import (
    Pictures,
    Placement,
    Searched,
    evened,
    laid_out,
    placements,
    shrunk,
    ways_round,
)  # fmt: skip
from curation.duplicates.thumbnails import SIDE, Thumbnails
from curation.threads import one_thread

_N_STARTS = 2
"""Best placements that are refined: the right one may come second before."""

_N_STEPS = 8
_LEAST_OVERLAP = 0.6
_DAMPING = 1e-2

_COARSE_SIDE = 16
_COARSE_LIGHT_SHARE = 1.5 / 16
_LEAST_COARSE = 0.58
"""Agreement above which a pair is looked at closely: 99 % of crops to half the sides, 3 % of unlike pairs."""

_GREY = 3.0
"""A picture whose chroma differs from grey by less on average is black and white, and has no colour to compare."""

_COLOURED = 2 * _GREY
"""Beside a black and white picture, one with less chroma counts as such too: a copy made darker loses some."""

_PAIRS_A_BATCH = 512


@dataclass(frozen=True, eq=False)
class Fits:
    """How well the pictures of n pairs fit, one laid over the other where they agree best.

    Attributes
    ----------
    agreement : (n,) float32
        Correlation of details, 1 for equal pictures; two photographs that have nothing in common reach 0.28 on
        average. Pairs that do not agree even at 16 x 16 keep what they reached there, at most `_LEAST_COARSE`:
        most of what is proposed is told apart at a tenth of the cost.
    tone : (n,) float32
        Correlation of brightness as it is; -1 for the pairs that were looked at coarsely only.
    colour_difference : (n,) float32
        Mean difference of chroma in levels of 256; 0 where one picture is black and white.
    light_difference : (n,) float32
        Mean difference of brightness, in the same levels.
    n_grey : (n,) float32
        How many of the two are black and white.
    """

    agreement: npt.NDArray[np.float32]
    tone: npt.NDArray[np.float32]
    colour_difference: npt.NDArray[np.float32]
    light_difference: npt.NDArray[np.float32]
    n_grey: npt.NDArray[np.float32]


@one_thread()
def fits(firsts: Thumbnails, seconds: Thumbnails) -> Fits:
    """Return how well each first picture fits its second, to four decimals."""
    found = np.empty((len(dataclasses.fields(Fits)), len(firsts)), np.float32)
    for start in range(0, len(firsts), _PAIRS_A_BATCH):
        part = slice(start, start + _PAIRS_A_BATCH)
        found[:, part] = _fits(_pixels(firsts[part]), _pixels(seconds[part])).numpy()
    # Sums of floats depend on how many pairs are worked on together, in the seventh place.
    return Fits(*np.round(found, 4))


@one_thread()
def plain_agreements(firsts: Thumbnails, seconds: Thumbnails) -> npt.NDArray[np.float32]:
    """Return the agreement of pictures as they lie, or the second mirrored, neither moved nor scaled."""
    first, second = (evened(torch.from_numpy(one.brightness).float()) for one in (firsts, seconds))
    searched = Searched(first)
    found = torch.maximum(searched.correlations(second), searched.correlations(second.flip(-1)))
    return np.round(found[:, 0, 0].numpy(), 4)


def _pixels(thumbnails: Thumbnails) -> Pictures:
    """Return brightness, chroma blue and red (n, 3, side, side)."""
    colour = torch.from_numpy(thumbnails.colour).float()
    colour = functional.interpolate(colour, size=(SIDE, SIDE), mode="bilinear")
    return torch.cat([torch.from_numpy(thumbnails.brightness).float()[:, None], colour], dim=1)


def _fits(first: Pictures, second: Pictures) -> torch.Tensor:
    """Return the fields of `Fits` as rows (n_fields, n), of pictures (n, 3, side, side)."""
    small = [
        evened(shrunk(pictures[:, 0], _COARSE_SIDE, _COARSE_SIDE), _COARSE_LIGHT_SHARE)
        for pictures in (first, second)
    ]
    coarse = placements(ways_round(*small), 1)[0].correlation
    zero = torch.zeros_like(coarse)
    found = torch.stack([coarse.clamp_max(_LEAST_COARSE), torch.full_like(coarse, -1), zero, zero, zero])
    is_near = coarse > _LEAST_COARSE
    if bool(is_near.any()):
        found[:, is_near] = _close_fits(first[is_near], second[is_near])
    return found


def _close_fits(first: Pictures, second: Pictures) -> torch.Tensor:
    ways = ways_round(evened(first[:, 0]), evened(second[:, 0]))
    agreement = torch.full((len(first),), -1.0)
    affine, way = torch.zeros(len(first), 6), torch.zeros(len(first), dtype=torch.int64)
    for placement in placements(ways, _N_STARTS):
        reached, there = _refined(*laid_out(ways, placement.way), placement)
        is_better = reached > agreement
        agreement = torch.where(is_better, reached, agreement)
        affine = torch.where(is_better[:, None], there, affine)
        way = torch.where(is_better, placement.way, way)
    around, inside = laid_out(ways_round(first, second), way)
    laid, is_over = _laid_over(around, affine)
    tone = _correlation(laid[:, 0], inside[:, 0], is_over)[0]
    differences = ((laid - inside).abs() * is_over[:, None]).sum((2, 3)) / is_over.sum((1, 2)).clamp_min(1)[
        :, None
    ]
    light, colour = differences[:, 0], differences[:, 1:].mean(dim=1)
    n_grey = _n_grey(*((pictures[:, 1:] - 128).abs().mean((1, 2, 3)) for pictures in (first, second)))
    return torch.stack([agreement, tone, torch.where(n_grey > 0, 0.0, colour), light, n_grey])


def _n_grey(strength: torch.Tensor, other_strength: torch.Tensor) -> torch.Tensor:
    """Return how many of two pictures are black and white, from their chroma."""
    low, high = torch.minimum(strength, other_strength), torch.maximum(strength, other_strength)
    return torch.where(low < _GREY, torch.where(high < _COLOURED, 2.0, 1.0), 0.0)


def _refined(around: Pictures, inside: Pictures, placement: Placement) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the highest correlation (n,) on the way of Gauss-Newton steps from a placement, and the map there."""
    affine = _affine_of(placement, around.shape[-1])
    layers = torch.stack([around, _slope(around, 2), _slope(around, 1)], dim=1)  # (n, 3, side, side)
    highest, best = placement.correlation, affine
    for step in range(_N_STEPS + 1):
        laid, is_over = _laid_over(layers, affine)
        correlation, own, other = _correlation(laid[:, 0], inside, is_over)
        is_better = (is_over.mean((1, 2)) >= _LEAST_OVERLAP) & (correlation > highest)
        highest = torch.where(is_better, correlation, highest)
        best = torch.where(is_better[:, None], affine, best)
        if step < _N_STEPS:
            gain = (own * other).sum((1, 2), keepdim=True) / own.square().sum((1, 2), keepdim=True).clamp_min(1e-6)
            slopes = (laid[:, 1] * gain * is_over, laid[:, 2] * gain * is_over)
            affine = affine + _step(slopes, other - gain * own)
    return highest, best


def _affine_of(placement: Placement, side: int) -> torch.Tensor:
    """Return the map (n, 6) from places of the picture inside to places around, both counted from the middle."""
    middle = (side - 1) / 2
    down = placement.top * side + (placement.height * side - 1) / 2 - middle
    right = placement.left * side + (placement.width * side - 1) / 2 - middle
    zero = torch.zeros_like(down)
    return torch.stack([placement.width, zero, right, zero, placement.height, down], dim=1)


def _from_middle(side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return how far down and right of the middle each place lies, both (side, side)."""
    places = torch.arange(side) - (side - 1) / 2
    down, right = torch.meshgrid(places, places, indexing="ij")
    return down, right


def _laid_over(layers: Pictures, affine: torch.Tensor) -> tuple[Pictures, Pictures]:
    """Return layers (n, n_layers, side, side) as the map sees them, and 1 where it stays within them, else 0."""
    side = layers.shape[-1]
    down, right = _from_middle(side)
    a, b, c, d, e, f = affine[:, :, None, None].unbind(1)
    at_right, at_down = a * right + b * down + c, d * right + e * down + f
    grid = torch.stack([at_right, at_down], dim=-1) / (side / 2)
    laid = functional.grid_sample(layers, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return laid, ((at_right.abs() <= side / 2) & (at_down.abs() <= side / 2)).float()


def _correlation(own: Pictures, other: Pictures, is_over: Pictures) -> tuple[torch.Tensor, Pictures, Pictures]:
    """Return the correlation (n,) where pictures overlap, and both without their means, 0 elsewhere."""
    n_over = is_over.sum((1, 2), keepdim=True).clamp_min(1)
    own, other = (
        (picture - (picture * is_over).sum((1, 2), keepdim=True) / n_over) * is_over for picture in (own, other)
    )
    energy = own.square().sum((1, 2)).clamp_min(1e-6) * other.square().sum((1, 2)).clamp_min(1e-6)
    return (own * other).sum((1, 2)) / energy.sqrt(), own, other


def _slope(pictures: Pictures, dimension: int) -> Pictures:
    slope = torch.zeros_like(pictures)
    n_inner = pictures.shape[dimension] - 2
    ahead, behind = pictures.narrow(dimension, 2, n_inner), pictures.narrow(dimension, 0, n_inner)
    slope.narrow(dimension, 1, n_inner).copy_((ahead - behind) / 2)
    return slope


def _step(slopes: tuple[Pictures, Pictures], difference: Pictures) -> torch.Tensor:
    """Return the change (n, 6) of the affine maps that makes the differences smallest, damped."""
    (to_right, to_down), (down, right) = slopes, _from_middle(difference.shape[-1])
    columns = (to_right * right, to_right * down, to_right, to_down * right, to_down * down, to_down)
    jacobian = torch.stack(columns, dim=-1).flatten(1, 2)  # (n, side**2, 6)
    normal = jacobian.mT @ jacobian
    damping = torch.diag_embed(normal.diagonal(dim1=1, dim2=2) * _DAMPING + 1e-3)
    return torch.linalg.solve(normal + damping, jacobian.mT @ difference.flatten(1)[:, :, None])[:, :, 0]
