"""MaxCosine, MaxNorm and DML against loops over images in float64."""

import numpy as np
import pytest
import torch

from manifests.errors import FeatureError, InputError
from scoring.heads import Head
from scoring.methods.fitting import fit_methods
from scoring.methods.table import methods_named
from scoring.statistics.gather import Training
from tests.scoring_world import a_head, batches, in_features, out_features, scores_of

FAMILY = ("max_cosine", "max_norm", "dml")


def as_float64(tensor: torch.Tensor) -> np.ndarray:
    return tensor.numpy().astype(np.float64)


def naive_cosine(weight: np.ndarray, feature: np.ndarray) -> float:
    return max(w @ feature / np.sqrt(w @ w) / np.sqrt(feature @ feature) for w in weight)


def fitted(head: Head, train: torch.Tensor | None = None, rows: int = 50, **options):
    """The three scorers by name; options are DML's."""
    training = Training(head, batches(train, rows=rows) if train is not None else ())
    outcome = fit_methods(methods_named(FAMILY), training, overrides={"dml": options})
    assert not outcome.refused
    return outcome.scorers


@pytest.fixture(params=[6, 40], ids=["fewer classes than features", "more classes than features"])
def world(request):
    """Head, training features, and scored ones of both kinds."""
    head = a_head(3, n_classes=request.param)
    scored = torch.cat([in_features(head, 30, 5)[0], out_features(a_head(3), 30, 6)])
    return head, in_features(head, 300, 4)[0], scored


def test_three_scores_equal_a_loop_over_images(world):
    head, train, scored = world
    weight = as_float64(head.weight)
    cosine = np.array([naive_cosine(weight, x) for x in as_float64(scored)])
    norm = np.array([np.sqrt(x @ x) for x in as_float64(scored)])
    scale = sum(np.sqrt(x @ x) for x in as_float64(train)) / sum(
        naive_cosine(weight, x) for x in as_float64(train)
    )
    scorers = fitted(head, train)
    assert scorers["dml"].scale == pytest.approx(scale, rel=1e-6)
    np.testing.assert_allclose(scores_of(scorers["max_cosine"], head, scored), -cosine, atol=3e-7)
    np.testing.assert_allclose(scores_of(scorers["max_norm"], head, scored), -norm, rtol=1e-14)
    np.testing.assert_allclose(scores_of(scorers["dml"], head, scored), -(scale * cosine + norm), rtol=1e-6)


def test_default_lambda_lets_cosine_and_norm_weigh_the_same_on_training_images(world):
    head, train, _ = world
    scorers = fitted(head, train)
    both = [scores_of(scorers[name], head, train).mean() for name in ("max_cosine", "max_norm")]
    assert float(scorers["dml"].scale * both[0]) == pytest.approx(float(both[1]), rel=1e-9)


def test_dml_runs_from_the_order_of_max_norm_to_that_of_max_cosine(world):
    head, train, _ = world
    scored, _ = in_features(head, 100, 7)
    without_cosine, hardly_norm = fitted(head, train, scale=0.0), fitted(head, train, scale=1e9)
    torch.testing.assert_close(
        scores_of(without_cosine["dml"], head, scored), scores_of(without_cosine["max_norm"], head, scored)
    )
    order = scores_of(hardly_norm["dml"], head, scored).argsort()
    assert order.tolist() == scores_of(hardly_norm["max_cosine"], head, scored).argsort().tolist()


def test_max_logit_is_norm_times_cosine_where_weights_are_unit_and_there_is_no_bias():
    plain = a_head(1)
    head = Head(plain.weight / plain.weight.norm(dim=1, keepdim=True), torch.zeros(plain.n_classes))
    features, _ = in_features(head, 50, 2)
    scorers = fit_methods(methods_named(["max_logit", "max_cosine", "max_norm"]), Training(head)).scorers
    cosine, norm = (scores_of(scorers[name], head, features) for name in ("max_cosine", "max_norm"))
    torch.testing.assert_close(scores_of(scorers["max_logit"], head, features), -cosine * norm, rtol=1e-6, atol=0)


