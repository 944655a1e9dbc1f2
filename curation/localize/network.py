"""The network: frozen towers, a Bridger between them, and a decoder; and how many weights each part has."""

from dataclasses import dataclass, field

import torch
from torch import nn

from curation.localize.bridger import Bridger, BridgeSizes, Streams
from curation.localize.decoder import DecoderSizes, GlobalAlignment, HierarchicalAlignment, Projector
from curation.localize.interactors import INTERACTORS
from curation.localize.text_tower import N_STAGES
from curation.localize.towers import FrozenTowers, VitTower
from manifests.errors import InputError


@dataclass(frozen=True)
class NetworkSizes:
    """All sizes of a localizer's network; the defaults are the paper's.

    Attributes
    ----------
    input_px : int
        Side of the square input.
    n_words : int
        Tokens of a phrase with both its marks; longer phrases are cut. The authors take 17 on RefCOCO and
        RefCOCO+, 22 on G-Ref.
    interactor : {"paper", "published"}
        See `curation.localize.interactors.INTERACTORS`.
    bridge : BridgeSizes
        Of the Bridger.
    decoder : DecoderSizes
        Of the decoder.

    Raises
    ------
    InputError
        A size is not possible.
    """

    input_px: int = 416
    n_words: int = 17
    interactor: str = "paper"
    bridge: BridgeSizes = field(default_factory=BridgeSizes)
    decoder: DecoderSizes = field(default_factory=DecoderSizes)

    def __post_init__(self) -> None:
        if self.interactor not in INTERACTORS:
            raise InputError(f"--interactor: expected {' or '.join(INTERACTORS)}, found {self.interactor!r}")
        if self.n_words < 3:
            raise InputError(f"--words: a phrase has two marks and a word at least, found {self.n_words}")
        if self.decoder.width % 4 or self.decoder.width % self.decoder.n_heads:
            raise InputError(
                f"decoder: expected a width that 4 and its {self.decoder.n_heads} heads divide, "
                f"found {self.decoder.width}"
            )
        if self.bridge.width % self.bridge.n_heads:
            raise InputError(
                f"Bridger: its {self.bridge.n_heads} heads do not divide its width {self.bridge.width}"
            )


