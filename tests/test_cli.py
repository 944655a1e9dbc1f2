import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import cli
from manifests import schema
from manifests.workspace import Workspace
from tests.conftest import REPOSITORY

COMMANDS = sorted(typer.main.get_command(cli.app).commands)
STAGES = {
    "candidates", "labels", "download", "embed", "quality", "calibrate", "duplicates", "leaks", "screen",
    "localize",
    "annotate", "browse", "consensus", "gold", "inspect", "decisions", "simulate-annotators", "annotators", "plan",
    "build-manifest", "verify-manifest", "retire", "diff", "audit", "export", "extract-features", "score", "plot",
    "bench", "train-dml", "train-localizer", "report", "status",
    "demo",
}  # fmt: skip


def test_there_is_one_command_a_stage():
    assert set(COMMANDS) == STAGES


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_one_sentence_and_one_example(command, capsys):
    assert cli.run([command, "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split("Options:")[0].split())
    sentence, example = re.fullmatch(r"Usage: .*?\[OPTIONS\] (.*?\.) Example: (python cli\.py .*)", text).groups()
    assert sentence.count(". ") == 0
    assert example.split()[2] == command


@pytest.mark.parametrize("command", COMMANDS)
def test_the_example_of_the_help_names_options_that_exist(command, capsys):
    cli.run([command, "--help"])
    text = capsys.readouterr().out
    example = " ".join(text.split("Options:")[0].split("Example:")[1].split())
    for option in re.findall(r"--[a-z-]+", example):
        assert re.search(rf"^\s+(-\w, )?{option}\b", text.split("Options:")[1], re.MULTILINE), option


@pytest.mark.parametrize("command", sorted(STAGES))
def test_every_command_takes_a_workspace(command, capsys):
    cli.run([command, "--help"])
    assert "--workspace" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nonsense"], 2, "No such command 'nonsense'"),
        (["candidates"], 1, "candidates: expected either --metadata FILE or --release v3|v7\n"),
        (["labels"], 1, "labels: expected either --release v3|v7, or --class-names and --human or --machine\n"),
        (["screen", "--seed", "x"], 2, "'--seed'"),
        (["candidates", "--metadata", "none.csv"], 1, "error: --metadata none.csv: there is no such file\n"),
        (["download"], 1, "run the stage 'candidates' on this workspace first\n"),
        (["embed"], 1, "run the stage 'candidates' on this workspace first\n"),
        (["screen"], 1, "run the stage 'candidates' on this workspace first\n"),
        (["consensus"], 1, "run the stage 'screen' on this workspace first\n"),
        (["export"], 1, "run the stage 'build-manifest' first\n"),
        (["build-manifest", "--from-list", "none.txt"], 1, "none.txt: cannot be read as a list of image ids"),
    ],
)
def test_exit_codes_and_one_line_errors(arguments, code, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.run(arguments) == code
    errors = capsys.readouterr().err
    assert message in errors
    assert "Traceback" not in errors
    if code == 1:
        assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["candidates", "--metadata", "x.csv", "--cache", "c"], "--cache: it has no effect with --metadata"),
        (["candidates", "--metadata", "x", "--base-url", "http://m"],
         "--base-url: it has no effect with --metadata"),
        (["labels", "--class-names", "n.csv", "--human", "h.csv", "--subset", "test"],
         "--subset: it has no effect without --release"),
        (["labels", "--class-names", "n.csv", "--human", "h.csv", "--source", "human"],
         "--source: it has no effect without --release"),
        (["download", "--from-tar", "t.tar", "--proxy", "http://p"], "--proxy: it has no effect with --from-tar"),
        (["download", "--from-tar", "t", "--base-url", "http://m"],
         "--base-url: it has no effect with --from-tar"),
        (["bench", "metadata", "--quick"], "--quick: it has no effect on bench metadata"),
        (["bench", "metadata", "--images", "3"], "--images: it has no effect on bench metadata"),
        (["bench", "download", "--seed", "0"], "--seed: it has no effect on bench download"),
    ],
)  # fmt: skip
def test_a_flag_without_effect_is_a_usage_error(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.run(arguments) == 2
    assert message in capsys.readouterr().err.replace("'", "")
    assert not list(tmp_path.iterdir())


def test_an_unwritable_table_is_one_clear_error(tmp_path, capsys):
    (tmp_path / "ids.txt").write_text("a\n")
    (tmp_path / "ws" / "candidates.parquet").mkdir(parents=True)
    assert (
        cli.run(["candidates", "--metadata", str(tmp_path / "ids.txt"), "--workspace", str(tmp_path / "ws")]) == 1
    )
    assert "error: " in capsys.readouterr().err
    assert not list((tmp_path / "ws").glob(".*.tmp"))


@pytest.mark.parametrize(
    "program", [[sys.executable, "cli.py"], [str(Path(sys.executable).with_name("openimage-o"))]]
)
def test_the_file_and_the_installed_script_are_the_same_program(program, tmp_path):
    (tmp_path / "ids.txt").write_text("a\nb\n")
    command = [
        *program,
        "candidates",
        "--metadata",
        str(tmp_path / "ids.txt"),
        "--workspace",
        str(tmp_path / "ws"),
    ]
    finished = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert (finished.returncode, finished.stdout) == (0, "candidates: test 2\n"), finished.stderr
    assert Workspace(tmp_path / "ws").read(schema.CANDIDATES).num_rows == 2
