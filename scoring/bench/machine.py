"""The machine that a benchmark ran on: what it is, its memory, and processes of their own on it."""

import multiprocessing
import resource
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

import torch

from manifests.hardware import kernel_field, memory_bytes, processor_name

Arguments = ParamSpec("Arguments")
Returned = TypeVar("Returned")

_STATUS_PATH = Path("/proc/self/status")
_MEMORY_PATH = Path("/proc/meminfo")


@dataclass(frozen=True)
class Machine:
    """Where figures come from.

    Attributes
    ----------
    processor : str
        Its model name.
    n_threads : int
        Threads that products run on.
    memory_gib : float
        All that is built in.
    torch_version : str
        Of PyTorch, which multiplies.
    device : str
        Where it computed: ``cpu``, or the name of a GPU.
    """

    processor: str
    n_threads: int
    memory_gib: float
    torch_version: str
    device: str

    @classmethod
    def here(cls, device: torch.device) -> "Machine":
        """Return this machine, with `device` to compute on."""
        return cls(
            processor=processor_name(),
            n_threads=torch.get_num_threads(),
            memory_gib=memory_bytes() / 2**30,
            torch_version=str(torch.__version__),
            device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        )


def peak_memory_mb() -> float:
    """Return the most resident memory that this process has had, in 10^6 bytes."""
    # ru_maxrss of a new process begins at what its parent had (it outlives exec); the kernel's mark does not.
    if marked := kernel_field(_STATUS_PATH, "VmHWM"):
        return int(marked.split()[0]) * 1024 / 1e6
    unit_bytes = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit_bytes / 1e6


def available_memory_bytes() -> int:
    """Return how much memory can be had without swapping; where the system does not tell, half of all."""
    if available := kernel_field(_MEMORY_PATH, "MemAvailable"):
        return int(available.split()[0]) * 1024
    return memory_bytes() // 2


def in_fresh_process(
    function: Callable[Arguments, Returned], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Returned:
    """Return or raise what `function` does in a new process, whose memory and threads are its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *args, **kwargs).result()
