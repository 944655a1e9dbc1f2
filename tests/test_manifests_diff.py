import csv
import io

import pytest

import cli
from manifests import schema
from manifests.build import build_manifest
from manifests.diff import diff_csv, manifest_diff
from manifests.diff_page import diff_page
from manifests.page import escaped, page
from manifests.selection import BuildRules
from manifests.tombstones import retire
from tests.manifest_world import image_name, verdict, world


@pytest.fixture
def versions(tmp_path):
    space = world(tmp_path / "ws", 12, words={8: "disputed", 9: "in"})
    first = build_manifest(space, "x", "1.0.0", rules=BuildRules(splits={}))
    retire(space, image_name(2), '=HYPERLINK("x") <script>alert(1)</script>')
    words = {1: "in", 9: "in"}
    rows = [verdict(number, words.get(number, "out"), 3 if number == 5 else 2) for number in range(12)]
    space.write(schema.VERDICTS, rows)
    rules = BuildRules(splits={}, max_aspect=45 / 30)
    return space, first, build_manifest(space, "x", "auto", rules=rules)


def test_every_image_that_changed_is_told_with_its_reason(versions):
    _, first, second = versions
    found = [(int(one.image_id, 16), one.change, one.why) for one in manifest_diff(first, second)]
    assert found == [
        (8, "entered", "verdict_disputed (2 out); then consensus (2 out)"),
        (1, "left", "consensus (2 out); then verdict_in (2 in)"),
        (2, "left", 'consensus (2 out); then retired: =HYPERLINK("x") <script>alert(1)</script>'),
        (6, "left", "consensus (2 out); then max_aspect (2 out)"),
        (5, "changed", "n_out: 2 -> 3"),
    ]


def test_an_image_that_moved_is_told_with_both_splits(tmp_path):
    space = world(tmp_path / "ws", 12)
    manifests = [
        build_manifest(space, "x", "auto", rules=BuildRules(splits={"val": share})) for share in (0.0, 0.9)
    ]
    moved = manifest_diff(*manifests)
    assert {one.change for one in moved} == {"moved"}
    assert {(one.split_before, one.split_after, one.why) for one in moved} == {
        ("test", "val", "split: test -> val")
    }
    assert len(moved) == manifests[1].header["counts"]["split_val"]


def test_two_sets_of_other_origin_say_so(tmp_path):
    space = world(tmp_path / "ws", 3)
    (tmp_path / "list.txt").write_text(f"{image_name(0)}\nffff\n")
    published = build_manifest(space, "published", "1.0.0", lists=[("test", tmp_path / "list.txt")])
    ours = build_manifest(space, "x", "1.0.0", rules=BuildRules(splits={}))
    why = {one.image_id: one.why for one in manifest_diff(published, ours)}
    assert why["ffff"] == "published_list; then not among what x-1.0.0 was chosen from"
    assert why[image_name(1)] == "not among what published-1.0.0 was chosen from; then consensus (2 out)"
    assert why[image_name(0)].startswith("verdict_source: published_list -> consensus; n_out: nothing -> 2")


def test_the_table_is_csv_that_no_spreadsheet_runs(versions):
    _, first, second = versions
    rows = list(csv.DictReader(io.StringIO(diff_csv(manifest_diff(first, second)))))
    assert list(rows[0]) == ["image_id", "change", "split_before", "split_after", "why"]
    assert not any(cell.startswith(("=", "+", "@")) for row in rows for cell in row.values())


def test_the_page_escapes_what_strangers_wrote_and_shows_each_picture(versions):
    space, first, second = versions
    (space.root / space.relative_image_path(image_name(6))).unlink()
    (space.root / space.relative_image_path(image_name(1))).write_bytes(b"<script>")
    html = diff_page(first, second, manifest_diff(first, second), space)
    assert "<script>" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "by &lt;b&gt;somebody&lt;/b&gt;" in html
    assert html.count('src="data:image/jpeg;base64,') == 3
    assert html.count("no picture here") == 1
    assert html.count('<span class="blank">not_an_image</span>') == 1
    assert html == diff_page(first, second, manifest_diff(first, second), space)


def test_hidden_characters_are_shown_by_their_number():
    # A right-to-left override would turn "gpj.exe" into "exe.jpg" for the eye.
    assert escaped("a\u202egpj.exe\x00") == "a\\u{202e}gpj.exe\\u{0}"
    assert escaped("\ud800") == "\\u{d800}"
    assert escaped('<a href="x">&\'') == "&lt;a href=&quot;x&quot;&gt;&amp;&#x27;"
    assert escaped(None) == ""
    assert "<title>a &lt; b</title>" in page("a < b", "")
    page("x\ud800", "").encode()


def test_the_command_prints_the_table_and_writes_the_page(versions, tmp_path, capsys):
    space, _, _ = versions
    where = ["x-1.0.0", str(space.manifests_dir / "x-2.0.0"), "--workspace", str(space.root)]
    assert cli.run(["diff", *where, "--html", str(tmp_path / "diff.html")]) == 0
    assert capsys.readouterr().out.splitlines()[1] == (
        f"{image_name(8)},entered,,test,verdict_disputed (2 out); then consensus (2 out)"
    )
    assert (tmp_path / "diff.html").read_text().startswith("<!DOCTYPE html>")
    assert cli.run(["diff", *where, "--out", str(tmp_path / "diff.csv")]) == 0
    assert capsys.readouterr().out == "diff: changed 1, entered 1, left 3, moved 0\n"
    assert cli.run(["diff", "x-1.0.0", "x-7.0.0", "--workspace", str(space.root)]) == 1
