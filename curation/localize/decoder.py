"""From three maps and a sentence to one logit a place: hierarchical alignment, global alignment, projector."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from curation.localize.convolutions import convolution, upward_convolution
from curation.localize.interactors import GatedInteractor

_KERNEL = 3
"""Side of the kernel that the projector makes of a sentence."""


@dataclass(frozen=True)
class DecoderSizes:
    """Sizes of the decoder; the defaults are the authors' settings.

    Attributes
    ----------
    width : int
        Features of a place; a multiple of 4, as its positions are sines and cosines of two directions.
    n_heads, n_layers, feed_forward : int
        Of the global alignment.
    dropout : float
        Of the global alignment.
    """

    width: int = 512
    n_heads: int = 8
    n_layers: int = 3
    feed_forward: int = 512
    dropout: float = 0.1


class HierarchicalAlignment(nn.Module):
    """Three maps on one grid, each multiplied by what the sentence says of its channels, and merged.

    Parameters
    ----------
    map_widths : sequence of int
        Channels of the three maps, the last in CLIP's common space.
    sentence_width : int
        Features of a sentence.
    strides : sequence of int
        2 halves the first map's grid and doubles the last one's.
    sizes : DecoderSizes
        Width and heads.
    """

    def __init__(
        self, map_widths: Sequence[int], sentence_width: int, *, strides: Sequence[int], sizes: DecoderSizes
    ) -> None:
        super().__init__()
        width = sizes.width
        first, second, third = map_widths
        self.sentence = nn.Linear(sentence_width, width)
        self.projections = nn.ModuleList(
            [
                convolution(first, width, strides[0], strides[0]),
                convolution(second, width, strides[1], strides[1]),
                upward_convolution(third, width, strides[2]),
            ]
        )
        self.interactors = nn.ModuleList(GatedInteractor(width, sizes.n_heads) for _ in map_widths)
        self.merge = convolution(3 * width, width)
        self.place = convolution(width + 2, width, 3)
        self.smooth = convolution(width, width, 3)

    def forward(self, maps: Sequence[torch.Tensor], sentences: torch.Tensor) -> torch.Tensor:
        """Return (n, width, height, width) of three maps and sentences (n, sentence width)."""
        sentence = self.sentence(sentences)[:, None]  # (n, 1, width)
        aligned = []
        for layer, interactor, level in zip(self.projections, self.interactors, maps, strict=True):
            projected = layer(level)
            places = interactor(projected.flatten(2).transpose(1, 2), sentence)
            aligned.append(places.transpose(1, 2).reshape(projected.shape))
        merged = self.merge(torch.cat(aligned, dim=1))
        return self.smooth(self.place(torch.cat([merged, _coordinates(merged)], dim=1)))


def _coordinates(like: torch.Tensor) -> torch.Tensor:
    """Return x and y of every place from -1 to 1, (n, 2, height, width): CoordConv's channels."""
    n, _, height, width = like.shape
    x = torch.linspace(-1, 1, width, device=like.device, dtype=like.dtype).expand(height, width)
    y = torch.linspace(-1, 1, height, device=like.device, dtype=like.dtype)[:, None].expand(height, width)
    return torch.stack([x, y]).expand(n, 2, height, width)


class GlobalAlignment(nn.Module):
    """Transformer layers in which every place sees all places and all words.

    Parameters
    ----------
    word_width : int
        Features of a word.
    sizes : DecoderSizes
        Of the layers.
    """

    def __init__(self, word_width: int, sizes: DecoderSizes) -> None:
        super().__init__()
        self.layers = nn.ModuleList(GlobalAlignmentLayer(word_width, sizes) for _ in range(sizes.n_layers))
        self.norm = nn.LayerNorm(sizes.width)

    def forward(self, image: torch.Tensor, words: torch.Tensor, is_padding: torch.Tensor) -> torch.Tensor:
        """Return (n, width, height, width) of such a map, words (n, words, word width) and which are padding."""
        _, channels, height, width = image.shape
        image_positions = grid_positions(channels, height, width).to(image)
        keys = words + line_positions(words.shape[2], words.shape[1]).to(words)
        places = image.flatten(2).transpose(1, 2)  # (n, height * width, channels)
        for layer in self.layers:
            places = layer(places, image_positions, words, keys, is_padding=is_padding)
        return self.norm(places).transpose(1, 2).unflatten(2, (height, width))


