"""Reading the training features: statistics against NumPy, readings, and what is refused."""

import numpy as np
import pytest
import torch

from manifests.errors import FeatureError, InputError
from scoring.products import add_moment, product, symmetric, triangular_product
from scoring.statistics.class_means import MeansByClass
from scoring.statistics.gather import Training
from scoring.statistics.moments import SecondMoment
from scoring.statistics.quantile import FeatureQuantile
from scoring.statistics.templates import SoftmaxByPrediction
from tests.scoring_world import N_CLASSES, N_FEATURES, a_head, batches, in_features


def as_float64(tensor: torch.Tensor) -> np.ndarray:
    return tensor.numpy().astype(np.float64)


@pytest.fixture
def labelled():
    """Head, features, classes."""
    head = a_head()
    return head, *in_features(head, 400, 1)


@pytest.mark.parametrize("rows", [7, 400])
@pytest.mark.parametrize("unit", [False, True])
def test_moments_equal_numpy(labelled, rows, unit):
    head, features, classes = labelled
    moments = Training(head, batches(features, classes, rows))[SecondMoment(unit)]
    exact = as_float64(features)
    if unit:
        exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    centred = exact - exact.mean(axis=0)
    np.testing.assert_allclose(moments.mean, exact.mean(axis=0), rtol=0, atol=1e-6 if unit else 1e-12)
    np.testing.assert_allclose(moments.scatter, centred.T @ centred, rtol=1e-5 if unit else 1e-11, atol=1e-4)
    point = torch.arange(N_FEATURES, dtype=torch.float64)
    about = exact - point.numpy()
    np.testing.assert_allclose(moments.about(point), about.T @ about, rtol=1e-5)


def test_moments_of_features_far_from_zero_keep_their_small_variance():
    head = a_head(n_features=600, n_classes=4)  # wide enough for float32 products
    noise = torch.randn(500, 600, generator=torch.Generator().manual_seed(0))
    features = 1000 + noise
    moments = Training(head, batches(features))[SecondMoment()]
    expected = np.cov(as_float64(features), rowvar=False, bias=True)
    assert np.abs(moments.scatter.numpy() / 500 - expected).max() < 1e-4


def test_means_by_class_equal_numpy(labelled):
    head, features, classes = labelled
    by_class = Training(head, batches(features, classes, 33))[MeansByClass()]
    expected = [as_float64(features)[(classes == c).numpy()].mean(axis=0) for c in range(N_CLASSES)]
    np.testing.assert_allclose(by_class.means, expected, rtol=1e-12)
    centred = np.array(expected) - as_float64(features).mean(axis=0)
    between = (by_class.counts.numpy()[:, None] * centred).T @ centred
    np.testing.assert_allclose(by_class.between, between, atol=1e-9)


def test_means_of_correct_images_leave_the_wrong_out(labelled):
    head, features, classes = labelled
    wrong = classes.clone()
    wrong[:50] = (wrong[:50] + 1) % N_CLASSES
    by_class = Training(head, batches(features, wrong))[MeansByClass(correct_only=True)]
    predicted = head.logits(features).argmax(dim=1)
    is_correct = (predicted == wrong).numpy()
    expected = [as_float64(features)[is_correct & (wrong == c).numpy()].mean(axis=0) for c in range(N_CLASSES)]
    np.testing.assert_allclose(by_class.means, expected, rtol=1e-12)
    assert int(by_class.counts.sum()) == is_correct.sum()


def test_templates_equal_numpy(labelled):
    head, features, _ = labelled
    templates = Training(head, batches(features, rows=33))[SoftmaxByPrediction()]
    logits = as_float64(head.logits(features))
    softmax = np.exp(logits - logits.max(axis=1, keepdims=True))
    softmax /= softmax.sum(axis=1, keepdims=True)
    for c in range(N_CLASSES):
        chosen = softmax[logits.argmax(axis=1) == c]
        assert int(templates.counts[c]) == len(chosen)
        np.testing.assert_allclose(templates.sums[c], chosen.sum(axis=0), rtol=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.99, 0.999, 1.0])
@pytest.mark.parametrize("rectified", [False, True])
def test_quantile_is_numpys_to_the_last_bit(labelled, share, rectified):
    head, features, classes = labelled
    if rectified:
        features = features.clamp(min=0)  # half of the entries tie at zero
    found = Training(head, batches(features, classes, 33))[FeatureQuantile(share)]
    assert found == pytest.approx(np.quantile(as_float64(features), share), rel=1e-12, abs=0)


