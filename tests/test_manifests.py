import hashlib
import json
import shutil

import pytest

from manifests import schema
from manifests.build import build_manifest
from manifests.errors import InputError, StageMissingError, TableError
from manifests.exporters.export import export_manifest, exported_set
from manifests.frozen import content_digest, find_manifest, header_digest, read_manifest
from manifests.funnel import format_funnel, funnel
from manifests.workspace import Workspace
from tests.download_world import GOOD

DIGEST = hashlib.sha256(GOOD).hexdigest()
LICENCE = "https://creativecommons.org/licenses/by/2.0/"


def candidate(image_id, **columns):
    row = {"subset": "test", "url": f"https://mirror.invalid/test/{image_id}.jpg", "license_url": LICENCE,
           "author": f"author of {image_id}", "title": f"title of {image_id}",
           "landing_url": f"https://flickr.invalid/{image_id}"}  # fmt: skip
    return {"image_id": image_id, **row, **columns}


def downloaded(image_id, status="ok"):
    row = {"image_id": image_id, "status": status, "attempts": 1}
    if status == "ok":
        path = Workspace.relative_image_path(image_id)
        row |= {"sha256": DIGEST, "size_bytes": len(GOOD), "width_px": 96, "height_px": 64, "path": path}
    return row


def verdict(image_id, word, n_out=2):
    return {
        "image_id": image_id,
        "verdict": word,
        "source": "consensus",
        "n_out": n_out,
        "n_in": 0,
        "n_difficult": 0,
    }


def log_lines(*image_ids, queue="first"):
    """Return a log of answers in `queue`, whose every line carries the SHA-256 of the line before it."""
    lines, previous = [], "0" * 64
    for image_id in image_ids:
        lines.append(json.dumps({"image_id": image_id, "previous": previous, "queue": queue}).encode())
        previous = hashlib.sha256(lines[-1]).hexdigest()
    return b"".join(line + b"\n" for line in lines)


@pytest.fixture
def workspace(tmp_path):
    workspace = Workspace(tmp_path / "ws")
    workspace.write(schema.CANDIDATES, [candidate(i) for i in ("a", "b", "c", "d")])
    workspace.write(
        schema.DOWNLOADS, [downloaded("a"), downloaded("b"), downloaded("c"), downloaded("d", "missing")]
    )
    workspace.write(schema.VERDICTS, [verdict("b", "out", 3), verdict("a", "out"), verdict("c", "disputed")])
    workspace.decisions_dir.mkdir()
    (workspace.decisions_dir / "ana.jsonl").write_bytes(log_lines("a", "b"))
    for image_id in "ab":
        path = workspace.root / workspace.relative_image_path(image_id)
        path.parent.mkdir(parents=True)
        path.write_bytes(GOOD)
    return workspace


