import json
import os
import signal
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cli
from manifests import schema
from manifests.build import build_manifest
from manifests.chained_log import LogHead, chain_of
from manifests.errors import InputError
from manifests.frozen import content_digest, header_digest, record_lines
from manifests.merkle import merkle_root
from manifests.tombstones import retire
from manifests.verify import Against, verify_manifest
from manifests.verify_pictures import Depth
from manifests.verify_report import report_lines
from tests.conftest import REPOSITORY
from tests.manifest_world import bytes_of, image_name, log_lines, problems, set_verdicts, small_picture, world

N_IMAGES = 10
DEEP = Depth(reads_bytes=True)


@pytest.fixture
def space(tmp_path):
    space = world(tmp_path / "ws", N_IMAGES)
    build_manifest(space, "x", "1.0.0")
    return space


@pytest.fixture
def folder(space):
    return space.manifests_dir / "x-1.0.0"


def picture(space, number):
    return space.root / space.relative_image_path(image_name(number))


def rewritten(folder, table, change):
    """Put other records into a manifest, and digests that fit: what a forger would do."""
    rows = table.to_pylist()
    change(rows)
    changed = table.from_pylist(rows, schema=schema.MANIFEST.schema)
    pq.write_table(changed, folder / "manifest.parquet", compression="none")
    header = json.loads((folder / "manifest.json").read_text())
    header |= {"content_sha256": content_digest(rows), "merkle_root": merkle_root(record_lines(rows))}
    header["header_sha256"] = header_digest(header)
    (folder / "manifest.json").write_text(json.dumps(header))


def test_an_untouched_manifest_has_no_problem_however_deep(space, folder):
    for against in ({}, {"workspace": space}, {"workspace": space, "depth": DEEP}, {"depth": Depth(True, True)}):
        assert problems(folder, **against) == {}
    assert problems(folder, images_dir=space.root / "images", depth=Depth(True, True)) == {}


def test_missing_changed_and_extra_pictures_are_each_listed(space, folder, tmp_path):
    picture(space, 1).unlink()
    picture(space, 2).write_bytes(small_picture(5))
    picture(space, 3).write_bytes(small_picture(3)[:-20])
    (space.root / "images" / "00" / "stranger.jpg").write_bytes(small_picture(0))
    (space.root / "images" / "notes.txt").write_text("x")
    copy = space.root / "images" / "copy"
    copy.mkdir()
    (copy / picture(space, 4).name).write_bytes(small_picture(4))
    found = problems(folder, workspace=space, depth=DEEP)
    assert found["missing picture"] == [f"{image_name(1)}.jpg"]
    assert [text.split(":")[0] for text in found["changed picture"]] == [f"00/{image_name(n)}.jpg" for n in (2, 3)]
    assert found["extra picture"] == ["00/stranger.jpg", f"copy/{image_name(4)}.jpg", "notes.txt"]
    assert found["undecodable picture"][0].startswith(f"00/{image_name(3)}.jpg: undecodable: truncated")
    # The changed one is a whole picture, yet of another size.
    assert found["size picture"] == [f"00/{image_name(2)}.jpg: 45 x 30 px, not 42 x 30"]
    assert set(problems(folder, workspace=space)) == {"missing picture", "extra picture"}


def test_a_picture_without_a_stated_digest_is_decoded(tmp_path):
    space = world(tmp_path / "ws", 3)
    (tmp_path / "list.txt").write_text("".join(f"{image_name(n)}\n" for n in range(3)))
    empty = type(space)(tmp_path / "empty")
    folder = build_manifest(empty, "x", "1.0.0", lists=[("test", tmp_path / "list.txt")]).folder
    assert problems(folder, images_dir=space.root / "images", depth=DEEP) == {}
    picture(space, 2).write_bytes(small_picture(2)[:-9])
    found = problems(folder, images_dir=space.root / "images", depth=DEEP)
    assert list(found) == ["undecodable picture"]
    report = verify_manifest(folder, Against(workspace=empty))
    assert (report.n_problems, report.notes[0]) == (0, "3 images were never downloaded here")


@pytest.fixture(scope="module")
def byte_space(tmp_path_factory):
    space = world(tmp_path_factory.mktemp("bytes"), N_IMAGES)
    build_manifest(space, "x", "1.0.0")
    return space


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_any_changed_byte_of_any_file_is_caught(byte_space, data):
    space, folder = byte_space, byte_space.manifests_dir / "x-1.0.0"
    files = [*sorted(folder.iterdir()), picture(space, 3), space.decisions_dir / "ana.jsonl"]
    path = data.draw(st.sampled_from(files))
    whole = path.read_bytes()
    content = bytearray(whole)
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        found = problems(folder, workspace=space, depth=DEEP)
    finally:
        path.write_bytes(whole)
    if path.name == "manifest.json" and not found:
        # JSON has more than one writing for a value.
        assert json.loads(content) == json.loads(whole)
    else:
        assert found, f"{path.name}, byte {place}"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


