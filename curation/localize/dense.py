"""What a CLIP image tower says of every place of its input, and not of the whole alone.

A tower ends in one step that pools its places into one vector. Here every place goes through that step as if it
were the only one: its own value through the projections that the pooled vector would go through. No weight is
trained or changed (Zhou et al. 2022, "Extract free dense labels from CLIP", section 3.2, MaskCLIP).

Notes
-----
Departures from the authors' code: position embeddings of a ResNet's attention pool are added, as in the pool
itself, where theirs leaves them out; towers of timm that end in an average are taken too, as the sample's.
"""

from typing import Any

import torch
from torch.nn import functional

from manifests.errors import ModelError


def dense_features(tower: Any, inputs: torch.Tensor) -> torch.Tensor:
    """Return the features of each place, (n, n_dimensions, height, width), in the space of the embeddings.

    Parameters
    ----------
    tower : Module
        open_clip's image tower: its VisionTransformer, its ResNet, or a convolutional network of timm.
    inputs : (n, 3, height, width) float tensor
        Preprocessed pictures of the size that the tower was made for.

    Raises
    ------
    ModelError
        The tower pools in another way, as SigLIP's and CoCa's do.
    """
    if hasattr(tower, "trunk"):
        return _of_timm(tower, inputs)
    if getattr(tower, "attnpool", None) is not None:
        return _of_resnet(tower, inputs)
    if hasattr(tower, "transformer") and getattr(tower, "attn_pool", None) is None:
        return _of_transformer(tower, inputs)
    raise ModelError(f"localize: {_UNKNOWN}, found {type(tower).__name__}")


_UNKNOWN = (
    "expected a CLIP tower that is a VisionTransformer, a ResNet, or convolutional with an average at its end"
)


def _of_transformer(tower: Any, inputs: torch.Tensor) -> torch.Tensor:
    tokens = tower._embeds(inputs)  # (n, 1 + places, width)
    *blocks, last = tower.transformer.resblocks
    for block in blocks:
        tokens = block(tokens)
    # Each token attends to itself alone, so that the attention gives its own value.
    n_tokens = tokens.shape[1]
    only_itself = torch.full((n_tokens, n_tokens), -torch.inf, device=tokens.device).fill_diagonal_(0)
    tokens = tower.ln_post(last(tokens, attn_mask=only_itself))[:, 1:]
    rows, columns = tower.grid_size
    return (tokens @ tower.proj).permute(0, 2, 1).unflatten(2, (rows, columns))


def _of_resnet(tower: Any, inputs: torch.Tensor) -> torch.Tensor:
    places = tower.stem(inputs)
    for layer in (tower.layer1, tower.layer2, tower.layer3, tower.layer4):
        places = layer(places)
    pool = tower.attnpool
    tokens = places.flatten(2).permute(0, 2, 1) + pool.positional_embedding[1:]  # (n, places, width)
    values = functional.linear(tokens, pool.v_proj.weight, pool.v_proj.bias)
    return pool.c_proj(values).permute(0, 2, 1).unflatten(2, places.shape[2:])


def _of_timm(tower: Any, inputs: torch.Tensor) -> torch.Tensor:
    places = tower.trunk.forward_features(inputs)
    if places.ndim != 4 or places.shape[1] != tower.trunk.num_features or hasattr(tower.head, "pool"):
        raise ModelError(f"localize: {_UNKNOWN}, found {type(tower.trunk).__name__} of timm")
    n_pictures, n_channels, height, width = places.shape
    alone = places.permute(0, 2, 3, 1).reshape(-1, n_channels, 1, 1)
    features = tower.head(tower.trunk.forward_head(alone))  # (n * places, n_dimensions)
    return features.reshape(n_pictures, height, width, -1).permute(0, 3, 1, 2)
