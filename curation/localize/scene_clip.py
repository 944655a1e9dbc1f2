"""The CLIP model that scenes are learnt on: the sample's image tower, and a text tower that was never trained.

The sample's own text tower learnt to tell the sample's class names apart and nothing else: to it "the red ring"
and "the red cup" are one (cosine 0.99), and "the small star" is "the large star". Drawn weights forget no word.
What the words mean is then for Bridger and decoder to learn, which are all that is trained anyway.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save

from curation.clip import ClipEncoder, load_encoder, untrained_model
from curation.sample.train_clip import CONFIG_PATH, WEIGHTS_PATH
from manifests.durable import write_bytes, write_json

CONFIG_FILE = "scene_clip.json"
WEIGHTS_FILE = "scene_clip.safetensors"

_TEXT = {"context_length": 16, "vocab_size": 49408, "width": 48, "heads": 4, "layers": 3}
# CLIP starts its word embeddings at 0.02, far below what its layers add, and training makes them grow.
_WORD_STD = 1.0
_POSITION_STD = 0.1
_MARKS = (49406, 49407)


def make_scene_clip(folder: Path, device: str = "auto") -> ClipEncoder:
    """Write the model into a folder, where it is not there yet, and return it; it is the same every time."""
    config_path, weights_path = folder / CONFIG_FILE, folder / WEIGHTS_FILE
    if not weights_path.exists():
        config = json.loads(CONFIG_PATH.read_text(encoding="utf-8"))
        write_json(config_path, {**config, "text_cfg": _TEXT})
        write_bytes(weights_path, save(_weights(config_path)))
    return load_encoder(str(config_path), str(weights_path), device)


def _weights(config_path: Path) -> dict[str, torch.Tensor]:
    """Return the sample's image tower and a drawn text tower, by open_clip's names."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = untrained_model(config_path).state_dict()
        torch.nn.init.normal_(drawn["token_embedding.weight"], std=_WORD_STD)
        torch.nn.init.normal_(drawn["positional_embedding"], std=_POSITION_STD)
        # A sentence is read at its end mark: that it says nothing itself leaves the room to the words before it.
        drawn["token_embedding.weight"][list(_MARKS)] = 0
    trained = {name: tensor for name, tensor in load_file(WEIGHTS_PATH).items() if name.startswith("visual.")}
    return {name: trained.get(name, tensor).contiguous() for name, tensor in drawn.items()}
