"""Whole steps of training against NumPy: loss, weight decay, momentum, learning rate and centers."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from scoring.classifier import Preprocessing
from scoring.dml import train as train_module
from scoring.dml import trained as trained_module
from scoring.dml.data import LabelledPixels, TrainingData
from scoring.dml.networks import ClassifierNetwork, CosineNetwork, LinearNetwork
from scoring.dml.recipe import Recipe
from scoring.dml.train import train
from scoring.dml.training_state import read_state

N_IMAGES, N_CLASSES, N_FEATURES, N_EPOCHS = 9, 3, 4, 5
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
TARGETS = np.arange(N_IMAGES) % N_CLASSES
# Both columns alike, so that mirror images change nothing; 2 px are too few to be cropped.
PIXELS = np.random.default_rng(0).integers(0, 256, (N_IMAGES, 3, 2, 1)).repeat(2, axis=3).astype(np.uint8)
# Each setting so large that a step without it would be seen.
RECIPE = Recipe(
    "cosine", n_epochs=N_EPOCHS, batch_size=N_IMAGES, learning_rate=0.2, momentum=0.8, weight_decay=0.05,
    gamma=1.5, scale=7.0, center_schedule="scaled",
)  # fmt: skip
RECIPES = {
    "linear": replace(RECIPE, loss="linear"),
    "cosine": RECIPE,
    "mcf": replace(RECIPE, loss="mcf"),
    "mcf as published": replace(RECIPE, loss="mcf", focal_gradient="published"),
    "mnc": replace(RECIPE, loss="mnc"),
}


def first_weights(recipe: Recipe) -> list[np.ndarray]:
    """What makes features of pixels, the classifier's rows, of any length, and where it has one its bias."""
    rng = np.random.default_rng(1)
    weights = [rng.normal(size=(N_FEATURES, 12)), rng.normal(size=(N_CLASSES, N_FEATURES))]
    return [*weights, rng.normal(size=N_CLASSES)] if recipe.loss == "linear" else weights


def matrix_network(*_, is_cosine: bool, **__) -> ClassifierNetwork:
    """A network of one matrix; after it, the draws of the centers begin."""
    body = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, N_FEATURES, bias=False))
    network = (CosineNetwork if is_cosine else LinearNetwork)(body, N_FEATURES, N_CLASSES)
    weights = [body[1].weight, network.weight, *([] if is_cosine else [network.bias])]
    with torch.no_grad():
        for weight, value in zip(weights, first_weights(RECIPE if is_cosine else RECIPES["linear"]), strict=True):
            weight.copy_(torch.from_numpy(value))
    torch.manual_seed(99)
    return network


def features_of(matrix: np.ndarray) -> np.ndarray:
    inputs = (PIXELS / 255 - np.reshape(MEAN, (3, 1, 1))) / np.reshape(STD, (3, 1, 1))
    return inputs.reshape(N_IMAGES, 12) @ matrix.T


def probabilities(recipe: Recipe, weights: list[np.ndarray]) -> np.ndarray:
    """Softmax of the own class of each image."""
    own = []
    for x, target in zip(features_of(weights[0]), TARGETS, strict=True):
        if recipe.loss == "linear":
            logits = [x @ w + b for w, b in zip(weights[1], weights[2], strict=True)]
        else:
            x = x if recipe.loss == "mnc" else recipe.scale * x / math.sqrt(x @ x)
            logits = [x @ w / math.sqrt(w @ w) for w in weights[1]]
        powers = [math.exp(logit) for logit in logits]
        own.append(powers[target] / sum(powers))
    return np.array(own)


def loss_of(
    recipe: Recipe, weights: list[np.ndarray], centers: np.ndarray, epoch: int, fixed: np.ndarray
) -> float:
    """The loss of one step; `fixed` are the weights of the images where they are constants."""
    p = probabilities(recipe, weights)
    if recipe.loss == "mcf":
        weight = fixed if recipe.focal_gradient == "published" else (1 - p) ** recipe.gamma
        return float(np.mean(-weight * np.log(p)))
    distances = ((features_of(weights[0]) - centers[TARGETS]) ** 2).sum(axis=1)
    # Of 5 epochs 30 % are over with the third, and 40 % too.
    share = 0.005 if recipe.loss == "mnc" and epoch >= 2 else 0.0
    return float(np.mean(-np.log(p)) + share * distances.mean())


