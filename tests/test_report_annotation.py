import re
from collections import Counter
from dataclasses import replace

import pytest

from annotation.audit.plan import plan_audit
from annotation.audit.report import report_audit
from annotation.consensus import run_consensus
from annotation.decision_log import open_log
from annotation.inspection import draw_round
from annotation.report import sections
from annotation.report.agreement import agreement_section
from annotation.report.answers import answers_section
from annotation.report.checks import checks_section
from annotation.report.confusion import answer_pairs, confusion_section
from annotation.report.days import binned_days
from annotation.report.disputes import disputes_section
from annotation.report.loss import loss_section
from annotation.report.team import read_team
from annotation.verdicts import ConsensusRule
from manifests import schema
from manifests.audit_design import Goal
from manifests.report.parts import Chart, Gallery, Table, Text
from manifests.workspace import Workspace
from tests.annotation_workspace import CLASS_NAMES, decision, image_id_of, make_workspace
from tests.audit_world import drawn, frozen_world
from tests.audit_world import say as audit
from tests.simulated_world import make_world

BUILDERS = {
    "answers": answers_section,
    "agreement": agreement_section,
    "confusion": confusion_section,
    "disputes": disputes_section,
    "losses": loss_section,
    "checks": checks_section,
}


def answer(workspace, name, answers, queue="first", **changes):
    """Let `name` give answers by number of the picture: a word, or the index of a class that is seen."""
    with open_log(workspace, name) as log:
        start = len(log.decisions)
        for place, (number, said) in enumerate(answers.items()):
            word, index = ("in", said) if isinstance(said, int) else (said, None)
            made = decision(f"{name}-{start + place}", image_id_of(number), word, queue=queue, **changes)
            log.append(made if index is None else replace(made, class_index=index))


@pytest.fixture
def judged(tmp_path):
    """Six pictures: agreed out twice, one class, two classes, out against a class, difficult against out."""
    workspace = make_workspace(tmp_path, n_review=6)
    answer(workspace, "ann", {0: "out", 1: "out", 2: 3, 3: 3, 4: "out", 5: "difficult"}, seconds=2.0)
    answer(
        workspace, "ben", {0: "out", 1: "out", 2: 3, 3: 7, 4: 7, 5: "out"}, seconds=4.0, at="2026-01-04T00:00:00Z"
    )
    run_consensus(workspace)
    return workspace


def section(workspace, key):
    # One alone: the charts of all take a second.
    return BUILDERS[key](read_team(workspace))


def of_kind(found, kind):
    return [part for part in found.parts if isinstance(part, kind)]


def rows_of(found, first_header):
    return next(list(part.rows) for part in of_kind(found, Table) if part.header[0] == first_header)


def test_every_section_of_an_empty_workspace_names_the_command_that_fills_it(tmp_path):
    found = sections(Workspace(tmp_path / "new"))
    assert [one.key for one in found] == ["answers", "agreement", "confusion", "disputes", "losses", "checks"]
    assert all("python cli.py" in one.missing and not one.parts for one in found)
    assert not (tmp_path / "new").exists()


def test_the_report_says_first_that_it_is_for_the_curator(judged):
    assert "are for the curator" in of_kind(section(judged, "answers"), Text)[0].text
    assert "Not for annotators" in of_kind(section(judged, "disputes"), Gallery)[0].caption


def test_answers_are_counted_by_queue_with_their_seconds(judged):
    with open_log(judged, "ann") as log:
        log.append(decision("slip", image_id_of(0), "difficult", seconds=0.1))
        log.append(decision("slip-back", image_id_of(0), "undo"))
    answer(judged, "ben", {4: "out"}, queue="dispute", seconds=40.0)
    found = section(judged, "answers")
    header = next(part.header for part in of_kind(found, Table))
    assert header == ("annotator", "first", "dispute", "taken back", "median s", "90 % s", "under 0.3 s", "hours")
    # ann: six of 2 s and the slip; ben: six of 4 s and one of 40 s, whose tenth part begins at 4 + 0.4 * 36.
    assert rows_of(found, "annotator") == [
        ("ann", "6", "0", "1", "2.0", "2.0", "1", "0.0"), ("ben", "6", "1", "0", "4.0", "18.4", "0", "0.0")
    ]  # fmt: skip
    days, kinds, seconds = of_kind(found, Chart)
    assert days.description == "14 answers from 2026-01-02 to 2026-01-04; most in the day of 2026-01-02: 8."
    assert kinds.description == "ann: out 3, in 2, difficult 1, skip 0; ben: out 3, in 3, difficult 0, skip 0"
    assert seconds.description.startswith("ann: median 2.00 s, nine in ten under 2.00 s; ben: median 4.00 s")


