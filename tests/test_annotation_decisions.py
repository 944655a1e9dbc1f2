import hashlib
import json
import multiprocessing
from pathlib import Path

import pytest

from annotation.decision_log import annotator_ids, log_path, open_log, read_decisions
from annotation.decisions import Decision, standing_answers
from manifests.chained_log import GENESIS
from manifests.errors import InputError, TableError, WorkspaceLockedError
from manifests.workspace import Workspace
from tests.annotation_workspace import decision


def write_log(root: Path, *decisions: Decision) -> Path:
    workspace = Workspace(root)
    with open_log(workspace, "ann") as log:
        log.append_all(decisions)
    return log_path(workspace, "ann")


def test_each_line_carries_the_hash_of_the_line_before(tmp_path: Path) -> None:
    path = write_log(tmp_path, decision("1"), decision("2", "b"), decision("3", "c"))
    lines = path.read_bytes().splitlines()
    expected = [GENESIS, *(hashlib.sha256(line).hexdigest() for line in lines[:2])]
    assert [json.loads(line)["previous"] for line in lines] == expected


def test_a_line_holds_exactly_the_fields_of_the_design(tmp_path: Path) -> None:
    row = json.loads(write_log(tmp_path, decision("1", answer="in")).read_text())
    assert row == {
        "decision_id": "1",
        "image_id": "a",
        "answer": "in",
        "class_index": 7,
        "shown_classes": [3, 7],
        "queue": "first",
        "seconds": 1.5,
        "guideline": "vim-section-5",
        "tool_version": "0.1.0",
        "at": "2026-01-02T03:04:05.678+00:00",
        "previous": "0" * 64,
    }


def test_written_decisions_are_read_back_equal(tmp_path: Path) -> None:
    given = [decision("1"), decision("2", "b", "in"), decision("3", "a", "undo"), decision("4", "c", "skip")]
    assert read_decisions(write_log(tmp_path, *given)) == given


def test_same_decision_id_twice_is_stored_once(tmp_path: Path) -> None:
    with open_log(Workspace(tmp_path), "ann") as log:
        assert log.append(decision("1"))
        assert not log.append(decision("1", seconds=9.0))
    with open_log(Workspace(tmp_path), "ann") as log:
        assert log.append_all([decision("1"), decision("2", "b"), decision("2", "b")]) == 1
        assert [stored.decision_id for stored in log.decisions] == ["1", "2"]


def test_decision_id_used_for_another_answer_is_refused_and_nothing_is_stored(tmp_path: Path) -> None:
    with open_log(Workspace(tmp_path), "ann") as log:
        log.append(decision("1"))
        with pytest.raises(InputError, match="decision 1 is already stored with another answer"):
            log.append_all([decision("2", "b"), decision("1", "b")])
        assert [stored.decision_id for stored in log.decisions] == ["1"]
        log.append(decision("3", "c"))
    assert [stored.decision_id for stored in read_decisions(log_path(Workspace(tmp_path), "ann"))] == ["1", "3"]


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (lambda lines: [lines[0], lines[1].replace(b'"out"', b'"skip"'), *lines[2:]], "line 2 was changed"),
        (lambda lines: [lines[0], *lines[2:]], "line 2: the chain is broken"),
        (lambda lines: [lines[0], lines[2], lines[1], lines[3]], "line 2: the chain is broken"),
        (lambda lines: lines[1:], "line 1: the chain is broken"),
        (lambda lines: [*lines[:2], lines[1], *lines[2:]], "line 3: the chain is broken"),
        (lambda lines: [lines[0], b"{]", *lines[2:]], "line 2: Expecting"),
        (lambda lines: [lines[0], b'{"answer": "out"}', *lines[2:]], "line 2: decision: missing fields"),
        (lambda lines: [lines[0], b"[]", *lines[2:]], "line 2: expected a JSON object, found list"),
        (lambda lines: [lines[0], b"\xff", *lines[2:]], "line 2: "),
    ],
    ids=["altered", "deleted", "swapped", "first-deleted", "doubled", "no-json", "fields", "list", "no-utf-8"],
)
def test_tampered_line_is_named_by_file_and_number(tmp_path: Path, edit, named: str) -> None:
    path = write_log(tmp_path, *(decision(str(number), f"image-{number}") for number in range(4)))
    path.write_bytes(b"".join(line + b"\n" for line in edit(path.read_bytes().splitlines())))
    with pytest.raises(TableError, match=f"ann.jsonl, .*{named}|ann.jsonl.*{named}"):
        read_decisions(path)
    with pytest.raises(TableError, match=named), open_log(Workspace(tmp_path), "ann"):
        pass


@pytest.mark.parametrize("n_bytes_left", [1, 40, 200])
def test_torn_last_line_is_cut_and_the_log_goes_on(tmp_path: Path, n_bytes_left: int) -> None:
    path = write_log(tmp_path, decision("1"), decision("2", "b"))
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + second[:n_bytes_left])
    assert [stored.decision_id for stored in read_decisions(path)] == ["1"]
    write_log(tmp_path, decision("2", "b"))
    assert path.read_bytes() == first + second