@pytest.fixture(scope="module")
def header_space(tmp_path_factory):
    space = world(tmp_path_factory.mktemp("header"), 4, has_pictures=False)
    build_manifest(space, "x", "1.0.0")
    return space, (space.manifests_dir / "x-1.0.0" / "manifest.json").read_text()


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_a_forged_header_is_reported_whatever_stands_in_it(header_space, data):
    space, text = header_space
    folder = space.manifests_dir / "x-1.0.0"
    header = json.loads(text)
    key = data.draw(st.sampled_from(sorted(header)))
    value = data.draw(JSON)
    forged = header | {key: value}
    if key != "header_sha256" and data.draw(st.booleans()):
        forged["header_sha256"] = header_digest(forged)
    (folder / "manifest.json").write_text(json.dumps(forged))
    # What nothing else on disk states can be forged with the header's own digest until the next version follows.
    unwitnessed = {"inputs", "rules", "rebuild", "tool_version", "previous", "logs"}
    found = problems(folder, workspace=space)
    found.pop("missing picture", None)
    if forged != header and (key not in unwitnessed or forged["header_sha256"] == header["header_sha256"]):
        assert found


def test_records_that_were_changed_with_their_digests_are_caught_by_the_next_version(space, folder):
    set_verdicts(space, {0: "in"}, N_IMAGES)
    later = build_manifest(space, "x", "auto").folder
    assert problems(later) == {}
    records = pq.read_table(folder / "manifest.parquet")
    rewritten(
        folder, records, lambda rows: rows[4].update(license_url="https://creativecommons.org/licenses/by/4.0/")
    )
    assert any("x-2.0.0 follows it, but its content_sha256 was" in text for text in problems(folder)["version"])
    assert any("it follows x-1.0.0, but that one's content" in text for text in problems(later)["version"])


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (lambda rows: rows.reverse(), "table", "the records are not sorted by image id"),
        (lambda rows: rows.append(dict(rows[0])), "table", "stands in more than one row"),
        (lambda rows: rows[0].update(image_id="../x"), "table", "'../x' is no image id"),
        (lambda rows: rows[0].update(sha256="F" * 64), "table", "is no sha256"),
        (lambda rows: rows.pop(), "header", "records: counts is {'images': 9"),
        (lambda rows: rows[0].update(split="dev"), "header", "'split_dev': 1"),
    ],
)
def test_forged_records_are_caught_even_where_the_digests_fit(folder, change, kind, message):
    rewritten(folder, pq.read_table(folder / "manifest.parquet"), change)
    assert any(message in text for text in problems(folder)[kind])


def test_what_was_left_out_is_verified_too(tmp_path):
    space = world(tmp_path / "ws", 6, words={1: "in", 2: "open"})
    folder = build_manifest(space, "x", "1.0.0").folder
    rows = pq.read_table(folder / "left_out.parquet").to_pylist()
    rows[0]["reason"] = "verdict_difficult"
    rows[1]["image_id"] = image_name(3)
    forged = pq.read_table(folder / "left_out.parquet").from_pylist(rows, schema=schema.LEFT_OUT.schema)
    pq.write_table(forged, folder / "left_out.parquet")
    found = problems(folder)
    assert found["table"] == [f"{image_name(3)} is left out and a record too"]
    assert any("left_out_sha256" in text for text in found["digest"])
    (folder / "left_out.parquet").unlink()
    (folder / "notes.txt").write_text("x")
    found = problems(folder)
    assert "cannot be read as Parquet" in found["table"][0]
    assert found["extra file"] == ["notes.txt"]


def test_later_lines_of_a_log_are_fine_and_a_change_before_names_the_line(space, folder):
    log = space.decisions_dir / "ana.jsonl"
    rows = [{"n": n} for n in (1, 2, 3, 4, 5)]
    log.write_bytes(log_lines(*rows))
    assert problems(folder, workspace=space) == {}
    log.write_bytes(log_lines({"n": 1}, {"n": 9}, *rows[2:]))
    departed = "since the manifest was frozen, it has changed: line 3 is not the one that was there"
    assert departed in problems(folder, workspace=space)["log"][0]
    log.write_bytes(log_lines(*rows[:2]))
    assert "2 lines; there were 3" in problems(folder, workspace=space)["log"][0]
    lines = log_lines(*rows).splitlines(keepends=True)
    log.write_bytes(b"".join([lines[0], lines[1].replace(b'"n": 2', b'"n": 7'), *lines[2:]]))
    assert "line 3: the line before it was changed" in problems(folder, workspace=space)["log"][0]
    log.unlink()
    assert "0 lines; there were 3" in problems(folder, workspace=space)["log"][0]


