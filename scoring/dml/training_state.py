"""The state of a training: everything that the next epoch depends on, written in one step after each epoch."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from manifests.errors import ModelError, one_line
from manifests.tensor_files import check_is_file, read_tensors, tensors_below, write_tensors
from scoring.dml.history import EpochFigures

_RECORD_KEY = "training"


@dataclass(frozen=True, eq=False)
class TrainingState:
    """A training after some epochs.

    Attributes
    ----------
    settings : mapping
        Recipe, data and device, as JSON values: a training goes on only with equal ones.
    history : tuple of EpochFigures
        Of the epochs that are done.
    network : mapping of str to Tensor
        Weights and running means of the network.
    momentum : mapping of str to Tensor
        SGD's, by the name of the weight.
    centers : Tensor, optional
        Of the center loss, (n_classes, n_features).
    """

    settings: Mapping[str, Any]
    history: tuple[EpochFigures, ...]
    network: Mapping[str, torch.Tensor]
    momentum: Mapping[str, torch.Tensor]
    centers: torch.Tensor | None = None


def write_state(path: Path, state: TrainingState) -> None:
    """Write a state to one safetensors file; equal ones are equal bytes."""
    tensors = {f"network.{name}": tensor for name, tensor in state.network.items()}
    tensors |= {f"momentum.{name}": tensor for name, tensor in state.momentum.items()}
    if state.centers is not None:
        tensors["centers"] = state.centers
    record = {"settings": state.settings, "history": [asdict(figures) for figures in state.history]}
    write_tensors(path, tensors, _RECORD_KEY, record)


def read_state(path: Path) -> TrainingState:
    """Return the state in `path`, its tensors on the CPU.

    Raises
    ------
    ModelError
        The file is not there, is damaged, or no state of a training.
    """
    check_is_file(path)
    try:
        tensors, said = read_tensors(path, _RECORD_KEY)
        record = json.loads(said or "{}")
        history = tuple(EpochFigures(**figures) for figures in record["history"])
        settings = dict(record["settings"])
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise unusable_state(path, one_line(error)) from error
    return TrainingState(
        settings,
        history,
        tensors_below("network.", tensors),
        tensors_below("momentum.", tensors),
        tensors.get("centers"),
    )


def unusable_state(path: Path, why: str) -> ModelError:
    """Return the error of a file that is no state of a training, or one that does not fit."""
    return ModelError(f"{path}: not a state of train-dml ({why}); delete it, or give another --name")
