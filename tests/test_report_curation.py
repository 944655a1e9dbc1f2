import json
import re

import numpy as np
import pytest
from PIL import Image

from curation.report import sections
from curation.report.calibration import calibration_section, used_calibration
from curation.report.copies import copies_section
from curation.report.downloads import downloads_section
from curation.report.labels import labels_section
from curation.report.quality import quality_section
from curation.report.screening import screening_section
from curation.report.shown import shown_classes
from curation.screening.calibration import Calibration
from curation.screening.risk import RiskModel
from manifests import schema
from manifests.durable import sha256_of_file
from manifests.label_space import ClassName, write_label_space
from manifests.report.parts import Chart, Gallery, Table, Text
from manifests.workspace import Workspace

BUILDERS = {
    "downloads": downloads_section,
    "labels": labels_section,
    "quality": quality_section,
    "calibration": calibration_section,
    "screening": screening_section,
    "copies": copies_section,
}

# id: (screen status, reason, is_control, risk)
SCREENED = {
    "a1": ("review", None, False, 0.10),
    "a2": ("review", None, False, 0.70),
    "a3": ("review", "in_class", True, 0.95),
    "a4": ("dropped", "in_class", False, 0.90),
    "a5": ("dropped", "in_class", False, 0.80),
    "a6": ("dropped", "duplicate", False, 0.40),
    "a7": ("dropped", "unreadable", False, None),
}


def download(image_id, status="ok", reason=None, size_bytes=50_000, attempts=1):
    row = dict.fromkeys(schema.DOWNLOADS.schema.names) | {"image_id": image_id, "status": status}
    row |= {"reason": reason, "attempts": attempts}
    if status == "ok":
        row |= {"size_bytes": size_bytes, "width_px": 400, "height_px": 300, "sha256": "0" * 64}
        row["path"] = Workspace.relative_image_path(image_id)
    return row


def add_candidates(workspace, image_ids):
    rows = [
        {"image_id": k, "subset": "test", "url": "https://mirror.invalid", "rotation_deg": 90} for k in image_ids
    ]
    workspace.write(schema.CANDIDATES, rows)


def screen_row(image_id, status, reason, is_control, risk):
    row = dict.fromkeys(schema.SCREEN.schema.names) | {"image_id": image_id, "status": status, "reason": reason}
    row |= {"is_control": is_control, "risk": risk, "duplicate_of": "a1" if reason == "duplicate" else None}
    if risk is not None:
        row |= {"shown_classes": [1, 0], "shown_similarities": [0.3, 0.2], "shown_sources": ["human", "clip"]}
        row["shown_views"] = ["full", "tile_3_0_1"]
    return row


@pytest.fixture
def screened(tmp_path):
    workspace = Workspace(tmp_path)
    add_candidates(workspace, SCREENED)
    workspace.write(schema.DOWNLOADS, [download(image_id) for image_id in SCREENED])
    workspace.write(schema.SCREEN, [screen_row(image_id, *row) for image_id, row in SCREENED.items()])
    write_label_space(workspace.classes_path, [ClassName(0, "tench"), ClassName(1, "cat, true cat")])
    return workspace


def section(workspace, key):
    return BUILDERS[key](workspace)


def of_kind(found, kind):
    return [part for part in found.parts if isinstance(part, kind)]


def rows_of(found, first_header):
    return next(list(part.rows) for part in of_kind(found, Table) if part.header[0] == first_header)


def gallery(found, name):
    return next(part for part in of_kind(found, Gallery) if part.name == name)


def test_every_section_of_an_empty_workspace_names_the_command_that_fills_it(tmp_path):
    found = sections(Workspace(tmp_path / "new"))
    assert [one.key for one in found] == ["downloads", "labels", "quality", "calibration", "screening", "copies"]
    assert all("python cli.py" in one.missing and not one.parts for one in found)
    assert not (tmp_path / "new").exists()


