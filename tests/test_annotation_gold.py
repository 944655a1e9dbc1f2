from pathlib import Path

import pytest

from annotation.gold import GoldEntry, add_gold, gold_without_classes, read_gold
from cli import run
from manifests import schema
from manifests.errors import InputError
from tests.annotation_workspace import image_id_of, make_workspace

FIRST, SECOND = image_id_of(0), image_id_of(1)


def gold_file(folder: Path, *lines: str, head: str = "image_id,answer,class_index,note") -> Path:
    path = folder / "gold.csv"
    path.write_text("\n".join([head, *lines]) + "\n")
    return path


def test_entries_are_added_in_parts_and_twice_is_once(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    assert read_gold(workspace) == {}
    add_gold(workspace, gold_file(tmp_path, f"{SECOND},in,3,tiger shark", f"{image_id_of(2)},in,,"))
    counts = add_gold(workspace, gold_file(tmp_path, f"{FIRST},out", head="image_id,answer"))
    assert counts == {"added": 1, "all": 3, "in": 2, "out": 1, "difficult": 0}
    before = workspace.path_of(schema.GOLD).read_bytes()
    assert add_gold(workspace, tmp_path / "gold.csv")["added"] == 0
    assert workspace.path_of(schema.GOLD).read_bytes() == before
    assert list(read_gold(workspace).values())[:2] == [
        GoldEntry(FIRST, "out", None, ""),
        GoldEntry(SECOND, "in", 3, "tiger shark"),
    ]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("nowhere,out,,", "line 3: image nowhere has no stored picture"),
        (f"{SECOND},in,12,", "line 3: class 12 is not in .*classes.csv"),
        (f"{SECOND},out,3,", "class index only with 'in'"),
        (f"{SECOND},skip,,", "line 3: expected an answer of"),
        (f"{SECOND},in,-1,", "line 3: expected an answer of"),
        (f"{SECOND},out,,a,b", "more cells than columns"),
        (f"{FIRST},in,,", "line 3: 0000000000000000 is in here, but gold already as out"),
        (f"{FIRST},out,,why", r"is out \(why\) here, but gold already as out"),
    ],
)
def test_entry_that_cannot_be_is_refused_by_line_and_nothing_is_added(
    tmp_path: Path, line: str, words: str
) -> None:
    workspace = make_workspace(tmp_path)
    with pytest.raises(InputError, match=words):
        add_gold(workspace, gold_file(tmp_path, f"{FIRST},out,,", line))
    assert read_gold(workspace) == {}


def test_file_that_is_no_gold_is_refused(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    with pytest.raises(InputError, match=r"line 1: expected the columns image_id,answer,class_index,note"):
        add_gold(workspace, gold_file(tmp_path, "a,b", head="image,truth"))
    with pytest.raises(InputError, match="cannot be read as a CSV of gold"):
        add_gold(workspace, tmp_path / "absent.csv")


def test_gold_beside_no_classes_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workspace = make_workspace(tmp_path, n_review=2, n_dropped=2)
    rows = workspace.read(schema.SCREEN).to_pylist()
    rows[3] |= {"reason": "unreadable", "shown_classes": None, "shown_similarities": None, "risk": None}
    workspace.write(schema.SCREEN, rows)
    path = gold_file(tmp_path, f"{image_id_of(2)},out,,")
    assert run(["gold", "--add", str(path), "--workspace", str(tmp_path)]) == 0
    assert "beside no classes" not in capsys.readouterr().err
    gold_file(tmp_path, f"{image_id_of(3)},out,,")
    assert run(["gold", "--add", str(path), "--workspace", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert printed.err.startswith(
        "gold: 1 images are shown beside no classes, which tells them from the rest: the screen has none for "
        f"{image_id_of(3)}\n"
    )
    workspace.path_of(schema.SCREEN).unlink()
    assert gold_without_classes(workspace) == []
