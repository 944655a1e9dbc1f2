"""The frozen text tower of a CLIP model, stage by stage; see `curation.localize.towers`."""

import math
from typing import Any

import torch

N_STAGES = 3
"""Where image and text meet: after layers 2 to 4 of a ResNet, and after each third of a transformer."""


def stage_bounds(n_layers: int) -> tuple[int, ...]:
    """Return before which layer each stage of a transformer begins, and at last `n_layers`: 12 gives 0, 4, 8, 12.

    With fewer layers than stages, some stages hold none: image and text then meet again without a layer between.
    """
    return tuple(math.ceil(n_layers * stage / N_STAGES) for stage in range(N_STAGES + 1))


class TextTower:
    """CLIP's own text transformer in three stages.

    Parameters
    ----------
    text : torch.nn.Module
        open_clip's ``CLIP``, or the text tower of a ``CustomTextCLIP``.

    Attributes
    ----------
    width : int
        Features of a word.
    embed_dim : int
        Features of a sentence, in CLIP's common space.
    """

    def __init__(self, text: Any) -> None:
        self._text = text
        self._blocks = text.transformer.resblocks
        self._bounds = stage_bounds(len(self._blocks))
        self.width, self.embed_dim = text.text_projection.shape

    def initial_positions(self) -> torch.Tensor:
        """Return CLIP's position embeddings, (context length, width)."""
        return self._text.positional_embedding.detach()

    def begin(self, tokens: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Return what goes into the first block, (n, words, width), of token ids (n, words)."""
        return self._text.token_embedding(tokens) + positions[: tokens.shape[1]]

    def run_stage(self, stage: int, state: torch.Tensor) -> torch.Tensor:
        """Run a third of the blocks; every word sees itself and the words before it."""
        n_words = state.shape[1]
        mask = self._text.attn_mask[:n_words, :n_words]
        for block in self._blocks[self._bounds[stage] : self._bounds[stage + 1]]:
            state = block(state, attn_mask=mask)
        return state

    def finish(self, state: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return words (n, words, width) and sentences (n, embed_dim), those at the end mark, the largest id."""
        words = self._text.ln_final(state)
        ends = words[torch.arange(len(words), device=words.device), tokens.argmax(dim=-1)]
        return words, ends @ self._text.text_projection