def test_downloads_are_counted_by_status_and_by_reason(tmp_path):
    workspace = Workspace(tmp_path)
    ids = [f"b{n}" for n in range(10)]
    add_candidates(workspace, ids)
    assert (
        section(workspace, "downloads").missing
        == "Nothing has been fetched yet: `python cli.py download` does it."
    )
    rows = [download(k, size_bytes=1_500_000) for k in ids[:5]]
    rows += [download(k, "missing", "HTTP 404", attempts=2) for k in ids[5:8]]
    rows += [download(ids[8], "failed", "timed out"), download(ids[9], "failed", "<b>reset</b>")]
    workspace.write(schema.DOWNLOADS, rows)
    found = section(workspace, "downloads")
    assert of_kind(found, Text)[0].text == (
        "5 of 10 candidates have a picture (50.0%), 7.5 MB in all. 3 were asked for more than once."
    )
    tables = [list(table.rows) for table in of_kind(found, Table)]
    assert tables[0] == [("candidates of test", "10")]
    assert tables[1] == [("ok", "5", "50.00%"), ("missing", "3", "30.00%"), ("failed", "2", "20.00%")]
    assert tables[2] == [
        ("missing", "HTTP 404", "3"), ("failed", "<b>reset</b>", "1"), ("failed", "timed out", "1")
    ]  # fmt: skip
    bars, sizes = of_kind(found, Chart)
    assert bars.description == "missing: 3; failed: 2"
    assert sizes.description == "The median file has 1,500 kB; the median longer side has 400 pixels."


def test_of_many_reasons_the_commonest_are_shown_and_counted(tmp_path):
    workspace = Workspace(tmp_path)
    ids = [f"b{n:02}" for n in range(26)]
    add_candidates(workspace, ids)
    workspace.write(schema.DOWNLOADS, [download(k, "failed", f"reason {max(1, n)}") for n, k in enumerate(ids)])
    table = of_kind(section(workspace, "downloads"), Table)[-1]
    assert table.caption == "Why they have none: the 20 commonest of 25 reasons."
    assert table.rows[0] == ("failed", "reason 1", "2")


def test_labels_count_candidates_in_which_people_verified_a_class(screened):
    def label(image_id, mid, confidence, source="human"):
        row = {"image_id": image_id, "label_mid": mid, "label_name": None, "source": source}
        return row | {
            "confidence": confidence,
            "wnid": {"/m/0hq8": "n02666196", "/m/03x59_": "n02667093"}.get(mid),
        }

    # An abacus in two, an abaya in one of them; in a third no abacus; a machine's word counts for nothing.
    rows = [label("a1", "/m/0hq8", 1), label("a1", "/m/03x59_", 1), label("a4", "/m/0hq8", 1)]
    rows += [label("a2", "/m/0hq8", 0), label("a5", "/m/0hq8", 1, "machine"), label("a6", "/m/other", 1)]
    screened.write(schema.LABELS, rows)
    found = section(screened, "labels")
    text = of_kind(found, Text)[0].text
    assert text.startswith("In 2 candidates people have verified")
    assert "In 1 more they have only" in text
    assert "Of the former, 1 are under review" in text
    assert of_kind(found, Chart)[0].description == "abacus: 2; abaya: 1"


def test_the_screen_is_counted_by_outcome_with_its_control_share(screened):
    found = section(screened, "screening")
    assert rows_of(found, "outcome") == [
        ("under review", "2", "28.57%"), ("under review as a control image", "1", "14.29%"),
        ("dropped: plainly in-class", "2", "28.57%"), ("dropped: a copy of another candidate", "1", "14.29%"),
        ("dropped: cannot be read", "1", "14.29%"),
    ]  # fmt: skip
    text = of_kind(found, Text)[0].text
    assert text.startswith(
        "3 of 7 pictures are under review. 3 were found to be plainly in-class; 1 of these (33.3%)"
    )


