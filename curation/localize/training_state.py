"""The state of a training: everything that the next epoch depends on, written in one step after each epoch."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from curation.localize.history import EpochFigures
from manifests.errors import ModelError, one_line
from manifests.tensor_files import read_tensors, tensors_below, write_tensors

_RECORD_KEY = "training"
_NETWORK, _ADAM = "network.", "adam."


@dataclass(frozen=True, eq=False)
class TrainingState:
    """A training after some epochs.

    Attributes
    ----------
    settings : mapping
        What a training that goes on must have in common with this one, as JSON values.
    history : tuple of EpochFigures
        Of the epochs that are done.
    network : mapping of str to Tensor
        Weights and running means of the network.
    adam : mapping of str to Tensor
        What Adam remembers of each weight, by ``<what>.<name of the weight>``.
    """

    settings: Mapping[str, Any]
    history: tuple[EpochFigures, ...]
    network: Mapping[str, torch.Tensor]
    adam: Mapping[str, torch.Tensor]


def write_state(path: Path, state: TrainingState) -> None:
    """Write a state to one safetensors file; equal ones are equal bytes."""
    tensors = {f"{_NETWORK}{name}": tensor for name, tensor in state.network.items()}
    tensors |= {f"{_ADAM}{name}": tensor for name, tensor in state.adam.items()}
    record = {"settings": state.settings, "history": [asdict(epoch) for epoch in state.history]}
    write_tensors(path, tensors, _RECORD_KEY, record)


def read_state(path: Path) -> TrainingState:
    """Return the state in `path`, its tensors on the CPU.

    Raises
    ------
    ModelError
        It cannot be read, or is no state of a training.
    """
    try:
        tensors, said = read_tensors(path, _RECORD_KEY)
        record = json.loads(said or "{}")
        history = tuple(EpochFigures.from_record(epoch) for epoch in record["history"])
        settings = dict(record["settings"])
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise unusable_state(path, one_line(error)) from error
    return TrainingState(settings, history, tensors_below(_NETWORK, tensors), tensors_below(_ADAM, tensors))


def unusable_state(path: Path, why: str) -> ModelError:
    """Return the error of a file that is no state of a training, or one that does not fit."""
    return ModelError(f"{path}: not a state of train-localizer ({why}); delete it, or give another --out")