def folder_bytes(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_manifest_holds_the_agreed_images_with_what_is_known_of_them(workspace):
    manifest = build_manifest(workspace, "openimage_o", "1.0.0")
    assert manifest.records.to_pylist()[1] == {
        "image_id": "b", "sha256": DIGEST, "url": "https://mirror.invalid/test/b.jpg", "license_url": LICENCE,
        "author": "author of b", "title": "title of b", "landing_url": "https://flickr.invalid/b", "width_px": 96,
        "height_px": 64, "verdict_source": "consensus", "n_out": 3, "split": "test", "strata": None,
    }  # fmt: skip
    assert manifest.records.column("image_id").to_pylist() == ["a", "b"]
    assert manifest.header["counts"] == {"images": 2, "with_licence": 2, "with_sha256": 2, "split_test": 2}


def test_a_second_build_gives_the_same_bytes_wherever_the_workspace_lies(workspace, tmp_path):
    first = folder_bytes(build_manifest(workspace, "openimage_o", "1.0.0").folder)
    assert folder_bytes(build_manifest(workspace, "openimage_o", "1.0.0").folder) == first
    shutil.copytree(workspace.root, tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "elsewhere" / "manifests")
    assert folder_bytes(build_manifest(Workspace(tmp_path / "elsewhere"), "openimage_o", "1.0.0").folder) == first
    assert str(tmp_path).encode() not in first["manifest.json"]


def test_a_frozen_version_never_changes(workspace):
    folder = build_manifest(workspace, "openimage_o", "1.0.0").folder
    first = folder_bytes(folder)
    workspace.write(schema.VERDICTS, [verdict("a", "out")])
    with pytest.raises(InputError, match=r"openimage_o-1\.0\.0 is frozen with 2 other records"):
        build_manifest(workspace, "openimage_o", "1.0.0")
    assert folder_bytes(folder) == first
    assert build_manifest(workspace, "openimage_o", "2.0.0").records.num_rows == 1


def test_the_same_records_from_other_inputs_are_another_version(workspace, tmp_path):
    paths = []
    for number in (1, 2):
        paths.append(tmp_path / str(number) / "list.txt")
        paths[-1].parent.mkdir()
        paths[-1].write_text("a.jpg\n" + "\n" * number)
    folder = build_manifest(workspace, "x", "1.0.0", lists=[("test", paths[0])]).folder
    first = folder_bytes(folder)
    with pytest.raises(InputError, match="frozen with these records from other inputs or flags: give a"):
        build_manifest(workspace, "x", "1.0.0", lists=[("test", paths[1])])
    assert folder_bytes(folder) == first


def test_verdicts_that_no_longer_follow_from_the_decisions_are_refused(workspace):
    screen = [{"image_id": i, "status": "review", "is_control": False} for i in "abc"]
    workspace.write(schema.SCREEN, screen)
    inputs = [workspace.path_of(schema.SCREEN), workspace.decisions_dir / "ana.jsonl"]
    with workspace.stage("consensus", {}, inputs):
        pass
    build_manifest(workspace, "openimage_o", "1.0.0")
    (workspace.decisions_dir / "ana.jsonl").write_bytes(log_lines("a", "b", "c"))
    with pytest.raises(
        StageMissingError, match=r"decisions/ana\.jsonl changed since the verdicts: run the stage 'cons"
    ):
        build_manifest(workspace, "openimage_o", "1.1.0")


def test_images_that_are_no_longer_candidates_are_refused(workspace):
    workspace.write(schema.CANDIDATES, [candidate("b")])
    with pytest.raises(StageMissingError, match=r"no longer candidates \(a\): run the stage 'download' again"):
        build_manifest(workspace, "openimage_o", "1.0.0")


def test_a_header_that_names_another_set_is_refused(workspace):
    folder = build_manifest(workspace, "openimage_o", "1.0.0").folder
    header = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(header | {"name": "../../evil"}))
    with pytest.raises(TableError, match=r"says \.\./\.\./evil-1\.0\.0, but lies in openimage_o-1\.0\.0"):
        read_manifest(folder)
    del header["name"]
    (folder / "manifest.json").write_text(json.dumps(header))
    with pytest.raises(TableError, match="not a manifest header"):
        read_manifest(folder)


def test_changed_records_are_found_on_reading(workspace):
    folder = build_manifest(workspace, "openimage_o", "1.0.0").folder
    header = json.loads((folder / "manifest.json").read_text())
    header["content_sha256"] = "0" * 64
    header["header_sha256"] = header_digest(header)
    (folder / "manifest.json").write_text(json.dumps(header))
    with pytest.raises(TableError, match="expected the records with digest 000000000000, found"):
        read_manifest(folder)


def test_the_digest_is_that_of_the_records_alone():
    assert content_digest([{"b": 1, "a": "é"}]) == content_digest([{"a": "é", "b": 1}])
    assert content_digest([{"a": 1}]) != content_digest([{"a": 2}])


@pytest.mark.parametrize(
    ("name", "version", "message"),
    [
        ("openimage_o", "1.0", r"--version: expected X\.Y\.Z"),
        ("openimage_o", "1.0.01", "--version"),
        ("../x", "1.0.0", "--name: expected letters"),
    ],
)
def test_a_bad_name_or_version_is_refused(workspace, name, version, message):
    with pytest.raises(InputError, match=message):
        build_manifest(workspace, name, version)


def test_without_an_agreed_image_there_is_no_manifest(workspace):
    workspace.write(schema.VERDICTS, [verdict("a", "open", 0)])
    with pytest.raises(InputError, match="no image has the verdict out"):
        build_manifest(workspace, "openimage_o", "1.0.0")
    assert not workspace.manifests_dir.exists()


def test_an_agreed_image_without_its_picture_is_named(workspace):
    workspace.write(schema.VERDICTS, [verdict("a", "out"), verdict("d", "out")])
    with pytest.raises(InputError, match=r"1 images with the verdict out have no picture \(d\)"):
        build_manifest(workspace, "openimage_o", "1.0.0")


def test_without_verdicts_the_stage_is_named(tmp_path):
    with pytest.raises(StageMissingError, match="run the stage 'consensus'"):
        build_manifest(Workspace(tmp_path), "openimage_o", "1.0.0")


