"""`localize` and `train-localizer`: where in a picture a class might be, and what is trained to say so."""

import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from curation.commands.options import TemplatesOption
from manifests.commands.options import (
    DEFAULT_WORKSPACE,
    DeviceOption,
    WorkspaceOption,
    recorded_arguments,
    refuse_without_effect,
)
from manifests.commands.summary import announce
from manifests.completion import embeddings_names, words
from manifests.errors import InputError
from manifests.run_report import NextStep, current_report

if TYPE_CHECKING:
    from manifests.workspace import Workspace


def localize(
    context: typer.Context,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Of 'train-localizer'; default: CLIP's heat map, without training.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="open_clip model name or config; default: that of the embeddings.")
    ] = None,
    pretrained: Annotated[
        str | None, typer.Option(help="With --model: its weights tag, or a local checkpoint.")
    ] = None,
    embeddings: Annotated[
        str | None,
        typer.Option(
            help="Digest of the CLIP embeddings, where there are several.", autocompletion=embeddings_names
        ),
    ] = None,
    templates: TemplatesOption = "openai",
    has_dropped: Annotated[
        bool, typer.Option("--dropped", help="What the screen dropped too, as 'screen --masks' needs it.")
    ] = False,
    limit: Annotated[int | None, typer.Option(help="New pictures at most.")] = None,
    workers: Annotated[int, typer.Option(help="Threads that decode.")] = 2,
    device: DeviceOption = "auto",
) -> None:
    """Show annotators where in a picture each class might be: a mask a picture under review and class shown.

    \b
    Example: python cli.py localize --workspace workspace
    """
    if model is None:
        refuse_without_effect(context, "without --model", ["pretrained"])
    else:
        refuse_without_effect(context, "with --model", ["embeddings"])
    if checkpoint is not None:
        refuse_without_effect(context, "with --checkpoint", ["templates"])
    from curation.localize.checkpoints import check_checkpoint
    from curation.localize.loading import choose_localizer
    from curation.localize.localize import LocalizeRules, localize_pictures, plan_localize
    from manifests.workspace import Workspace

    space = Workspace(workspace)
    load = partial(
        choose_localizer, space, checkpoint, model=model, pretrained=pretrained, embeddings=embeddings,
        template_set=templates, device=device,
    )  # fmt: skip
    told = {
        "checkpoint": None if checkpoint is None else str(checkpoint), "model": model, "pretrained": pretrained,
        "embeddings": embeddings, "templates": templates, "device": device,
    }  # fmt: skip
    rules = LocalizeRules(has_dropped, limit, workers)
    if current_report().is_dry_run:
        if checkpoint is not None:
            check_checkpoint(checkpoint)
        current_report().plan = plan_localize(space, told, rules).recorded_as(workspace, "localize")
        return
    print(localize_pictures(space, load, told, rules, announce=announce))


_OF_LAYOUT = ("dataset", "test_split", "readers")
_OF_TRAINING = (
    "interactor", "input_px", "epochs", "milestone", "batch_size", "learning_rate", "bridger_factor", "seed",
    "amp", "device",
)  # fmt: skip


