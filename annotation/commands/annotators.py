"""`simulate-annotators`, `annotators` and `plan`: who answers, how well, and how many are needed."""

from pathlib import Path
from typing import Annotated

import typer

from manifests.commands.options import DEFAULT_WORKSPACE, WorkspaceOption, refuse_without_effect
from manifests.commands.summary import counted
from manifests.completion import words
from manifests.errors import InputError


def simulate_annotators(
    truth: Annotated[Path, typer.Option(help="CSV image_id,truth,class_index[,kind].")],
    annotators: Annotated[
        str,
        typer.Option(
            help="Who, by error model: careful, hasty, always-ood, all-knowing; colluding copies the one before."
        ),
    ] = "careful,careful",
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    queue: Annotated[
        str, typer.Option(help="What they answer: first, or audit.", autocompletion=words("first", "audit"))
    ] = "first",
    gold: Annotated[bool, typer.Option("--gold", help="They answer the gold images too.")] = False,
    seed: Annotated[int, typer.Option(help="Of their errors.")] = 0,
) -> None:
    """Let simulated annotators answer a queue, each named as simulated in every log and table.

    \b
    Example: python cli.py simulate-annotators --truth truth.csv --annotators careful,hasty --gold
    """
    from annotation.error_models import simulated_team
    from annotation.simulated import simulate_team
    from manifests.workspace import Workspace

    team = simulated_team([kind.strip() for kind in annotators.split(",")])
    summary = simulate_team(Workspace(workspace), truth, team, seed=seed, with_gold=gold, queue=queue)
    counted(f"simulate-annotators ({', '.join(summary.annotator_ids)})", summary.n_by_answer)


def annotators(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    min_gold: Annotated[
        float, typer.Option(help="Share of gold answered right; who is below is named.", min=0, max=1)
    ] = 0.9,
    set_aside: Annotated[
        list[str] | None, typer.Option(help="Leave this annotator out of agreement and opinions; repeatable.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the bootstrap intervals.")] = 0,
) -> None:
    """Report agreement, each annotator's pace and confusion on gold, and a second opinion on each image.

    \b
    Example: python cli.py annotators --min-gold 0.9 --workspace workspace
    """
    from annotation.statistics.report import format_summary, report_annotators
    from manifests.workspace import Workspace

    summary = report_annotators(Workspace(workspace), set_aside=set_aside or (), seed=seed)
    print(format_summary(summary, min_gold))


def plan(
    context: typer.Context,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    target: Annotated[
        float,
        typer.Option(help="Largest share of in-distribution images among those agreed to be out.", min=0, max=1),
    ] = 0.01,
    votes_max: Annotated[int, typer.Option(help="Most votes an image.", min=2, max=50)] = 5,
    prevalence: Annotated[
        float | None, typer.Option(help="Share in-distribution of the review set; default: from the answers.")
    ] = None,
    miss_rate: Annotated[
        float | None, typer.Option(help="Instead of measuring: share of in answered out; needs --prevalence.")
    ] = None,
    false_in_rate: Annotated[float, typer.Option(help="With --miss-rate: share of out answered in.")] = 0.0,
    difficult_rate: Annotated[float, typer.Option(help="With --miss-rate: share answered difficult.")] = 0.0,
    hard_share: Annotated[float, typer.Option(help="With --miss-rate: share of in that is hard.")] = 0.0,
    hard_miss_rate: Annotated[float, typer.Option(help="With --hard-share: how often those are missed.")] = 1.0,
    images: Annotated[int | None, typer.Option(help="Images; default: those under review.", min=1)] = None,
    seconds: Annotated[float | None, typer.Option(help="Per answer; default: measured pace.", min=0)] = None,
    set_aside: Annotated[list[str] | None, typer.Option(help="Plan without this annotator; repeatable.")] = None,
    seed: Annotated[int, typer.Option(help="Of the intervals.")] = 0,
) -> None:
    """Print how many votes a wanted contamination needs, and their cost in decisions, disputes and hours.

    \b
    Example: python cli.py plan --target 0.01 --workspace workspace
    """
    from annotation.statistics.plan import format_plan, make_plan
    from annotation.statistics.team_errors import StatedRates
    from manifests.workspace import Workspace

    rates = None
    if miss_rate is None:
        refuse_without_effect(
            context, "without --miss-rate", ("false_in_rate", "difficult_rate", "hard_share", "hard_miss_rate")
        )
    elif prevalence is None:
        raise InputError("plan: --miss-rate needs --prevalence")
    else:
        rates = StatedRates(miss_rate, prevalence, false_in_rate, difficult_rate, hard_share, hard_miss_rate)
    errors, rows = make_plan(
        Workspace(workspace), rates=rates, prevalence=prevalence, votes_max=votes_max, n_images=images,
        seconds=seconds, set_aside=set_aside or (), seed=seed,
    )  # fmt: skip
    print(format_plan(errors, rows, target))
