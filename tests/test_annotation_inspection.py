import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotation.consensus import run_consensus
from annotation.decision_log import open_log
from annotation.inspection import draw_round, inspection_report, shared_out
from annotation.queues import open_queue
from annotation.rounds import read_rounds, round_path
from cli import run
from manifests import schema
from manifests.errors import InputError, TableError
from manifests.workspace import Workspace
from tests.annotation_workspace import decision, image_id_of, make_workspace


def say(
    workspace: Workspace, annotator_id: str, image_ids: list[str], answer: str = "out", **changes: object
) -> None:
    with open_log(workspace, annotator_id) as log:
        n_before = len(log.decisions)
        log.append_all(
            [
                decision(f"{annotator_id}-{n_before + place}", image_id, answer, **changes)
                for place, image_id in enumerate(image_ids)
            ]
        )


def agreed_workspace(root: Path, n_out: int = 9, n_in: int = 0) -> Workspace:
    """Two annotators agree: the first `n_out` pictures are out, the `n_in` after them in."""
    workspace = make_workspace(root, n_review=n_out + n_in)
    out, in_ = ([image_id_of(n) for n in numbers] for numbers in (range(n_out), range(n_out, n_out + n_in)))
    for name in ("ann", "ben"):
        say(workspace, name, out)
        say(workspace, name, in_, "in")
    run_consensus(workspace)
    return workspace


def verdicts(workspace: Workspace) -> dict[str, tuple[str, str]]:
    return {
        row["image_id"]: (row["verdict"], row["source"]) for row in workspace.read(schema.VERDICTS).to_pylist()
    }


def test_round_is_drawn_over_verdicts_and_thirds_of_risk(tmp_path: Path) -> None:
    workspace = agreed_workspace(tmp_path, 6, 3)
    drawn = draw_round(workspace, 6, seed=1)
    assert [(stratum.name, len(stratum.n_votes), len(stratum.sample)) for stratum in drawn.strata] == [
        ("in/risk-high", 1, 1), ("in/risk-low", 1, 1), ("in/risk-middle", 1, 1),
        ("out/risk-high", 2, 1), ("out/risk-low", 2, 1), ("out/risk-middle", 2, 1),
    ]  # fmt: skip
    by_name = {stratum.name: stratum for stratum in drawn.strata}
    # Risks of the numbers 0 to 5: 0.25, 0.5, 0.75, 0.5, 1.0, 0.125.
    assert set(by_name["out/risk-high"].n_votes) == {image_id_of(2), image_id_of(4)}
    assert set(by_name["out/risk-low"].n_votes) == {image_id_of(5), image_id_of(0)}
    assert set(by_name["out/risk-low"].n_votes.values()) == {2}
    assert read_rounds(workspace) == [drawn]


def test_round_does_not_depend_on_rows_but_on_the_seed_and_is_drawn_once(tmp_path: Path) -> None:
    bytes_of = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        workspace = agreed_workspace(tmp_path / name, 30)
        draw_round(workspace, 10, seed=seed)
        bytes_of.append(round_path(workspace, 1).read_bytes())
        assert draw_round(workspace, 10, seed=seed) == read_rounds(workspace)[0]
        assert len(read_rounds(workspace)) == 1
        with pytest.raises(InputError, match=r"round-1\.json: this round is not finished"):
            draw_round(workspace, 11, seed=seed)
    assert bytes_of[0] == bytes_of[1]
    assert json.loads(bytes_of[0])["strata"] != json.loads(bytes_of[2])["strata"]


def test_inspectors_are_blind_and_have_not_voted(tmp_path: Path) -> None:
    workspace = agreed_workspace(tmp_path)
    drawn = draw_round(workspace, 4)
    for name in ("ann", "ben"):
        assert open_queue(workspace, name, "inspection").n_left == 0
    queue = open_queue(workspace, "cem", "inspection")
    assert {item.image_id for item in queue.upcoming(9)} == set(drawn.sample)
    say(workspace, "dan", drawn.sample[:1], queue="inspection")
    assert open_queue(workspace, "cem", "inspection").n_left == 3


def test_queue_draws_a_round_where_none_is_open(tmp_path: Path) -> None:
    workspace = agreed_workspace(tmp_path)
    assert open_queue(workspace, "cem", "inspection").n_left == 0
    assert open_queue(workspace, "cem", "inspection", sample=3).n_left == 3
    assert open_queue(workspace, "dan", "inspection", sample=5).n_left == 3


