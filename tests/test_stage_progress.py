"""How far a stage is: on a terminal, and as `status` tells it from outside while the stage runs."""

import io
import json
import subprocess
import sys
import time

import pytest

import cli
from curation.commands import localizing
from manifests import stage_progress
from manifests.commands.summary import announce
from manifests.stage_progress import BYTE, NOTE_NAME, ProgressBar, noting_progress
from manifests.underway import Underway, underway
from manifests.workspace import Workspace
from scoring.commands import train_dml
from tests.conftest import REPOSITORY
from tests.dml_world import write_folder
from tests.localize_stage_world import N_PICTURES, Lamp, make_screened, run
from tests.localize_world import write_layout
from tests.tiny_clip import make_tiny_clip


def a_terminal(monkeypatch):
    """Return what is written on standard error from now on, which says that it is a terminal."""
    written = io.StringIO()
    monkeypatch.setattr(written, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stderr", written)
    return written


class TestProgressBar:
    def test_a_bar_leaves_a_note_while_the_stage_holds_the_workspace(self, tmp_path):
        with noting_progress(tmp_path), ProgressBar(9, "embed", initial=2) as bar:
            bar.update(3, n_failed=1)
            told = json.loads((tmp_path / NOTE_NAME).read_text())
        assert {name: told[name] for name in ("what", "n_done", "n_total", "n_failed", "n_before")} == {
            "what": "embed", "n_done": 5, "n_total": 9, "n_failed": 1, "n_before": 2,
        }  # fmt: skip
        assert list(tmp_path.iterdir()) == []

    def test_a_bar_without_a_terminal_prints_nothing(self, tmp_path, capsys):
        with ProgressBar(9, "embed") as bar:
            bar.update(9)
        assert capsys.readouterr() == ("", "")

    def test_a_bar_on_a_terminal_shows_rate_time_left_and_failures(self, monkeypatch):
        terminal = a_terminal(monkeypatch)
        with ProgressBar(8, "download") as bar:
            time.sleep(0.15)
            bar.update(4, n_failed=1)
        assert "download:  50%" in terminal.getvalue()
        assert "img/s" in terminal.getvalue()
        assert "failed=1" in terminal.getvalue()

    def test_bytes_are_millions_on_a_terminal_and_bytes_in_a_note(self, tmp_path, monkeypatch):
        terminal = a_terminal(monkeypatch)
        with noting_progress(tmp_path), ProgressBar(3_000_000, "images.csv", unit=BYTE, initial=1_500_000):
            told = json.loads((tmp_path / NOTE_NAME).read_text())
        assert "images.csv:  50%" in terminal.getvalue()
        assert "1.50M/3.00M" in terminal.getvalue()
        assert (told["n_done"], told["n_total"], told["unit"]) == (1_500_000, 3_000_000, "byte")

    def test_what_is_said_stands_above_the_bars_of_a_terminal(self, monkeypatch):
        terminal = a_terminal(monkeypatch)
        with ProgressBar(3, "train", unit="step") as bar:
            bar.describe("epoch 2 of 3")
            announce("a line")
        announce("another")
        # The bar's line is emptied, and drawn anew below what is said.
        before, _, after = terminal.getvalue().partition("a line\n")
        assert before.endswith("\r")
        assert after.startswith("\repoch 2 of 3:   0%")
        assert after.endswith("\nanother\n")

    def test_of_bars_within_each_other_the_outermost_leaves_the_note(self, tmp_path):
        with noting_progress(tmp_path), ProgressBar(4, "epoch 1 of 2", unit="step") as outer:
            outer.update()
            with ProgressBar(90, "evaluate", unit="example") as inner:
                before = json.loads((tmp_path / NOTE_NAME).read_text())
                time.sleep(0.01)
                inner.update(50)
                told = json.loads((tmp_path / NOTE_NAME).read_text())
        assert (told["what"], told["n_done"], told["n_total"]) == ("epoch 1 of 2", 1, 4)
        # What is done within it takes time too, and so belongs to its rate.
        assert told["at"] > before["at"]

    def test_what_is_to_be_done_is_noted_before_the_first_of_it_is_done(self, tmp_path):
        with noting_progress(tmp_path), ProgressBar(9, "embed", initial=2):
            told = json.loads((tmp_path / NOTE_NAME).read_text())
        assert (told["n_done"], told["n_total"], told["n_before"]) == (2, 9, 2)

    def test_a_number_that_is_not_known_is_told_as_such(self, tmp_path):
        space = Workspace(tmp_path)
        with space.stage("score", {}), ProgressBar(None, "fit, reading 1") as bar:
            time.sleep(0.01)
            bar.update(5)
            (told,) = underway(space)
        assert (told.n_done, told.n_total, told.per_s > 0, told.seconds_left) == (5, None, True, None)


def test_a_slow_pace_is_told_by_the_time_that_one_takes():
    told = str(Underway("train-localizer", "running", 2, 12, 0, "steps", per_s=0.02, seconds_left=500.0))
    assert told == "running: train-localizer, 2 of 12 steps (17%), one in 50 s, about 8 min left"


@pytest.fixture
def _each_step_is_noted(monkeypatch):
    monkeypatch.setattr(stage_progress, "_SECONDS_A_NOTE", 0.0)


def under_way(root):
    """Return what another process is told to be under way: stage, done, of how many, of what, failed."""
    program = [sys.executable, "cli.py", "status", "--json", "--workspace", str(root)]
    told = json.loads(subprocess.run(program, cwd=REPOSITORY, capture_output=True, check=True).stdout)
    (one,) = told["data"]["underway"]
    assert (one["state"], one["per_s"] > 0, one["seconds_left"] is not None) == ("running", True, True)
    return one["stage"], one["n_done"], one["n_total"], one["unit"], one["n_failed"]


@pytest.mark.usefixtures("_each_step_is_noted")
def test_localize_counts_its_pictures(tmp_path):
    told = []

    class Watched(Lamp):
        def evidence(self, picture, names):
            # The fifth: four are done.
            if len(self.asked) == 4:
                told.append(under_way(tmp_path))
            return super().evidence(picture, names)

    run(make_screened(tmp_path), Watched())
    assert told == [("localize", 4, N_PICTURES, "images", 0)]


@pytest.mark.usefixtures("_each_step_is_noted")
def test_the_training_of_a_localizer_counts_the_steps_of_all_epochs(tmp_path, monkeypatch):
    layout = write_layout(tmp_path / "data", {"train": 9, "val": 2})
    config, weights = make_tiny_clip(tmp_path)
    told = []

    def watched(line):
        if line.startswith("epoch 2/3"):
            told.append(under_way(tmp_path / "ws"))

    monkeypatch.setattr(localizing, "announce", watched)
    arguments = [
        "train-localizer", "--data", str(layout), "--model", config, "--pretrained", weights, "--input-px", "32",
        "--words", "8", "--epochs", "3", "--batch-size", "2", "--readers", "1", "--device", "cpu", "--workspace",
        str(tmp_path / "ws"),
    ]  # fmt: skip
    assert cli.run(arguments) == 0
    # Four batches of two an epoch. That each epoch is followed by an evaluation of its own changes nothing.
    assert told == [("train-localizer (epoch 2 of 3)", 8, 12, "steps", 0)]


@pytest.mark.usefixtures("_each_step_is_noted")
def test_the_training_of_a_network_counts_the_steps_of_all_epochs(tmp_path, monkeypatch):
    data = write_folder(tmp_path / "colours")
    said, told = [], []

    def watched(line):
        said.append(line)
        if line.startswith("tiny.mcf: epoch 2/3"):
            told.append(under_way(tmp_path / "ws"))

    monkeypatch.setattr(train_dml, "announce", watched)
    arguments = [
        "train-dml", "--data", str(data), "--loss", "mcf", "--network", "tiny", "--epochs", "3", "--batch-size",
        "8", "--device", "cpu", "--workspace", str(tmp_path / "ws"),
    ]  # fmt: skip
    assert cli.run(arguments) == 0
    # Eight pictures of each of three classes are three batches an epoch.
    assert told == [("train-dml (mcf, epoch 2 of 3)", 6, 9, "steps", 0)]
    # What takes long is announced before it begins.
    assert said[:2] == [
        f"train-dml: mcf, epochs of each: 3; reading {data}",
        "train-dml: 24 pictures to learn from, 9 to see what was learnt",
    ]
