"""The use of evidence masks: what of it stands in the log, and what report, consensus and audit say of it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binomtest

from annotation.audit.lines import report_lines
from annotation.audit.plan import plan_audit
from annotation.audit.report import report_audit
from annotation.bench.made_masks import make_masks
from annotation.catalogue import Catalogue
from annotation.consensus import run_consensus
from annotation.decision_log import DecisionLog, log_path, open_log, read_decisions
from annotation.decisions import Decision, decision_from_row
from annotation.error_models import simulated_team
from annotation.evidence_masks import EvidenceMasks
from annotation.judging import JudgingSession
from annotation.mask_use import MaskUse
from annotation.merge import check_logs, merge_logs
from annotation.queues import open_queue
from annotation.report.answers import answers_section
from annotation.report.checks import checks_section
from annotation.report.team import read_team
from annotation.simulated import simulate_team
from annotation.statistics.mask_figures import NO_PROOF, mask_figures, mask_lines
from annotation.verdicts import ConsensusRule
from manifests import schema
from manifests.audit_design import Goal
from manifests.errors import InputError, TableError
from manifests.report.parts import Table, Text
from manifests.workspace import Workspace
from tests.annotation_workspace import decision, image_id_of, make_workspace, shown_classes_of
from tests.audit_world import certificate, drawn, frozen_world
from tests.simulated_world import make_world

FIRST, SECOND = image_id_of(4), image_id_of(2)
"""By risk: see `risk_of`."""

SHOWN = tuple(shown_classes_of(4))
OPENED, CLOSED, NONE = MaskUse("opened", (3,)), MaskUse("closed"), MaskUse("none")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Six pictures under review, with masks of all classes shown."""
    made = make_workspace(tmp_path / "ws")
    rows = made.read(schema.DOWNLOADS).to_pylist()
    made.write(schema.DOWNLOADS, [row | {"sha256": "0" * 64} for row in rows])
    make_masks(made, 0)
    return made


@pytest.fixture
def log(workspace: Workspace) -> Iterator[DecisionLog]:
    with open_log(workspace, "ann") as opened:
        yield opened


def session_on(log: DecisionLog, workspace: Workspace, queue: str = "first", **settings: Any) -> JudgingSession:
    opened = open_queue(workspace, log.annotator_id, queue, **settings)
    masks = EvidenceMasks.read(workspace, opened.plan.items.values(), announce=lambda line: None)
    return JudgingSession(log, opened, Catalogue({}, {}), masks)


def give(session: JudgingSession, name: str, image_id: str = FIRST, answer: str = "out", **more: Any) -> str:
    row = {"decision_id": name, "image_id": image_id, "answer": answer, "class_index": None, "seconds": 1.0}
    refused: str = session.answer(row | more)["refused"]
    return refused


def take_back(session: JudgingSession, name: str, image_id: str = FIRST) -> None:
    assert session.undo({"decision_id": name, "image_id": image_id, "seconds": 0})["refused"] == ""


