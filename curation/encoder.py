"""What `embed` and `screen` ask of a model that makes vectors of pictures, whichever library it comes from."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

PixelMaker = Callable[[Image.Image], torch.Tensor]
"""Makes the pixels of an upright RGB picture that a model looks at: uint8 (3, height, width), resized and cut out.

Threads call it at once, and it can be pickled, for worker processes. Bytes, and not the model's float input, as
they are a quarter of it on their way to the model.
"""


class Encoder(Protocol):
    """A model that makes one vector of one picture."""

    @property
    def name(self) -> str:
        """Model and weights, for people to read."""
        ...

    @property
    def source(self) -> str:
        """``clip``, or ``classifier``, which also knows the lengths of its vectors and has a head."""
        ...

    @property
    def digest(self) -> str:
        """Of weights, architecture and preprocessing: equal digests give comparable vectors."""
        ...

    @property
    def n_dimensions(self) -> int:
        """Length of a vector."""
        ...

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        ...

    @property
    def input_px(self) -> int:
        """The shorter side to which a picture is resized before its pixels are cut out."""
        ...

    @property
    def pixels(self) -> PixelMaker:
        """Makes the model's pixels of a picture, exactly as the model's authors do."""
        ...

    def encode(self, pixels: torch.Tensor) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32] | None]:
        """Return vectors and lengths of pictures given as pixels, uint8 (n, 3, height, width).

        Returns
        -------
        vectors : ndarray of float32, (n, n_dimensions)
            Unit length; NaN where the model gives no direction.
        norms : ndarray of float32, (n,), or None
            The length that each had before; None where it means nothing, as for CLIP.
        """
        ...

    def save_head(self, folder: Path) -> None:
        """Write ``head.safetensors`` (weight, bias) into the folder of a store; nothing where there is no head."""
        ...


class HeadedEncoder(Encoder, Protocol):
    """A classifier as an encoder: its head says what the classes look like, without names or pictures."""

    def head_rows(self) -> npt.NDArray[np.float32]:
        """Return the rows of the head made unit, (n_classes, n_dimensions): the class prototypes."""
        ...
