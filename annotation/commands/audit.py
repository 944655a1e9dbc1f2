"""`audit`: the blind sample of a frozen set, and the certificate that its answers give."""

from typing import Annotated

import typer

from manifests.commands.options import DEFAULT_WORKSPACE, WorkspaceOption, refuse_without_effect
from manifests.completion import manifest_names, names_below, words
from manifests.errors import InputError


def audit(
    context: typer.Context,
    action: Annotated[
        str,
        typer.Argument(
            metavar="plan|report",
            help="Draw a blind sample, or read its answers.",
            autocompletion=words("plan", "report"),
        ),
    ],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    manifest: Annotated[
        str | None,
        typer.Option(help="With plan: <name>-<X.Y.Z>, where there are several.", autocompletion=manifest_names),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            help="Of the audit; default: the manifest's; report: the only one.",
            autocompletion=names_below("audits", "*.json"),
        ),
    ] = None,
    bound: Annotated[float, typer.Option(help="With plan: largest share of defects to certify.")] = 0.01,
    confidence: Annotated[float, typer.Option(help="With plan: one-sided.")] = 0.95,
    max_defects: Annotated[
        int | None, typer.Option(help="With plan: defects that still certify; default: 0, or --looks less 1.")
    ] = None,
    sequential: Annotated[
        bool, typer.Option("--sequential", help="With plan: stop early where few defects, or too many, are found.")
    ] = False,
    looks: Annotated[int, typer.Option(help="With --sequential: how often to look.", min=2, max=20)] = 3,
) -> None:
    """Plan a blind audit of a frozen set, or report what it found and write the certificate.

    \b
    Example: python cli.py audit plan --manifest openimage_o-1.0.0 --bound 0.01 --workspace workspace
    """
    from annotation.audit.lines import plan_lines, report_lines
    from annotation.audit.plan import plan_audit
    from annotation.audit.report import report_audit
    from manifests.audit_design import Goal
    from manifests.workspace import Workspace

    if action == "report":
        options = ("manifest", "bound", "confidence", "max_defects", "sequential", "looks")
        refuse_without_effect(context, "with report", options)
        print("\n".join(report_lines(report_audit(Workspace(workspace), name))))
        return
    if action != "plan":
        raise InputError("audit: expected either 'plan' or 'report'")
    if not sequential:
        refuse_without_effect(context, "without --sequential", ["looks"])
    n_looks = looks if sequential else 1
    goal = Goal(bound, confidence, n_looks - 1 if max_defects is None else max_defects, n_looks)
    print("\n".join(plan_lines(plan_audit(Workspace(workspace), manifest, goal, audit=name))))
