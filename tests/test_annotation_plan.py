from itertools import combinations
from math import comb
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cli
from annotation.consensus import run_consensus
from annotation.decision_log import annotator_ids
from annotation.statistics.plan import format_plan, make_plan, votes_needed
from annotation.statistics.shared_votes import SharedVotes, measured_votes, stated_votes
from annotation.statistics.team_errors import StatedRates
from manifests import schema
from manifests.errors import InputError
from manifests.workspace import Workspace
from tests.simulated_world import make_world


def rows_of(rates, *, votes_max=5, n_images=100_000):
    return make_plan(Workspace(Path("nowhere")), rates=rates, votes_max=votes_max, n_images=n_images, seconds=3.6)[
        1
    ]


def test_independent_errors_by_hand():
    # 1,000 in and 3,000 out of 4,000: two votes leave 1000 x 0.1^2 = 10 in, and 3000 x 0.9^2 = 2430 out.
    two = rows_of(StatedRates(miss_rate=0.1, prevalence=0.25, false_in_rate=0.08, difficult_rate=0.02))[1]
    assert two.contamination == pytest.approx(10 / 2440)
    assert two.if_independent == pytest.approx(10 / 2440)
    assert two.kept == pytest.approx(0.81)
    agreed_in = 0.25 * 0.88**2 + 0.75 * 0.08**2
    assert two.disputed == pytest.approx(1 - 2440 / 4000 - agreed_in - 0.02**2)
    assert (two.n_decisions, two.n_rulings) == (200_000, round(two.disputed * 100_000))
    assert two.hours == pytest.approx((200_000 + two.n_rulings) / 1000)


def test_images_that_everybody_misses_set_a_floor_that_no_vote_lowers():
    rows = rows_of(StatedRates(miss_rate=0.1, prevalence=0.5, hard_share=0.04, hard_miss_rate=1.0))
    plain = (0.1 - 0.04) / 0.96
    for row in rows:
        agreed = 0.04 + 0.96 * plain**row.n_votes
        assert row.contamination == pytest.approx(agreed / (agreed + 1))
    assert rows[4].if_independent < 1e-4 < 0.04 < rows[4].contamination / (1 - rows[4].contamination)


def test_votes_needed_counts_from_two():
    rows = rows_of(StatedRates(miss_rate=0.1, prevalence=0.5))
    assert votes_needed(rows, 0.5) == (2, 2)
    assert votes_needed(rows, 0.001 / 1.001 * 1.01) == (3, 4)
    assert votes_needed(rows, 0) == (None, None)


@given(
    chances=st.lists(st.floats(0, 1), min_size=1, max_size=6),
    weights=st.lists(st.integers(1, 20), min_size=6, max_size=6),
    n_votes=st.integers(1, 12),
)
def test_two_moments_bound_every_mixture_of_difficulties(chances, weights, n_votes):
    p, share = np.array(chances), np.array(weights[: len(chances)], dtype=float)
    share /= share.sum()
    moments = np.array([[(share * p**n).sum()] for n in (1, 2)])
    votes, true = SharedVotes(moments), (share * p**n_votes).sum()
    assert votes.least(n_votes)[0] - 1e-9 <= true <= votes.most(n_votes)[0] + 1e-9
    assert votes.least(n_votes)[0] - 1e-9 <= votes.expected(n_votes)[0] <= votes.most(n_votes)[0] + 1e-9


def test_beyond_what_is_known_the_expectation_is_the_beta_binomial():
    # p ~ Beta(2, 6): E[p^n] is the product of (2 + i) / (8 + i).
    exact = np.cumprod([(2 + i) / (8 + i) for i in range(6)])
    votes = SharedVotes(exact[:2, np.newaxis])
    assert [votes.expected(n)[0] for n in range(1, 7)] == pytest.approx(exact.tolist())


