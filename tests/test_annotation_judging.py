from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from annotation.catalogue import Catalogue
from annotation.decision_log import DecisionLog, log_path, open_log, read_decisions
from annotation.gold import add_gold
from annotation.judging import JudgingSession
from annotation.queues import open_queue
from annotation.review import read_class_names
from manifests import schema
from manifests.errors import InputError
from manifests.workspace import Workspace
from tests.annotation_workspace import CLASS_NAMES, decision, image_id_of, make_workspace, shown_classes_of

# By risk: see `risk_of`.
SHOWN_ORDER = [image_id_of(number) for number in (4, 2, 1, 3, 0, 5)]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return make_workspace(tmp_path)


@pytest.fixture
def log(workspace: Workspace) -> Iterator[DecisionLog]:
    with open_log(workspace, "ann") as opened:
        yield opened


def session_on(workspace: Workspace, log: DecisionLog, name: str = "first", **settings: Any) -> JudgingSession:
    catalogue = Catalogue(read_class_names(workspace), {4: Path("/examples/4.jpg")})
    return JudgingSession(log, open_queue(workspace, log.annotator_id, name, **settings), catalogue)


def request(image_id: str, answer: str, decision_id: str, class_index: int | None = None) -> dict[str, Any]:
    row = {"decision_id": decision_id, "image_id": image_id, "answer": answer}
    return row | {"class_index": class_index, "seconds": 1.25}


def stored(workspace: Workspace) -> list[tuple[str, str, int | None]]:
    decisions = read_decisions(log_path(workspace, "ann"))
    return [(decision.image_id, decision.answer, decision.class_index) for decision in decisions]


def shown_ids(state: dict[str, Any]) -> list[str]:
    return [item["image_id"] for item in state["items"]]


def test_candidates_come_by_risk_with_their_classes_in_order(workspace: Workspace, log: DecisionLog) -> None:
    candidate = session_on(workspace, log).state()["items"][0]
    assert candidate["image_id"] == SHOWN_ORDER[0]
    assert [shown["class_index"] for shown in candidate["classes"]] == shown_classes_of(4)
    assert candidate["classes"][0]["name"] == "hammerhead"
    assert candidate["classes"][0]["example_path"] == "/examples/4.jpg"
    assert candidate["classes"][1]["example_path"] is None


def test_three_more_are_sent_ahead_whole(workspace: Workspace, log: DecisionLog) -> None:
    session = session_on(workspace, log)
    assert shown_ids(session.state()) == SHOWN_ORDER[:4]
    ahead = session.state()["items"][1]
    assert session.answer(request(SHOWN_ORDER[0], "out", "1"))["items"][0] == ahead


def test_class_seen_in_a_tile_has_its_box_on_the_upright_picture(workspace: Workspace, log: DecisionLog) -> None:
    rows = workspace.read(schema.SCREEN).to_pylist()
    for row in rows:
        row["shown_sources"] = ["human", *["clip"] * 9]
        row["shown_views"] = ["full", "tile_2_0_1", *["full"] * 8]
    workspace.write(schema.SCREEN, rows)
    candidates = workspace.read(schema.CANDIDATES).to_pylist()
    for row in candidates:
        row["rotation_deg"] = 90
    workspace.write(schema.CANDIDATES, candidates)
    item = session_on(workspace, log).state()["items"][0]
    # Stored as 300 x 400, shown as 400 x 300: two tiles of two thirds of the height, from end to end.
    assert (item["width_px"], item["height_px"]) == (400, 300)
    first, second = item["classes"][:2]
    assert (first["source"], first["view"], first["box"]) == ("human", "full", None)
    assert (second["source"], second["box"]) == ("clip", pytest.approx([0.5, 0, 1, 2 / 3]))


def test_answer_is_stored_with_what_was_shown(workspace: Workspace, log: DecisionLog) -> None:
    state = session_on(workspace, log).answer(request(SHOWN_ORDER[0], "out", "1") | {"note": "a fish?"})
    assert shown_ids(state)[0] == SHOWN_ORDER[1]
    assert stored(workspace) == [(SHOWN_ORDER[0], "out", None)]
    kept = read_decisions(log_path(workspace, "ann"))[0]
    assert (kept.shown_classes, kept.seconds, kept.queue) == (tuple(shown_classes_of(4)), 1.25, "first")
    assert kept.note == "a fish?"