def test_days_become_weeks_months_and_years_where_there_are_many():
    two = binned_days({"ann": ["2026-01-31T23:59:00Z", "2026-02-02T00:01:00Z", "2026-02-02T00:02:00Z"], "ben": []})
    assert (two.unit, two.names) == ("day", ["2026-01-31", "2026-02-01", "2026-02-02"])
    assert (two.counts["ann"].tolist(), two.counts["ben"].tolist()) == ([1, 0, 2], [0, 0, 0])
    # Thursday the 1st of January and Sunday the 8th of March: ten weeks, the first from Monday the 29th.
    weeks = binned_days({"ann": ["2026-01-01T00:00:00Z", "2026-03-08T12:00:00Z"]})
    assert (weeks.unit, len(weeks.names), weeks.names[0], weeks.names[-1]) == (
        "week",
        10,
        "2025-12-29",
        "2026-03-02",
    )
    months = binned_days({"ann": ["2024-01-31T00:00:00Z", "2025-02-28T00:00:00Z"]})
    assert (months.unit, len(months.names), months.names[1]) == ("month", 14, "2024-02")
    years = binned_days({"ann": ["2016-12-31T00:00:00Z", "2026-01-01T00:00:00Z"]})
    assert (years.unit, years.names[0], years.names[-1], len(years.names)) == ("year", "2016", "2026", 11)


def test_simulated_annotators_are_named_as_simulated(tmp_path):
    world = make_world(tmp_path, n_images=12, share_in=0.5)
    world.answer("careful,careful", with_gold=False)
    text = of_kind(section(world.workspace, "answers"), Text)[1].text
    assert text.startswith("simulated-careful-1, simulated-careful-2: simulated. A program made these answers up")


def test_made_up_days_are_left_out_where_people_answered(tmp_path):
    world = make_world(tmp_path, n_images=12, share_in=0.5)
    world.answer("careful", with_gold=False)
    assert "from 2020" in of_kind(section(world.workspace, "answers"), Chart)[0].description
    answer(world.workspace, "ann", {0: "out", 1: "out"})
    days = of_kind(section(world.workspace, "answers"), Chart)[0]
    assert days.description == "2 answers from 2026-01-02 to 2026-01-02; most in the day of 2026-01-02: 2."


def test_agreement_is_told_with_its_images_and_how_to_read_it(judged):
    found = section(judged, "agreement")
    table = {row[0]: row[1:] for row in rows_of(found, "coefficient")}
    # Of six images, out-out twice, in-in twice, and two that differ.
    assert table["raw agreement"][0::2] == ("0.667", "6")
    assert table["raw agreement, classes told apart"][0] == "0.500"
    # 12 answers: 6 out, 5 in, 1 difficult; D_o = 4 / 12, D_e = (144 - 62) / 132.
    assert table["Krippendorff's alpha"][0] == f"{1 - (4 / 12) / (82 / 132):.3f}"
    # By chance (36 + 25 + 1) / 144.
    assert table["Fleiss' kappa"][0] == f"{(4 / 6 - 62 / 144) / (1 - 62 / 144):.3f}"
    assert "Krippendorff (2004) relies on an alpha of 0.8" in of_kind(found, Text)[0].text
    assert rows_of(found, "two annotators")[0][:3] == ("ann and ben", "6", "66.7%")
    assert "There is no gold" in of_kind(found, Text)[1].text


def test_whom_the_consensus_sets_aside_counts_in_no_agreement(judged):
    answer(judged, "cat", dict.fromkeys(range(6), "difficult"))
    run_consensus(judged, ConsensusRule(set_aside=("cat",)))
    found = section(judged, "agreement")
    assert {row[0]: row[1] for row in rows_of(found, "coefficient")}["raw agreement"] == "0.667"
    assert "without cat, who are set aside" in of_kind(found, Table)[0].caption
    assert [row[0] for row in rows_of(section(judged, "answers"), "annotator")] == ["ann", "ben", "cat"]


def test_gold_shows_who_takes_in_for_out(judged):
    gold = [
        {"image_id": image_id_of(number), "answer": word, "class_index": index, "note": None}
        for number, (word, index) in {0: ("in", 3), 1: ("in", 3), 2: ("in", None), 3: ("out", None)}.items()
    ]
    judged.write(schema.GOLD, gold)
    assert "None of the 4 gold images has been answered" in of_kind(section(judged, "agreement"), Text)[1].text
    answer(judged, "ann", {0: 3, 1: 7, 2: "out", 3: 5}, queue="gold")
    row = rows_of(section(judged, "agreement"), "annotator")[0]
    assert row[:3] == ("ann", "4", "50.0%")
    assert row[4:8] == ("33.3% of 3", "100.0% of 1", "0.0% of 4", "50.0% of 2")


