"""A trained network as a `curation.localize.localizer.Localizer`."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from curation.clip import ClipEncoder
from curation.localize.letterbox import letterbox_of
from curation.localize.network import LocalizerNetwork

AUTHORS_THRESHOLD = 0.35
"""From which probability on the authors count a place as named."""


@dataclass(frozen=True)
class PixelScale:
    """How a CLIP model normalises pixels.

    Attributes
    ----------
    mean, std : tuple of float
        Of each channel, in [0, 1].
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def colour(self) -> tuple[int, int, int]:
        """The colour that becomes 0: what is put around a picture."""
        red, green, blue = (round(255 * channel) for channel in self.mean)
        return red, green, blue

    def normalised(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return uint8 pixels (n, 3, height, width) as float32."""
        mean, std = (torch.tensor(values, device=pixels.device)[:, None, None] for values in (self.mean, self.std))
        return (pixels.float() / 255 - mean) / std


def pixel_scale(encoder: ClipEncoder) -> PixelScale:
    """Return an encoder's."""
    return PixelScale(tuple(encoder.preprocessing["mean"]), tuple(encoder.preprocessing["std"]))


@dataclass(frozen=True, eq=False)
class TrainedLocalizer:
    """A network in evaluation mode with the CLIP model that it was trained on.

    Attributes
    ----------
    name : str
        For people.
    digest : str
        16 hex digits over weights and sizes, and over the CLIP model.
    encoder : ClipEncoder
        The CLIP model.
    network : LocalizerNetwork
        On the encoder's device.
    threshold : float
        The probability from which on a place counts as named; it becomes the evidence 0.5.
    """

    name: str
    digest: str
    encoder: ClipEncoder
    network: LocalizerNetwork
    threshold: float = AUTHORS_THRESHOLD

    def evidence(self, picture: Image.Image, names: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return (n_names, height, width) in [0, 1] of phrases or class names; see `Localizer.evidence`."""
        sizes = self.network.sizes
        scale = pixel_scale(self.encoder)
        box = letterbox_of(picture.width, picture.height, sizes.input_px)
        inputs = scale.normalised(box.place(picture, scale.colour)[None].to(self.encoder.device))
        maps = []
        # Not in inference mode: the positions that the decoder remembers would be of no use for training then.
        with torch.no_grad():
            # One by one: in a batch, the last bits of a mask would depend on the other names.
            for name in names:
                tokens = self.encoder.tokens([name], sizes.n_words).to(self.encoder.device)
                maps.append(box.cut_out(self.network(inputs, tokens)[0].float().sigmoid()))
        probabilities = (
            torch.stack(maps).cpu().numpy() if maps else np.zeros((0, box.height, box.width), np.float32)
        )
        return _evidence(probabilities, self.threshold)


def _evidence(probabilities: npt.NDArray[np.float32], threshold: float) -> npt.NDArray[np.float32]:
    """Return probabilities bent at the threshold, straight on both sides of it, so that it becomes 0.5."""
    evidence = np.interp(probabilities, (0, threshold, 1), (0, 0.5, 1))
    return evidence.astype(np.float32)
