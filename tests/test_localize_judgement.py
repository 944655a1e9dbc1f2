"""Localizers judged beside answers that read no phrase."""

import codecs
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageDraw

from curation.localize.contact_sheet import write_contact_sheet
from curation.localize.evaluate import evaluate, fitted_threshold
from curation.localize.judgement import Contender, Judgement, judged, judgement_lines
from curation.localize.referring_set import read_examples
from curation.localize.trivial_answers import CentredBox, ColourContrast, mean_area_share
from manifests.plots.lettering import spelled
from tests.localize_world import write_layout


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """Pictures of 60 x 40 px with a box of 16 x 12 px that is 8 px further right each time, from 8 on."""
    return read_examples(write_layout(tmp_path_factory.mktemp("data"), {"train": 4}), "refcoco", "train")


class Ramp:
    """Evidence that falls from the left to the right, in a range that no fixed list of thresholds would meet."""

    name = digest = "ramp"

    def evidence(self, picture, names):
        row = np.linspace(1e-4, 0, picture.width, dtype=np.float32)
        return np.broadcast_to(row, (len(names), picture.height, picture.width))


def blocks(*boxes):
    """Return a grey picture with coloured boxes."""
    picture = Image.new("RGB", (20, 10), (90, 100, 110))
    for box, colour in boxes:
        ImageDraw.Draw(picture).rectangle(box, fill=colour)
    return picture


def test_figures_of_a_picture_as_a_whole_are_the_shares_of_the_masks(examples):
    figures = evaluate(CentredBox(), examples)
    # 16 x 12 of 60 x 40 px, for each of eight phrases.
    assert figures.n_answers == 8
    assert figures.mean_iou == figures.overall_iou == pytest.approx(16 * 12 / (60 * 40))
    assert evaluate(CentredBox(), examples, n_phrases=1).n_answers == 4


def test_a_threshold_is_fitted_whatever_the_range_of_the_evidence(examples):
    # The best of one picture whose box spans columns 8 to 23, of which a ramp can only cut off what lies behind.
    at = fitted_threshold(Ramp(), examples[:1])
    answered = Ramp().evidence(examples[0].read()[0], ["the big box"])[0] >= at
    assert answered.any(axis=0).nonzero()[0].tolist() == list(range(24))
    assert evaluate(Ramp(), examples[:1], threshold=at).mean_iou == pytest.approx(16 * 12 / (24 * 40))


def test_the_threshold_of_evidence_that_is_the_same_everywhere_answers_the_whole_picture(examples):
    assert fitted_threshold(CentredBox(), examples) == 1


def test_a_centred_box_has_its_share_of_the_area_and_the_picture_s_shape():
    evidence = CentredBox(0.25).evidence(Image.new("RGB", (40, 20)), ["a fox", "a cup"])
    expected = np.zeros((20, 40), np.float32)
    expected[5:15, 10:30] = 1
    np.testing.assert_array_equal(evidence, [expected, expected])


def test_the_area_of_masks_is_the_mean_of_their_shares(examples):
    assert mean_area_share(examples) == pytest.approx(16 * 12 / (60 * 40))


def test_what_stands_out_is_what_differs_from_the_border_and_all_of_it():
    picture = blocks(((3, 3, 5, 6), (255, 0, 0)), ((10, 2, 12, 4), (0, 0, 0)))
    found = ColourContrast().evidence(picture, ["the red box"])[0]
    assert found[0, 0] == 0
    assert found[4, 4] == pytest.approx(np.sqrt(165**2 + 100**2 + 110**2) / np.sqrt(3 * 255**2))
    assert found[3, 11] == pytest.approx(np.sqrt(90**2 + 100**2 + 110**2) / np.sqrt(3 * 255**2))
    assert (found > 0).sum() == 3 * 4 + 3 * 3


def test_a_thing_at_the_border_does_not_become_the_ground():
    found = ColourContrast().evidence(blocks(((0, 0, 5, 3), (255, 255, 255))), ["the box"])[0]
    assert found[0, 0] > 0
    assert found[9, 19] == 0


