import json
import subprocess
import sys

import pytest
import typer

import cli
from manifests import schema
from manifests.run_report import RunReport
from manifests.shadow import FileChange
from tests.conftest import REPOSITORY

FIELDS = {
    "command", "workspace", "dry_run", "exit_code", "seconds", "counts", "data", "written", "plan", "next", "text",
    "notices", "error",
}  # fmt: skip
COMMANDS = typer.main.get_command(cli.app).commands


def run_json(capsys, *arguments):
    """Return the exit code, the object on standard output and that on standard error, None where nothing is."""
    code = cli.run([*map(str, arguments), "--json"])
    out, err = capsys.readouterr()
    assert out.count("\n") + err.count("\n") == 1
    return code, json.loads(out) if out else None, json.loads(err) if err else None


@pytest.fixture
def ids_path(tmp_path):
    path = tmp_path / "ids.txt"
    path.write_text("b\na\nc\n")
    return path


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_takes_json(command):
    assert "--json" in {option for parameter in COMMANDS[command].params for option in parameter.opts}


def test_a_stage_tells_what_it_counted_wrote_and_what_follows(ids_path, tmp_path, capsys):
    workspace = tmp_path / "ws"

    code, out, err = run_json(capsys, "candidates", "--metadata", ids_path, "--workspace", workspace)

    assert (code, err) == (0, None)
    assert set(out) == FIELDS
    assert (out["command"], out["workspace"], out["exit_code"]) == ("candidates", str(workspace), 0)
    assert out["counts"] == {"test": 3}
    written = {one["path"]: one["n_files"] for one in out["written"]}
    assert written[str(workspace / "candidates.parquet")] == 1
    assert written[str(workspace / "provenance" / "candidates.json")] == 1
    assert out["next"] == {
        "command": f"python cli.py download --workspace {workspace}", "why": "no picture is here",
    }  # fmt: skip
    assert out["text"] == ["candidates: test 3"]
    assert (out["dry_run"], out["plan"], out["error"]) == (False, None, None)


def test_a_stage_without_printed_counts_tells_those_of_its_record(ids_path, tmp_path, capsys):
    workspace = tmp_path / "ws"

    _, out, _ = run_json(
        capsys, "build-manifest", "--from-list", ids_path, "--name", "x", "--workspace", workspace
    )

    record = json.loads((workspace / "provenance" / "build-manifest.x-1.0.0.json").read_text())
    assert record["counts"].items() <= out["counts"].items()
    assert out["counts"]["images"] == 3


