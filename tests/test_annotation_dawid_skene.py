import math
from itertools import pairwise

import numpy as np
import pytest

from annotation.statistics.dawid_skene import dawid_skene

CONFUSIONS = np.array(
    [
        [[0.95, 0.03, 0.02], [0.10, 0.85, 0.05], [0.2, 0.1, 0.7]],
        [[0.90, 0.08, 0.02], [0.20, 0.75, 0.05], [0.3, 0.1, 0.6]],
        [[0.80, 0.15, 0.05], [0.30, 0.60, 0.10], [0.3, 0.3, 0.4]],
        [[0.97, 0.02, 0.01], [0.05, 0.93, 0.02], [0.1, 0.1, 0.8]],
    ]
)


def drawn_answers(n_images: int, *, share_missing: float = 0.0, seed: int = 0):
    """Truth and answers drawn from the model itself."""
    draws = np.random.default_rng(seed)
    truth = draws.choice(3, size=n_images, p=[0.6, 0.3, 0.1])
    answers = np.array([[draws.choice(3, p=of[t]) for of in CONFUSIONS] for t in truth])
    missing = draws.random(answers.shape) < share_missing
    missing[:, 0] = False
    return truth, np.where(missing, -1, answers)


def naive_dawid_skene(answers, n_rounds):
    """Plain probabilities and loops over images, straight from the paper's equations."""
    n_images, n_annotators = answers.shape
    posteriors = [[list(row).count(t) / sum(row >= 0) for t in range(3)] for row in answers]
    for _ in range(n_rounds + 1):
        shares = [math.fsum(p[t] for p in posteriors) / n_images for t in range(3)]
        confusion = {}
        for a in range(n_annotators):
            for t in range(3):
                given = [
                    math.fsum(posteriors[i][t] for i in range(n_images) if answers[i, a] == k) for k in range(3)
                ]
                for k in range(3):
                    confusion[a, t, k] = given[k] / sum(given)
        before = posteriors
        posteriors = []
        for row in answers:
            joint = [
                shares[t] * math.prod(confusion[a, t, k] for a, k in enumerate(row) if k >= 0) for t in range(3)
            ]
            posteriors.append([value / sum(joint) for value in joint])
    return np.array(before), confusion, shares


def test_posteriors_and_confusions_are_those_of_a_naive_loop():
    _, answers = drawn_answers(120, share_missing=0.3)
    found = dawid_skene(answers, max_iterations=25, tolerance=0)
    posteriors, confusion, shares = naive_dawid_skene(answers, 25)
    assert found.n_iterations == 25
    np.testing.assert_allclose(found.posteriors, posteriors, atol=1e-10)
    np.testing.assert_allclose(found.shares, shares, atol=1e-10)
    for (annotator, truth, answer), value in confusion.items():
        assert found.confusions[annotator, truth, answer] == pytest.approx(value, abs=1e-10)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of crowd-kit's calls to pandas
def test_posteriors_are_those_of_crowd_kit():
    aggregation = pytest.importorskip("crowdkit.aggregation", reason="crowd-kit is in the extra 'bench'")
    pandas = pytest.importorskip("pandas")
    _, answers = drawn_answers(300, share_missing=0.2)
    rows = [
        {"task": image, "worker": annotator, "label": int(answer)}
        for (image, annotator), answer in np.ndenumerate(answers)
        if answer >= 0
    ]
    theirs = aggregation.DawidSkene(n_iter=500, tol=0).fit_predict_proba(pandas.DataFrame(rows))
    ours = dawid_skene(answers, max_iterations=500, tolerance=0)
    np.testing.assert_allclose(ours.posteriors, theirs.sort_index()[[0, 1, 2]].to_numpy(), atol=1e-4)


def test_confusions_of_the_annotators_are_found_again():
    truth, answers = drawn_answers(20_000)
    found = dawid_skene(answers)
    assert found.is_converged
    np.testing.assert_allclose(found.shares, [0.6, 0.3, 0.1], atol=0.02)
    np.testing.assert_allclose(found.confusions, CONFUSIONS, atol=0.05)
    majority = np.array([np.bincount(row, minlength=3).argmax() for row in answers])
    assert (found.posteriors.argmax(axis=1) == truth).mean() > (majority == truth).mean()


def test_likelihood_never_falls():
    _, answers = drawn_answers(400, share_missing=0.3)
    values = [dawid_skene(answers, max_iterations=n, tolerance=0).log_likelihood for n in range(1, 40)]
    assert all(later >= earlier - 1e-9 for earlier, later in pairwise(values))


def test_order_of_images_changes_no_bit():
    _, answers = drawn_answers(500, share_missing=0.3)
    order = np.random.default_rng(1).permutation(500)
    plain, shuffled = dawid_skene(answers), dawid_skene(answers[order])
    np.testing.assert_array_equal(shuffled.posteriors, plain.posteriors[order])
    np.testing.assert_array_equal(shuffled.confusions, plain.confusions)


def test_known_truths_teach_confusions_and_leave_the_shares_alone():
    truth, answers = drawn_answers(4000)
    known = np.where(np.arange(4000) < 2000, truth, -1)
    # Only "in" is known: a share that followed the known images would be far above 0.3.
    known[truth != 1] = -1
    found = dawid_skene(answers, known=known)
    assert (found.posteriors[known == 1] == [0, 1, 0]).all()
    open_share = (truth[known < 0] == 1).mean()
    assert found.shares[1] == pytest.approx(open_share, abs=0.02)
    all_known = dawid_skene(answers, known=truth)
    counts = np.bincount(answers[truth == 1, 2], minlength=3)
    np.testing.assert_allclose(all_known.confusions[2, 1], counts / counts.sum())


def test_gold_unmasks_annotators_who_agree_and_are_wrong():
    # Two who always say out outvote one who is right; known truths show who is to be believed.
    truth = np.array([0, 1] * 200)
    answers = np.stack([truth, np.zeros(400, int), np.zeros(400, int)], axis=1)
    assert (dawid_skene(answers).posteriors.argmax(axis=1) == 0).all()
    known = np.where(np.arange(400) < 40, truth, -1)
    assert (dawid_skene(answers, known=known).posteriors.argmax(axis=1) == truth).all()


def test_truth_that_hardly_occurs_does_not_split_another_in_two():
    draws = np.random.default_rng(0)
    truth = draws.choice(2, size=20_000, p=[0.7, 0.3])
    wrong = np.where(
        draws.random((20_000, 3)) < [0.03, 0.03, 0.15], 1 - truth[:, np.newaxis], truth[:, np.newaxis]
    )
    answers = np.where(draws.random((20_000, 3)) < 0.02, 2, wrong)
    found = dawid_skene(answers)
    assert found.is_converged
    assert found.shares[2] < 0.03
    assert (found.posteriors.argmax(axis=1) == truth).mean() > 0.96


def test_stopped_before_the_end_says_that_it_has_not_converged():
    _, answers = drawn_answers(200, share_missing=0.3)
    assert not dawid_skene(answers, max_iterations=2).is_converged


@pytest.mark.parametrize("answers", [np.empty((0, 2), int), np.array([[0, 1], [-1, -1]])])
def test_image_without_any_answer_is_refused(answers):
    with pytest.raises(ValueError, match="each with an answer or a known truth"):
        dawid_skene(answers)
