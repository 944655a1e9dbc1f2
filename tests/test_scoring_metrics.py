import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from manifests.errors import FeatureError
from scoring.metrics import Metrics, auroc, fpr95_in, fpr95_out, measure


def populations(seed: int, n_levels: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores on few levels, so that many tie within and across the populations."""
    random = np.random.default_rng(seed)
    in_scores = np.round(random.normal(0.0, 1.0, 407) * n_levels) / n_levels
    out_scores = np.round(random.normal(0.7, 1.5, 263) * n_levels) / n_levels
    return in_scores, out_scores


def test_figures_of_a_case_worked_out_by_hand_with_ties():
    found = measure([2, 0, 1, 1], [3, 1, 4, 2, 3])
    # AUROC: 20 pairs, won or half won by OOD 1, 2, 3, 3, 4: 2 + 3.5 + 4 + 4 + 4 = 17.5.
    # fpr95_in: the 3rd smallest ID score is 1, one OOD score of five is at most 1.
    # fpr95_out: all five OOD scores must be caught, three of four ID scores are at least 1.
    assert found.auroc == 17.5 / 20
    assert found.fpr95_in == 1 / 5
    assert found.fpr95_out == 3 / 4
    # OOD positive: precision 1, 1, 4/5, 5/8 at recall 1/5, 3/5, 4/5, 1.
    assert found.aupr_out == pytest.approx(0.2 + 0.4 + 0.2 * (1 + 0.8) / 2 + 0.2 * (0.8 + 0.625) / 2)
    # ID positive: precision 1, 3/4, 4/6 at recall 1/4, 3/4, 1.
    assert found.aupr_in == pytest.approx(0.25 + 0.5 * (1 + 0.75) / 2 + 0.25 * (0.75 + 4 / 6) / 2)


@pytest.mark.parametrize("n_levels", [1, 4, 10**9])
@pytest.mark.parametrize("seed", [0, 1])
def test_figures_equal_those_of_scikit_learn(seed, n_levels):
    in_scores, out_scores = populations(seed, n_levels)
    is_out = np.r_[np.zeros(len(in_scores)), np.ones(len(out_scores))]
    scores = np.r_[in_scores, out_scores]
    found = measure(in_scores, out_scores)
    precision, recall, _ = sklearn_metrics.precision_recall_curve(is_out, scores)
    in_precision, in_recall, _ = sklearn_metrics.precision_recall_curve(1 - is_out, -scores)
    false_rate, true_rate, _ = sklearn_metrics.roc_curve(is_out, scores, drop_intermediate=False)
    assert found.auroc == pytest.approx(sklearn_metrics.roc_auc_score(is_out, scores), abs=1e-12)
    assert found.aupr_out == pytest.approx(sklearn_metrics.auc(recall, precision), abs=1e-12)
    assert found.aupr_in == pytest.approx(sklearn_metrics.auc(in_recall, in_precision), abs=1e-12)
    # OpenOOD's rule: the first threshold that catches 95 % of OOD.
    assert found.fpr95_out == pytest.approx(false_rate[np.argmax(true_rate >= 0.95)], abs=1e-12)
    # The ViM repository's rule, on scores that are higher = ID.
    threshold = np.sort(-in_scores)[-int(np.floor(0.95 * len(in_scores)))]
    assert found.fpr95_in == np.mean(-out_scores >= threshold)


@pytest.mark.parametrize(
    "increase", [np.exp, lambda x: 3 * x - 100, lambda x: x**3], ids=["exp", "affine", "cube"]
)
def test_figures_do_not_change_under_an_increasing_map(increase):
    in_scores, out_scores = populations(2, 4)
    assert measure(increase(in_scores), increase(out_scores)) == measure(in_scores, out_scores)


def test_changing_sides_and_sign_swaps_the_figures():
    in_scores, out_scores = populations(3, 4)
    one, other = measure(in_scores, out_scores), measure(-out_scores, -in_scores)
    assert one.auroc == other.auroc
    assert one.aupr_in == other.aupr_out


def test_equal_scores_everywhere_separate_nothing():
    assert measure([1.0] * 4, [1.0] * 6) == Metrics(
        auroc=0.5, aupr_in=pytest.approx(0.7), aupr_out=pytest.approx(0.8), fpr95_in=1.0, fpr95_out=1.0
    )


def test_one_image_a_side_is_enough():
    assert (auroc([0], [1]), fpr95_in([0], [1]), fpr95_out([0], [1])) == (1.0, 0.0, 0.0)


def test_differences_that_float32_cannot_hold_still_rank():
    assert auroc([1.0, 1.0], [1.0 + 1e-12, 1.0 + 1e-12]) == 1.0


@pytest.mark.parametrize(
    ("in_scores", "out_scores", "message"),
    [
        ([], [1.0], r"in_scores: .* at least one, found shape \(0,\)"),
        ([1.0], [], r"out_scores: .* at least one, found shape \(0,\)"),
        ([1.0], [[1.0]], r"out_scores: .* found shape \(1, 1\)"),
        ([0.0, np.nan], [1.0], "in_scores: 1 of 2 scores are NaN or infinite"),
        ([0.0], [np.inf, 1.0, -np.inf], "out_scores: 2 of 3 scores are NaN or infinite"),
    ],
)
def test_scores_that_cannot_be_ranked_are_refused(in_scores, out_scores, message):
    with pytest.raises(FeatureError, match=message):
        measure(in_scores, out_scores)
