"""A picture of any shape in a square input, and an answer on that square back on the picture."""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch.nn import functional


@dataclass(frozen=True)
class Letterbox:
    """Where a picture lies in its square input.

    Attributes
    ----------
    side_px : int
        Side of the input.
    left, top, width, height : int
        The picture in it, in pixels of the input: scaled to touch two sides, in the middle between the others.
    """

    side_px: int
    left: int
    top: int
    width: int
    height: int

    def place(self, picture: Image.Image, colour: tuple[int, int, int]) -> torch.Tensor:
        """Return an RGB picture in the input, uint8 (3, side, side), with `colour` around it.

        Notes
        -----
        The authors' ``utils/dataset.py`` scales with OpenCV's ``INTER_CUBIC``, which takes 4 x 4 pixels however
        much it shrinks; Pillow's bicubic filter takes in all of them. A photograph of 1,024 px comes out smoother
        here than what the authors' networks were trained on.
        """
        square = Image.new("RGB", (self.side_px, self.side_px), colour)
        square.paste(picture.resize((self.width, self.height), Image.Resampling.BICUBIC), (self.left, self.top))
        return torch.from_numpy(np.array(square)).permute(2, 0, 1)

    def place_mask(self, mask: Image.Image) -> torch.Tensor:
        """Return a mask of 0 and 255 in the input, uint8 (side, side), in between along its edge."""
        square = Image.new("L", (self.side_px, self.side_px))
        square.paste(mask.resize((self.width, self.height), Image.Resampling.BILINEAR), (self.left, self.top))
        return torch.from_numpy(np.array(square))

    def cut_out(self, square: torch.Tensor) -> torch.Tensor:
        """Return what a map (side, side) over the whole input says of the picture: (height, width), bilinear.

        A cell of the map speaks for the first pixel of those that it covers: that one the loss took as its target
        (`curation.localize.loss`, and the authors' alike). Read as if it spoke for their centre, a mask would lie
        1.5 of 4 pixels too far right and down.

        Notes
        -----
        The authors' own evaluation enlarges the map bicubically, corner on corner: cells are in place at the upper
        left, and off by 3 pixels at the lower right.
        """
        first_pixel = (self.side_px / len(square) - 1) / 2  # from its centre to the centre of its cell
        x = (torch.arange(self.width, device=square.device) + 0.5 + self.left + first_pixel) * (
            2 / self.side_px
        ) - 1
        y = (torch.arange(self.height, device=square.device) + 0.5 + self.top + first_pixel) * (
            2 / self.side_px
        ) - 1
        places = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=2)[None]  # (1, height, width, 2)
        cut = functional.grid_sample(square[None, None], places, padding_mode="border", align_corners=False)
        return cut[0, 0]


def letterbox_of(width: int, height: int, side_px: int) -> Letterbox:
    """Return the box of a picture of this size."""
    scale = side_px / max(width, height)
    inner_width, inner_height = max(1, round(width * scale)), max(1, round(height * scale))
    return Letterbox(
        side_px, (side_px - inner_width) // 2, (side_px - inner_height) // 2, inner_width, inner_height
    )
