import pytest
from scipy.stats import beta

from manifests import schema
from manifests.control import control_estimate, format_control
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
    controls = ["out", "in", "in", "in", "open", "disputed", None]
    workspace = fill(Workspace(tmp_path), controls, dropped=80, others=["out"] * 59 + ["in"])
    estimate = control_estimate(workspace)
    assert (estimate.n_control, estimate.n_dropped, estimate.n_found_out) == (7, 80, 60)
    assert (estimate.out.n_hits, estimate.out.n_all) == (1, 4)
    assert estimate.out.high == pytest.approx(beta.ppf(0.975, 2, 3))
    # A quarter of 80 are 20, beside 60 found.
    assert estimate.lost_share(0.25) == pytest.approx(20 / 80)
    assert "out are 1 of 4 = 25.00%" in format_control(estimate)
    assert "the screen lost 25.00% (95 % interval" in format_control(estimate)


def test_before_a_verdict_nothing_is_claimed(tmp_path):
    estimate = control_estimate(fill(Workspace(tmp_path), [None, "open"], dropped=3))
    assert format_control(estimate).endswith("none with a verdict yet: what the screen lost is not known")


def test_where_nothing_was_dropped_there_is_nothing_to_estimate(tmp_path):
    workspace = Workspace(tmp_path)
    assert control_estimate(workspace) is None
    assert control_estimate(fill(workspace, [], others=["out"])) is None