def test_confusion_counts_pairs_of_answers_by_class(judged):
    answer(judged, "cat", {3: 3})
    pairs = answer_pairs(read_team(judged).blind)
    # 0 out, 1 difficult, 2 + class; picture 3 has three answers, so three pairs.
    assert pairs == Counter({(0, 0): 2, (5, 5): 2, (5, 9): 2, (0, 9): 1, (0, 1): 1})
    found = section(judged, "confusion")
    assert of_kind(found, Text)[0].text.startswith(
        "Of 8 pairs of blind answers to one image by two annotators, 4 "
    )
    first, second = CLASS_NAMES[3], CLASS_NAMES[7]
    assert rows_of(found, "one said") == [
        (first, second, "2", "66.7% of 3"), ("out", "difficult", "1", "100.0% of 1"),
        ("out", second, "1", "33.3% of 3"),
    ]  # fmt: skip
    assert of_kind(found, Chart)[0].description.startswith(
        f"{first} against {second}: 2; out against difficult: 1"
    )


def test_the_heat_map_gives_shares_of_the_other_annotators_answers(judged):
    svg = of_kind(section(judged, "confusion"), Chart)[0].svg
    # Who said out met out four times of six, and difficult and the rooster once each.
    texts = re.findall(r"<text[^>]*>([^<]+)</text>", svg)
    assert Counter(texts)["67"] == 2
    assert Counter(texts)["17"] == 2


def test_the_list_of_confusions_and_the_heat_map_tell_the_same_share(judged):
    # The fifth picture is out to one, and of one class to two: that class is answered five times beside another
    # answer, twice of these beside out; as pairs it would be two of four.
    answer(judged, "cat", {4: 7})
    found = section(judged, "confusion")
    shares = {row[:2]: row[3] for row in rows_of(found, "one said")}
    assert shares["out", CLASS_NAMES[7]] == "40.0% of 5"
    assert "40" in re.findall(r"<text[^>]*>([^<]+)</text>", of_kind(found, Chart)[0].svg)


def test_one_annotator_has_nobody_to_be_confused_with(tmp_path):
    workspace = make_workspace(tmp_path, n_review=2)
    answer(workspace, "ann", {0: "out", 1: "out"})
    assert "No image has two blind answers" in section(workspace, "confusion").missing
    assert {row[0]: row[1] for row in rows_of(section(workspace, "agreement"), "coefficient")}[
        "raw agreement"
    ] == ("not defined")


def test_disputes_show_every_answer_and_open_ones_come_first(judged):
    answer(judged, "cat", {3: 7}, queue="dispute", note="a comb")
    run_consensus(judged)
    found = section(judged, "disputes")
    assert rows_of(found, "state") == [("open: the votes differ", "2"), ("ruled in", "1"), ("all", "3 of 6")]
    cards = of_kind(found, Gallery)[0].cards
    assert [card.pictures[0].name for card in cards] == [image_id_of(number) for number in (4, 5, 3)]
    assert cards[0].lines == ["open", "ann: out", "ben: in, rooster", image_id_of(4)]
    assert cards[2].lines == [
        "ruled in", "ann: in, tiger shark", "ben: in, rooster", "cat (dispute): in, rooster (a comb)",
        image_id_of(3),
    ]  # fmt: skip


def test_two_classes_of_one_picture_agree_on_in(judged):
    # Picture 3 was called two sharks by two people: in, with no class; that is no dispute.
    names = [card.pictures[0].name for card in of_kind(section(judged, "disputes"), Gallery)[0].cards]
    assert image_id_of(3) not in names


def test_control_images_that_are_out_show_what_the_screen_lost(judged):
    rows = judged.read(schema.SCREEN).to_pylist()
    for row in rows:
        row["reason"] = "in_class" if row["is_control"] else row["reason"]
    judged.write(schema.SCREEN, rows)
    found = section(judged, "losses")
    # One control, picture 1, which is out; one dropped; of the five others three are settled, one of them out.
    assert rows_of(found, "images") == [
        ("dropped as in-class, seen by nobody", "1"), ("control images", "1"),
        ("of these, with a settled verdict", "1"), ("of these, out", "1"),
        ("out among settled controls", "100.0% (2.5% to 100.0%)"), ("others under review", "5"),
        ("of these, with a settled verdict", "3"), ("of these, out", "1"),
    ]  # fmt: skip
    assert "3 of 5 are" in of_kind(found, Text)[0].text
    cards = of_kind(found, Gallery)[0].cards
    assert [card.pictures[0].name for card in cards] == [image_id_of(1)]


