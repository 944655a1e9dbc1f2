"""The frozen towers of a CLIP model, run stage by stage so that a Bridger can speak between the stages.

They hold no weight of their own and no `torch.nn.Module` registers them: `train()`, `to()` and `state_dict()` of a
network that uses them leave them alone. So neither weights nor BatchNorm statistics of the CLIP model can change.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from curation.localize.text_tower import TextTower, stage_bounds
from manifests.errors import ModelError


def resized_positions(positions: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Return position embeddings (side * side, d) of a square grid as those of another, (height * width, d)."""
    side = math.isqrt(len(positions))
    grid = positions.reshape(1, side, side, -1).permute(0, 3, 1, 2)  # (1, d, side, side)
    grid = functional.interpolate(grid, size=(height, width), mode="bicubic", align_corners=False)
    return grid.flatten(2)[0].T  # (height * width, d)


class ImageTower(ABC):
    """An image tower in three stages; its state between them is a tensor that only it understands.

    Attributes
    ----------
    widths : tuple of int
        Channels of the map after each stage.
    embed_dim : int
        Channels of the last map, in CLIP's common space.
    strides : tuple of int
        How the maps are brought to one grid: 2 halves the first and doubles the last; 1 where they have one grid.
    multiple_px : int
        The side of an input must be a multiple of it.
    has_shortcut : bool
        Whether the authors add a projection of the last map beside its attention pooling.
    """

    widths: tuple[int, int, int]
    embed_dim: int
    strides: tuple[int, int, int]
    multiple_px: int
    has_shortcut: bool

    @abstractmethod
    def initial_positions(self, input_px: int) -> torch.Tensor:
        """Return CLIP's position embeddings for an input of this side, to train a copy of them."""

    @abstractmethod
    def begin(self, pixels: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Return the state before the first stage, of normalised pixels (n, 3, side, side)."""

    @abstractmethod
    def run_stage(self, stage: int, state: torch.Tensor) -> torch.Tensor:
        """Return the state after a stage."""

    @abstractmethod
    def finish(self, state: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Return the last map in the common space, (n, embed_dim, height, width): CLIP's end, not pooled."""

    def map_of(self, state: torch.Tensor) -> torch.Tensor:
        """Return a state as a map (n, width, height, width)."""
        return state

    def plus(self, state: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """Return the state with a map of its shape added."""
        return state + residual


class ClipResNetTower(ImageTower):
    """CLIP's own ResNets (RN50, RN101, ...).

    Parameters
    ----------
    visual : torch.nn.Module
        open_clip's ``ModifiedResNet``.
    """

    strides = (2, 1, 2)
    multiple_px = 32
    has_shortcut = True

    def __init__(self, visual: Any) -> None:
        self._visual = visual
        self._stages = (visual.layer2, visual.layer3, visual.layer4)
        first, second, third = (stage[-1].conv3.out_channels for stage in self._stages)
        self.widths = (first, second, third)
        self.embed_dim = visual.attnpool.c_proj.out_features

    def initial_positions(self, input_px: int) -> torch.Tensor:
        """Return those of the attention pool, the mean's first, at the resolution that CLIP was trained in."""
        return self._visual.attnpool.positional_embedding.detach()

    def begin(self, pixels: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Return the map after the stem and layer 1."""
        return self._visual.layer1(self._visual.stem(pixels))

    def run_stage(self, stage: int, state: torch.Tensor) -> torch.Tensor:
        """Run layer 2, 3 or 4."""
        return self._stages[stage](state)

    def finish(self, state: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Return what the attention pool says at every place, each place asking, without the mean's own."""
        height, width = state.shape[-2:]
        places = state.flatten(2).transpose(1, 2) + resized_positions(positions[1:], height, width)
        attended = attention_pool(self._visual.attnpool, places)  # (n, height * width, embed_dim)
        return attended.transpose(1, 2).unflatten(2, (height, width))


def attention_pool(pool: Any, places: torch.Tensor) -> torch.Tensor:
    """Return what an open_clip ``AttentionPool2d`` says at every place: (n, places, d) to (n, places, embed)."""
    queries, keys, values = (
        layer(places).unflatten(2, (pool.num_heads, -1)).transpose(1, 2)
        for layer in (pool.q_proj, pool.k_proj, pool.v_proj)
    )  # each (n, heads, places, d / heads)
    attended = functional.scaled_dot_product_attention(queries, keys, values)
    return pool.c_proj(attended.transpose(1, 2).flatten(2))


class TimmResNetTower(ImageTower):
    """A ResNet of timm with average pooling and a linear projection, as the sample's tiny CLIP has one.

    Parameters
    ----------
    visual : torch.nn.Module
        open_clip's ``TimmModel``.
    """

    strides = (2, 1, 2)
    multiple_px = 32
    has_shortcut = True

    def __init__(self, visual: Any) -> None:
        self._trunk = visual.trunk
        self._projection = visual.head.proj
        self._stages = (self._trunk.layer2, self._trunk.layer3, self._trunk.layer4)
        _, first, second, third = (info["num_chs"] for info in self._trunk.feature_info[-4:])
        self.widths = (first, second, third)
        self.embed_dim = self._projection.out_features

    def initial_positions(self, input_px: int) -> torch.Tensor:
        """Return none: it has no position embeddings."""
        return torch.empty(0)

    def begin(self, pixels: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Return the map after the stem and layer 1."""
        trunk = self._trunk
        return trunk.layer1(trunk.maxpool(trunk.act1(trunk.bn1(trunk.conv1(pixels)))))

    def run_stage(self, stage: int, state: torch.Tensor) -> torch.Tensor:
        """Run layer 2, 3 or 4."""
        return self._stages[stage](state)

    def finish(self, state: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Return the projection of every place: averaged, that is CLIP's embedding."""
        return self._projection(state.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class VitTower(ImageTower):
    """CLIP's own vision transformers; the state is (n, 1 + places, d), the class token first.

    Parameters
    ----------
    visual : torch.nn.Module
        open_clip's ``VisionTransformer``.
    """

    strides = (1, 1, 1)
    has_shortcut = False

    def __init__(self, visual: Any) -> None:
        self._visual = visual
        self._blocks = visual.transformer.resblocks
        self._bounds = stage_bounds(len(self._blocks))
        self._patch_px = visual.patch_size[0]
        self.multiple_px = 2 * self._patch_px  # the paper's zoom layers halve the grid
        width, self.embed_dim = visual.proj.shape
        self.widths = (width, width, width)

    def initial_positions(self, input_px: int) -> torch.Tensor:
        """Return them for the grid of this input, (1 + places, d)."""
        own = self._visual.positional_embedding.detach()
        side = input_px // self._patch_px
        if len(own) == side * side + 1:
            return own
        return torch.cat([own[:1], resized_positions(own[1:], side, side)])

    def begin(self, pixels: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Return the tokens that go into the first block."""
        visual = self._visual
        patches = visual.conv1(pixels).flatten(2).transpose(1, 2)  # (n, places, d)
        first = visual.class_embedding.expand(len(patches), 1, -1).to(patches.dtype)
        return visual.ln_pre(torch.cat([first, patches], dim=1) + positions.to(patches.dtype))

    def run_stage(self, stage: int, state: torch.Tensor) -> torch.Tensor:
        """Run a third of the blocks."""
        for block in self._blocks[self._bounds[stage] : self._bounds[stage + 1]]:
            state = block(state)
        return state

    def map_of(self, state: torch.Tensor) -> torch.Tensor:
        """Return the patches' tokens as a square map."""
        return _square(state[:, 1:])

    def plus(self, state: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """Add to the patches' tokens; the class token stays."""
        return torch.cat([state[:, :1], state[:, 1:] + residual.flatten(2).transpose(1, 2)], dim=1)

    def finish(self, state: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Return every patch as CLIP projects its class token."""
        return _square(self._visual.ln_post(state[:, 1:]) @ self._visual.proj)


def _square(places: torch.Tensor) -> torch.Tensor:
    side = math.isqrt(places.shape[1])
    return places.transpose(1, 2).unflatten(2, (side, side))


@dataclass(frozen=True, eq=False)
class FrozenTowers:
    """Both towers of one CLIP model, and how many weights they hold.

    Attributes
    ----------
    image : ImageTower
        Runs the image tower.
    text : TextTower
        Runs the text tower.
    n_image_weights, n_text_weights : int
        All weights of either, biases and norms too, statistics of BatchNorm not.
    """

    image: ImageTower
    text: TextTower
    n_image_weights: int
    n_text_weights: int


def frozen_towers(clip: Any) -> FrozenTowers:
    """Return the towers of an open_clip model, which is frozen and put into evaluation mode here.

    Raises
    ------
    ModelError
        An image tower other than CLIP's ResNets, timm's ResNets and CLIP's vision transformers, or a text tower
        other than CLIP's own transformer.
    """
    clip.requires_grad_(False).eval()
    text = getattr(clip, "text", clip)
    pool_type = getattr(text, "pool_type", getattr(clip, "text_pool_type", None))
    is_plain = pool_type == "argmax" and getattr(text, "attn_mask", None) is not None
    if not is_plain or not isinstance(getattr(text, "text_projection", None), torch.Tensor):
        raise ModelError("a localizer needs CLIP's own text transformer; this model has another text tower")
    n_image = sum(weight.numel() for weight in clip.visual.parameters())
    n_all = sum(weight.numel() for weight in clip.parameters())
    return FrozenTowers(_image_tower(clip.visual), TextTower(text), n_image, n_all - n_image)


def _image_tower(visual: Any) -> ImageTower:
    if hasattr(visual, "attnpool") and hasattr(visual, "layer4"):
        return ClipResNetTower(visual)
    trunk = getattr(visual, "trunk", None)
    if hasattr(trunk, "layer4") and hasattr(visual.head, "proj"):
        return TimmResNetTower(visual)
    is_plain_vit = hasattr(visual, "class_embedding") and getattr(visual, "attn_pool", None) is None
    if is_plain_vit and isinstance(visual.proj, torch.Tensor):
        return VitTower(visual)
    raise ModelError(
        f"a localizer runs on CLIP's ResNets and vision transformers and on timm's ResNets, not on a "
        f"{type(visual if trunk is None else trunk).__name__}"
    )