@given(st.lists(st.integers(0, 3), max_size=6), st.integers(0, 6), st.data())
def test_a_head_holds_for_what_was_appended_and_for_nothing_else(tmp_path_factory, numbers, n_before, data):
    path = tmp_path_factory.mktemp("log") / "log.jsonl"
    n_before = min(n_before, len(numbers))
    lines = log_lines(*({"n": n} for n in numbers)).splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:n_before]))
    head = chain_of(path).head
    path.write_bytes(b"".join(lines))
    assert chain_of(path).departs_from(head) is None
    if n_before:
        other = data.draw(st.integers(0, n_before - 1))
        changed = [{"n": n + 10 * (i == other)} for i, n in enumerate(numbers)]
        path.write_bytes(log_lines(*changed))
        assert chain_of(path).departs_from(head) is not None
    assert head.n_lines == n_before
    assert isinstance(head, LogHead)


def test_an_old_version_stays_verified_when_an_image_is_retired(space, folder):
    retire(space, image_name(3), "the author asked for it")
    report = verify_manifest(folder, Against(workspace=space, depth=DEEP))
    assert (report.n_problems, report.n_retired) == (0, 1)
    assert report_lines(report)[0] == "x-1.0.0: 10 images, 1 of them retired since"
    later = build_manifest(space, "x", "auto")
    assert problems(later.folder, workspace=space, depth=DEEP) == {}


def test_a_long_list_of_problems_is_cut_and_counted(tmp_path):
    space = world(tmp_path / "ws", 30)
    folder = build_manifest(space, "x", "1.0.0").folder
    for number in range(25):
        picture(space, number).unlink()
    lines = report_lines(verify_manifest(folder, Against(workspace=space)))
    assert lines[1] == "missing picture: 25"
    assert len([line for line in lines if line.endswith(".jpg")]) == 20
    assert "  and 5 more" in lines
    assert lines[-1] == "25 problems"


def test_a_folder_that_holds_no_manifest_is_named(tmp_path):
    with pytest.raises(InputError, match="holds no manifest; expected the folder of one version"):
        verify_manifest(tmp_path)


def test_the_command_reports_all_problems_and_exits_1(space, folder, capsys):
    # The lines of this world's log are no decisions: here they need not be.
    (space.decisions_dir / "ana.jsonl").unlink()
    build_manifest(space, "y", "1.0.0")
    arguments = ["verify-manifest", "y-1.0.0", "--workspace", str(space.root), "--deep"]
    assert cli.run([*arguments, "--prove", image_name(2)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[:2] == ["y-1.0.0: 10 images", "verified: no problem"]
    assert json.loads(out[2])["record"]["image_id"] == image_name(2)
    picture(space, 1).unlink()
    picture(space, 2).write_bytes(b"x")
    assert cli.run(arguments) == 1
    captured = capsys.readouterr()
    assert "missing picture: 1\n" in captured.out
    assert "changed picture: 1\n" in captured.out
    assert captured.err == "error: y-1.0.0: 3 problems; they are listed above\n"


def test_the_command_names_the_bad_line_of_a_decision_log(space, folder, capsys):
    assert cli.run(["verify-manifest", "x-1.0.0", "--workspace", str(space.root)]) == 1
    assert "ana.jsonl, line 1:" in capsys.readouterr().out


def test_a_build_that_is_killed_anywhere_ends_in_the_same_bytes(tmp_path):
    expected = bytes_of(build_manifest(world(tmp_path / "whole", 60, has_pictures=False), "x", "1.0.0").folder)
    space = world(tmp_path / "killed", 60, has_pictures=False)
    program = (
        "import os, sys, threading, time\n"
        "from pathlib import Path\n"
        "from manifests import frozen\n"
        "from manifests.build import build_manifest\n"
        "from manifests.workspace import Workspace\n"
        "stop_at, replace, n = int(sys.argv[2]), Path.replace, [0]\n"
        "def killing(self, target):\n"
        "    n[0] += 1\n"
        "    if n[0] == stop_at:\n"
        "        print('here', flush=True); time.sleep(60)\n"
        "    return replace(self, target)\n"
        "Path.replace = killing\n"
        "build_manifest(Workspace(Path(sys.argv[1])), 'x', '1.0.0')\n"
    )
    n_killed = 0
    for stop_at in range(1, 8):
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(space.root), str(stop_at)], cwd=REPOSITORY, stdout=subprocess.PIPE
        )
        if process.stdout.readline():
            n_killed += 1
            os.kill(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)
        if process.returncode == 0:
            break
    assert n_killed >= 4
    assert bytes_of(build_manifest(space, "x", "1.0.0").folder) == expected