def test_pictures_near_the_bound_are_shown_and_control_images_are_on_neither_side(screened):
    found = section(screened, "screening")
    kept, dropped = gallery(found, "Riskiest kept"), gallery(found, "Least risky dropped")
    assert [card.pictures[0].name for card in kept.cards] == ["a2", "a1"]
    assert [card.pictures[0].name for card in dropped.cards] == ["a5", "a4"]
    assert kept.cards[0].pictures[0].rotation_deg == 90
    assert kept.cards[0].pictures[0].path == screened.root / "images/a2/a2.jpg"
    # Not calibrated: the number is no risk.
    assert kept.cards[0].lines == ["order 0.700", "cat, true cat 0.300, human", "tench 0.200, tile_3_0_1", "a2"]
    assert kept.caption == "2 of 2 pictures under review, riskiest first, with their most similar classes."


def test_shown_classes_are_counted_by_source_and_by_view(screened):
    found = section(screened, "screening")
    assert rows_of(found, "source") == [("clip", "6", "50.0%", "0"), ("human", "6", "50.0%", "6")]
    assert rows_of(found, "view") == [("full", "6", "50.0%"), ("tiles 3 x 3", "6", "50.0%")]


def test_the_highest_similarity_is_taken_for_each_model_and_verified_classes_belong_to_the_first(tmp_path):
    workspace = Workspace(tmp_path)
    rows = [
        screen_row("c1", "review", None, False, 0.5)
        | {"shown_classes": [1, 2, 3], "shown_similarities": [0.9, 0.2, 0.6], "shown_views": ["full"] * 3}
        | {"shown_sources": ["human", "clip", "classifier"]},
        screen_row("c2", "dropped", "unreadable", False, None),
        screen_row("c3", "review", None, False, 0.5)
        | {"shown_classes": [4, 5], "shown_similarities": [0.1, -0.3], "shown_views": ["full"] * 2}
        | {"shown_sources": ["clip", "classifier"]},
    ]
    workspace.write(schema.SCREEN, rows)
    shown = shown_classes(workspace.read(schema.SCREEN))
    assert shown.models() == ["clip", "classifier"]
    np.testing.assert_allclose(shown.highest("clip"), [0.9, np.nan, 0.1], rtol=1e-6)
    np.testing.assert_allclose(shown.highest("classifier"), [0.6, np.nan, -0.3], rtol=1e-6)
    assert shown.ranks.tolist() == [0, 1, 2, 0, 1]


def test_a_table_that_does_not_tell_sources_is_shown_all_the_same(screened):
    rows = screened.read(schema.SCREEN).to_pylist()
    screened.write(schema.SCREEN, [row | {"shown_sources": None, "shown_views": None} for row in rows])
    found = section(screened, "screening")
    assert rows_of(found, "source") == [("not told", "12", "100.0%", "6")]
    assert gallery(found, "Riskiest kept").cards[0].lines[1] == "cat, true cat 0.300"


def write_calibration(workspace, *, max_lost):
    """A goal of 10 % on 19 out pictures takes the second highest risk, 0.85; above are 1 of 4 out, 3 of 4 in."""
    calibration = Calibration(
        ("0" * 16,), RiskModel(("x",), (0.0,), (1.0,), (1.0,), 0.0),
        np.linspace(0.0, 0.9, 19, dtype=np.float32), np.array([0.2, 0.86, 0.9, 1.0], np.float32),
        np.array([0.1, 0.3, 0.5, 0.95], np.float32), max_lost, 0,
    )  # fmt: skip
    path = workspace.root / "calibration.json"
    calibration.write(path)
    return path


def record_screen(workspace, path, arguments=None):
    folder = workspace.root / "provenance"
    folder.mkdir(exist_ok=True)
    inputs = {"classes.csv": "0" * 64, "downloads.parquet": "0" * 64, "calibration.json": sha256_of_file(path)}
    whole = {"max_lost": None, "control_share": 0.05, "calibration": "calibration.json"} | (arguments or {})
    record = {"inputs": inputs, "arguments": whole}
    (folder / "screen.json").write_text(json.dumps(record))