def words_of(line):
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def test_answers_are_put_beside_each_other_in_tables_that_a_terminal_has_room_for(examples):
    box = CentredBox(mean_area_share(examples))
    contenders = [Contender(box.name, box), Contender("heat map of the sample's CLIP", Ramp(), 2e-5)]
    judgement = judged(contenders, examples, title="val")
    lines = judgement_lines([judgement, judgement])
    assert lines[0] == "val: 4 masks, 8 phrases"
    assert words_of(lines[1]) == [
        "answer", "mean IoU", "overall IoU", "P@0.5", "P@0.6", "P@0.7", "P@0.8", "P@0.9",
    ]  # fmt: skip
    assert words_of(lines[5]) == ["answer", "pixel acc.", "mean pixel acc.", "class mean IoU", "evidence from"]
    assert max(map(len, lines)) <= 100
    # The box of 17 x 11 px in the middle, and boxes of 16 x 12 px; the ramp at 2e-5 answers columns 0 to 47.
    figures = evaluate(Ramp(), examples, threshold=2e-5)
    assert words_of(lines[2])[0] == words_of(lines[6])[0] == "centred box, 8.0% of the area"
    assert words_of(lines[3])[1:3] == [f"{figures.mean_iou:.3f}", f"{figures.overall_iou:.3f}"]
    assert words_of(lines[7])[1:] == [
        f"{figures.pixel_accuracy:.3f}", f"{figures.mean_pixel_accuracy:.3f}", f"{figures.class_mean_iou:.3f}",
        "2e-05",
    ]  # fmt: skip
    # Of several judgements, what the figures mean stands once, at the end.
    assert lines[9:18] == lines[:9]
    assert lines[18:] == judgement_lines([])


def test_a_judgement_is_read_back_from_json_as_it_was(examples):
    judgement = judged([Contender("ramp", Ramp(), 2e-5)], examples, title="val")
    record = json.loads(json.dumps(judgement.record()))
    assert Judgement.from_record(record) == judgement
    assert record["contenders"][0]["threshold"] == 2e-5
    assert set(record["contenders"][0]) - {"name", "threshold"} == judgement.contenders[0].figures.as_row().keys()


def test_a_phrase_wider_than_its_half_of_a_contact_sheet_ends_before_its_neighbour_begins(examples, tmp_path):
    def drawn(phrase: str) -> np.ndarray:
        first, second = (
            replace(one, phrases=(words,)) for one, words in zip(examples, (phrase, "i"), strict=False)
        )
        write_contact_sheet(tmp_path / "sheet.png", [first, second], [])
        return np.array(Image.open(tmp_path / "sheet.png").convert("L"))[30 : 30 + 16]

    # Two cells of 128 px with a gap of 6 after each, and 12 px before the second half.
    short, long = drawn("a bird"), drawn("the bird on the branch " * 9)
    np.testing.assert_array_equal(short[:, 268:], long[:, 268:])
    assert (long[:, 200:268] < 128).any()
    assert (drawn("a\n bird") == short).all()


def test_a_phrase_in_a_script_without_letters_is_spelled_so_that_it_can_be_read_back(examples, tmp_path):
    def drawn(phrase: str) -> np.ndarray:
        write_contact_sheet(tmp_path / "sheet.png", [replace(examples[0], phrases=(phrase,))], [])
        return np.array(Image.open(tmp_path / "sheet.png").convert("L"))[30 : 30 + 16]

    # Of the escapes here each backslash is one: a phrase that holds one has it doubled.
    for phrase, said in (
        ("猫 left", r"\u732b left"),
        ("a \U0001f375", r"a \U0001f375"),
        ("x\u202ey", r"x\u202ey"),
    ):
        assert spelled(phrase) == said
        assert codecs.decode(spelled(phrase), "unicode_escape") == phrase
    # What looks like an escape and is none.
    assert spelled(r"\u732b") == r"\\u732b"
    for phrase in ("κόκκινο", "красное", "أحمر", "אדום", "ünï"):
        assert spelled(phrase) == phrase
    # No two are one row of boxes.
    assert (drawn("猫") != drawn("犬")).any()
    assert (drawn("красное") != drawn("зеленое")).any()


def test_a_contact_sheet_shows_what_is_in_a_mask_as_it_is_and_the_rest_below_a_colour(examples, tmp_path):
    contenders = [Contender("the whole picture", CentredBox()), Contender("none", Ramp(), 2)]
    for name in ("once.png", "again.png"):
        write_contact_sheet(tmp_path / name, examples[:1], contenders)
    assert (tmp_path / "once.png").read_bytes() == (tmp_path / "again.png").read_bytes()
    sheet, picture = np.array(Image.open(tmp_path / "once.png")), np.array(examples[0].read()[0])
    # Below the names and the phrase; a cell is 128 px wide with a gap of 6.
    top = 30 + 16
    cells = [sheet[top : top + 40, left : left + 60] for left in range(0, 4 * 134, 134)]
    np.testing.assert_array_equal(cells[0], picture)
    np.testing.assert_array_equal(cells[2], picture)
    np.testing.assert_array_equal(cells[3], (0.25 * picture + 0.75 * np.array([86, 180, 233])).astype(np.uint8))
