"""What the kernel tells of the machine and of this process."""

import os
import platform
from pathlib import Path

_PROCESSOR_PATH = Path("/proc/cpuinfo")


def processor_name() -> str:
    """Return the model name of the processor, or else what Python calls it."""
    return kernel_field(_PROCESSOR_PATH, "model name") or platform.processor() or platform.machine()


def memory_bytes() -> int:
    """Return all memory that is built in."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def kernel_field(path: Path, name: str) -> str | None:
    """Return the value of the first line ``name : value`` of a file of the kernel, or None."""
    if not path.is_file():
        return None
    with path.open() as lines:
        for line in lines:
            key, _, value = line.partition(":")
            if key.strip() == name:
                return value.strip()
    return None
