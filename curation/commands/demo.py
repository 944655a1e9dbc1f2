"""`demo`: the main job on the embedded sample."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from manifests.commands.options import WorkspaceOption


def demo(
    classifier_path: Path,
    run: Callable[[Sequence[str]], int],
    workspace: WorkspaceOption = Path("demo"),
    real: Annotated[
        Path | None, typer.Option(help="Folder of real pictures (pool/, imagenet_val/, classifier/, lists/).")
    ] = None,
) -> None:
    """Run the main job on the embedded sample, or on a folder of real pictures, command by command.

    \b
    Example: python cli.py demo --workspace demo
    """
    from curation.sample.demo import run_embedded_demo, run_real_demo

    if real is not None:
        code = run_real_demo(workspace, real, run)
    else:
        code = run_embedded_demo(workspace, classifier_path, run)
    raise typer.Exit(code)