def test_full_disk_leaves_no_half_line_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with open_log(Workspace(tmp_path), "ann") as log:
        log.append(decision("1"))
        before = log_path(Workspace(tmp_path), "ann").read_bytes()
        with monkeypatch.context() as patched:
            patched.setattr("os.fsync", fail)
            with pytest.raises(InputError, match=r"could not be stored .No space left on device"):
                log.append(decision("2", "b"))
        assert log_path(Workspace(tmp_path), "ann").read_bytes() == before
        assert log.append(decision("2", "b"))


def test_log_changed_by_another_program_is_not_written(tmp_path: Path) -> None:
    with open_log(Workspace(tmp_path), "ann") as log:
        with log_path(Workspace(tmp_path), "ann").open("ab") as stranger:
            stranger.write(b"note\n")
        with pytest.raises(TableError, match=r"expected 0 bytes, found 5"):
            log.append(decision("1"))


def test_second_writer_for_one_annotator_is_refused_and_another_annotator_is_not(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    with open_log(workspace, "ann"):
        with pytest.raises(WorkspaceLockedError, match="'ann'"), open_log(workspace, "ann"):
            pass
        with open_log(workspace, "ben"):
            pass
    assert annotator_ids(workspace) == ["ann", "ben"]


def _append_ten(root: Path, writer: int) -> None:
    for number in range(10):
        with open_log(Workspace(root), "ann", timeout_s=60) as log:
            log.append(decision(f"{writer}-{number}", f"image-{writer}-{number}"))


def test_two_processes_on_one_file_lose_nothing(tmp_path: Path) -> None:
    spawning = multiprocessing.get_context("spawn")
    writers = [spawning.Process(target=_append_ten, args=(tmp_path, writer)) for writer in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    stored = {entry.decision_id for entry in read_decisions(log_path(Workspace(tmp_path), "ann"))}
    assert stored == {f"{writer}-{number}" for writer in range(2) for number in range(10)}


def test_undo_takes_back_the_latest_standing_answer_of_that_image() -> None:
    given = [
        decision("1", "a", "out"),
        decision("2", "b", "in"),
        decision("3", "a", "difficult"),
        decision("4", "a", "undo"),
        decision("5", "b", "undo"),
        decision("6", "c", "skip"),
    ]
    assert {image_id: standing.decision_id for image_id, standing in standing_answers(given).items()} == {
        "a": "1",
        "c": "6",
    }


def test_replaying_every_decision_twice_changes_nothing() -> None:
    given = [decision("1", "a"), decision("2", "b"), decision("3", "a", "undo"), decision("4", "a", "in")]
    doubled = [entry for entry in given for _ in range(2)]
    assert standing_answers(doubled) == standing_answers(given) == {"b": given[1], "a": given[3]}


def test_undo_of_nothing_is_refused(tmp_path: Path) -> None:
    with (
        open_log(Workspace(tmp_path), "ann") as log,
        pytest.raises(InputError, match="undo of a, which has no standing answer"),
    ):
        log.append(decision("1", "a", "undo"))
    assert log_path(Workspace(tmp_path), "ann").read_bytes() == b""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answer": "in", "class_index": None}, "class_index should be a class with the answer 'in'"),
        ({"answer": "out", "class_index": 3}, "class_index should be"),
        ({"answer": "in", "class_index": True}, "class_index should be"),
        ({"answer": "in", "class_index": 2**15}, "class_index should be"),
        ({"answer": "yes"}, "answer should be one of"),
        ({"answer": ["out"]}, "answer should be one of"),
        ({"image_id": "../a"}, "image_id should be"),
        ({"decision_id": ""}, "decision_id should be"),
        ({"queue": "second"}, "queue should be"),
        ({"seconds": float("nan")}, "seconds should be"),
        ({"seconds": -0.1}, "seconds should be"),
        ({"seconds": "1"}, "seconds should be"),
        ({"shown_classes": (3, 3)}, "shown_classes should be"),
        ({"guideline": ""}, "guideline should be"),
        ({"at": "2026-01-02T03:04:05"}, "at should be"),
        ({"at": "2026-01-02T03:04:05+02:00"}, "at should be"),
    ],
)
def test_malformed_decision_is_refused_by_field(changes: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        decision("1", **changes)


@pytest.mark.parametrize("annotator_id", ["", "../ann", "a/b", ".ann", "a" * 101])
def test_annotator_id_that_could_leave_the_folder_is_refused(tmp_path: Path, annotator_id: str) -> None:
    with pytest.raises(InputError, match="annotator"), open_log(Workspace(tmp_path), annotator_id):
        pass
    assert not list(tmp_path.iterdir())
