"""`train-dml`: networks whose features DML+ is made for, and those that it is compared with."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from manifests.commands.options import DEFAULT_WORKSPACE, DeviceOption, WorkspaceOption, pairs, recorded_arguments
from manifests.commands.summary import announce
from manifests.completion import words
from manifests.errors import InputError
from manifests.run_report import NextStep, current_report

if TYPE_CHECKING:
    from manifests.work_plan import WorkPlan
    from manifests.workspace import StageRecord, Workspace
    from scoring.dml.recipe import Recipe
    from scoring.dml.train import TrainResult
    from scoring.dml.training_run import Folders

SAMPLE_OOD_SET = "out"

DrawWorld = Callable[[Path, int], tuple[Path, Path]]
"""Draws the sample's pictures into a folder, by a seed; returns their folder and that of the OOD set."""


def train_dml(
    draw_world: DrawWorld,
    context: typer.Context,
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
            help="mcf, mnc, or to compare with: cosine, linear (cross-entropy); may be given several times.",
            autocompletion=words("linear", "cosine", "mcf", "mnc"),
        ),
    ] = None,
    compare: Annotated[
        bool,
        typer.Option("--compare", help="Instead of --loss: train with all four, score, and print the claims."),
    ] = False,
    ood: Annotated[
        list[str] | None, typer.Option(help="NAME=FOLDER of an OOD set to write features of; repeatable.")
    ] = None,
    network: Annotated[
        str | None, typer.Option(help="wrn-DEPTH-WIDTH, tiny or timm:NAME; default: wrn-40-2, of the sample tiny.")
    ] = None,
    side: Annotated[
        int | None, typer.Option(help="Side of the pictures, px; default: 32, of the sample 48.", min=1)
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
    """Train networks for DML+ and write their features: MCF (focal loss), MNC (center loss).

    \b
    Example: python cli.py train-dml --compare --sample --workspace dml
    """
    if sample == (data is not None):
        raise InputError("train-dml: expected either --data FOLDER or --sample")
    if compare == bool(loss):
        raise InputError("train-dml: expected either --loss mcf|mnc|cosine|linear or --compare")
    folders = _ood_folders(ood or (), is_sample=sample)
    if compare and not (folders or sample):
        raise InputError("train-dml --compare: expected at least one --ood NAME=FOLDER to score")
    from manifests.workspace import Workspace, checked_name
    from scoring.dml.recipe import LOSSES
    from scoring.dml.training_run import SAMPLE_SIDE_PX, Folders, chosen_recipe

    given: dict[str, Any] = {
        "network": network, "n_epochs": epochs, "batch_size": batch_size, "center_schedule": center_schedule,
        "learning_rate": learning_rate, "momentum": momentum, "weight_decay": weight_decay, "dropout": dropout,
        "gamma": gamma, "focal_gradient": focal_gradient, "scale": scale, "seed": seed,
    }  # fmt: skip
    losses = LOSSES if compare else tuple(dict.fromkeys(loss or ()))
    recipe = chosen_recipe(given, losses, is_sample=sample)
    prefix = checked_name(name or recipe.network.replace(":", "-"), "--name")
    space, world = Workspace(workspace), workspace / "world"
    networks = _Networks(
        recipe, losses, Folders(space.root / "training", space.features_dir, space.scores_dir), prefix, device, amp
    )
    side_px = SAMPLE_SIDE_PX if sample and side is None else side
    if current_report().is_dry_run:
        plan = networks.plan(data or world, side_px, is_sample=sample)
        current_report().plan = plan.recorded_as(workspace, f"train-dml.{prefix}")
        return
    with space.stage("train-dml", recorded_arguments(context), record_as=f"train-dml.{prefix}") as record:
        record.seed = seed
        what_first = f"reading {data}" if data is not None else "drawing the sample, if need be"
        announce(f"train-dml: {', '.join(losses)}, epochs of each: {recipe.n_epochs:,}; {what_first}")
        if data is None:
            data, out_dir = draw_world(world, seed)
            folders = {SAMPLE_OOD_SET: out_dir, **folders}
        lines = networks.train(data, side_px, folders, record, is_compared=compare)
    if not compare:
        current_report().next_step = _score_both(space, prefix, folders)
    print(*lines, sep="\n")


def _ood_folders(given: Sequence[str], *, is_sample: bool) -> dict[str, Path]:
    """Return folders by the name of the set; what is wrong with one is told before hours of training."""
    folders = {name: Path(folder) for name, folder in pairs(given, "--ood", "expected NAME=FOLDER").items()}
    if is_sample and SAMPLE_OOD_SET in folders:
        raise InputError(f"--ood {SAMPLE_OOD_SET}: the sample has a set of this name; give another")
    for name, folder in folders.items():
        if not folder.is_dir():
            raise InputError(f"--ood {name}={folder}: no such folder")
    return folders


def _score_both(space: "Workspace", prefix: str, ood_sets: Iterable[str]) -> NextStep | None:
    """Return the command that scores DML+, where both its networks have features of OOD sets; otherwise None."""
    from manifests.next_command import step_of

    pair = [f"{prefix}.{loss}" for loss in ("mcf", "mnc")]
    there = [
        name for name in ood_sets if all((space.features_dir / one / f"{name}.parquet").is_file() for one in pair)
    ]
    if not there:
        return None
    first, second = pair
    options = [word for name in there for word in ("--ood", name)]
    command = ("score", "--features", first, "--second-features", second, "--method", "dml_plus", *options)
    return step_of(space, command, "both networks of DML+ have features of OOD sets")


@dataclass(frozen=True)
class _Networks:
    """What is to be trained, and where it goes; the parameters of `scoring.dml.training_run.train_networks`."""

    recipe: "Recipe"
    losses: tuple[str, ...]
    places: "Folders"
    name: str
    device: str
    amp: bool | None

    def plan(self, data: Path, side_px: int | None, *, is_sample: bool) -> "WorkPlan":
        """Return what training would do; the sample may be yet to draw."""
        from scoring.dml.data import check_layout, preprocessing_of
        from scoring.dml.training_run import plan_networks

        if not is_sample:
            check_layout(data)
        data_name = "the sample's pictures, drawn first if need be" if is_sample else f"the pictures of {data}"
        return plan_networks(
            self.recipe, self.losses, self.places, preprocessing_of(data, side_px=side_px), name=self.name,
            data_name=data_name, device=self.device, amp=self.amp,
        )  # fmt: skip

    def train(
        self,
        data: Path,
        side_px: int | None,
        ood_folders: Mapping[str, Path],
        record: "StageRecord",
        *,
        is_compared: bool,
    ) -> list[str]:
        """Train, and return what to print."""
        from scoring.dml.compare import comparison_data, comparison_table
        from scoring.dml.data import read_training_data
        from scoring.dml.feature_folders import read_ood_sets
        from scoring.dml.training_run import compare_losses, train_networks

        ood_sets = read_ood_sets(ood_folders)
        read = read_training_data(data, side_px=side_px)
        record.counts = {"train": len(read.train.image_ids), "val": len(read.val.image_ids)}
        if is_compared:
            comparison = compare_losses(
                read, self.recipe, ood_sets, self.places, name=self.name, device=self.device, amp=self.amp,
                announce=announce,
            )  # fmt: skip
            current_report().data = comparison_data(comparison)
            return [comparison_table(comparison)]
        results = train_networks(
            read, self.recipe, self.losses, ood_sets, self.places, name=self.name, device=self.device,
            amp=self.amp, announce=announce,
        )  # fmt: skip
        current_report().data = {
            "networks": {loss: asdict(result.history[-1]) for loss, result in results.items()}
        }
        return [self._told(loss, result) for loss, result in results.items()]

    def _told(self, loss: str, result: "TrainResult") -> str:
        last = result.history[-1]
        epochs = "epoch" if last.epoch == 1 else "epochs"
        return (
            f"train-dml: {loss}, {last.epoch} {epochs} ({result.n_done_before} done before), right "
            f"{100 * last.val_accuracy:.2f} % of val; {self.places.features / f'{self.name}.{loss}'}, "
            f"{result.paths[-1]}"
        )
