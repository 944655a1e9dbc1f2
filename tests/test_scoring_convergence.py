"""WFC and CFC by hand and against NumPy's pseudo-inverse."""

import numpy as np
import pytest
import torch

from manifests.errors import FeatureError
from scoring.feature_convergence import FeatureConvergence, feature_convergence
from scoring.heads import Head
from scoring.statistics.class_means import MeansByClass
from scoring.statistics.gather import Training
from scoring.statistics.moments import SecondMoment
from tests.scoring_world import a_head, batches, in_features


def measured(head: Head, features: torch.Tensor, classes: torch.Tensor, rows: int = 50) -> FeatureConvergence:
    training = Training(head, batches(features, classes, rows)).gather([SecondMoment(), MeansByClass()])
    return feature_convergence(head, training[SecondMoment()], training[MeansByClass()])


def naive(weight: np.ndarray, features: np.ndarray, classes: np.ndarray) -> tuple[float, float]:
    n_classes = len(weight)
    means = np.array([features[classes == c].mean(axis=0) for c in range(n_classes)])
    centred = features - means[classes]
    within = sum(np.outer(x, x) for x in centred) / len(features)
    middle = means.mean(axis=0)
    between = sum(np.outer(mean - middle, mean - middle) for mean in means) / n_classes
    wfc = np.trace(within @ np.linalg.pinv(between, rcond=1e-10, hermitian=True)) / n_classes
    gaps = means / np.sqrt((means**2).sum()) - weight / np.sqrt((weight**2).sum())
    return wfc, sum(np.sqrt(gap @ gap) for gap in gaps)


def test_two_classes_on_a_line_by_hand():
    # Means 2 and -2 about 0: Sigma_B = 4; within both Sigma_W = 1; K = 2. Unit H: (1, 0) and (-1, 0) over sqrt 2,
    # unit W: (0, 1) twice over sqrt 2, each gap of length 1.
    features = torch.tensor([[3.0, 0], [1, 0], [-1, 0], [-3, 0]])
    head = Head(torch.tensor([[0.0, 5], [0, 5]]), torch.zeros(2))
    found = measured(head, features, torch.tensor([0, 0, 1, 1]))
    assert found.within_class == pytest.approx(1 / 4 / 2, rel=1e-12)
    assert found.class_mean == pytest.approx(2, rel=1e-12)


@pytest.mark.parametrize("n_classes", [6, 40], ids=["fewer classes than features", "more classes than features"])
def test_both_equal_numpy_on_classes_of_different_sizes(n_classes):
    head = a_head(2, n_classes)
    features, classes = in_features(head, 600, 3)
    features, classes = torch.cat([features, features[:90] + 0.2]), torch.cat([classes, classes[:90]])
    features[:, 5], features[:, 6] = 0.0, features[:, 7]  # a dead feature, and one that stands twice
    wfc, cfc = naive(*(tensor.numpy().astype(np.float64) for tensor in (head.weight, features)), classes.numpy())
    found = measured(head, features, classes)
    assert found.within_class == pytest.approx(wfc, rel=1e-9)
    assert found.class_mean == pytest.approx(cfc, rel=1e-12)


def test_collapsed_features_along_the_weights_measure_nothing():
    head = a_head()
    classes = torch.arange(60) % head.n_classes
    found = measured(head, 3 * head.weight[classes], classes)
    assert found.within_class == pytest.approx(0, abs=1e-12)
    assert found.class_mean == pytest.approx(0, abs=1e-6)


def test_within_class_measure_grows_with_the_square_of_the_noise():
    head = a_head()
    classes = torch.arange(600) % head.n_classes
    noise = torch.randn(600, head.n_features, generator=torch.Generator().manual_seed(0))
    noise -= torch.stack([noise[classes == c].mean(dim=0) for c in range(head.n_classes)])[classes]
    once, twice = (measured(head, head.weight[classes] + size * noise, classes) for size in (0.1, 0.2))
    assert twice.within_class / once.within_class == pytest.approx(4, rel=1e-5)


def test_rotation_and_scale_of_features_and_weights_change_nothing():
    head = a_head()
    features, classes = in_features(head, 400, 1)
    rotation = torch.linalg.qr(torch.randn(24, 24, generator=torch.Generator().manual_seed(0)))[0]
    turned = measured(Head(2 * head.weight @ rotation, head.bias), 7 * features @ rotation, classes)
    plain = measured(head, features, classes)
    assert turned.within_class == pytest.approx(plain.within_class, rel=1e-5)
    assert turned.class_mean == pytest.approx(plain.class_mean, rel=1e-5)


def test_chunks_and_order_of_training_images_change_nothing():
    head = a_head()
    features, classes = in_features(head, 400, 1)
    order = torch.randperm(400, generator=torch.Generator().manual_seed(0))
    one, other = measured(head, features, classes, 1), measured(head, features[order], classes[order], 400)
    assert one.within_class == pytest.approx(other.within_class, rel=1e-9)
    assert one.class_mean == pytest.approx(other.class_mean, rel=1e-9)


def test_equal_class_means_are_refused():
    head = a_head()
    features = torch.randn(10, 24, generator=torch.Generator().manual_seed(0)).repeat(head.n_classes, 1)
    classes = torch.arange(head.n_classes).repeat_interleave(10)
    with pytest.raises(FeatureError, match="WFC is not defined: all class means are equal"):
        measured(head, 1000 + features, classes)
    with pytest.raises(FeatureError, match="all class means are equal"):
        measured(Head(head.weight[:1], head.bias[:1]), features, torch.zeros(60, dtype=torch.int64))


def test_head_of_zeros_is_refused():
    features, classes = in_features(a_head(), 100, 1)
    with pytest.raises(FeatureError, match="CFC is not defined: all weights of the head are zero"):
        measured(Head(torch.zeros(6, 24), torch.zeros(6)), features, classes)


def test_class_without_an_image_is_refused():
    head = a_head()
    features, classes = in_features(head, 100, 1)
    with pytest.raises(FeatureError, match="1 of 6 have no training image, class 0 among them"):
        measured(head, features, classes.clamp(min=1))
