"""The command `train-localizer`."""

import pytest
import torch

import cli
from curation.localize import training_run
from tests.localize_world import write_layout
from tests.tiny_clip import make_tiny_clip


def test_the_command_trains_on_a_layout_and_prints_a_table_for_each_test_split(tmp_path, capsys):
    layout = write_layout(tmp_path / "data", {"train": 9, "val": 3, "testA": 2})
    folder = tmp_path / "clip"
    folder.mkdir()
    config, weights = make_tiny_clip(folder)
    arguments = [
        "train-localizer", "--data", str(layout), "--test-split", "testA", "--model", config,
        "--pretrained", weights, "--input-px", "32", "--words", "8", "--epochs", "1", "--batch-size", "3",
        "--readers", "1", "--device", "cpu", "--workspace", str(tmp_path),
    ]  # fmt: skip
    assert cli.run(arguments) == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert lines[0] == "testA: 2 masks, 4 phrases"
    assert lines[1].split("  ")[0] == "answer"
    # Every box is 16 x 12 px of 60 x 40.
    assert [line.split("  ")[0] for line in lines[2:5]] == [
        "trained", "centred box, 8.0% of the area", "the whole picture",
    ]  # fmt: skip
    assert lines[4].split()[4] == "0.080"
    assert "trained: Bridger " in said.err
    assert (tmp_path / "localizer" / "contact_sheet.png").exists()


def test_a_bad_picture_is_one_line_of_the_command(tmp_path, capsys):
    layout = write_layout(tmp_path / "data", {"train": 5, "val": 1})
    (layout / "images" / "train2014" / "picture_3.png").write_bytes(b"not a picture")
    folder = tmp_path / "clip"
    folder.mkdir()
    config, weights = make_tiny_clip(folder)
    arguments = [
        "train-localizer", "--data", str(layout), "--model", config, "--pretrained", weights, "--input-px", "32",
        "--words", "8", "--epochs", "1", "--batch-size", "5", "--readers", "2", "--device", "cpu",
        "--workspace", str(tmp_path),
    ]  # fmt: skip
    assert cli.run(arguments) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert "segment 3: its picture or mask cannot be read (not_an_image" in last
    assert "Traceback" not in last


def test_the_command_trains_on_drawn_scenes_beside_what_is_not_trained(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(training_run, "N_HELD_OUT_SCENES", 2)
    n_threads = torch.get_num_threads()
    torch.set_num_threads(2)
    arguments = ["train-localizer", "--scenes", "4", "--epochs", "1", "--batch-size", "2", "--input-px", "64"]
    try:
        assert cli.run([*arguments, "--device", "cpu", "--workspace", str(tmp_path)]) == 0
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(n_threads)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("scenes held out: 2 masks, ")
    assert [line.split("  ")[0].split(",")[0] for line in lines[2:8]] == [
        "trained", "heat map of the same CLIP", "heat map of the sample's CLIP", "all that stands out",
        "centred box", "the whole picture",
    ]  # fmt: skip
    assert cli.run([*arguments, "--epochs", "3", "--dry-run", "--workspace", str(tmp_path)]) == 0
    plan = capsys.readouterr().out.splitlines()
    assert plan[:2] == ["epochs to do: 2; done already: 1", "would read 4 scenes, drawn first if need be"]
    assert f"would write {tmp_path / 'localizer'}" in plan
    assert {path.name for path in (tmp_path / "localizer").iterdir()} == {
        "localizer.safetensors", "training.safetensors", "history.csv", "curves.png", "contact_sheet.png",
        "scenes", "scene_clip.json", "scene_clip.safetensors",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "expected one of --data, --scenes and --convert"),
        (["--scenes", "9", "--data", "x"], "expected one of --data, --scenes and --convert"),
        (["--data", "x"], "--data needs --model and --pretrained"),
        (["--convert", "x"], "--convert needs --model"),
    ],
)
def test_the_command_refuses_what_does_not_go_together(arguments, said, tmp_path, capsys):
    assert cli.run(["train-localizer", *arguments, "--workspace", str(tmp_path)]) == 1
    assert said in capsys.readouterr().err
