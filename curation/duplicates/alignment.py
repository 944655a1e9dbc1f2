"""How well one small picture can be laid over another: mirrored, cropped, scaled or turned a little.

Hash and embedding only propose pairs; this decides. Light that changes slowly is taken off and contrast made even,
so that brightness does not count. Then the whole of one picture is looked for in the other, at every place and at
the scales of `_SCALES`, by normalised cross-correlation, both ways round and mirrored. From the best place an
affine map is refined by Gauss-Newton steps on the squared difference (Lucas & Kanade 1981; Baker & Matthews, IJCV
2004, forwards additive). The agreement is the correlation reached: 1 for equal pictures; two photographs that have
nothing to do with each other reach 0.35 on average.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as functional

_SCALES = (
    (1.0, 1.0), (0.9, 0.9), (0.8, 0.8), (0.7, 0.7), (0.6, 0.6), (0.5, 0.5), (0.75, 1.0), (1.0, 0.75),
)  # fmt: skip
"""Height and width of the part looked for; the refinement bridges the gaps, and covers crops of other shapes."""

_LIGHT_SHARE = 1 / 12
"""Width of the blur that is taken for light, as a share of the side."""

_FLAT_CONTRAST = 4.0
"""Grey levels: what varies less is noise or compression, and is not raised to full contrast."""

_N_STARTS = 2
"""Best placements that are refined: the right one may come second before."""

_N_STEPS = 8
_LEAST_OVERLAP = 0.6
_DAMPING = 1e-2

_COARSE_SIDE = 16
_COARSE_LIGHT_SHARE = 1.5 / 16
_LEAST_COARSE = 0.58
"""Agreement above which a pair is looked at closely: 99 % of crops to half the sides, 3 % of unlike pairs."""

_PAIRS_A_BATCH = 512

_Pictures = torch.Tensor
"""(n, side, side) float32."""


@dataclass(frozen=True)
class _Placement:
    """Where one picture of each of n pairs lies in the other.

    Attributes
    ----------
    way : (n,) int64
        Which of `_ways_round`.
    correlation : (n,) float32
        Reached there.
    height, width, top, left : (n,) float32
        The part that it covers, as shares of the side.
    """

    way: torch.Tensor
    correlation: torch.Tensor
    height: torch.Tensor
    width: torch.Tensor
    top: torch.Tensor
    left: torch.Tensor


def agreements(firsts: npt.NDArray[np.uint8], seconds: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Return how well each first picture agrees with its second, -1 to 1, to four decimals.

    Parameters
    ----------
    firsts, seconds : (n, side, side) uint8
        Thumbnails as `curation.duplicates.hashing.thumbnail` makes them.

    Notes
    -----
    Pairs that do not agree even at 16 x 16 keep what they reached there, at most `_LEAST_COARSE`: most of what
    is proposed is told apart at a tenth of the cost.
    """
    found = np.empty(len(firsts), np.float32)
    for start in range(0, len(firsts), _PAIRS_A_BATCH):
        part = slice(start, start + _PAIRS_A_BATCH)
        found[part] = _agreements(torch.from_numpy(firsts[part]).float(), torch.from_numpy(seconds[part]).float())
    # Sums of floats depend on how many pairs are worked on together, in the seventh place.
    return np.round(found, 4)


