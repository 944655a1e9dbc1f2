import random
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotation.consensus import recorded_rule, run_consensus
from annotation.decision_log import log_path, open_log
from annotation.decisions import Decision, standing_answers
from annotation.gold import add_gold
from annotation.merge import check_logs
from annotation.progress import progress_lines
from annotation.verdicts import ConsensusRule, verdict_rows
from cli import run
from manifests import schema
from manifests.errors import InputError, StageMissingError, TableError
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
            "ann": [decision("1", image_id), decision("2", image_id, "in", queue="audit")],
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


LETTERS = "ods37"


def naive_verdict(
    votes: str, inspections: str, rulings: str, n_votes: int, n_needed: int, majority: Fraction
) -> tuple[str, str]:
    """The rule once more, from its words, on letters."""

    def answer_of(letter: str) -> str:
        return "in" if letter.isdigit() else WORD_OF_LETTER[letter]

    said, seen, ruled = (
        [answer_of(one) for one in given if one != "s"] for given in (votes, inspections, rulings)
    )
    if ruled:
        answer, n_for = Counter(ruled).most_common()[0]
        return (answer if n_for > len(ruled) - n_for else "disputed"), "adjudication"
    counts = Counter(said).most_common()
    agreed = len(said) >= n_votes and Fraction(counts[0][1], len(said)) >= majority
    if agreed and set(seen) - {counts[0][0]}:
        return "disputed", "inspection"
    if len(said) < n_needed:
        return "open", "consensus"
    return (counts[0][0] if agreed else "disputed"), "consensus"


@given(
    votes=st.text(LETTERS, max_size=6),
    inspections=st.text(LETTERS, max_size=2),
    rulings=st.text(LETTERS, max_size=4),
    n_votes=st.integers(1, 4),
    n_more=st.integers(0, 2),
    majority=st.sampled_from(["1", "0.51", "0.6", "0.66", "0.75"]),
)
def test_verdicts_are_those_of_a_naive_second_account(
    votes: str, inspections: str, rulings: str, n_votes: int, n_more: int, majority: str
) -> None:
    (row,) = verdict_rows(
        ["a"],
        answers_of(votes),
        ConsensusRule(n_votes, float(majority)),
        inspections=answers_of(inspections),
        rulings=answers_of(rulings),
        n_needed={"a": n_votes + n_more},
    )
    expected = naive_verdict(votes, inspections, rulings, n_votes, n_votes + n_more, Fraction(majority))
    assert (row["verdict"], row["source"]) == expected
    assert row["n_out"] == votes.count("o")


@pytest.mark.parametrize(
    ("letters", "verdict", "class_index"),
    [
        ("ooo3", "out", None),
        ("oo33", "disputed", None),
        ("33o3", "in", 3),
        ("3o53", "in", None),
        ("ood", "disputed", None),
    ],
)
def test_qualified_majority_settles_what_it_is_asked_to_and_no_tie(
    letters: str, verdict: str, class_index: int | None
) -> None:
    (row,) = verdict_rows(["a"], answers_of(letters), ConsensusRule(2, 0.75))
    assert (row["verdict"], row["class_index"]) == (verdict, class_index)


@pytest.mark.parametrize(
    "changes", [{"n_votes": 0}, {"majority": 0.5}, {"majority": 1.01}, {"majority": float("nan")}]
)
def test_rule_without_a_majority_is_refused(changes: dict) -> None:
    with pytest.raises(InputError, match="expected"):
        ConsensusRule(**changes)


def test_ruling_of_an_adjudicator_settles_a_dispute_with_its_class(tmp_path: Path) -> None:
    image_id = image_id_of(0)
    workspace = answered(
        tmp_path,
        {
            "ann": [decision("1", image_id)],
            "ben": [decision("1", image_id, "in")],
            "cem": [decision("1", image_id, "in", class_index=5, queue="dispute")],
        },
    )
    summary = run_consensus(workspace)
    assert summary.n_by_source == {"consensus": 0, "adjudication": 1, "inspection": 0}
    row = workspace.read(schema.VERDICTS).to_pylist()[0]
    assert (row["verdict"], row["source"], row["class_index"], row["n_in"]) == ("in", "adjudication", 5, 1)


def test_annotator_set_aside_is_not_counted_and_stays_in_the_log(tmp_path: Path) -> None:
    image_id = image_id_of(0)
    answers = {"ann": "out", "ben": "out", "hasty": "in"}
    workspace = answered(tmp_path, {name: [decision("1", image_id, said)] for name, said in answers.items()})
    assert run_consensus(workspace).n_by_verdict["disputed"] == 1
    before = log_path(workspace, "hasty").read_bytes()
    summary = run_consensus(workspace, ConsensusRule(set_aside=("hasty",)))
    assert (summary.n_by_verdict["out"], summary.n_annotators) == (1, 2)
    assert recorded_rule(workspace) == ConsensusRule(2, 1.0, ("hasty",))
    assert log_path(workspace, "hasty").read_bytes() == before
    with pytest.raises(InputError, match="'nobody' has no log here; there are ann, ben, hasty"):
        run_consensus(workspace, ConsensusRule(set_aside=("nobody",)))


