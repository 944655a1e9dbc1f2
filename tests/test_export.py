"""Every export: whole or not at all, nobody's files lost, the same bytes again, attribution that does no harm."""

import csv
import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import cli
from manifests import schema
from manifests.build import build_manifest
from manifests.chained_log import LogHead, chained_line
from manifests.errors import InputError, TableError
from manifests.exporters.attribution import inert, license_name
from manifests.exporters.export import FORMATS, export_manifest, exported_set
from manifests.exporters.exported_set import AnnotationFacts, Publication
from manifests.tombstones import retire
from tests.conftest import REPOSITORY
from tests.export_world import (
    HOSTILE_TITLE,
    LICENSE,
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
if point.isdigit():
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


@pytest.mark.parametrize("point", ["write_attribution", "seal", "1", "2"])
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


def test_attribution_names_title_author_source_and_licence_of_every_image(frozen, tmp_path):
    folder = export_manifest(frozen, "openood", tmp_path / "out")
    with (folder / "ATTRIBUTION.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["image_id"] for row in rows] == [f"000{number}" for number in range(7)]
    assert rows[1] == {
        "image_id": "0001", "title": "title 1", "author": "author 1", "source": "https://flickr.invalid/1",
        "license": "CC BY 2.0", "license_url": LICENSE, "picture_url": "https://mirror.invalid/0001.jpg",
    }  # fmt: skip
    assert (rows[6]["title"], rows[6]["license"]) == ("", "")
    page = (folder / "ATTRIBUTION.html").read_text()
    assert "7 images · CC BY 2.0: 6 · licence not known: 1" in page
    assert '<a href="https://flickr.invalid/1" rel="nofollow noopener noreferrer">title 1</a>' in page


def test_formulas_and_markup_of_strangers_are_harmless(frozen, tmp_path):
    for name in ("openood", "csv"):
        folder = export_manifest(frozen, name, tmp_path / "out")
        for path in folder.glob("*.csv"):
            with path.open(newline="", encoding="utf-8") as stream:
                row = next(csv.DictReader(stream))
            assert row["title"] == "'" + HOSTILE_TITLE
            assert row["image_id"] == "0000"
        page = (folder / "ATTRIBUTION.html").read_text()
        assert "<script" not in page
        assert "<img" not in page
        assert "javascript:" not in page
        assert "\u202e" not in page
        assert "&lt;img src=x onerror=" in page


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(1)", "\t=1", "\r=1", "\n=1", "  =1", "＝1"])
def test_a_cell_that_a_spreadsheet_would_run_begins_with_an_apostrophe(cell):
    assert inert(cell) == "'" + cell


def test_other_cells_stay_as_they_are():
    assert [inert(cell) for cell in ("", "a=b", "1-2", "'=1", "日本")] == ["", "a=b", "1-2", "'=1", "日本"]


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://creativecommons.org/licenses/by/2.0/", "CC BY 2.0"),
        ("http://www.creativecommons.org/licenses/by-nc-sa/3.0/de/", "CC BY-NC-SA 3.0 DE"),
        ("https://creativecommons.org/licenses/by/4.0/legalcode", "CC BY 4.0"),
        ("https://creativecommons.org/publicdomain/zero/1.0/", "CC0 1.0"),
        ("https://creativecommons.org/publicdomain/mark/1.0/", "Public Domain Mark 1.0"),
        ("https://example.invalid/licenses/by/2.0/", "https://example.invalid/licenses/by/2.0/"),
        (None, ""),
    ],
)
def test_a_licence_is_named(url, name):
    assert license_name(url) == name


def answered(image_id, answer, day, queue="first"):
    return {
        "image_id": image_id, "answer": answer, "queue": queue, "guideline": "guideline 1",
        "tool_version": "0.1.0", "at": f"2026-03-{day:02}T10:00:00+00:00",
    }  # fmt: skip


def append(path, rows, head=None):
    path.parent.mkdir(exist_ok=True)
    head = head or LogHead(0, "0" * 64)
    with path.open("ab") as stream:
        for row in rows:
            line = chained_line(row, head)
            stream.write(line)
            head = LogHead(head.n_lines + 1, hashlib.sha256(line[:-1]).hexdigest())
    return head


