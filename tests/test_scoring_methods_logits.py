"""GEN, SHE, fDBD and NCI against small independent implementations, and what they refuse."""

import numpy as np
import pytest
import torch

from manifests.errors import FeatureError, InputError
from scoring.heads import Head
from scoring.methods.fdbd import FDBD
from scoring.methods.fitting import fit_methods
from scoring.methods.gen import GEN
from scoring.methods.nci import NCI
from scoring.methods.she import SHE
from scoring.methods.table import methods_named
from scoring.metrics import auroc
from scoring.outputs import Outputs
from scoring.statistics.feature_mean import FeatureMean
from scoring.statistics.gather import Training
from tests.scoring_world import (
    a_head,
    as_float64,
    batches,
    figures_on_reference,
    in_features,
    out_features,
    scores_of,
)

BOTH_SHAPES = pytest.mark.parametrize(
    "n_classes", [6, 40], ids=["fewer classes than features", "more classes than features"]
)


class World:
    """One head, its training and evaluated features, as tensors and as float64 arrays."""

    def __init__(self, n_classes: int = 6, *, weight_scale: float = 1.0):
        head = a_head(4, n_classes)
        self.train, self.classes = in_features(head, 1200, 5)
        self.features = torch.cat([in_features(head, 15, 6)[0], out_features(a_head(4), 15, 7)])
        self.head = Head(weight_scale * head.weight, head.bias)
        self.training = Training(self.head, batches(self.train, self.classes))
        self.weight, self.bias = as_float64(self.head.weight), as_float64(self.head.bias)
        # The head's product is float32 by contract; what is made of it is checked in float64.
        self.logits = as_float64(self.head.logits(self.features))
        self.predicted = self.logits.argmax(axis=1)
        self.mean = as_float64(self.train).mean(axis=0)

    def scores(self, scorer) -> np.ndarray:
        return scores_of(scorer, self.head, self.features).numpy()


@pytest.fixture
def world(n_classes):
    return World(n_classes)


def naive_gen(logits: np.ndarray, gamma: float, top: int) -> float:
    """Of one image, in 80-bit numbers, in which no probability here underflows."""
    wide = logits.astype(np.longdouble)
    p = np.exp(wide - wide.max())
    p /= p.sum()
    largest = np.argsort(-p)[:top]
    # 1 - p as the sum of all others.
    return float(sum((p[i] * np.delete(p, i).sum()) ** np.longdouble(gamma) for i in largest))


@BOTH_SHAPES
@pytest.mark.parametrize(("gamma", "top"), [(0.1, 100), (0.1, 5), (0.5, 1), (1.0, 40), (5.0, 10)])
def test_gen_equals_a_naive_implementation(world, gamma, top):
    expected = [naive_gen(logits, gamma, top) for logits in world.logits]
    np.testing.assert_allclose(world.scores(GEN.fit(world.training, gamma=gamma, top=top)), expected, rtol=1e-5)


@BOTH_SHAPES
@pytest.mark.parametrize(("weight_scale", "rtol"), [(20, 1e-5), (100, 0.51)])
def test_gen_of_saturated_softmax_equals_a_naive_implementation(n_classes, weight_scale, rtol):
    world = World(n_classes, weight_scale=weight_scale)
    in_softmax = torch.softmax(torch.from_numpy(world.logits[:15]).float(), dim=1).amax(dim=1)
    assert (in_softmax == 1).all()
    scores = world.scores(GEN.fit(world.training))
    # At 100 some gaps between logits are beyond 745, where 1 - p of the predicted class is 0 in float64 too: its
    # term is lost, one of two that are as large. Scores go down to 1e-84 there, and stay apart.
    np.testing.assert_allclose(scores, [naive_gen(logits, 0.1, 100) for logits in world.logits], rtol=rtol)
    assert len(np.unique(scores)) == len(scores)


def test_gen_of_gamma_one_is_one_less_the_sum_of_squares():
    head = Head(torch.zeros(4, 3), torch.log(torch.tensor([0.1, 0.2, 0.3, 0.4])))
    scores = scores_of(GEN.fit(Training(head), gamma=1.0), head, torch.randn(2, 3))
    np.testing.assert_allclose(scores, 1 - 0.01 - 0.04 - 0.09 - 0.16, rtol=1e-6)


def test_gen_takes_the_largest_probabilities():
    head = Head(torch.zeros(4, 3), torch.log(torch.tensor([0.1, 0.4, 0.3, 0.2])))
    scores = scores_of(GEN.fit(Training(head), gamma=0.5, top=2), head, torch.zeros(1, 3))
    np.testing.assert_allclose(scores, np.sqrt(0.4 * 0.6) + np.sqrt(0.3 * 0.7), rtol=1e-6)


