"""The ViM paper's methods against small independent implementations, and what they refuse or warn of."""

import numpy as np
import pytest
import torch
from scipy import linalg, special

from manifests.errors import FeatureError, InputError
from scoring.heads import Head
from scoring.methods.energy import Energy
from scoring.methods.gradnorm import GradNorm
from scoring.methods.grouping import MaxGroup, ViMGroup
from scoring.methods.kl_matching import KLMatching
from scoring.methods.mahalanobis import Mahalanobis
from scoring.methods.max_logit import MaxLogit
from scoring.methods.msp import MSP
from scoring.methods.nusa import NuSA
from scoring.methods.odin import ODIN
from scoring.methods.principal_space import PrincipalSpace, origin_of, principal_dim
from scoring.methods.react import ReAct
from scoring.methods.residual import Residual
from scoring.methods.vim import ViM
from scoring.outputs import Outputs
from scoring.statistics.gather import Training
from tests.scoring_world import (
    DIM,
    GROUP_OF,
    N_CLASSES,
    N_FEATURES,
    a_head,
    a_training,
    batches,
    in_features,
    out_features,
    scores_of,
)

BOTH_SHAPES = pytest.mark.parametrize(
    "n_classes", [6, 40], ids=["fewer classes than features", "more classes than features"]
)


def as_float64(tensor: torch.Tensor) -> np.ndarray:
    return tensor.numpy().astype(np.float64)


class World:
    """One head, its training and evaluated features, as tensors and as float64 arrays."""

    def __init__(self, n_classes: int):
        self.head = a_head(4, n_classes)
        self.train, self.classes = in_features(self.head, 600, 5)
        self.features = torch.cat([in_features(self.head, 15, 6)[0], out_features(a_head(4), 15, 7)])
        self.training = Training(self.head, batches(self.train, self.classes))
        self.weight, self.bias = as_float64(self.head.weight), as_float64(self.head.bias)
        # The head's product is float32 by contract; what is made of it is checked in float64.
        self.logits = as_float64(self.head.logits(self.features))
        self.softmax = special.softmax(self.logits, axis=1)
        self.train_softmax = special.softmax(as_float64(self.head.logits(self.train)), axis=1)

    def scores(self, scorer) -> np.ndarray:
        return scores_of(scorer, self.head, self.features).numpy()


@pytest.fixture
def world(n_classes):
    return World(n_classes)


@BOTH_SHAPES
def test_logit_methods_equal_scipy(world):
    training = world.training
    np.testing.assert_allclose(
        world.scores(MSP.fit(training)), 1 - world.softmax.max(axis=1), rtol=1e-6, atol=1e-15
    )
    np.testing.assert_allclose(
        world.scores(Energy.fit(training)), -special.logsumexp(world.logits, axis=1), rtol=1e-6
    )
    np.testing.assert_array_equal(world.scores(MaxLogit.fit(training)), -world.logits.max(axis=1))
    for temperature in (1.0, 1000.0):
        cooled = special.softmax(world.logits / temperature, axis=1).max(axis=1)
        scorer = ODIN.fit(training, temperature=temperature)
        np.testing.assert_allclose(world.scores(scorer), 1 - cooled, rtol=1e-9, atol=1e-15)


def test_logits_equal_the_head_in_float64():
    world = World(6)
    exact = as_float64(world.features) @ world.weight.T + world.bias
    np.testing.assert_allclose(world.logits, exact, atol=1e-5)


def test_msp_ranks_images_whose_float32_probability_is_exactly_one():
    logits = torch.tensor([[100.0, 0.0, 0.0], [60.0, 0.0, 0.0], [40.0, 0.0, 0.0]])
    assert torch.softmax(logits, dim=1).amax(dim=1).tolist() == [1.0, 1.0, 1.0]
    scores = scores_of(MSP(), Head(torch.eye(3), torch.zeros(3)), logits)
    np.testing.assert_allclose(scores, 2 * np.exp([-100.0, -60.0, -40.0]), rtol=1e-6)


def test_energy_of_huge_logits_is_finite():
    logits = torch.tensor([[20000.0, 20000.0], [-20000.0, -20000.0]])
    expected = [-20000 - np.log(2), 20000 - np.log(2)]
    scores = scores_of(Energy(), Head(torch.eye(2), torch.zeros(2)), logits)
    np.testing.assert_allclose(scores, expected, rtol=1e-12)


