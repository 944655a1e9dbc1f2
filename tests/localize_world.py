"""Tiny CLIP models, networks and referring sets for the tests of `curation.localize`."""

import json

import torch
from PIL import Image, ImageDraw

from curation.clip import load_encoder, untrained_model
from curation.localize.bridger import BridgeSizes
from curation.localize.decoder import DecoderSizes
from curation.localize.network import NetworkSizes
from curation.localize.recipe import Recipe
from curation.localize.train import train_localizer
from tests.tiny_clip import make_tiny_clip

TINY_SIZES = NetworkSizes(
    input_px=64,
    n_words=8,
    bridge=BridgeSizes(width=8, n_heads=2, feed_forward=12),
    decoder=DecoderSizes(width=16, n_heads=2, n_layers=1, feed_forward=12),
)

TINY_RECIPE = Recipe(n_epochs=3, milestone=2, batch_size=4, learning_rate=3e-3)

RESNET_CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None, "head_width": 32},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 4},
}
"""CLIP's own ResNet, as small as it gets."""

DEEP_VIT_CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 5, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 4},
}


def untrained(folder, config, name):
    """Return a CLIP model of random weights; BatchNorm layers get statistics that are not 0 and 1."""
    path = folder / f"{name}.json"
    path.write_text(json.dumps(config))
    torch.manual_seed(1)
    clip = untrained_model(path)
    for module in clip.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.5, 0.5)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
    return clip.eval()


def tiny_encoder(folder):
    """Return the tests' tiny vision transformer as an encoder."""
    return load_encoder(*make_tiny_clip(folder))


def write_layout(root, counts, dataset="refcoco"):
    """Write a referring set in which every picture has one bright box at a place of its own."""
    (root / "anns" / dataset).mkdir(parents=True)
    (root / "images" / "train2014").mkdir(parents=True)
    (root / "masks" / dataset).mkdir(parents=True)
    number = 0
    for split, n_examples in counts.items():
        entries = []
        for _ in range(n_examples):
            number += 1
            box = (8 * (number % 5), 6 * (number % 4), 8 * (number % 5) + 15, 6 * (number % 4) + 11)
            picture, mask = Image.new("RGB", (60, 40), (40, 60, 5 * number % 255)), Image.new("L", (60, 40))
            ImageDraw.Draw(picture).rectangle(box, fill=(250, 220, 30))
            ImageDraw.Draw(mask).rectangle(box, fill=255)
            picture.save(root / "images" / "train2014" / f"picture_{number}.png")
            mask.save(root / "masks" / dataset / f"{number}.png")
            sentences = [
                {"idx": i, "sent_id": i, "sent": f"the {word} box"} for i, word in enumerate(("big", "far"))
            ]
            entries.append(
                {"segment_id": number, "img_name": f"picture_{number}.png", "cat": 0, "bbox": list(box),
                 "sentences": sentences, "sentences_num": 2}
            )  # fmt: skip
        (root / "anns" / dataset / f"{split}.json").write_text(json.dumps(entries))
    return root


def train_tiny(encoder, data, out_dir, recipe=TINY_RECIPE, sizes=TINY_SIZES, **others):
    """Train with tiny settings, or go on, and return the epochs."""
    given = {"announce": lambda line: None, **others}
    return train_localizer(encoder, sizes, recipe, data, out_dir=out_dir, **given)
