import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotation.consensus import run_consensus, verdict_rows
from annotation.decision_log import log_path, open_log
from annotation.decisions import Decision, standing_answers
from manifests import schema
from manifests.errors import StageMissingError, TableError
from manifests.workspace import Workspace
from tests.annotation_workspace import decision, image_id_of, make_workspace

WORD_OF_LETTER = {"o": "out", "d": "difficult", "s": "skip"}


def answers_of(letters: str) -> dict[str, dict[str, Decision]]:
    """One letter an annotator: o, d, s as the panel's keys, a digit = in with that class, - = none."""
    return {
        f"annotator-{place}": {"a": decision("1", "a", "in", class_index=int(letter))}
        if letter.isdigit()
        else {"a": decision("1", "a", WORD_OF_LETTER[letter])}
        for place, letter in enumerate(letters)
        if letter != "-"
    }


@pytest.mark.parametrize(
    ("letters", "verdict", "class_index"),
    [
        ("", "open", None),
        ("o", "open", None),
        ("3", "open", None),
        ("o-", "open", None),
        ("os", "open", None),
        ("ss", "open", None),
        ("oo", "out", None),
        ("ooo", "out", None),
        ("oos", "out", None),
        ("33", "in", 3),
        ("3s3", "in", 3),
        ("35", "in", None),
        ("335", "in", None),
        ("dd", "difficult", None),
        ("od", "disputed", None),
        ("o3", "disputed", None),
        ("d3", "disputed", None),
        ("ooooo3", "disputed", None),
        ("od3", "disputed", None),
    ],
)
def test_verdicts_by_hand(letters: str, verdict: str, class_index: int | None) -> None:
    assert verdict_rows(["a"], answers_of(letters)) == [
        {
            "image_id": "a",
            "verdict": verdict,
            "source": "consensus",
            "n_out": letters.count("o"),
            "n_in": sum(letter.isdigit() for letter in letters),
            "n_difficult": letters.count("d"),
            "class_index": class_index,
        }
    ]


@given(
    votes=st.lists(st.dictionaries(st.sampled_from("abcd"), st.sampled_from("ods3579"), max_size=4), max_size=5),
    order=st.randoms(use_true_random=False),
)
def test_verdicts_do_not_depend_on_the_order_of_annotators_or_lines(
    votes: list[dict], order: random.Random
) -> None:
    def decisions_of(vote: dict) -> list[Decision]:
        return [next(iter(answers_of(letter).values()))["a"] for letter in vote.values()]

    answers = {
        f"annotator-{place}": dict(zip(vote, decisions_of(vote), strict=True)) for place, vote in enumerate(votes)
    }
    shuffled = {
        annotator_id: dict(order.sample(list(answers[annotator_id].items()), len(answers[annotator_id])))
        for annotator_id in order.sample(list(answers), len(answers))
    }
    image_ids = order.sample("abcd", 4)
    assert verdict_rows(image_ids, shuffled) == verdict_rows("abcd", answers)


def answered(root: Path, answers: dict[str, list[Decision]]) -> Workspace:
    workspace = make_workspace(root, n_review=3)
    for annotator_id, decisions in answers.items():
        with open_log(workspace, annotator_id) as log:
            log.append_all(decisions)
    return workspace


def test_stage_writes_one_row_for_every_image_under_review(tmp_path: Path) -> None:
    first, second, third = (image_id_of(number) for number in range(3))
    workspace = answered(
        tmp_path,
        {
            "ann": [decision("1", first), decision("2", second, "in")],
            "ben": [decision("1", first), decision("2", second, "out")],
        },
    )
    summary = run_consensus(workspace)
    assert summary.n_by_verdict == {"out": 1, "in": 0, "difficult": 0, "disputed": 1, "open": 1}
    assert summary.n_annotators == 2
    rows = {row["image_id"]: row["verdict"] for row in workspace.read(schema.VERDICTS).to_pylist()}
    assert rows == {first: "out", second: "disputed", third: "open"}


def test_second_run_writes_the_same_bytes(tmp_path: Path) -> None:
    workspace = answered(tmp_path, {name: [decision("1", image_id_of(0))] for name in ("ann", "ben", "cy")})
    run_consensus(workspace)
    before = workspace.path_of(schema.VERDICTS).read_bytes()
    run_consensus(workspace)
    assert workspace.path_of(schema.VERDICTS).read_bytes() == before


def test_answers_outside_the_review_set_are_counted_and_recorded(tmp_path: Path) -> None:
    dropped = image_id_of(3)
    workspace = answered(
        tmp_path, {name: [decision("1", dropped), decision("2", "gone")] for name in ("ann", "ben")}
    )
    summary = run_consensus(workspace)
    assert (summary.n_answers_outside, summary.image_ids_outside) == (4, (dropped, "gone"))
    assert summary.n_by_verdict["open"] == 3
    assert '"answers_outside_review": 4' in (tmp_path / "provenance" / "consensus.json").read_text()


def test_only_independent_answers_are_votes(tmp_path: Path) -> None:
    image_id = image_id_of(0)
    workspace = answered(
        tmp_path,
        {
            "ann": [decision("1", image_id), decision("2", image_id, "in", queue="dispute")],
            "ben": [decision("1", image_id)],
        },
    )
    assert run_consensus(workspace).n_by_verdict["out"] == 1


def test_answer_taken_back_is_no_vote(tmp_path: Path) -> None:
    image_id = image_id_of(0)
    given_twice = [decision("1", image_id), decision("2", image_id, "undo")]
    workspace = answered(tmp_path, {"ann": given_twice, "ben": [decision("1", image_id)]})
    assert standing_answers(given_twice) == {}
    assert run_consensus(workspace).n_by_verdict["open"] == 3


def test_damaged_log_stops_the_stage_and_keeps_the_old_verdicts(tmp_path: Path) -> None:
    workspace = answered(tmp_path, {"ann": [decision("1", image_id_of(0)), decision("2", image_id_of(1))]})
    run_consensus(workspace)
    before = workspace.path_of(schema.VERDICTS).read_bytes()
    path = log_path(workspace, "ann")
    path.write_bytes(path.read_bytes().replace(b'"out"', b'"skip"', 1))
    with pytest.raises(TableError, match=r"ann.jsonl, line 2.*line 1 was changed"):
        run_consensus(workspace)
    assert workspace.path_of(schema.VERDICTS).read_bytes() == before


def test_consensus_before_screen_names_the_stage_to_run(tmp_path: Path) -> None:
    with pytest.raises(StageMissingError, match="'screen'"):
        run_consensus(Workspace(tmp_path))
