"""Where one small picture lies in another: the whole of it looked for at every place, at several scales.

Light that changes slowly is taken off and contrast made even first, so that brightness does not count. Then one
picture is looked for in the other by normalised cross-correlation, either way round and mirrored.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as functional

_SCALES = (
    (1.0, 1.0), (0.9, 0.9), (0.8, 0.8), (0.7, 0.7), (0.6, 0.6), (0.5, 0.5), (0.75, 1.0), (1.0, 0.75),
)  # fmt: skip
"""Height and width of the part looked for."""

_LIGHT_SHARE = 1 / 12
"""Width of the blur that is taken for light, as a share of the side."""

_FLAT_CONTRAST = 4.0
"""Grey levels: what varies less is noise or compression, and is not raised to full contrast."""

Pictures = torch.Tensor
"""(n, side, side) or (n, n_channels, side, side) float32."""


@dataclass(frozen=True)
class Placement:
    """Where one picture of each of n pairs lies in the other.

    Attributes
    ----------
    way : (n,) int64
        Which of `ways_round`.
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


def evened(pictures: Pictures, light_share: float = _LIGHT_SHARE) -> Pictures:
    """Return pictures without slow changes of light, and with the same contrast all over."""
    width = light_share * pictures.shape[-1]
    detail = pictures - _blurred(pictures, width)
    return detail / (_blurred(detail.square(), width).sqrt() + _FLAT_CONTRAST)


def _blurred(pictures: Pictures, width: float) -> Pictures:
    reach = round(3 * width)
    kernel = torch.exp(-torch.arange(-reach, reach + 1).float().square() / (2 * width**2))
    kernel /= kernel.sum()
    padded = functional.pad(pictures[:, None], (reach,) * 4, mode="replicate")
    return functional.conv2d(functional.conv2d(padded, kernel[None, None, :, None]), kernel[None, None, None])[
        :, 0
    ]


def shrunk(pictures: Pictures, height: int, width: int) -> Pictures:
    """Return (n, side, side) pictures at another size."""
    if pictures.shape[1:] == (height, width):
        return pictures
    return functional.interpolate(pictures[:, None], size=(height, width), mode="bilinear", antialias=True)[:, 0]


def ways_round(first: Pictures, second: Pictures) -> list[tuple[Pictures, Pictures]]:
    """Return the pairs (around, inside) that are tried: either picture within the other, as it is or mirrored."""
    return [(first, second), (first, second.flip(-1)), (second, first), (second, first.flip(-1))]


def laid_out(ways: Sequence[tuple[Pictures, Pictures]], way: torch.Tensor) -> tuple[Pictures, Pictures]:
    """Return around and inside of each pair, in the way round (n,) that it is given."""
    each = torch.arange(len(way))
    arounds, insides = (torch.stack(pictures) for pictures in zip(*ways, strict=True))
    return arounds[way, each], insides[way, each]


def placements(ways: Sequence[tuple[Pictures, Pictures]], n_best: int) -> list[Placement]:
    """Return of each pair the best placements, of all ways round and scales the best place each, best first."""
    peaks = torch.cat([_peaks(*pictures) for pictures in ways])  # (n_ways * n_scales, 5, n)
    order = peaks[:, 0].topk(n_best, dim=0).indices  # (n_best, n)
    each = torch.arange(peaks.shape[2])
    return [Placement(chosen // len(_SCALES), *peaks[chosen, :, each].T) for chosen in order]


class Searched:
    """Pictures in which parts are looked for: what every search in them needs, made once.

    Parameters
    ----------
    pictures : (n, side, side) float32
        As `evened` returns them.
    """

    def __init__(self, pictures: Pictures) -> None:
        self.side = pictures.shape[-1]
        self._spectrum = torch.fft.rfft2(pictures)
        self._squares = functional.pad(pictures.square().cumsum(1).cumsum(2), (1, 0, 1, 0))

    def correlations(self, part: Pictures) -> torch.Tensor:
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


def _peaks(around: Pictures, inside: Pictures) -> torch.Tensor:
    """Return (n_scales, 5, n): where `inside` fits best at each scale, in the order of `Placement`."""
    searched, side = Searched(around), around.shape[-1]
    rows = []
    for height_share, width_share in _SCALES:
        height, width = round(side * height_share), round(side * width_share)
        found = searched.correlations(shrunk(inside, height, width))
        correlation, place = found.flatten(1).max(dim=1)
        tall, wide = torch.full_like(correlation, height / side), torch.full_like(correlation, width / side)
        n_right = found.shape[2]
        rows.append(torch.stack([correlation, tall, wide, (place // n_right) / side, (place % n_right) / side]))
    return torch.stack(rows)