def test_stated_hard_images_that_exceed_the_whole_are_refused():
    with pytest.raises(ValueError, match=r"0.5 at 1 cannot be part of 0.1"):
        stated_votes(0.1, hard_share=0.5, hard_mean=1, n_votes=2)


def test_moments_are_the_shares_of_sets_of_answers_that_agree():
    n_by_answer = np.array([[2, 1, 0], [0, 3, 0], [3, 0, 0], [1, 1, 1]] * 500)
    votes = measured_votes(n_by_answer, np.random.default_rng(0), 2000)
    for code in range(3):
        for n in (1, 2, 3):
            share = np.mean([comb(row[code], n) / comb(3, n) for row in n_by_answer])
            assert votes[code].moments[n - 1, 0] == pytest.approx(share, abs=2e-3)


def test_interval_of_an_error_never_met_does_not_end_at_zero():
    missed = measured_votes(np.array([[0, 2, 0]] * 60), np.random.default_rng(0), 4000)[0]
    # Exact one-sided 97.5 % bound of 0 in 60 is 6.0 %, Jeffreys' 4.1 %.
    assert 0.03 < np.quantile(missed.moments[1, 1:], 0.975) < 0.06


TEAMS = [
    ("careful,careful", 0.3),
    ("hasty,hasty", 0.0),
    ("hasty,hasty", 0.5),
    ("careful,always-ood", 0.3),
    ("hasty,colluding", 0.3),
    ("careful,hasty,colluding", 0.3),
]


def contamination(world, n_votes):
    """Share of truly in among the images on which each set of annotators agrees on out, over all sets."""
    from annotation.statistics.answer_matrix import OUT, answer_matrix, answers_in_queue, read_logs

    matrix = answer_matrix(
        {name: answers_in_queue(log, "first") for name, log in read_logs(world.workspace).items()}
    )
    is_in = np.array([world.truth_of[image_id] == "in" for image_id in matrix.image_ids])
    sets = combinations(range(len(matrix.annotator_ids)), n_votes)
    return np.mean([is_in[(matrix.answers[:, chosen] == OUT).all(axis=1)].mean() for chosen in sets])


@pytest.mark.parametrize(("team", "share_corner"), TEAMS)
def test_plan_from_gold_holds_what_the_consensus_then_contains(tmp_path, team, share_corner):
    world = make_world(tmp_path, n_images=1000, share_in=0.3, n_gold=300, share_corner=share_corner, seed=1)
    world.answer(team, seed=1)
    _, rows = make_plan(world.workspace)
    n_all = len(team.split(","))
    for n_votes in {2, n_all}:
        row = rows[n_votes - 1]
        assert row.low <= contamination(world, n_votes) <= row.high
    run_consensus(world.workspace)
    verdicts = world.workspace.read(schema.VERDICTS).to_pylist()
    out = [row["image_id"] for row in verdicts if row["verdict"] == "out"]
    found = sum(world.truth_of[image_id] == "in" for image_id in out) / len(out)
    assert rows[n_all - 1].low <= found <= rows[n_all - 1].high
    disputed = sum(row["verdict"] == "disputed" for row in verdicts) / len(verdicts)
    assert rows[n_all - 1].disputed == pytest.approx(disputed, abs=0.06)


def test_colluding_annotators_show_on_gold_and_nowhere_else(tmp_path):
    world = make_world(tmp_path, n_images=800, share_in=0.3, n_gold=400, seed=2)
    world.answer("hasty,colluding", seed=2)
    errors, rows = make_plan(world.workspace)
    real = contamination(world, 2)
    assert rows[1].if_independent < rows[1].low < real < rows[1].high
    world.workspace.path_of(schema.GOLD).unlink()
    errors, rows = make_plan(world.workspace)
    # They agree on everything: without gold nothing can tell them from two who are always right.
    assert rows[1].if_independent < 0.001 < 0.03 < real
    assert np.isnan([rows[1].contamination, rows[1].low, rows[1].high]).all()
    text = format_plan(errors, rows, 0.01)
    assert "cannot be known without gold" in text
    assert "copy each other" in text


