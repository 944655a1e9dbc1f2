"""What every stage that runs a model asks of its device. Torch is loaded by the functions, not with this file."""

import contextlib
import re
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from manifests.errors import InputError

if TYPE_CHECKING:
    import torch


def device_name(wanted: str, *, has_cuda: bool) -> str:
    """Return the torch device for ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; ``auto`` prefers a GPU.

    Raises
    ------
    InputError
        The word is unknown, or CUDA is asked for and `has_cuda` is false.
    """
    if wanted == "auto":
        return "cuda" if has_cuda else "cpu"
    if wanted == "cpu":
        return wanted
    if not re.fullmatch(r"cuda(:\d+)?", wanted):
        raise InputError(f"--device: expected auto, cpu, cuda or cuda:N, found {wanted!r}")
    if not has_cuda:
        raise InputError(f"--device {wanted}: no CUDA device is available here; use --device cpu or auto")
    return wanted


def computes_in_bfloat16(place: "torch.device") -> bool:
    """Return whether a device has bfloat16: a GPU without it would emulate it, slower than float32."""
    import torch

    return place.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


@contextlib.contextmanager
def repeatable(place: "torch.device") -> Iterator[None]:
    """Compute so that equal runs are equal to the bit, and leave torch's global state as it was."""
    import torch

    devices = [torch.cuda.current_device() if place.index is None else place.index] if place.type == "cuda" else []
    with (
        torch.random.fork_rng(devices),
        # cuDNN's fastest algorithms add up in an order that changes from run to run.
        torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
    ):
        yield


def seconds_now(place: "torch.device") -> float:
    """Return the clock's seconds, after a GPU has done what it was given."""
    import torch

    if place.type == "cuda":
        torch.cuda.synchronize(place)
    return time.perf_counter()
