"""The features that two models have of the same images, and scores of both together."""

import numpy as np
import pyarrow.parquet as pq
import torch

from scoring.feature_sets import feature_set_writer
from scoring.heads import Head, write_head
from scoring.score import score
from scoring.score_settings import FigureSettings, FitSettings, SetNames

N_CLASSES = 4
N_IMAGES = {"train": 90, "val": 40, "far": 30}
NAMES = SetNames(("far",))
NO_DRAWS = FigureSettings(n_draws=0)


def write_model(folder, seed: int, n_features: int, order_seed: int | None = None, n_classes: int = N_CLASSES):
    """A folder of features; the rows of each set stand in another order where `order_seed` is given."""
    generator = torch.Generator().manual_seed(seed)
    head = Head(torch.randn(n_classes, n_features, generator=generator), torch.zeros(n_classes))
    write_head(folder, head)
    for name, n_images in N_IMAGES.items():
        classes = torch.arange(n_images) % N_CLASSES
        lean = 0.0 if name == "far" else 1.0
        noise = torch.randn(n_images, n_features, generator=generator)
        write_set(folder, name, lean * head.weight[classes % n_classes] + 0.8 * noise, order_seed=order_seed)
    return folder


def write_set(folder, name: str, features: torch.Tensor, *, order_seed: int | None = None, classes=None) -> None:
    """One feature set; image `row` is of class `row` modulo `N_CLASSES` where `classes` says nothing else."""
    n_images = len(features)
    order = np.arange(n_images) if order_seed is None else np.random.default_rng(order_seed).permutation(n_images)
    labels = (
        [None if name == "far" else row % N_CLASSES for row in range(n_images)] if classes is None else classes
    )
    with feature_set_writer(folder / f"{name}.parquet", features.shape[1]) as writer:
        ids = [f"{name}_{row:03}" for row in order]
        writer.write(ids, [labels[row] for row in order], features[torch.from_numpy(order)])


def scored(models, out, **options):
    """What scoring by DML+ came to, and its scores by set and image id."""
    settings = FitSettings(options={"dml_plus": options})
    result = score(
        models[0], NAMES, out, methods=["dml_plus"], fit=settings, figures=NO_DRAWS, second_dir=models[1]
    )
    rows = pq.read_table(result.paths[0]).to_pylist()
    return result, {(row["set"], row["image_id"]): row["dml_plus"] for row in rows}
