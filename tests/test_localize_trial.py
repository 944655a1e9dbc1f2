"""Figures at the end of a training: made once, kept beside the localizer, and made anew where they do not hold."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest

from curation.localize import trial
from curation.localize.referring_set import read_examples
from curation.localize.trial import CONTACT_SHEET_FILE, FIGURES_FILE, Entrant, Trial, judge_once
from curation.localize.trivial_answers import CentredBox
from tests.localize_world import write_layout


@dataclass(frozen=True)
class Ramp:
    """Evidence that falls from the left to the right, from `highest` on."""

    highest: float = 1e-4
    name: str = "ramp"

    @property
    def digest(self):
        return f"ramp from {self.highest}"

    def evidence(self, picture, names):
        row = np.linspace(self.highest, 0, picture.width, dtype=np.float32)
        return np.broadcast_to(row, (len(names), picture.height, picture.width))


JUDGING = "judging 2 answers to 4 phrases of 2 masks"


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    layout = write_layout(tmp_path_factory.mktemp("data"), {"train": 2, "val": 2, "test": 2})
    return {name: read_examples(layout, "refcoco", name) for name in ("train", "val", "test")}


@pytest.fixture
def tried(splits):
    entrants = [Entrant("ramp", Ramp(), is_fitted=True), Entrant("all", CentredBox(), is_shown=False)]
    return Trial(entrants, {"held out": splits["test"]}, splits["train"], splits["val"], "cpu")


def judge(tried, folder):
    """Return the judgements of a trial, and what was said."""
    said = []
    return judge_once(tried, folder, announce=said.append), said


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_thresholds_are_fitted_on_the_examples_for_it_and_figures_are_of_the_others(tried, tmp_path):
    (judgement,), said = judge(tried, tmp_path)
    assert (judgement.title, judgement.n_masks, judgement.n_phrases, said) == ("held out", 2, 4, [JUDGING])
    ramp, whole = judgement.contenders
    # Boxes of 16 px from columns 8 and 16 on: to cut off what lies behind column 31 is best for both together.
    row = Ramp().evidence(tried.fitted_on[0].read()[0], ["a box"])[0, 0]
    assert row[32] < ramp.threshold <= row[23]
    assert whole.threshold == 0.5
    assert whole.figures.mean_iou == pytest.approx(16 * 12 / (60 * 40))


def test_what_was_judged_is_read_and_not_judged_again(tried, tmp_path, monkeypatch):
    first, _ = judge(tried, tmp_path)
    before = contents(tmp_path)
    for work in ("judged", "fitted_threshold", "write_contact_sheet"):
        monkeypatch.setattr(trial, work, lambda *_, **__: pytest.fail("it is done again"))
    again, said = judge(tried, tmp_path)
    assert (again, contents(tmp_path)) == (first, before)
    assert said == [f"{tmp_path / FIGURES_FILE}: this localizer was judged on these examples before"]


def test_two_runs_write_equal_bytes(tried, tmp_path):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        judge(tried, tmp_path / name)
    assert contents(tmp_path / "one") == contents(tmp_path / "other")
    assert contents(tmp_path / "one").keys() == {FIGURES_FILE, CONTACT_SHEET_FILE}


@pytest.mark.parametrize(
    "change",
    [
        lambda one, splits: replace(one, entrants=[replace(one.entrants[0], localizer=Ramp(1)), one.entrants[1]]),
        lambda one, splits: replace(one, entrants=one.entrants[:1]),
        lambda one, splits: replace(one, entrants=[replace(entrant, is_fitted=False) for entrant in one.entrants]),
        lambda one, splits: replace(one, entrants=[replace(entrant, is_shown=True) for entrant in one.entrants]),
        lambda one, splits: replace(one, judged_on={"held out": splits["val"]}),
        lambda one, splits: replace(one, judged_on={"test": splits["test"]}),
        lambda one, splits: replace(one, judged_on={**one.judged_on, "val": splits["val"]}),
        lambda one, splits: replace(one, fitted_on=splits["val"]),
        lambda one, splits: replace(one, shown=splits["test"]),
        lambda one, splits: replace(one, device="cuda"),
    ],
    ids=["localizer", "fewer", "fitted", "on the sheet", "examples", "title", "more", "to fit", "shown", "device"],
)  # fmt: skip
def test_another_trial_is_judged_anew(change, tried, splits, tmp_path):
    for name in ("changed", "alone"):
        (tmp_path / name).mkdir()
    judge(tried, tmp_path / "changed")
    found, said = judge(change(tried, splits), tmp_path / "changed")
    assert [line.split(" ")[0] for line in said] == ["judging"]
    assert found == judge(change(tried, splits), tmp_path / "alone")[0]
    assert contents(tmp_path / "changed") == contents(tmp_path / "alone")


def test_another_version_of_the_program_judges_anew(tried, tmp_path, monkeypatch):
    judge(tried, tmp_path)
    monkeypatch.setattr(trial, "tool_version", lambda: "99.0")
    assert judge(tried, tmp_path)[1] == [JUDGING]
    assert json.loads((tmp_path / FIGURES_FILE).read_text())["inputs"]["tool_version"] == "99.0"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda text: text.replace("0.5,", "0.6,", 1), "its SHA-256 is another than it says"),
        (lambda text: text[:-20], "Unterminated"),
        (lambda text: "[]", "content_sha256"),
        (lambda text: "7", "not iterable"),
        (lambda text: text.replace('"inputs"', '"title"', 1), "SHA-256"),
        (lambda text: "\udcff", "decode"),
    ],
    ids=["a figure", "cut off", "a list", "a number", "a name", "no text"],
)
def test_damaged_figures_are_said_and_made_anew(damage, said, tried, tmp_path):
    judge(tried, tmp_path)
    before, path = contents(tmp_path), tmp_path / FIGURES_FILE
    damaged = damage(path.read_text()).encode(errors="surrogateescape")
    assert damaged != before[FIGURES_FILE]
    path.write_bytes(damaged)
    _, (line, judging) = judge(tried, tmp_path)
    assert judging == JUDGING
    assert line.startswith(f"{path}: damaged (")
    assert said in line
    assert line.endswith("); judging again")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("has_sheet", [True, False])
def test_a_contact_sheet_that_is_gone_or_another_is_made_anew(has_sheet, tried, tmp_path):
    judge(tried, tmp_path)
    before, sheet = contents(tmp_path), tmp_path / CONTACT_SHEET_FILE
    if has_sheet:
        sheet.write_bytes(b"another")
    else:
        sheet.unlink()
    assert judge(tried, tmp_path)[1] == [JUDGING]
    assert contents(tmp_path) == before


def test_a_run_that_was_killed_after_its_contact_sheet_is_gone_on_with(tried, splits, tmp_path, monkeypatch):
    for name in ("killed", "whole"):
        (tmp_path / name).mkdir()
        judge(replace(tried, shown=splits["test"]), tmp_path / name)
    with monkeypatch.context() as patch:
        patch.setattr(trial, "judged", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            judge(tried, tmp_path / "killed")
    # The figures there are of another sheet than the one beside them.
    assert judge(replace(tried, shown=splits["test"]), tmp_path / "killed")[1] == [JUDGING]
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