def test_quantile_between_two_bins_is_interpolated():
    head = a_head(n_classes=2, n_features=2)
    features = torch.tensor([[-1.0, -0.5], [1.0, 1000.0]])
    training = Training(head, batches(features)).gather([FeatureQuantile(0.5), FeatureQuantile(0.9)])
    assert training[FeatureQuantile(0.5)] == 0.25
    assert training[FeatureQuantile(0.9)] == pytest.approx(1 + 0.7 * 999)
    assert training.n_reads == 2


def test_quantile_of_extreme_values_is_one_of_them():
    values = [-3.4e38, -1.0, -1e-40, -0.0, 0.0, 1e-40, 1.0, 3.4e38]
    head = a_head(n_classes=2, n_features=2)
    training = Training(head, batches(torch.tensor(values).view(4, 2)))
    for rank, value in enumerate(torch.tensor(values).tolist()):
        assert training[FeatureQuantile(rank / 7)] == pytest.approx(value, rel=1e-6)


def test_quantile_beyond_one_is_refused():
    with pytest.raises(InputError, match="expected a share from 0 to 1, found 99"):
        FeatureQuantile(99)


def test_equal_statistics_are_measured_once(labelled):
    head, features, classes = labelled
    training = Training(head, batches(features, classes))
    assert training[SecondMoment()] is training[SecondMoment()]
    assert training.n_reads == 1
    training.gather([SecondMoment(), MeansByClass(), MeansByClass(correct_only=True)])
    assert training.n_reads == 2


def test_what_one_statistic_lacks_is_its_own_failure(labelled):
    head, features, _ = labelled
    training = Training(head, batches(features)).gather([MeansByClass(), SecondMoment()])
    assert training.n_reads == 1
    assert training[SecondMoment()].n_images == 400
    with pytest.raises(FeatureError, match="the class of every training image; 50 of rows 0 to 49 have none"):
        training[MeansByClass()]


def test_class_without_image_is_named(labelled):
    head, features, classes = labelled
    kept = classes != 3
    training = Training(head, batches(features[kept], classes[kept]))
    with pytest.raises(FeatureError, match="1 of 6 have no training image, class 3 among them"):
        training[MeansByClass()]


def test_class_index_beyond_the_head_is_refused(labelled):
    head, features, classes = labelled
    classes[51] = N_CLASSES
    with pytest.raises(FeatureError, match="training image image_51: class index 6 is not one of the head's 6"):
        Training(head, batches(features, classes))[SecondMoment()]


def test_training_that_can_be_read_only_once_is_refused(labelled):
    head, features, classes = labelled
    training = Training(head, iter(batches(features, classes)))
    with pytest.raises(FeatureError, match="no training image"):
        training[FeatureQuantile(0.9)]


def test_training_that_changes_between_readings_is_refused(labelled):
    head, features, classes = labelled

    class Shrinking:
        def __init__(self):
            self.left = batches(features, classes)

        def __iter__(self):
            self.left.pop()
            return iter(list(self.left))

    with pytest.raises(
        FeatureError, match="reading 2 of the training features gave 300 images, the one before 350"
    ):
        Training(head, Shrinking())[FeatureQuantile(0.9)]


@pytest.mark.parametrize(("n", "k", "m"), [(1, 5, 3), (70, 33, 700), (0, 4, 2)])
def test_product_equals_numpy(n, k, m):
    generator = torch.Generator().manual_seed(0)
    rows, weight = torch.randn(n, k, generator=generator), torch.randn(m, k, generator=generator)
    np.testing.assert_allclose(product(rows, weight), as_float64(rows) @ as_float64(weight).T, atol=1e-5)
    strided = torch.randn(k, m, generator=generator).T
    np.testing.assert_allclose(product(rows, strided), as_float64(rows) @ as_float64(strided).T, atol=1e-5)


@pytest.mark.parametrize(("k", "m"), [(24, 6), (768, 100), (600, 2), (600, 1)])
def test_product_of_a_row_is_the_same_bits_however_many_are_beside_it(k, m):
    generator = torch.Generator().manual_seed(0)
    rows, weight = torch.randn(300, k, generator=generator), torch.randn(m, k, generator=generator)
    together = product(rows, weight)
    for n_rows in (1, 2, 9, 33, 127, 130):
        assert torch.equal(product(rows[5 : 5 + n_rows], weight), together[5 : 5 + n_rows])


@pytest.mark.parametrize("k", [5, 512, 1300])
def test_triangular_product_and_moment_equal_the_full_ones(k):
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(20, k, generator=generator)
    lower = torch.randn(k, k, generator=generator).tril()
    expected = as_float64(rows) @ as_float64(lower)
    np.testing.assert_allclose(triangular_product(rows, lower), expected, atol=1e-3)
    total = torch.zeros(k, k, dtype=torch.float64)
    add_moment(total, rows)
    add_moment(total, rows)
    np.testing.assert_allclose(symmetric(total), 2 * as_float64(rows).T @ as_float64(rows), atol=1e-3)