def test_a_list_is_joined_with_what_the_workspace_knows(workspace, tmp_path):
    (tmp_path / "list.txt").write_text("a.jpg\nzz.jpg\n")
    manifest = build_manifest(workspace, "openimage_o", "1.0.0", lists=[("test", tmp_path / "list.txt")])
    known, unknown = manifest.records.to_pylist()
    assert (known["author"], known["sha256"], known["verdict_source"]) == ("author of a", DIGEST, "published_list")
    assert (unknown["author"], unknown["sha256"]) == (None, None)
    assert unknown["url"] == "https://open-images-dataset.s3.amazonaws.com/test/zz.jpg"
    assert manifest.header["counts"]["with_licence"] == 1


def test_lists_of_two_splits_may_not_share_an_image(workspace, tmp_path):
    for name in ("val", "test"):
        (tmp_path / f"{name}.txt").write_text("a.jpg\n")
    with pytest.raises(InputError, match="image a stands already in the list of split val"):
        build_manifest(
            workspace, "x", "1.0.0", lists=[(name, tmp_path / f"{name}.txt") for name in ("val", "test")]
        )


def test_of_several_manifests_one_must_be_named(workspace):
    with pytest.raises(InputError, match="holds no manifest"):
        find_manifest(workspace.manifests_dir, None)
    build_manifest(workspace, "openimage_o", "1.0.0")
    assert find_manifest(workspace.manifests_dir, None).name == "openimage_o"
    build_manifest(workspace, "openimage_o", "1.0.1")
    with pytest.raises(InputError, match=r"--manifest: expected one of openimage_o-1\.0\.0, openimage_o-1\.0\.1"):
        find_manifest(workspace.manifests_dir, None)
    with pytest.raises(InputError, match="--manifest other: expected one of"):
        find_manifest(workspace.manifests_dir, "other")


def test_the_funnel_counts_every_image_and_why_it_left(workspace):
    build_manifest(workspace, "openimage_o", "1.0.0")
    text = format_funnel(funnel(workspace))
    lines = [line.split() for line in text.splitlines()]
    assert ["candidates", "4"] in lines
    assert ["downloaded", "3", "missing", "1"] in lines
    assert ["to", "review", "-", "not", "run", "yet"] in lines
    assert ["answered", "(ana)", "2"] in lines
    assert ["agreed", "out", "2", "disputed", "1"] in lines
    assert ["manifest", "openimage_o-1.0.0", "2"] in lines


def test_the_funnel_names_annotators_and_no_adjudicator_inspector_or_auditor(workspace):
    compact = b'{"image_id":"c","queue":"first"}\n{"image_id":"d","queue":"gold"}\n{"image_id":"e","queue":"fir'
    logs = {
        "ben": compact, "eva": log_lines("b", queue="dispute"), "fay": log_lines("a", "x", queue="audit"),
        "ina": log_lines("y", queue="inspection"), "zoe": log_lines("z", queue="gold"),
    }  # fmt: skip
    for name, content in logs.items():
        (workspace.decisions_dir / f"{name}.jsonl").write_bytes(content)
    # Ana answered a and b; of ben's lines the third is torn, and d, a gold image, is answered too.
    (step,) = [step for step in funnel(workspace) if step.stage.startswith("answered")]
    assert (step.stage, step.n_images, step.is_done) == ("answered (ana, ben)", 4, True)
    for name in ("ana", "ben"):
        (workspace.decisions_dir / f"{name}.jsonl").unlink()
    (step,) = [step for step in funnel(workspace) if step.stage.startswith("answered")]
    assert (step.stage, step.is_done) == ("answered", False)


def test_the_official_list_becomes_its_17632_images_with_openoods_split(shared, tmp_path):
    lists = shared / "data" / "lists"
    workspace = Workspace(tmp_path)
    whole = build_manifest(workspace, "vim", "1.0.0", lists=[("test", lists / "vim_openimage_o.txt")])
    ids = whole.records.column("image_id").to_pylist()
    assert len(ids) == len(set(ids)) == 17_632
    first = folder_bytes(whole.folder)
    again = build_manifest(workspace, "vim", "1.0.0", lists=[("test", lists / "vim_openimage_o.txt")])
    assert folder_bytes(again.folder) == first
    splits = [(split, lists / f"openood_{split}_openimage_o.txt") for split in ("val", "test")]
    split = build_manifest(workspace, "openimage_o", "1.0.0", lists=splits)
    assert split.header["counts"] | {"split_val": 1_763, "split_test": 15_869} == split.header["counts"]
    assert split.records.column("image_id").to_pylist() == ids
    folder = export_manifest(exported_set(workspace, split), "openood", tmp_path / "data")
    for name, official in splits:
        path = folder / "benchmark_imglist" / "imagenet" / f"{name}_openimage_o.txt"
        assert sorted(path.read_bytes().splitlines()) == sorted(official.read_bytes().splitlines())