@pytest.fixture
def annotated(tmp_path):
    """Two agreed images, by the logs of two annotators; one answer was taken back, one is of an audit."""
    workspace = make_workspace(tmp_path / "ws")
    rows = [
        {"image_id": one, "verdict": "out", "source": "consensus", "n_out": 2, "n_in": 0, "n_difficult": 0}
        for one in ("0001", "0002")
    ]
    workspace.write(schema.VERDICTS, rows)
    append(
        workspace.decisions_dir / "ana.jsonl",
        [answered("0001", "in", 1), answered("0001", "undo", 2), answered("0001", "out", 3),
         answered("0002", "out", 4), answered("0005", "in", 9)],
    )  # fmt: skip
    head = append(
        workspace.decisions_dir / "ben.jsonl",
        [answered("0001", "out", 5), answered("0002", "out", 6), answered("0002", "out", 8, "audit")],
    )
    return workspace, build_manifest(workspace, "openimage_o", "1.0.0"), head


def test_the_logs_tell_who_answered_what_and_when_up_to_the_freezing(annotated):
    workspace, manifest, head = annotated
    expected = AnnotationFacts(2, 4, "2026-03-03", "2026-03-06", ("guideline 1",), ("0.1.0",))
    assert exported_set(workspace, manifest).facts == expected
    append(workspace.decisions_dir / "ben.jsonl", [answered("0001", "in", 20)], head)
    assert exported_set(workspace, manifest).facts == expected


def test_a_log_that_is_not_the_one_of_the_freezing_is_refused(annotated):
    workspace, manifest, _ = annotated
    path = workspace.decisions_dir / "ana.jsonl"
    path.write_bytes(path.read_bytes().replace(b"2026-03-04", b"2026-03-05"))
    with pytest.raises(TableError, match=r"ana\.jsonl: not the log that the manifest was frozen with"):
        exported_set(workspace, manifest)


def test_croissant_fields_of_responsible_ai_come_from_the_logs(annotated, tmp_path):
    workspace, manifest, _ = annotated
    said = Publication(("A lab",), "https://example.invalid/set", "2026-04-01")
    folder = export_manifest(exported_set(workspace, manifest, publication=said), "croissant", tmp_path / "out")
    metadata = json.loads((folder / "croissant.json").read_text())
    assert metadata["rai:annotationsPerItem"] == "2.00 standing answers on average (4 in all)"
    assert metadata["rai:dataCollectionTimeFrame"] == ["2026-03-03T00:00:00Z", "2026-03-06T00:00:00Z"]
    assert metadata["rai:dataAnnotationPlatform"] == ["openimage-o-toolkit 0.1.0 (FiftyOne App)"]
    assert metadata["rai:dataAnnotationAnalysis"] == ["Answers 'out' an image: 2 votes: 2 images."]
    assert "2 annotators" in metadata["rai:dataAnnotationProtocol"][0]
    assert metadata["creator"] == [{"@type": "sc:Organization", "name": "A lab"}]
    assert (metadata["url"], metadata["datePublished"]) == ("https://example.invalid/set", "2026-04-01")


def test_what_nobody_said_is_left_out_of_the_description(frozen, tmp_path):
    metadata = json.loads((export_manifest(frozen, "croissant", tmp_path) / "croissant.json").read_text())
    left_out = {"creator", "url", "datePublished", "rai:annotationsPerItem", "rai:dataCollectionTimeFrame"}
    assert not left_out & metadata.keys()


def test_a_day_or_address_that_is_none_is_refused():
    with pytest.raises(InputError, match="--published: expected a day"):
        Publication(published="1.4.2026")
    with pytest.raises(InputError, match="--url: expected an address"):
        Publication(url="example.invalid")


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
    assert cli.run([*arguments, "--url", "https://example.invalid/"]) == 2
    assert "--url: it has no effect without --format croissant" in capsys.readouterr().err


def test_the_card_states_licence_splits_and_how_the_images_were_chosen(annotated, tmp_path):
    workspace, manifest, _ = annotated
    card = (export_manifest(exported_set(workspace, manifest), "huggingface", tmp_path) / "README.md").read_text()
    front, body = card.split("---\n", 2)[1:]
    assert 'license: "cc-by-2.0"\n' in front
    assert '  - split: "test"\n    path: "data/test-*.parquet"\n' in front
    assert "2 annotators, each blind to the others" in body
