"""The words of ``--device``, for every stage that runs a model; this file itself imports no torch."""

import re

from manifests.errors import InputError


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
