"""`consensus`, `gold`, `inspect` and `decisions`: from answers to verdicts, and what keeps them right."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from manifests.commands.options import DEFAULT_WORKSPACE, WorkspaceOption, refuse_without_effect
from manifests.commands.summary import counted
from manifests.completion import words
from manifests.errors import InputError


def consensus(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    votes: Annotated[
        int | None, typer.Option(help="Answers that an image needs; default: as the last time, at first 2.", min=1)
    ] = None,
    majority: Annotated[
        float | None,
        typer.Option(help="Share of them that must agree, above 0.5; default: as the last time, at first 1."),
    ] = None,
    set_aside: Annotated[
        list[str] | None,
        typer.Option(help="Keep an annotator's answers, count none; repeatable; default: as the last time."),
    ] = None,
    reset_rule: Annotated[
        bool, typer.Option("--reset-rule", help="Forget the last rule: 2 votes, all agreed, nobody set aside.")
    ] = False,
    accept_changed_logs: Annotated[
        bool,
        typer.Option("--accept-changed-logs", help="Go on although a log lost or changed what was read of it."),
    ] = False,
) -> None:
    """Turn answers, rulings and inspections into verdicts: agreed out, in or difficult; disputed; open.

    \b
    Example: python cli.py consensus --votes 2 --workspace workspace
    """
    from annotation.consensus import recorded_rule, run_consensus
    from annotation.statistics.mask_figures import mask_lines
    from annotation.verdicts import ConsensusRule
    from manifests.workspace import Workspace

    space = Workspace(workspace)
    last = ConsensusRule() if reset_rule else recorded_rule(space)
    rule = ConsensusRule(
        last.n_votes if votes is None else votes,
        last.majority if majority is None else majority,
        last.set_aside if set_aside is None else tuple(sorted(set(set_aside))),
    )
    summary = run_consensus(space, rule, accept_changed_logs=accept_changed_logs)
    counted(f"consensus of {summary.n_annotators} annotators", dict(summary.n_by_verdict))
    print(f"  rule: {rule}")
    for change in summary.accepted_changes:
        print(f"  accepted, and recorded: {change}")
    if summary.n_gold:
        print(f"  {summary.n_gold:,} gold images are under review: they are asked as gold and get no verdict")
    if summary.n_by_source["adjudication"] or summary.n_by_source["inspection"]:
        print("  settled or disputed by " + ", ".join(f"{word} {n:,}" for word, n in summary.n_by_source.items()))
    if summary.n_sent_back:
        print(f"  {summary.n_sent_back:,} of the open images were sent back by an inspection")
    if summary.n_answers_outside:
        print(f"  {summary.n_answers_outside:,} answers are on images no longer under review; the logs keep them")
    for line in summary.standstill.lines():
        print(f"  {line}")
    for line in mask_lines(summary.masks):
        print(line)


def gold(
    add: Annotated[Path, typer.Option(help="CSV image_id,answer[,class_index][,note] of known answers.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
) -> None:
    """Add images whose answer is known, which annotators meet unmarked among the others.

    \b
    Example: python cli.py gold --add gold.csv --workspace workspace
    """
    from annotation.gold import add_gold, gold_without_classes
    from manifests.workspace import Workspace

    counted("gold", add_gold(Workspace(workspace), add))
    bare = gold_without_classes(Workspace(workspace))
    if bare:
        print(
            f"gold: {len(bare):,} images are shown beside no classes, which tells them from the rest: the screen "
            f"has none for {', '.join(bare[:3])}{', ...' * (len(bare) > 3)}",
            file=sys.stderr,
        )


def inspect(
    context: typer.Context,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    sample: Annotated[int | None, typer.Option(help="Draw a round of this many agreed images.", min=1)] = None,
    seed: Annotated[int, typer.Option(help="With --sample: of the draw.")] = 0,
    max_defects: Annotated[
        float, typer.Option(help="With --sample: a stratum with more of its sample defective is sent back.")
    ] = 0.02,
    report: Annotated[bool, typer.Option("--report", help="Print what the rounds so far have found.")] = False,
) -> None:
    """Draw a random round of inspection over agreed images, or report the defect rates found.

    \b
    Example: python cli.py inspect --sample 300 --workspace workspace
    """
    from annotation.inspection import draw_round, inspection_report
    from manifests.workspace import Workspace

    if (sample is not None) == report:
        raise InputError("inspect: expected either --sample N or --report")
    if sample is None:
        refuse_without_effect(context, "with --report", ("seed", "max_defects"))
        print(inspection_report(Workspace(workspace)))
        return
    drawn = draw_round(Workspace(workspace), sample, seed=seed, max_defects=max_defects)
    counted(f"inspect: round {drawn.number}", {stratum.name: len(stratum.sample) for stratum in drawn.strata})
    print("  answer it with: python cli.py annotate --queue inspection")


def decisions(
    action: Annotated[
        str,
        typer.Argument(
            metavar="verify|merge", help="What to do with the logs.", autocompletion=words("verify", "merge")
        ),
    ],
    others: Annotated[
        list[Path] | None, typer.Option("--from", help="With merge: workspace whose logs to take; repeatable.")
    ] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
) -> None:
    """Verify the hash chains of the annotators' logs, or merge in those of other workspaces.

    \b
    Example: python cli.py decisions merge --from ../laptop/workspace --workspace workspace
    """
    if action == "verify" and not others:
        _verify_decisions(workspace)
    elif action == "merge" and others:
        _merge_decisions(workspace, others)
    else:
        raise InputError("decisions: expected either 'verify', or 'merge' with --from WORKSPACE")


def _verify_decisions(workspace: Path) -> None:
    from annotation.merge import check_logs
    from manifests.workspace import Workspace

    checks = check_logs(Workspace(workspace))
    for check in checks:
        problem = f"; {check.problem}" if check.problem else ""
        print(f"{check.annotator_id}: {check.n_lines:,} lines in order{problem}")
    bad = [check.annotator_id for check in checks if check.problem]
    if bad:
        raise InputError(f"decisions: {len(bad)} of {len(checks)} logs do not pass: {', '.join(bad)}")


def _merge_decisions(workspace: Path, others: Sequence[Path]) -> None:
    from annotation.merge import merge_logs
    from manifests.workspace import Workspace

    summary = merge_logs(Workspace(workspace), others)
    counted("decisions taken over", summary.n_added)
    unknown = summary.unknown_image_ids
    if unknown:
        print(f"  {len(unknown):,} images answered are no candidates here, first {unknown[0]}; all are kept")
