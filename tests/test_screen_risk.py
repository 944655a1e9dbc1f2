import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from curation.bench.risk import POPULATIONS, RiskFigures, risk_table
from curation.screening.operating_point import (
    auroc,
    drop_bound,
    expected_calibration_error,
    operating_point,
    reliability,
    roc_curve,
)
from curation.screening.risk import RIDGE, fit_risk, unseen_risks
from manifests.errors import InputError
from manifests.proportions import counted_share


def labelled(n_pictures=400, seed=0):
    draws = np.random.default_rng(seed)
    is_in = draws.random(n_pictures) < 0.4
    numbers = draws.normal(size=(n_pictures, 3)) * [1, 5, 0.1] + is_in[:, None] * [1.0, 2.0, 0.0] + [0, 100, 3]
    return numbers, is_in


def test_the_fit_is_scikit_learns():
    numbers, is_in = labelled()
    model = fit_risk(["a", "b", "c"], numbers, is_in)
    scaled = (numbers - numbers.mean(axis=0)) / numbers.std(axis=0)
    theirs = LogisticRegression(C=1 / RIDGE, tol=1e-10, max_iter=1000).fit(scaled, is_in)
    np.testing.assert_allclose(model.coefficients, theirs.coef_[0], rtol=1e-5)
    assert model.intercept == pytest.approx(theirs.intercept_[0], rel=1e-5)
    np.testing.assert_allclose(model.risks(numbers), theirs.predict_proba(scaled)[:, 1], atol=1e-6)


def test_numbers_that_tell_all_apart_give_finite_coefficients():
    numbers = np.concatenate([np.zeros((50, 1)), np.ones((50, 1))])
    model = fit_risk(["a"], numbers, numbers[:, 0] == 1)
    assert 1 < model.coefficients[0] < 10


def test_a_number_without_spread_has_no_say():
    numbers, is_in = labelled()
    numbers[:, 2] = 7
    assert fit_risk(["a", "b", "c"], numbers, is_in).coefficients[2] == 0


def test_the_risk_of_a_picture_does_not_depend_on_the_others():
    numbers, is_in = labelled()
    model = fit_risk(["a", "b", "c"], numbers, is_in)
    alone = np.concatenate([model.risks(numbers[row : row + 1]) for row in range(len(numbers))])
    assert np.array_equal(alone, model.risks(numbers))


def test_what_cannot_be_fitted_is_refused():
    numbers, is_in = labelled()
    with pytest.raises(InputError, match="400 in of 400"):
        fit_risk(["a", "b", "c"], numbers, np.ones(400, bool))
    numbers[3, 1] = np.nan
    with pytest.raises(InputError, match="NaN or infinite"):
        fit_risk(["a", "b", "c"], numbers, is_in)


def test_the_area_and_curve_are_scikit_learns_ties_included():
    draws = np.random.default_rng(1)
    in_risks = (draws.integers(0, 20, 300) / 20).astype(np.float32)
    out_risks = (draws.integers(0, 15, 200) / 20).astype(np.float32)
    truth = np.concatenate([np.ones(300), np.zeros(200)])
    assert auroc(in_risks, out_risks) == pytest.approx(roc_auc_score(truth, np.concatenate([in_risks, out_risks])))
    lost, flagged = roc_curve(in_risks, out_risks)
    assert np.trapezoid(flagged, lost) == pytest.approx(auroc(in_risks, out_risks))
    assert (lost[0], flagged[0], lost[-1], flagged[-1]) == (0, 0, 1, 1)


@pytest.mark.parametrize(
    ("max_lost", "bound"),
    [(0.0, 1.0), (0.11, 1.0), (1 / 9, 0.9), (0.3, 0.8), (1 / 3, 0.7), (0.6, 0.4), (1.0, 0.0)],
)
def test_the_bound_is_the_lowest_with_an_expected_loss_within_the_goal(max_lost, bound):
    # Of nine in random order the ninth is above the highest of the others once in nine, above the second twice.
    out_risks = np.array([0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9], np.float32)
    assert drop_bound(out_risks, max_lost) == pytest.approx(bound)


@pytest.mark.parametrize("max_lost", [0.02, 0.05, 0.1])
def test_further_pictures_are_lost_at_the_goal_and_no_more_often(max_lost):
    draws = np.random.default_rng(0)
    lost = [1 - drop_bound(draws.random(99).astype(np.float32), max_lost) for _ in range(4000)]
    # (k + 1) / (n + 1) is the goal exactly; of Beta(k + 1, n - k) draws, four standard errors.
    k = round(max_lost * 100)
    error = np.sqrt(k * (100 - k) / (100**2 * 101) / 4000)
    assert np.mean(lost) == pytest.approx(max_lost, abs=4 * error)


def test_too_few_out_for_the_goal_drop_nothing_and_it_is_said_how_many_it_takes():
    fit_out = np.linspace(0, 0.9, 198, dtype=np.float32)
    point = operating_point(fit_out, fit_out, np.array([0.95, 1.0], np.float32), 0.005)
    assert (point.drop_above, point.flagged.n_hits) == (1.0, 0)
    assert "nothing is dropped: that goal needs 199 out in the half to fit on" in str(point)
    enough = operating_point(np.append(fit_out, 0.1), fit_out, np.array([0.95, 1.0], np.float32), 0.005)
    assert (enough.drop_above, enough.flagged.n_hits) == (pytest.approx(0.9), 2)
    assert "nothing" not in str(enough)


