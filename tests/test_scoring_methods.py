import dataclasses

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy import special

from manifests.errors import FeatureError, InputError
from scoring.feature_sets import FeatureBatch
from scoring.heads import Head
from scoring.methods.contract import Training
from scoring.methods.energy import Energy
from scoring.methods.max_logit import MaxLogit
from scoring.methods.msp import MSP
from scoring.methods.principal_space import PrincipalSpace, origin_of, principal_dim
from scoring.methods.residual import Residual
from scoring.methods.table import METHODS, methods_named
from scoring.methods.vim import ViM
from scoring.metrics import auroc

N_CLASSES, N_FEATURES, DIM = 6, 24, 10


def batches(features: torch.Tensor, rows: int = 50) -> list[FeatureBatch]:
    return [
        FeatureBatch(
            pa.array([f"image_{start + row}" for row in range(len(part))]), pa.nulls(len(part), pa.int32()), part
        )
        for start, part in zip(range(0, len(features), rows), features.split(rows), strict=True)
    ]


def a_head(seed: int = 0, n_classes: int = N_CLASSES, n_features: int = N_FEATURES) -> Head:
    generator = torch.Generator().manual_seed(seed)
    return Head(
        torch.randn(n_classes, n_features, generator=generator), torch.randn(n_classes, generator=generator)
    )


def in_features(head: Head, n_images: int, seed: int) -> torch.Tensor:
    """Features near the weight vector of a class, in a space of few dimensions and a little noise."""
    generator = torch.Generator().manual_seed(seed)
    classes = torch.randint(head.n_classes, (n_images,), generator=generator)
    noise = 0.3 * torch.randn(n_images, head.n_features, generator=generator)
    return 0.5 * head.weight[classes] + noise


def out_features(head: Head, n_images: int, seed: int) -> torch.Tensor:
    """Features that no class weight points to."""
    generator = torch.Generator().manual_seed(seed)
    random = torch.randn(n_images, head.n_features, generator=generator)
    return random - random @ torch.linalg.pinv(head.weight) @ head.weight


def a_training(rows: int = 50, seed: int = 0) -> Training:
    head = a_head(seed)
    return Training(head, batches(in_features(head, 400, seed + 1), rows), dim=DIM)


def naive_vim(
    weight: np.ndarray, bias: np.ndarray, train: np.ndarray, features: np.ndarray, dim: int
) -> tuple[float, np.ndarray, np.ndarray]:
    """Alpha, residuals and ViM's scores by the paper's formulas, with an SVD of the data, image by image."""
    origin = -np.linalg.lstsq(weight, bias, rcond=None)[0]
    principal = np.linalg.svd(train - origin, full_matrices=True)[2][:dim]  # (dim, n_features)

    def residual(feature: np.ndarray) -> float:
        shifted = feature - origin
        return float(np.linalg.norm(shifted - principal.T @ (principal @ shifted)))

    alpha = sum(max(weight @ x + bias) for x in train) / sum(residual(x) for x in train)
    residuals = np.array([residual(x) for x in features])
    energies = np.array([np.log(np.sum(np.exp(weight @ x + bias))) for x in features])
    return alpha, residuals, alpha * residuals - energies


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
class TestContract:
    def scores(self, method, features: torch.Tensor) -> torch.Tensor:
        training = a_training()
        return method.fit(training).ood_score(features, training.head.logits(features))

    def test_one_finite_float64_score_an_image(self, method):
        scores = self.scores(method, in_features(a_head(), 30, 7))
        assert scores.dtype == torch.float64
        assert scores.shape == (30,)
        assert torch.isfinite(scores).all()

    def test_higher_is_more_ood(self, method):
        scores_in = self.scores(method, in_features(a_head(), 300, 8))
        scores_out = self.scores(method, out_features(a_head(), 300, 9))
        assert auroc(scores_in, scores_out) > 0.9

    def test_score_does_not_depend_on_the_other_images(self, method):
        features = in_features(a_head(), 40, 10)
        together = self.scores(method, features)
        alone = torch.cat([self.scores(method, features[[row]]) for row in range(0, 40, 7)])
        torch.testing.assert_close(together[::7], alone, rtol=1e-5, atol=1e-6)

    def test_score_does_not_depend_on_chunks_or_order_of_training(self, method):
        training = a_training()
        shuffled = torch.cat([batch.features for batch in training.train])
        shuffled = shuffled[torch.randperm(len(shuffled), generator=torch.Generator().manual_seed(0))]
        other = dataclasses.replace(training, train=batches(shuffled, rows=7))
        features = out_features(training.head, 40, 11)
        logits = training.head.logits(features)
        torch.testing.assert_close(
            method.fit(training).ood_score(features, logits),
            method.fit(other).ood_score(features, logits),
            rtol=1e-6,
            atol=1e-9,
        )

    def test_fitted_scorer_is_frozen(self, method):
        with pytest.raises(dataclasses.FrozenInstanceError):
            method.fit(a_training()).anything = 1

    def test_table_says_truly_whether_training_features_are_needed(self, method):
        without = Training(a_head(), ())
        if method.needs_train:
            with pytest.raises(FeatureError, match="no training image"):
                method.fit(without)
        else:
            method.fit(without)

    def test_row_of_the_table_is_complete(self, method):
        assert method.family in ("probability", "logit", "feature", "feature + logit")
        assert all((method.title, method.paper, method.equation))


