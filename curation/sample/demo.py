"""The demo: the command lines of `curation.sample.commands`, run one after another, each shown as it is typed."""

import shlex
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from curation.sample.audits import audit_until_certified, newest_manifest
from curation.sample.commands import (
    Commands,
    commands_to_manifest,
    commands_to_report,
    real_commands,
    write_labelled,
    write_real_lists,
)
from curation.sample.grade import format_grades, grade
from curation.sample.mirror import serving
from curation.sample.world import make_world
from manifests.errors import InputError
from manifests.frozen import Manifest
from manifests.workspace import DEMO_MARKER_NAME, Workspace

RunCommand = Callable[[Sequence[str]], int]
"""Runs one command line and returns its exit code."""


def run_embedded_demo(folder: Path, classifier_path: Path, run_command: RunCommand) -> int:
    """Draw the sample world into `folder`, take it through every stage, and return the last exit code.

    Parameters
    ----------
    folder : Path
        The workspace; emptied first if an earlier demo made it.
    classifier_path : Path
        Weights of the tiny classifier.
    run_command : callable
        The command line.

    Raises
    ------
    InputError
        `folder` holds something that no demo made.
    """
    _start_anew(folder)
    print("drawing the sample world: simulated pictures, metadata, and the truth about them", flush=True)
    world = make_world(folder / "world")
    labelled_path = folder / "world" / "labelled.csv"
    write_labelled(world.truth_path, labelled_path)
    with serving(world.mirror_dir) as base_url:
        commands = commands_to_manifest(world, base_url, labelled_path)
        code = _run_all(commands, folder, run_command)
    if code:
        return code
    workspace = Workspace(folder)
    audited = audit_until_certified(
        workspace, world.truth_path, lambda commands: _run_all(commands, folder, run_command)
    )
    if audited.code:
        return audited.code
    manifest = newest_manifest(workspace)
    commands = commands_to_report(world, classifier_path, manifest.folder.name, audited.certificate_path)
    code = _run_all(commands, folder, run_command)
    if code:
        return code
    print(
        f"\n{format_grades(grade(workspace, manifest, world.truth_path))}\n"
        f"{_certified_line(manifest)}\n"
        "(A drawn world, simulated annotators, simulated auditors: the figures show the machinery, not "
        "OpenImage-O.)\n\n"
        f"Open       {folder / 'report.html'}\n"
        f"Look at    {manifest.folder}, {folder / 'exports'}, {folder / 'scores'}\n"
        f"Annotate   python cli.py annotate --annotator me --examples {world.examples_dir} --workspace {folder}"
    )
    return 0


def _certified_line(manifest: Manifest) -> str:
    certificate = manifest.header.get("certificate")
    if certificate is None or not certificate["is_certified"]:
        return f"{manifest.folder.name} is not certified: the audits found too many defects"
    n_removed = certificate["n_removed_since"]
    name = certificate["manifest"] if n_removed else manifest.folder.name
    line = (
        f"{name} is certified: at most {certificate['upper_bound']:.4%} in-distribution, at "
        f"{100 * certificate['confidence']:.4g}% confidence"
    )
    if n_removed:
        # The bound of what is left can be above the goal that the audited set met.
        line += (
            f";\nof {manifest.folder.name}, which leaves out {n_removed} of its images, at most "
            f"{certificate['upper_bound_here']:.4%}"
        )
    return line


def run_real_demo(folder: Path, data_dir: Path, run_command: RunCommand) -> int:
    """Take the real pictures below `data_dir` through the stages; arguments, result and errors as above."""
    if not (data_dir / "pool" / "truth.csv").is_file():
        raise InputError(f"--real {data_dir}: expected a folder with pool/truth.csv, pool/images.csv and others")
    _start_anew(folder)
    lists_dir = folder / "lists"
    write_real_lists(data_dir, lists_dir)
    with serving(data_dir / "pool", busy_share=0.0) as base_url:
        return _run_all(real_commands(data_dir, lists_dir, base_url), folder, run_command)


def _start_anew(folder: Path) -> None:
    """Empty a folder that an earlier demo made; refuse any other that holds something."""
    marker = folder / DEMO_MARKER_NAME
    if folder.exists() and any(folder.iterdir()):
        if not marker.exists():
            raise InputError(f"--workspace {folder}: holds something that is not a demo; name another folder")
        people = [log.stem for log in folder.glob("decisions/*.jsonl") if not log.stem.startswith("simulated-")]
        if people:
            raise InputError(
                f"--workspace {folder}: holds answers of {', '.join(people)}; name another folder, or delete it"
            )
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    marker.touch()


def _run_all(commands: Commands, folder: Path, run_command: RunCommand) -> int:
    for command in commands:
        line = [*command, "--workspace", str(folder)]
        print(f"\n$ python cli.py {shlex.join(line)}", flush=True)
        code = run_command(line)
        if code:
            return code
    return 0
