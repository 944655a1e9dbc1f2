"""Training of a localizer by the paper's recipe; it may be stopped at any moment and goes on where it was.

An epoch depends on the weights before it, on the seed and on its own number, and on nothing else: order, phrases
and dropout are drawn anew from those. So a state at the end of each epoch is all that resuming takes, and on the
CPU of one machine a training that was killed ends in the same bytes as one that was not.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from curation.clip import ClipEncoder
from curation.localize.batches import Batch, BatchMaker
from curation.localize.checkpoints import (
    LocalizerFacts,
    load_state,
    save_localizer,
    save_state,
    trained_localizer,
    unusable_state,
)
from curation.localize.evaluate import evaluate
from curation.localize.loss import text_to_pixel_loss
from curation.localize.metrics import SegmentationFigures
from curation.localize.network import LocalizerNetwork, NetworkSizes
from curation.localize.referring_set import ReferringExample, examples_digest
from curation.localize.towers import frozen_towers
from curation.localize.trained import pixel_scale
from manifests.durable import write_text
from manifests.errors import InputError, ModelError, one_line

LOCALIZER_FILE = "localizer.safetensors"
STATE_FILE = "training.pt"
HISTORY_FILE = "history.csv"


@dataclass(frozen=True)
class TrainingPlan:
    """How to train; the defaults are the authors' settings.

    Attributes
    ----------
    n_epochs : int
        Passes over the examples.
    milestone : int
        Epochs at the full learning rate; a tenth of it afterwards.
    batch_size : int
        Examples of a step.
    learning_rate : float
        Adam's.
    bridger_factor : float
        Times the learning rate for the Bridger. The paper has 10 with a vision transformer, the authors' settings
        1; in their code it is without effect.
    seed : int
        Of weights, order, phrases and dropout.
    """

    n_epochs: int = 50
    milestone: int = 35
    batch_size: int = 32
    learning_rate: float = 1e-4
    bridger_factor: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        ranges = {
            "n_epochs": (self.n_epochs >= 1, "at least 1"),
            "milestone": (self.milestone >= 0, "at least 0"),
            "batch_size": (self.batch_size >= 1, "at least 1"),
            "learning_rate": (0 < self.learning_rate < math.inf, "a number above 0"),
            "bridger_factor": (0 < self.bridger_factor < math.inf, "a number above 0"),
            "seed": (self.seed >= 0, "at least 0"),
        }
        for name, (is_right, expected) in ranges.items():
            if not is_right:
                raise InputError(f"train-localizer: {name}: expected {expected}, found {getattr(self, name)!r}")

    def learning_rate_at(self, epoch: int) -> float:
        """Return the rate of an epoch, counted from 0."""
        return self.learning_rate * (0.1 if epoch >= self.milestone else 1.0)


@dataclass(frozen=True)
class EpochRecord:
    """What an epoch gave.

    Attributes
    ----------
    epoch : int
        Counted from 1.
    learning_rate, loss : float
        Adam's rate, and the mean loss of the steps.
    figures : SegmentationFigures
        On the validation examples, the first phrase of each.
    """

    epoch: int
    learning_rate: float
    loss: float
    figures: SegmentationFigures


@dataclass(frozen=True)
class TrainingData:
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
    plan: TrainingPlan,
    data: TrainingData,
    *,
    out_dir: Path,
    announce: Callable[[str], None],
) -> list[EpochRecord]:
    """Train, or go on with a training that lies in `out_dir`, and return its epochs.

    `out_dir` then holds the localizer of the epoch with the largest mean IoU on the validation examples, the state
    after the last epoch, and a table of all epochs.

    Raises
    ------
    InputError
        In `out_dir` lies a training of another plan, network, CLIP model or set of examples.
    ModelError
        The loss is not a number any more.
    """
    training = _Training(encoder, sizes, plan, data, out_dir)
    training.resume()
    for line in training.network.parameter_counts().lines() if not training.history else ():
        announce(line)
    for epoch in range(len(training.history), plan.n_epochs):
        training.run_epoch(epoch)
        announce(_line(training.history[-1], plan.n_epochs))
    training.write_history()
    return training.history


class _Training:
    """Network, optimiser and history of one training."""

    def __init__(
        self, encoder: ClipEncoder, sizes: NetworkSizes, plan: TrainingPlan, data: TrainingData, out_dir: Path
    ) -> None:
        self._encoder, self._plan, self._data, self._out_dir = encoder, plan, data, out_dir
        self._scale = pixel_scale(encoder)
        self._batches = BatchMaker(
            data.train, plan.batch_size, sizes.input_px, self._scale.colour, plan.seed, data.n_workers
        )
        torch.manual_seed(plan.seed)
        self.network = LocalizerNetwork(frozen_towers(encoder.network), sizes).to(encoder.device)
        bridger = list(self.network.bridger.parameters())
        in_bridger = {id(weight) for weight in bridger}
        others = [weight for weight in self.network.parameters() if id(weight) not in in_bridger]
        self._optimizer = torch.optim.Adam(
            [{"params": bridger, "factor": plan.bridger_factor}, {"params": others, "factor": 1.0}],
            lr=plan.learning_rate,
        )
        self._has_gpu = encoder.device.type == "cuda"
        self._scaler = torch.amp.GradScaler(encoder.device.type, enabled=self._has_gpu)
        self.history: list[EpochRecord] = []

    @functools.cached_property
    def _asked(self) -> dict[str, Any]:
        """What a resumed training must have in common with the one before: all but how long it goes on."""
        plan = dataclasses.asdict(self._plan)
        del plan["n_epochs"]
        return {
            "plan": plan,
            "network": dataclasses.asdict(self.network.sizes),
            "CLIP model": self._encoder.digest,
            "examples to learn from": examples_digest(self._data.train),
            "examples to choose by": examples_digest(self._data.val),
        }

    def resume(self) -> None:
        """Take up the state of the last epoch that was done, if there is one."""
        path = self._out_dir / STATE_FILE
        if not path.exists():
            return
        state = load_state(path)
        found = _first_difference(state["asked"], self._asked, "the training")
        if found is not None:
            name, before, now = found
            raise InputError(
                f"{path}: {name}: this training was begun with {before}, and now it is {now}; give the same, or "
                f"another --out"
            )
        try:
            self.network.load_state_dict(state["network"])
            self._optimizer.load_state_dict(state["optimizer"])
            self._scaler.load_state_dict(state["scaler"])
            self.history = [
                EpochRecord(**{**epoch, "figures": SegmentationFigures(**epoch["figures"])})
                for epoch in state["history"]
            ]
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise unusable_state(path, one_line(error)) from error

    def run_epoch(self, epoch: int) -> None:
        """Train for an epoch, judge the network, and write what there is."""
        # Dropout draws from torch's own generator: set anew, it depends on the epoch alone.
        torch.manual_seed(self._plan.seed + (epoch + 1) * 1_000_003)
        rate = self._plan.learning_rate_at(epoch)
        for group in self._optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        self.network.train()
        bar = tqdm(
            self._batches.of_epoch(epoch),
            total=self._batches.n_batches,
            desc=f"epoch {epoch + 1}",
            unit="step",
            disable=None,
            leave=False,
        )
        loss = self._run_steps(bar)
        if loss != loss:
            raise ModelError(f"epoch {epoch + 1}: the loss is not a number; try a smaller --learning-rate")
        localizer = trained_localizer(self.network, self._encoder, self._facts)
        figures = evaluate(localizer, self._data.val, n_phrases=1).figures()
        is_best = all(figures.mean_iou > record.figures.mean_iou for record in self.history)
        self.history.append(EpochRecord(epoch + 1, rate, loss, figures))
        # The state last: killed between the two, the epoch is run again and writes the same localizer.
        if is_best:
            save_localizer(self._out_dir / LOCALIZER_FILE, self.network, self._facts)
        self._save_state()

    def _run_steps(self, batches: Iterable[Batch]) -> float:
        total, n_steps = 0.0, 0
        for batch in batches:
            loss = self._loss(batch)
            self._optimizer.zero_grad(set_to_none=True)
            self._scaler.scale(loss).backward()
            self._scaler.step(self._optimizer)
            self._scaler.update()
            total, n_steps = total + float(loss.detach()), n_steps + 1
        return total / n_steps

    def _loss(self, batch: Batch) -> torch.Tensor:
        device = self._encoder.device
        pixels = self._scale.normalised(batch.pixels.to(device, non_blocking=True))
        tokens = self._encoder.tokens(batch.phrases, self.network.sizes.n_words).to(device)
        masks = batch.masks.to(device, non_blocking=True).float() / 255
        with torch.autocast(device.type, enabled=self._has_gpu):
            logits = self.network(pixels, tokens)
        return text_to_pixel_loss(logits.float(), masks)

    @property
    def _facts(self) -> LocalizerFacts:
        return LocalizerFacts(
            name=f"localizer on {self._encoder.name}",
            clip_digest=self._encoder.digest,
            clip_name=self._encoder.name,
            sizes=self.network.sizes,
        )

    def _save_state(self) -> None:
        state = {
            "asked": self._asked,
            "network": self.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "history": [dataclasses.asdict(record) for record in self.history],
        }
        save_state(self._out_dir / STATE_FILE, state)

    def write_history(self) -> None:
        """Write the table of all epochs."""
        names = ["epoch", "learning_rate", "loss", *self.history[0].figures.as_row()]
        rows = [
            [record.epoch, record.learning_rate, record.loss, *record.figures.as_row().values()]
            for record in self.history
        ]
        lines = [",".join(names), *(",".join(repr(value) for value in row) for row in rows)]
        write_text(self._out_dir / HISTORY_FILE, "\n".join(lines) + "\n")


def _first_difference(before: Any, now: Any, name: str) -> tuple[str, Any, Any] | None:
    """Return the name of the first field that differs, and both its values."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        found = (_first_difference(before.get(field), value, field) for field, value in now.items())
        return next((difference for difference in found if difference is not None), None)
    return None if before == now else (name, before, now)


def _line(record: EpochRecord, n_epochs: int) -> str:
    figures = record.figures
    return (
        f"epoch {record.epoch} of {n_epochs}: loss {record.loss:.4f}, mean IoU {figures.mean_iou:.3f}, "
        f"overall IoU {figures.overall_iou:.3f}, precision at 0.5 {figures.precision_at[0]:.3f}"
    )
