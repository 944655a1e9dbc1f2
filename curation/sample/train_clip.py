"""Train the sample's tiny CLIP: ``python -m curation.sample.train_clip``.

It draws its own views, with seeds that no world uses, and captions them with open_clip's ImageNet templates. The
loss is CLIP's with the texts chosen by name: each step has one caption of every name in use, and of a fresh draw
of other ImageNet names as negatives, so that two pictures of one class never count against each other, and so that
a name that was never drawn scores low.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from curation.clip import TEMPLATE_SETS, imagenet_class_names, load_encoder, tokenizer_of, untrained_model
from curation.sample.clip_check import ClipFigures, clip_figures
from curation.sample.clip_views import HELD_OUT_KINDS, VIEW_NAMES, VIEW_SIDE_PX, draw_views
from curation.sample.world import make_world

WEIGHTS_DIR = Path(__file__).parent / "weights"
CONFIG_PATH = WEIGHTS_DIR / "tiny_clip.json"
WEIGHTS_PATH = WEIGHTS_DIR / "tiny_clip.safetensors"

HELD_OUT_WORLD_SEED = 90_001
"""The world that the figures are measured on; the demo's is 0, training views have streams of their own."""

IN_CLASS_ABOVE = 0.8
"""A cosine; the last figures of ``--check`` are the shares of a held-out world above it."""

N_NEGATIVE_NAMES = 64
"""Other ImageNet names in a step; over a few thousand steps each is met some two hundred times."""

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
"""OpenAI's normalisation, which open_clip applies where a config names none."""

MAX_LOGIT_SCALE = 30.0
"""CLIP allows 100; a lower cap keeps similarities of unlike things apart instead of merely in order."""


def train(
    *,
    n_views: int = 12_000,
    n_epochs: int = 14,
    batch_size: int = 64,
    learning_rate: float = 2.5e-3,
    seed: int = 0,
    n_workers: int = 2,
) -> torch.nn.Module:
    """Return the trained model; the same arguments on one machine give the same weights."""
    # Layers this small are done before a second thread has woken; on a busy machine threads wait for each other.
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    views, labels = draw_views(seed, n_views, n_workers)
    inputs, targets = torch.from_numpy(views).permute(0, 3, 1, 2), torch.from_numpy(labels)
    model = untrained_model(CONFIG_PATH).to(memory_format=torch.channels_last)
    captions = Captions(rng)
    n_steps = n_epochs * (n_views // batch_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.02, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=learning_rate, total_steps=n_steps, pct_start=0.1
    )
    model.train()
    for epoch in range(n_epochs):
        started, total = time.monotonic(), 0.0
        order = torch.from_numpy(rng.permutation(n_views)[: n_views // batch_size * batch_size])
        for chosen in order.split(batch_size):
            loss = _loss(model, _cropped(rng, inputs[chosen]), captions.tokens(), targets[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += float(loss.detach())
        mean_loss, seconds = total * batch_size / len(order), time.monotonic() - started
        print(f"epoch {epoch + 1:2d}: loss {mean_loss:.3f}, {seconds:.0f} s", flush=True)
    return model.eval()


class Captions:
    """Token ids of one caption a name, drawn anew every step; tokenising each name and template once.

    Parameters
    ----------
    rng : numpy.random.Generator
        Chooses templates and negatives.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        negatives = sorted(set(imagenet_class_names()) - set(VIEW_NAMES))
        self._names = [*VIEW_NAMES, *negatives]
        self._tokenizer = tokenizer_of(CONFIG_PATH)
        self._known: dict[tuple[int, int], torch.Tensor] = {}

    def tokens(self) -> torch.Tensor:
        """Return (len(VIEW_NAMES) + N_NEGATIVE_NAMES, context length), the names of views first."""
        negatives = self._rng.choice(np.arange(len(VIEW_NAMES), len(self._names)), N_NEGATIVE_NAMES, replace=False)
        places = [*range(len(VIEW_NAMES)), *negatives.tolist()]
        return torch.cat([self._token_row(place) for place in places])

    def _token_row(self, place: int) -> torch.Tensor:
        templates = TEMPLATE_SETS["openai"]
        template = int(self._rng.integers(len(templates)))
        if (place, template) not in self._known:
            self._known[place, template] = self._tokenizer([templates[template](self._names[place])])
        return self._known[place, template]


def _cropped(rng: np.random.Generator, views: torch.Tensor) -> torch.Tensor:
    """Return normalised 64 px crops, one shift a batch, mirrored at random."""
    x, y = rng.integers(0, VIEW_SIDE_PX - 64 + 1, size=2)
    crops = views[:, :, y : y + 64, x : x + 64].float() / 255
    if rng.random() < 0.5:
        crops = crops.flip(-1)
    normal = (crops - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    return normal.contiguous(memory_format=torch.channels_last)


def _loss(model: Any, inputs: torch.Tensor, tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    images = model.encode_image(inputs, normalize=True)  # (n, d)
    texts = model.encode_text(tokens, normalize=True)  # (n_texts, d)
    scale = model.logit_scale.exp().clamp(max=MAX_LOGIT_SCALE)
    return torch.nn.functional.cross_entropy(scale * images @ texts.T, targets)


def save_weights(model: torch.nn.Module, path: Path) -> None:
    """Write the weights in float16 under open_clip's names, so that its own loading takes them."""
    with torch.no_grad():
        model.logit_scale.clamp_(max=float(np.log(MAX_LOGIT_SCALE)))  # type: ignore[operator]
    half = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in model.state_dict().items()
    }
    save_file(half, path, metadata={"format": "pt", "made_by": "python -m curation.sample.train_clip"})


def check(weights_path: Path) -> ClipFigures:
    """Return the figures of saved weights on the held-out world."""
    encoder = load_encoder(str(CONFIG_PATH), str(weights_path))
    with tempfile.TemporaryDirectory() as folder:
        world = make_world(Path(folder), seed=HELD_OUT_WORLD_SEED, n_candidates=600, n_train=1, n_val=1)
        return clip_figures(encoder, world, HELD_OUT_KINDS, above=IN_CLASS_ABOVE)


def main() -> None:
    """Train, save and print the figures; with ``--check``, only the figures of what is saved."""
    parser = argparse.ArgumentParser(description="Train the sample's tiny CLIP.")
    parser.add_argument("--out", type=Path, default=WEIGHTS_PATH, help="where the weights go")
    parser.add_argument("--views", type=int, default=12_000)
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--check", action="store_true", help="train nothing, print the figures of --out")
    arguments = parser.parse_args()
    if not arguments.check:
        save_weights(train(n_views=arguments.views, n_epochs=arguments.epochs), arguments.out)
    print(check(arguments.out))


if __name__ == "__main__":
    main()