def test_gen_is_largest_where_all_classes_are_equal():
    head = Head(torch.zeros(5, 3), torch.ones(5))
    assert scores_of(GEN.fit(Training(head)), head, torch.zeros(1, 3)).item() == pytest.approx(5 * 0.16**0.1)


def test_gen_of_gaps_beyond_float64_is_zero_and_no_nan():
    head = Head(torch.zeros(3, 2), torch.tensor([2000.0, 0.0, -2000.0]))
    assert scores_of(GEN.fit(Training(head)), head, torch.zeros(1, 2)).tolist() == [pytest.approx(0, abs=1e-80)]


def test_gen_of_one_class_is_zero():
    head = Head(torch.ones(1, 2), torch.zeros(1))
    assert scores_of(GEN.fit(Training(head)), head, torch.ones(2, 2)).tolist() == [0.0, 0.0]


@BOTH_SHAPES
def test_gen_depends_neither_on_the_order_of_classes_nor_on_a_constant(world):
    order = torch.randperm(len(world.bias), generator=torch.Generator().manual_seed(0))
    other = Head(world.head.weight[order].contiguous(), world.head.bias[order] + 0.5)
    scores = scores_of(GEN.fit(world.training), other, world.features).numpy()
    np.testing.assert_allclose(scores, world.scores(GEN.fit(world.training)), rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gamma": 0.0}, "gamma: expected a number above 0, found 0.0"),
        ({"gamma": float("nan")}, "gamma: expected a number above 0, found nan"),
        ({"gamma": float("inf")}, "gamma: expected a number above 0, found inf"),
        ({"top": 0}, "top: expected at least 1 class, found 0"),
    ],
)
def test_impossible_option_of_gen_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        fit_methods(methods_named(["gen"]), World().training, overrides={"gen": options})


@BOTH_SHAPES
def test_she_equals_a_naive_implementation(n_classes):
    world = World(n_classes)
    classes = world.classes.numpy()
    classes[::7] = (classes[::7] + 1) % n_classes  # the head gets these wrong
    is_correct = world.head.logits(world.train).numpy().argmax(axis=1) == classes
    assert 0.8 < is_correct.mean() < 0.9
    train = as_float64(world.train)
    expected = []
    for feature, predicted in zip(as_float64(world.features), world.predicted, strict=True):
        expected.append(-float(feature @ train[is_correct & (classes == predicted)].mean(axis=0)))
    scorer = SHE.fit(Training(world.head, batches(world.train, torch.from_numpy(classes))))
    np.testing.assert_allclose(world.scores(scorer), expected, rtol=1e-5, atol=1e-6)


@BOTH_SHAPES
def test_she_does_not_depend_on_the_length_of_weights(world):
    twice = Head(2 * world.head.weight, 2 * world.head.bias)
    other = SHE.fit(Training(twice, batches(world.train, world.classes)))
    np.testing.assert_array_equal(scores_of(other, twice, world.features), world.scores(SHE.fit(world.training)))


def test_she_of_a_class_that_the_head_never_gets_right_is_refused():
    world = World()
    bias = world.head.bias.clone()
    bias[3] = -1e4
    training = Training(Head(world.head.weight, bias), batches(world.train, world.classes))
    refused = fit_methods(methods_named(["she"]), training).refused
    assert "1 of 6 have no training image that the head gets right, class 3 among them" in refused["she"]


def test_she_of_training_images_without_class_is_refused():
    training = Training(a_head(), batches(World().train))
    refused = fit_methods(methods_named(["she"]), training).refused
    assert refused["she"].startswith("needs the class of every training image")


def naive_fdbd(world: World, logits: np.ndarray, feature: np.ndarray) -> float:
    """Of one image, class by class; classes with equal weights have no boundary between them."""
    predicted = logits.argmax()
    distances = []
    for c in range(len(logits)):
        apart = np.linalg.norm(world.weight[predicted] - world.weight[c])
        if apart > 0:
            distances.append(abs(logits[predicted] - logits[c]) / apart)
    return -np.mean(distances) / np.linalg.norm(feature - world.mean)


@BOTH_SHAPES
def test_fdbd_equals_a_naive_implementation(world):
    images = zip(world.logits, as_float64(world.features), strict=True)
    expected = [naive_fdbd(world, logits, feature) for logits, feature in images]
    np.testing.assert_allclose(world.scores(FDBD.fit(world.training)), expected, rtol=1e-5)


@BOTH_SHAPES
def test_fdbd_of_two_classes_with_equal_weights_leaves_out_their_boundary(n_classes):
    world = World(n_classes)
    weight = world.head.weight.clone()
    weight[2] = weight[1]
    head = Head(weight, world.head.bias)
    world.weight, world.logits = as_float64(weight), as_float64(head.logits(world.features))
    world.head = head
    assert {1, 2} & set(world.logits.argmax(axis=1))
    images = zip(world.logits, as_float64(world.features), strict=True)
    expected = [naive_fdbd(world, logits, feature) for logits, feature in images]
    scores = world.scores(FDBD.fit(Training(head, batches(world.train))))
    np.testing.assert_allclose(scores, expected, rtol=1e-5)


