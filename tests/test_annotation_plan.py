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
from annotation.statistics.plan import fewest_votes, format_plan, make_plan
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


def test_fewest_votes_count_from_two():
    rows = rows_of(StatedRates(miss_rate=0.1, prevalence=0.5))
    assert fewest_votes(rows, 0.5) == (2, 2)
    assert fewest_votes(rows, 0.001 / 1.001 * 1.01) == (3, 4)
    assert fewest_votes(rows, 0) == (None, None)


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
    answers = np.array([[0, 1, 0], [1, 1, 1], [0, 0, 0], [2, 1, 0]] * 500)
    votes = votes_on(answers)
    for code in range(3):
        for n in (1, 2, 3):
            share = np.mean([comb((row == code).sum(), n) / comb(3, n) for row in answers])
            assert votes[code].moments[n - 1, 0] == pytest.approx(share, abs=2e-3)


def votes_on(answers, weights=None, n_draws=2000):
    weights = np.ones(answers.shape[1]) if weights is None else np.array(weights)
    return measured_votes(answers, weights, np.random.default_rng(0), n_codes=3, n_draws=n_draws)


@given(
    answers=st.lists(st.lists(st.integers(-1, 2), min_size=4, max_size=4), min_size=1, max_size=5),
    weights=st.lists(st.floats(0.05, 1), min_size=4, max_size=4),
)
def test_moments_are_those_of_a_naive_count_of_weighted_sets(answers, weights):
    # 2,000 copies, so that the prior weighs nothing; the n-element sets are written out.
    if all(code < 0 for row in answers for code in row):
        return
    votes = votes_on(np.array(answers * 2000), weights, n_draws=2)
    before = [1.0] * 3
    for n in range(1, len(votes[0].moments) + 1):
        sets = [
            (np.prod([weights[place] for place in chosen]), {row[place] for place in chosen})
            for row in answers
            for chosen in combinations([place for place in range(4) if row[place] >= 0], n)
        ]
        for code in range(3):
            share = sum(weight for weight, said in sets if said == {code}) / sum(weight for weight, _ in sets)
            before[code] = min(before[code], share)
            assert votes[code].moments[n - 1, 0] == pytest.approx(before[code], abs=2e-3)


def test_few_pairs_are_used_and_widen_the_interval():
    # 300 images missed to one tenth by one annotator each, 20 of them answered by two who miss the same two.
    alone = np.array([[0, -1, -1]] * 28 + [[1, -1, -1]] * 252)
    paired = np.array([[-1, 0, 0]] * 2 + [[-1, 1, 1]] * 18)
    missed = votes_on(np.concatenate([alone, paired]), n_draws=4000)[0]
    # (2 + 0.5) / (20 + 1.5), and not 0.1 squared.
    assert missed.moments[1, 0] == pytest.approx(min(2.5 / 21.5, missed.mean[0]))
    low, high = np.quantile(missed.moments[1, 1:], [0.025, 0.975])
    assert low < 0.04 < 0.1 < high


def test_who_votes_much_counts_much_however_little_gold_they_answered():
    # One misses nothing on 200 gold images, the other misses 16 of 20; both vote equally often.
    answers = np.array([[1, 0]] * 16 + [[1, 1]] * 4 + [[1, -1]] * 180)
    missed = votes_on(answers, [1 / 200, 1 / 20])[0]
    assert missed.mean[0] == pytest.approx(0.4, abs=0.01)


def test_interval_of_an_error_never_met_does_not_end_at_zero():
    missed = votes_on(np.array([[1, 1]] * 60), n_draws=4000)[0]
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


def test_plan_refuses_to_guess_what_the_unanswered_images_hold(tmp_path):
    world = make_world(tmp_path, n_images=400, share_in=0.3, n_gold=200, seed=5)
    rows = world.workspace.read(schema.SCREEN).to_pylist()
    # As a screen that works has it: what is in stands at the head of the queue.
    for number, row in enumerate(rows):
        row["risk"] = 0.5 * (world.truth_of[row["image_id"]] == "in") + number / 10_000
    world.workspace.write(schema.SCREEN, rows)
    world.answer("careful,careful", seed=5)
    errors, _ = make_plan(world.workspace)
    share = sum(world.truth_of[f"{number:016x}"] == "in" for number in range(400)) / 400
    assert errors.shares[0, 1] == pytest.approx(share, abs=0.03)
    riskiest = sorted(rows[:400], key=lambda row: -row["risk"])[:150]
    keep_answers(world.workspace, {row["image_id"] for row in riskiest})
    with pytest.raises(InputError, match=r"240 of 400 images are of risks at which hardly any has an answer"):
        make_plan(world.workspace)
    _, planned = make_plan(world.workspace, prevalence=share)
    assert planned[1].contamination < 0.02


def test_part_answered_at_random_weighs_by_risk_and_widens_the_interval(tmp_path):
    world = make_world(tmp_path, n_images=1000, share_in=0.3, n_gold=200, seed=6)
    rows = world.workspace.read(schema.SCREEN).to_pylist()
    for number, row in enumerate(rows):
        row["risk"] = 0.5 * (world.truth_of[row["image_id"]] == "in") + number / 10_000
    world.workspace.write(schema.SCREEN, rows)
    world.answer("careful,careful", seed=6)
    whole = make_plan(world.workspace)[0].shares[:, 1]
    # Four in five of the riskier half are answered, and one in four of the rest.
    by_risk = sorted(rows[:1000], key=lambda row: -row["risk"])
    kept = [row for place, row in enumerate(by_risk) if (place % 5 if place < 500 else place % 4 == 0)]
    keep_answers(world.workspace, {row["image_id"] for row in kept})
    part = make_plan(world.workspace)[0].shares[:, 1]
    assert part[0] == pytest.approx(whole[0], abs=0.02)
    assert np.ptp(np.quantile(part, [0.025, 0.975])) > np.ptp(np.quantile(whole, [0.025, 0.975]))


def keep_answers(workspace, image_ids):
    """Write all logs anew with the gold answers and those to `image_ids` alone."""
    from annotation.decision_log import log_path, open_log, read_decisions

    for name in annotator_ids(workspace):
        kept = [
            made
            for made in read_decisions(log_path(workspace, name))
            if made.queue == "gold" or made.image_id in image_ids
        ]
        log_path(workspace, name).unlink()
        with open_log(workspace, name) as log:
            log.append_all(kept)


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


def test_voter_who_answered_no_gold_is_named(tmp_path):
    world = make_world(tmp_path, n_images=60, share_in=0.3, n_gold=60)
    world.answer("careful")
    world.answer("careful,hasty", with_gold=False)
    errors, _ = make_plan(world.workspace)
    assert errors.source.endswith("60 answers; simulated-hasty-1 answered none and is taken to err as the others")