def test_the_operating_point_is_drawn_with_its_measured_loss_and_yield(screened):
    record_screen(screened, write_calibration(screened, max_lost=0.1))
    found = section(screened, "calibration")
    table = {row[0]: row[1:] for row in rows_of(found, "operating point")}
    assert table["dropped above a risk of"][0] == "0.8500"
    assert table["out that it would drop: the loss"][:2] == ("25.00%", "1 of 4")
    assert table["in that it would drop: the yield"][:2] == ("75.00%", "3 of 4")
    # Of the pairs, (0.2 > 0.1) and the three others above three of four: 1 + 3 + 3 + 4 of 16.
    assert of_kind(found, Chart)[0].description.startswith("AUROC 0.6875;")
    risk = of_kind(section(screened, "screening"), Chart)[1]
    assert "loses 25.00% of what is out" in risk.caption
    assert "spares the annotators 75.0% of what is in" in risk.caption
    assert "dropped above 0.850" in risk.svg
    text = of_kind(section(screened, "screening"), Text)[0].text
    assert "with a share of 5.0%" in text
    assert gallery(section(screened, "screening"), "Riskiest kept").cards[0].lines[0] == "risk 0.700"


def test_a_goal_of_the_screen_goes_before_that_of_the_calibration(screened):
    record_screen(screened, write_calibration(screened, max_lost=0.1), {"max_lost": 0.0})
    table = {row[0]: row[1] for row in rows_of(section(screened, "calibration"), "operating point")}
    assert table["dropped above a risk of"] == "1.0000"


def test_a_calibration_that_changed_since_the_screen_tells_nothing_of_it(screened):
    record_screen(screened, write_calibration(screened, max_lost=0.1))
    write_calibration(screened, max_lost=0.2)
    assert "calibration.json has changed since" in section(screened, "calibration").missing
    assert (
        "is not known: calibration.json has changed" in of_kind(section(screened, "screening"), Chart)[1].caption
    )
    (screened.root / "calibration.json").unlink()
    assert "is no longer there" in section(screened, "calibration").missing


def test_a_screen_without_calibration_is_not_told_with_another_file_that_it_read(screened):
    record_screen(screened, write_calibration(screened, max_lost=0.1), {"calibration": None})
    assert used_calibration(screened) is None


def test_a_screen_that_does_not_tell_its_calibration_is_not_guessed_at(screened):
    record_screen(screened, write_calibration(screened, max_lost=0.1))
    path = screened.root / "provenance" / "screen.json"
    record = json.loads(path.read_text())
    del record["arguments"]["calibration"]
    path.write_text(json.dumps(record))
    assert "does not tell by what it was calibrated" in section(screened, "calibration").missing


def test_quality_checks_are_counted_with_their_thresholds(screened):
    scores = {f"{check}_score": 1.0 for check in schema.QUALITY_CHECKS}
    flags = {f"is_{check}": False for check in schema.QUALITY_CHECKS}
    rows = [{"image_id": k, "sha256": "0" * 64} | scores | flags for k in ("a1", "a2", "a3", "a4")]
    rows[0] |= {"blur_score": 12.5, "is_blur": True}
    screened.write(schema.QUALITY, rows)
    blur = rows_of(section(screened, "quality"), "check")[0]
    assert blur[0] == "blur"
    assert blur[2:6] == ("below 40", "1", "1", "25.00%")


def test_groups_begin_with_what_stands_for_them_and_the_closest_judgement_comes_first(screened):
    def copy(image_id, of, agreement, kind="pixels"):
        row = {"image_id": image_id, "duplicate_of": of, "kind": kind, "bits": 3, "similarity": 0.91}
        return row | {"agreement": agreement}

    many = [copy(f"d{n}", "a5", 0.99) for n in range(7)]
    screened.write(schema.DUPLICATES, [copy("a6", "a1", 1.0, "bytes"), copy("a7", "a2", 0.72), *many])
    found = section(screened, "copies")
    assert of_kind(found, Text)[0].text.startswith("9 candidates are copies of one of 3 others")
    assert "1 are equal in bytes, 8 show" in of_kind(found, Text)[0].text
    assert rows_of(found, "group of") == [("2 pictures", "2"), ("8 pictures", "1")]
    cards = gallery(found, "Groups of duplicates").cards
    assert [[picture.name for picture in card.pictures] for card in cards] == [
        ["a2", "a7"], ["a5", "d0", "d1", "d2", "d3", "d4"], ["a1", "a6"]
    ]  # fmt: skip
    assert cards[0].lines == [
        "kept a2", "a7: the same photograph: agreement 0.720, 3 of 64 bits differ, cosine 0.910"
    ]  # fmt: skip
    assert cards[1].lines[-1] == "and 2 more"
    assert cards[2].lines[1] == "a6: equal bytes"
    assert "Not compared with other data sets yet" in of_kind(found, Text)[-1].text


