import json
import os
import re
import shlex
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

import cli
from annotation.audit.plan import plan_audit
from annotation.audit.report import report_audit
from manifests import schema
from manifests.audit_design import Goal
from manifests.build import build_manifest
from manifests.errors import TableError
from manifests.images import read_image
from manifests.page import document
from manifests.report.frozen_set import manifest_sections
from manifests.report.gathered import report_lead
from manifests.report.overview import overview_sections
from manifests.report.parts import (
    BEST,
    SECOND,
    Card,
    CardPicture,
    Chart,
    Folded,
    Gallery,
    Section,
    Table,
    Text,
    Words,
)
from manifests.report.pictures import PictureCounts, stored_pictures_beside
from manifests.report.provenance import duration, provenance_sections, read_records
from manifests.report.render import plan_report, write_report
from manifests.report.set_charts import aspect_chart, size_chart
from manifests.selection import BuildRules
from manifests.tombstones import retire
from manifests.workspace import Workspace
from tests.audit_world import drawn, frozen_world, say
from tests.conftest import REPOSITORY
from tests.manifest_world import image_name, shuffled, small_picture, world

HOSTILE = "</script><script>alert(1)</script> \"'> \u202egpj <!-- `x` &amp;"
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="100pt" height="50pt" viewBox="0 0 100 50"></svg>'


