"""The stage `train-dml`: networks trained, their features written, and the three losses compared."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from manifests.work_plan import WorkPlan
from scoring.dml.checkpoint import read_checkpoint
from scoring.dml.compare import Comparison, compare
from scoring.dml.data import TrainingData
from scoring.dml.feature_folders import OodSets, write_feature_folder
from scoring.dml.recipe import LOSSES, Recipe
from scoring.dml.train import CHECKPOINT_FILE_NAME, TrainResult, train

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
        Checkpoints and curves; feature sets; results.
    """

    training: Path
    features: Path
    scores: Path


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
    InputError, ModelError, FeatureError
        As training and extraction.
    """
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