class GlobalAlignmentLayer(nn.Module):
    """Self-attention, attention to words and a feed-forward layer, with norms before and after each attention.

    Parameters
    ----------
    word_width : int
        Features of a word.
    sizes : DecoderSizes
        Of the layer.
    """

    def __init__(self, word_width: int, sizes: DecoderSizes) -> None:
        super().__init__()
        width, dropout = sizes.width, sizes.dropout
        self.self_attention = nn.MultiheadAttention(width, sizes.n_heads, dropout=dropout, batch_first=True)
        self.cross_attention = nn.MultiheadAttention(
            width, sizes.n_heads, dropout=dropout, kdim=word_width, vdim=word_width, batch_first=True
        )
        self.feed_forward = nn.Sequential(
            nn.Linear(width, sizes.feed_forward),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.LayerNorm(sizes.feed_forward),
            nn.Linear(sizes.feed_forward, width),
        )
        self.norm_before_self, self.norm_after_self = nn.LayerNorm(width), nn.LayerNorm(width)
        self.norm_before_cross, self.norm_after_cross = nn.LayerNorm(width), nn.LayerNorm(width)
        self.norm_before_feed = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        places: torch.Tensor,
        positions: torch.Tensor,
        words: torch.Tensor,
        keys: torch.Tensor,
        *,
        is_padding: torch.Tensor,
    ) -> torch.Tensor:
        """Return places (n, places, width); `keys` are the words with their positions."""
        normed = self.norm_before_self(places)
        asking = normed + positions
        attended, _ = self.self_attention(asking, asking, normed, need_weights=False)
        places = places + self.dropout(self.norm_after_self(attended))
        asking = self.norm_before_cross(places) + positions
        attended, _ = self.cross_attention(asking, keys, words, key_padding_mask=is_padding, need_weights=False)
        places = places + self.dropout(self.norm_after_cross(attended))
        return places + self.dropout(self.feed_forward(self.norm_before_feed(places)))


class Projector(nn.Module):
    """Four times finer features, convolved with a kernel and a bias that are made of the sentence.

    Parameters
    ----------
    sentence_width : int
        Features of a sentence.
    width : int
        Features of a place that come in; half as many are convolved.
    """

    def __init__(self, sentence_width: int, width: int) -> None:
        super().__init__()
        self._n_inner = width // 2
        self.finer = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="bilinear"),
            convolution(width, width, 3),
            nn.Upsample(scale_factor=2, mode="bilinear"),
            convolution(width, self._n_inner, 3),
            nn.Conv2d(self._n_inner, self._n_inner, 1),
        )
        self.kernel = nn.Linear(sentence_width, self._n_inner * _KERNEL**2 + 1)

    def forward(self, image: torch.Tensor, sentences: torch.Tensor) -> torch.Tensor:
        """Return logits (n, 4 height, 4 width) of a map (n, width, height, width) and sentences."""
        finer = self.finer(image)  # (n, width / 2, 4 height, 4 width)
        made = self.kernel(sentences)
        kernels = made[:, :-1].reshape(-1, self._n_inner, _KERNEL, _KERNEL)
        # One group a picture: each is convolved with its own sentence's kernel.
        together = finer.flatten(0, 1)[None]
        logits = functional.conv2d(together, kernels, made[:, -1], padding=_KERNEL // 2, groups=len(kernels))
        return logits[0]


@functools.lru_cache(maxsize=16)
def line_positions(width: int, length: int) -> torch.Tensor:
    """Return sines and cosines of places on a line, (length, width), as in "Attention is all you need"."""
    rates = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000) / width))
    angles = torch.arange(length)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)


@functools.lru_cache(maxsize=16)
def grid_positions(width: int, height: int, across: int) -> torch.Tensor:
    """Return positions of a grid's places, row by row, (height * across, width): x in the first half, then y."""
    x, y = line_positions(width // 2, across), line_positions(width // 2, height)
    both = torch.cat([x.expand(height, -1, -1), y[:, None].expand(-1, across, -1)], dim=2)
    return both.flatten(0, 1)
