import json
from collections import Counter
from pathlib import Path

import pytest

import cli
from annotation.audit.plan import plan_audit
from annotation.audit.report import report_audit
from annotation.consensus import run_consensus
from annotation.decision_log import annotator_ids, log_path, read_decisions
from annotation.error_models import (
    CORNER_FACTOR,
    ERROR_MODELS,
    ErrorModel,
    SimulatedAnnotator,
    simulated_team,
)
from annotation.simulated import SimulationSummary, simulate_team
from manifests import schema
from manifests.audit_design import Goal
from manifests.build import build_manifest
from manifests.errors import InputError
from manifests.workspace import Workspace
from tests.annotation_workspace import image_id_of, make_workspace, shown_classes_of
from tests.simulated_world import SimulatedWorld, make_world

FAULTLESS, FALLIBLE = ErrorModel(0, 0, 0), ErrorModel(0.4, 0.1, 0.02)


def write_truth(path: Path, rows: list[tuple[int, str, int | None, str]]) -> Path:
    lines = [
        f"{image_id_of(number)},{truth},{'' if class_index is None else class_index},{kind}"
        for number, truth, class_index, kind in rows
    ]
    path.write_text("image_id,truth,class_index,kind\n" + "\n".join(lines) + "\n")
    return path


def simulate_alike(
    workspace: Workspace, truth_path: Path, model: ErrorModel, *, n_annotators: int = 2, seed: int = 0
) -> SimulationSummary:
    """Let annotators answer who all have one error model: ``simulated-1``, ``simulated-2``, ..."""
    team = [SimulatedAnnotator(f"simulated-{number}", model) for number in range(1, n_annotators + 1)]
    return simulate_team(workspace, truth_path, team, seed=seed)


def answers_of(workspace: Workspace, annotator_id: str = "simulated-1") -> list[tuple[str, int | None]]:
    decisions = sorted(read_decisions(log_path(workspace, annotator_id)), key=lambda decision: decision.image_id)
    return [(decision.answer, decision.class_index) for decision in decisions]


def test_without_errors_the_answers_are_the_truth(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, n_review=3)
    shown = shown_classes_of(0)[4]
    truth = write_truth(tmp_path / "t.csv", [(0, "in", shown, ""), (1, "out", None, ""), (2, "mixed", None, "")])
    simulate_alike(workspace, truth, FAULTLESS)
    assert answers_of(workspace) == [("in", shown), ("out", None), ("difficult", None)]


def test_class_that_is_not_shown_is_answered_out(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, n_review=1)
    not_shown = 11
    assert not_shown not in shown_classes_of(0)
    simulate_alike(workspace, write_truth(tmp_path / "t.csv", [(0, "in", not_shown, "")]), FAULTLESS)
    assert answers_of(workspace) == [("out", None)]


def test_logs_say_that_they_are_simulated_and_no_annotator_answers_twice(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, n_review=4)
    truth = write_truth(tmp_path / "t.csv", [(number, "out", None, "") for number in range(4)])
    assert sum(simulate_alike(workspace, truth, FALLIBLE, n_annotators=3).n_by_answer.values()) == 12
    assert simulate_alike(workspace, truth, FALLIBLE, n_annotators=3).n_by_answer == {}
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
        simulate_alike(workspace, write_truth(tmp_path / "t.csv", rows), FALLIBLE, seed=seed)
        written.append(log_path(workspace, "simulated-2").read_bytes())
    assert written[0] == written[1] != written[2]


def test_interrupted_simulation_goes_on_to_the_same_answers(tmp_path: Path) -> None:
    rows = [(number, "in", shown_classes_of(number)[0], "") for number in range(6)]
    truth = write_truth(tmp_path / "t.csv", rows)
    whole, cut = make_workspace(tmp_path / "whole"), make_workspace(tmp_path / "cut")
    for workspace in (whole, cut):
        simulate_alike(workspace, truth, FALLIBLE)
    path = log_path(cut, "simulated-1")
    path.write_bytes(path.read_bytes()[:-400])
    simulate_alike(cut, truth, FALLIBLE)
    assert path.read_bytes() == log_path(whole, "simulated-1").read_bytes()


