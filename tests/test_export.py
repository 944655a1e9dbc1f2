"""Every export: whole or not at all, nobody's files lost, the same bytes again."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import cli
from manifests.bench import made_up_workspace
from manifests.build import build_manifest
from manifests.errors import InputError
from manifests.exporters.bench import EXPORT_STEPS
from manifests.exporters.export import FORMATS, export_manifest, exported_set
from manifests.tombstones import retire
from tests.conftest import REPOSITORY
from tests.export_world import (
    TEST,
    VAL,
    freeze_lists,
    frozen_set,
    make_workspace,
    tree_bytes,
)
from tests.picture_workspace import pictures


@pytest.fixture
def frozen(tmp_path):
    return frozen_set(tmp_path / "ws")


@pytest.mark.parametrize("name", FORMATS)
def test_two_workspaces_give_the_same_bytes_and_sums_that_hold(tmp_path, name):
    first = export_manifest(frozen_set(tmp_path / "a" / "ws"), name, tmp_path / "a" / "out", pictures=True)
    second = export_manifest(
        frozen_set(tmp_path / "b" / "ws", is_reversed=True), name, tmp_path / "b" / "out", pictures=True
    )
    content = tree_bytes(first)
    assert tree_bytes(second) == content
    assert not [name for name, data in content.items() if str(tmp_path).encode() in data]
    checked = subprocess.run(
        ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=first, capture_output=True
    )
    assert (checked.returncode, checked.stdout) == (0, b"")
    assert {line[66:] for line in content["SHA256SUMS"].decode().splitlines()} == content.keys() - {"SHA256SUMS"}
    assert export_manifest(
        frozen_set(tmp_path / "a" / "ws"), name, tmp_path / "a" / "out", pictures=True
    ) == first  # fmt: skip
    assert tree_bytes(first) == content


@pytest.mark.parametrize("name", FORMATS)
def test_a_retired_image_is_in_no_file_of_an_export(tmp_path, name):
    workspace = make_workspace(tmp_path / "ws")
    manifest = freeze_lists(workspace)
    retire(workspace, "0004", "asked by its author")
    folder = export_manifest(exported_set(workspace, manifest), name, tmp_path / "out", pictures=True)
    # Unlike the id alone, these bytes are in no digest.
    assert not [path for path, data in tree_bytes(folder).items() if b"0004.jpg" in data or b"title 4" in data]
    assert not list(folder.rglob("0004*"))
    assert json.loads((folder / "export.json").read_text())["retired_left_out"] == 1


def test_nothing_is_exported_where_every_image_is_retired(tmp_path):
    workspace = make_workspace(tmp_path / "ws")
    manifest = freeze_lists(workspace)
    for image_id in (*VAL, *TEST):
        retire(workspace, image_id, "withdrawn")
    with pytest.raises(InputError, match=r"openimage_o-1\.0\.0: every image is retired"):
        exported_set(workspace, manifest)


def test_openood_lists_lie_in_its_folder_shape(frozen, tmp_path):
    folder = export_manifest(frozen, "openood", tmp_path / "out", pictures=True)
    lists = folder / "benchmark_imglist" / "imagenet"
    assert (lists / "val_openimage_o.txt").read_bytes() == (
        b"openimage_o/images/0000.jpg -1\nopenimage_o/images/0003.jpg -1\n"
    )
    linked = folder / "images_largescale" / "openimage_o" / "images" / "0003.jpg"
    assert linked.read_bytes() == pictures(7)["0003"]
    assert linked.stat().st_ino == frozen.pictures["0003"].stat().st_ino


def test_lists_alone_need_no_picture(frozen, tmp_path):
    for path in frozen.pictures.values():
        path.unlink()
    folder = export_manifest(frozen, "openood", tmp_path / "out")
    assert sorted(tree_bytes(folder)) == [
        "ATTRIBUTION.csv", "ATTRIBUTION.html", "SHA256SUMS", "benchmark_imglist/imagenet/test_openimage_o.txt",
        "benchmark_imglist/imagenet/val_openimage_o.txt", "export.json",
    ]  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_a_picture_that_is_missing_or_changed_leaves_no_export_and_the_old_one(frozen, tmp_path, name):
    folder = export_manifest(frozen, name, tmp_path / "out", pictures=True)
    content = tree_bytes(folder)
    path = frozen.pictures["0004"]
    path.unlink()
    with pytest.raises(InputError, match=r"0004\.jpg is not there: run the stage 'download'"):
        export_manifest(frozen, name, tmp_path / "out", pictures=True)
    path.write_bytes(b"another picture")
    with pytest.raises(InputError, match=r"0004\.jpg: its bytes are not those that were frozen"):
        export_manifest(frozen, name, tmp_path / "out", pictures=True)
    assert tree_bytes(folder) == content
    assert [path.name for path in folder.parent.iterdir()] == [name]


def test_where_a_hard_link_is_not_possible_the_picture_is_copied(frozen, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    folder = export_manifest(frozen, "torchvision", tmp_path / "out")
    assert (folder / "val" / "ood" / "0000.jpg").read_bytes() == pictures(7)["0000"]
    assert (folder / "val" / "ood" / "0000.jpg").stat().st_nlink == 1


def test_a_folder_with_files_of_others_is_never_touched(frozen, tmp_path):
    folder = tmp_path / "out" / "csv"
    folder.mkdir(parents=True)
    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds 1 files that no export wrote \(thesis\.txt\)"):
        export_manifest(frozen, "csv", tmp_path / "out")
    (folder / "SHA256SUMS").write_text(f"{'0' * 64}  thesis.txt\n")
    (folder / "export.json").write_text('{"written_by": "somebody"}')
    with pytest.raises(InputError, match="holds 3 files that no export wrote"):
        export_manifest(frozen, "csv", tmp_path / "out")
    assert (folder / "thesis.txt").read_text() == "mine"


def test_a_file_put_beside_an_export_keeps_it_from_being_replaced(frozen, tmp_path):
    folder = export_manifest(frozen, "csv", tmp_path / "out")
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds 1 files that no export wrote \(notes\.txt\)"):
        export_manifest(frozen, "csv", tmp_path / "out")
    (folder / "notes.txt").unlink()
    (folder / "records.csv").unlink()
    export_manifest(frozen, "csv", tmp_path / "out")
    assert (folder / "records.csv").is_file()


def test_an_empty_folder_is_filled_and_a_link_refused(frozen, tmp_path):
    (tmp_path / "out" / "csv").mkdir(parents=True)
    assert (export_manifest(frozen, "csv", tmp_path / "out") / "records.csv").is_file()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "csv").symlink_to(tmp_path / "out" / "csv")
    with pytest.raises(InputError, match="expected a folder or nothing there, found a link"):
        export_manifest(frozen, "csv", tmp_path / "other")


def test_a_file_in_the_place_of_the_folder_is_refused(frozen, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(InputError, match=r"--out .*out: cannot be made or written \(File exists\)"):
        export_manifest(frozen, "csv", tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


def test_an_unknown_format_is_refused_with_those_that_there_are(frozen, tmp_path):
    with pytest.raises(InputError, match=r"--format: expected openood, pytorch-ood, .*, csv, found 'coco'"):
        export_manifest(frozen, "coco", tmp_path)


KILLED = """
import os, pathlib, signal, sys
from pathlib import Path
from manifests.exporters import export
from tests.export_world import freeze_lists
from manifests.workspace import Workspace