@BOTH_SHAPES
def test_fdbd_depends_neither_on_the_length_of_weights_nor_on_what_all_classes_share(world):
    shared_row = torch.randn(24, generator=torch.Generator().manual_seed(0))
    other = Head(4 * (world.head.weight + shared_row), 4 * (world.head.bias + 3))
    scores = scores_of(FDBD.fit(Training(other, batches(world.train))), other, world.features).numpy()
    np.testing.assert_allclose(scores, world.scores(FDBD.fit(world.training)), rtol=1e-4)


@pytest.mark.parametrize("n_classes", [1, 3])
def test_fdbd_of_a_head_without_boundary_is_refused(n_classes):
    head = Head(torch.ones(n_classes, 24), torch.arange(n_classes).float())
    training = Training(head, batches(World().train))
    refused = fit_methods(methods_named(["fdbd"]), training).refused
    assert refused["fdbd"] == "the head has no decision boundary: all its classes have the same weights"
    assert training.n_reads == 0


@BOTH_SHAPES
@pytest.mark.parametrize("alpha", [0.0, 0.0001, 0.1])
def test_nci_equals_a_naive_implementation(world, alpha):
    expected = []
    for feature, predicted in zip(as_float64(world.features), world.predicted, strict=True):
        centred = feature - world.mean
        along = centred @ world.weight[predicted] / np.linalg.norm(centred)
        expected.append(-along - alpha * np.abs(feature).sum())
    np.testing.assert_allclose(world.scores(NCI.fit(world.training, alpha=alpha)), expected, rtol=1e-5, atol=1e-6)


@BOTH_SHAPES
def test_nci_does_not_depend_on_a_constant_in_the_bias(world):
    other = Head(world.head.weight, world.head.bias + 3)
    scores = scores_of(NCI.fit(Training(other, batches(world.train))), other, world.features).numpy()
    np.testing.assert_allclose(scores, world.scores(NCI.fit(world.training)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("alpha", [-0.1, float("nan"), float("inf")])
def test_impossible_alpha_is_refused(alpha):
    with pytest.raises(InputError, match=f"alpha: expected a number of at least 0, found {alpha}"):
        fit_methods(methods_named(["nci"]), World().training, overrides={"nci": {"alpha": alpha}})


@pytest.mark.parametrize("name", ["fdbd", "nci"])
def test_image_on_the_mean_of_the_training_features_is_refused(name):
    world = World()
    training = Training(world.head, batches(torch.full((60, 24), 0.3)))
    scorer = fit_methods(methods_named([name]), training).scorers[name]
    with pytest.raises(FeatureError, match="2 of 32 images lie on it; are the features of all images the same"):
        scores_of(scorer, world.head, torch.cat([world.features, torch.full((2, 24), 0.3)]))
    assert torch.isfinite(scores_of(scorer, world.head, world.features)).all()


def test_fdbd_and_nci_share_the_distance_to_the_mean():
    world = World()
    scorers = fit_methods(methods_named(["fdbd", "nci"]), world.training).scorers
    assert scorers["fdbd"].centre is scorers["nci"].centre is world.training[FeatureMean()]
    outputs = Outputs(world.head, world.features)
    distance = scorers["fdbd"].centre.distance(outputs)
    assert scorers["nci"].centre.distance(outputs) is distance
    np.testing.assert_allclose(
        distance, np.linalg.norm(as_float64(world.features) - world.mean, axis=1), rtol=1e-6
    )


@pytest.mark.parametrize("name", ["gen", "she", "fdbd", "nci"])
@pytest.mark.parametrize("n_images", [1, 30])
def test_ood_images_score_higher_and_each_alone_as_together(name, n_images):
    world = World()
    scorer = fit_methods(methods_named([name]), world.training).scorers[name]
    parts = world.features.split(n_images)
    scores = torch.cat([scores_of(scorer, world.head, part) for part in parts])
    np.testing.assert_allclose(scores, world.scores(scorer), rtol=1e-5, atol=1e-6)
    assert auroc(scores[:15], scores[15:]) > 0.95


@pytest.mark.parametrize(
    ("name", "expected"),
    [("she", (0.7804, 0.7095, 0.8075, 0.6377)), ("gen", (0.7443, 0.8220, 0.6833, 0.6717))],
)
def test_figures_equal_those_of_openood_and_pytorch_ood(shared, name, expected):
    assert figures_on_reference(shared, name, {}) == pytest.approx(expected, abs=1e-4)
