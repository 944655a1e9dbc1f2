"""A CLIP of our own with random weights: enough to test the path, in a second."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from curation.clip import untrained_model
from curation.embed import EmbedRules, clip_choice, embed_with
from curation.store_run import EmbedSummary
from manifests.workspace import Workspace

CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


def make_tiny_clip(folder: Path) -> tuple[str, str]:
    """Write config and checkpoint, and return them as --model and --pretrained take them."""
    config_path, weights_path = folder / "tiny-test.json", folder / "tiny-test.safetensors"
    config_path.write_text(json.dumps(CONFIG))
    torch.manual_seed(0)
    save_file(untrained_model(config_path).state_dict(), weights_path)
    return str(config_path), str(weights_path)


def embed_pictures(
    workspace: Workspace,
    model: str,
    pretrained: str | None,
    *,
    device: str = "auto",
    announce: Callable[[str], None] = lambda line: None,
    **rules: Any,
) -> EmbedSummary:
    """Embed as the command does with a CLIP model; `rules` are fields of `EmbedRules`."""
    return embed_with(workspace, clip_choice(model, pretrained, device), EmbedRules(**rules), announce=announce)
