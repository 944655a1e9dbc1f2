from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from annotation.decision_log import DecisionLog, log_path, open_log, read_decisions
from annotation.judging import JudgingSession
from annotation.review import read_class_names, read_review
from manifests.workspace import Workspace
from tests.annotation_workspace import image_id_of, make_workspace, shown_classes_of

# By risk: see `risk_of`.
SHOWN_ORDER = [image_id_of(number) for number in (4, 2, 1, 3, 0, 5)]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return make_workspace(tmp_path)


@pytest.fixture
def log(workspace: Workspace) -> Iterator[DecisionLog]:
    with open_log(workspace, "ann") as opened:
        yield opened


def session_on(workspace: Workspace, log: DecisionLog) -> JudgingSession:
    return JudgingSession(log, read_review(workspace), read_class_names(workspace), {4: Path("/examples/4.jpg")})


def request(image_id: str, answer: str, decision_id: str, class_index: int | None = None) -> dict[str, Any]:
    row = {"decision_id": decision_id, "image_id": image_id, "answer": answer}
    return row | {"class_index": class_index, "seconds": 1.25}


def stored(workspace: Workspace) -> list[tuple[str, str, int | None]]:
    decisions = read_decisions(log_path(workspace, "ann"))
    return [(decision.image_id, decision.answer, decision.class_index) for decision in decisions]


def test_candidates_come_by_risk_with_their_classes_in_order(workspace: Workspace, log: DecisionLog) -> None:
    candidate = session_on(workspace, log).state()["candidate"]
    assert candidate["image_id"] == SHOWN_ORDER[0]
    assert [shown["class_index"] for shown in candidate["classes"]] == shown_classes_of(4)
    assert candidate["classes"][0]["name"] == "hammerhead"
    assert candidate["classes"][0]["example_path"] == "/examples/4.jpg"
    assert candidate["classes"][1]["example_path"] is None


def test_answer_is_stored_with_what_was_shown(workspace: Workspace, log: DecisionLog) -> None:
    state = session_on(workspace, log).answer(request(SHOWN_ORDER[0], "out", "1"))
    assert state["candidate"]["image_id"] == SHOWN_ORDER[1]
    assert stored(workspace) == [(SHOWN_ORDER[0], "out", None)]
    decision = read_decisions(log_path(workspace, "ann"))[0]
    assert (decision.shown_classes, decision.seconds, decision.queue) == (
        tuple(shown_classes_of(4)),
        1.25,
        "first",
    )


def test_repeated_request_is_stored_once(workspace: Workspace, log: DecisionLog) -> None:
    session = session_on(workspace, log)
    first = session.answer(request(SHOWN_ORDER[0], "out", "1"))
    again = session.answer(request(SHOWN_ORDER[0], "out", "1"))
    assert first == again
    assert stored(workspace) == [(SHOWN_ORDER[0], "out", None)]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image_id": "nowhere"}, "not under review"),
        ({"answer": "in", "class_index": 3}, "not among those shown"),
        ({"answer": "in"}, "class_index should be"),
        ({"answer": "undo"}, "found 'undo'"),
        ({"answer": "maybe"}, "answer should be one of"),
        ({"seconds": -1}, "seconds should be"),
        ({"decision_id": "a b"}, "decision_id should be"),
    ],
)
def test_answer_that_cannot_be_is_refused_in_words(
    workspace: Workspace, log: DecisionLog, changes: dict[str, Any], words: str
) -> None:
    state = session_on(workspace, log).answer(request(SHOWN_ORDER[0], "out", "1") | changes)
    assert words in state["refused"]
    assert state["candidate"]["image_id"] == SHOWN_ORDER[0]
    assert stored(workspace) == []


def test_late_click_on_an_answered_picture_is_refused(workspace: Workspace, log: DecisionLog) -> None:
    session = session_on(workspace, log)
    session.answer(request(SHOWN_ORDER[0], "out", "1"))
    state = session.answer(request(SHOWN_ORDER[0], "difficult", "2"))
    assert "answered already" in state["refused"]
    assert stored(workspace) == [(SHOWN_ORDER[0], "out", None)]


def test_undo_shows_the_picture_again_and_can_go_back_further(workspace: Workspace, log: DecisionLog) -> None:
    session = session_on(workspace, log)
    session.answer(request(SHOWN_ORDER[0], "out", "1"))
    session.answer(request(SHOWN_ORDER[1], "skip", "2"))
    assert session.undo(request(SHOWN_ORDER[1], "", "3"))["candidate"]["image_id"] == SHOWN_ORDER[1]
    state = session.undo(request(SHOWN_ORDER[0], "", "4"))
    assert (state["candidate"]["image_id"], state["undoable_image_id"], state["n_left"]) == (
        SHOWN_ORDER[0],
        None,
        6,
    )
    session.answer(request(SHOWN_ORDER[0], "difficult", "5"))
    assert [answer for _, answer, _ in stored(workspace)] == ["out", "skip", "undo", "undo", "difficult"]


def test_undo_of_another_picture_than_the_latest_is_refused(workspace: Workspace, log: DecisionLog) -> None:
    session = session_on(workspace, log)
    session.answer(request(SHOWN_ORDER[0], "out", "1"))
    session.answer(request(SHOWN_ORDER[1], "out", "2"))
    assert "not the latest answer" in session.undo(request(SHOWN_ORDER[0], "", "3"))["refused"]


def test_answered_pictures_are_not_shown_again_after_a_restart(workspace: Workspace) -> None:
    with open_log(workspace, "ann") as log:
        session = session_on(workspace, log)
        for place, answer in enumerate(("out", "difficult", "skip")):
            session.answer(request(SHOWN_ORDER[place], answer, str(place)))
    with open_log(workspace, "ann") as log:
        session = session_on(workspace, log)
        state = session.state()
        assert state["candidate"]["image_id"] == SHOWN_ORDER[3]
        assert (state["n_left"], session.n_answered, state["undoable_image_id"]) == (3, 0, SHOWN_ORDER[2])


def test_end_of_the_queue_shows_no_candidate(workspace: Workspace, log: DecisionLog) -> None:
    session = session_on(workspace, log)
    for place, image_id in enumerate(SHOWN_ORDER):
        state = session.answer(request(image_id, "out", str(place)))
    assert (state["candidate"], state["n_left"], session.n_answered) == (None, 0, 6)


def test_nothing_of_other_annotators_reaches_the_panel(workspace: Workspace, log: DecisionLog) -> None:
    before = session_on(workspace, log).state()
    with open_log(workspace, "ben") as others:
        session_on(workspace, others).answer(request(SHOWN_ORDER[0], "out", "1"))
    assert session_on(workspace, log).state() == before
    assert "control" not in repr(before)
