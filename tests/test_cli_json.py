import ctypes
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import cli
from manifests import schema
from manifests.commands.bench import Bench, BenchFigures
from manifests.devices import device_name
from manifests.run_report import NextStep, RunReport
from manifests.shadow import FileChange
from tests.conftest import REPOSITORY
from tests.waiting import HANGS_S

FIELDS = {
    "command", "workspace", "dry_run", "exit_code", "seconds", "counts", "data", "written", "plan", "next", "text",
    "notices", "error",
}  # fmt: skip
COMMANDS = typer.main.get_command(cli.app).commands


def run_json(capsys, *arguments):
    """Return the exit code and the object, after checking that nothing else is printed on either stream."""
    code = cli.run([*map(str, arguments), "--json"])
    out, err = capsys.readouterr()
    assert (out.count("\n"), err) == (1, "")
    return code, json.loads(out)


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

    code, out = run_json(capsys, "candidates", "--metadata", ids_path, "--workspace", workspace)

    assert code == 0
    assert set(out) == FIELDS
    assert (out["command"], out["workspace"], out["exit_code"]) == ("candidates", str(workspace), 0)
    assert out["counts"] == {"test": 3}
    written = {one["path"]: one["n_files"] for one in out["written"]}
    assert written[str(workspace / "candidates.parquet")] == 1
    assert written[str(workspace / "provenance" / "candidates.json")] == 1
    assert out["next"] == {
        "command": f"python cli.py download --workspace {workspace}", "why": "no picture is here",
        "placeholders": [],
    }  # fmt: skip
    assert out["text"] == ["candidates: test 3"]
    assert (out["dry_run"], out["plan"], out["error"]) == (False, None, None)


