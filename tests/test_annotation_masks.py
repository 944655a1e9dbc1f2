"""The use of evidence masks: what of it stands in the log, whatever page, screen and server do meanwhile."""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from annotation.bench.made_masks import make_masks
from annotation.catalogue import Catalogue
from annotation.decision_log import DecisionLog, log_path, open_log, read_decisions
from annotation.decisions import decision_from_row
from annotation.error_models import simulated_team
from annotation.evidence_masks import EvidenceMasks
from annotation.judging import JudgingSession
from annotation.mask_use import MaskUse
from annotation.merge import check_logs, merge_logs
from annotation.queues import open_queue
from annotation.simulated import simulate_team
from manifests import schema
from manifests.errors import InputError, TableError
from manifests.workspace import Workspace
from tests.annotation_workspace import decision, image_id_of, make_workspace, shown_classes_of
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
    masks = EvidenceMasks.of_queue(workspace, queue, opened.plan.items.values(), announce=lambda line: None)
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
            ({"version": True, "state": "opened", "classes": [3]}, "of version 1, is of True"),
            ({"version": 1.0, "state": "opened", "classes": [3]}, "of version 1, is of 1.0"),
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

    @pytest.mark.parametrize("told", [[True], [1.0], [None], "34", {"3": 1}, [[SHOWN[0]]], 4, "", 0, False])
    def test_what_no_page_would_say_is_refused_and_nothing_is_stored(
        self, workspace: Workspace, log: DecisionLog, told: object
    ) -> None:
        session = session_on(log, workspace)
        assert give(session, "1", masks_seen=told).startswith("masks_seen: expected a list of class indices for")
        assert log.decisions == []
        give(session, "2", masks_seen=[])
        assert log.decisions[0].masks == CLOSED

    @pytest.mark.parametrize("told", [[999], [SHOWN[1], 999], [SHOWN[1], SHOWN[1]], [-1, 2**70]])
    def test_classes_no_longer_shown_are_left_out_and_the_answer_is_kept(
        self, workspace: Workspace, log: DecisionLog, told: list[int]
    ) -> None:
        assert give(session_on(log, workspace), "1", masks_seen=told) == ""
        assert log.decisions[0].masks == MaskUse("opened", (SHOWN[1],) if SHOWN[1] in told else ())

    def test_an_answer_that_was_stored_is_stored_also_when_other_classes_are_shown_since(
        self, workspace: Workspace
    ) -> None:
        with open_log(workspace, "ann") as log:
            session = session_on(log, workspace)
            give(session, "1", masks_seen=[SHOWN[0]])
            take_back(session, "back")
        rows = workspace.read(schema.SCREEN).to_pylist()
        kept = [row for row in rows if row["image_id"] != FIRST]
        workspace.write(schema.SCREEN, kept)
        # Its reply got lost, and by now the picture is not even under review.
        with open_log(workspace, "ann") as log:
            session = session_on(log, workspace)
            assert give(session, "1", masks_seen=[SHOWN[0]]) == ""
            take_back(session, "back")
            assert give(session, "2", masks_seen=[SHOWN[0]]).endswith("is not in this queue")
            assert [kept.decision_id for kept in log.decisions] == ["1", "back"]

    def test_masks_that_were_sent_and_not_answered_are_remembered_by_the_next_process(
        self, workspace: Workspace
    ) -> None:
        with open_log(workspace, "ann") as log:
            session = session_on(log, workspace)
            for image_id in (FIRST, SECOND, FIRST):
                session.masks({"image_id": image_id})
            assert log.decisions == []
        path = workspace.decisions_dir / "ann.masks-sent"
        assert path.read_text() == f"{FIRST}\n{SECOND}\n"
        # A kill in the middle of a line: those masks were not sent.
        path.write_text(f"{FIRST}\n{SECOND[:5]}")
        with open_log(workspace, "ann") as log:
            session = session_on(log, workspace)
            give(session, "1", masks_seen=[])
            give(session, "2", SECOND, masks_seen=[])
            assert [kept.masks for kept in log.decisions] == [MaskUse("opened"), CLOSED]
        assert path.read_text() == f"{FIRST}\n"
        assert [check.problem for check in check_logs(workspace)] == [None]

    @pytest.mark.parametrize(
        ("damaged", "told"),
        [(b"no image", "no image"), (b"\xff\xfe", r"\xff\xfe"), (f"{SECOND}\x0c".encode(), rf"{SECOND}\x0c")],
        ids=["words", "no text", "a control character"],
    )
    def test_a_damaged_record_of_what_was_sent_is_refused(
        self, workspace: Workspace, damaged: bytes, told: str
    ) -> None:
        with open_log(workspace, "ann") as log:
            path = workspace.decisions_dir / "ann.masks-sent"
            path.write_bytes(FIRST.encode() + b"\n" + damaged + b"\n")
            with pytest.raises(TableError, match="masks-sent, line 2: expected an image id, found") as caught:
                session_on(log, workspace)
            assert told in str(caught.value).replace("\\\\", "\\")

    def test_masks_are_not_sent_where_that_cannot_be_stored(self, workspace: Workspace, log: DecisionLog) -> None:
        session = session_on(log, workspace)
        (workspace.decisions_dir / "ann.masks-sent").mkdir()
        with pytest.raises(InputError, match="masks-sent: cannot be written"):
            session.masks({"image_id": FIRST})
        give(session, "1", masks_seen=[])
        assert log.decisions[0].masks == CLOSED

    @pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"PAR1garbage")])
    def test_masks_that_could_not_be_opened_were_not_left_closed(
        self, workspace: Workspace, log: DecisionLog, damage: Callable[[Path], object]
    ) -> None:
        session = session_on(log, workspace)
        for shard in workspace.masks_dir.rglob("shard-*.parquet"):
            damage(shard)
        with contextlib.suppress(TableError):
            assert session.masks({"image_id": FIRST}) == []
        give(session, "1", masks_seen=[])
        give(session, "2", SECOND, masks_seen=[])
        # Nobody asked for those of the second.
        assert [kept.masks for kept in log.decisions] == [NONE, CLOSED]

    def test_what_a_refused_answer_tells_of_masks_is_not_kept(
        self, workspace: Workspace, log: DecisionLog
    ) -> None:
        session = session_on(log, workspace)
        assert "answer should be one of" in give(session, "1", answer="bogus", masks_seen=[SHOWN[1]])
        give(session, "2", masks_seen=[])
        assert [kept.masks for kept in log.decisions] == [CLOSED]

    def test_state_says_of_the_queue_whether_any_of_its_pictures_has_masks(
        self, workspace: Workspace, log: DecisionLog
    ) -> None:
        rows = workspace.read(schema.LOCALIZED).to_pylist()
        workspace.write(schema.LOCALIZED, [row for row in rows if row["image_id"] == SECOND])
        session = session_on(log, workspace)
        assert session.state()["offers_masks"] is True
        assert {item["image_id"]: item["has_masks"] for item in session.state()["items"]}[FIRST] is False
        give(session, "1", masks_seen=[SHOWN[0]])
        # None is offered of this picture, and none was sent.
        assert log.decisions[0].masks == NONE
        workspace.path_of(schema.LOCALIZED).unlink()
        assert session_on(log, workspace).state()["offers_masks"] is False

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
        assert session.state()["offers_masks"] is False
        assert session.masks({"image_id": FIRST}) == []
        # Also a page that makes one up, and one that says nothing.
        shown = items[0]["classes"][0]["class_index"]
        give(session, "1", items[0]["image_id"], masks_seen=[shown])
        give(session, "2", items[1]["image_id"])
        assert {kept.masks for kept in log.decisions} == {NONE}
        assert "audit" in {kept.queue for kept in log.decisions}

    def test_masks_seen_before_an_audit_are_told_in_it(self, workspace: Workspace) -> None:
        with open_log(workspace, "ann") as log:
            session_on(log, workspace).masks({"image_id": FIRST})
        workspace.write(
            schema.audit_table("set-1.0.0"), [{"image_id": FIRST, "audit": "set-1.0.0", "stratum": None}]
        )
        with open_log(workspace, "ann") as log:
            give(session_on(log, workspace, "audit"), "1", masks_seen=[])
            assert (log.decisions[0].queue, log.decisions[0].masks) == ("audit", MaskUse("opened"))


def test_simulated_annotators_are_offered_no_masks(tmp_path: Path) -> None:
    world = make_world(tmp_path, n_images=4, share_in=0.5)
    simulate_team(world.workspace, world.truth_path, simulated_team(["careful"]))
    (path,) = world.workspace.decisions_dir.glob("*.jsonl")
    assert [kept.masks for kept in read_decisions(path)] == [NONE] * 4
