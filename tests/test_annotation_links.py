"""The secrets of the annotators' links, and what a refused `annotate` leaves."""

import stat
from pathlib import Path

import pytest

from annotation.annotate import QueueChoice, annotate
from annotation.decision_log import open_log
from annotation.links import kept_token
from manifests.errors import InputError
from manifests.workspace import Workspace
from tests.annotation_workspace import decision, make_workspace


def secret_path(root: Path, annotator_id: str = "ann") -> Path:
    return root / "fiftyone" / annotator_id / "link.secret"


def test_token_is_kept_from_run_to_run_by_its_owner_only(tmp_path: Path) -> None:
    token = kept_token(Workspace(tmp_path), "ann")
    assert stat.S_IMODE(secret_path(tmp_path).stat().st_mode) == 0o600
    assert [path.name for path in secret_path(tmp_path).parent.iterdir()] == ["link.secret"]
    assert kept_token(Workspace(tmp_path), "ann") == token
    # 32 random bytes in base64.
    assert len(token) == 43
    assert kept_token(Workspace(tmp_path), "ben") != token


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 44, b"\xff" * 43, b" " * 43])
def test_damaged_secret_is_made_anew(tmp_path: Path, content: bytes) -> None:
    kept_token(Workspace(tmp_path), "ann")
    secret_path(tmp_path).write_bytes(content)
    made = kept_token(Workspace(tmp_path), "ann")
    assert secret_path(tmp_path).read_text() == made != content.decode("latin-1")


def test_secret_that_others_may_read_is_made_anew(tmp_path: Path) -> None:
    token = kept_token(Workspace(tmp_path), "ann")
    secret_path(tmp_path).chmod(0o640)
    assert kept_token(Workspace(tmp_path), "ann") != token
    assert stat.S_IMODE(secret_path(tmp_path).stat().st_mode) == 0o600


def test_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "fiftyone").write_text("not a folder")
    with pytest.raises(InputError, match=r"link\.secret: cannot be written"):
        kept_token(Workspace(tmp_path), "ann")


def test_refused_session_leaves_no_empty_log_and_takes_none_away(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, n_review=1)
    with open_log(workspace, "ben") as log:
        log.append(decision("ben-0"))
    with open_log(workspace, "cem"):
        pass
    kept = {path: path.read_bytes() for path in workspace.decisions_dir.glob("[a-z]*.jsonl")}
    with pytest.raises(InputError, match="sideways"):
        annotate(workspace, ["ann", "ben", "cem"], QueueChoice(order="sideways"))
    assert {path: path.read_bytes() for path in workspace.decisions_dir.glob("[a-z]*.jsonl")} == kept
    assert sorted(path.stem for path in kept) == ["ben", "cem"]