def test_inspector_who_disagrees_makes_a_dispute_until_a_ruling(tmp_path: Path) -> None:
    workspace = agreed_workspace(tmp_path)
    image_id, *others = draw_round(workspace, 9, max_defects=1.0).sample
    say(workspace, "cem", [image_id], "in", queue="inspection")
    say(workspace, "cem", others, "out", queue="inspection")
    run_consensus(workspace)
    assert verdicts(workspace)[image_id] == ("disputed", "inspection")
    assert verdicts(workspace)[others[0]] == ("out", "consensus")
    assert [item.image_id for item in open_queue(workspace, "dan", "dispute").upcoming(9)] == [image_id]
    say(workspace, "dan", [image_id], "in", queue="dispute")
    run_consensus(workspace)
    assert verdicts(workspace)[image_id] == ("in", "adjudication")


def test_failed_stratum_needs_one_vote_more_and_comes_to_who_has_not_seen_it(tmp_path: Path) -> None:
    workspace = agreed_workspace(tmp_path)
    drawn = draw_round(workspace, 9, max_defects=0.2)
    bad, good = drawn.strata[0], drawn.strata[1:]
    say(workspace, "cem", [bad.sample[0]], "in", queue="inspection")
    say(
        workspace,
        "cem",
        [*bad.sample[1:], *(one for stratum in good for one in stratum.sample)],
        queue="inspection",
    )
    summary = run_consensus(workspace)
    # One of three denied: that one is disputed, the others wait for a third vote.
    assert summary.n_sent_back == 2
    assert Counter(verdicts(workspace).values()) == {
        ("out", "consensus"): 6, ("open", "consensus"): 2, ("disputed", "inspection"): 1,
    }  # fmt: skip
    for name in ("ann", "ben", "cem"):
        assert open_queue(workspace, name).n_left == 0
    assert {item.image_id for item in open_queue(workspace, "dan").upcoming(9)} == set(bad.n_votes)
    say(workspace, "dan", list(bad.n_votes))
    run_consensus(workspace)
    assert Counter(verdicts(workspace).values()) == {("out", "consensus"): 8, ("disputed", "inspection"): 1}
    # The adjudicator finds that the inspector was wrong: no defect, so nothing was to be sent back.
    say(workspace, "eve", [bad.sample[0]], queue="dispute")
    run_consensus(workspace)
    assert set(verdicts(workspace).values()) == {("out", "consensus"), ("out", "adjudication")}
    assert "failed" not in inspection_report(workspace)


def test_report_gives_rate_and_interval_by_stratum(tmp_path: Path) -> None:
    workspace = agreed_workspace(tmp_path, 30)
    drawn = draw_round(workspace, 30, max_defects=0.15)
    say(workspace, "cem", list(drawn.strata[0].sample[:1]), "difficult", queue="inspection")
    say(workspace, "cem", [*drawn.strata[0].sample[1:], *drawn.strata[1].sample], queue="inspection")
    lines = [" ".join(line.split()) for line in inspection_report(workspace).splitlines()]
    assert lines[0] == "round 1 (seed 0; a stratum fails above 15.00% of its sample):"
    # Clopper & Pearson's interval of 1 of 10: 0.25 % to 44.50 %; of 0 of 10: 0 to 30.85 %.
    assert "out/risk-high 10 10 10 1 10.00% 0.25% to 44.50% passed" in lines
    assert "out/risk-low 10 10 10 0 0.00% 0.00% to 30.85% passed" in lines
    assert "out/risk-middle 10 10 0 0 - 0.00% to 100.00% open" in lines


