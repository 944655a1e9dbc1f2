import numpy as np
import pytest

import cli
from annotation.consensus import run_consensus
from annotation.decision_log import open_log
from annotation.gold import GoldEntry
from annotation.statistics.annotators import agreement_with_others, annotator_report, mean_seconds
from annotation.statistics.answer_matrix import answer_matrix, answers_in_queue
from annotation.statistics.report import format_summary, report_annotators
from annotation.statistics.shared_mistakes import shared_mistakes
from manifests import schema
from manifests.errors import InputError
from manifests.proportions import counted_share
from tests.annotation_workspace import decision, image_id_of, make_workspace
from tests.simulated_world import make_world

LETTERS = {"o": "out", "i": "in", "d": "difficult", "s": "skip"}


def log_of(letters: str, *, queue: str = "first", seconds: float = 1.5):
    """One decision a letter, on the images a, b, c, ...; - for none."""
    return [
        decision(f"{queue}-{place}", chr(ord("a") + place), LETTERS[letter], queue=queue, seconds=seconds)
        for place, letter in enumerate(letters)
        if letter != "-"
    ]


def gold_of(letters: str):
    return {
        chr(ord("a") + place): GoldEntry(chr(ord("a") + place), LETTERS[letter], 7 if letter == "i" else None, "")
        for place, letter in enumerate(letters)
    }


def test_confusion_on_gold_by_hand():
    log = [*log_of("oo"), *log_of("oiodis", queue="gold")]
    report = annotator_report("ann", log, gold_of("oiiodo"), counted_share(0, 0))
    # Truth out: one out, one difficult, one skipped; truth in: one in, one out; truth difficult: one in.
    assert report.gold.tolist() == [[1, 0, 1], [1, 1, 0], [0, 1, 0]]
    assert (report.on_gold.n_hits, report.on_gold.n_all) == (2, 5)
    assert (report.right_class.n_hits, report.right_class.n_all) == (1, 1)
    assert report.n_by_queue == {"first": 2, "gold": 6}


def test_answers_to_images_that_are_no_gold_any_more_do_not_count():
    report = annotator_report("ann", log_of("oo", queue="gold"), gold_of("o"), counted_share(0, 0))
    assert report.on_gold.n_all == 1


def test_pace_and_answers_faster_than_a_look():
    log = [decision(f"{n}", f"i{n}", seconds=seconds) for n, seconds in enumerate((0.1, 0.29, 0.3, 2, 4))]
    log.append(decision("u", "i0", "undo", seconds=60))
    report = annotator_report("ann", log, {}, counted_share(0, 0))
    assert (report.median_s, report.n_too_fast, report.n_answers) == (0.3, 2, 5)
    assert (report.p10_s, report.p90_s) == pytest.approx((0.1 + 0.4 * 0.19, 2 + 0.6 * 2))
    assert report.n_by_queue == {"first": 4}


def test_the_pace_of_a_plan_leaves_breaks_out():
    log = [decision(f"{n}", f"i{n}", seconds=2) for n in range(199)]
    assert mean_seconds({"ann": [*log, decision("break", "x", seconds=3600)]}) == 2
    assert mean_seconds({"ann": []}) is None


def test_agreement_with_the_others_leaves_the_annotator_out():
    logs = {"ann": log_of("ooio"), "ben": log_of("oioo"), "cy": log_of("ooi-")}
    shares = agreement_with_others(
        answer_matrix({name: answers_in_queue(log, "first") for name, log in logs.items()})
    )
    # The others agree for ann on a; for ben on a, b and c; for cy on a: on d there is nothing of theirs to meet.
    assert {name: (share.n_hits, share.n_all) for name, share in shares.items()} == {
        "ann": (1, 1), "ben": (1, 3), "cy": (1, 1),
    }  # fmt: skip