def test_every_file_of_a_method_is_in_the_table():
    assert [method.name for method in METHODS] == ["msp", "energy", "max_logit", "residual", "vim"]


def test_logit_methods_equal_scipy():
    head = a_head()
    features = in_features(head, 50, 3)
    logits = head.logits(features)
    exact = logits.numpy().astype(np.float64)
    np.testing.assert_allclose(MSP().ood_score(features, logits), 1 - special.softmax(exact, axis=1).max(axis=1))
    np.testing.assert_allclose(Energy().ood_score(features, logits), -special.logsumexp(exact, axis=1))
    np.testing.assert_array_equal(MaxLogit().ood_score(features, logits), -exact.max(axis=1))


def test_msp_ranks_images_whose_float32_probability_is_exactly_one():
    logits = torch.tensor([[100.0, 0.0, 0.0], [60.0, 0.0, 0.0], [40.0, 0.0, 0.0]])
    assert torch.softmax(logits, dim=1).amax(dim=1).tolist() == [1.0, 1.0, 1.0]
    scores = MSP().ood_score(logits, logits)
    np.testing.assert_allclose(scores, 2 * np.exp([-100.0, -60.0, -40.0]), rtol=1e-12)


def test_energy_of_huge_logits_is_finite():
    logits = torch.tensor([[20000.0, 20000.0], [-20000.0, -20000.0]])
    expected = [-20000 - np.log(2), 20000 - np.log(2)]
    np.testing.assert_allclose(Energy().ood_score(logits, logits), expected, rtol=1e-12)


@pytest.mark.parametrize("n_classes", [6, 40], ids=["fewer classes than features", "more classes than features"])
def test_vim_and_residual_equal_a_naive_implementation(n_classes):
    head = a_head(4, n_classes)
    train, features = in_features(head, 300, 5), out_features(a_head(4), 25, 6)
    arrays = [tensor.numpy().astype(np.float64) for tensor in (head.weight, head.bias, train, features)]
    alpha, residuals, scores = naive_vim(*arrays, DIM)
    vim = ViM.fit(head, batches(train), dim=DIM)
    assert vim.alpha == pytest.approx(alpha, rel=1e-6)
    logits = head.logits(features)
    residual = Residual.fit(head, batches(train), dim=DIM)
    np.testing.assert_allclose(residual.ood_score(features, logits), residuals, rtol=1e-9)
    np.testing.assert_allclose(vim.ood_score(features, logits), scores, rtol=1e-5)


def test_residual_and_vim_share_one_fit():
    training = a_training()
    fitted = {method.name: method.fit(training) for method in METHODS}
    assert fitted["residual"].space is fitted["vim"].space


def test_duplicated_and_dead_features_change_no_residual():
    head = a_head()
    train, features = in_features(head, 300, 1), out_features(head, 20, 2)
    wide_head = Head(torch.cat([head.weight, torch.zeros(N_CLASSES, 8)], dim=1), head.bias)
    dead = torch.zeros(300, 8)
    plain = PrincipalSpace.fit(head, batches(train), DIM).residual_norm(features)
    wide = PrincipalSpace.fit(wide_head, batches(torch.cat([train, dead], dim=1)), DIM)
    with_dead = wide.residual_norm(torch.cat([features, dead[:20]], dim=1))
    torch.testing.assert_close(plain, with_dead, rtol=1e-9, atol=1e-12)