def test_gold_answered_by_one_says_that_shared_misses_are_not_known(tmp_path):
    world = make_world(tmp_path, n_images=300, share_in=0.3, n_gold=300, seed=3)
    world.answer("hasty")
    errors, rows = make_plan(world.workspace)
    assert not errors.sees_shared_errors
    assert rows[1].contamination == pytest.approx(rows[1].if_independent)
    # At worst all miss the same images, and five votes are no better than one.
    assert rows[4].high >= rows[0].high > rows[0].contamination
    assert "how often they miss the same objects is not known" in format_plan(errors, rows, 0.01)


def test_prevalence_is_found_behind_the_errors(tmp_path):
    world = make_world(tmp_path, n_images=1500, share_in=0.3, n_gold=400, seed=4)
    world.answer("hasty,hasty", seed=4)
    errors, _ = make_plan(world.workspace)
    # They answer in to 26 %: misses hide a part.
    share = sum(world.truth_of[f"{number:016x}"] == "in" for number in range(1500)) / 1500
    assert errors.shares[0, 1] == pytest.approx(share, abs=0.025)


def test_plan_is_the_same_twice_and_writes_nothing(tmp_path):
    world = make_world(tmp_path, n_images=50, share_in=0.3, n_gold=50)
    world.answer("careful,hasty")
    before = sorted(path for path in tmp_path.rglob("*"))
    texts = {format_plan(*make_plan(world.workspace), 0.01) for _ in range(2)}
    assert len(texts) == 1
    assert sorted(path for path in tmp_path.rglob("*")) == before
    assert annotator_ids(world.workspace) == ["simulated-careful-1", "simulated-hasty-1"]


def test_annotators_who_never_say_in_leave_the_prevalence_unknown(tmp_path):
    world = make_world(tmp_path, n_images=50, share_in=0.3, n_gold=100)
    world.answer("always-ood,always-ood")
    with pytest.raises(InputError, match=r"hardly tell in from out.*give --prevalence"):
        make_plan(world.workspace)
    _, rows = make_plan(world.workspace, prevalence=0.3)
    assert rows[4].contamination == pytest.approx(0.3, abs=0.01)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--miss-rate", "0.1"], "plan: --miss-rate needs --prevalence"),
        (["--miss-rate", "2", "--prevalence", "0.1"], "miss_rate: expected a share in [0, 1], found 2.0"),
        (["--miss-rate", "0.1", "--prevalence", "0.1", "--hard-share", "0.5"], "cannot be part of 0.1"),
        (["--miss-rate", "0.9", "--prevalence", "0.1", "--difficult-rate", "0.2"], "come to more than 1"),
        (["--set-aside", "nobody"], "--set-aside nobody: has no log here; there are none"),
        ([], "nobody has answered yet: give --miss-rate and --prevalence"),
    ],
)
def test_bad_input_is_one_clear_error(tmp_path, capsys, arguments, message):
    assert cli.run(["plan", "--workspace", str(tmp_path), "--images", "10", *arguments]) == 1
    assert message in capsys.readouterr().err


def test_printed_plan_names_the_votes(tmp_path, capsys):
    arguments = ["--miss-rate", "0.1", "--prevalence", "0.3", "--images", "125000", "--seconds", "3"]
    assert cli.run(["plan", "--workspace", str(tmp_path), "--target", "0.01", *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    # 0.3 x 0.01 / (0.3 x 0.01 + 0.7) = 0.427 %; 0.3 x 2 x 0.1 x 0.9 = 5.4 % disputed.
    two = next(line for line in lines if line.lstrip().startswith("2 "))
    assert two.split()[:2] == ["2", "0.427%"]
    assert two.split()[-4:] == ["100.0%", "250,000", "6,750", "214.0"]
    assert "2 votes meet 1.00%, the whole interval included" in lines