def two_who_agree(root: Path) -> Workspace:
    made = [decision(str(number), image_id_of(number)) for number in range(3)]
    workspace = answered(root, {"ann": made, "ben": made})
    run_consensus(workspace)
    return workspace


def shorten(path: Path) -> None:
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:1]))


def change_last_line(path: Path) -> None:
    first, second, third = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + second + third.replace(b'"out"', b'"difficult"'))


@pytest.mark.parametrize(
    ("tamper", "found"),
    [(shorten, "found 1 lines"), (change_last_line, "found [0-9a-f]{64}"), (Path.unlink, "found 0 lines")],
)
def test_log_that_lost_what_was_read_of_it_stops_the_stage_until_that_is_accepted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tamper: Callable[[Path], None], found: str
) -> None:
    workspace = two_who_agree(tmp_path)
    before = workspace.path_of(schema.VERDICTS).read_bytes()
    tamper(log_path(workspace, "ann"))
    for _ in range(2):
        with pytest.raises(InputError, match=rf"ann\.jsonl, line 3: the last 'consensus' read 3 lines.*{found}"):
            run_consensus(workspace)
    assert workspace.path_of(schema.VERDICTS).read_bytes() == before
    assert [check.problem is None for check in check_logs(workspace)] == [False, True]
    assert run(["consensus", "--accept-changed-logs", "--workspace", str(tmp_path)]) == 0
    assert "accepted, and recorded: " in capsys.readouterr().out
    (accepted,) = workspace.read_record("consensus", "details")["accepted_changes"]
    assert "ann.jsonl, line 3" in accepted
    assert run_consensus(workspace).accepted_changes == ()


def test_log_that_grew_is_no_change(tmp_path: Path) -> None:
    workspace = two_who_agree(tmp_path)
    with open_log(workspace, "ann") as log:
        log.append(decision("3", image_id_of(0), "undo"))
    assert run_consensus(workspace).n_by_verdict == {"out": 2, "in": 0, "difficult": 0, "disputed": 0, "open": 1}


def test_command_keeps_the_last_rule_until_told_otherwise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = two_who_agree(tmp_path)
    said = []
    for options in (
        ["--votes", "1", "--majority", "0.75", "--set-aside", "ben"], [], ["--votes", "2"], ["--set-aside", "ann"],
        ["--reset-rule", "--votes", "3"], ["--reset-rule"],
    ):  # fmt: skip
        assert run(["consensus", *options, "--workspace", str(tmp_path)]) == 0
        said.append(next(line for line in capsys.readouterr().out.splitlines() if "rule:" in line).strip())
    assert said == [
        "rule: 1 answers an image, 0.75 of them alike, without ben",
        "rule: 1 answers an image, 0.75 of them alike, without ben",
        "rule: 2 answers an image, 0.75 of them alike, without ben",
        "rule: 2 answers an image, 0.75 of them alike, without ann",
        "rule: 3 answers an image, all of them alike",
        "rule: 2 answers an image, all of them alike",
    ]
    assert recorded_rule(workspace) == ConsensusRule()


def test_two_of_three_rulings_decide_and_one_of_two_does_not() -> None:
    for letters, verdict in (("oo3", "out"), ("o3", "disputed"), ("o3d", "disputed"), ("o3d3", "disputed")):
        (row,) = verdict_rows(["a"], answers_of("o3"), rulings=answers_of(letters))
        assert (row["verdict"], row["source"]) == (verdict, "adjudication")


def test_gold_under_review_is_counted_apart_and_not_as_open(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = make_workspace(tmp_path, n_review=3)
    (tmp_path / "gold.csv").write_text(f"image_id,answer\n{image_id_of(0)},out\n")
    add_gold(workspace, tmp_path / "gold.csv")
    for name in ("ann", "ben"):
        with open_log(workspace, name) as log:
            log.append_all([decision(str(number), image_id_of(number)) for number in (1, 2)])
            log.append(decision("gold", image_id_of(0), queue="gold"))
    summary = run_consensus(workspace)
    assert (summary.n_by_verdict["out"], summary.n_by_verdict["open"], summary.n_gold) == (2, 0, 1)
    assert summary.standstill.lines() == []
    assert run(["consensus", "--workspace", str(tmp_path)]) == 0
    assert "1 gold images are under review: they are asked as gold" in capsys.readouterr().out
    assert progress_lines(workspace)[-1].startswith("1 gold images are under review")


def test_images_that_nobody_can_answer_are_named_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    skipped, seen, waits = map(image_id_of, range(3))
    workspace = answered(
        tmp_path,
        {
            "ann": [decision("1", skipped, "skip"), decision("2", seen)],
            "ben": [decision("1", skipped), decision("2", seen, queue="inspection"), decision("3", waits)],
        },
    )
    line = (
        "2 open images need another annotator: all who vote here have had them, 1 of them skipped by somebody "
        f"({skipped} by ann; {seen})"
    )
    assert run_consensus(workspace).standstill.unanswerable == {skipped: ("ann",), seen: ()}
    assert progress_lines(workspace)[-1] == line
    assert run(["consensus", "--workspace", str(tmp_path)]) == 0
    assert f"  {line}" in capsys.readouterr().out.splitlines()
