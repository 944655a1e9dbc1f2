"""Train the sample's tiny classifier: ``python -m scoring.sample.train_classifier --world DIR``.

Only ``imagenet/train`` of the world is learnt from. The committed weights come from a world of another seed than
the demo's, with more pictures a class, so that every picture of the demo is new to them::

    python -c 'from pathlib import Path; from curation.sample.world import make_world; \
               make_world(Path("world"), seed=80001, n_train=200, n_val=40)'
"""

import argparse
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from manifests.errors import InputError
from manifests.images import read_image
from scoring.classifier import Preprocessing, load_classifier, untrained_network
from scoring.pictures import Picture, pictures_in_folder

MODEL = "test_resnet"
"""timm's smallest residual network: 375,016 weights for 24 classes, 96 features."""

WEIGHTS_PATH = Path(__file__).parent / "weights" / "tiny_classifier.safetensors"

PREPROCESSING = Preprocessing(
    input_size_px=96,
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    interpolation="bilinear",
    crop_fraction=1.0,
    crop_mode="squash",
)
"""The whole picture at 96 px; pass its fields to `load_classifier` along with the weights."""

_MARGIN_PX = 10
# Training pictures are read this much larger, and a window of the input's size is cut out at random.


def train(
    world_dir: Path,
    *,
    n_epochs: int = 8,
    batch_size: int = 64,
    learning_rate: float = 3e-3,
    seed: int = 0,
) -> torch.nn.Module:
    """Return a network trained on ``imagenet/train`` of a world, the same on one machine for equal worlds."""
    # Layers this small are done before a second thread has woken; on a busy machine threads wait for each other.
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    pixels, targets = _read(world_dir, "train", PREPROCESSING.input_size_px + _MARGIN_PX)
    n_classes = int(targets.max()) + 1
    network = untrained_network(MODEL, n_classes).to(memory_format=torch.channels_last).train()
    n_steps = n_epochs * (len(targets) // batch_size)
    optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=0.05, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=learning_rate, total_steps=n_steps, pct_start=0.2
    )
    for epoch in range(n_epochs):
        started, total = time.monotonic(), 0.0
        order = torch.randperm(len(targets))[: len(targets) // batch_size * batch_size]
        for chosen in order.split(batch_size):
            logits = network(_window(pixels[chosen]))
            loss = torch.nn.functional.cross_entropy(logits, targets[chosen], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += float(loss.detach())
        mean_loss, seconds = total * batch_size / len(order), time.monotonic() - started
        print(f"epoch {epoch + 1:2d}: loss {mean_loss:.3f}, {seconds:.0f} s", flush=True)
    return network.eval()


def _read(world_dir: Path, part: str, side_px: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return network inputs (n, 3, side_px, side_px) and class indices (n,) of one part of a world's ImageNet."""
    imagenet = world_dir / "imagenet"
    source = pictures_in_folder(imagenet / part, labels_path=imagenet / f"{part}_labels.csv")
    larger = PREPROCESSING.overridden({"input_size_px": side_px})
    pixels = torch.stack([larger.pixels(read_image(picture.path)) for picture in source.pictures])
    return pixels, torch.tensor([_class_of(picture) for picture in source.pictures])


def _class_of(picture: Picture) -> int:
    if picture.class_index is None:
        raise InputError(f"{picture.path}: has no class in the labels")
    return picture.class_index


def _window(pixels: torch.Tensor) -> torch.Tensor:
    """Return one random window of the input's size for the whole batch, mirrored at random."""
    y, x = torch.randint(0, _MARGIN_PX + 1, (2,)).tolist()
    side = PREPROCESSING.input_size_px
    window = pixels[:, :, y : y + side, x : x + side]
    if torch.rand(()) < 0.5:
        window = window.flip(-1)
    return window.contiguous(memory_format=torch.channels_last)


def save_weights(network: torch.nn.Module, path: Path) -> None:
    """Write the weights; the header says what the network is and what it expects, for whoever finds the file."""
    tensors = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    metadata = {
        "architecture": MODEL,
        "input_size_px": str(PREPROCESSING.input_size_px),
        "mean": str(PREPROCESSING.mean),
        "std": str(PREPROCESSING.std),
        "interpolation": PREPROCESSING.interpolation,
        "crop_fraction": str(PREPROCESSING.crop_fraction),
        "crop_mode": PREPROCESSING.crop_mode,
        "made_by": "python -m scoring.sample.train_classifier",
    }
    save_file(tensors, path, metadata=metadata)


def top1(weights_path: Path, world_dir: Path) -> float:
    """Return the share of ``imagenet/val`` of a world that saved weights get right."""
    pixels, targets = _read(world_dir, "val", PREPROCESSING.input_size_px)
    n_classes = int(targets.max()) + 1
    classifier = load_classifier(
        MODEL, checkpoint=weights_path, n_classes=n_classes, preprocessing=vars(PREPROCESSING)
    )
    logits = classifier.head.logits(classifier.features(pixels))
    return float((logits.argmax(dim=1) == targets).float().mean())


def main() -> None:
    """Train, save and print how well it does on the world's own validation pictures."""
    parser = argparse.ArgumentParser(description="Train the sample's tiny classifier.")
    parser.add_argument("--world", type=Path, required=True, help="folder of a world, not the demo's")
    parser.add_argument("--out", type=Path, default=WEIGHTS_PATH, help="where the weights go")
    parser.add_argument("--epochs", type=int, default=8)
    arguments = parser.parse_args()
    save_weights(train(arguments.world, n_epochs=arguments.epochs), arguments.out)
    print(f"top-1 on {arguments.world / 'imagenet' / 'val'}: {top1(arguments.out, arguments.world):.4f}")


if __name__ == "__main__":
    main()
