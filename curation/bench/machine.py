"""The machine that `bench download` ran on."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path

_PROCESSOR_PATH = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Machine:
    """Where figures come from.

    Attributes
    ----------
    processor : str
        Its model name.
    n_cores : int
        Cores, which server and clients share.
    memory_gib : float
        All that is built in.
    python_version : str
        Of the interpreter of all clients but img2dataset's.
    """

    processor: str
    n_cores: int
    memory_gib: float
    python_version: str

    @classmethod
    def here(cls) -> "Machine":
        """Return this machine."""
        lines = _PROCESSOR_PATH.read_text().splitlines() if _PROCESSOR_PATH.is_file() else []
        models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        return cls(
            processor=models[0] if models else platform.processor() or platform.machine(),
            n_cores=os.cpu_count() or 1,
            memory_gib=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30,
            python_version=platform.python_version(),
        )