class TestLine:
    def test_line_with_masks_is_read_back_and_has_a_version(self, tmp_path: Path) -> None:
        given = [decision("1", masks=OPENED), decision("2", "b", "skip", masks=CLOSED), decision("3", "c")]
        with open_log(Workspace(tmp_path), "ann") as log:
            log.append_all(given)
        lines = log_path(Workspace(tmp_path), "ann").read_bytes().splitlines()
        assert json.loads(lines[0])["masks"] == {"version": 1, "state": "opened", "classes": [3]}
        assert json.loads(lines[1])["masks"] == {"version": 1, "state": "closed", "classes": []}
        assert "masks" not in json.loads(lines[2])
        assert read_decisions(log_path(Workspace(tmp_path), "ann")) == given

    @pytest.mark.parametrize(
        ("masks", "words"),
        [
            ({"version": 2, "state": "opened", "classes": [3]}, "of version 1, is of 2"),
            ({"version": 1, "state": "opened", "classes": [3], "more": 1}, "an object of classes, state, version"),
            ({"state": "none", "classes": []}, "an object of classes, state, version"),
            ({"version": 1, "state": "opened", "classes": 3}, "an object of classes, state, version"),
            (["opened"], "an object of classes, state, version"),
            (None, "an object of classes, state, version"),
            ({"version": 1, "state": "seen", "classes": []}, "masks should be one of"),
            ({"version": 1, "state": ["opened"], "classes": []}, "masks should be one of"),
            ({"version": 1, "state": "closed", "classes": [3]}, "masks should be one of"),
            ({"version": 1, "state": "opened", "classes": [4]}, "with classes that are shown"),
            ({"version": 1, "state": "opened", "classes": [3, 3]}, "with classes that are shown"),
            ({"version": 1, "state": "opened", "classes": [[3]]}, "with classes that are shown"),
        ],
    )
    def test_line_that_does_not_follow_the_schema_is_refused(self, masks: object, words: str) -> None:
        with pytest.raises(InputError, match=words):
            decision_from_row(decision("1").to_row() | {"masks": masks})

    def test_an_undo_is_no_answer_and_says_nothing_of_masks(self) -> None:
        with pytest.raises(InputError, match="none with 'undo'"):
            decision("1", "a", "undo", masks=NONE)

    def test_logs_with_and_without_masks_merge_and_verify(self, tmp_path: Path) -> None:
        here, there = make_workspace(tmp_path / "here"), make_workspace(tmp_path / "there")
        old = [decision("1", FIRST), decision("2", SECOND)]
        for workspace, given in ((here, old), (there, [*old, decision("3", image_id_of(0), masks=OPENED)])):
            with open_log(workspace, "ann") as log:
                log.append_all(given)
        assert merge_logs(here, [there.root]).n_added == {"ann": 1}
        assert read_decisions(log_path(here, "ann"))[2].masks == OPENED
        assert [check.problem for check in check_logs(here)] == [None]
        changed = log_path(here, "ann").read_bytes().replace(b'"opened"', b'"hidden"')
        log_path(here, "ann").write_bytes(changed)
        with pytest.raises(TableError, match="line 3: decision: masks should be one of"):
            read_decisions(log_path(here, "ann"))