def test_error_rates_are_those_of_the_model(tmp_path: Path) -> None:
    n_each, model = 400, ErrorModel(miss_rate=0.1, false_in_rate=0.025, difficult_rate=0)
    kinds = ["", "corner", "out"]
    workspace = make_workspace(tmp_path, n_review=3)
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in kinds}
    truth = write_truth(
        tmp_path / "t.csv",
        [(0, "in", shown_classes_of(0)[0], ""), (1, "in", shown_classes_of(1)[0], "corner"), (2, "out", None, "")],
    )
    simulate_alike(workspace, truth, model, n_annotators=n_each)
    for number in range(1, n_each + 1):
        for kind, (answer, _) in zip(kinds, answers_of(workspace, f"simulated-{number}"), strict=True):
            counts[kind][answer] += 1
    # Four standard deviations of a binomial share.
    expected = {"": 0.1, "corner": 0.1 * CORNER_FACTOR, "out": 0.025}
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
        simulate_alike(workspace, tmp_path / "t.csv", FAULTLESS)
    assert annotator_ids(workspace) == []


def test_rate_that_is_no_share_is_refused() -> None:
    with pytest.raises(InputError, match="miss_rate: expected a share"):
        ErrorModel(1.5, 0, 0)


def rate(answers: dict[str, str], truth_of: dict[str, str], truth: str, answer: str) -> float:
    chosen = [given for image_id, given in answers.items() if truth_of[image_id] == truth]
    return sum(given == answer for given in chosen) / len(chosen)


def test_kinds_of_annotators_err_as_stated(tmp_path: Path) -> None:
    world = make_world(tmp_path, n_images=1200, share_in=0.5)
    world.answer("careful,hasty,always-ood", with_gold=False)
    for annotator_id in annotator_ids(world.workspace):
        model = ERROR_MODELS[annotator_id.removeprefix("simulated-").removesuffix("-1")]
        decisions = read_decisions(log_path(world.workspace, annotator_id))
        answers = {decision.image_id: decision.answer for decision in decisions}
        decided = 1 - model.difficult_rate
        # Four standard deviations of a share of 550 or more.
        found = rate(answers, world.truth_of, "in", "out"), rate(answers, world.truth_of, "out", "in")
        assert found[0] == pytest.approx(model.miss_rate * decided, abs=0.065)
        assert found[1] == pytest.approx(model.false_in_rate * decided, abs=0.035)
        least, most = model.seconds
        assert all(least <= decision.seconds <= most for decision in decisions)


def test_colluding_annotator_copies_the_errors_of_the_one_before_on_gold_too(tmp_path: Path) -> None:
    world = make_world(tmp_path, n_images=200, share_in=0.5, n_gold=100)
    world.answer("careful,hasty,colluding,colluding")
    answers = {
        name: [
            (decision.queue, decision.image_id, decision.answer, decision.class_index)
            for decision in read_decisions(log_path(world.workspace, name))
        ]
        for name in annotator_ids(world.workspace)
    }
    assert answers["simulated-colluding-1"] == answers["simulated-colluding-2"] == answers["simulated-hasty-1"]
    assert answers["simulated-hasty-1"] != answers["simulated-careful-1"]
    assert Counter(queue for queue, *_ in answers["simulated-hasty-1"]) == {"first": 200, "gold": 100}


def test_gold_is_answered_by_its_own_truth_and_once(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, n_review=3)
    shown = shown_classes_of(2)[0]
    truth = write_truth(tmp_path / "t.csv", [(number, "out", None, "") for number in range(3)])
    gold = [
        {"image_id": image_id_of(1), "answer": "in", "class_index": None, "note": None},
        {"image_id": image_id_of(2), "answer": "in", "class_index": shown, "note": None},
    ]
    workspace.write(schema.GOLD, gold)
    team = [SimulatedAnnotator("simulated-sure-1", ErrorModel(0, 0, 0))]
    simulate_team(workspace, truth, team)
    assert simulate_team(workspace, truth, team, with_gold=True).n_by_answer == {"in": 2}
    assert simulate_team(workspace, truth, team, with_gold=True).n_by_answer == {}
    decisions = read_decisions(log_path(workspace, "simulated-sure-1"))
    on_gold = {decision.image_id: decision.class_index for decision in decisions if decision.queue == "gold"}
    assert on_gold == {image_id_of(1): min(shown_classes_of(1)), image_id_of(2): shown}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--annotators", "colluding"], "'colluding' copies the one before it, and stands first"),
        (["--annotators", "careful,perfect"], "hasty, always-ood, all-knowing, colluding; found 'perfect'"),
        (["--gold"], "--gold: there are no gold images here"),
        (["--queue", "audit"], "--queue audit: there is no audit here: run 'audit plan' first"),
        (["--queue", "dispute"], "--queue: expected first or audit, found 'dispute'"),
    ],
)
def test_command_refuses_what_it_cannot_simulate(
    tmp_path: Path, capsys: pytest.CaptureFixture, arguments: list[str], message: str
) -> None:
    workspace = make_workspace(tmp_path, n_review=1)
    truth = write_truth(tmp_path / "t.csv", [(0, "out", None, "")])
    command = ["simulate-annotators", "--truth", str(truth), "--workspace", str(workspace.root)]
    assert cli.run([*command, *arguments]) == 1
    assert message in capsys.readouterr().err
    assert not annotator_ids(workspace)


