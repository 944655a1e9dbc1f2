"""The file of a training: everything that the next epoch depends on, written in one step after each epoch."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from manifests.durable import replacing
from manifests.errors import ModelError, one_line
from scoring.dml.history import EpochFigures

_RECORD_KEY = "training"
"""The only entry of the file's header: with several, their order would change from run to run."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
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


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write `checkpoint` to one safetensors file; equal ones are equal bytes."""
    tensors = {f"network.{name}": tensor for name, tensor in checkpoint.network.items()}
    tensors |= {f"momentum.{name}": tensor for name, tensor in checkpoint.momentum.items()}
    if checkpoint.centers is not None:
        tensors["centers"] = checkpoint.centers
    record = {"settings": checkpoint.settings, "history": [asdict(figures) for figures in checkpoint.history]}
    with replacing(path) as temporary:
        save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
            temporary,
            metadata={_RECORD_KEY: json.dumps(record, sort_keys=True)},
        )


def read_checkpoint(path: Path) -> Checkpoint:
    """Return the training in `path`, its tensors on the CPU.

    Raises
    ------
    ModelError
        The file is not there, is damaged, or no training.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such checkpoint of a training")
    try:
        with safe_open(path, framework="pt") as file:
            record = json.loads((file.metadata() or {})[_RECORD_KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        history = tuple(EpochFigures(**figures) for figures in record["history"])
        settings = dict(record["settings"])
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path}: not the checkpoint of a training ({one_line(error)}); delete it") from error
    return Checkpoint(
        settings,
        history,
        _below("network.", tensors),
        _below("momentum.", tensors),
        tensors.get("centers"),
    )


def _below(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