@BOTH_SHAPES
def test_gradnorm_equals_the_gradient_of_each_image(world):
    expected = []
    for feature in world.features.double():
        weight = world.head.weight.double().requires_grad_()
        logits = weight @ feature + world.head.bias.double()
        loss = -torch.log_softmax(logits, dim=0).sum()
        (gradient,) = torch.autograd.grad(loss, weight)
        expected.append(-float(gradient.abs().sum()))
    np.testing.assert_allclose(world.scores(GradNorm.fit(world.training)), expected, rtol=1e-5)


@BOTH_SHAPES
def test_kl_matching_equals_scipys_relative_entropy(world):
    predicted = world.train_softmax.argmax(axis=1)
    templates = [world.train_softmax[predicted == c].mean(axis=0) for c in range(world.head.n_classes)]
    expected = [min(special.rel_entr(p, d).sum() for d in templates) for p in world.softmax]
    np.testing.assert_allclose(world.scores(KLMatching.fit(world.training)), expected, rtol=1e-4, atol=1e-5)


def test_kl_matching_of_saturated_softmax_is_finite():
    world = World(6)
    sharp = Head(world.head.weight * 1000, world.head.bias * 1000)
    training = Training(sharp, batches(world.train, world.classes))
    scores = scores_of(KLMatching.fit(training), sharp, 100 * world.features)
    assert torch.isfinite(scores).all()


def test_class_that_is_never_predicted_is_refused_or_one_hot():
    world = World(6)
    head = Head(world.head.weight, world.head.bias.clone())
    head.bias[2] = -40
    training = Training(head, batches(world.train, world.classes))
    with pytest.raises(FeatureError, match=r"1 of 6 classes are never predicted .*, class 2 among them"):
        KLMatching.fit(training)
    scorer = KLMatching.fit(training, one_hot_for_unpredicted=True)
    # Images that are nearly, but not quite, certain to be of the class that was never predicted.
    nearly = 8 * torch.eye(6)[[2, 2, 0]] - head.bias
    features = torch.linalg.lstsq(head.weight, nearly.T).solution.T.contiguous()
    logits = as_float64(head.logits(world.train))
    softmax = special.softmax(logits, axis=1)
    predicted = softmax.argmax(axis=1)
    one_hot = np.eye(6)[2]
    templates = [softmax[predicted == c].mean(axis=0) if c != 2 else one_hot for c in range(6)]
    images = special.softmax(as_float64(head.logits(features)), axis=1)
    expected = [min(special.rel_entr(p, d).sum() for d in templates) for p in images]
    np.testing.assert_allclose(scores_of(scorer, head, features), expected, rtol=1e-3)


@BOTH_SHAPES
def test_mahalanobis_equals_scipy_image_by_image(world):
    train, classes = as_float64(world.train), world.classes.numpy()
    means = np.array([train[classes == c].mean(axis=0) for c in range(world.head.n_classes)])
    centred = train - means[classes]
    precision = linalg.pinvh(centred.T @ centred / len(train))
    expected = [min((x - m) @ precision @ (x - m) for m in means) for x in as_float64(world.features)]
    np.testing.assert_allclose(world.scores(Mahalanobis.fit(world.training)), expected, rtol=1e-4)


def test_mahalanobis_of_features_on_a_hyperplane_leaves_its_normal_out_and_says_so():
    # What a layer norm gives: the covariance is singular, and a plain inverse is noise.
    world = World(6)
    normed = torch.nn.functional.layer_norm(world.train, (N_FEATURES,))
    training = Training(world.head, batches(normed, world.classes))
    scorer = Mahalanobis.fit(training)
    assert "singular; 1 of 24 directions" in scorer.warnings[0]
    exact, classes = as_float64(normed), world.classes.numpy()
    means = np.array([exact[classes == c].mean(axis=0) for c in range(N_CLASSES)])
    centred = exact - means[classes]
    precision = np.linalg.pinv(centred.T @ centred / len(exact), rcond=1e-8, hermitian=True)
    evaluated = torch.nn.functional.layer_norm(world.features, (N_FEATURES,))
    expected = [min((x - m) @ precision @ (x - m) for m in means) for x in as_float64(evaluated)]
    np.testing.assert_allclose(scores_of(scorer, world.head, evaluated), expected, rtol=1e-4)