def test_a_screen_that_drops_nothing_as_in_class_has_nothing_to_lose(tmp_path):
    workspace = make_workspace(tmp_path, n_review=3, n_dropped=0)
    answer(workspace, "ann", {0: "out"})
    run_consensus(workspace)
    rows = [row | {"is_control": False} for row in workspace.read(schema.SCREEN).to_pylist()]
    workspace.write(schema.SCREEN, rows)
    assert "so it lost nothing" in section(workspace, "losses").missing


def test_rounds_of_inspection_are_told_by_stratum(judged):
    drawn_round = draw_round(judged, 4, seed=0, max_defects=0.5)
    numbers = [int(image_id, 16) for image_id in drawn_round.sample]
    assert sorted(numbers) == [0, 1, 2, 3]
    answer(judged, "eve", {0: "out", 1: 2, 2: 3}, queue="inspection")
    table = {row[0]: row[1:] for row in rows_of(section(judged, "checks"), "stratum")}
    strata = {stratum.sample: stratum.name for stratum in drawn_round.strata}
    of_one = {numbers_of[0]: name for numbers_of, name in strata.items()}
    assert table[of_one[image_id_of(0)]] == ("1", "1", "1", "0", "0.0% (0.0% to 97.5%)", "passed")
    assert table[of_one[image_id_of(1)]] == ("1", "1", "1", "1", "100.0% (2.5% to 100.0%)", "failed: sent back")
    assert table[of_one[image_id_of(3)]] == ("1", "1", "0", "0", "-", "open")
    found = section(judged, "checks")
    assert found.missing is None
    assert "No frozen set has been audited" in of_kind(found, Text)[0].text


def test_without_rounds_and_audits_both_are_named_as_missing(judged):
    found = section(judged, "checks")
    assert not found.parts
    assert "inspect --sample" in found.missing
    assert "audit plan" in found.missing


def test_an_audit_is_told_while_it_is_open_and_its_defects_when_it_has_ended(tmp_path):
    space = frozen_world(tmp_path)
    plan_audit(space, None, Goal(bound=0.05, confidence=0.95, max_defects=1))
    sample = drawn(space)
    audit(space, "ana", sample[:10], {sample[3]: "in"})
    assert section(space, "checks").missing is None
    assert "No round of inspection" in of_kind(section(space, "checks"), Text)[0].text
    row = rows_of(section(space, "checks"), "audit")[0]
    assert row[:7] == ("set-1.0.0", "set-1.0.0", "800", str(len(sample)), "10", "1", "0")
    assert row[7].startswith("open, look 1 of ")
    assert not of_kind(section(space, "checks"), Gallery)
    audit(space, "ana", sample[10:])
    report = report_audit(space)
    row = rows_of(section(space, "checks"), "audit")[0]
    bound = report.certificate["upper_bound"]
    assert row[7] == f"certified: at most {bound:.4%} at 95 %"
    assert [card.lines[0] for card in of_kind(section(space, "checks"), Gallery)[0].cards] == [sample[3]]


def test_a_damaged_log_is_told_in_its_place(judged):
    (judged.decisions_dir / "ann.jsonl").write_text("{}\n")
    found = sections(judged)
    assert [(one.key, one.title) for one in found] == [("answers", "Annotation")]
    assert "ann.jsonl, line 1" in found[0].problem


def test_equal_workspaces_make_equal_sections_and_no_file(judged):
    before = {path: path.stat().st_mtime_ns for path in judged.root.rglob("*")}
    assert sections(judged) == sections(judged)
    assert {path: path.stat().st_mtime_ns for path in judged.root.rglob("*")} == before


def test_charts_and_galleries_do_not_grow_with_the_answers(tmp_path):
    sizes = []
    for n_images in (50, 300):
        world = make_world(tmp_path / str(n_images), n_images=n_images, share_in=0.5)
        world.answer("careful,hasty,careful,hasty", with_gold=False)
        run_consensus(world.workspace)
        found = sections(world.workspace)
        charts = [part for one in found for part in one.parts if isinstance(part, Chart)]
        sizes.append([len(re.findall("<(?:path|use|text)", chart.svg)) for chart in charts])
        assert all(len(part.cards) <= 240 for one in found for part in of_kind(one, Gallery))
    assert len(sizes[0]) == 4
    assert all(many <= few + 120 for few, many in zip(*sizes, strict=True))