class LocalizerNetwork(nn.Module):
    """ETRIS: where in the picture is what the phrase names? One logit a place.

    Parameters
    ----------
    towers : FrozenTowers
        Of a CLIP model. They stay outside of this module's parameters and buffers, and on their own device.
    sizes : NetworkSizes
        Of all that is trained.

    Raises
    ------
    InputError
        The input's side does not fit the image tower, or the words are more than the text tower takes.

    References
    ----------
    Xu, Chen, Zhang, Song, Wan, Li: Bridging Vision and Language Encoders: Parameter-Efficient Tuning for Referring
    Image Segmentation, ICCV 2023.

    Notes
    -----
    Departures from the authors' code:

    - What they leave trainable of CLIP, its position embeddings, is trained here in a copy: CLIP itself stays as
      it came, to the byte.
    - Their training moves the statistics of the frozen tower's BatchNorm layers; here they stand still.
    - They freeze the projection beside the attention pool (``connect``), which no CLIP checkpoint holds, at its
      random start, as its name begins with ``backbone``; here it is trained, and counted with the decoder.
    - They scale pictures and masks with OpenCV's bicubic and bilinear interpolation, which does not smooth what it
      shrinks; here Pillow's filters do (`curation.localize.letterbox`).
    """

    def __init__(self, towers: FrozenTowers, sizes: NetworkSizes) -> None:
        super().__init__()
        image, text = towers.image, towers.text
        if sizes.input_px < image.multiple_px or sizes.input_px % image.multiple_px:
            raise InputError(
                f"--input-px {sizes.input_px}: expected a multiple of {image.multiple_px} for this image tower"
            )
        word_positions = text.initial_positions()
        if sizes.n_words > len(word_positions):
            raise InputError(f"--words {sizes.n_words}: this text tower takes at most {len(word_positions)}")
        self._towers = towers
        self.sizes = sizes
        is_vit = isinstance(image, VitTower)
        is_gated = is_vit and sizes.interactor == "published"
        self.bridger = Bridger(
            image.widths,
            text.width,
            strides=(1, 1, 1) if is_gated else (2, 1, 2),
            sizes=sizes.bridge,
            is_gated=is_gated,
        )
        self.image_positions = nn.Parameter(image.initial_positions(sizes.input_px).clone())
        self.word_positions = nn.Parameter(word_positions.clone())
        self.shortcut = _shortcut(image.widths[-1], image.embed_dim) if image.has_shortcut else None
        map_widths = (*image.widths[: N_STAGES - 1], image.embed_dim)
        self.hierarchical = HierarchicalAlignment(
            map_widths, text.embed_dim, strides=image.strides, sizes=sizes.decoder
        )
        self.alignment = GlobalAlignment(text.width, sizes.decoder)
        self.projector = Projector(text.embed_dim, sizes.decoder.width)

    def forward(self, pixels: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Return logits (n, height, width) of normalised pixels (n, 3, side, side) and token ids (n, words)."""
        maps, words, sentences = self.encode(pixels, tokens)
        aligned = self.hierarchical(maps, sentences)
        aligned = self.alignment(aligned, words, tokens == 0)
        return self.projector(aligned, sentences)

    def encode(
        self, pixels: torch.Tensor, tokens: torch.Tensor
    ) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor]:
        """Return three maps, words (n, words, width) and sentences (n, embed): both towers, with the Bridger."""
        image, text = self._towers.image, self._towers.text
        places = image.begin(pixels, self.image_positions)
        words = text.begin(tokens, self.word_positions)
        maps: list[torch.Tensor] = []
        carried: Streams | None = None
        for stage in range(N_STAGES):
            words = text.run_stage(stage, words)
            places = image.run_stage(stage, places)
            residual, more_words, carried = self.bridger(stage, image.map_of(places), words, carried)
            places, words = image.plus(places, residual), words + more_words
            maps.append(image.map_of(places))
        last = image.finish(places, self.image_positions)
        maps[-1] = last if self.shortcut is None else torch.relu(last + self.shortcut(maps[-1]))
        return (maps, *text.finish(words, tokens))

    def parameter_counts(self) -> "ParameterCounts":
        """Return how many weights each part has."""
        n_all = _n_weights(self)
        n_bridger = _n_weights(self.bridger)
        n_positions = self.image_positions.numel() + self.word_positions.numel()
        return ParameterCounts(
            n_bridger=n_bridger,
            n_positions=n_positions,
            n_shortcut=0 if self.shortcut is None else _n_weights(self.shortcut),
            n_trained=n_all,
            n_image_tower=self._towers.n_image_weights,
            n_text_tower=self._towers.n_text_weights,
        )


@dataclass(frozen=True)
class ParameterCounts:
    """Weights of a localizer.

    Attributes
    ----------
    n_bridger : int
        What is trained of, or rather in, the backbone.
    n_positions : int
        Copies of position embeddings, trained too.
    n_shortcut : int
        The projection beside the attention pool.
    n_trained : int
        All that is trained: these, and the decoder.
    n_image_tower, n_text_tower : int
        Frozen.
    """

    n_bridger: int
    n_positions: int
    n_shortcut: int
    n_trained: int
    n_image_tower: int
    n_text_tower: int

    @property
    def share_of_image_tower(self) -> float:
        """The Bridger's weights over the image tower's, the authors' shortcut counted with the latter.

        The paper's 1.61 % to 3.38 % are of this: see `Bridger`.
        """
        return self.n_bridger / (self.n_image_tower + self.n_shortcut)

    @property
    def share_of_clip(self) -> float:
        """The Bridger's weights over all of CLIP's."""
        return self.n_bridger / (self.n_image_tower + self.n_text_tower)

    def lines(self) -> list[str]:
        """Return them to print."""
        n_decoder = self.n_trained - self.n_bridger - self.n_positions
        return [
            f"frozen: image tower {self.n_image_tower:,}, text tower {self.n_text_tower:,}",
            f"trained: Bridger {self.n_bridger:,} ({self.share_of_image_tower:.2%} of the image tower, "
            f"{self.share_of_clip:.2%} of CLIP), positions {self.n_positions:,}, decoder {n_decoder:,}",
        ]


def _shortcut(n_in: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(n_in, n_out, 1, bias=False), nn.BatchNorm2d(n_out))


def _n_weights(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())
