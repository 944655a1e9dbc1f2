"""The stage `train-dml`: networks trained, their features written, and the losses compared."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from manifests.errors import InputError
from manifests.training_files import ONLY_THE_RUN_SEES, check_same_settings
from manifests.work_plan import WorkPlan
from scoring.classifier import Preprocessing
from scoring.dml.compare import Comparison, compare
from scoring.dml.data import TrainingData
from scoring.dml.feature_folders import OodSets, check_sides, write_feature_folder
from scoring.dml.networks import TIMM_PREFIX
from scoring.dml.recipe import LOSSES, LOSSES_THAT_TAKE, Recipe
from scoring.dml.train import (
    OTHER_FOLDER,
    STATE_FILE,
    TrainResult,
    place_of,
    settings_without_data,
    train,
)
from scoring.dml.training_state import read_state

SAMPLE_RECIPE = Recipe(
    loss="cosine", network="tiny", n_epochs=50, batch_size=64, dropout=0.1, center_schedule="scaled"
)  # fmt: skip
"""For the drawn sample on a processor, in minutes."""

SAMPLE_SIDE_PX = 48


@dataclass(frozen=True)
class Folders:
    """Where networks of one workspace go: each has a folder of its own name in all three.

    Attributes
    ----------
    training, features, scores : Path
        States and curves; feature sets; results.
    """

    training: Path
    features: Path
    scores: Path


def chosen_recipe(given: Mapping[str, Any], losses: Sequence[str], *, is_sample: bool) -> Recipe:
    """Return the paper's recipe, or that of the sample, with the settings that were given.

    Parameters
    ----------
    given : mapping
        Fields of `Recipe` by name; what is None was not given.
    losses : sequence of str
        What is to be trained with.
    is_sample : bool
        Whether on the drawn sample.

    Raises
    ------
    InputError
        A setting is impossible, or without effect on all that is to be trained.
    """
    own = {name: value for name, value in given.items() if value is not None}
    recipe = replace(SAMPLE_RECIPE if is_sample else Recipe("cosine"), **own)
    for loss in losses:
        recipe.for_loss(loss)
    for name, takers in LOSSES_THAT_TAKE.items():
        if name in own and takers.isdisjoint(losses):
            option, trained = f"--{name.replace('_', '-')}", ", ".join(losses)
            raise InputError(
                f"{option} has no effect on {trained}, it is for {', '.join(sorted(takers))}: leave it out, a "
                f"training of {trained} goes on without it"
            )
    if "dropout" in own and recipe.network.startswith(TIMM_PREFIX):
        raise InputError(
            f"--dropout has no effect on {recipe.network}, as networks of timm keep their own: leave it out"
        )
    return recipe


def train_networks(
    data: TrainingData,
    recipe: Recipe,
    losses: Sequence[str],
    ood_sets: OodSets,
    folders: Folders,
    *,
    name: str,
    device: str = "auto",
    amp: bool | None = None,
    announce: Callable[[str], None] | None = None,
) -> dict[str, TrainResult]:
    """Return what training with each of `losses` came to, in folders called ``<name>.<loss>``, features written.

    Parameters
    ----------
    data : TrainingData
        Pictures.
    recipe : Recipe
        Its loss gives way to each of `losses`.
    losses : sequence of str
        Out of `LOSSES`, each once.
    ood_sets : OodSets
        Sets beside ``train`` and ``val`` whose features are written too.
    folders : Folders
        Of the workspace.
    name : str
        Before the loss.
    device, amp, announce
        As `scoring.dml.train.train` takes them.

    Raises
    ------
    InputError
        Pixels of an OOD set are not as many as those of `data`; or as training.
    ModelError, FeatureError
        As training and extraction.
    """
    check_sides(data, ood_sets)
    # All are made before the first is trained, so that an impossible one costs no hours.
    recipes = {loss: recipe.for_loss(loss) for loss in losses}
    if announce is not None:
        n_train, n_val = len(data.train.targets), len(data.val.targets)
        announce(f"train-dml: {n_train:,} pictures to learn from, {n_val:,} to see what was learnt")
    results = {}
    for loss, one in recipes.items():
        folder = f"{name}.{loss}"
        told = None if announce is None else partial(_tell, announce, folder)
        results[loss] = train(data, one, folders.training / folder, device=device, amp=amp, announce=told)
        write_feature_folder(
            results[loss].model, data, ood_sets, folders.features / folder, batch_size=one.batch_size
        )  # fmt: skip
    return results


def plan_networks(
    recipe: Recipe,
    losses: Sequence[str],
    folders: Folders,
    preprocessing: Preprocessing,
    *,
    name: str,
    data_name: str,
    device: str = "auto",
    amp: bool | None = None,
) -> WorkPlan:
    """Return how many epochs `train_networks` would train, by the states that lie in its folders.

    Parameters
    ----------
    recipe, losses, folders, name, device, amp
        As `train_networks` takes them.
    preprocessing : Preprocessing
        Of the pictures, none of which is read.
    data_name : str
        What would be read, for people.

    Raises
    ------
    InputError
        A folder holds a training of other settings; of the pictures nothing is compared.
    ModelError
        A state cannot be read.
    """
    place, n_done = place_of(device), 0
    for loss in losses:
        path = folders.training / f"{name}.{loss}" / STATE_FILE
        if path.exists():
            found, one = read_state(path), recipe.for_loss(loss)
            now = settings_without_data(one, preprocessing, place, amp)
            check_same_settings(path, found.settings, now, instead=OTHER_FOLDER, is_plan=True)
            n_done += len(found.history)
    written = [folder / f"{name}.{loss}" for loss in losses for folder in (folders.training, folders.features)]
    return WorkPlan(
        len(losses) * recipe.n_epochs - n_done, n_done, unit="epochs", reads=[data_name],
        writes=[str(folder) for folder in written], notes=[ONLY_THE_RUN_SEES] if n_done else [],
    )  # fmt: skip


def _tell(announce: Callable[[str], None], folder: str, line: str) -> None:
    announce(f"{folder}: {line}")


def compare_losses(
    data: TrainingData,
    recipe: Recipe,
    ood_sets: OodSets,
    folders: Folders,
    *,
    name: str,
    device: str = "auto",
    amp: bool | None = None,
    announce: Callable[[str], None] | None = None,
) -> Comparison:
    """Return the comparison of all losses after training with each; parameters as `train_networks`."""
    results = train_networks(
        data, recipe, LOSSES, ood_sets, folders, name=name, device=device, amp=amp, announce=announce
    )
    return compare(
        {loss: folders.features / f"{name}.{loss}" for loss in LOSSES},
        {loss: result.history[-1] for loss, result in results.items()},
        tuple(ood_sets),
        folders.scores,
        data_name=data.name,
        device=device,
    )
