"""Training one network of DML+: epochs, their figures, and its state after each, from which it goes on."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from manifests.allocator import keep_freed_memory
from manifests.devices import computes_in_bfloat16, device_name, repeatable
from manifests.errors import InputError, one_line
from manifests.plots.style import ON_PAPER
from manifests.stage_progress import ProgressBar
from manifests.training_files import EpochFiles, check_finite_loss, check_same_settings
from scoring.classifier import Preprocessing
from scoring.dml.augmentation import cropped_and_mirrored, inputs_of
from scoring.dml.convergence import measured_convergence
from scoring.dml.data import TrainingData
from scoring.dml.history import EpochFigures
from scoring.dml.losses import center_loss, focal_loss, moved_centers
from scoring.dml.networks import ClassifierNetwork, classifier_network
from scoring.dml.recipe import Recipe
from scoring.dml.trained import TrainedNetwork, evaluated, head_of, preprocessing_record, trained_network
from scoring.dml.training_state import TrainingState, read_state, unusable_state, write_state
from scoring.plots.training_curves import training_figure

STATE_FILE = "checkpoint.safetensors"

OTHER_FOLDER = "give another --name, or delete the folder"
"""What to do where a training of other settings is in the way."""

_MOST_MEASURED = 10_000
"""Training pictures, evenly spaced, that WFC and CFC are taken of after every epoch: of CIFAR, every fifth."""


@dataclass(frozen=True, eq=False)
class TrainResult:
    """What `train` came to.

    Attributes
    ----------
    model : TrainedNetwork
        After the last epoch, on the device that it was trained on.
    history : tuple of EpochFigures
        Every epoch.
    n_done_before : int
        Epochs that earlier runs had done, and this one did not repeat.
    paths : tuple of Path
        State, table and plot of the epochs.
    """

    model: TrainedNetwork
    history: tuple[EpochFigures, ...]
    n_done_before: int
    paths: tuple[Path, ...]


def train(
    data: TrainingData,
    recipe: Recipe,
    out_dir: Path,
    *,
    device: str = "auto",
    amp: bool | None = None,
    announce: Callable[[str], None] | None = None,
) -> TrainResult:
    """Return a trained network and its history, after writing both and the curves to `out_dir`.

    After each epoch ``checkpoint.safetensors`` and ``history.csv`` are replaced, each in one step, and now and
    then ``curves.png``. A run that was stopped goes on with the epoch that it was in, and ends in the bytes of an
    undisturbed one on the same device with the same number of threads: all that is drawn in an epoch depends on
    seed and epoch alone.

    Parameters
    ----------
    data : TrainingData
        Pictures.
    recipe : Recipe
        Settings.
    out_dir : Path
        Of this training alone; made where needed.
    device : {"auto", "cpu", "cuda", "cuda:N"}
        Where to compute.
    amp : bool, optional
        Whether convolutions are in bfloat16, losses and weights staying float32; by default on a GPU that
        computes in it.
    announce : callable, optional
        Told one line an epoch.

    Raises
    ------
    InputError
        `out_dir` holds a training of other settings or data; fewer pictures than two; no such device.
    ModelError
        The network cannot be made, the state is damaged, or the loss is no longer finite.
    """
    keep_freed_memory()
    place = place_of(device)
    settings = {
        **settings_without_data(recipe, data.preprocessing, place, amp),
        "data": {"name": data.name, "n_classes": data.n_classes, "sha256": dict(data.digests)},
    }
    if len(data.train.targets) < 2:
        raise InputError(f"{data.name}: expected at least two training pictures, found {len(data.train.targets)}")
    path = out_dir / STATE_FILE
    files = EpochFiles(out_dir, asdict, partial(_write_curves, title=f"{recipe.loss}, {recipe.network}"))
    with repeatable(place):
        training = _Training(data, recipe, place, settings["amp"])
        history: tuple[EpochFigures, ...] = ()
        if path.exists():
            found = read_state(path)
            check_same_settings(path, found.settings, settings, instead=OTHER_FOLDER)
            training.restore(found, path)
            history = found.history
        n_before = len(history)
        n_steps = training.n_steps
        with ProgressBar(recipe.n_epochs * n_steps, recipe.loss, unit="step", initial=n_before * n_steps) as bar:
            for epoch in range(n_before, recipe.n_epochs):
                bar.describe(f"{recipe.loss}, epoch {epoch + 1} of {recipe.n_epochs}")
                figures, images_per_s = training.run_epoch(epoch, bar)
                history = (*history, figures)
                write_state(path, training.state(settings, history))
                files.after_epoch(history)
                if announce is not None:
                    announce(figures.told(recipe.n_epochs, images_per_s))
    files.at_end(history)
    return TrainResult(trained_network(read_state(path), path, device), history, n_before, (path, *files.paths))


def settings_without_data(
    recipe: Recipe, preprocessing: Preprocessing, place: torch.device, amp: bool | None
) -> dict[str, Any]:
    """Return what a training that goes on must keep, but for the pictures; parameters as `train`."""
    return {
        "recipe": recipe.record(),
        "preprocessing": preprocessing_record(preprocessing),
        "device": place.type,
        "amp": computes_in_bfloat16(place) if amp is None else amp,
    }


def place_of(device: str) -> torch.device:
    """Return the device of that name; InputError where there is none."""
    return torch.device(device_name(device, has_cuda=torch.cuda.is_available()))


class _Training:
    """A training in progress."""

    def __init__(self, data: TrainingData, recipe: Recipe, place: torch.device, has_amp: bool) -> None:
        self._data = data
        self._recipe = recipe
        self._place = place
        self._has_amp = has_amp
        self._batch_size = min(recipe.batch_size, len(data.train.targets))
        torch.manual_seed(recipe.seed_of("weights"))
        network = classifier_network(
            recipe.network, data.n_classes, side_px=data.preprocessing.input_size_px, dropout=recipe.dropout,
            is_cosine=recipe.has_cosine_classifier,
        )  # fmt: skip
        self._network: ClassifierNetwork = network.to(place).to(memory_format=torch.channels_last)
        centers = torch.randn(data.n_classes, network.weight.shape[1])
        self._centers = centers.to(place) if recipe.loss == "mnc" else None
        self._optimizer = torch.optim.SGD(
            self._network.parameters(),
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
        )
        preprocessing = data.preprocessing
        self._mean, self._std = (
            torch.tensor(values, device=place)[:, None, None] for values in (preprocessing.mean, preprocessing.std)
        )

    @property
    def n_steps(self) -> int:
        """Steps of an epoch."""
        return len(self._data.train.targets) // self._batch_size

    def state(self, settings: dict[str, Any], history: tuple[EpochFigures, ...]) -> TrainingState:
        """Return what the next epoch depends on."""
        momentum = {
            name: self._optimizer.state[weight]["momentum_buffer"]
            for name, weight in self._network.named_parameters()
        }
        return TrainingState(settings, history, self._network.state_dict(), momentum, self._centers)

    def restore(self, found: TrainingState, path: Path) -> None:
        """Go on from a state."""
        names = [name for name, _ in self._network.named_parameters()]
        if found.momentum.keys() != set(names) or (found.centers is None) != (self._centers is None):
            raise unusable_state(path, "it lacks momentum or centers of this training")
        try:
            self._network.load_state_dict(dict(found.network))
        except RuntimeError as error:
            raise unusable_state(path, one_line(error)) from error
        state = self._optimizer.state_dict()
        state["state"] = {number: {"momentum_buffer": found.momentum[name]} for number, name in enumerate(names)}
        self._optimizer.load_state_dict(state)
        if found.centers is not None:
            self._centers = found.centers.to(self._place)

    def run_epoch(self, epoch: int, progress: ProgressBar) -> tuple[EpochFigures, float]:
        """Learn from every picture once, and return the figures and how many pictures went by a second."""
        recipe, train_part = self._recipe, self._data.train
        generator = torch.Generator().manual_seed(recipe.seed_of("pictures", epoch))
        torch.manual_seed(recipe.seed_of("dropout", epoch))
        for group in self._optimizer.param_groups:
            group["lr"] = recipe.learning_rate_at(epoch)
        self._network.train()
        # As the authors', an epoch leaves out what does not fill a batch; which these are changes with the epoch.
        n_seen = self.n_steps * self._batch_size
        order = torch.randperm(len(train_part.targets), generator=generator)[:n_seen]
        sums = torch.zeros(2, dtype=torch.float64, device=self._place)
        began = time.monotonic()
        for chosen in order.split(self._batch_size):
            pixels = cropped_and_mirrored(train_part.pixels[chosen].to(self._place), generator)
            targets = train_part.targets[chosen].to(self._place)
            sums += self._step(pixels, targets, recipe.center_weight(epoch)) * len(chosen)
            progress.update()
        loss, accuracy = (sums / n_seen).tolist()
        images_per_s = n_seen / (time.monotonic() - began)
        check_finite_loss(loss, epoch)
        return self._figures(epoch, loss, accuracy), images_per_s

    def _step(self, pixels: torch.Tensor, targets: torch.Tensor, center_weight: float) -> torch.Tensor:
        """Take one step of SGD; return loss and share of right pictures, float64 (2,), on the device."""
        recipe, network = self._recipe, self._network
        with torch.autocast(self._place.type, torch.bfloat16, enabled=self._has_amp):
            features = network(inputs_of(pixels, self._mean, self._std))
        features = features.float()  # (n, n_features)
        seen = recipe.scale * torch.nn.functional.normalize(features) if recipe.has_unit_features else features
        logits = torch.nn.functional.linear(seen, *network.classifier)
        if recipe.loss == "mcf":
            is_constant = recipe.focal_gradient == "published"
            loss = focal_loss(logits, targets, recipe.gamma, is_weight_constant=is_constant)
        else:
            loss = torch.nn.functional.cross_entropy(logits, targets)
        if self._centers is not None and center_weight:
            loss = loss + center_weight * center_loss(features, self._centers, targets)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()
        if self._centers is not None and center_weight:
            self._centers = moved_centers(features.detach(), self._centers, targets)
        accuracy = (logits.argmax(dim=1) == targets).double().mean()
        return torch.stack([loss.detach().double(), accuracy])

    def _figures(self, epoch: int, loss: float, accuracy: float) -> EpochFigures:
        recipe, data = self._recipe, self._data
        head = head_of(self._network).to(torch.device("cpu"))
        every = -(-len(data.train.targets) // _MOST_MEASURED)
        features = evaluated(self._network, data.train.pixels[::every], data.preprocessing, recipe.batch_size)
        measured = measured_convergence(head, features, data.train.targets[::every])
        of_val = evaluated(self._network, data.val.pixels, data.preprocessing, recipe.batch_size)
        is_right = head.logits(of_val).argmax(dim=1) == data.val.targets
        return EpochFigures(
            epoch=epoch + 1,
            learning_rate=recipe.learning_rate_at(epoch),
            center_weight=recipe.center_weight(epoch),
            loss=loss,
            train_accuracy=accuracy,
            val_accuracy=float(is_right.double().mean()),
            wfc=None if measured is None else measured.within_class,
            cfc=None if measured is None else measured.class_mean,
        )


def _write_curves(history: Sequence[EpochFigures], path: Path, *, title: str) -> None:
    ON_PAPER.write(training_figure(history, title=title), path)