def test_mahalanobis_of_dead_features_is_that_of_the_living():
    world = World(6)
    head = Head(torch.cat([world.head.weight, torch.zeros(6, 3)], dim=1), world.head.bias)
    wide = torch.cat([world.train, torch.zeros(600, 3)], dim=1)
    scorer = Mahalanobis.fit(Training(head, batches(wide, world.classes)))
    found = scores_of(scorer, head, torch.cat([world.features, torch.zeros(30, 3)], dim=1))
    np.testing.assert_allclose(found, world.scores(Mahalanobis.fit(world.training)), rtol=1e-4)
    assert "singular; 3 of 27 directions" in scorer.warnings[0]


def exact_mahalanobis(features: torch.Tensor, train: torch.Tensor, classes: torch.Tensor) -> np.ndarray:
    """Distances in float64, with SciPy's `pinvh` as in the authors' code."""
    exact, labels = as_float64(train), classes.numpy()
    means = np.array([exact[labels == c].mean(axis=0) for c in range(labels.max() + 1)])
    centred = exact - means[labels]
    precision = linalg.pinvh(centred.T @ centred / len(exact))
    return np.array([min((x - m) @ precision @ (x - m) for m in means) for x in as_float64(features)])


def test_mahalanobis_of_float16_layer_norms_keeps_what_the_authors_code_keeps():
    # Wide enough for float32 products. Rounded to float16, the normal of the hyperplane has a variance of 1e-8,
    # which is no rounding of float32, and pinvh keeps it.
    head = a_head(n_classes=5, n_features=600)
    generator = torch.Generator().manual_seed(3)
    classes = torch.arange(5).repeat(400)
    raw = torch.randn(2000, 600, generator=generator) + 2 * torch.randn(5, 600, generator=generator)[classes]
    train = torch.nn.functional.layer_norm(raw, (600,)).half().float()
    evaluated = torch.nn.functional.layer_norm(torch.randn(20, 600, generator=generator), (600,)).half().float()
    scorer = Mahalanobis.fit(Training(head, batches(train, classes, rows=500)))
    assert scorer.gaussian.whitening.root.shape == (600, 600)
    np.testing.assert_allclose(
        scores_of(scorer, head, evaluated), exact_mahalanobis(evaluated, train, classes), rtol=1e-4
    )


def test_mahalanobis_sees_features_of_very_small_variance():
    head = a_head(n_classes=3, n_features=520)
    generator = torch.Generator().manual_seed(4)
    classes = torch.arange(3).repeat(600)
    train, evaluated = (torch.randn(n, 520, generator=generator) for n in (1800, 20))
    train[:, :4] *= 2e-4
    evaluated[:, :4] *= 6e-4
    scorer = Mahalanobis.fit(Training(head, batches(train, classes, rows=400)))
    assert scorer.warnings == ()
    np.testing.assert_allclose(
        scores_of(scorer, head, evaluated), exact_mahalanobis(evaluated, train, classes), rtol=1e-4
    )


@pytest.mark.parametrize("scale", [6, 100])
def test_group_methods_rank_images_whose_best_group_is_all_but_certain(scale):
    world = World(6)
    head = Head(world.head.weight * scale, world.head.bias * scale)
    training = Training(head, batches(world.train, world.classes), group_of=GROUP_OF)
    logits = as_float64(head.logits(world.features))
    by_group = np.stack([special.logsumexp(logits[:, np.array(GROUP_OF) == g], axis=1) for g in range(3)], axis=1)
    ordered = np.sort(by_group, axis=1)
    expected = special.logsumexp(ordered[:, :-1], axis=1) - ordered[:, -1]
    np.testing.assert_allclose(scores_of(MaxGroup.fit(training), head, world.features), expected, rtol=1e-9)
    vim_group = scores_of(ViMGroup.fit(training, dim=DIM), head, world.features)
    assert torch.isfinite(vim_group).all()


def test_mahalanobis_of_classes_without_variance_is_refused():
    head = a_head()
    classes = torch.arange(N_CLASSES).repeat(50)
    training = Training(head, batches(head.weight[classes], classes))
    with pytest.raises(FeatureError, match="covariance within classes: cannot be inverted"):
        Mahalanobis.fit(training)


