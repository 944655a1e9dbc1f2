"""What a training asks before it goes on, and the table and the plot that it keeps of its epochs.

This file itself knows no network: it is for every stage that trains one.
"""

import csv
import io
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from manifests.durable import write_text
from manifests.errors import InputError, ModelError

HISTORY_FILE_NAME = "history.csv"
CURVES_FILE_NAME = "curves.png"

_SECONDS_BETWEEN_CURVES = 30
"""Drawing takes half a second, which of a small network is a whole epoch."""

ONLY_THE_RUN_SEES = "whether pictures and model are those of the epochs done is seen by the run alone"
"""Note of the plan of a training that goes on."""

Epoch = TypeVar("Epoch")


def check_ranges(stage: str, settings: object, ranges: Mapping[str, tuple[bool, str]]) -> None:
    """Refuse settings of which one is out of its range, naming the first.

    Parameters
    ----------
    stage : str
        Before the message.
    settings : object
        Has each setting as an attribute.
    ranges : mapping of str to (bool, str)
        By setting, whether it is right, and what is expected.

    Raises
    ------
    InputError
        One is not right.
    """
    for name, (is_right, expected) in ranges.items():
        if not is_right:
            raise InputError(f"{stage}: {name}: expected {expected}, found {getattr(settings, name)!r}")


def check_same_settings(
    path: Path, found: Mapping[str, Any], now: Mapping[str, Any], *, instead: str, is_plan: bool = False
) -> None:
    """Refuse to go on with a training of other settings, naming the first that differs.

    Parameters
    ----------
    path : Path
        Of the state that holds what was `found`.
    found, now : mapping
        Settings by name, mappings among them; a setting within one is named after it, as in ``recipe seed``. The
        order of `now` is that of telling.
    instead : str
        What to do where they differ.
    is_plan : bool
        Whether `now` holds what is known before pictures and weights are read: what it lacks is not compared.

    Raises
    ------
    InputError
        A setting differs.
    """
    flat_found, flat_now = dict(_flat(found)), dict(_flat(now))
    # What is known first is told first: another size of pictures is the reason of other pixels.
    for name in flat_now if is_plan else {**flat_now, **flat_found}:
        if flat_now.get(name) != flat_found.get(name):
            raise InputError(
                f"{path}: a training with another {name} ({flat_found.get(name)}, now {flat_now.get(name)}); "
                f"{instead}"
            )


def check_finite_loss(loss: float, epoch: int) -> None:
    """Refuse to go on after an epoch, counted from 0, whose loss is no number.

    Raises
    ------
    ModelError
        The loss is NaN or infinite.
    """
    if not math.isfinite(loss):
        raise ModelError(
            f"the loss of epoch {epoch + 1} is {loss}: the training diverged; lower the learning rate"
        )


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from _flat(part, f"{prefix}{name} ")
    else:
        yield prefix.strip(), value


class EpochFiles(Generic[Epoch]):
    """``history.csv`` and ``curves.png`` in the folder of a training, each written in one step.

    Parameters
    ----------
    folder : Path
        Of one training alone.
    row : callable
        Returns what the table says of an epoch, by column, the same columns of each; what is None stays empty.
    draw : callable
        Writes the plot of all epochs to a path.
    """

    def __init__(
        self,
        folder: Path,
        row: Callable[[Epoch], Mapping[str, object]],
        draw: Callable[[Sequence[Epoch], Path], None],
    ) -> None:
        self.paths = (folder / HISTORY_FILE_NAME, folder / CURVES_FILE_NAME)
        self._row, self._draw = row, draw
        self._drawn_s = time.monotonic()

    def after_epoch(self, history: Sequence[Epoch]) -> None:
        """Write the table of all epochs so far, and where the last drawing is some time ago their plot."""
        self._write_table(history)
        if time.monotonic() - self._drawn_s > _SECONDS_BETWEEN_CURVES:
            self._draw(history, self.paths[1])
            self._drawn_s = time.monotonic()

    def at_end(self, history: Sequence[Epoch]) -> None:
        """Write both: the table too, as a run that was killed between two files lacks its last epoch."""
        self._write_table(history)
        self._draw(history, self.paths[1])

    def _write_table(self, history: Sequence[Epoch]) -> None:
        rows = [self._row(epoch) for epoch in history]
        stream = io.StringIO()
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.paths[0], stream.getvalue())