def train_localizer(
    context: typer.Context,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the localizer; what lies there goes on; <workspace>/localizer.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Root of RefCOCO's layout (anns/, images/train2014/, masks/), or of its LMDB files (lmdb/)."
        ),
    ] = None,
    dataset: Annotated[
        str, typer.Option(help="With --data: refcoco, refcoco+, refcocog_u or refcocog_g.")
    ] = "refcoco",
    test_split: Annotated[
        list[str] | None,
        typer.Option(help="With --data: judge by testA, testB or test at the end, not by val; repeatable."),
    ] = None,
    scenes: Annotated[int | None, typer.Option(help="Draw so many scenes to learn from instead.", min=1)] = None,
    convert: Annotated[
        Path | None, typer.Option(help="One of the ETRIS authors' checkpoints: convert it instead.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="open_clip model; with --scenes by default the sample's tiny CLIP.")
    ] = None,
    pretrained: Annotated[str | None, typer.Option(help="Weights tag or a local checkpoint.")] = None,
    interactor: Annotated[
        str | None,
        typer.Option(
            help="paper (the default), or published: as the authors' code on ViT.",
            autocompletion=words("paper", "published"),
        ),
    ] = None,
    input_px: Annotated[int | None, typer.Option(help="Side of the input; the paper's is 416.")] = None,
    n_words: Annotated[
        int | None, typer.Option("--words", help="Tokens of a phrase; 17, and 22 on refcocog.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="The paper's are 50.")] = None,
    milestone: Annotated[int | None, typer.Option(help="Epochs before the rate falls to a tenth; 35.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="The paper's is 32.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Adam's; the paper's is 0.0001.")] = None,
    bridger_factor: Annotated[float | None, typer.Option(help="Times the rate, for the Bridger; 1.")] = None,
    readers: Annotated[int, typer.Option(help="With --data: threads that read pictures.", min=1)] = 4,
    seed: Annotated[int, typer.Option(help="Of weights, order, phrases and scenes.")] = 0,
    amp: Annotated[
        bool | None, typer.Option("--amp/--no-amp", help="Compute in bfloat16; default: on a GPU that has it.")
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Train a localizer on a frozen CLIP, after ETRIS: where in a picture is what a phrase names.

    \b
    Example: python cli.py train-localizer --scenes 3000 --workspace workspace
    """
    _check_what_goes_together(context, data, scenes, convert, model, pretrained)
    from curation.localize.authors import convert_checkpoint
    from curation.localize.judgement import judgement_lines
    from curation.localize.training_run import (
        LayoutChoice,
        ModelOfTowers,
        plan_training,
        train_on_layout,
        train_on_scenes,
    )
    from manifests import schema
    from manifests.workspace import Workspace

    given = {
        "interactor": interactor, "input_px": input_px, "n_words": n_words, "n_epochs": epochs,
        "milestone": milestone, "batch_size": batch_size, "learning_rate": learning_rate,
        "bridger_factor": bridger_factor, "seed": seed,
    }  # fmt: skip
    towers = ModelOfTowers(model, pretrained, device)
    space = Workspace(workspace)
    folder = out or space.root / "localizer"
    if convert is None and current_report().is_dry_run:
        plan = plan_training(towers, given, n_scenes=scenes, root=data, out_dir=folder, amp=amp)
        current_report().plan = plan.recorded_as(workspace, "train-localizer")
        return
    with space.stage("train-localizer", recorded_arguments(context), out_dir=folder) as record:
        record.seed = seed if convert is None else None
        if convert is not None:
            lines = [str(path) for path in convert_checkpoint(convert, str(model), folder, n_words=n_words or 17)]
        else:
            if data is not None:
                layout = LayoutChoice(data, dataset, test_split or (), readers)
                judgements = train_on_layout(towers, layout, given, out_dir=folder, amp=amp, announce=announce)
            else:
                judgements = train_on_scenes(
                    towers, scenes or 0, given, out_dir=folder, amp=amp, announce=announce
                )
            lines = judgement_lines(judgements)
            record.details = {"figures": [one.record() for one in judgements]}
            current_report().data = record.details
    if space.has(schema.SCREEN):
        current_report().next_step = _localize_by(
            space, folder, model, pretrained, is_converted=convert is not None
        )
    print(*lines, sep="\n")


def _localize_by(
    space: "Workspace", folder: Path, model: str | None, pretrained: str | None, *, is_converted: bool
) -> NextStep:
    """Return the command that uses the localizer in `folder`, with the CLIP that it belongs to."""
    from curation.localize.authors import CLIP_FILE
    from curation.localize.checkpoints import LOCALIZER_FILE
    from curation.localize.scene_clip import CONFIG_FILE, WEIGHTS_FILE

    weights = folder / CLIP_FILE if is_converted else folder / WEIGHTS_FILE if model is None else pretrained
    words_of_command = [
        "python", "cli.py", "localize", "--checkpoint", folder / LOCALIZER_FILE, "--model",
        folder / CONFIG_FILE if model is None else model, "--pretrained", weights, "--workspace", space.root,
    ]  # fmt: skip
    return NextStep(shlex.join(map(str, words_of_command)), "masks by this localizer")


def _check_what_goes_together(
    context: typer.Context,
    data: Path | None,
    scenes: int | None,
    convert: Path | None,
    model: str | None,
    pretrained: str | None,
) -> None:
    """Refuse options of `train_localizer` that say too little, contradict each other, or would do nothing."""
    if sum(way is not None for way in (data, scenes, convert)) != 1:
        raise InputError("train-localizer: expected one of --data, --scenes and --convert")
    if convert is not None and model is None:
        raise InputError("train-localizer: --convert needs --model, such as RN101-quickgelu")
    if data is not None and (model is None or pretrained is None):
        raise InputError("train-localizer: --data needs --model and --pretrained")
    if data is None:
        refuse_without_effect(context, "without --data", _OF_LAYOUT)
    if convert is not None:
        refuse_without_effect(context, "with --convert", ("pretrained", *_OF_TRAINING))
    if model is None:
        refuse_without_effect(context, "without --model", ["pretrained"])