def test_mahalanobis_without_an_image_of_a_class_is_refused():
    world = World(6)
    kept = world.classes != 3
    with pytest.raises(FeatureError, match="1 of 6 have no training image, class 3"):
        Mahalanobis.fit(Training(world.head, batches(world.train[kept], world.classes[kept])))


@BOTH_SHAPES
def test_react_equals_the_energy_of_clipped_features(world):
    clip = np.quantile(as_float64(world.train), 0.9)
    logits = np.minimum(as_float64(world.features), clip) @ world.weight.T + world.bias
    scorer = ReAct.fit(world.training, quantile=0.9)
    np.testing.assert_allclose(world.scores(scorer), -special.logsumexp(logits, axis=1), rtol=1e-5)


def test_nusa_equals_the_share_of_the_projection():
    world = World(6)
    shifted = as_float64(world.features) + np.linalg.pinv(world.weight) @ world.bias
    basis = linalg.orth(world.weight.T)  # (n_features, rank)
    expected = -np.linalg.norm(shifted @ basis, axis=1) / np.linalg.norm(shifted, axis=1)
    np.testing.assert_allclose(world.scores(NuSA.fit(world.training)), expected, rtol=1e-5)


@pytest.mark.parametrize("n_classes", [24, 40])
def test_nusa_without_null_space_is_refused(n_classes):
    with pytest.raises(FeatureError, match=f"24 features and {n_classes} classes: the null space .* is empty"):
        NuSA.fit(Training(a_head(n_classes=n_classes)))


@BOTH_SHAPES
def test_vim_and_residual_equal_a_naive_implementation(world):
    origin = -np.linalg.lstsq(world.weight, world.bias, rcond=None)[0]
    train = as_float64(world.train)
    principal = np.linalg.svd(train - origin, full_matrices=True)[2][:DIM]  # (dim, n_features)

    def residual(feature: np.ndarray) -> float:
        shifted = feature - origin
        return float(np.linalg.norm(shifted - principal.T @ (principal @ shifted)))

    residuals = np.array([residual(x) for x in as_float64(world.features)])
    alpha = sum(max(world.weight @ x + world.bias) for x in train) / sum(residual(x) for x in train)
    vim = ViM.fit(world.training, dim=DIM)
    assert vim.alpha == pytest.approx(alpha, rel=1e-6)
    np.testing.assert_allclose(world.scores(Residual.fit(world.training, dim=DIM)), residuals, rtol=1e-4)
    energies = special.logsumexp(world.logits, axis=1)
    np.testing.assert_allclose(world.scores(vim), alpha * residuals - energies, rtol=1e-4)


def test_group_methods_equal_sums_over_groups():
    world = World(6)
    training = Training(world.head, batches(world.train, world.classes), group_of=GROUP_OF)
    groups = np.array(GROUP_OF)
    summed = np.array([[p[groups == g].sum() for g in range(3)] for p in world.softmax])
    best = summed.max(axis=1)
    np.testing.assert_allclose(world.scores(MaxGroup.fit(training)), np.log(1 - best) - np.log(best), rtol=1e-6)
    vim = ViM.fit(training, dim=DIM)
    virtual = vim.virtual_logit(Outputs(world.head, world.features)).numpy()
    with_virtual = special.softmax(np.column_stack([world.logits, virtual]), axis=1)[:, :-1]
    best = np.array([[p[groups == g].sum() for g in range(3)] for p in with_virtual]).max(axis=1)
    scorer = ViMGroup.fit(training, dim=DIM)
    np.testing.assert_allclose(world.scores(scorer), np.log(1 - best) - np.log(best), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("group_of", "message"),
    [(None, "--groups CSV"), ((0, 1), "found 2 classes in 2"), ((0,) * 6, "found 6 classes in 1")],
)
def test_groups_that_are_none_are_refused(group_of, message):
    with pytest.raises(FeatureError, match=message):
        MaxGroup.fit(Training(a_head(), group_of=group_of))


def test_duplicated_and_dead_features_change_no_residual():
    world = World(6)
    wide_head = Head(torch.cat([world.head.weight, torch.zeros(6, 8)], dim=1), world.head.bias)
    wide = Training(wide_head, batches(torch.cat([world.train, torch.zeros(600, 8)], dim=1)))
    found = scores_of(
        Residual.fit(wide, dim=DIM), wide_head, torch.cat([world.features, torch.zeros(30, 8)], dim=1)
    )
    np.testing.assert_allclose(found, world.scores(Residual.fit(world.training, dim=DIM)), rtol=1e-5)


