"""RMDS, Mahalanobis++, KNN, NNGuide and NECO against loops in float64, and the parts they are made of."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from scipy.special import logsumexp
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from manifests.errors import FeatureError, InputError
from scoring.feature_sets import open_feature_set
from scoring.heads import Head, read_head
from scoring.largest import LargestOfRows
from scoring.methods.fitting import fit_methods
from scoring.methods.table import methods_named
from scoring.metrics import auroc
from scoring.statistics import bank
from scoring.statistics.bank import GuideBank, ImageCount, rows_in_share, spaced_rows
from scoring.statistics.gather import Training
from tests.scoring_world import a_head, batches, in_features, out_features, scores_of

OPTIONS = {"knn": {"k": 5}, "nnguide": {"k": 4, "share": 0.1}, "neco": {"dim": 8}}
METHODS = ("rmds", "mahalanobis_pp", "knn", "nnguide", "neco")
WORLDS = pytest.mark.parametrize("world", [6, 40], ids=["few classes", "many classes"], indirect=True)
"""Fewer classes than the 24 features, and more."""


class World:
    """A head, training images of its classes, and images to score of both kinds."""

    def __init__(self, n_classes: int) -> None:
        self.head = a_head(3, n_classes)
        self.train, self.classes = in_features(self.head, 900, 4)
        self.scored = torch.cat([in_features(self.head, 25, 5)[0], out_features(a_head(3), 25, 6)])

    def scores(self, method: str, **options) -> torch.Tensor:
        """Scores of `scored` by a method fitted to `train`."""
        return scores_of(self.fitted(method, **options), self.head, self.scored)

    def fitted(self, method: str, **options):
        return fitted(method, self.head, self.train, self.classes, **options)


@pytest.fixture
def world(request) -> World:
    return World(getattr(request, "param", 6))


def fitted(method: str, head: Head, train: torch.Tensor, classes: torch.Tensor, **options):
    outcome = outcome_of(method, Training(head, batches(train, classes)), **options)
    assert not outcome.refused, outcome.refused
    return outcome.scorers[method]


def outcome_of(method: str, training: Training, mode: str = "authors", **options):
    overrides = {method: options or ({} if mode == "openood" else OPTIONS.get(method, {}))}
    return fit_methods(methods_named([method]), training, mode=mode, overrides=overrides)


def as_float64(tensor: torch.Tensor) -> np.ndarray:
    return tensor.numpy().astype(np.float64)


def unit(features: torch.Tensor) -> np.ndarray:
    exact = as_float64(features)
    return exact / np.linalg.norm(exact, axis=1, keepdims=True)


def naive_distances(train: np.ndarray, classes: np.ndarray, scored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mahalanobis distances, one image and one class at a time: from the nearest class, and from all images."""
    means = np.array([train[classes == c].mean(axis=0) for c in range(classes.max() + 1)])
    precision = np.linalg.inv(np.cov(train - means[classes], rowvar=False, bias=True))
    precision_of_all = np.linalg.inv(np.cov(train, rowvar=False, bias=True))
    nearest = [min((x - mean) @ precision @ (x - mean) for mean in means) for x in scored]
    middle = train.mean(axis=0)
    return np.array(nearest), np.array([(x - middle) @ precision_of_all @ (x - middle) for x in scored])


@WORLDS
def test_rmds_equals_a_loop_over_images_and_classes(world):
    arrays = (as_float64(world.train), world.classes.numpy(), as_float64(world.scored))
    nearest, from_all = naive_distances(*arrays)
    np.testing.assert_allclose(world.scores("rmds"), nearest - from_all, rtol=1e-5, atol=1e-5 * nearest.max())


@WORLDS
def test_mahalanobis_pp_equals_a_loop_on_unit_features(world):
    nearest, _ = naive_distances(unit(world.train), world.classes.numpy(), unit(world.scored))
    np.testing.assert_allclose(world.scores("mahalanobis_pp"), nearest, rtol=1e-4)


@WORLDS
@pytest.mark.parametrize(("k", "share"), [(1, 1.0), (7, 1.0), (60, 1.0), (3, 0.3)])
def test_knn_equals_scipy_distances(world, k, share):
    rows = [row for row in range(900) if int((row + 1) * share + 1e-9) > int(row * share + 1e-9)]
    distances = np.sort(cdist(unit(world.scored), unit(world.train)[rows]), axis=1)[:, k - 1]
    scores = world.scores("knn", k=k, share=share)
    np.testing.assert_allclose(scores**2, distances**2, rtol=0, atol=1e-6)  # as the class says of its error