def plain_agreements(firsts: npt.NDArray[np.uint8], seconds: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Return the same of pictures as they lie, or the second mirrored, neither moved nor scaled."""
    first, second = evened(torch.from_numpy(firsts).float()), evened(torch.from_numpy(seconds).float())
    searched = Searched(first)
    found = torch.maximum(searched.correlations(second), searched.correlations(second.flip(2)))
    return np.round(found[:, 0, 0].numpy(), 4)


def _agreements(first: _Pictures, second: _Pictures) -> npt.NDArray[np.float32]:
    coarse_first = evened(_shrunk(first, _COARSE_SIDE, _COARSE_SIDE), _COARSE_LIGHT_SHARE)
    coarse_second = evened(_shrunk(second, _COARSE_SIDE, _COARSE_SIDE), _COARSE_LIGHT_SHARE)
    coarse = _placements(_ways_round(coarse_first, coarse_second), 1)[0].correlation
    is_near = coarse > _LEAST_COARSE
    agreement = coarse.clamp_max(_LEAST_COARSE)
    if bool(is_near.any()):
        ways = _ways_round(evened(first[is_near]), evened(second[is_near]))
        reached = []
        for placement in _placements(ways, _N_STARTS):
            reached += [placement.correlation, _refined(*_laid_out(ways, placement), placement)]
        agreement[is_near] = torch.stack(reached).max(dim=0).values
    return agreement.numpy()


def evened(pictures: _Pictures, light_share: float = _LIGHT_SHARE) -> _Pictures:
    """Return pictures without slow changes of light, and with the same contrast all over."""
    width = light_share * pictures.shape[-1]
    detail = pictures - _blurred(pictures, width)
    return detail / (_blurred(detail.square(), width).sqrt() + _FLAT_CONTRAST)


def _blurred(pictures: _Pictures, width: float) -> _Pictures:
    reach = round(3 * width)
    kernel = torch.exp(-torch.arange(-reach, reach + 1).float().square() / (2 * width**2))
    kernel /= kernel.sum()
    padded = functional.pad(pictures[:, None], (reach,) * 4, mode="replicate")
    return functional.conv2d(functional.conv2d(padded, kernel[None, None, :, None]), kernel[None, None, None])[
        :, 0
    ]


def _shrunk(pictures: _Pictures, height: int, width: int) -> _Pictures:
    if pictures.shape[1:] == (height, width):
        return pictures
    return functional.interpolate(pictures[:, None], size=(height, width), mode="bilinear", antialias=True)[:, 0]


def _ways_round(first: _Pictures, second: _Pictures) -> list[tuple[_Pictures, _Pictures]]:
    """Return the pairs (around, inside) that are tried: either picture within the other, as it is or mirrored."""
    return [(first, second), (first, second.flip(2)), (second, first), (second, first.flip(2))]


def _laid_out(ways: Sequence[tuple[_Pictures, _Pictures]], placement: _Placement) -> tuple[_Pictures, _Pictures]:
    """Return around and inside of each pair, in the way round of its placement."""
    each = torch.arange(len(placement.way))
    arounds, insides = (torch.stack(pictures) for pictures in zip(*ways, strict=True))
    return arounds[placement.way, each], insides[placement.way, each]


def _placements(ways: Sequence[tuple[_Pictures, _Pictures]], n_best: int) -> list[_Placement]:
    """Return of each pair the best placements, of all ways round and scales the best place each, best first."""
    peaks = torch.cat([_peaks(*pictures) for pictures in ways])  # (n_ways * n_scales, 5, n)
    order = peaks[:, 0].topk(n_best, dim=0).indices  # (n_best, n)
    each = torch.arange(peaks.shape[2])
    return [_Placement(chosen // len(_SCALES), *peaks[chosen, :, each].T) for chosen in order]


class Searched:
    """Pictures in which parts are looked for: what every search in them needs, made once.

    Parameters
    ----------
    pictures : (n, side, side) float32
        As `evened` returns them.
    """

    def __init__(self, pictures: _Pictures) -> None:
        self.side = pictures.shape[-1]
        self._spectrum = torch.fft.rfft2(pictures)
        self._squares = functional.pad(pictures.square().cumsum(1).cumsum(2), (1, 0, 1, 0))

    def correlations(self, part: _Pictures) -> torch.Tensor:
        """Return the normalised correlation (n, n_down, n_right) with (n, height, width) at each place in them."""
        height, width = part.shape[1:]
        part = part - part.mean((1, 2), keepdim=True)
        part = part / part.square().sum((1, 2), keepdim=True).sqrt().clamp_min(1e-6)
        size = (self.side, self.side)
        products = torch.fft.irfft2(self._spectrum * torch.fft.rfft2(part, s=size).conj(), s=size)
        sums = self._squares
        energy = sums[:, height:, width:] - sums[:, :-height, width:]
        energy = energy - sums[:, height:, :-width] + sums[:, :-height, :-width]
        # At these places no part reaches over the edge, so that the transform's wrapping does not matter.
        n_down, n_right = energy.shape[1:]
        return products[:, :n_down, :n_right] / energy.clamp_min(1e-3).sqrt()


def _peaks(around: _Pictures, inside: _Pictures) -> torch.Tensor:
    """Return (n_scales, 5, n): where `inside` fits best at each scale, in the order of `_Placement`."""
    searched, side = Searched(around), around.shape[-1]
    rows = []
    for height_share, width_share in _SCALES:
        height, width = round(side * height_share), round(side * width_share)
        found = searched.correlations(_shrunk(inside, height, width))
        correlation, place = found.flatten(1).max(dim=1)
        tall, wide = torch.full_like(correlation, height / side), torch.full_like(correlation, width / side)
        n_right = found.shape[2]
        rows.append(torch.stack([correlation, tall, wide, (place // n_right) / side, (place % n_right) / side]))
    return torch.stack(rows)


def _refined(around: _Pictures, inside: _Pictures, placement: _Placement) -> torch.Tensor:
    """Return the highest correlation (n,) on the way of Gauss-Newton steps from a placement."""
    side = around.shape[-1]
    middle = (side - 1) / 2
    down, right = torch.meshgrid(torch.arange(side) - middle, torch.arange(side) - middle, indexing="ij")
    zero = torch.zeros_like(placement.height)
    shift_down = placement.top * side + (placement.height * side - 1) / 2 - middle
    shift_right = placement.left * side + (placement.width * side - 1) / 2 - middle
    # Row and column of `around` at a place of `inside`, both from the middle.
    affine = torch.stack([placement.width, zero, shift_right, zero, placement.height, shift_down], dim=1)  # (n, 6)
    layers = torch.stack([around, _slope(around, 2), _slope(around, 1)], dim=1)  # (n, 3, side, side)
    highest = torch.full_like(zero, -1.0)
    for step in range(_N_STEPS + 1):
        a, b, c, d, e, f = affine[:, :, None, None].unbind(1)
        at_right, at_down = a * right + b * down + c, d * right + e * down + f
        grid = torch.stack([at_right, at_down], dim=-1) / (side / 2)
        laid = functional.grid_sample(layers, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        is_over = ((at_right.abs() <= side / 2) & (at_down.abs() <= side / 2)).float()
        n_over = is_over.sum((1, 2), keepdim=True).clamp_min(1)
        own = (laid[:, 0] - (laid[:, 0] * is_over).sum((1, 2), keepdim=True) / n_over) * is_over
        other = (inside - (inside * is_over).sum((1, 2), keepdim=True) / n_over) * is_over
        own_energy = own.square().sum((1, 2), keepdim=True).clamp_min(1e-6)
        product = (own * other).sum((1, 2), keepdim=True)
        correlation = product / (own_energy * other.square().sum((1, 2), keepdim=True).clamp_min(1e-6)).sqrt()
        is_enough = n_over >= _LEAST_OVERLAP * side**2
        highest = torch.maximum(highest, torch.where(is_enough, correlation, -1.0)[:, 0, 0])
        if step < _N_STEPS:
            gain = product / own_energy
            slopes = (laid[:, 1] * gain * is_over, laid[:, 2] * gain * is_over)
            affine = affine + _step(slopes, (right, down), other - gain * own)
    return highest


def _slope(pictures: _Pictures, dimension: int) -> _Pictures:
    slope = torch.zeros_like(pictures)
    n_inner = pictures.shape[dimension] - 2
    ahead, behind = pictures.narrow(dimension, 2, n_inner), pictures.narrow(dimension, 0, n_inner)
    slope.narrow(dimension, 1, n_inner).copy_((ahead - behind) / 2)
    return slope


def _step(
    slopes: tuple[torch.Tensor, torch.Tensor], places: tuple[torch.Tensor, torch.Tensor], difference: torch.Tensor
) -> torch.Tensor:
    """Return the change (n, 6) of the affine maps that makes the differences smallest, damped."""
    (to_right, to_down), (right, down) = slopes, places
    columns = (to_right * right, to_right * down, to_right, to_down * right, to_down * down, to_down)
    jacobian = torch.stack(columns, dim=-1).flatten(1, 2)  # (n, side**2, 6)
    normal = jacobian.mT @ jacobian
    damping = torch.diag_embed(normal.diagonal(dim1=1, dim2=2) * _DAMPING + 1e-3)
    return torch.linalg.solve(normal + damping, jacobian.mT @ difference.flatten(1)[:, :, None])[:, :, 0]
