"""Files of tensors with a record of what they are. Torch is loaded by the functions, not with this file."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import safe_open

from manifests.durable import write_bytes

if TYPE_CHECKING:
    import torch


def write_tensors(path: Path, tensors: Mapping[str, "torch.Tensor"], key: str, record: Mapping[str, Any]) -> None:
    """Write tensors, and in the file's header a record of JSON values below `key`; equal ones are equal bytes."""
    from safetensors.torch import save

    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # One entry in the header: safetensors writes several in an order that differs from run to run.
    write_bytes(path, save(stored, {key: json.dumps(record, sort_keys=True)}))


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