class TestSession:
    def test_answer_says_which_masks_were_drawn_in_the_order_shown(
        self, workspace: Workspace, log: DecisionLog
    ) -> None:
        session = session_on(log, workspace)
        give(session, "1", masks_seen=[SHOWN[7], SHOWN[2]])
        give(session, "2", SECOND, "skip", masks_seen=[])
        assert [kept.masks for kept in log.decisions] == [MaskUse("opened", (SHOWN[2], SHOWN[7])), CLOSED]

    @pytest.mark.parametrize("told", [[999], [SHOWN[0], SHOWN[0]], [True], "34", {"3": 1}, [[SHOWN[0]]], 4])
    def test_what_no_page_would_say_is_refused_and_nothing_is_stored(
        self, workspace: Workspace, log: DecisionLog, told: object
    ) -> None:
        session = session_on(log, workspace)
        assert give(session, "1", masks_seen=told).startswith("masks_seen: expected classes shown beside")
        assert log.decisions == []
        give(session, "2", masks_seen=[])
        assert log.decisions[0].masks == CLOSED

    def test_a_page_that_hides_what_was_sent_to_it_is_not_believed(
        self, workspace: Workspace, log: DecisionLog
    ) -> None:
        session = session_on(log, workspace)
        assert len(session.masks({"image_id": FIRST})) == 10
        session.masks({"image_id": SECOND})
        give(session, "1", masks_seen=[])
        give(session, "2", SECOND)
        assert [kept.masks for kept in log.decisions] == [MaskUse("opened"), MaskUse("opened")]

    def test_a_page_of_an_older_version_leaves_it_open(self, workspace: Workspace, log: DecisionLog) -> None:
        give(session_on(log, workspace), "1")
        assert log.decisions[0].masks is None

    def test_what_was_seen_before_an_answer_was_taken_back_counts_for_the_next(self, workspace: Workspace) -> None:
        with open_log(workspace, "ann") as log:
            session = session_on(log, workspace)
            give(session, "1", masks_seen=[SHOWN[1]])
            take_back(session, "2")
            give(session, "3", answer="difficult", masks_seen=[SHOWN[5]])
            take_back(session, "4")
        # A new process and a page that remembers nothing: the log does.
        with open_log(workspace, "ann") as log:
            give(session_on(log, workspace), "5", answer="skip", masks_seen=[])
            both = MaskUse("opened", (SHOWN[1], SHOWN[5]))
            assert [kept.masks for kept in log.decisions] == [
                MaskUse("opened", (SHOWN[1],)), None, both, None, both
            ]  # fmt: skip

    def test_a_request_sent_again_is_stored_once_whatever_it_says_of_masks(
        self, workspace: Workspace, log: DecisionLog
    ) -> None:
        session = session_on(log, workspace)
        for told in ([], [SHOWN[1]]):
            assert give(session, "1", masks_seen=told) == ""
        assert [kept.masks for kept in log.decisions] == [CLOSED]

    def test_gold_has_masks_as_all_others(self, workspace: Workspace, log: DecisionLog) -> None:
        workspace.write(schema.GOLD, [{"image_id": SECOND, "answer": "out", "class_index": None, "note": None}])
        items = session_on(log, workspace, gold_share=0.5).state()["items"]
        assert [item["has_masks"] for item in items] == [True] * 4

    def test_an_audit_offers_no_masks_and_gives_none_that_are_asked_for(
        self, workspace: Workspace, log: DecisionLog
    ) -> None:
        workspace.write(schema.GOLD, [{"image_id": SECOND, "answer": "out", "class_index": None, "note": None}])
        rows = [{"image_id": one, "audit": "set-1.0.0", "stratum": None} for one in (FIRST, image_id_of(0))]
        workspace.write(schema.audit_table("set-1.0.0"), rows)
        session = session_on(log, workspace, "audit", gold_share=0.5)
        items = session.state()["items"]
        assert SECOND in {item["image_id"] for item in items}
        assert {item["has_masks"] for item in items} == {False}
        assert session.masks({"image_id": FIRST}) == []
        give(session, "1", masks_seen=[])
        assert (log.decisions[0].queue, log.decisions[0].masks) == ("audit", NONE)


def test_simulated_annotators_are_offered_no_masks(tmp_path: Path) -> None:
    world = make_world(tmp_path, n_images=4, share_in=0.5)
    simulate_team(world.workspace, world.truth_path, simulated_team(["careful"]))
    (path,) = world.workspace.decisions_dir.glob("*.jsonl")
    assert [kept.masks for kept in read_decisions(path)] == [NONE] * 4


# Three annotators, as number of the picture: answer, seconds, masks.
GIVEN: dict[str, dict[int, tuple[str, float, MaskUse | None]]] = {
    "ann": {
        0: ("out", 2, OPENED), 1: ("in", 10, OPENED), 2: ("out", 4, OPENED), 3: ("out", 1, CLOSED),
        4: ("skip", 9, OPENED),
    },
    "ben": {0: ("out", 3, CLOSED), 1: ("out", 5, CLOSED), 2: ("difficult", 6, OPENED), 3: ("out", 1, NONE)},
    "cem": {0: ("out", 7, None), 5: ("out", 8, None)},
}  # fmt: skip


def decisions_of(name: str) -> dict[str, Decision]:
    return {
        image_id_of(number): decision(f"{name}-{number}", image_id_of(number), word, seconds=seconds, masks=masks)
        for number, (word, seconds, masks) in GIVEN[name].items()
    }


def votes() -> dict[str, dict[str, Decision]]:
    return {
        name: {image_id: made for image_id, made in decisions_of(name).items() if made.answer != "skip"}
        for name in GIVEN
    }


@pytest.fixture
def judged(tmp_path: Path) -> Workspace:
    workspace = make_workspace(tmp_path / "judged")
    for name in GIVEN:
        with open_log(workspace, name) as log:
            log.append_all(list(decisions_of(name).values()))
    return workspace


