"""Training of a localizer by the paper's recipe; it may be stopped at any moment and goes on where it was.

An epoch depends on the weights before it, on the seed and on its own number, and on nothing else: order, phrases
and dropout are drawn anew from those. So a state at the end of each epoch is all that resuming takes, and on the
CPU of one machine a training that was killed ends in the same bytes as one that was not.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from curation.clip import ClipEncoder
from curation.localize.batches import Batch, BatchMaker
from curation.localize.checkpoints import LOCALIZER_FILE, LocalizerFacts, save_localizer, trained_localizer
from curation.localize.curves import write_curves
from curation.localize.evaluate import evaluate
from curation.localize.history import EpochFigures
from curation.localize.loss import text_to_pixel_loss
from curation.localize.network import LocalizerNetwork, NetworkSizes, ParameterCounts
from curation.localize.recipe import Recipe
from curation.localize.referring_set import ReferringExample, examples_digest
from curation.localize.towers import frozen_towers
from curation.localize.trained import TrainedLocalizer, pixel_scale
from curation.localize.training_state import TrainingState, read_state, unusable_state, write_state
from manifests.allocator import keep_freed_memory
from manifests.devices import computes_in_bfloat16, repeatable
from manifests.durable import remove_left_overs
from manifests.errors import ModelError, one_line
from manifests.stage_progress import ProgressBar
from manifests.training_files import EpochFiles, check_finite_loss, check_same_settings

STATE_FILE = "training.safetensors"

OTHER_FOLDER = "give the same, or another --out"
"""What to do where a training of other settings is in the way."""

_OF_ADAM = ("step", "exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class TrainingExamples:
    """What to learn from, and what to choose the best epoch by.

    Attributes
    ----------
    train, val : sequence of ReferringExample
        Of two splits.
    n_workers : int
        Threads that read pictures.
    """

    train: Sequence[ReferringExample]
    val: Sequence[ReferringExample]
    n_workers: int = 1


def train_localizer(
    encoder: ClipEncoder,
    sizes: NetworkSizes,
    recipe: Recipe,
    data: TrainingExamples,
    *,
    out_dir: Path,
    amp: bool | None = None,
    announce: Callable[[str], None],
) -> tuple[EpochFigures, ...]:
    """Train, or go on with a training that lies in `out_dir`, and return its epochs.

    `out_dir` then holds the localizer of the epoch with the largest mean IoU on the validation examples, the state
    after the last epoch, and a table and a plot of all epochs.

    Parameters
    ----------
    encoder : ClipEncoder
        Whose towers are bridged, on the device to train on.
    sizes, recipe, data
        Network, settings and examples.
    out_dir : Path
        Of this training alone; made where needed.
    amp : bool, optional
        Whether the network computes in bfloat16, weights and loss staying float32; by default on a GPU that
        has it. The authors have float16, whose small range needs a factor on the loss that changes as the training
        goes; bfloat16 has the range of float32 and needs none.
    announce : callable
        Told the sizes of the network at the start, and one line an epoch.

    Raises
    ------
    InputError
        In `out_dir` lies a training of another recipe, network, CLIP model, device or set of examples.
    ModelError
        Its state is damaged, its localizer is gone, or the loss is no longer finite.
    """
    keep_freed_memory()
    remove_left_overs(out_dir, recursive=False)
    path = out_dir / STATE_FILE
    files = EpochFiles(out_dir, EpochFigures.row, partial(write_curves, title=f"localizer on {encoder.name}"))
    with repeatable(encoder.device):
        settings = _settings(encoder, sizes, recipe, data, amp)
        training = _Training(encoder, sizes, recipe, data, has_amp=settings["amp"])
        history = _restored(training, path, settings) if path.exists() else ()
        if not history:
            for line in training.parameter_counts().lines():
                announce(line)
        n_steps = training.n_steps
        with ProgressBar(recipe.n_epochs * n_steps, "train", unit="step", initial=len(history) * n_steps) as bar:
            for epoch in range(len(history), recipe.n_epochs):
                bar.describe(f"epoch {epoch + 1} of {recipe.n_epochs}")
                loss, images_per_s = training.run_epoch(epoch, bar)
                figures = evaluate(training.localizer(), data.val, n_phrases=1)
                record = EpochFigures(epoch + 1, recipe.learning_rate_at(epoch), loss, figures)
                # The state last: killed between the two, the epoch is run again and writes the same localizer.
                if all(figures.mean_iou > before.figures.mean_iou for before in history):
                    training.save_localizer(out_dir / LOCALIZER_FILE)
                history = (*history, record)
                write_state(path, training.state(settings, history))
                files.after_epoch(history)
                announce(record.told(recipe.n_epochs, images_per_s))
    files.at_end(history)
    return history


def _restored(training: "_Training", path: Path, settings: Mapping[str, Any]) -> tuple[EpochFigures, ...]:
    """Let a training go on from the state in `path`, and return the epochs that are done."""
    found = read_state(path)
    check_same_settings(path, found.settings, settings, instead=OTHER_FOLDER)
    training.restore(found, path)
    localizer_path = path.with_name(LOCALIZER_FILE)
    if not localizer_path.exists():
        raise ModelError(
            f"{localizer_path}: the best epoch's weights are gone, and {path.name} has the last one's alone: "
            f"bring them back, or delete {path.name} to begin anew"
        )
    return found.history


def settings_without_data(
    sizes: NetworkSizes, recipe: Recipe, place: torch.device, amp: bool | None
) -> dict[str, Any]:
    """Return what a training that goes on must keep, but for CLIP and examples; `train_localizer` has the rest."""
    return {
        "recipe": recipe.record(),
        "network": dataclasses.asdict(sizes),
        "device": place.type,
        "amp": computes_in_bfloat16(place) if amp is None else amp,
    }


def _settings(
    encoder: ClipEncoder, sizes: NetworkSizes, recipe: Recipe, data: TrainingExamples, amp: bool | None
) -> dict[str, Any]:
    return {
        **settings_without_data(sizes, recipe, encoder.device, amp),
        "CLIP model": encoder.digest,
        "examples to learn from": examples_digest(data.train),
        "examples to choose by": examples_digest(data.val),
    }


class _Training:
    """Network and optimiser of one training."""

    def __init__(
        self, encoder: ClipEncoder, sizes: NetworkSizes, recipe: Recipe, data: TrainingExamples, *, has_amp: bool
    ) -> None:
        self._encoder, self._recipe, self._has_amp = encoder, recipe, has_amp
        self._scale = pixel_scale(encoder)
        self._batches = BatchMaker(
            data.train, recipe.batch_size, sizes.input_px, self._scale.colour, recipe.seed, data.n_workers
        )
        torch.manual_seed(recipe.seed_of("weights"))
        self._network = LocalizerNetwork(frozen_towers(encoder.network), sizes).to(encoder.device)
        named = dict(self._network.named_parameters())
        in_bridger = {name: weight for name, weight in named.items() if name.startswith("bridger.")}
        others = {name: weight for name, weight in named.items() if name not in in_bridger}
        # In the order in which Adam counts them. An image tower without position embeddings has none to train.
        self._weights = in_bridger | others
        self._numbers = {name: number for number, name in enumerate(self._weights) if self._weights[name].numel()}
        self._optimizer = torch.optim.Adam(
            [
                {"params": list(in_bridger.values()), "factor": recipe.bridger_factor},
                {"params": list(others.values()), "factor": 1.0},
            ],
            lr=recipe.learning_rate,
        )

    @property
    def n_steps(self) -> int:
        """Steps of an epoch."""
        return self._batches.n_batches

    def parameter_counts(self) -> ParameterCounts:
        """Return how many weights each part of the network has."""
        return self._network.parameter_counts()

    def state(self, settings: dict[str, Any], history: tuple[EpochFigures, ...]) -> TrainingState:
        """Return what the next epoch depends on."""
        remembered = self._optimizer.state
        adam = {
            f"{what}.{name}": remembered[self._weights[name]][what] for name in self._numbers for what in _OF_ADAM
        }
        return TrainingState(settings, history, self._network.state_dict(), adam)

    def restore(self, found: TrainingState, path: Path) -> None:
        """Go on from a state."""
        try:
            self._network.load_state_dict(dict(found.network))
            remembered = {
                number: {what: found.adam[f"{what}.{name}"] for what in _OF_ADAM}
                for name, number in self._numbers.items()
            }
        except (RuntimeError, KeyError) as error:
            raise unusable_state(path, one_line(error)) from error
        for name, number in self._numbers.items():
            for what, tensor in remembered[number].items():
                if tensor.shape != (torch.Size() if what == "step" else self._weights[name].shape):
                    raise unusable_state(path, f"{what}.{name} is of another shape")
        self._optimizer.load_state_dict({**self._optimizer.state_dict(), "state": remembered})

    def run_epoch(self, epoch: int, progress: ProgressBar) -> tuple[float, float]:
        """Learn from the examples once; return the mean loss, and how many pictures went by a second."""
        # Dropout draws from torch's own generator: set anew, it depends on the epoch alone.
        torch.manual_seed(self._recipe.seed_of("dropout", epoch))
        for group in self._optimizer.param_groups:
            group["lr"] = self._recipe.learning_rate_at(epoch) * group["factor"]
        self._network.train()
        total = torch.zeros((), dtype=torch.float64, device=self._encoder.device)
        began = time.monotonic()
        for batch in self._batches.of_epoch(epoch):
            total += self._step(batch)
            progress.update()
        loss = float(total) / self.n_steps
        images_per_s = self.n_steps * self._recipe.batch_size / (time.monotonic() - began)
        check_finite_loss(loss, epoch)
        return loss, images_per_s

    def _step(self, batch: Batch) -> torch.Tensor:
        """Take one step of Adam, and return the loss, on the device."""
        device = self._encoder.device
        pixels = self._scale.normalised(batch.pixels.to(device, non_blocking=True))
        tokens = self._encoder.tokens(batch.phrases, self._network.sizes.n_words).to(device)
        masks = batch.masks.to(device, non_blocking=True).float() / 255
        with torch.autocast(device.type, torch.bfloat16, enabled=self._has_amp):
            logits = self._network(pixels, tokens)
        loss = text_to_pixel_loss(logits.float(), masks)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()
        return loss.detach()

    def localizer(self) -> TrainedLocalizer:
        """Return the network as it is, in evaluation mode."""
        return trained_localizer(self._network, self._encoder, self._facts)

    def save_localizer(self, path: Path) -> None:
        """Write the network as it is."""
        save_localizer(path, self._network, self._facts)

    @property
    def _facts(self) -> LocalizerFacts:
        return LocalizerFacts(
            name=f"localizer on {self._encoder.name}",
            clip_digest=self._encoder.digest,
            clip_name=self._encoder.name,
            sizes=self._network.sizes,
        )
