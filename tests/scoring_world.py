"""A small world of features for the tests of methods: heads, ID and OOD features, and a `Training` of them."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from scoring.feature_sets import FeatureBatch, open_feature_set
from scoring.heads import Head, read_head
from scoring.methods.fitting import fit_methods
from scoring.methods.table import methods_named
from scoring.metrics import auroc
from scoring.outputs import Outputs
from scoring.statistics.gather import Training

N_CLASSES, N_FEATURES, DIM = 6, 24, 10
GROUP_OF = (0, 0, 1, 1, 2, 2)


def batches(features: torch.Tensor, classes: torch.Tensor | None = None, rows: int = 50) -> list[FeatureBatch]:
    """Features in chunks, as a feature set yields them."""
    found = []
    for start in range(0, len(features), rows):
        part = features[start : start + rows]
        labels = pa.nulls(len(part), pa.int32())
        if classes is not None:
            labels = pa.array(classes[start : start + rows].tolist(), pa.int32())
        image_ids = pa.array([f"image_{start + row}" for row in range(len(part))])
        found.append(FeatureBatch(image_ids, labels, part))
    return found


def a_head(seed: int = 0, n_classes: int = N_CLASSES, n_features: int = N_FEATURES) -> Head:
    generator = torch.Generator().manual_seed(seed)
    return Head(
        torch.randn(n_classes, n_features, generator=generator), torch.randn(n_classes, generator=generator)
    )


def in_features(head: Head, n_images: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Features near the weight vector of a class, and a little noise; and the classes."""
    generator = torch.Generator().manual_seed(seed)
    classes = torch.randint(head.n_classes, (n_images,), generator=generator)
    noise = 0.15 * torch.randn(n_images, head.n_features, generator=generator)
    return 0.8 * head.weight[classes] + noise, classes


def out_features(head: Head, n_images: int, seed: int) -> torch.Tensor:
    """Features that no class weight points to."""
    generator = torch.Generator().manual_seed(seed)
    random = torch.randn(n_images, head.n_features, generator=generator)
    return random - random @ torch.linalg.pinv(head.weight) @ head.weight


def a_training(rows: int = 50, seed: int = 0, n_images: int = 400) -> Training:
    """A training of 400 images of 6 classes, 24 features, with labels and groups."""
    head = a_head(seed)
    features, classes = in_features(head, n_images, seed + 1)
    return Training(head, batches(features, classes, rows), group_of=GROUP_OF)


def scores_of(scorer, head: Head, features: torch.Tensor) -> torch.Tensor:
    """ood_score of features."""
    return scorer.ood_score(Outputs(head, features))


def as_float64(tensor: torch.Tensor) -> np.ndarray:
    """The numbers of a tensor, for a second implementation."""
    return tensor.numpy().astype(np.float64)


def figures_on_reference(shared, name: str, options: dict) -> list[float]:
    """AUROC of one method on each OOD set of small_seed0."""
    folder = shared / "reference" / "small_seed0"
    if not (folder / "expected.json").is_file():
        pytest.skip(f"reference sets are not at hand: {folder} is absent")
    head = read_head(folder)
    training = Training(head, open_feature_set(folder, "train"))
    scorer = fit_methods(methods_named([name]), training, overrides={name: options}).scorers[name]

    def scores(set_name: str) -> torch.Tensor:
        return torch.cat([scores_of(scorer, head, batch.features) for batch in open_feature_set(folder, set_name)])

    in_scores = scores("val")
    return [auroc(in_scores, scores(set_name)) for set_name in ("far", "near", "texture", "mix")]
