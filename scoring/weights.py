"""Weights of a network: reading a checkpoint without running code from it, and telling two sets apart."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from manifests.errors import ModelError
from manifests.tensor_files import check_is_file
from manifests.torch_files import TORCH_DAMAGE_ERRORS, check_torch_pickle

_WRAPPERS = ("state_dict", "model")
"""Keys under which training scripts (torchvision's references, timm's, DeiT's) store the weights."""


def read_weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    """Return the named tensors of a checkpoint: ``.safetensors``, or a file of `torch.save` with tensors alone.

    Raises
    ------
    ModelError
        The file is not there, is damaged, or holds something else than named tensors.
    """
    check_is_file(checkpoint)
    try:
        if checkpoint.suffix == ".safetensors":
            return load_file(checkpoint)
        check_torch_pickle(checkpoint)
        weights = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except (SafetensorError, *TORCH_DAMAGE_ERRORS) as error:
        raise ModelError(
            f"{checkpoint}: cannot be read as weights ({first_line(error)}); "
            f"expected safetensors, or a file of torch.save that holds tensors alone"
        ) from error
    for wrapper in _WRAPPERS:
        if isinstance(weights, dict) and isinstance(weights.get(wrapper), dict):
            weights = weights[wrapper]
    if not isinstance(weights, dict) or not all(_is_weight(name, value) for name, value in weights.items()):
        raise ModelError(f"{checkpoint}: expected named tensors, found {type(weights).__name__} of something else")
    if weights and all(name.startswith("module.") for name in weights):
        # Saved from DistributedDataParallel, which puts this before every name.
        return {name.removeprefix("module."): value for name, value in weights.items()}
    return weights


def _is_weight(name: object, value: object) -> bool:
    """Return whether it is a named tensor with a value at each place, as weights have."""
    if not isinstance(name, str) or not isinstance(value, torch.Tensor):
        return False
    if value.layout is not torch.strided or value.is_meta:
        return False
    # One number can stand for any count of places.
    return value.numel() * value.element_size() <= value.untyped_storage().nbytes()


def weights_digest(weights: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 of names, types, shapes and bytes of all weights, whatever file held them."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def first_line(error: BaseException) -> str:
    """Return the first line of a library's message, as ours are one line."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]