class TestFigures:
    def test_each_state_has_its_answers_seconds_and_images_counted_by_hand(self) -> None:
        opened, closed, none, unknown = mask_figures(votes())
        assert [one.state for one in (opened, closed, none, unknown)] == [
            "opened",
            "closed",
            "none",
            "not recorded",
        ]
        assert opened.answers == {"out": 2, "in": 1, "difficult": 1}
        # Of 2, 4, 6, 10: the middle, and 0.7 of the way from the third to the last.
        assert (opened.median_s, opened.p90_s) == (5, pytest.approx(8.8))
        # Pictures 0, 1 and 2, of which 0 alone is agreed; 3 is the only one that nobody opened.
        assert (opened.agreement.n_hits, opened.agreement.n_all) == (1, 3)
        assert (closed.agreement.n_hits, closed.agreement.n_all) == (1, 1)
        assert (none.agreement.n_all, unknown.agreement.n_all) == (0, 0)
        exact = binomtest(1, 3).proportion_ci(method="exact")
        assert (opened.agreement.low, opened.agreement.high) == pytest.approx((exact.low, exact.high))
        assert (unknown.median_s, none.p90_s) == (7.5, 1)

    def test_nothing_is_said_where_nobody_opened_a_mask(self, judged: Workspace) -> None:
        assert mask_figures({name: given for name, given in votes().items() if name == "cem"}) == ()
        assert mask_lines(()) == []
        for name in ("ann", "ben"):
            log_path(judged, name).unlink()
        texts = [part.text for part in answers_section(read_team(judged)).parts if isinstance(part, Text)]
        assert not any("masks" in text for text in texts)

    def test_consensus_has_the_figures_of_those_who_count_and_records_how_many(self, judged: Workspace) -> None:
        summary = run_consensus(judged, ConsensusRule(set_aside=("ann",)))
        assert [one.answers.total() for one in summary.masks] == [1, 2, 1, 2]
        counts = judged.read_record("consensus", "counts")
        assert {name: n for name, n in counts.items() if name.startswith("votes_masks")} == {
            "votes_masks_opened": 1, "votes_masks_closed": 2, "votes_masks_none": 1, "votes_masks_not_recorded": 2
        }  # fmt: skip
        lines = mask_lines(summary.masks)
        assert lines[1].split() == ["opened", "1", "0.0%", "0.0%", "100.0%", "6.0", "6.0", "0", "-", "-"]
        assert lines[-1].strip() == NO_PROOF

    def test_report_shows_the_table_and_says_that_it_is_no_proof(self, judged: Workspace) -> None:
        with open_log(judged, "dan") as log:
            log.append(decision("ruling", image_id_of(1), "out", queue="dispute", masks=OPENED))
        parts = answers_section(read_team(judged)).parts
        told, table, proof = parts[-3:]
        assert isinstance(told, Text)
        assert told.text.endswith("by queue: first 4, dispute 1.")
        assert isinstance(table, Table)
        assert table.rows[0][:8] == ("opened", "4", "25.0%", "50.0%", "25.0%", "5.0", "8.8", "3")
        assert proof == Text(NO_PROOF)


class TestAudit:
    def test_a_certificate_states_answers_with_masks_opened_and_without_any_says_nothing(
        self, tmp_path: Path
    ) -> None:
        space = frozen_world(tmp_path / "ws")
        plan_audit(space, None, Goal(0.02, 0.95, 0))
        sample = drawn(space)
        with open_log(space, "ann") as log:
            log.append_all([decision(one, one, queue="audit", masks=NONE) for one in sample[1:]])
            log.append(decision(sample[0], sample[0], queue="audit", masks=OPENED))
        report = report_audit(space)
        assert certificate(space)["masks_opened"] == [sample[0]]
        texts = [part.text for part in checks_section(read_team(space)).parts if isinstance(part, Text)]
        assert texts[-1].endswith("opened, not independent of machine hints: 1.")
        assert any(line.endswith("not independent of machine hints: 1") for line in report_lines(report))
        with open_log(space, "ann") as log:
            log.append(decision("back", sample[0], "undo", queue="audit"))
            log.append(decision("again", sample[0], queue="audit", masks=NONE))
        report_audit(space)
        assert "masks_opened" not in certificate(space)