def test_an_all_knowing_annotator_finds_a_class_that_is_not_shown(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, n_review=3)
    assert 11 not in shown_classes_of(0)
    truth = write_truth(
        tmp_path / "t.csv", [(0, "in", 11, "corner"), (1, "out", None, ""), (2, "mixed", None, "")]
    )
    simulate_team(workspace, truth, simulated_team(["all-knowing"]))
    assert answers_of(workspace, "simulated-all-knowing-1") == [("in", 11), ("out", None), ("difficult", None)]


def audited_world(root: Path) -> SimulatedWorld:
    """A frozen set whose annotators call everything out, and the plan of an audit of all of it."""
    world = make_world(root, n_images=40, share_in=0.3)
    world.answer("always-ood,always-ood", with_gold=False)
    run_consensus(world.workspace)
    build_manifest(world.workspace, "set", "1.0.0")
    plan_audit(world.workspace, "set-1.0.0", Goal(0.01, 0.95))
    return world


def test_auditors_answer_the_audit_alone_and_nothing_that_they_have_seen(tmp_path: Path) -> None:
    world = audited_world(tmp_path)
    team = simulated_team(["always-ood", "all-knowing"])
    given = simulate_team(world.workspace, world.truth_path, team, queue="audit")
    n_in = Counter(world.truth_of.values())["in"]
    assert given.n_by_answer == {"in": n_in, "out": 40 - n_in}
    decisions = read_decisions(log_path(world.workspace, "simulated-all-knowing-1"))
    assert {(decision.queue, decision.guideline) for decision in decisions} == {("audit", "simulated")}
    assert {decision.image_id: decision.answer for decision in decisions} == world.truth_of
    assert simulate_team(world.workspace, world.truth_path, team, queue="audit").n_by_answer == {}
    certificate = report_audit(world.workspace).certificate
    assert certificate["n_defects"] == n_in
    assert certificate["n_auditors"] == 1


def test_an_interrupted_audit_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    logs = []
    for name in ("whole", "torn"):
        world = audited_world(tmp_path / name)
        team = simulated_team(["all-knowing"])
        simulate_team(world.workspace, world.truth_path, team, queue="audit")
        path = log_path(world.workspace, "simulated-all-knowing-1")
        if name == "torn":
            path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:7]))
            simulate_team(world.workspace, world.truth_path, team, queue="audit")
        logs.append(path.read_bytes())
    assert logs[0] == logs[1]
    assert logs[0].count(b"\n") == 40


def test_command_says_who_answered_what(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    workspace = make_workspace(tmp_path, n_review=2)
    truth = write_truth(tmp_path / "t.csv", [(number, "out", None, "") for number in range(2)])
    command = ["simulate-annotators", "--truth", str(truth), "--workspace", str(workspace.root)]
    assert cli.run([*command, "--annotators", "always-ood, always-ood"]) == 0
    names = "simulated-always-ood-1, simulated-always-ood-2"
    assert capsys.readouterr().out == f"simulate-annotators ({names}): out 4\n"


def test_gold_under_review_is_answered_as_gold_alone(tmp_path):
    world = make_world(tmp_path, n_images=20, share_in=0.3)
    gold = [{"image_id": f"{n:016x}", "answer": "out", "class_index": None, "note": None} for n in range(5)]
    world.workspace.write(schema.GOLD, gold)
    world.answer("careful")
    made = read_decisions(log_path(world.workspace, "simulated-careful-1"))
    assert {kept.image_id for kept in made if kept.queue == "gold"} == {f"{n:016x}" for n in range(5)}
    assert {kept.image_id for kept in made if kept.queue == "first"} == {f"{n:016x}" for n in range(5, 20)}