@WORLDS
@pytest.mark.parametrize(
    ("options", "rows"),
    [
        ({"k": 4, "share": 0.1}, range(9, 900, 10)),
        ({"k": 10, "share": 1.0}, range(900)),
        ({"k": 7, "share": 0.3, "rows": "first"}, range(400)),  # 270 images end in the second batch of 200
        ({"k": 7, "share": 1.0, "rows": "first"}, range(900)),
    ],
)
def test_nnguide_equals_a_loop_over_the_bank(world, options, rows):
    weight, bias = as_float64(world.head.weight), as_float64(world.head.bias)

    def energy(x: np.ndarray) -> float:
        return logsumexp(weight @ x + bias)

    guides = [energy(x) * x / np.sqrt(x @ x) for x in as_float64(world.train)[list(rows)]]
    expected = []
    for x in as_float64(world.scored):
        similarity = sorted((guide @ x / np.sqrt(x @ x) for guide in guides), reverse=True)
        expected.append(-energy(x) * np.mean(similarity[: options["k"]]))
    np.testing.assert_allclose(world.scores("nnguide", **options), expected, rtol=1e-5, atol=1e-5)


@WORLDS
@pytest.mark.parametrize("dim", [1, 8, 23])
@pytest.mark.parametrize("architecture", ["vit", "deit", "swin", "resnet"])
def test_neco_equals_scikit_learn_as_the_authors_call_it(world, dim, architecture):
    scaler = StandardScaler().fit(as_float64(world.train))
    components = PCA(24).fit(scaler.transform(as_float64(world.train)))
    standardised = scaler.transform(as_float64(world.scored))
    inside = np.linalg.norm(components.transform(standardised)[:, :dim], axis=1)
    raw = architecture in ("deit", "swin")
    expected = inside / np.linalg.norm(as_float64(world.scored) if raw else standardised, axis=1)
    if architecture != "resnet":
        expected *= world.head.logits(world.scored).amax(dim=1).numpy()
    scores = world.scores("neco", dim=dim, architecture=architecture)
    np.testing.assert_allclose(scores, -expected, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_chunks_of_training_images_change_nothing(world, method):
    expected = world.scores(method)
    for rows in (7, 900):
        outcome = outcome_of(method, Training(world.head, batches(world.train, world.classes, rows)))
        scores = scores_of(outcome.scorers[method], world.head, world.scored)
        torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_order_of_training_images_changes_nothing(world, method):
    options = OPTIONS.get(method, {}) | ({"share": 1.0} if method == "nnguide" else {})
    expected = world.scores(method, **options)
    order = torch.randperm(900, generator=torch.Generator().manual_seed(0))
    shuffled = fitted(method, world.head, world.train[order], world.classes[order], **options)
    torch.testing.assert_close(scores_of(shuffled, world.head, world.scored), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_image_alone_scores_as_among_others(world, method):
    scorer = world.fitted(method)
    alone = torch.cat([scores_of(scorer, world.head, image[None]) for image in world.scored])
    # RMDS is the difference of two larger distances.
    torch.testing.assert_close(alone, scores_of(scorer, world.head, world.scored), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("method", METHODS)
def test_no_image_has_no_score(world, method):
    assert scores_of(world.fitted(method), world.head, world.scored[:0]).shape == (0,)


@pytest.mark.parametrize("method", ["knn", "mahalanobis_pp"])
def test_length_of_features_changes_nothing(world, method):
    generator = torch.Generator().manual_seed(0)
    expected = world.scores(method)
    world.train = world.train * (0.01 + torch.rand(900, 1, generator=generator))
    world.scored = world.scored * (100 * torch.rand(50, 1, generator=generator) + 1)
    torch.testing.assert_close(world.scores(method), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_image_of_zeros_in_training_and_in_scoring_has_a_finite_score(world, method):
    world.train[::50] = 0
    world.scored[:2] = 0
    scores = world.scores(method)
    assert torch.isfinite(scores).all()
    assert scores[0] == scores[1]


def test_distance_between_a_zero_and_a_unit_vector_is_one(world):
    world.train[:100] = 0
    for scorer in (world.fitted("knn", k=100), world.fitted("knn", k=1)):
        zeros = scores_of(scorer, world.head, torch.zeros(1, 24))
        assert float(zeros) == pytest.approx(0, abs=1e-3)
    assert float(scores_of(world.fitted("knn", k=101), world.head, torch.zeros(1, 24))) == pytest.approx(
        1, rel=1e-6
    )


@pytest.mark.parametrize("architecture", ["vit", "deit", "resnet"])
def test_neco_of_a_feature_without_norm_is_zero(world, architecture):
    scorer = world.fitted("neco", dim=8, architecture=architecture)
    nowhere = torch.zeros(1, 24) if architecture == "deit" else scorer.mean[None]
    assert float(scores_of(scorer, world.head, nowhere)) == 0


@pytest.mark.parametrize("method", ["rmds", "mahalanobis_pp"])
def test_dead_and_repeated_features_change_no_distance_and_are_a_warning(world, method):
    expected = world.scores(method)
    dead = torch.zeros(world.head.n_classes, 3)
    if method == "rmds":  # in unit features a repeated one counts twice in the norm
        wide = [torch.cat([rows, rows[:, :2], 0 * rows[:, :3]], dim=1) for rows in (world.train, world.scored)]
        dead = torch.zeros(world.head.n_classes, 5)
    else:
        wide = [torch.cat([rows, 0 * rows[:, :3]], dim=1) for rows in (world.train, world.scored)]
    head = Head(torch.cat([world.head.weight, dead], dim=1), world.head.bias)
    scorer = fitted(method, head, wide[0], world.classes)
    torch.testing.assert_close(scores_of(scorer, head, wide[1]), expected, rtol=1e-3, atol=1e-3)
    assert f"{dead.shape[1]} of {24 + dead.shape[1]} directions" in scorer.warnings[0]


@pytest.mark.parametrize("method", ["knn", "nnguide", "neco"])
def test_dead_features_change_nothing(world, method):
    expected = world.scores(method)
    head = Head(torch.cat([world.head.weight, torch.ones(6, 3)], dim=1), world.head.bias)
    wide = [torch.cat([rows, torch.zeros(len(rows), 3)], dim=1) for rows in (world.train, world.scored)]
    scorer = fitted(method, head, wide[0], world.classes)
    torch.testing.assert_close(scores_of(scorer, head, wide[1]), expected, rtol=1e-5, atol=1e-6)


def test_neco_leaves_a_feature_of_one_value_as_it_is(world):
    # No float32 is 0.1: its mean over chunks differs by rounding, of which no standard deviation may be made.
    world.train[:, 3] = 0.1
    scorer = world.fitted("neco")
    assert float(scorer.deviation[3]) == 1
    assert scorer.deviation.max() < 10


def test_knn_keeps_its_precision_where_features_lie_close_together(world):
    world.train, world.scored = world.train + 300, world.scored + 300
    distances = np.sort(cdist(unit(world.scored), unit(world.train)), axis=1)[:, 4]
    assert distances.max() < 0.005
    np.testing.assert_allclose(world.scores("knn"), distances, rtol=1e-4)
    products = 2 - 2 * (unit(world.scored).astype(np.float32) @ unit(world.train).astype(np.float32).T)
    plain = np.sqrt(np.maximum(np.sort(products, axis=1)[:, 4], 0))
    assert np.abs(plain / distances - 1).max() > 0.01  # as float32 products of the vectors themselves would


def test_knn_of_a_training_image_is_all_but_zero(world):
    world.scored = world.train[:50]
    assert world.scores("knn", k=1).max() < 2e-3


def test_knn_asks_for_many_images_in_a_call_as_each_reads_the_training_images(world):
    training = Training(world.head, CountedBatches(batches(world.train, world.classes)))
    scorer = outcome_of("knn", training).scorers["knn"]
    assert training.train.n_reads == 1
    scores_of(scorer, world.head, world.scored)
    assert training.train.n_reads == 2
    assert scorer.prefers_rows == 16384


class CountedBatches:
    """Feature batches that count how often they are read."""

    def __init__(self, found: list) -> None:
        self._found = found
        self.n_reads = 0

    def __iter__(self):
        self.n_reads += 1
        return iter(self._found)


def test_knn_whose_training_images_are_gone_is_refused(world):
    once = iter(batches(world.train, world.classes))
    scorer = outcome_of("knn", Training(world.head, once)).scorers["knn"]
    with pytest.raises(FeatureError, match="training images changed: 900 when it was fitted, 0 now"):
        scores_of(scorer, world.head, world.scored)


def test_rmds_shares_the_gaussians_of_mahalanobis(world):
    training = Training(world.head, batches(world.train, world.classes))
    scorers = fit_methods(methods_named(["mahalanobis", "rmds", "mahalanobis_pp"]), training).scorers
    assert scorers["rmds"].gaussian is scorers["mahalanobis"].gaussian
    assert scorers["rmds"].gaussian is not scorers["mahalanobis_pp"].gaussian
    assert training.n_reads == 2  # as many as all methods together


@pytest.mark.parametrize("method", ["rmds", "mahalanobis_pp"])
def test_class_without_an_image_is_refused(world, method):
    classes = world.classes.clamp(min=1)
    outcome = outcome_of(method, Training(world.head, batches(world.train, classes)))
    assert outcome.refused[method] == ("needs every class; 1 of 6 have no training image, class 0 among them")


@pytest.mark.parametrize("method", ["rmds", "mahalanobis_pp"])
def test_constant_features_are_refused(world, method):
    training = Training(world.head, batches(torch.ones(60, 24), torch.arange(60) % 6))
    refused = outcome_of(method, training).refused[method]
    assert refused.startswith("covariance within classes: cannot be inverted, as it is zero")


@pytest.mark.parametrize(
    ("method", "options", "reason"),
    [
        (
            "knn",
            {"k": 901},
            "k = 901 is more than the 900 images among which neighbours are looked for (share 1 of",
        ),
        ("knn", {"k": 10, "share": 0.01}, "k = 10 is more than the 9 images among which"),
        (
            "nnguide",
            {},
            "k = 10 is more than the 9 images of the bank, which holds 0.01 of the training images; give",
        ),
        ("nnguide", {"share": 0.0001}, "k = 10 is more than the 0 images of the bank"),
        ("neco", {"dim": 100}, "expected 0 < dim < 24 features, found dim = 100; give a dim"),
        ("neco", {"dim": 24}, "expected 0 < dim < 24 features, found dim = 24"),
        ("neco", {"dim": 0}, "expected 0 < dim < 24 features, found dim = 0"),
    ],
)
def test_what_the_training_images_do_not_give_is_refused_with_the_reason(world, method, options, reason):
    defaults = {"nnguide": {"k": 10}}.get(method, {})
    outcome = outcome_of(method, Training(world.head, batches(world.train, world.classes)), **defaults | options)
    assert outcome.refused[method].startswith(reason)


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("knn", {"k": 0}, "KNN: expected k of at least 1, found 0"),
        ("knn", {"share": 0.0}, "KNN: expected a share of the training images above 0 and at most 1, found 0"),
        ("knn", {"share": 1.5}, "KNN: expected a share of the training images above 0 and at most 1, found 1.5"),
        ("nnguide", {"k": -1}, "NNGuide: expected k of at least 1, found -1"),
        ("nnguide", {"share": 2.0}, "bank of training images: expected a share of the training images above 0"),
        ("nnguide", {"rows": "random"}, "expected rows to be one of spaced, first, found 'random'"),
        (
            "neco",
            {"architecture": "bit"},
            "NECO: expected an architecture of vit, deit, swin, resnet, found 'bit'",
        ),
    ],
)
def test_option_without_a_possible_value_is_refused(world, method, options, message):
    with pytest.raises(InputError, match=message):
        outcome_of(method, Training(world.head, batches(world.train, world.classes)), **options)


def test_neco_in_more_dimensions_than_features_vary_in_is_refused(world):
    outcome = outcome_of("neco", Training(world.head, batches(world.train[:6], world.classes[:6])), dim=6)
    assert outcome.refused["neco"].startswith("the 6 training images vary in fewer than dim = 6 directions")


def test_mode_openood_has_the_first_batches_and_a_hundred_neighbours():
    head = a_head()
    features, classes = in_features(head, 20_100, 1)
    outcome = outcome_of("nnguide", Training(head, batches(features, classes, 4096)), mode="openood")
    scorer = outcome.scorers["nnguide"]
    assert scorer.k == 100
    # One percent is 201 images: one batch of 200 is not more than that, two are.
    first = features[:400] / features[:400].norm(dim=1, keepdim=True)
    energies = torch.logsumexp(head.logits(features[:400]), dim=1)
    torch.testing.assert_close(scorer.bank, first * energies[:, None], rtol=1e-5, atol=1e-6)


def test_bank_that_outgrows_its_limit_is_refused(world, monkeypatch):
    monkeypatch.setattr(bank, "_LARGEST_BANK_BYTES", 1 << 14)  # 170 images of 24 features
    training = Training(world.head, batches(world.train, world.classes))
    assert len(training[GuideBank(0.18)]) == 162
    with pytest.raises(FeatureError, match=r"a bank of 0\.2 of the training images takes more than"):
        training[GuideBank(0.2)]


def test_images_are_counted(world):
    assert Training(world.head, batches(world.train))[ImageCount()] == 900


@given(
    share=st.one_of(st.sampled_from([0.01, 0.29, 1.0]), st.floats(1e-3, 1)),
    chunks=st.lists(st.integers(0, 500), max_size=8),
)
def test_spaced_rows_are_as_many_as_the_share_whatever_the_chunks(share, chunks):
    n_images = sum(chunks)
    starts = np.cumsum([0, *chunks])[:-1]
    rows = [
        int(start) + int(row)
        for start, n in zip(starts, chunks, strict=True)
        for row in spaced_rows(int(start), n, share)
    ]
    assert rows == spaced_rows(0, n_images, share).tolist()
    assert len(rows) == rows_in_share(n_images, share)
    assert abs(len(rows) - n_images * share) <= 1.01
    gaps = np.diff(rows)
    assert not len(gaps) or gaps.max() - gaps.min() <= 1


def test_one_percent_is_every_hundredth_row_however_far():
    assert spaced_rows(1_280_000, 300, 0.01).tolist() == [99, 199, 299]


@settings(max_examples=60)
@given(
    n_rows=st.integers(0, 5),
    k=st.integers(1, 40),
    widths=st.lists(st.integers(0, 70), min_size=1, max_size=6),
    seed=st.integers(0, 99),
    n_values=st.sampled_from([3, 1000]),
)
def test_largest_of_rows_are_those_of_a_sort_however_the_columns_come(n_rows, k, widths, seed, n_values):
    generator = np.random.default_rng(seed)
    matrix = generator.integers(-n_values, n_values, (n_rows, sum(widths))).astype(np.float32)
    kept = LargestOfRows(n_rows, k, torch.device("cpu"))
    for part in np.split(matrix, np.cumsum(widths)[:-1], axis=1):
        kept.add(torch.from_numpy(np.ascontiguousarray(part)))
    expected = -np.sort(-matrix, axis=1)[:, :k]
    np.testing.assert_array_equal(-np.sort(-kept.values.numpy(), axis=1), expected)


@pytest.mark.parametrize(
    ("method", "mode", "options", "figures"),
    [
        ("rmds", "openood", {}, (0.7589, 0.8411, 0.6071, 0.6914)),
        ("knn", "openood", {}, (0.8078, 0.6584, 0.5577, 0.5045)),
        ("nnguide", "openood", {}, (0.7413, 0.8132, 0.6400, 0.6578)),
        ("nnguide", "authors", {"k": 10, "share": 1.0}, (0.7536, 0.8099, 0.6785, 0.6559)),
    ],
)
def test_figures_equal_those_of_openood_and_pytorch_ood(shared, method, mode, options, figures):
    folder = shared / "reference" / "small_seed0"
    if not folder.is_dir():
        pytest.skip(f"reference sets are not at hand: {folder} is absent")
    head = read_head(folder)
    training = Training(head, open_feature_set(folder, "train"))
    scorer = fit_methods(methods_named([method]), training, mode=mode, overrides={method: options}).scorers[method]
    scores = {
        name: scores_of(scorer, head, torch.cat([batch.features for batch in open_feature_set(folder, name)]))
        for name in ("val", "far", "near", "texture", "mix")
    }
    found = [auroc(scores["val"], scores[name]) for name in ("far", "near", "texture", "mix")]
    assert found == pytest.approx(figures, abs=6e-5)  # the figures are rounded to four digits
