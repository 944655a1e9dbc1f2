"""Pixels as a CLIP model looks at them."""

from dataclasses import dataclass

import torch
from PIL import Image
from torchvision.transforms import Compose
from torchvision.transforms.functional import pil_to_tensor


@dataclass(frozen=True)
class ClipPixels:
    """A `curation.encoder.PixelMaker`: open_clip's own transform of a model, but for its last two steps.

    These two, to float and normalising, `ClipEncoder.encode` does for a batch at once, to the same values.
    """

    transform: Compose

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """Return the pixels of an RGB picture, uint8 (3, height, width)."""
        return pil_to_tensor(self.transform(image))