def test_origin_of_a_head_whose_rows_sum_to_zero_stays_near():
    # Softmax heads that start at zero are of rank C - 1 but for rounding; inverted, that rounding is all one sees.
    head = a_head()
    centred = Head(head.weight - head.weight.mean(dim=0), head.bias + 0.1)
    reference = -np.linalg.pinv(as_float64(centred.weight), rcond=1e-5) @ as_float64(centred.bias)
    np.testing.assert_allclose(origin_of(centred), reference, rtol=1e-6)
    assert np.linalg.norm(reference) < 10


def test_origin_takes_the_bias_away_where_classes_are_fewer_than_features():
    head = a_head()
    at_origin = head.logits(origin_of(head).float()[None])
    torch.testing.assert_close(at_origin, torch.zeros(1, N_CLASSES), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("n_features", "rule", "expected"),
    [
        (2048, "repo", 1000), (2047, "repo", 512), (768, "repo", 512), (767, "repo", 383), (64, "repo", 32),
        (2048, "paper", 1000), (1501, "paper", 1000), (1500, "paper", 512), (768, "paper", 512),
    ],
)  # fmt: skip
def test_dimension_by_rule(n_features, rule, expected):
    assert principal_dim(n_features, rule=rule) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rule": "paper"}, r"expected 0 < D < N = 64 features, found D = 512 \(rule paper\)"),
        ({"dim": 64}, r"expected 0 < D < N = 64 features, found D = 64 \(as given\)"),
        ({"dim": 0}, "found D = 0"),
        ({"dim": -1}, "found D = -1"),
    ],
)
def test_dimension_that_leaves_nothing_outside_is_refused(arguments, message):
    with pytest.raises(FeatureError, match=message):
        principal_dim(64, **arguments)


def test_unknown_rule_for_the_dimension_is_refused():
    with pytest.raises(InputError, match="expected one of repo, paper, found 'openood'"):
        principal_dim(64, rule="openood")


def test_no_more_training_images_than_dimensions_is_refused():
    head = a_head()
    training = Training(head, batches(in_features(head, DIM, 1)[0]))
    with pytest.raises(FeatureError, match="the 10 training images lie wholly inside its D = 10 dimensions"):
        ViM.fit(training, dim=DIM)


@pytest.mark.parametrize("features", [torch.ones(200, N_FEATURES), torch.zeros(200, N_FEATURES)])
def test_constant_features_are_refused(features):
    head = Head(a_head().weight, torch.zeros(N_CLASSES))
    with pytest.raises(FeatureError, match="lie wholly inside"):
        Residual.fit(Training(head, batches(features)), dim=DIM)


def test_constant_wide_features_are_refused_though_their_products_are_float32():
    head = a_head(n_classes=4, n_features=600)
    features = torch.rand(600, generator=torch.Generator().manual_seed(0)).repeat(300, 1)
    with pytest.raises(FeatureError, match="lie wholly inside"):
        Residual.fit(Training(head, batches(features)), dim=300)


def test_few_training_images_are_a_warning():
    head = a_head()
    training = Training(head, batches(in_features(head, DIM + 5, 1)[0]))
    vim = ViM.fit(training, dim=DIM)
    assert vim.warnings[0].startswith("principal space: 15 training images are fewer than the 24 features")


def test_cut_between_equal_eigenvalues_is_a_warning():
    head = Head(a_head().weight, torch.zeros(N_CLASSES))
    space = PrincipalSpace.fit(Training(head, batches(torch.eye(N_FEATURES).repeat(2, 1))), dim=DIM)
    assert "D cuts between equal eigenvalues" in space.warnings[0]


def test_alpha_that_turns_the_residual_round_is_a_warning():
    head = a_head()
    low = Head(head.weight, head.bias - 1000)
    vim = ViM.fit(Training(low, batches(in_features(head, 300, 1)[0])), dim=DIM)
    assert vim.alpha < 0
    assert "a larger residual then counts as less OOD" in vim.warnings[-1]


def test_temperature_that_is_none_is_refused():
    with pytest.raises(InputError, match="expected a temperature above 0 and finite, found 0"):
        ODIN.fit(a_training(), temperature=0)