def test_a_stage_without_printed_counts_tells_those_of_its_record(ids_path, tmp_path, capsys):
    workspace = tmp_path / "ws"

    _, out = run_json(capsys, "build-manifest", "--from-list", ids_path, "--name", "x", "--workspace", workspace)

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
def test_an_error_is_one_object_too(arguments, code, kind, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    found, out = run_json(capsys, *arguments)

    assert found == code
    assert set(out) == FIELDS
    assert (out["exit_code"], out["error"]["kind"]) == (code, kind)
    assert message in out["error"]["message"]
    assert "\n" not in out["error"]["message"]


def test_json_with_a_value_is_a_usage_error_that_is_an_object_too(capsys):
    assert cli.run(["status", "--json=1"]) == 2
    assert json.loads(capsys.readouterr().out)["error"] == {
        "kind": "usage", "message": "Option '--json' does not take a value.",
    }  # fmt: skip


def test_a_fault_of_the_program_is_an_object_with_the_notices_and_a_traceback(
    ids_path, tmp_path, capsys, monkeypatch
):
    def fail(*_):
        print("on the way", file=sys.stderr)
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr("curation.candidates.propose_candidates", fail)

    with pytest.raises(ZeroDivisionError):
        cli.run(["candidates", "--metadata", str(ids_path), "--workspace", str(tmp_path / "ws"), "--json"])

    told = json.loads(capsys.readouterr().out)
    assert (told["exit_code"], told["notices"]) == (1, ["on the way"])
    assert told["error"] == {"kind": "internal", "message": "ZeroDivisionError: by nothing"}


def test_what_a_library_in_c_or_another_process_prints_is_not_beside_the_object(
    ids_path, tmp_path, capfd, monkeypatch
):
    def print_all(*_):
        os.write(1, b"from a descriptor\n")
        ctypes.CDLL(None).puts(b"from C")
        subprocess.run(["echo", "from a process"], check=True)
        return {"test": 1}

    monkeypatch.setattr("curation.candidates.propose_candidates", print_all)

    assert cli.run(["candidates", "--metadata", str(ids_path), "--workspace", str(tmp_path / "ws"), "--json"]) == 0

    out, err = capfd.readouterr()
    assert json.loads(out)["counts"] == {"test": 1}
    assert sorted(err.splitlines()) == ["from C", "from a descriptor", "from a process"]


STAGE_THAT_WAITS = """
import sys, time
import cli
import curation.candidates

def wait(*_):
    print("begun", file=sys.__stderr__, flush=True)
    time.sleep(600)

curation.candidates.propose_candidates = wait
sys.exit(cli.run(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "Ctrl-C"]
)
@pytest.mark.parametrize("option", [[], ["--dry-run"]], ids=["run", "dry run"])
def test_a_process_that_is_asked_to_end_says_so_and_leaves_nothing(number, code, option, ids_path, tmp_path):
    (tmp_path / "scratch").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", STAGE_THAT_WAITS, "candidates", "--metadata", str(ids_path), "--workspace",
         str(tmp_path / "ws"), "--json", *option],
        cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"TMPDIR": str(tmp_path / "scratch")},
    )  # fmt: skip
    assert process.stderr.readline() == "begun\n"
    process.send_signal(number)
    out, err = process.communicate(timeout=HANGS_S)

    assert (process.returncode, err) == (code, "")
    told = json.loads(out)
    assert (told["exit_code"], told["command"], told["error"]["kind"]) == (code, "candidates", "interrupted")
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.parametrize("options", [[], ["--json"]], ids=["words", "json"])
def test_standard_output_that_takes_nothing_is_one_clear_error(options, tmp_path):
    with Path("/dev/full").open("w") as full:
        finished = subprocess.run(
            [sys.executable, "cli.py", "status", "--workspace", str(tmp_path), *options],
            cwd=REPOSITORY, stdout=full, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    assert finished.returncode == 1
    assert finished.stderr == "error: standard output: No space left on device\n"


def test_an_early_interrupt_ends_the_process_without_a_traceback(tmp_path):
    # Before anything is imported: the signal waits for the process.
    script = (
        "import os, runpy, signal, sys, builtins\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "load = builtins.__import__\n"
        "def interrupted(name, *rest, **more):\n"
        "    if name == 'typer': os.kill(os.getpid(), signal.SIGINT)\n"
        "    return load(name, *rest, **more)\n"
        "builtins.__import__ = interrupted\n"
        "sys.argv = ['cli.py', 'status']\n"
        "runpy.run_path('cli.py', run_name='__main__')\n"
    )
    finished = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True)

    assert (finished.returncode, finished.stderr) == (-signal.SIGINT, "")


def test_an_interrupted_command_says_so_with_130(capsys, monkeypatch, ids_path, tmp_path):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("curation.candidates.propose_candidates", interrupt)

    code, out = run_json(capsys, "candidates", "--metadata", ids_path, "--workspace", tmp_path / "ws")

    assert code == out["exit_code"] == 130
    assert out["error"] == {
        "kind": "interrupted", "message": "what was done is saved; run the same command again",
    }  # fmt: skip


def test_what_is_announced_is_among_the_notices_and_on_no_stream(ids_path, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        "curation.candidates.propose_candidates", lambda *_: print("strange", file=sys.stderr) or {"test": 1}
    )

    _, out = run_json(capsys, "candidates", "--metadata", ids_path, "--workspace", tmp_path / "ws")

    assert out["notices"] == ["strange"]


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


def test_a_folder_is_told_with_its_files_and_what_lies_in_it_not_again(tmp_path, monkeypatch):
    (tmp_path / "pictures" / "a").mkdir(parents=True)
    for name in ("index.jsonl", "a/1.jpg", "a/2.jpg", "a/.hidden"):
        (tmp_path / "pictures" / name).touch()
    report = RunReport(written=[tmp_path / "pictures", tmp_path / "pictures" / "index.jsonl"])

    def told():
        return json.loads(report.as_json(0, text="", notices=""))["written"]

    assert told() == [{"path": str(tmp_path / "pictures"), "n_files": 3}]
    monkeypatch.setattr("manifests.run_report._MOST_COUNTED", 2)
    assert told() == [{"path": str(tmp_path / "pictures"), "n_files": None}]


def test_a_next_step_with_words_of_ones_own_says_which():
    assert str(NextStep("python cli.py annotate --annotator NAME", "", ("NAME",))) == (
        "python cli.py annotate --annotator NAME  # put your own for NAME"
    )
    assert str(NextStep("python cli.py report", "")) == "python cli.py report"


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


def test_bench_takes_json_and_hands_over_its_table_and_its_figures(capsys, tmp_path, monkeypatch):
    def measure(given):
        return BenchFigures(f"{given.rows} rows", {"n_rows": given.rows, "rates_per_s": (math.nan, 2.5)})

    monkeypatch.setitem(cli.BENCHES, "metadata", Bench(frozenset({"rows"}), measure))
    code, told = run_json(capsys, "bench", "metadata", "--rows", "7", "--workspace", tmp_path)
    assert (code, told["text"]) == (0, ["7 rows"])
    # JSON has no NaN: what is no number is null.
    assert told["data"] == {"n_rows": 7, "rates_per_s": [None, 2.5]}


def offered(workspace):
    """Return what a shell offers for each parameter that it offers something for, by command and name."""
    found = {}
    for command, known in COMMANDS.items():
        context = known.make_context(command, [], resilient_parsing=True)
        context.params["workspace"] = workspace
        for parameter in known.params:
            if words := {one.value for one in parameter.shell_complete(context, "")}:
                found[command, parameter.name] = words
    return found


def homes():
    """Return the words of each parameter where its stage has them."""
    from annotation.assignment import ORDERS
    from annotation.browse import MAP_METHODS
    from annotation.simulated import QUEUES as SIMULATED_QUEUES
    from curation.clip import TEMPLATE_SETS
    from curation.encoding import PRECISIONS
    from curation.engine.engine import ENGINE_NAMES
    from curation.localize.interactors import INTERACTORS
    from curation.metadata.image_table import SUBSETS
    from curation.prototypes import KINDS
    from curation.releases import RELEASES, SOURCES
    from manifests.exporters.export import FORMATS
    from manifests.official import OFFICIAL
    from manifests.plots.style import FORMATS as PLOT_FORMATS
    from scoring.bench.features import SIZES
    from scoring.dml.recipe import CENTER_SCHEDULES, FOCAL_GRADIENTS, LOSSES
    from scoring.methods.fitting import MODES
    from scoring.methods.principal_space import DIM_RULES
    from scoring.methods.table import ALL_METHODS

    by_parameter = {
        "baseline": {method.name for method in ALL_METHODS},
        "center_schedule": CENTER_SCHEDULES,
        "dim_rule": DIM_RULES,
        "drop_quality": schema.QUALITY_CHECKS,
        "engine": ENGINE_NAMES,
        "exclude_quality": schema.QUALITY_CHECKS,
        "export_format": FORMATS,
        "file_format": PLOT_FORMATS,
        "focal_gradient": FOCAL_GRADIENTS,
        "interactor": INTERACTORS,
        "loss": LOSSES,
        "map_method": MAP_METHODS,
        "method": {method.name for method in ALL_METHODS},
        "mode": MODES,
        "official": OFFICIAL,
        "order": ORDERS,
        "precision": {"auto", *PRECISIONS},
        "prototypes": KINDS,
        "queue": schema.QUEUES,
        "release": RELEASES,
        "retry": set(schema.DOWNLOAD_STATUSES) - {"ok"},
        "size": SIZES,
        "source": SOURCES,
        "subset": SUBSETS,
        "templates": TEMPLATE_SETS,
        "what": cli.BENCHES,
    }
    found = {
        (command, parameter.name): set(by_parameter[parameter.name])
        for command, known in COMMANDS.items()
        for parameter in known.params
        if parameter.name in by_parameter
    }
    return found | {("simulate-annotators", "queue"): set(SIMULATED_QUEUES)}


def test_the_words_that_a_shell_offers_are_those_of_the_stages(tmp_path):
    found = offered(tmp_path)
    # The words of these are no constant: a device is checked by a function, an action is written in the help.
    devices = [found.pop(key) for key in list(found) if key[1] == "device"]
    actions = {command: found.pop((command, "action")) for command in ("audit", "decisions")}

    assert found == homes()
    assert len(devices) == sum("device" in {one.name for one in known.params} for known in COMMANDS.values())
    assert all(device_name(word, has_cuda=True) for words in devices for word in words)
    for command, words in actions.items():
        (action,) = [one for one in COMMANDS[command].params if one.name == "action"]
        assert words == set(action.metavar.split("|"))


PLACES = {
    "embeddings": "embeddings/one/model.json",
    "features": "features/one/head.safetensors",
    "manifest": "manifests/one/manifest.json",
    "before": "manifests/one/manifest.json",
    "after": "manifests/one/manifest.json",
    "scores": "scores/one/scores.parquet",
}


def test_a_shell_offers_what_is_in_the_workspace_wherever_it_can_be_named(tmp_path):
    for place in (*PLACES.values(), "audits/one.json"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).touch()
    named = {
        (command, parameter.name)
        for command, known in COMMANDS.items()
        for parameter in known.params
        if parameter.name in PLACES
    }

    assert {key for key, words in offered(tmp_path).items() if words == {"one"}} == {*named, ("audit", "name")}


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
