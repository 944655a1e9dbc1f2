"""Files of tensors with a record of what they are. Torch is loaded by the functions, not with this file."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import safe_open

from manifests.durable import write_bytes
from manifests.errors import ModelError

if TYPE_CHECKING:
    import torch


def write_tensors(path: Path, tensors: Mapping[str, "torch.Tensor"], key: str, record: Mapping[str, Any]) -> None:
    """Write tensors, and in the file's header a record of JSON values below `key`; equal ones are equal bytes."""
    from safetensors.torch import save

    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # One entry in the header: safetensors writes several in an order that differs from run to run.
    write_bytes(path, save(stored, {key: json.dumps(record, sort_keys=True)}))


def check_is_file(checkpoint: Path, flag: str = "", *, file_name: str | None = None) -> None:
    """Refuse the path of a checkpoint where no file is, before a library says so in words of its own.

    Parameters
    ----------
    checkpoint : Path
        What was given.
    flag : str
        By which option, named in front of the message.
    file_name : str, optional
        What such a file is called in the folder of the training that wrote it.

    Raises
    ------
    ModelError
        There is a folder, or nothing.
    """
    where = f"{flag} {checkpoint}".lstrip()
    if checkpoint.is_dir():
        inside = checkpoint / file_name if file_name else checkpoint
        told = f"; give {inside}" if inside.is_file() else ""
        raise ModelError(f"{where}: expected a file, found a folder{told}")
    if not checkpoint.is_file():
        raise ModelError(f"{where}: no such file")


def read_record(path: Path, key: str) -> str | None:
    """Return the JSON that the header of a safetensors file has below `key`, without its tensors.

    Raises
    ------
    OSError, safetensors.SafetensorError
        The file cannot be read, or is damaged: a header says how long its file is.
    """
    with safe_open(path, framework="np") as stored:
        return (stored.metadata() or {}).get(key)


def read_tensors(path: Path, key: str) -> tuple[dict[str, "torch.Tensor"], str | None]:
    """Return the tensors of a safetensors file, on the CPU, and the JSON that its header has below `key`.

    Raises
    ------
    OSError, safetensors.SafetensorError
        The file cannot be read, or is damaged.
    """
    with safe_open(path, framework="pt") as stored:
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118, it is no mapping
        return tensors, (stored.metadata() or {}).get(key)


def tensors_below(prefix: str, tensors: Mapping[str, "torch.Tensor"]) -> dict[str, "torch.Tensor"]:
    """Return the tensors whose names begin with `prefix`, named by what follows it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
