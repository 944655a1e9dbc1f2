"""What somebody who edits files by hand must not get away with: headers, bytes, tombstones, certificates."""

import json

import pyarrow.parquet as pq
import pytest

import cli
from manifests import schema
from manifests.build import build_manifest
from manifests.chained_log import chain_of
from manifests.errors import InputError, TableError
from manifests.exporters.export import checked_out_dir
from manifests.frozen import header_digest, read_manifest
from manifests.strict_json import strict_json
from manifests.tombstones import retire
from manifests.verify import Against, verify_manifest
from manifests.verify_pictures import Depth
from manifests.verify_report import report_lines
from tests.manifest_world import image_name, problems, set_verdicts, small_picture, world

N_IMAGES = 10


@pytest.fixture
def space(tmp_path):
    space = world(tmp_path / "ws", N_IMAGES)
    build_manifest(space, "x", "1.0.0")
    return space


@pytest.fixture
def folder(space):
    return space.manifests_dir / "x-1.0.0"


def edited(folder, *, is_rehashed, **changes):
    header = json.loads((folder / "manifest.json").read_text()) | changes
    if is_rehashed:
        header["header_sha256"] = header_digest(header)
    (folder / "manifest.json").write_text(json.dumps(header))
    return header["header_sha256"]


def test_a_header_that_was_edited_is_believed_by_nothing(space, folder):
    edited(folder, is_rehashed=False, tool_version="9")
    with pytest.raises(TableError, match="its header_sha256 does not fit"):
        read_manifest(folder)
    set_verdicts(space, {0: "in"}, N_IMAGES)
    for version in ("auto", "2.0.0"):
        with pytest.raises(TableError, match=r"manifest\.json: is not as it was frozen"):
            build_manifest(space, "x", version)


def test_a_later_header_that_was_edited_shows_at_the_one_before_it(space, folder):
    set_verdicts(space, {0: "in"}, N_IMAGES)
    later = build_manifest(space, "x", "auto").folder
    edited(later, is_rehashed=False, tool_version="9")
    assert "a later version cannot be read" in problems(folder)["version"][0]


def test_the_published_digest_shows_a_header_whose_own_digest_was_computed_again(folder, capsys):
    published = json.loads((folder / "manifest.json").read_text())["header_sha256"]
    assert problems(folder, header_sha256=published) == {}
    forged = edited(folder, is_rehashed=True, tool_version="9")
    assert problems(folder) == {}
    expected = f"its header_sha256 is {forged}, and not the expected {published}"
    assert problems(folder, header_sha256=published) == {"header": [expected]}
    assert cli.run(["verify-manifest", str(folder), "--expect", published]) == 1
    assert expected in capsys.readouterr().out


def test_the_same_records_in_other_bytes_are_reported(folder):
    path = folder / "manifest.parquet"
    pq.write_table(pq.read_table(path), path, compression="none", write_statistics=False)
    assert problems(folder) == {
        "file": ["manifest.parquet does not hold the bytes that were frozen, whatever records it holds"]
    }
    assert read_manifest(folder).records.num_rows == N_IMAGES


@pytest.mark.parametrize("text", ['{"a": 1, "b": 2, "a": 1}', '[{"b": {"a": 1, "a": 2}}]'])
def test_a_name_that_stands_twice_is_refused(text):
    with pytest.raises(ValueError, match="'a' stands twice in one object"):
        strict_json(text)


def test_a_header_or_a_log_line_that_says_two_things_is_refused(space, folder):
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace("{", '{"tool_version": "9",', 1))
    assert "'tool_version' stands twice" in problems(folder)["header"][0]
    log = space.decisions_dir / "ana.jsonl"
    log.write_bytes(log.read_bytes().replace(b'{"n": 1', b'{"n": 7, "n": 1', 1))
    assert chain_of(log).problem == "line 1 is no JSON object with 'previous', each name once"