def test_status_tells_answers_by_queue_and_the_rounds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workspace = agreed_workspace(tmp_path, 3)
    drawn = draw_round(workspace, 3, max_defects=0.0)
    say(workspace, "cem", drawn.sample[:2], "in", queue="inspection")
    assert run(["status", "--workspace", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "queue first: 3 images answered (ann 3, ben 3)" in printed
    assert "queue inspection: 2 images answered (cem 2)" in printed
    assert "inspection round 1: 2 of 3 inspected, 2 defects, 2 of 3 strata failed" in printed


def test_commands_draw_and_report_a_round(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    agreed_workspace(tmp_path, 3)
    assert run(["inspect", "--workspace", str(tmp_path)]) == 1
    assert "either --sample N or --report" in capsys.readouterr().err
    for _ in range(2):
        assert run(["inspect", "--sample", "3", "--workspace", str(tmp_path)]) == 0
        assert "round 1: out/risk-high 1, out/risk-low 1, out/risk-middle 1" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "provenance").glob("inspect*")] == ["inspect.1.json"]
    assert run(["inspect", "--report", "--workspace", str(tmp_path)]) == 0
    assert "out/risk-low" in capsys.readouterr().out


def test_second_round_looks_at_others_and_counts_votes_given_since(tmp_path: Path) -> None:
    workspace = agreed_workspace(tmp_path)
    first = draw_round(workspace, 4)
    say(workspace, "cem", first.sample, queue="inspection")
    extra = next(image_id_of(n) for n in range(9) if image_id_of(n) not in first.sample)
    say(workspace, "dan", [extra])
    run_consensus(workspace)
    second = draw_round(workspace, 100)
    assert second.number == 2
    assert not set(first.sample) & set(second.sample)
    assert len(second.sample) == 5
    assert {n for stratum in second.strata for image_id, n in stratum.n_votes.items() if image_id == extra} == {3}
    say(workspace, "cem", second.sample, queue="inspection")
    with pytest.raises(InputError, match="no agreed image that has not been drawn"):
        draw_round(workspace, 1)


def test_image_no_longer_under_review_holds_up_no_round(tmp_path: Path) -> None:
    workspace = agreed_workspace(tmp_path, 3)
    drawn = draw_round(workspace, 3)
    rows = workspace.read(schema.SCREEN).to_pylist()
    rows[0] |= {"status": "dropped", "reason": "duplicate"}
    workspace.write(schema.SCREEN, rows)
    say(workspace, "cem", [one for one in drawn.sample if one != image_id_of(0)], queue="inspection")
    assert open_queue(workspace, "dan", "inspection").n_left == 0
    assert "open" not in inspection_report(workspace)


def test_bad_arguments_and_damaged_rounds_are_refused(tmp_path: Path) -> None:
    workspace = agreed_workspace(tmp_path, 3)
    with pytest.raises(InputError, match="sample of 1 or more"):
        draw_round(workspace, 0)
    with pytest.raises(InputError, match="there is no round yet"):
        inspection_report(workspace)
    draw_round(workspace, 3)
    round_path(workspace, 1).write_text("{}")
    with pytest.raises(TableError, match=r"round-1\.json: not a round"):
        run_consensus(workspace)


@given(n=st.integers(1, 60), sizes=st.lists(st.integers(0, 20), min_size=1, max_size=9))
def test_sample_is_shared_out_whole_and_in_proportion(n: int, sizes: list[int]) -> None:
    given_out = shared_out(n, sizes)
    assert sum(given_out) == min(n, sum(sizes))
    assert all(0 <= got <= size for got, size in zip(given_out, sizes, strict=True))
    n_filled = sum(size > 0 for size in sizes)
    if min(n, sum(sizes)) >= n_filled:
        assert all(got >= 1 for got, size in zip(given_out, sizes, strict=True) if size)


def test_sample_shared_out_by_hand() -> None:
    # One each, then 7 over 5, 2, 0: 5 and 2. And 3 over 9, 9 (less one each: 1 over 8, 8): the first of equals.
    assert shared_out(10, [6, 3, 1]) == [6, 3, 1]
    assert shared_out(3, [9, 9]) == [2, 1]
    assert shared_out(2, [1, 9, 5]) == [0, 1, 1]


def test_skipped_image_comes_to_its_inspector_again_last_and_to_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = agreed_workspace(tmp_path)
    drawn = draw_round(workspace, 4)
    queue = open_queue(workspace, "cem", "inspection")
    first = queue.upcoming(1)[0].image_id
    say(workspace, "cem", [first], "skip", queue="inspection")
    again = [item.image_id for item in open_queue(workspace, "cem", "inspection").upcoming(9)]
    assert (len(again), again[-1]) == (4, first)
    say(workspace, "cem", [one for one in drawn.sample if one != first], queue="inspection")
    assert [item.image_id for item in open_queue(workspace, "cem", "inspection").upcoming(9)] == [first]
    assert [item.image_id for item in open_queue(workspace, "dan", "inspection").upcoming(9)] == [first]
    said = "1 images wait for somebody who has not voted on them; skipped: cem 1"
    with pytest.raises(InputError, match=f"not finished; inspect it first: {said}"):
        draw_round(workspace, 5)
    assert run(["status", "--workspace", str(tmp_path)]) == 0
    assert said in capsys.readouterr().out
    say(workspace, "cem", [first], queue="inspection")
    assert open_queue(workspace, "dan", "inspection").n_left == 0


def test_defect_needs_more_than_half_of_the_rulings_to_be_none(tmp_path: Path) -> None:
    workspace = agreed_workspace(tmp_path, 3)
    image_id, *others = draw_round(workspace, 3, max_defects=0.0).sample
    say(workspace, "cem", [image_id], "in", queue="inspection")
    say(workspace, "cem", others, queue="inspection")
    failed = []
    for name, ruling in (("eva", "out"), ("fay", "in"), ("gus", "out")):
        say(workspace, name, [image_id], ruling, queue="dispute")
        failed.append("failed" in inspection_report(workspace))
    assert failed == [False, True, False]
