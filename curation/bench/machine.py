"""The machine that `bench download` ran on."""

import os
import platform
from dataclasses import dataclass

from manifests.hardware import memory_bytes, processor_name


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
        return cls(
            processor=processor_name(),
            n_cores=os.cpu_count() or 1,
            memory_gib=memory_bytes() / 2**30,
            python_version=platform.python_version(),
        )
