from pathlib import Path

import pytest

from annotation.consensus import run_consensus
from annotation.decision_log import log_path, open_log, read_decisions
from annotation.merge import check_logs, merge_logs
from cli import run
from manifests.errors import InputError, TableError, WorkspaceLockedError
from manifests.workspace import Workspace
from tests.annotation_workspace import decision, image_id_of, make_workspace


def add(workspace: Workspace, annotator_id: str, *names: str, answer: str = "out") -> bytes:
    with open_log(workspace, annotator_id) as log:
        log.append_all([decision(name, image_id_of(int(name)), answer) for name in names])
    return log_path(workspace, annotator_id).read_bytes()


@pytest.fixture
def here(tmp_path: Path) -> Workspace:
    return make_workspace(tmp_path / "here")


@pytest.fixture
def there(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "there")


def test_log_that_goes_on_replaces_ours_and_twice_is_once(here: Workspace, there: Workspace) -> None:
    add(here, "ann", "0")
    longer = add(there, "ann", "0", "1", "2")
    new = add(there, "ben", "3")
    assert merge_logs(here, [there.root]).n_added == {"ann": 2, "ben": 1}
    assert (log_path(here, "ann").read_bytes(), log_path(here, "ben").read_bytes()) == (longer, new)
    assert merge_logs(here, [there.root]).n_added == {"ann": 0, "ben": 0}
    assert log_path(here, "ann").read_bytes() == longer
    add(here, "ann", "4")
    assert len(read_decisions(log_path(here, "ann"))) == 4


def test_log_that_ours_goes_on_from_changes_nothing(here: Workspace, there: Workspace) -> None:
    ours = add(here, "ann", "0", "1")
    add(there, "ann", "0")
    merge_logs(here, [there.root])
    assert log_path(here, "ann").read_bytes() == ours


def test_order_of_the_folders_does_not_matter(here: Workspace, there: Workspace, tmp_path: Path) -> None:
    third = Workspace(tmp_path / "third")
    add(there, "ann", "0")
    longest = add(third, "ann", "0", "1")
    merge_logs(here, [third.root, there.root])
    assert log_path(here, "ann").read_bytes() == longest


def test_logs_that_have_parted_are_named_with_the_line_and_nothing_is_merged(
    here: Workspace, there: Workspace
) -> None:
    ours = add(here, "ann", "0", "1")
    theirs = add(there, "ann", "0", "2", "3")
    add(there, "ben", "4")
    with pytest.raises(InputError, match=r"ann: .*here.* and .*there.* differ from line 2 on"):
        merge_logs(here, [there.root])
    assert log_path(here, "ann").read_bytes() == ours
    assert log_path(there, "ann").read_bytes() == theirs
    assert not log_path(here, "ben").exists()


def test_damaged_or_absent_logs_are_not_merged(here: Workspace, there: Workspace) -> None:
    with pytest.raises(InputError, match="expected a workspace with decisions"):
        merge_logs(here, [there.root])
    path = log_path(there, "ann")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"{}\n")
    with pytest.raises(TableError, match=r"there.*ann\.jsonl, line 1"):
        merge_logs(here, [there.root])
    assert not log_path(here, "ann").exists()


def test_torn_last_line_is_left_behind(here: Workspace, there: Workspace) -> None:
    whole = add(there, "ann", "0")
    log_path(there, "ann").write_bytes(whole + b'{"answer"')
    merge_logs(here, [there.root])
    assert log_path(here, "ann").read_bytes() == whole


def test_annotator_who_is_answering_is_not_merged_under_their_hands(here: Workspace, there: Workspace) -> None:
    ours = add(here, "ann", "0")
    add(there, "ann", "0", "1")
    with open_log(here, "ann") as log, pytest.raises(WorkspaceLockedError, match="'ann'"):
        merge_logs(here, [there.root])
    assert log_path(here, "ann").read_bytes() == ours
    assert len(log.decisions) == 1


def test_images_unknown_here_are_reported_and_their_answers_kept(here: Workspace, there: Workspace) -> None:
    add(there, "ann", "0", "99")
    assert merge_logs(here, [there.root]).unknown_image_ids == (image_id_of(99),)
    assert len(read_decisions(log_path(here, "ann"))) == 2


def test_verify_names_the_first_bad_line_of_each_log_and_exits_1(
    here: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    content = add(here, "ann", "0", "1", "2")
    add(here, "ben", "0")
    assert run(["decisions", "verify", "--workspace", str(here.root)]) == 0
    assert "ann: 3 lines in order\nben: 1 lines in order" in capsys.readouterr().out
    log_path(here, "ann").write_bytes(content.replace(b'"out"', b'"skip"', 1))
    assert run(["decisions", "verify", "--workspace", str(here.root)]) == 1
    printed = capsys.readouterr()
    assert "ann.jsonl, line 2: the chain is broken" in printed.out
    assert "1 of 2 logs do not pass: ann" in printed.err


def test_verify_sees_a_last_line_that_was_changed_or_cut_after_consensus(here: Workspace) -> None:
    content = add(here, "ann", "0", "1")
    run_consensus(here)
    add(here, "ann", "2")
    assert [check.problem for check in check_logs(here)] == [None]
    log_path(here, "ann").write_bytes(content[::-1].replace(b'"out"'[::-1], b'"skip"'[::-1], 1)[::-1])
    assert "line 2: the last 'consensus' read 2 lines" in str(check_logs(here)[0].problem)
    log_path(here, "ann").write_bytes(content.splitlines(keepends=True)[0])
    assert "found 1 lines" in str(check_logs(here)[0].problem)
    log_path(here, "ann").unlink()
    assert [(check.annotator_id, check.n_lines) for check in check_logs(here)] == [("ann", 0)]
    assert "found 0 lines" in str(check_logs(here)[0].problem)


def test_merge_command_says_what_it_took(
    here: Workspace, there: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    add(there, "ann", "0", "99")
    assert run(["decisions", "merge", "--from", str(there.root), "--workspace", str(here.root)]) == 0
    printed = capsys.readouterr().out
    assert "decisions taken over: ann 2" in printed
    assert f"1 images answered are no candidates here, first {image_id_of(99)}" in printed
    for arguments in (["merge"], ["verify", "--from", str(there.root)], ["mend"]):
        assert run(["decisions", *arguments, "--workspace", str(here.root)]) == 1
        assert "expected either 'verify', or 'merge' with --from" in capsys.readouterr().err