root, out, point = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
if point == "link":
    # In the midst of the pictures.
    link, linked = os.link, []
    def counted(source, target):
        linked.append(target)
        return die() if len(linked) == 4 else link(source, target)
    os.link = counted
elif point.isdigit():
    # The n-th rename: the old export aside, the new one to its place.
    rename, seen = pathlib.Path.rename, []
    def counted(self, target):
        seen.append(target)
        return die() if len(seen) == int(point) else rename(self, target)
    pathlib.Path.rename = counted
else:
    setattr(export, point, die)
workspace = Workspace(root)
chosen = export.exported_set(workspace, freeze_lists(workspace))
export.export_manifest(chosen, "torchvision", out)
"""


@pytest.mark.parametrize("point", ["link", "write_attribution", "seal", "1", "2"])
def test_a_kill_leaves_a_whole_export_or_none_and_a_rerun_the_same_bytes(tmp_path, point):
    frozen = frozen_set(tmp_path / "ws")
    folder = export_manifest(frozen, "torchvision", tmp_path / "out")
    content = tree_bytes(folder)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "ws"), str(tmp_path / "out"), point], cwd=REPOSITORY
    )
    assert killed.returncode == -signal.SIGKILL
    assert folder.exists() == (point != "2")
    if folder.exists():
        assert tree_bytes(folder) == content
    picture = frozen.pictures["0004"]
    picture.rename(picture.with_suffix(".aside"))
    with pytest.raises(InputError, match="is not there"):
        export_manifest(frozen, "torchvision", tmp_path / "out")
    assert tree_bytes(folder) == content
    picture.with_suffix(".aside").rename(picture)
    export_manifest(frozen, "torchvision", tmp_path / "out")
    assert tree_bytes(folder) == content
    assert [path.name for path in folder.parent.iterdir()] == ["torchvision"]


def test_where_the_new_export_cannot_take_its_place_the_old_one_stays(frozen, tmp_path, monkeypatch):
    folder = export_manifest(frozen, "csv", tmp_path / "out")
    content, rename = tree_bytes(folder), Path.rename

    def refuse_new(path, target):
        if path.name.endswith(".new"):
            raise PermissionError(13, "Permission denied")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse_new)
    with pytest.raises(PermissionError):
        export_manifest(frozen, "csv", tmp_path / "out")
    assert tree_bytes(folder) == content
    assert [path.name for path in folder.parent.iterdir()] == ["csv"]


def test_what_another_living_process_is_writing_is_left_alone(frozen, tmp_path):
    of_parent = tmp_path / "out" / f".csv.{os.getppid()}.new"
    of_parent.mkdir(parents=True)
    export_manifest(frozen, "csv", tmp_path / "out")
    assert of_parent.is_dir()


def test_a_split_that_datasets_cannot_name_is_refused(frozen, tmp_path):
    records = [{**record, "split": "far-ood"} for record in frozen.records]
    with pytest.raises(InputError, match=r"a split is named by letters, digits, '_' and '\.', found 'far-ood'"):
        export_manifest(dataclasses.replace(frozen, records=records), "huggingface", tmp_path)


def test_shards_hold_whole_row_groups_and_stay_below_their_size(frozen, monkeypatch, tmp_path):
    monkeypatch.setattr("manifests.exporters.huggingface._ROW_GROUP_ROWS", 2)
    monkeypatch.setattr("manifests.exporters.huggingface.SHARD_BYTES", 25_000)
    folder = export_manifest(frozen, "huggingface", tmp_path)
    assert sorted(path.name for path in (folder / "data").iterdir()) == [
        "test-00000-of-00003.parquet", "test-00001-of-00003.parquet", "test-00002-of-00003.parquet",
        "val-00000-of-00001.parquet",
    ]  # fmt: skip


def test_the_command_writes_a_folder_a_format_and_a_record_each(tmp_path, capsys):
    workspace = make_workspace(tmp_path / "ws")
    freeze_lists(workspace)
    arguments = ["export", "--workspace", str(workspace.root)]
    assert cli.run([*arguments, "--format", "csv", "--format", "openood", "--format", "csv"]) == 0
    exports = workspace.root / "exports" / "openimage_o-1.0.0"
    assert sorted(path.name for path in exports.iterdir()) == ["csv", "openood"]
    assert capsys.readouterr().out == (
        f"export: {exports / 'csv'}, 7 images\nexport: {exports / 'openood'}, 7 images\n"
    )
    assert workspace.read_record("export.openimage_o-1.0.0.csv", "counts") == {"images": 7, "retired_left_out": 0}
    assert cli.run([*arguments, "--out", str(workspace.root / "images")]) == 1
    assert "in a workspace exports go to exports/ alone" in capsys.readouterr().err
    assert cli.run([*arguments, "--url", "https://example.invalid/"]) == 2
    assert "--url: it has no effect without --format croissant" in capsys.readouterr().err


def test_the_steps_of_the_benchmark_export_what_they_are_called(tmp_path):
    workspace = made_up_workspace(tmp_path / "ws", 20)
    manifest = build_manifest(workspace, "bench", "1.0.0")
    for _, _, step in EXPORT_STEPS:
        step(workspace, manifest, tmp_path / "out")
    lists = (tmp_path / "out" / "openood" / "benchmark_imglist" / "imagenet").iterdir()
    assert sum(len(path.read_text().splitlines()) for path in lists) == 20
    assert all(path.stat().st_nlink == 2 for path in (tmp_path / "out" / "torchvision").rglob("*.jpg"))
    assert len(list((tmp_path / "out" / "torchvision").rglob("*.jpg"))) == 20