def test_origin_of_a_head_whose_rows_sum_to_zero_stays_near():
    # Softmax heads that start at zero are of rank C - 1 but for rounding; inverted, that rounding is all one sees.
    head = a_head()
    centred = Head(head.weight - head.weight.mean(dim=0), head.bias + 0.1)
    reference = -np.linalg.pinv(centred.weight.numpy().astype(np.float64), rcond=1e-5) @ centred.bias.numpy()
    np.testing.assert_allclose(origin_of(centred), reference, rtol=1e-6)
    assert np.linalg.norm(reference) < 10


def test_origin_takes_the_bias_away_where_classes_are_fewer_than_features():
    head = a_head()
    torch.testing.assert_close(
        head.logits(origin_of(head).float()[None]), torch.zeros(1, N_CLASSES), atol=1e-5, rtol=0
    )


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
    with pytest.raises(FeatureError, match="the 10 training images lie wholly inside its D = 10 dimensions"):
        ViM.fit(head, batches(in_features(head, DIM, 1)), dim=DIM)


def test_constant_features_are_refused():
    head = a_head()
    with pytest.raises(FeatureError, match="lie wholly inside"):
        Residual.fit(head, batches(torch.ones(200, N_FEATURES)), dim=DIM)


def test_features_all_at_the_origin_are_refused():
    head = Head(a_head().weight, torch.zeros(N_CLASSES))
    with pytest.raises(FeatureError, match="lie wholly inside"):
        Residual.fit(head, batches(torch.zeros(200, N_FEATURES)), dim=DIM)


def test_few_training_images_are_a_warning():
    head = a_head()
    vim = ViM.fit(head, batches(in_features(head, DIM + 5, 1)), dim=DIM)
    assert vim.warnings[0].startswith("principal space: 15 training images are fewer than the 24 features")


def test_cut_between_equal_eigenvalues_is_a_warning():
    head = Head(a_head().weight, torch.zeros(N_CLASSES))
    space = PrincipalSpace.fit(head, batches(torch.eye(N_FEATURES).repeat(2, 1)), DIM)
    assert "D cuts between equal eigenvalues" in space.warnings[0]


def test_good_fit_has_no_warning():
    assert all(method.fit(a_training()).warnings == () for method in METHODS)


def test_alpha_that_turns_the_residual_round_is_a_warning():
    head = a_head()
    low = Head(head.weight, head.bias - 1000)
    space = PrincipalSpace.fit(head, batches(in_features(head, 300, 1)), DIM)
    vim = ViM.fit(low, batches(in_features(head, 300, 1)), space=space)
    assert vim.alpha < 0
    assert "a larger residual then counts as less OOD" in vim.warnings[-1]


def test_training_that_can_be_read_only_once_is_refused():
    head = a_head()
    once = iter(batches(in_features(head, 300, 1)))
    with pytest.raises(FeatureError, match=r"fitted to 300 training images, alpha found 0: .* more than once"):
        ViM.fit(head, once, dim=DIM)


def test_vim_without_dimension_or_space_is_refused():
    with pytest.raises(FeatureError, match="give dim"):
        ViM.fit(a_head(), [])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["msp", "softmax"],
            "method 'softmax' is not known: expected some of msp, energy, max_logit, residual, vim",
        ),
        (["msp", "msp"], "each once, found msp, msp"),
        ([], "at least one"),
    ],
)
def test_wrong_names_of_methods_are_refused(names, message):
    with pytest.raises(InputError, match=message):
        methods_named(names)


def test_methods_come_in_the_order_of_the_table():
    assert [method.name for method in methods_named(["vim", "msp"])] == ["msp", "vim"]


@pytest.mark.parametrize(
    ("weight", "bias", "message"),
    [
        (torch.zeros(3, 4), torch.zeros(4), r"found weight float32 \(3, 4\), bias float32 \(4,\)"),
        (torch.zeros(3, 4, 1), torch.zeros(3), r"found weight float32 \(3, 4, 1\)"),
        (torch.zeros(3, 4).double(), torch.zeros(3), "found weight float64"),
        (torch.zeros(3, 4), torch.zeros(3).half(), r"bias float16 \(3,\)"),
        (torch.full((3, 4), torch.nan), torch.zeros(3), "holds NaN or infinity"),
    ],
)
def test_head_that_cannot_be_one_is_refused(weight, bias, message):
    with pytest.raises(FeatureError, match=message):
        Head(weight, bias)
