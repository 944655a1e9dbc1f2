"""The stage `train-dml`: networks trained, their features written, and the three losses compared."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from manifests.errors import InputError
from manifests.work_plan import WorkPlan
from scoring.dml.checkpoint import read_checkpoint
from scoring.dml.compare import Comparison, compare
from scoring.dml.data import TrainingData
from scoring.dml.feature_folders import OodSets, check_sides, write_feature_folder
from scoring.dml.networks import TIMM_PREFIX
from scoring.dml.recipe import LOSSES, Recipe
from scoring.dml.train import CHECKPOINT_FILE_NAME, TrainResult, train

SAMPLE_RECIPE = Recipe(
    loss="cosine", network="tiny", n_epochs=50, batch_size=64, dropout=0.1, center_schedule="scaled"
)  # fmt: skip
"""For the drawn sample on a processor, in minutes."""

SAMPLE_SIDE_PX = 48

_LOSSES_THAT_TAKE = {
    "gamma": {"mcf"}, "focal_gradient": {"mcf"}, "scale": {"cosine", "mcf"}, "center_schedule": {"mnc"},
}  # fmt: skip


@dataclass(frozen=True)
class Folders:
    """Where networks of one workspace go: each has a folder of its own name in all three.

    Attributes
    ----------
    training, features, scores : Path
        Checkpoints and curves; feature sets; results.
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
        replace(recipe, loss=loss)
    for name, takers in _LOSSES_THAT_TAKE.items():
        if name in own and takers.isdisjoint(losses):
            told = f"{', '.join(losses)}: it is for {', '.join(sorted(takers))}"
            raise InputError(f"training: {name} has no effect on {told}")
    if "dropout" in own and recipe.network.startswith(TIMM_PREFIX):
        raise InputError(f"training: dropout has no effect on {recipe.network}: networks of timm keep their own")
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
    recipes = {loss: replace(recipe, loss=loss) for loss in losses}
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
    recipe: Recipe, losses: Sequence[str], folders: Folders, *, name: str, data_name: str
) -> WorkPlan:
    """Return how many epochs `train_networks` would train, by the checkpoints that lie in its folders.

    Raises
    ------
    ModelError
        A checkpoint cannot be read.
    """
    names = [f"{name}.{loss}" for loss in losses]
    checkpoints = [folders.training / one / CHECKPOINT_FILE_NAME for one in names]
    n_done = sum(len(read_checkpoint(path).history) for path in checkpoints if path.exists())
    return WorkPlan(
        max(0, len(names) * recipe.n_epochs - n_done), n_done, unit="epochs", reads=[data_name],
        writes=[str(folder / one) for one in names for folder in (folders.training, folders.features)],
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
    """Return the comparison of all three losses after training with each; parameters as `train_networks`."""
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
