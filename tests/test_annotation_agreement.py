import krippendorff
import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats import inter_rater

from annotation.statistics.agreement import cohen_kappa, fleiss_kappa, krippendorff_alpha, raw_agreement


def random_answers(n_images: int, n_annotators: int, *, share_missing: float, n_codes: int = 3, seed: int = 0):
    """Answers that agree more often than chance, with gaps."""
    draws = np.random.default_rng(seed)
    truth = draws.integers(n_codes, size=(n_images, 1))
    guess = draws.integers(n_codes, size=(n_images, n_annotators))
    codes = np.where(draws.random((n_images, n_annotators)) < 0.7, truth, guess)
    return np.where(draws.random(codes.shape) < share_missing, -1, codes)


@pytest.mark.parametrize(("n_annotators", "n_codes"), [(2, 2), (3, 3), (7, 40)])
def test_alpha_is_that_of_the_krippendorff_package(n_annotators, n_codes):
    codes = random_answers(200, n_annotators, share_missing=0.3, n_codes=n_codes)
    table = np.where(codes < 0, np.nan, codes).T
    expected = krippendorff.alpha(table, level_of_measurement="nominal")
    assert krippendorff_alpha(codes, n_replicates=10).value == pytest.approx(expected, abs=1e-12)


def test_alpha_of_krippendorffs_own_example():
    # Krippendorff (2011), Computing Krippendorff's Alpha-Reliability, section C: nominal alpha 0.743.
    observers = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
        [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
    ]
    codes = np.array([[-1 if code is None else code for code in observer] for observer in observers]).T
    assert krippendorff_alpha(codes).value == pytest.approx(0.743, abs=5e-4)


def test_fleiss_kappa_is_that_of_statsmodels():
    codes = random_answers(300, 4, share_missing=0)
    table, _ = inter_rater.aggregate_raters(codes)
    assert fleiss_kappa(codes, n_replicates=10).value == pytest.approx(inter_rater.fleiss_kappa(table), abs=1e-12)


def test_fleiss_kappa_takes_the_images_with_the_commonest_number_of_answers():
    codes = random_answers(300, 3, share_missing=0)
    codes[:40, 0] = -1
    table, _ = inter_rater.aggregate_raters(codes[40:])
    kappa = fleiss_kappa(codes, n_replicates=10)
    assert (kappa.value, kappa.n_images) == (pytest.approx(inter_rater.fleiss_kappa(table), abs=1e-12), 260)


def test_cohen_kappa_is_that_of_scikit_learn():
    codes = random_answers(300, 2, share_missing=0.2)
    both = codes[(codes >= 0).all(axis=1)]
    kappa = cohen_kappa(codes[:, 0], codes[:, 1], n_replicates=10)
    assert kappa.value == pytest.approx(cohen_kappa_score(both[:, 0], both[:, 1]), abs=1e-12)
    assert kappa.n_images == len(both)


def test_raw_agreement_by_hand():
    # Pairs that agree: 1 of 1, 1 of 3, none; the image with one answer has no pair.
    codes = np.array([[0, 0, -1], [0, 0, 1], [2, 1, -1], [1, -1, -1]])
    assert raw_agreement(codes).value == pytest.approx((1 + 1 / 3 + 0) / 3)


@pytest.mark.parametrize("coefficient", [krippendorff_alpha, fleiss_kappa])
def test_coefficients_know_neither_order_nor_names(coefficient):
    codes = random_answers(100, 3, share_missing=0.1)
    draws = np.random.default_rng(1)
    shuffled = draws.permuted(draws.permutation(codes), axis=1)
    renamed = np.where(shuffled >= 0, np.array([7, 2, 5])[shuffled], -1)
    assert coefficient(shuffled) == coefficient(codes)
    assert coefficient(renamed).value == pytest.approx(coefficient(codes).value)


def test_interval_is_that_of_resampling_images_one_by_one():
    codes = random_answers(150, 3, share_missing=0.2, seed=3)
    draws = np.random.default_rng(0)
    table = np.where(codes < 0, np.nan, codes).T
    values = [
        krippendorff.alpha(table[:, draws.integers(150, size=150)], level_of_measurement="nominal")
        for _ in range(1500)
    ]
    found = krippendorff_alpha(codes, n_replicates=4000)
    # Each end is a quantile of 1,500 draws with a standard error of about 0.004.
    assert [found.low, found.high] == pytest.approx(np.quantile(values, (0.025, 0.975)).tolist(), abs=0.015)


def test_equal_seeds_give_equal_intervals():
    codes = random_answers(80, 3, share_missing=0.1)
    assert krippendorff_alpha(codes, seed=4) == krippendorff_alpha(codes, seed=4)
    assert krippendorff_alpha(codes, seed=4).low != krippendorff_alpha(codes, seed=5).low


@pytest.mark.parametrize("codes", [np.zeros((5, 2), int), np.full((5, 2), -1), np.array([[0, -1], [-1, 1]])])
def test_coefficient_that_is_not_defined_says_so(codes):
    for estimate in (krippendorff_alpha(codes), fleiss_kappa(codes), cohen_kappa(codes[:, 0], codes[:, 1])):
        assert np.isnan(estimate.value)
        assert str(estimate).startswith("not defined")
