"""`quality`, `calibrate` and `screen`: what annotators need not see, and in which order they see the rest."""

from pathlib import Path
from typing import Annotated

import typer

from curation.commands.class_sources import ClassChoice, Classifiers, class_sources
from curation.commands.duplicates import (
    AgreementOption,
    BitsOption,
    CropsOption,
    SimilarityOption,
    duplicate_rules,
)
from curation.commands.options import (
    ClassesOption,
    EmbeddingsOption,
    ExemplarsOption,
    MasksOption,
    PrototypesOption,
    TemplatesOption,
)
from manifests.commands.options import DEFAULT_WORKSPACE, DeviceOption, WorkspaceOption
from manifests.commands.summary import announce, counted
from manifests.completion import quality_checks
from manifests.run_report import current_report


def quality(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    workers: Annotated[int, typer.Option(help="Threads that decode.")] = 2,
) -> None:
    """Score and flag pictures that are blurred, dark, of low information, odd in size or shape, or near empty.

    \b
    Example: python cli.py quality --workspace workspace
    """
    from curation.screening.quality import measure_quality, plan_quality
    from manifests.workspace import Workspace

    if current_report().is_dry_run:
        current_report().plan = plan_quality(Workspace(workspace)).recorded_as(workspace, "quality")
        return
    counted("quality", measure_quality(Workspace(workspace), n_workers=workers))


def calibrate(
    classifiers: Classifiers,
    labelled: Annotated[
        Path,
        typer.Option(
            help="CSV image_id,truth (in, out, or others, left alone); risk is a probability for their mix alone."
        ),
    ],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    out: Annotated[
        Path | None, typer.Option(help="The calibration; default: <workspace>/calibration.json.")
    ] = None,
    max_lost: Annotated[
        float,
        typer.Option(help="Goal: expected share of truly OOD pictures dropped; 0.005 needs 199 out to fit on."),
    ] = 0.005,
    embeddings: EmbeddingsOption = None,
    classes: ClassesOption = None,
    templates: TemplatesOption = "openai",
    exemplars: ExemplarsOption = None,
    prototypes: PrototypesOption = None,
    seed: Annotated[int, typer.Option(help="Of the split into a half to fit on and one to take figures on.")] = 0,
    masks: MasksOption = False,
    device: DeviceOption = "auto",
) -> None:
    """Make risk a probability, and choose what to drop, on pictures whose truth is known.

    \b
    Example: python cli.py calibrate --labelled truth.csv --max-lost 0.005 --workspace workspace
    """
    from curation.prototypes import compared_classes
    from curation.screening.calibrate import calibrate as calibrate_risk
    from curation.screening.calibrate import check_inputs
    from manifests.workspace import Workspace

    space = Workspace(workspace)
    out_path = out or space.root / "calibration.json"
    check_inputs(space, compared_classes(classes), labelled, out_path, max_lost=max_lost, has_masks=masks)
    choice = ClassChoice(embeddings, classes, templates, exemplars, prototypes)
    known, sources = class_sources(classifiers, space, choice, device)
    summary = calibrate_risk(
        space, known, sources, labelled, out_path, max_lost=max_lost, seed=seed, has_masks=masks,
        announce=announce,
    )  # fmt: skip
    print(
        f"calibrate: fitted on {summary.n_fit:,}, held out {summary.n_held_out:,}, {summary.n_copies:,} copies, "
        f"{summary.n_absent:,} not here, {summary.n_other_words:,} neither in nor out; {out_path}, "
        f"{summary.plot_path}\n"
        f"  risk is a probability where, as here, {summary.share_in:.0%} are in\n"
        f"  held out: AUROC {summary.auroc:.4f}, expected calibration error "
        f"{summary.expected_calibration_error:.4f}"
    )
    print(summary.point)


def screen(
    classifiers: Classifiers,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    calibration: Annotated[
        Path | None, typer.Option(help="Of 'calibrate'; without it, nothing is dropped as in-class.")
    ] = None,
    max_lost: Annotated[float | None, typer.Option(help="With --calibration: another goal than its own.")] = None,
    embeddings: EmbeddingsOption = None,
    classes: ClassesOption = None,
    templates: TemplatesOption = "openai",
    exemplars: ExemplarsOption = None,
    prototypes: PrototypesOption = None,
    control_share: Annotated[
        float, typer.Option(help="Share of what is dropped as in-class that annotators get all the same.")
    ] = 0.05,
    drop_quality: Annotated[
        list[str] | None,
        typer.Option(help="Drop what this check of 'quality' flags; repeatable.", autocompletion=quality_checks),
    ] = None,
    masks: MasksOption = False,
    least_agreement: AgreementOption = None,
    least_similarity: SimilarityOption = None,
    most_bits: BitsOption = None,
    crops: CropsOption = None,
    seed: Annotated[int, typer.Option(help="Chooses the control images.")] = 0,
    explain: Annotated[
        str | None, typer.Option(help="Screen nothing: draw what the last screen saw of this image.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="With --explain: the picture; default: IMAGE_ID.png.")] = None,
    device: DeviceOption = "auto",
) -> None:
    """Compare embeddings with the classes: ten to show, a risk, near-duplicates, what to drop.

    \b
    Example: python cli.py screen --calibration workspace/calibration.json --workspace workspace
    """
    from manifests.workspace import Workspace

    space = Workspace(workspace)
    if explain is not None:
        from curation.screening.plots.explain import explain as draw

        path = out or Path(f"{explain}.png")
        draw(space, explain, path)
        print(f"screen: {path}")
        return
    from curation.prototypes import compared_classes
    from curation.screening.screen import ScreenRules, check_inputs, screen_pictures

    rules_of_duplicates = duplicate_rules(least_agreement, least_similarity, most_bits, crops)
    rules = ScreenRules(max_lost, control_share, tuple(drop_quality or ()), rules_of_duplicates, seed, masks)
    check_inputs(space, compared_classes(classes), rules, calibration)
    choice = ClassChoice(embeddings, classes, templates, exemplars, prototypes)
    known, sources = class_sources(classifiers, space, choice, device)
    summary = screen_pictures(space, known, sources, rules, calibration_path=calibration, announce=announce)
    counted("screen", summary.counts)
    if summary.operating_point is not None:
        print(summary.operating_point)