def test_a_tombstone_cannot_get_lost(space):
    retire(space, image_name(3), "the author asked for it")
    second = build_manifest(space, "x", "auto").folder
    log = space.tombstones_path.read_bytes()
    space.tombstones_path.unlink()
    for version in ("auto", "3.0.0", "2.0.0"):
        with pytest.raises(InputError, match=rf"x-2\.0\.0 states tombstones of 1 images .*\({image_name(3)}\)"):
            build_manifest(space, "x", version)
    missing = f"{image_name(3)}: manifest.json states one that tombstones.jsonl does not hold"
    assert problems(second, workspace=space)["tombstone"] == [missing]
    space.tombstones_path.write_bytes(log)
    assert problems(second, workspace=space) == {}
    set_verdicts(space, {0: "in"}, N_IMAGES)
    third = build_manifest(space, "x", "auto").folder
    edited(third, is_rehashed=True, tombstones=[])
    assert problems(third)["version"] == [f"{image_name(3)}: its tombstone in x-2.0.0 is gone"]
    assert problems(third, workspace=space)["tombstone"] == [
        "manifest.json states 0; the log had 1 when it was frozen"
    ]


def test_a_certificate_of_nothing_is_reported(folder):
    edited(folder, is_rehashed=True, certificate={"upper_bound": 1e-6})
    assert "certificate: without audit, manifest" in problems(folder)["certificate"][0]


def test_what_was_not_looked_at_is_said(space, folder):
    lines = report_lines(verify_manifest(folder))
    assert "note: logs, tombstones and audits were not looked at: --workspace DIR names theirs" in lines
    assert lines[-1] == "verified: no problem in what was looked at"
    whole = report_lines(verify_manifest(folder, Against(workspace=space, depth=Depth(reads_bytes=True))))
    assert whole[1:] == ["verified: no problem"]


def test_a_picture_elsewhere_and_links_are_no_pictures_of_a_workspace(space, folder, tmp_path):
    images = space.root / "images"
    moved, linked = (images / "00" / f"{image_name(number)}.jpg" for number in (1, 2))
    (images / "zz").mkdir()
    moved.rename(images / "zz" / moved.name)
    linked.rename(tmp_path / "outside.jpg")
    linked.symlink_to(tmp_path / "outside.jpg")
    (images / "etc").symlink_to("/etc")
    found = problems(folder, workspace=space, depth=Depth(reads_bytes=True))
    assert found == {
        "missing picture": [moved.name, linked.name],
        "extra picture": [f"00/{linked.name}", "etc (a link)", f"zz/{moved.name}"],
    }
    # A folder of pictures alone may have any shape.
    assert problems(folder, images_dir=images) == {"extra picture": ["etc (a link)"]}
    assert (tmp_path / "outside.jpg").read_bytes() == small_picture(2)


def test_hidden_files_and_the_rest_after_a_log_are_told(space, folder):
    (folder / ".hidden").write_text("x")
    log = space.decisions_dir / "ana.jsonl"
    log.write_bytes(log.read_bytes() + b"garbage")
    assert chain_of(log).n_torn_bytes == 7
    report = verify_manifest(folder, Against(workspace=space))
    assert report.problems["extra file"] == [".hidden"]
    assert report.notes[0].startswith("decisions/ana.jsonl: 7 bytes after its last line count as nothing")


def test_exports_go_nowhere_among_a_workspaces_own_files(space, tmp_path):
    for place in (space.root, space.root / "images", space.root / "exports" / ".." / "manifests" / "a"):
        with pytest.raises(InputError, match="in a workspace exports go to exports/ alone"):
            checked_out_dir(space, place)
    for place in (space.root / "exports" / "mine", tmp_path / "elsewhere"):
        assert checked_out_dir(space, place) == place


def test_a_second_header_of_other_tombstones_is_no_table(folder):
    edited(folder, is_rehashed=True, tombstones={"a": 1})
    assert "expected a list of tombstones" in problems(folder)["header"][0]
    assert read_manifest(folder).records.schema == schema.MANIFEST.schema
