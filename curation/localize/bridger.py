"""The Bridger: at three stages, a small network in which the streams of two frozen towers meet."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from curation.localize.convolutions import convolution, upward_convolution
from curation.localize.interactors import GatedInteractor, Interactor
from curation.localize.text_tower import N_STAGES

Streams = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class BridgeSizes:
    """Sizes of a Bridger; the defaults are the paper's.

    Attributes
    ----------
    width : int
        Features of both streams inside, ``ladder_dim`` in the authors' settings.
    n_heads : int
        Of the interactors' attentions; the authors take 4 with ResNets, 8 with a vision transformer.
    feed_forward : int
        Hidden features of the interactors.
    dropout : float
        Of the interactors.
    """

    width: int = 64
    n_heads: int = 4
    feed_forward: int = 128
    dropout: float = 0.1


class Bridger(nn.Module):
    """Zoom in, let image and words interact, zoom out, add to what the towers had.

    Parameters
    ----------
    image_widths : sequence of int
        Channels of the image tower after each stage.
    text_width : int
        Features of a word in the text tower.
    strides : sequence of int
        Of the zoom layers; the last stage zooms up where the others zoom down.
    sizes : BridgeSizes
        Of the inside.
    is_gated : bool
        `GatedInteractor` instead of `Interactor`, and zoom layers with BatchNorm and ReLU: the authors' code for
        vision transformers.

    Notes
    -----
    With ResNets' 512, 1024 and 2048 channels and words of 512 it has 1,942,080 weights, the paper's 1.94 M for
    RN101. On ViT-B/16 the authors' code has 598,592 (1x1 zooms, gated interactors), which is not the paper's
    1.39 M. The ResNets' design on a vision transformer (zoom layers 2, 1, 2 and whole interactors) has 1,385,024,
    which is; that is what ``paper`` builds. Its stages then lie on grids of different size, and what one stage
    hands on is resized to the next one's grid (bilinear, no weights): how the paper did this, it does not say.

    The paper prints 1.61 % to 3.38 % of the image tower: these are 1.607 % of ViT-B/16's and 3.389 % of RN101's,
    the one rounded and the other cut. RN50's 4.81 % lies outside that range.
    """

    def __init__(
        self,
        image_widths: Sequence[int],
        text_width: int,
        *,
        strides: Sequence[int],
        sizes: BridgeSizes,
        is_gated: bool = False,
    ) -> None:
        super().__init__()
        width, last = sizes.width, N_STAGES - 1

        def interactors() -> nn.ModuleList:
            if is_gated:
                return nn.ModuleList(GatedInteractor(width, sizes.n_heads) for _ in range(N_STAGES))
            return nn.ModuleList(
                Interactor(width, sizes.n_heads, feed_forward=sizes.feed_forward, dropout=sizes.dropout)
                for _ in range(N_STAGES)
            )

        def zoom(n_in: int, n_out: int, stride: int, *, is_up: bool) -> nn.Module:
            if is_gated:
                return (
                    upward_convolution(n_in, n_out, stride) if is_up else convolution(n_in, n_out, stride, stride)
                )
            kind = nn.ConvTranspose2d if is_up else nn.Conv2d
            return kind(n_in, n_out, stride, stride, bias=False)

        stages = list(enumerate(zip(image_widths, strides, strict=True)))
        self.zoom_in = nn.ModuleList(zoom(n, width, stride, is_up=i == last) for i, (n, stride) in stages)
        self.zoom_out = nn.ModuleList(zoom(width, n, stride, is_up=i != last) for i, (n, stride) in stages)
        self.words_in = nn.ModuleList(nn.Linear(text_width, width) for _ in stages)
        self.words_out = nn.ModuleList(nn.Linear(width, text_width) for _ in stages)
        self.image_norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(last))
        self.word_norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(last))
        self.image_interactors, self.word_interactors = interactors(), interactors()
        self._initialise()

    def _initialise(self) -> None:
        """Draw weights as the authors do: linear layers from N(0, 0.02), zoom layers after He."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(
        self, stage: int, image_map: torch.Tensor, words: torch.Tensor, carried: Streams | None
    ) -> tuple[torch.Tensor, torch.Tensor, Streams]:
        """Return what to add to map and words, and the streams that the next stage takes in.

        Parameters
        ----------
        stage : int
            0 to 2.
        image_map : Tensor
            After this stage of the image tower, (n, channels, height, width).
        words : Tensor
            After this stage of the text tower, (n, words, text width).
        carried : pair of Tensor or None
            What the stage before returned last: maps (n, width, h, w) and words (n, words, width).
        """
        image = self.zoom_in[stage](image_map)
        height, width = image.shape[-2:]
        text = self.words_in[stage](words)
        if carried is not None:
            image = image + _on_grid(carried[0], height, width)
            image = self.image_norms[stage - 1](image.movedim(1, -1)).movedim(-1, 1)
            text = self.word_norms[stage - 1](text + carried[1])
        places = image.flatten(2).transpose(1, 2)  # (n, height * width, width)
        # Both interact with what the other was before, as the authors' code.
        new_places = self.image_interactors[stage](places, text)
        new_text = self.word_interactors[stage](text, places)
        new_image = new_places.transpose(1, 2).unflatten(2, (height, width))
        return self.zoom_out[stage](new_image), self.words_out[stage](new_text), (image, text)


def _on_grid(image: torch.Tensor, height: int, width: int) -> torch.Tensor:
    if image.shape[-2:] == (height, width):
        return image
    return functional.interpolate(image, size=(height, width), mode="bilinear", align_corners=False)