def test_class_found_by_search_is_an_answer(workspace: Workspace, log: DecisionLog) -> None:
    session = session_on(workspace, log)
    assert [known["name"] for known in session.classes()] == list(CLASS_NAMES)
    searched = ({*range(12)} - set(shown_classes_of(4))).pop()
    assert session.answer(request(SHOWN_ORDER[0], "in", "1", searched))["refused"] == ""
    assert stored(workspace) == [(SHOWN_ORDER[0], "in", searched)]


def test_repeated_request_is_stored_once(workspace: Workspace, log: DecisionLog) -> None:
    session = session_on(workspace, log)
    first = session.answer(request(SHOWN_ORDER[0], "out", "1"))
    again = session.answer(request(SHOWN_ORDER[0], "out", "1"))
    assert first == again
    assert stored(workspace) == [(SHOWN_ORDER[0], "out", None)]
    undone = session.undo(request(SHOWN_ORDER[0], "", "2"))
    assert session.undo(request(SHOWN_ORDER[0], "", "2")) == undone
    assert [answer for _, answer, _ in stored(workspace)] == ["out", "undo"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image_id": "nowhere"}, "not in this queue"),
        ({"answer": "in", "class_index": 12}, "in no label space"),
        ({"answer": "in"}, "class_index should be"),
        ({"answer": "undo"}, "found 'undo'"),
        ({"answer": "maybe"}, "answer should be one of"),
        ({"seconds": -1}, "seconds should be"),
        ({"decision_id": "a b"}, "decision_id should be"),
        ({"note": "x" * 2001}, "note should be"),
        ({"note": "\ud800"}, "note should be"),
    ],
)
def test_answer_that_cannot_be_is_refused_in_words(
    workspace: Workspace, log: DecisionLog, changes: dict[str, Any], words: str
) -> None:
    state = session_on(workspace, log).answer(request(SHOWN_ORDER[0], "out", "1") | changes)
    assert words in state["refused"]
    assert shown_ids(state)[0] == SHOWN_ORDER[0]
    assert stored(workspace) == []


def test_late_click_on_an_answered_picture_is_refused(workspace: Workspace, log: DecisionLog) -> None:
    session = session_on(workspace, log)
    session.answer(request(SHOWN_ORDER[0], "out", "1"))
    state = session.answer(request(SHOWN_ORDER[0], "difficult", "2"))
    assert "answered already" in state["refused"]
    assert stored(workspace) == [(SHOWN_ORDER[0], "out", None)]


def test_undo_shows_the_picture_again_with_its_note_and_can_go_back_further(
    workspace: Workspace, log: DecisionLog
) -> None:
    session = session_on(workspace, log)
    session.answer(request(SHOWN_ORDER[0], "out", "1"))
    session.answer(request(SHOWN_ORDER[1], "skip", "2") | {"note": "later"})
    state = session.undo(request(SHOWN_ORDER[1], "", "3"))
    assert (state["items"][0]["image_id"], state["items"][0]["note"]) == (SHOWN_ORDER[1], "later")
    assert (state["undoable"], state["n_answered"]) == ([SHOWN_ORDER[0]], 1)
    state = session.undo(request(SHOWN_ORDER[0], "", "4"))
    assert shown_ids(state) == SHOWN_ORDER[:4]
    assert (state["undoable"], state["n_left"], state["n_answered"], state["pace_s"]) == ([], 6, 0, None)
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
        state = session_on(workspace, log).state()
        assert shown_ids(state)[0] == SHOWN_ORDER[3]
        assert (state["n_left"], state["n_total"], state["n_answered"]) == (3, 6, 0)
        assert state["undoable"] == SHOWN_ORDER[:3]


def test_answers_between_opening_the_queue_and_the_log_are_known(workspace: Workspace) -> None:
    queue = open_queue(workspace, "ann")
    with open_log(workspace, "ann") as log:
        log.append(decision("1", SHOWN_ORDER[0]))
        session = JudgingSession(log, queue, Catalogue({}, {}))
        assert shown_ids(session.state())[0] == SHOWN_ORDER[1]


def test_queue_of_another_annotator_is_refused(workspace: Workspace, log: DecisionLog) -> None:
    with pytest.raises(InputError, match="queue of ann was expected, found one of ben"):
        JudgingSession(log, open_queue(workspace, "ben"), Catalogue({}, {}))


def test_end_of_the_queue_shows_no_candidate(workspace: Workspace, log: DecisionLog) -> None:
    session = session_on(workspace, log)
    for place, image_id in enumerate(SHOWN_ORDER):
        state = session.answer(request(image_id, "out", str(place)) | {"seconds": place})
    assert (state["items"], state["n_left"], session.n_answered) == ([], 0, 6)
    assert state["pace_s"] == 2.5


