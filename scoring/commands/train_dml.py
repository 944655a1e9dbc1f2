"""`train-dml`: networks with a cosine classifier, whose features DML+ is made for."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from manifests.commands.options import DEFAULT_WORKSPACE, DeviceOption, WorkspaceOption, pairs
from manifests.commands.summary import announce
from manifests.completion import words
from manifests.errors import InputError
from manifests.run_report import current_report

if TYPE_CHECKING:
    from scoring.dml.stage import Folders
    from scoring.dml.train import TrainResult

DrawWorld = Callable[[Path, int], tuple[Path, Path]]
"""Draws the sample's pictures into a folder, by a seed; returns their folder and that of the OOD set."""


def train_dml(
    draw_world: DrawWorld,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder of train/ and val/ (<part>_labels.csv or a folder a class), or of CIFAR's files."
        ),
    ] = None,
    sample: Annotated[
        bool,
        typer.Option("--sample", help="Instead of --data: draw the sample's pictures, with settings for a CPU."),
    ] = False,
    loss: Annotated[
        list[str] | None,
        typer.Option(
            help="mcf, mnc or cosine (plain cross-entropy); may be given several times.",
            autocompletion=words("cosine", "mcf", "mnc"),
        ),
    ] = None,
    compare: Annotated[
        bool,
        typer.Option("--compare", help="Instead of --loss: train with all three, score, and print the claims."),
    ] = False,
    ood: Annotated[
        list[str] | None, typer.Option(help="NAME=FOLDER of an OOD set to write features of; repeatable.")
    ] = None,
    network: Annotated[
        str | None, typer.Option(help="wrn-DEPTH-WIDTH, tiny or timm:NAME; default: wrn-40-2, of the sample tiny.")
    ] = None,
    side: Annotated[
        int | None, typer.Option(help="Side of the pictures, px; default: 32, of the sample 48.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Default: 200, of the sample 50.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Default: 128, of the sample 64.")] = None,
    learning_rate: Annotated[float, typer.Option(help="Of the first epoch; a cosine takes it to 0.")] = 0.1,
    momentum: Annotated[float | None, typer.Option(help="Of SGD, in [0, 1); default: 0.9.")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Of SGD, on all weights; default: 0.0005.")] = None,
    dropout: Annotated[float | None, typer.Option(help="In [0, 1); default: 0.3, of the sample 0.1.")] = None,
    gamma: Annotated[float | None, typer.Option(help="Of the focal loss of mcf; default: 2.")] = None,
    focal_gradient: Annotated[
        str | None,
        typer.Option(
            help="equation (default), or published: the focal weight is a constant.",
            autocompletion=words("equation", "published"),
        ),
    ] = None,
    scale: Annotated[
        float | None, typer.Option(help="What cosines of mcf and cosine are times; default: 40.")
    ] = None,
    center_schedule: Annotated[
        str | None,
        typer.Option(
            help="Center loss from epochs 60 and 80 (published), or from 30 and 40 % of them (scaled).",
            autocompletion=words("published", "scaled"),
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Folders are <name>.<loss>; default: the network's name.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of weights, order, crops, dropout and the sample's drawings.")] = 0,
    amp: Annotated[
        bool | None,
        typer.Option("--amp/--no-amp", help="Convolve in bfloat16; default: on a GPU that computes in it."),
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Train networks with a cosine classifier for DML+ and write their features: MCF (focal), MNC (center loss).

    \b
    Example: python cli.py train-dml --compare --sample --workspace dml
    """
    arguments = {
        option: str(value) for option, value in locals().items() if option != "draw_world" and value is not None
    }
    if sample == (data is not None):
        raise InputError("train-dml: expected either --data FOLDER or --sample")
    if compare == bool(loss):
        raise InputError("train-dml: expected either --loss mcf|mnc|cosine or --compare")
    folders = {key: Path(value) for key, value in pairs(ood or (), "--ood").items()}
    if compare and not (folders or sample):
        raise InputError("train-dml --compare: expected at least one --ood NAME=FOLDER to score")
    from manifests.workspace import Workspace, checked_name
    from scoring.dml.compare import comparison_table
    from scoring.dml.data import read_training_data
    from scoring.dml.feature_folders import read_ood_sets
    from scoring.dml.recipe import LOSSES
    from scoring.dml.stage import (
        SAMPLE_SIDE_PX,
        Folders,
        chosen_recipe,
        compare_losses,
        plan_networks,
        train_networks,
    )

    given: dict[str, Any] = {
        "network": network, "n_epochs": epochs, "batch_size": batch_size, "center_schedule": center_schedule,
        "learning_rate": learning_rate, "momentum": momentum, "weight_decay": weight_decay, "dropout": dropout,
        "gamma": gamma, "focal_gradient": focal_gradient, "scale": scale, "seed": seed,
    }  # fmt: skip
    losses = LOSSES if compare else tuple(loss or ())
    recipe = chosen_recipe(given, losses, is_sample=sample)
    prefix = checked_name(name or recipe.network.replace(":", "-"), "--name")
    space = Workspace(workspace)
    places = Folders(space.root / "training", space.features_dir, space.scores_dir)
    if current_report().is_dry_run:
        read_name = "the sample's pictures, drawn first if need be" if data is None else f"the pictures of {data}"
        plan = plan_networks(recipe, losses, places, name=prefix, data_name=read_name)
        current_report().plan = plan.recorded_as(workspace, f"train-dml.{prefix}")
        return
    with space.stage("train-dml", arguments, record_as=f"train-dml.{prefix}") as record:
        record.seed = seed
        if sample:
            data, out_dir = draw_world(space.root / "world", seed)
            folders, side = {"out": out_dir, **folders}, side or SAMPLE_SIDE_PX
        read = read_training_data(data or Path(), side_px=side)
        ood_sets = read_ood_sets(folders)
        record.counts = {"train": len(read.train.image_ids), "val": len(read.val.image_ids)}
        if compare:
            comparison = compare_losses(
                read, recipe, ood_sets, places, name=prefix, device=device, amp=amp, announce=announce
            )
            print(comparison_table(comparison))
            return
        results = train_networks(
            read, recipe, losses, ood_sets, places, name=prefix, device=device, amp=amp, announce=announce
        )
    _print_results(results, prefix, places)


def _print_results(results: "Mapping[str, TrainResult]", prefix: str, places: "Folders") -> None:
    for one, result in results.items():
        last = result.history[-1]
        print(
            f"train-dml: {one}, {last.epoch} epochs ({result.n_done_before} done before), right "
            f"{100 * last.val_accuracy:.2f} % of val; {places.features / f'{prefix}.{one}'}, {result.paths[-1]}"
        )