def trained_by_hand(recipe: Recipe) -> tuple[list[np.ndarray], np.ndarray, list[float]]:
    """Weights, centers, and the loss before each step; every gradient is a difference quotient."""
    weights = first_weights(recipe)
    torch.manual_seed(99)
    centers = torch.randn(N_CLASSES, N_FEATURES).double().numpy()
    velocities, losses = [np.zeros_like(one) for one in weights], []
    for epoch in range(N_EPOCHS):
        fixed = (1 - probabilities(recipe, weights)) ** recipe.gamma
        losses.append(loss_of(recipe, weights, centers, epoch, fixed))
        gradients = [np.zeros_like(one) for one in weights]
        for one, gradient in zip(weights, gradients, strict=True):
            for index in np.ndindex(*one.shape):
                values = []
                for step in (1e-5, -2e-5):
                    one[index] += step
                    values.append(loss_of(recipe, weights, centers, epoch, fixed))
                one[index] += 1e-5
                gradient[index] = (values[0] - values[1]) / 2e-5
        features = features_of(weights[0])
        if epoch >= 2:
            pulls = [2 / N_IMAGES * (centers[k] - features[k::N_CLASSES]).sum(axis=0) for k in range(N_CLASSES)]
            centers = centers - 0.5 * np.array(pulls)
        learning_rate = recipe.learning_rate * (1 + math.cos(math.pi * epoch / N_EPOCHS)) / 2
        for one, gradient, velocity in zip(weights, gradients, velocities, strict=True):
            velocity *= recipe.momentum
            velocity += gradient + recipe.weight_decay * one
            one -= learning_rate * velocity
    return weights, centers, losses


@pytest.mark.parametrize("name", RECIPES)
def test_training_ends_in_the_weights_worked_out_by_hand(name, tmp_path, monkeypatch):
    for module in (train_module, trained_module):
        monkeypatch.setattr(module, "classifier_network", matrix_network)
    image_ids = tuple(f"picture_{number}" for number in range(N_IMAGES))
    part = LabelledPixels(image_ids, torch.from_numpy(TARGETS), torch.from_numpy(PIXELS))
    data = TrainingData("by_hand", part, part, N_CLASSES, Preprocessing(2, MEAN, STD, "bilinear", 1.0))

    result = train(data, RECIPES[name], tmp_path, device="cpu")

    weights, centers, losses = trained_by_hand(RECIPES[name])
    assert [figures.loss for figures in result.history] == pytest.approx(losses, rel=1e-5)
    found = read_state(tmp_path / "checkpoint.safetensors")
    np.testing.assert_allclose(found.network["body.1.weight"].numpy(), weights[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.network["weight"].numpy(), weights[1], rtol=1e-4, atol=1e-5)
    if name == "linear":
        np.testing.assert_allclose(found.network["bias"].numpy(), weights[2], rtol=1e-4, atol=1e-5)
        assert torch.equal(result.model.head.weight, found.network["weight"])
        assert torch.equal(result.model.head.bias, found.network["bias"])
    assert (found.centers is not None) == (name == "mnc")
    if found.centers is not None:
        np.testing.assert_allclose(found.centers.numpy(), centers, rtol=1e-4, atol=1e-5)

    # CFC of the last epoch, of features and of the head after it: of directions, but for `linear`.
    features, rows = features_of(weights[0]), weights[1]
    if name != "linear":
        rows = np.array([w / math.sqrt(w @ w) for w in rows])
    means = np.array([features[k::N_CLASSES].mean(axis=0) for k in range(N_CLASSES)])
    gaps = means / math.sqrt((means**2).sum()) - rows / math.sqrt((rows**2).sum())
    assert result.history[-1].cfc == pytest.approx(sum(math.sqrt(gap @ gap) for gap in gaps), rel=1e-4)
