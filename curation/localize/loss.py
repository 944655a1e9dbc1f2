"""The text-to-pixel contrastive loss."""

import torch
from torch.nn import functional


def text_to_pixel_loss(logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Return the mean over pixels of -log sigmoid(z) inside the mask and -log(1 - sigmoid(z)) outside.

    z is the product of a place's features with the sentence's kernel: the sentence attracts the pixels that it
    names and repels the others.

    Parameters
    ----------
    logits : Tensor
        (n, height, width).
    masks : Tensor
        (n, input height, input width) in [0, 1]; taken to the logits' size by the nearest pixel.

    References
    ----------
    Wang et al., CRIS, CVPR 2022, equations 8 and 9; Xu et al., ICCV 2023, section 3.3.
    """
    if masks.shape[-2:] != logits.shape[-2:]:
        masks = functional.interpolate(masks[:, None], size=logits.shape[-2:], mode="nearest")[:, 0]
    return functional.binary_cross_entropy_with_logits(logits, masks)