def test_a_leak_stands_beside_the_picture_it_leaks_from_where_that_is_at_hand(screened, tmp_path):
    other = tmp_path / "imagenet"
    (other / "n01").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(other / "n01" / "x.jpg")
    blank = {"bits": 2, "similarity": None, "kind": "pixels"}
    rows = [
        {"image_id": "a1", "against": str(other), "other": "n01/x.jpg", "agreement": 0.9} | blank,
        {"image_id": "a2", "against": str(other), "other": "n01/gone.jpg", "agreement": 0.8} | blank,
        {"image_id": "a3", "against": "ids.txt", "other": "a3", "kind": "id"},
    ]
    screened.write(schema.LEAKS, rows)
    found = section(screened, "copies")
    assert rows_of(found, "compared with") == [(str(other), "2", "0", "2", "0"), ("ids.txt", "1", "0", "0", "1")]
    by_name = {card.pictures[0].name: card for card in gallery(found, "Leaks").cards}
    assert by_name["a1"].pictures[1].path == other / "n01" / "x.jpg"
    assert len(by_name["a2"].pictures) == len(by_name["a3"].pictures) == 1
    assert by_name["a2"].lines[:2] == ["a2 is in imagenet", "there: n01/gone.jpg"]
    assert by_name["a3"].lines[-1] == "by its id"


def test_a_damaged_table_is_told_in_its_place_and_the_rest_goes_on(screened):
    screened.path_of(schema.SCREEN).write_bytes(b"no table")
    by_key = {one.key: one for one in sections(screened)}
    assert "screen.parquet" in by_key["screening"].problem
    assert by_key["downloads"].problem is None
    assert by_key["downloads"].parts


def test_equal_workspaces_make_equal_sections_and_no_file(screened):
    before = sorted(path for path in screened.root.rglob("*"))
    assert sections(screened) == sections(screened)
    assert sorted(path for path in screened.root.rglob("*")) == before


def test_tables_without_rows_make_sections_without_charts(tmp_path):
    workspace = Workspace(tmp_path)
    for table in (schema.CANDIDATES, schema.DOWNLOADS, schema.LABELS, schema.QUALITY, schema.SCREEN):
        workspace.write(table, [])
    for table in (schema.DUPLICATES, schema.LEAKS):
        workspace.write(table, [])
    found = sections(workspace)
    assert not [part for one in found for part in one.parts if isinstance(part, Chart | Gallery)]
    assert [one.key for one in found if one.missing or one.problem] == ["calibration"]
    assert of_kind(found[0], Text)[0].text.startswith("0 of 0 candidates have a picture, 0.0 kB in all.")


def test_charts_do_not_grow_with_the_pictures(tmp_path):
    sizes = []
    for n_images in (100, 2_000):
        workspace = Workspace(tmp_path / str(n_images))
        draws = np.random.default_rng(0)
        ids = [f"{n:06}" for n in range(n_images)]
        add_candidates(workspace, ids)
        workspace.write(schema.DOWNLOADS, [download(k, size_bytes=int(draws.integers(1e3, 1e7))) for k in ids])
        risks = draws.random(n_images).tolist()
        rows = [screen_row(k, "review", None, False, risk) for k, risk in zip(ids, risks, strict=True)]
        workspace.write(schema.SCREEN, rows)
        charts = [part for one in sections(workspace) for part in one.parts if isinstance(part, Chart)]
        sizes.append([len(re.findall("<(?:path|use|text)", chart.svg)) for chart in charts])
        assert all(len(part.cards) <= 60 for one in sections(workspace) for part in of_kind(one, Gallery))
    assert len(sizes[0]) == 3
    assert all(many <= few + 40 for few, many in zip(*sizes, strict=True))
