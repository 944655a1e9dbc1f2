"""A tiny classifier, pictures for it, and the features that were extracted, for the tests of `scoring.extract`."""

import io

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from scoring.classifier import load_classifier
from scoring.feature_sets import open_feature_set

N_CLASSES = 7


def tiny_checkpoint(folder):
    """Write seeded random weights of a small network and return their path."""
    import timm

    torch.manual_seed(0)
    save_file(timm.create_model("test_resnet", num_classes=N_CLASSES).state_dict(), folder / "tiny.safetensors")
    return folder / "tiny.safetensors"


def tiny_classifier(folder):
    """The network of `tiny_checkpoint`, at 32 px."""
    return load_classifier(
        "test_resnet", checkpoint=tiny_checkpoint(folder), n_classes=N_CLASSES, preprocessing={"input_size_px": 32}
    )


def jpeg(seed: int, size: tuple[int, int] = (48, 40)) -> bytes:
    """A picture of coarse noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).resize(size).save(stream, "JPEG")
    return stream.getvalue()


def features_of(features_dir, name: str) -> dict[str, torch.Tensor]:
    """The features of a set, by image id."""
    batches = open_feature_set(features_dir, name)
    return {
        image_id: row
        for batch in batches
        for image_id, row in zip(batch.image_ids.to_pylist(), batch.features, strict=True)
    }
