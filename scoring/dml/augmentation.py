"""Random crops and mirror images of a batch, drawn from a generator that the caller seeds."""

import torch

_PADDING_SHARE = 8
"""The authors pad 32 px by 4 on each side."""


def inputs_of(pixels: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """Return network inputs of pixels, uint8 (n, 3, side, side): float32, in channels-last order.

    Parameters
    ----------
    pixels : Tensor
        On the device that the inputs are to be on.
    mean, std : Tensor
        Of RGB in [0, 1], (3, 1, 1), on the same device.
    """
    return ((pixels.float() / 255 - mean) / std).contiguous(memory_format=torch.channels_last)


def cropped_and_mirrored(pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return each picture moved by up to an eighth of its side and, of every second, its mirror image.

    Parameters
    ----------
    pixels : Tensor
        uint8, (n, 3, side, side).
    generator : Generator
        On the CPU, whatever the device of `pixels`: equal seeds then draw equally everywhere.

    Notes
    -----
    What comes in from beyond the edge is black, as pixels are padded before they are normalised.
    """
    n_images, _, side, _ = pixels.shape
    padding = side // _PADDING_SHARE
    corners = torch.randint(0, 2 * padding + 1, (2, n_images, 1), generator=generator)
    is_mirrored = torch.rand(n_images, 1, generator=generator) < 0.5
    along = torch.arange(side)
    rows = corners[0] + along  # (n, side)
    columns = corners[1] + torch.where(is_mirrored, side - 1 - along, along)
    device = pixels.device
    padded = torch.nn.functional.pad(pixels, (padding,) * 4)
    image = torch.arange(n_images, device=device)[:, None, None]
    # Indices apart from the slice put its axis last: (n, side, side, 3).
    cut = padded[image, :, rows.to(device)[:, :, None], columns.to(device)[:, None, :]]
    return cut.permute(0, 3, 1, 2)