class Elements(HTMLParser):
    """Every element of a page with its attributes, and the text that stands in each kind."""

    def __init__(self, page):
        super().__init__()
        self.found, self.texts, self.stack = [], {}, []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        self.stack.append(tag)

    def handle_endtag(self, tag):
        if tag in self.stack:
            while self.stack.pop() != tag:
                pass

    def handle_data(self, data):
        self.texts.setdefault(self.stack[-1] if self.stack else "", []).append(data)

    def named(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


def pictures_in(folder, n_pictures):
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(n_pictures):
        (folder / f"{number}.jpg").write_bytes(small_picture(number))
    return [CardPicture(folder / f"{number}.jpg", image_name(number)) for number in range(n_pictures)]


def gallery_of(pictures, name="All"):
    return Gallery(name, [Card([picture], [picture.name, "a line"]) for picture in pictures])


def written(path, *parts, **options):
    return write_report(path, "Report", [Section("one", "One", parts)], **options)


def test_what_strangers_wrote_is_text_in_every_part(tmp_path):
    pictures = [CardPicture(tmp_path / f"{number}.jpg", HOSTILE) for number in range(61)]
    parts = [
        Text(HOSTILE),
        Table([HOSTILE], [[HOSTILE]], HOSTILE, marks={(0, 0): BEST}, groups=[(HOSTILE, 1)]),
        Chart(SVG, HOSTILE, HOSTILE),
        Words([(HOSTILE, 3)], HOSTILE),
        Folded(HOSTILE, [Text(HOSTILE)]),
        Gallery(HOSTILE, [Card(pictures[:1], [HOSTILE], "javascript:alert(1)")], HOSTILE),
        Gallery(HOSTILE, [Card([one], [HOSTILE], "javascript:alert(1)") for one in pictures], HOSTILE),
    ]
    sections = [Section("a", HOSTILE, parts), Section("b", HOSTILE, missing=HOSTILE, problem=HOSTILE)]
    write_report(tmp_path / "report.html", HOSTILE, sections, lead=HOSTILE)
    page = (tmp_path / "report.html").read_text()
    elements = Elements(page)
    assert [one.get("type") for one in elements.named("script")] == ["application/json", None]
    assert "\u202e" not in page
    assert not [one for one in elements.named("a") if not one["href"].startswith("#")]
    (cards,) = [json.loads(text) for text in elements.texts["script"] if text.startswith("{")]
    assert cards["cards"][60][1] == [HOSTILE.replace("\u202e", "\\u{202e}")]
    assert not [name for _, attributes in elements.found for name in attributes if name.startswith("on")]


def test_the_page_runs_its_own_script_alone_and_asks_for_nothing(tmp_path):
    written(tmp_path / "report.html", gallery_of(pictures_in(tmp_path / "p", 2)))
    elements = Elements((tmp_path / "report.html").read_text())
    (policy,) = [one["content"] for one in elements.named("meta") if "http-equiv" in one]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert re.fullmatch(r"'sha256-[A-Za-z0-9+/]{43}='", rules["script-src"])
    assert rules["img-src"] == "data: 'self' file:"
    addresses = [one["src"] for one in elements.named("img")]
    assert len(addresses) == 2
    assert all(address.startswith("data:image/jpeg;base64,") for address in addresses)
    assert not elements.named("link")
    assert "url(" not in "".join(elements.texts["style"])
    # By `printf 'alert(1)\n' | openssl dgst -sha256 -binary | base64`.
    assert "'sha256-MaeD7tQk/YNyd6Pm9J12ROmv0Z93QwNN4VH7v3gI+RI='" in document("", "", script="alert(1)\n")


def test_marks_groups_and_figures_of_a_table_are_told_to_everyone(tmp_path):
    table = Table(
        ["method", "AUROC"], [["MSP", "77.66"], ["ViM", "82.21"]], "Results", frozenset({1}),
        {(1, 1): BEST, (0, 1): SECOND}, [("", 1), ("set", 1)],
    )  # fmt: skip
    written(tmp_path / "report.html", table)
    page = (tmp_path / "report.html").read_text()
    assert '<td class="number"><strong>82.21</strong></td>' in page
    assert '<td class="number"><u>77.66</u></td>' in page
    assert '<th class="group" scope="colgroup" colspan="1">set</th>' in page
    assert "<strong>best</strong>, <u>second best</u>" in page
    assert '<p class="caption">Results</p>' in page


def test_words_grow_with_the_logarithm_of_their_counts(tmp_path):
    written(tmp_path / "report.html", Words([("a", 1024), ("b", 256), ("c", 4), ("d", 1)]))
    found = re.findall(r'<li class="size-(\d)">(\w)<span>([\d,]+)</span>', (tmp_path / "report.html").read_text())
    assert found == [("6", "a", "1,024"), ("5", "b", "256"), ("2", "c", "4"), ("1", "d", "1")]


def luminance(colour):
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_every_colour_of_a_chart_stands_out_in_both_schemes(tmp_path):
    written(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    for scheme in (0, 1):
        colours = {}
        for name, value in re.findall(r"--([a-z]+(?:-\d)?): (#[0-9a-f]{6})", page):
            colours.setdefault(name, []).append(value)
        ground = colours["ground"][scheme]
        for number in range(1, 8):
            # WCAG 2.1, 1.4.11: graphics need 3 : 1; 1.4.3: text needs 4.5 : 1.
            assert contrast(colours[f"series-{number}"][scheme], ground) >= 3, (number, scheme)
        for name in ("text", "quiet", "accent"):
            assert contrast(colours[name][scheme], ground) >= 4.5, (name, scheme)


def test_a_long_gallery_lies_beside_the_page_and_is_made_once(tmp_path):
    pictures = pictures_in(tmp_path / "p", 61)
    first = written(tmp_path / "report.html", gallery_of(pictures))
    assert (first.pictures.made, first.pictures.reused, first.pictures.without) == (61, 0, 0)
    page = (tmp_path / "report.html").read_bytes()
    thumbnails = sorted(
        path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("report_pictures/*/*.jpg")
    )
    assert thumbnails == [f"report_pictures/00/{image_name(number)}.jpg" for number in range(61)]
    assert b"data:image" not in page
    assert page.count(b"<img") == 48
    times = {name: (tmp_path / name).stat().st_mtime_ns for name in thumbnails}
    second = written(tmp_path / "report.html", gallery_of(pictures))
    assert (second.pictures.made, second.pictures.reused) == (0, 61)
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in thumbnails} == times
    assert (tmp_path / "report.html").read_bytes() == page


def test_a_thumbnail_is_made_anew_where_its_source_its_turn_or_itself_has_changed(tmp_path):
    pictures = pictures_in(tmp_path / "p", 5)
    folder = tmp_path / "thumbs"
    stored_pictures_beside(folder, pictures, PictureCounts())
    pictures[0].path.write_bytes(small_picture(6))
    os.utime(pictures[1].path, ns=(1, 1))
    pictures[2] = CardPicture(pictures[2].path, pictures[2].name, 90)
    (folder / "00" / f"{image_name(3)}.jpg").write_bytes(b"torn")
    counts = PictureCounts()
    found = stored_pictures_beside(folder, pictures, counts)
    assert (counts.made, counts.reused) == (4, 1)
    # As it was stored it is 42 x 30 px.
    assert read_image(folder / found[(pictures[2].path, 90)].address).size == (30, 42)


def test_one_name_of_two_files_is_two_thumbnails(tmp_path):
    ours, theirs = pictures_in(tmp_path / "a", 1)[0], pictures_in(tmp_path / "b", 1)[0]
    found = stored_pictures_beside(tmp_path / "thumbs", [ours, theirs, ours], PictureCounts())
    names = [found[(one.path, None)].address for one in (ours, theirs)]
    assert names[0] == f"00/{image_name(0)}.jpg"
    assert re.fullmatch(r"([0-9a-f]{2})/\1[0-9a-f]{30}\.jpg", names[1])


def test_thumbnails_that_no_picture_needs_go_and_nothing_else_does(tmp_path):
    pictures = pictures_in(tmp_path / "p", 3)
    folder = tmp_path / "thumbs"
    stored_pictures_beside(folder, pictures, PictureCounts())
    (tmp_path / "precious.jpg").write_bytes(b"x")
    (folder / "00" / "foreign.jpg").write_bytes(b"x")
    with (folder / "index.jsonl").open("a") as index:
        index.write(json.dumps({"thumbnail": "../precious.jpg"}) + "\n")
    stored_pictures_beside(folder, pictures[:2], PictureCounts())
    left = {path.relative_to(folder).as_posix() for path in folder.rglob("*.jpg")}
    assert left == {f"00/{image_name(0)}.jpg", f"00/{image_name(1)}.jpg", "00/foreign.jpg"}
    assert (tmp_path / "precious.jpg").exists()


def test_after_a_kill_what_was_made_is_kept_and_the_end_is_the_same(tmp_path):
    pictures = pictures_in(tmp_path / "p", 6)
    folder = tmp_path / "thumbs"
    stored_pictures_beside(folder, pictures, PictureCounts())
    whole = {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    lines = (folder / "index.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "index.jsonl").write_bytes(b"".join(lines[:3]) + lines[3][:20])
    for number in (4, 5):
        (folder / "00" / f"{image_name(number)}.jpg").unlink()
    (folder / "00" / f".{image_name(4)}.jpg.1.tmp").write_bytes(b"half")
    counts = PictureCounts()
    stored_pictures_beside(folder, pictures, counts)
    assert (counts.made, counts.reused) == (3, 3)
    assert {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == whole


def test_a_damaged_index_is_one_clear_error(tmp_path):
    (tmp_path / "thumbs").mkdir()
    (tmp_path / "thumbs" / "index.jsonl").write_text("nonsense\n")
    with pytest.raises(TableError, match=r"index\.jsonl, line 1: not JSON"):
        stored_pictures_beside(tmp_path / "thumbs", [], PictureCounts())


@pytest.mark.parametrize("n_pictures", [3, 61])
def test_a_picture_that_is_gone_or_damaged_is_a_card_that_says_so(tmp_path, n_pictures):
    pictures = pictures_in(tmp_path / "p", n_pictures)
    pictures[0].path.unlink()
    pictures[1].path.write_bytes(b"no picture at all")
    found = written(tmp_path / "report.html", gallery_of(pictures))
    assert (found.pictures.made, found.pictures.without) == (n_pictures - 2, 2)
    blank = re.findall(r'<span class="blank">(.*?)</span>', (tmp_path / "report.html").read_text())
    assert blank == [f"{image_name(0)}: no picture here", f"{image_name(1)}: not_an_image"]


def test_without_galleries_the_page_is_the_only_file(tmp_path):
    pictures = pictures_in(tmp_path / "p", 61)
    found = written(tmp_path / "out" / "r.html", gallery_of(pictures), has_long_galleries=False)
    assert found.pictures_dir is None
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["r.html"]
    assert "61 cards are left out" in (tmp_path / "out" / "r.html").read_text()


def tree_of(folder):
    return {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}


@pytest.mark.parametrize("is_inside", [True, False])
def test_a_dry_run_counts_the_thumbnails_and_writes_nothing(tmp_path, capsys, is_inside):
    space = world(tmp_path / "ws", 70)
    shutil.rmtree(space.decisions_dir)
    build_manifest(space, "x", "1.0.0", rules=BuildRules(splits={}))
    options = () if is_inside else ("--out", str(tmp_path / "there" / "page.html"))
    # Seventy of the set beside the page, and in it the sixty that stand for what the screen kept.
    for made, said in ((False, "to do: 130; done already: 0"), (True, "to do: 61; done already: 69")):
        if made:
            assert report_of(space, *options) == 0
            os.utime(space.root / space.relative_image_path(image_name(5)), ns=(1, 1))
        before = tree_of(tmp_path)
        capsys.readouterr()
        assert report_of(space, "--dry-run", *options) == 0
        assert f"thumbnails {said}" in capsys.readouterr().out
        assert tree_of(tmp_path) == before


def test_a_dry_run_counts_the_thumbnails_in_the_page_too(tmp_path):
    short, long = pictures_in(tmp_path / "short", 5), pictures_in(tmp_path / "long", 61)
    short[4].path.unlink()
    sections = [Section("one", "One", [gallery_of([*short, short[0]]), gallery_of(long)])]
    path = tmp_path / "report.html"
    plan = plan_report(path, sections)
    assert (plan.n_due, plan.n_done) == (65, 0)
    assert plan.notes == ("4 of them lie in the page itself, and are made in every run",)
    assert write_report(path, "Report", sections).pictures.made == 65
    again = plan_report(path, sections)
    assert (again.n_due, again.n_done) == (4, 61)
    assert write_report(path, "Report", sections).pictures.made == 4


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("folder", r"folder: expected a file for the page, found a folder; name .*folder/report\.html"),
        ("file/below/page.html", "file is a file and no folder"),
        ("page.html", "page_pictures is a file and no folder"),
    ],
)
@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_a_page_that_cannot_be_written_is_refused_before_anything_is_made(tmp_path, capsys, out, said, options):
    space = world(tmp_path / "ws", 3)
    (tmp_path / "folder").mkdir()
    for name in ("file", "page_pictures"):
        (tmp_path / name).write_text("x")
    before = tree_of(tmp_path)
    assert report_of(space, "--out", str(tmp_path / out), *options) == 1
    assert re.search(said, capsys.readouterr().err)
    assert tree_of(tmp_path) == before


def report_of(space, *options):
    return cli.run(["report", "--workspace", str(space.root), *options])


@pytest.mark.parametrize("n_tables", range(6))
def test_any_prefix_of_the_pipeline_has_a_report(tmp_path, n_tables, capsys):
    space = world(tmp_path / "ws", 4)
    shutil.rmtree(space.decisions_dir)
    order = (schema.CANDIDATES, schema.DOWNLOADS, schema.SCREEN, schema.VERDICTS)
    for table in order[n_tables:]:
        space.path_of(table).unlink()
    if n_tables == 5:
        build_manifest(space, "x", "1.0.0", rules=BuildRules(splits={}))
    assert report_of(space) == 0, capsys.readouterr().err
    page = (space.root / "report.html").read_text()
    assert ("cli.py candidates" in page) == (n_tables == 0)
    assert ("freezes the images agreed to be out" in page) == (n_tables < 5)
    assert "No stage has been run here" in page or n_tables == 5


def test_a_missing_workspace_and_an_unknown_manifest_are_errors_that_write_nothing(tmp_path, capsys):
    assert cli.run(["report", "--workspace", str(tmp_path / "none")]) == 1
    space = world(tmp_path / "ws", 3)
    assert report_of(space, "--manifest", "x-1.0.0") == 1
    assert "holds no manifest" in capsys.readouterr().err
    assert not (space.root / "report.html").exists()


def test_equal_workspaces_give_equal_bytes_whatever_the_order_of_rows(tmp_path):
    pages = []
    for name in ("a", "b"):
        space = world(tmp_path / name / "ws", 70)
        if name == "b":
            for table in (schema.CANDIDATES, schema.DOWNLOADS, schema.SCREEN, schema.VERDICTS):
                shuffled(space, table, range(69, -1, -1))
        sections = [*overview_sections(space), *provenance_sections(space)]
        write_report(space.root / "report.html", "Report", sections)
        write_report(space.root / "again.html", "Report", sections)
        pages.append((space.root / "report.html").read_bytes())
        assert pages[-1] == (space.root / "again.html").read_bytes()
    assert pages[0] == pages[1]


def test_a_damaged_table_says_so_in_its_place_and_the_rest_goes_on(tmp_path, capsys):
    space = world(tmp_path / "ws", 4)
    shutil.rmtree(space.decisions_dir)
    manifest = build_manifest(space, "x", "1.0.0", rules=BuildRules(splits={}))
    header = json.loads((manifest.folder / "manifest.json").read_text())
    (manifest.folder / "manifest.json").write_text(json.dumps(header | {"rebuild": "rm -rf"}))
    assert report_of(space) == 1
    assert "is not as it was frozen" in capsys.readouterr().err
    page = (space.root / "report.html").read_text()
    problems = re.findall(r'<p class="problem">This part could not be made: (.*?)</p>', page)
    # The funnel counts its images, and its own section tells of it.
    assert len(problems) == 2
    assert all("is not as it was frozen" in problem for problem in problems)
    assert '<a href="#provenance">Provenance</a></h2>\n<p>Each stage writes down' in page


def test_the_funnel_is_told_with_counts_and_reasons(tmp_path):
    space = world(tmp_path / "ws", 10, words={1: "in", 2: "in", 3: "disputed"})
    (section,) = overview_sections(space)
    chart, table, waiting = section.parts
    assert table.rows[-1] == ("agreed out", "7", "3", "in 2, disputed 1")
    assert "candidates 10; downloaded 10; to review 10" in chart.description
    # The log of this world holds no answer of an annotator.
    assert waiting.text == "Not run here yet: embedded, answered."


def part_of(section, kind, word):
    (found,) = [part for part in section.parts if isinstance(part, kind) and word in str(part)]
    return found


def labels_of(space, *rows):
    columns = ("image_id", "label_mid", "label_name", "source", "confidence")
    space.write(schema.LABELS, [dict(zip(columns, row, strict=True)) for row in rows])


def test_the_manifest_tells_licences_splits_labels_and_what_was_left_out(tmp_path):
    space = world(tmp_path / "ws", 9, words={8: "in"})
    labels_of(
        space,
        (image_name(0), "/m/1", "Cat <b>", "human", 1.0), (image_name(0), "/m/1", "Cat <b>", "machine", 0.9),
        (image_name(1), "/m/1", "Cat <b>", "machine", 0.8), (image_name(1), "/m/2", "Dog", "human", 1.0),
        (image_name(2), "/m/1", "Cat <b>", "human", 0.0), (image_name(8), "/m/2", "Dog", "human", 1.0),
    )  # fmt: skip
    build_manifest(space, "x", "1.0.0", rules=BuildRules(splits={}))
    (section,) = manifest_sections(space)
    assert part_of(section, Table, "Licences").rows == [
        ("CC BY 2.0", "3", "37.5%"), ("CC BY-NC 2.0", "3", "37.5%"), ("not known", "2", "25.0%"),
    ]  # fmt: skip
    assert part_of(section, Table, "Splits").rows == [("test", "8", "100.0%")]
    assert part_of(section, Table, "does not hold").rows == [("verdict in", "1")]
    words = part_of(section, Words, "Open Images")
    assert words.counts == [("Cat <b>", 2), ("Dog", 1)]
    assert words.caption.startswith("What is in it: labels of Open Images on 2 of 8 images")
    folded = part_of(section, Folded, "as a table")
    assert folded.parts[0].rows == [("Cat <b>", "/m/1", "2", "1", "2"), ("Dog", "/m/2", "1", "1", "0")]
    (gallery,) = [part for part in section.parts if isinstance(part, Gallery)]
    assert gallery.cards[3].lines == (
        image_name(3), "No. 3 by <b>somebody</b>", "CC BY 2.0", "test, 43 x 30 px"
    )  # fmt: skip


def test_a_withdrawn_image_is_named_and_no_longer_shown(tmp_path):
    space = world(tmp_path / "ws", 4)
    build_manifest(space, "x", "1.0.0", rules=BuildRules(splits={}))
    retire(space, image_name(2), "asked by its author")
    (section,) = manifest_sections(space)
    (gallery,) = [part for part in section.parts if isinstance(part, Gallery)]
    assert gallery.cards[2] == Card((), (image_name(2), "withdrawn: asked by its author"))
    assert ("Withdrawn since it was frozen", "1") in part_of(section, Table, "Merkle").rows


def test_the_newest_version_of_each_set_is_shown_unless_one_is_named(tmp_path):
    space = world(tmp_path / "ws", 12, words={3: "in"})
    build_manifest(space, "x", "9.0.0", rules=BuildRules(splits={}))
    build_manifest(space, "x", "10.0.0", rules=BuildRules(splits={}, target=5))
    build_manifest(space, "A_b", "1.0.0", rules=BuildRules(splits={}))
    sections = manifest_sections(space)
    assert [(one.key, one.title) for one in sections] == [
        ("manifest-a-b", "Manifest A_b 1.0.0"), ("manifest-x", "Manifest x 10.0.0"),
    ]  # fmt: skip
    versions = part_of(sections[1], Table, "All versions").rows
    assert [row[:2] for row in versions] == [("9.0.0", "11"), ("10.0.0", "5")]
    assert [one.title for one in manifest_sections(space, "x-9.0.0")] == ["Manifest x 9.0.0"]


def test_a_set_tells_the_command_that_builds_this_version_again(tmp_path, monkeypatch):
    space = world(tmp_path / "ws", 12, words={3: "in"})
    shutil.rmtree(space.decisions_dir)
    build_manifest(space, "x", "1.0.0")
    # Not the newest rules, nor a version that follows from nothing but its own name.
    later = build_manifest(space, "x", "4.0.0", rules=BuildRules(target=5)).folder / "manifest.json"
    (section,) = manifest_sections(space)
    (command,) = [row[1] for row in part_of(section, Table, "The set").rows if row[0].startswith("Built again")]
    assert command == (
        "python cli.py build-manifest --name x --version 4.0.0 --split=val=0.1 --target 5 --workspace ws"
    )
    before = json.loads(later.read_text())["content_sha256"]
    shutil.rmtree(later.parent)
    monkeypatch.chdir(tmp_path)
    assert cli.run(shlex.split(command)[2:]) == 0
    assert json.loads(later.read_text())["content_sha256"] == before


def test_an_audit_says_how_much_is_contaminated_at_most(tmp_path):
    space = frozen_world(tmp_path / "ws")
    (section,) = manifest_sections(space)
    assert "no audit of it has ended" in part_of(section, Text, "in-distribution after all").text
    plan_audit(space, None, Goal())
    say(space, "ann", drawn(space))
    report_audit(space)
    (section,) = manifest_sections(space)
    # 299 clean of 299, by Clopper and Pearson: 1 - 0.05 ** (1 / 299) = 0.99692 %, and the certificate rounds up.
    stated = part_of(section, Text, "Contamination").text
    assert "with a confidence of 95%, at most 0.9970% of these images are in-distribution" in stated
    assert "(certified: at most 1% of the audited set)" in stated
    rows = part_of(section, Table, "Certificate").rows
    assert ("The audited set", "set-1.0.0, 800 images") in rows
    assert ("Sample", "299 images") in rows
    assert not any("this version" in row[0] for row in rows)


def test_a_version_without_the_defects_states_its_own_bound_and_what_the_audited_set_is_certified_for(tmp_path):
    space = frozen_world(tmp_path / "ws")
    plan_audit(space, None, Goal(0.02, 0.95, 1))
    sample = drawn(space)
    say(space, "ann", sample, {sample[5]: "in"})
    report_audit(space)
    retire(space, sample[5], "the audit found a class in it")
    retire(space, sample[6], "its author asked for it")
    build_manifest(space, "set", "auto")
    (section,) = manifest_sections(space)
    # One defect of 236, by Clopper and Pearson: the 95 % point of a beta distribution with 2 and 235 is 1.99425 %.
    # Of two images fewer: 1.9943 % * 800 / 798.
    stated = part_of(section, Text, "Contamination").text
    assert "at most 1.9943% of the 800 images of set-1.0.0 are in-distribution (certified: at most 2% of" in stated
    assert (
        "leaves out 2 of the audited images, 1 of them defects that it found. Of this version at most 1.9993%"
        in stated
    )
    rows = dict(part_of(section, Table, "Certificate").rows)
    assert rows["Goal for the audited set"] == "at most 2%: certified"
    assert rows["Share of defects of the audited set, at most"] == "1.9943%"
    assert rows["Share of defects of this version, at most"] == "1.9993%"


def test_sizes_and_shapes_are_counted_in_bounded_charts():
    sizes = [(1024, 683)] * 5 + [(683, 1024)] * 3 + [(768, 768)] + [(3000, 100)]
    size, aspect = size_chart(sizes, "x"), aspect_chart(sizes, "x")
    assert size.description == (
        "Widths from 683 to 3,000 px, median 1,024; heights from 100 to 1,024 px, median 683; the fullest cell of "
        "256 px holds 5 pictures."
    )
    assert aspect.caption == "Shapes: 6 are wider than high, 3 higher than wide, 1 square."
    many = [(300 + number % 700, 200 + number * 7 % 800) for number in range(20_000)]
    assert len(size_chart(many, "y").svg) < 120_000
    assert len(aspect_chart(many, "y").svg) < 60_000


def record(space, name, **changes):
    content = {
        "stage": "download", "outcome": "done", "arguments": {"rate": "<b>"},
        "inputs": {"candidates.parquet": "ab"},
        "seed": None, "counts": {"ok": 1200}, "details": {}, "started": "2026-01-01T10:00:00+00:00",
        "ended": "2026-01-01T11:02:05+00:00", "versions": {"python": "3.11"},
    }  # fmt: skip
    (space.root / "provenance").mkdir(parents=True, exist_ok=True)
    (space.root / "provenance" / f"{name}.json").write_text(json.dumps(content | changes))


def test_every_run_is_told_failed_and_interrupted_ones_too(tmp_path):
    space = Workspace(tmp_path)
    record(space, "download")
    record(space, "download.failed", outcome="failed", started="2026-01-01T09:00:00+00:00")
    record(space, "export.x-1.0.0.openood.interrupted", stage="export", outcome="interrupted", seed=1552907)
    (section,) = provenance_sections(space)
    summary = section.parts[1]
    assert summary.rows == [
        ("download", "failed", "2026-01-01 09:00:00", "2 h 02 min", "ok 1,200"),
        ("download", "done", "2026-01-01 10:00:00", "1 h 02 min", "ok 1,200"),
        ("export (x-1.0.0.openood)", "interrupted", "2026-01-01 10:00:00", "1 h 02 min", "ok 1,200"),
    ]
    folded = [part for part in section.parts if isinstance(part, Folded)]
    assert [one.summary for one in folded][1:] == [
        "download: done, 1 h 02 min", "export (x-1.0.0.openood): interrupted, 1 h 02 min, seed 1552907",
    ]  # fmt: skip
    assert folded[1].parts[0].rows == [("rate", "<b>")]
    assert folded[1].parts[1].rows == [("ok", "1,200")]
    assert folded[1].parts[2].summary == "1 files were read"
    assert section.problem is None


def test_short_runs_within_a_second_stand_in_the_order_in_which_they_were_made(tmp_path):
    space = Workspace(tmp_path)
    for name in ("consensus", "build-manifest", "annotators"):
        with space.stage(name, {}):
            pass
    (section,) = provenance_sections(space)
    assert [row[0] for row in section.parts[1].rows] == ["consensus", "build-manifest", "annotators"]
    assert report_lead(space).startswith("As of 20")
    assert "when annotators was done" in report_lead(space)


def test_of_runs_that_started_in_one_second_the_one_that_ended_first_goes_before(tmp_path):
    space = Workspace(tmp_path)
    record(space, "a-later", started="2026-01-01T10:00:00+00:00", ended="2026-01-01T10:00:05+00:00")
    # The same moment, as another zone's clock shows it.
    record(space, "z-earlier", started="2026-01-01T12:00:00+02:00", ended="2026-01-01T12:00:00+02:00")
    runs, problems = read_records(space)
    assert ([one.name for one in runs], problems) == (["z-earlier", "a-later"], [])
    record(space, "b", started="2026-01-01T10:00:00")
    assert "a time without its zone" in read_records(space)[1][0]


def test_a_damaged_record_is_named_and_the_others_are_told(tmp_path):
    space = Workspace(tmp_path)
    record(space, "download")
    (tmp_path / "provenance" / "screen.json").write_text("{")
    (section,) = provenance_sections(space)
    assert "screen.json: not the record of a stage" in section.problem
    assert len(section.parts[1].rows) == 1


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (59, "59 s"), (60, "1 min 00 s"), (3599.6, "1 h 00 min"), (90061, "25 h 01 min")],
)
def test_durations_are_told_in_the_units_that_a_reader_thinks_in(seconds, said):
    assert duration(seconds) == said


def test_the_assets_of_the_page_are_part_of_the_package():
    declared = (REPOSITORY / "pyproject.toml").read_text()
    assert 'manifests = ["report/assets/*"]' in declared
    assert {path.name for path in (REPOSITORY / "manifests/report/assets").iterdir()} == {
        "report.css",
        "report.js",
    }
    assert Path(REPOSITORY / "manifests/report/assets/report.js").read_text().count("innerHTML") == 0
