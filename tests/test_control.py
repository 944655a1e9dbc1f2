import numpy as np
import pytest
from scipy.stats import beta

from manifests import schema
from manifests.control import ControlEstimate, control_estimate, format_control
from manifests.workspace import Workspace


def fill(workspace, controls, dropped=0, others=()):
    """Write a screen and verdicts: `controls` and `others` are verdict words, None of no verdict."""
    screen = [
        {"image_id": f"control{n}", "status": "review", "reason": "in_class", "is_control": True}
        for n in range(len(controls))
    ]
    screen += [
        {"image_id": f"dropped{n}", "status": "dropped", "reason": "in_class", "is_control": False}
        for n in range(dropped)
    ]
    screen += [{"image_id": f"other{n}", "status": "review", "is_control": False} for n in range(len(others))]
    words = {f"control{n}": word for n, word in enumerate(controls)} | {
        f"other{n}": word for n, word in enumerate(others)
    }
    workspace.write(schema.SCREEN, screen)
    workspace.write(
        schema.VERDICTS,
        [
            {"image_id": k, "verdict": word, "source": "consensus", "n_out": 0, "n_in": 0, "n_difficult": 0}
            for k, word in words.items()
            if word
        ],
    )
    return workspace


def test_the_loss_is_the_share_of_out_among_controls_carried_over_to_the_dropped(tmp_path):
    controls = ["out", "in", "in", "in"]
    estimate = control_estimate(fill(Workspace(tmp_path), controls, dropped=80, others=["out"] * 59 + ["in"]))
    # A quarter of 80 are 20, beside 59 and the one control that were found.
    assert estimate.lost().value == pytest.approx(20 / 80)
    assert estimate.lost().high == pytest.approx(1 / (1 + 60 / (80 * beta.ppf(0.975, 2, 3))))
    assert "4 of 4 with a settled verdict; out are 1 of 4 = 25.00%" in format_control(estimate)
    assert "the screen lost 25.00% (95 % interval" in format_control(estimate)


def test_controls_without_a_settled_verdict_are_taken_to_be_as_the_others(tmp_path):
    controls = ["out", "in", "in", "in", "open", "disputed", None, None]
    estimate = control_estimate(fill(Workspace(tmp_path), controls, dropped=80, others=["out"] * 58 + ["in"]))
    assert (estimate.n_control, estimate.n_control_settled, estimate.n_control_out) == (8, 4, 1)
    # Of the four that wait, one.
    assert estimate.lost().value == pytest.approx(20 / (20 + 58 + 1 + 1))


def test_while_others_wait_there_is_an_interval_and_no_figure(tmp_path):
    others = ["in"] * 6 + ["out"] * 4 + [None] * 90
    estimate = control_estimate(fill(Workspace(tmp_path), ["in"] * 9 + ["out"], dropped=100, others=others))
    lost = estimate.lost()
    assert lost.value is None
    # By the exact bounds of Clopper and Pearson at 1.25 % each: 1 of 10 controls out, 4 of 10 others.
    low, high, kept = beta.ppf(0.0125, 1, 10), beta.ppf(0.9875, 2, 9), beta.ppf(0.0125, 4, 7)
    assert lost.low == pytest.approx(100 * low / (100 * low + 1 + 94))
    assert lost.high == pytest.approx(100 * high / (100 * high + 1 + 4 + 90 * kept))
    assert format_control(estimate).endswith("one figure when all others are settled, 10 of 100 so far")


@pytest.mark.parametrize("share_judged", [0.1, 0.4, 1.0])
def test_the_interval_holds_the_truth_at_any_time_of_the_review(share_judged):
    """1,000 reviews, riskiest first: what is out has a low risk, so that early verdicts are mostly `in`."""
    draws = np.random.default_rng(0)
    n_held = 0
    for _ in range(1000):
        is_out_flagged = draws.random(400) < 0.04
        is_control = draws.random(400) < 0.15
        risk = np.sort(draws.random(600))[::-1]
        is_out_kept = draws.random(600) > risk
        n_judged = int(600 * share_judged)
        judged_controls = is_out_flagged[is_control][draws.random(is_control.sum()) < share_judged]
        estimate = ControlEstimate(
            int(is_control.sum()), int((~is_control).sum()), 600, len(judged_controls),
            int(judged_controls.sum()), n_judged, int(is_out_kept[:n_judged].sum()),
        )  # fmt: skip
        truth = is_out_flagged[~is_control].sum() / (is_out_flagged.sum() + is_out_kept.sum())
        lost = estimate.lost()
        n_held += lost is None or lost.low <= truth <= lost.high
    assert n_held >= 950


def test_before_a_verdict_nothing_is_claimed(tmp_path):
    estimate = control_estimate(fill(Workspace(tmp_path), [None, "open"], dropped=3))
    assert format_control(estimate).endswith("0 of 2 with a settled verdict: what the screen lost is not known")


def test_where_nothing_was_dropped_there_is_nothing_to_estimate(tmp_path):
    workspace = Workspace(tmp_path)
    assert control_estimate(workspace) is None
    assert control_estimate(fill(workspace, [], others=["out"])) is None


def test_gold_that_gets_no_verdict_counts_by_its_known_answer(tmp_path):
    workspace = fill(Workspace(tmp_path), ["in", None], dropped=8, others=["out", None, "open"])
    gold = [("control1", "out", None), ("other1", "out", None), ("other2", "in", 3)]
    workspace.write(
        schema.GOLD,
        [{"image_id": name, "answer": answer, "class_index": index, "note": ""} for name, answer, index in gold],
    )
    estimate = control_estimate(workspace)
    assert (estimate.n_control_settled, estimate.n_control_out) == (2, 1)
    assert (estimate.n_kept_settled, estimate.n_kept_out) == (3, 2)
    # Of 8 dropped 4; found were 1 control and 2 others.
    assert estimate.lost().value == pytest.approx(4 / 7)