@pytest.mark.parametrize(
    ("arguments", "code", "kind", "message"),
    [
        (["download"], 1, "StageMissingError", "run the stage 'candidates' on this workspace first"),
        (["status"], 1, "InputError", "there is no such folder; 'candidates' makes one"),
        (["screen", "--seed", "x"], 2, "usage", "'--seed'"),
        (["scren"], 2, "usage", "No such command 'scren'. Did you mean 'screen'"),
        (["plot", "--methd", "vim"], 2, "usage", "--method"),
    ],
)
def test_an_error_is_one_object_on_standard_error(arguments, code, kind, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    found, out, err = run_json(capsys, *arguments)

    assert (found, out) == (code, None)
    assert set(err) == FIELDS
    assert (err["exit_code"], err["error"]["kind"]) == (code, kind)
    assert message in err["error"]["message"]
    assert "\n" not in err["error"]["message"]


def test_an_interrupted_command_says_so_with_130(capsys, monkeypatch, ids_path, tmp_path):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("curation.candidates.propose_candidates", interrupt)

    code, _, err = run_json(capsys, "candidates", "--metadata", ids_path, "--workspace", tmp_path / "ws")

    assert code == err["exit_code"] == 130
    assert err["error"] == {
        "kind": "interrupted", "message": "what was done is saved; run the same command again",
    }  # fmt: skip


def test_what_is_announced_is_among_the_notices_and_on_no_stream(ids_path, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        "curation.candidates.propose_candidates", lambda *_: print("strange", file=sys.stderr) or {"test": 1}
    )

    _, out, err = run_json(capsys, "candidates", "--metadata", ids_path, "--workspace", tmp_path / "ws")

    assert (out["notices"], err) == (["strange"], None)


def test_json_beside_help_is_help(capsys):
    assert cli.run(["screen", "--json", "--help"]) == 0
    assert capsys.readouterr().out.startswith("Usage: ")


def test_without_json_the_next_step_is_one_line_on_standard_error(ids_path, tmp_path, capsys):
    assert cli.run(["candidates", "--metadata", str(ids_path), "--workspace", str(tmp_path / "ws")]) == 0

    out, err = capsys.readouterr()
    assert out == "candidates: test 3\n"
    assert err == f"next: python cli.py download --workspace {tmp_path / 'ws'}\n"


def test_many_files_of_a_folder_are_told_as_the_folder(tmp_path):
    paths = [tmp_path / "shards" / f"{number}.parquet" for number in range(9)] + [tmp_path / "one.json"]
    (tmp_path / "shards").mkdir()
    for path in paths:
        path.touch()

    told = json.loads(RunReport(written=[*paths, paths[0]]).as_json(0, text="", notices=""))["written"]

    assert told == [
        {"path": str(tmp_path / "one.json"), "n_files": 1},
        {"path": str(tmp_path / "shards"), "n_files": 9},
    ]


def test_a_dry_run_tells_each_file_with_what_happens_to_it(tmp_path):
    changes = [FileChange(tmp_path / "a", "new", 3), FileChange(tmp_path / "b", "deleted", 0)]

    report = RunReport(is_dry_run=True, changes=changes)

    assert json.loads(report.as_json(0, text="", notices=""))["written"] == [
        {"path": str(tmp_path / "a"), "n_files": 1, "change": "new", "size_bytes": 3},
        {"path": str(tmp_path / "b"), "n_files": 1, "change": "deleted", "size_bytes": 0},
    ]


def test_a_process_prints_nothing_but_the_object(ids_path, tmp_path):
    finished = subprocess.run(
        [sys.executable, "cli.py", "candidates", "--metadata", str(ids_path), "--workspace", str(tmp_path / "ws"),
         "--json"],
        cwd=REPOSITORY, capture_output=True, text=True,
    )  # fmt: skip

    assert (finished.returncode, finished.stderr) == (0, "")
    assert json.loads(finished.stdout)["counts"] == {"test": 3}


def test_the_words_that_a_shell_offers_are_those_of_the_stages():
    from curation.metadata.image_table import SUBSETS
    from curation.releases import RELEASES, SOURCES
    from manifests.exporters.export import FORMATS
    from manifests.official import OFFICIAL
    from scoring.methods.table import METHOD_NAMES
    from scoring.plots.style import FORMATS as PLOT_FORMATS

    offered = {name: words(None) if name == "method" else words for name, words in cli._COMPLETIONS.items()}

    assert set(offered["queue"]) == set(schema.QUEUES)
    assert set(offered["retry"]) == set(schema.DOWNLOAD_STATUSES) - {"ok"}
    assert set(offered["drop_quality"]) == set(schema.QUALITY_CHECKS)
    assert set(offered["export_format"]) == set(FORMATS)
    assert set(offered["file_format"]) == set(PLOT_FORMATS)
    assert set(offered["official"]) == set(OFFICIAL)
    assert set(METHOD_NAMES) <= set(offered["method"])
    assert set(offered["release"]) == set(RELEASES)
    assert set(offered["source"]) == set(SOURCES)
    assert set(offered["subset"]) == set(SUBSETS)
    assert set(offered["what"]) == set(cli._BENCH_FLAGS)


def test_completions_name_parameters_that_exist():
    known = {parameter.name for command in COMMANDS.values() for parameter in command.params}
    known |= {f"{name}.{parameter.name}" for name, command in COMMANDS.items() for parameter in command.params}
    assert set(cli._COMPLETIONS) <= known


COMPLETE = """
PATH={bin}:$PATH
eval "$(openimage-o --show-completion bash)"
COMP_WORDS=({words} ''); COMP_CWORD={n_words}
_openimage_o_completion openimage-o
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("annotate --queue", ["first", "inspection", "dispute", "gold", "audit"]),
        ("audit", ["plan", "report"]),
        ("export --workspace {workspace} --manifest", ["y-1.0.0", "y-2.0.0"]),
    ],
)
def test_a_real_bash_completes_values(words, offered, tmp_path):
    from pathlib import Path

    for name in ("y-1.0.0", "y-2.0.0", "half-1.0.0"):
        (tmp_path / "manifests" / name).mkdir(parents=True)
        if name != "half-1.0.0":
            (tmp_path / "manifests" / name / "manifest.json").touch()
    typed = ["openimage-o", *words.format(workspace=tmp_path).split()]
    script = COMPLETE.format(bin=Path(sys.executable).parent, words=" ".join(typed), n_words=len(typed))

    finished = subprocess.run(["bash", "--norc", "-c", script], capture_output=True, text=True, cwd=tmp_path)

    assert finished.stdout.split() == offered, finished.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_is_there_for_each_shell(shell, capsys):
    assert cli.run(["--show-completion", shell]) == 0
    script = capsys.readouterr().out
    assert "_OPENIMAGE_O_COMPLETE" in script
    assert "openimage-o" in script