def test_equal_mistakes_are_counted_against_chance():
    gold = gold_of("i" * 20)
    first, second = log_of("o" * 5 + "i" * 15, queue="gold"), log_of("o" * 5 + "i" * 15, queue="gold")
    shared = shared_mistakes(first, second, gold)
    assert (shared.n_images, shared.n_equal, shared.expected) == (20, 5, 5 * 5 / 20)
    # 1 - e^-1.25 (1 + 1.25 + 1.25^2 / 2 + 1.25^3 / 6 + 1.25^4 / 24), worked out by hand.
    assert shared.probability == pytest.approx(0.009124, abs=1e-6)
    apart = shared_mistakes(first, log_of("i" * 15 + "o" * 5, queue="gold"), gold)
    assert (apart.n_equal, apart.probability) == (0, 1.0)


@pytest.fixture
def judged(tmp_path):
    world = make_world(tmp_path, n_images=300, share_in=0.3, n_gold=200, seed=5)
    world.answer("careful,hasty,colluding,always-ood", seed=5)
    run_consensus(world.workspace)
    return world


def test_report_names_who_is_below_and_who_copies(judged, capsys):
    arguments = ["annotators", "--workspace", str(judged.workspace.root)]
    assert cli.run([*arguments, "--min-gold", "0.9"]) == 0
    text = capsys.readouterr().out
    assert "simulated-always-ood-1 is below 90% on gold" in text
    assert "consensus --set-aside simulated-always-ood-1" in text
    assert "simulated-careful-1 is below" not in text
    assert "simulated-colluding-1 and simulated-hasty-1 make" in text
    assert "simulated-careful-1 and simulated-hasty-1 make" not in text
    assert cli.run([*arguments, "--min-gold", "0"]) == 0
    assert "is below" not in capsys.readouterr().out


def test_second_opinion_sees_through_gold_what_votes_do_not(judged):
    summary = report_annotators(judged.workspace)
    rows = judged.workspace.read(schema.OPINIONS).to_pylist()
    assert len(rows) == summary.n_opinions == 300
    assert all(row["p_out"] + row["p_in"] + row["p_difficult"] == pytest.approx(1) for row in rows)
    right = [row["opinion"] == judged.truth_of[row["image_id"]] for row in rows]
    careful_alone = 0.96
    assert np.mean(right) > careful_alone - 0.05
    verdicts = {row["image_id"]: row["verdict"] for row in judged.workspace.read(schema.VERDICTS).to_pylist()}
    against = [
        row for row in rows if verdicts[row["image_id"]] in LETTERS.values()
        and row["opinion"] not in (None, verdicts[row["image_id"]])
    ]  # fmt: skip
    assert sum(summary.n_against.values()) == len(against)


def test_second_run_writes_the_same_bytes_and_no_verdict_changes(judged):
    verdicts = judged.workspace.path_of(schema.VERDICTS).read_bytes()
    texts, written = set(), set()
    for _ in range(2):
        texts.add(format_summary(report_annotators(judged.workspace), 0.9))
        written.add(judged.workspace.path_of(schema.OPINIONS).read_bytes())
    assert len(texts) == len(written) == 1
    assert judged.workspace.path_of(schema.VERDICTS).read_bytes() == verdicts


def test_annotator_set_aside_is_reported_and_counts_nowhere(judged):
    summary = report_annotators(judged.workspace, set_aside=["simulated-always-ood-1"])
    assert "simulated-always-ood-1" in [report.annotator_id for report in summary.reports]
    assert all("simulated-always-ood-1" not in pair.annotator_ids for pair in summary.pairs)
    assert summary.most_answers == 3
    with pytest.raises(InputError, match="--set-aside ann: has no log here"):
        report_annotators(judged.workspace, set_aside=["ann"])


def test_tie_is_no_opinion(tmp_path):
    workspace = make_workspace(tmp_path, n_review=2)
    for name, answers in {"ann": ("out", "in"), "ben": ("in", "out")}.items():
        with open_log(workspace, name) as log:
            log.append_all([decision(f"{n}", image_id_of(n), answer) for n, answer in enumerate(answers)])
    report_annotators(workspace)
    assert [row["opinion"] for row in workspace.read(schema.OPINIONS).to_pylist()] == [None, None]


def test_before_any_answer_the_stage_to_run_is_named(tmp_path):
    with pytest.raises(InputError, match="nobody has answered yet: run 'annotate' first"):
        report_annotators(make_workspace(tmp_path, n_review=1))