def test_a_goal_of_none_lost_drops_nothing():
    point = operating_point(np.zeros(1000, np.float32), np.zeros(3, np.float32), np.ones(3, np.float32), 0.0)
    assert point.drop_above == 1.0
    assert "so nothing is" in str(point)


def test_ties_at_the_bound_are_kept():
    out_risks = np.array([0.1, 0.7, 0.7, 0.7], np.float32)
    assert drop_bound(out_risks, 0.4) == pytest.approx(0.7)


def test_unseen_risks_are_those_of_a_model_of_the_other_folds():
    draws = np.random.default_rng(0)
    numbers, is_in = draws.normal(size=(60, 2)), draws.random(60) < 0.5
    folds = np.arange(60) % 3
    unseen = unseen_risks(["a", "b"], numbers, is_in, folds)
    for fold in range(3):
        others = folds != fold
        means, scales = numbers[others].mean(axis=0), numbers[others].std(axis=0)
        fitted = LogisticRegression(C=1 / RIDGE, tol=1e-10).fit((numbers[others] - means) / scales, is_in[others])
        expected = fitted.predict_proba((numbers[~others] - means) / scales)[:, 1]
        assert unseen[~others] == pytest.approx(expected, abs=1e-5)


def test_an_unseen_risk_that_no_model_can_tell_is_one():
    is_in = np.array([True, True, True, False])
    unseen = unseen_risks(["a"], np.array([[3.0], [2.0], [1.0], [0.0]]), is_in, np.array([0, 1, 2, 2]))
    assert unseen[2:].tolist() == [1, 1]
    assert unseen[0] > 0.5


@pytest.mark.parametrize("max_lost", [-0.1, 1.1, float("nan")])
def test_a_goal_that_is_no_share_is_refused(max_lost):
    with pytest.raises(InputError, match="--max-lost: expected a share of 0 to 1"):
        drop_bound(np.zeros(3, np.float32), max_lost)


def test_the_bench_tells_its_figures_by_population_and_goal_as_its_table_does():
    shares = tuple(counted_share(n_hits, 8) for n_hits in (1, 2, 4))
    flagged, shown = (shares,) * len(POPULATIONS), (counted_share(6, 8),) * len(POPULATIONS)
    aurocs, of_splits = (0.75,) * len(POPULATIONS), (0.7, 0.1, 0.005, 0.2, 0.01, 0.3, 0.05)
    figures = RiskFigures("whole", aurocs, flagged, shares, shown, 0.125, of_splits)
    told = figures.as_json()
    assert [one["population"] for one in told["populations"]] == list(POPULATIONS)
    first = told["populations"][0]
    assert (first["auroc"], first["shown"]["n_hits"], first["shown"]["value"]) == (0.75, 6, 0.75)
    assert [(one["max_lost"], one["value"]) for one in first["flagged"]] == [
        (0.005, 0.125), (0.01, 0.25), (0.05, 0.5)
    ]  # fmt: skip
    assert told["lost"] == first["flagged"]
    assert told["mean_of_splits"]["goals"][1] == {"max_lost": 0.01, "flagged": 0.2, "lost": 0.01}
    lines = risk_table([figures]).splitlines()
    assert lines[1].split() == ["whole", "whole", "8", "0.7500", "12.5%", "25.0%", "50.0%", "75.0%"]
    assert "AUROC 0.7000; goal 0.5%: 10.0% of in, 0.5% of out" in lines[-1]


def test_the_point_counts_held_out_pictures_above_the_bound():
    fit_out = np.linspace(0, 0.5, 101, dtype=np.float32)
    held_out_out = np.array([0.1, 0.2, 0.6, 0.4], np.float32)
    held_out_in = np.array([0.3, 0.7, 0.9], np.float32)
    point = operating_point(fit_out, held_out_out, held_out_in, 0.01)
    assert point.drop_above == pytest.approx(0.5)
    assert (point.lost.n_hits, point.lost.n_all) == (1, 4)
    assert (point.flagged.n_hits, point.flagged.n_all) == (2, 3)


def test_the_calibration_error_is_that_worked_out_by_hand():
    in_risks = np.array([0.95, 0.85, 0.15], np.float32)
    out_risks = np.array([0.05, 0.15, 0.95], np.float32)
    bins = reliability(in_risks, out_risks)
    assert [(each.n_pictures, each.is_in.n_hits) for each in bins] == [(1, 0), (2, 1), (1, 1), (2, 1)]
    by_hand = (abs(0.05 - 0) + 2 * abs(0.15 - 0.5) + abs(0.85 - 1) + 2 * abs(0.95 - 0.5)) / 6
    assert expected_calibration_error(bins) == pytest.approx(by_hand, abs=1e-6)


def test_a_risk_of_one_falls_into_the_last_bin():
    (only,) = reliability(np.ones(3, np.float32), np.ones(1, np.float32))
    assert (only.low, only.high, only.n_pictures) == (0.9, 1.0, 4)
