import json
from collections import Counter
from pathlib import Path

import pytest

from annotation.decision_log import annotator_ids, log_path, read_decisions
from annotation.error_models import CORNER_FACTOR, FALSE_IN_FACTOR
from annotation.simulated import simulate
from manifests.errors import InputError
from manifests.workspace import Workspace
from tests.annotation_workspace import image_id_of, make_workspace, shown_classes_of


def write_truth(path: Path, rows: list[tuple[int, str, int | None, str]]) -> Path:
    lines = [
        f"{image_id_of(number)},{truth},{'' if class_index is None else class_index},{kind}"
        for number, truth, class_index, kind in rows
    ]
    path.write_text("image_id,truth,class_index,kind\n" + "\n".join(lines) + "\n")
    return path


def answers_of(workspace: Workspace, annotator_id: str = "simulated-1") -> list[tuple[str, int | None]]:
    decisions = sorted(read_decisions(log_path(workspace, annotator_id)), key=lambda decision: decision.image_id)
    return [(decision.answer, decision.class_index) for decision in decisions]


def test_without_errors_the_answers_are_the_truth(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, n_review=3)
    shown = shown_classes_of(0)[4]
    truth = write_truth(tmp_path / "t.csv", [(0, "in", shown, ""), (1, "out", None, ""), (2, "mixed", None, "")])
    simulate(workspace, truth, error_rate=0, difficult_rate=0)
    assert answers_of(workspace) == [("in", shown), ("out", None), ("difficult", None)]


def test_class_that_is_not_shown_is_answered_out(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, n_review=1)
    not_shown = 11
    assert not_shown not in shown_classes_of(0)
    simulate(
        workspace, write_truth(tmp_path / "t.csv", [(0, "in", not_shown, "")]), error_rate=0, difficult_rate=0
    )
    assert answers_of(workspace) == [("out", None)]


def test_logs_say_that_they_are_simulated_and_no_annotator_answers_twice(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, n_review=4)
    truth = write_truth(tmp_path / "t.csv", [(number, "out", None, "") for number in range(4)])
    assert sum(simulate(workspace, truth, n_annotators=3).n_by_answer.values()) == 12
    assert simulate(workspace, truth, n_annotators=3).n_by_answer == {}
    assert annotator_ids(workspace) == ["simulated-1", "simulated-2", "simulated-3"]
    for annotator_id in annotator_ids(workspace):
        rows = [json.loads(line) for line in log_path(workspace, annotator_id).read_text().splitlines()]
        assert {row["guideline"] for row in rows} == {"simulated"}
        assert {row["at"][:4] for row in rows} == {"2020"}


def test_equal_seeds_give_equal_bytes_and_other_seeds_do_not(tmp_path: Path) -> None:
    rows = [(number, "in", shown_classes_of(number)[0], "corner") for number in range(12)]
    written = []
    for place, seed in enumerate((0, 0, 1)):
        workspace = make_workspace(tmp_path / str(place), n_review=12)
        simulate(workspace, write_truth(tmp_path / "t.csv", rows), seed=seed, error_rate=0.2)
        written.append(log_path(workspace, "simulated-2").read_bytes())
    assert written[0] == written[1] != written[2]


def test_interrupted_simulation_goes_on_to_the_same_answers(tmp_path: Path) -> None:
    rows = [(number, "in", shown_classes_of(number)[0], "") for number in range(6)]
    truth = write_truth(tmp_path / "t.csv", rows)
    whole, cut = make_workspace(tmp_path / "whole"), make_workspace(tmp_path / "cut")
    for workspace in (whole, cut):
        simulate(workspace, truth, error_rate=0.4)
    path = log_path(cut, "simulated-1")
    path.write_bytes(path.read_bytes()[:-400])
    simulate(cut, truth, error_rate=0.4)
    assert path.read_bytes() == log_path(whole, "simulated-1").read_bytes()


def test_error_rates_are_those_of_the_model(tmp_path: Path) -> None:
    n_each, error_rate = 400, 0.1
    kinds = ["", "corner", "out"]
    workspace = make_workspace(tmp_path, n_review=3)
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in kinds}
    truth = write_truth(
        tmp_path / "t.csv",
        [(0, "in", shown_classes_of(0)[0], ""), (1, "in", shown_classes_of(1)[0], "corner"), (2, "out", None, "")],
    )
    simulate(workspace, truth, n_annotators=n_each, error_rate=error_rate, difficult_rate=0)
    for number in range(1, n_each + 1):
        for kind, (answer, _) in zip(kinds, answers_of(workspace, f"simulated-{number}"), strict=True):
            counts[kind][answer] += 1
    # Four standard deviations of a binomial share.
    expected = {"": error_rate, "corner": error_rate * CORNER_FACTOR, "out": error_rate * FALSE_IN_FACTOR}
    for kind, wrong in (("", "out"), ("corner", "out"), ("out", "in")):
        tolerance = 4 * (expected[kind] * (1 - expected[kind]) / n_each) ** 0.5
        assert counts[kind][wrong] / n_each == pytest.approx(expected[kind], abs=tolerance)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("image_id,truth\n", "columns .'class_index'. are missing"),
        ("image_id,truth,class_index\n", "3 are missing, first 0000000000000000"),
        ("image_id,truth,class_index\na,in,\n", "line 2: expected a truth, and a class index"),
        ("image_id,truth,class_index\na,out,\na,out,\n", "line 3: a stands twice"),
    ],
)
def test_unusable_truth_is_refused_in_words(tmp_path: Path, content: str, message: str) -> None:
    workspace = make_workspace(tmp_path, n_review=3)
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(InputError, match=message):
        simulate(workspace, tmp_path / "t.csv")
    assert annotator_ids(workspace) == []


def test_rate_that_is_no_share_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="miss_rate: expected a share"):
        simulate(Workspace(tmp_path), tmp_path / "t.csv", error_rate=1.5)