def test_first_queue_tells_nothing_of_others_but_how_many_are_done(workspace: Workspace, log: DecisionLog) -> None:
    (workspace.root / "gold.csv").write_text(f"image_id,answer\n{SHOWN_ORDER[5]},out\n")
    add_gold(workspace, workspace.root / "gold.csv")
    before = session_on(workspace, log).state()
    with open_log(workspace, "ben") as others:
        session_on(workspace, others).answer(request(SHOWN_ORDER[0], "out", "1") | {"note": "secret"})
    after = session_on(workspace, log).state()
    assert after.pop("team") == {"n_done": 0, "n_total": 5, "n_annotators": 1}
    assert before.pop("team") == {"n_done": 0, "n_total": 5, "n_annotators": 0}
    assert after == before
    told = repr(before).replace("goldfish", "")
    assert not any(word in told for word in ("control", "gold", "risk", "ben", "secret"))


def test_adjudicator_sees_all_answers_and_notes(workspace: Workspace, log: DecisionLog) -> None:
    disputed = SHOWN_ORDER[2]
    for name, answer in (("ben", "out"), ("cem", "in")):
        with open_log(workspace, name) as others:
            others.append(decision(f"{name}-1", disputed, answer, note=f"says {name}"))
    session = session_on(workspace, log, "dispute")
    (item,) = session.state()["items"]
    assert [
        (said["annotator_id"], said["answer"], said["class_name"], said["note"]) for said in item["answers"]
    ] == [
        ("ben", "out", None, "says ben"),
        ("cem", "in", "rooster", "says cem"),
    ]
    assert session.answer(request(disputed, "out", "1"))["items"] == []
    assert log.decisions[-1].queue == "dispute"


def test_gold_is_logged_as_gold_and_looks_like_any_other(workspace: Workspace, log: DecisionLog) -> None:
    (workspace.root / "gold.csv").write_text(f"image_id,answer\n{SHOWN_ORDER[5]},out\n")
    add_gold(workspace, workspace.root / "gold.csv")
    session = session_on(workspace, log, gold_share=0.5)
    state = session.state()
    assert shown_ids(state)[:2] == [SHOWN_ORDER[0], SHOWN_ORDER[5]], "at a share of one half, one follows each"
    assert state["items"][0].keys() == state["items"][1].keys()
    session.answer(request(SHOWN_ORDER[0], "out", "0"))
    session.answer(request(SHOWN_ORDER[5], "out", "1"))
    assert [(kept.queue, kept.image_id) for kept in log.decisions[1:]] == [("gold", SHOWN_ORDER[5])]
    session.undo(request(SHOWN_ORDER[5], "", "2"))
    assert log.decisions[-1].queue == "gold"


def test_panel_two_pictures_ahead_loses_no_answer(workspace: Workspace, log: DecisionLog) -> None:
    session = session_on(workspace, log)
    session.state()
    for name in ("ben", "cem"):
        with open_log(workspace, name) as others:
            others.append(decision(name, SHOWN_ORDER[1]))
    state = session.answer(request(SHOWN_ORDER[0], "out", "1"))
    assert shown_ids(state)[0] == SHOWN_ORDER[1], "it may be on screen already"
    assert session.answer(request(SHOWN_ORDER[1], "in", "2", 3))["refused"] == ""
    assert stored(workspace)[-1] == (SHOWN_ORDER[1], "in", 3)


def test_team_figures_change_every_ten_answers_and_not_after_one(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, n_review=24)
    with open_log(workspace, "ben") as theirs:
        theirs.append_all([decision(f"ben-{number}", image_id_of(number)) for number in range(24)])
    with open_log(workspace, "ann") as log:
        session = session_on(workspace, log)
        seen = [session.state()["team"]["n_done"]]
        for number in range(24):
            image_id = shown_ids(session.state())[0]
            seen.append(session.answer(request(image_id, "out", f"{number}"))["team"]["n_done"])
    # Before the first answer and after each of the 24.
    assert seen == [0] * 10 + [10] * 10 + [20] * 5


@pytest.mark.parametrize("decision_id", [None, 7, ""])
def test_request_without_an_id_is_refused(workspace: Workspace, log: DecisionLog, decision_id: object) -> None:
    session = session_on(workspace, log)
    asked = request(SHOWN_ORDER[0], "out", "1") | {"decision_id": decision_id}
    assert "decision_id" in session.answer(asked)["refused"]
    del asked["decision_id"]
    assert "decision_id: expected the id of this request, found None" in session.answer(asked)["refused"]
    assert log.decisions == []
