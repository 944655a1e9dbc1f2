import os
import signal
import subprocess
import sys

from manifests.workspace import Workspace
from tests.conftest import REPOSITORY
from tests.extract_world import jpeg, tiny_checkpoint
from tests.waiting import HANGS_S, wait_until


def files_in(out):
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def start(command):
    # Threads that wait for each other in a loop take minutes where other processes hold the cores.
    environment = os.environ | {"OMP_WAIT_POLICY": "passive"}
    return subprocess.Popen(
        [sys.executable, "cli.py", *command], cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def stop_in_the_middle(command, sign_of_work, n_signs, with_signal):
    """Stop a run as soon as so many new files show that it is at work; return its exit code and what it said."""
    enough = len(list(sign_of_work())) + n_signs
    with start(command) as process:
        wait_until(lambda: len(list(sign_of_work())) >= enough, process, gap_s=0.001)
        process.send_signal(with_signal)
        _, errors = process.communicate(timeout=HANGS_S)
    return process.returncode, errors


def finish(command):
    with start(command) as process:
        said, errors = process.communicate(timeout=HANGS_S)
    assert process.returncode == 0, errors
    return said


def test_killed_twice_and_interrupted_the_command_ends_in_the_bytes_of_an_undisturbed_run(tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    contents = [jpeg(seed) for seed in range(20)]
    for number in range(2500):
        (pictures / f"{number:04x}.jpg").write_bytes(b"" if number == 7 else contents[number % 20])
    checkpoint = tiny_checkpoint(tmp_path)
    command = [
        "extract-features", "--model", "test_resnet", "--checkpoint", str(checkpoint), "--n-classes", "7",
        "--preprocess", "input_size_px=32", "--set", "val", "--images", str(pictures), "--device", "cpu",
        "--batch-size", "16",
    ]  # fmt: skip
    workspaces = [Workspace(tmp_path / name) for name in ("undisturbed", "killed")]
    commands = [[*command, "--workspace", str(space.root)] for space in workspaces]
    undisturbed, killed = (space.features_dir / "test_resnet" for space in workspaces)

    def parts():
        return killed.glob("val.parts/*.safetensors")

    finish(commands[0])
    for n_parts, with_signal, code in (
        (1, signal.SIGKILL, -signal.SIGKILL),
        (9, signal.SIGKILL, -signal.SIGKILL),
        (10, signal.SIGINT, 130),
    ):
        found, errors = stop_in_the_middle(commands[1], parts, n_parts, with_signal)
        assert found == code, f"it ended before it could be stopped, or otherwise: {errors}"
        assert len(list(parts())) >= n_parts
    assert "interrupted: what was done is saved; run the same command again\n" in errors
    said = finish(commands[1])
    assert "2,499 of val, 1 unreadable, " in said
    assert " done before, " in said
    assert files_in(killed) == files_in(undisturbed)
