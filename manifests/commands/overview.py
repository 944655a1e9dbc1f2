"""`report` and `status`: the whole workspace on one page, and in a few lines."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from manifests.commands.options import DEFAULT_WORKSPACE, WorkspaceOption
from manifests.completion import manifest_names
from manifests.errors import InputError
from manifests.run_report import current_report

if TYPE_CHECKING:
    from manifests.report.parts import Section
    from manifests.workspace import Workspace

ReportSections = Callable[["Workspace", str | None], "list[Section]"]
"""Returns the sections of the report on a workspace, and on one manifest of it where that is named."""

ProgressLines = Callable[["Workspace"], Iterable[str]]
"""Returns how far the human work is, in lines; it belongs to `annotation`."""


def report(
    report_sections: ReportSections,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    out: Annotated[Path | None, typer.Option(help="The page; default: report.html in the workspace.")] = None,
    manifest: Annotated[
        str | None,
        typer.Option(
            help="<name>-<X.Y.Z>; default: the newest version of each set.", autocompletion=manifest_names
        ),
    ] = None,
    no_gallery: Annotated[
        bool, typer.Option("--no-gallery", help="Leave long galleries out: the page is the only file.")
    ] = False,
) -> None:
    """Write one page that shows the whole workspace: funnel, screening, answers, manifest, scores, provenance.

    \b
    Example: python cli.py report --workspace workspace
    """
    from manifests.frozen import find_manifest
    from manifests.report.gathered import report_lead
    from manifests.report.render import check_page_path, plan_report, report_lines, write_report
    from manifests.workspace import Workspace

    if not workspace.is_dir():
        raise InputError(f"--workspace {workspace}: there is no such folder; 'candidates' makes one")
    space = Workspace(workspace)
    if manifest is not None:
        find_manifest(space.manifests_dir, manifest)
    path = out or workspace / "report.html"
    check_page_path(path)
    sections = report_sections(space, manifest)
    if current_report().is_dry_run:
        current_report().plan = plan_report(path, sections, has_long_galleries=not no_gallery)
        return
    title = f"Report of {workspace.resolve().name}"
    written = write_report(path, title, sections, lead=report_lead(space), has_long_galleries=not no_gallery)
    current_report().written += [] if written.pictures_dir is None else [written.pictures_dir]
    current_report().counts |= {
        "sections": written.n_sections, "sections_missing": written.n_missing, "cards": written.n_cards,
        "thumbnails_made": written.pictures.made, "thumbnails_reused": written.pictures.reused,
        "pictures_without": written.pictures.without,
    }  # fmt: skip
    for line in report_lines(written):
        print(line)
    if written.problems:
        raise InputError("; ".join(written.problems))


def status(progress_lines: ProgressLines, workspace: WorkspaceOption = DEFAULT_WORKSPACE) -> None:
    """Show the funnel: how many images stand at which stage, and why the others left.

    \b
    Example: python cli.py status --workspace workspace
    """
    from dataclasses import asdict

    from manifests.control import control_estimate, format_control
    from manifests.funnel import format_funnel, funnel
    from manifests.next_step import next_step
    from manifests.underway import RUNNING, underway
    from manifests.workspace import Workspace

    if not workspace.is_dir():
        raise InputError(f"--workspace {workspace}: there is no such folder; 'candidates' makes one")
    space = Workspace(workspace)
    steps, work = funnel(space), underway(space)
    print(format_funnel(steps))
    for line in (*work, *progress_lines(space)):
        print(line)
    estimate = control_estimate(space)
    if estimate is not None:
        print(format_control(estimate))
    report = current_report()
    report.data = {"funnel": [asdict(step) for step in steps], "underway": [asdict(one) for one in work]}
    # What runs now comes first: nothing follows it yet.
    report.next_step = None if any(one.state == RUNNING for one in work) else next_step(space)
