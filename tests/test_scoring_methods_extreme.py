"""Features so large or so small that float32 does not hold their squares: every method against float64."""

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from scoring.heads import Head
from scoring.methods.fitting import fit_methods
from scoring.methods.table import methods_named
from scoring.statistics.gather import Training
from scoring.statistics.moments import SecondMoment
from tests.scoring_world import DIM, a_head, batches, in_features, scores_of

OPTIONS = {"vim": {"dim": DIM}, "residual": {"dim": DIM}, "neco": {"dim": 8}}
METHODS = ("residual", "vim", "nusa", "mahalanobis", "rmds", "neco", "she", "max_norm")


class FormulasInFloat64:
    """The formulas of the papers, one image at a time, on features in float64."""

    def __init__(self, head: Head, train: np.ndarray, classes: np.ndarray) -> None:
        self.weight, self.bias = as_float64(head.weight), as_float64(head.bias)
        self.train = train
        self.origin = -np.linalg.pinv(self.weight) @ self.bias
        self.means = np.array([train[classes == c].mean(axis=0) for c in range(head.n_classes)])
        is_right = self.logits(train).argmax(axis=1) == classes
        self.patterns = np.array([train[is_right & (classes == c)].mean(axis=0) for c in range(head.n_classes)])
        self.precision = np.linalg.inv(np.cov(train - self.means[classes], rowvar=False, bias=True))
        self.precision_of_all = np.linalg.inv(np.cov(train, rowvar=False, bias=True))
        centred = train - self.origin
        self.outside = np.linalg.eigh(centred.T @ centred)[1][:, :-DIM]

    def logits(self, features: np.ndarray) -> np.ndarray:
        return features @ self.weight.T + self.bias

    def residual(self, features: np.ndarray) -> np.ndarray:
        return np.linalg.norm((features - self.origin) @ self.outside, axis=1)

    def vim(self, features: np.ndarray) -> np.ndarray:
        alpha = self.logits(self.train).max(axis=1).sum() / self.residual(self.train).sum()
        return alpha * self.residual(features) - logsumexp(self.logits(features), axis=1)

    def nusa(self, features: np.ndarray) -> np.ndarray:
        centred = features - self.origin
        seen = centred @ np.linalg.pinv(self.weight) @ self.weight
        return -np.linalg.norm(seen, axis=1) / np.linalg.norm(centred, axis=1)

    def mahalanobis(self, features: np.ndarray) -> np.ndarray:
        return np.array([min((x - m) @ self.precision @ (x - m) for m in self.means) for x in features])

    def rmds(self, features: np.ndarray) -> np.ndarray:
        middle = self.train.mean(axis=0)
        from_all = np.array([(x - middle) @ self.precision_of_all @ (x - middle) for x in features])
        return self.mahalanobis(features) - from_all

    def neco(self, features: np.ndarray) -> np.ndarray:
        middle, deviation = self.train.mean(axis=0), self.train.std(axis=0)
        components = np.linalg.eigh(np.corrcoef(self.train, rowvar=False))[1][:, -8:]
        z = (features - middle) / deviation
        ratio = np.linalg.norm(z @ components, axis=1) / np.linalg.norm(z, axis=1)
        return -ratio * self.logits(features).max(axis=1)

    def she(self, features: np.ndarray) -> np.ndarray:
        predicted = self.logits(features).argmax(axis=1)
        return -np.array([x @ self.patterns[c] for x, c in zip(features, predicted, strict=True)])

    def max_norm(self, features: np.ndarray) -> np.ndarray:
        return -np.linalg.norm(features, axis=1)


def as_float64(tensor: torch.Tensor) -> np.ndarray:
    return tensor.numpy().astype(np.float64)


def without_bias() -> Head:
    """A head whose classes, and whose origin, do not depend on how large features are."""
    head = a_head()
    return Head(head.weight, torch.zeros_like(head.bias))


@pytest.mark.parametrize(
    ("scale", "factor"), [(1, 1e25), (1, 1e-30), (1e20, 1), (1e-25, 1)],
    ids=["large image", "small image", "all large", "all small"],
)  # fmt: skip
def test_scores_of_very_large_and_very_small_features_equal_float64(scale, factor):
    head = without_bias()
    features, classes = in_features(head, 400, 1)
    train = features * scale
    others = torch.randn(6, head.n_features, generator=torch.Generator().manual_seed(3))
    scored = torch.cat([in_features(head, 6, 2)[0], others]) * scale
    scored[[2, 8]] *= factor
    training = Training(head, batches(train, classes))
    fitted = fit_methods(methods_named(METHODS), training, overrides=OPTIONS)
    assert not fitted.refused
    formulas = FormulasInFloat64(head, as_float64(train), classes.numpy())
    for name in METHODS:
        expected = getattr(formulas, name)(as_float64(scored))
        found = scores_of(fitted.scorers[name], head, scored).numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-4, err_msg=name)


@pytest.mark.parametrize("scale", [1e20, 1e-25])
def test_moments_of_many_very_large_or_very_small_features_equal_float64(scale):
    head = a_head(0, 6, 600)  # beyond 512 features, products are float32
    features = in_features(head, 300, 1)[0] * scale
    moments = Training(head, batches(features))[SecondMoment()]
    expected = np.cov(as_float64(features), rowvar=False, bias=True) * len(features)
    np.testing.assert_allclose(moments.scatter, expected, rtol=1e-3, atol=1e-5 * expected.max())


def test_sum_of_residuals_without_end_is_refused():
    generator = torch.Generator().manual_seed(0)
    head = Head(1e-30 * torch.randn(6, 24, generator=generator), torch.ones(6))
    features = torch.randn(1000, 24, generator=generator)
    features[::50] = 3.3e38 * features[::50].sign()
    assert torch.isfinite(head.logits(features)).all()
    refused = fit_methods(
        methods_named(["vim"]), Training(head, batches(features)), overrides={"vim": {"dim": DIM}}
    ).refused
    assert "/ sum of residual norms inf)" in refused["vim"]


def test_mean_beyond_float32_is_refused():
    head = a_head()
    refused = fit_methods(
        methods_named(["residual"]), Training(head, batches(torch.full((400, 24), 3e38)))
    ).refused
    assert "the mean of the training features is not finite in float32" in refused["residual"]