def test_length_of_features_and_weights_changes_no_cosine(world):
    head, train, scored = world
    lengths = torch.rand(len(scored), 1, generator=torch.Generator().manual_seed(0)) + 0.01
    longer = Head(head.weight * torch.linspace(0.1, 9, head.n_classes)[:, None], head.bias)
    plain, scaled = fitted(head, train)["max_cosine"], fitted(longer, train)["max_cosine"]
    torch.testing.assert_close(
        scores_of(plain, head, scored), scores_of(scaled, longer, lengths * scored), rtol=0, atol=3e-7
    )


def test_bias_however_large_changes_no_cosine(world):
    head, train, scored = world
    biased = Head(head.weight, head.bias + 1e8)
    torch.testing.assert_close(
        scores_of(fitted(head, train)["max_cosine"], head, scored),
        scores_of(fitted(biased, train)["max_cosine"], biased, scored),
        rtol=0,
        atol=0,
    )


def test_chunks_and_order_of_training_images_change_nothing(world):
    head, train, scored = world
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    expected = scores_of(fitted(head, train)["dml"], head, scored)
    for rows, features in ((1, train), (77, train[order]), (300, train)):
        torch.testing.assert_close(
            scores_of(fitted(head, features, rows)["dml"], head, scored), expected, rtol=1e-6, atol=0
        )


def test_image_alone_scores_as_among_others(world):
    head, train, scored = world
    scorers = fitted(head, train)
    for name in FAMILY:
        alone = torch.cat([scores_of(scorers[name], head, scored[[row]]) for row in range(len(scored))])
        torch.testing.assert_close(alone, scores_of(scorers[name], head, scored), rtol=1e-6, atol=1e-7)


def test_features_and_weights_without_direction_have_cosine_zero(world):
    head, train, _ = world
    scorers = fitted(Head(torch.cat([head.weight, torch.zeros(1, 24)]), torch.ones(head.n_classes + 1)), train)
    zeros = torch.zeros(2, 24)
    for name in FAMILY:
        assert scores_of(scorers[name], head, zeros).tolist() == [0, 0]
    opposite = Head(torch.cat([torch.ones(1, 24), torch.zeros(1, 24)]), torch.zeros(2))
    assert scores_of(fitted(opposite, torch.ones(3, 24))["max_cosine"], opposite, -torch.ones(1, 24)).tolist() == [
        0
    ]


def test_one_product_serves_max_cosine_and_dml(world):
    head, train, _ = world
    scorers = fitted(head, train)
    assert scorers["dml"].directions is scorers["max_cosine"].directions


def test_max_cosine_and_max_norm_and_dml_with_a_scale_need_no_training_image():
    assert set(fitted(a_head(), None, scale=500.0)) == set(FAMILY)


@pytest.mark.parametrize("features", [-torch.ones(5, 4), torch.zeros(5, 4)], ids=["opposite", "zero"])
def test_lambda_that_is_not_positive_is_refused_and_a_given_one_is_taken(features):
    head = Head(torch.ones(3, 4), torch.zeros(3))
    outcome = fit_methods(methods_named(["dml"]), Training(head, batches(features)))
    assert outcome.refused["dml"].startswith("lambda = mean norm / mean MaxCosine of the training images is not")
    given = fit_methods(
        methods_named(["dml"]), Training(head, batches(features)), overrides={"dml": {"scale": 2.0}}
    )
    assert scores_of(given.scorers["dml"], head, torch.ones(1, 4)).tolist() == pytest.approx([-4.0])


@pytest.mark.parametrize("scale", [-1.0, float("nan"), float("inf")])
def test_scale_that_is_no_weight_is_refused(scale):
    with pytest.raises(InputError, match=r"DML: expected a scale \(lambda\) of at least 0, found"):
        fitted(a_head(), in_features(a_head(), 20, 1)[0], scale=scale)


def test_no_training_image_is_refused():
    with pytest.raises(FeatureError, match="no training image"):
        fitted(a_head())
