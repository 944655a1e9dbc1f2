"""Running a program of this package in a process of its own, so that its memory and its threads are its own."""

import json
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from curation.bench.process import run_measured
from manifests.errors import OpenImageOError, one_line

_REPOSITORY = Path(__file__).resolve().parents[3]


def is_installed(library: str) -> bool:
    """Return whether a library can be imported, without importing it."""
    return find_spec(library) is not None


def run_program(module: str, arguments: Sequence[object], folder: Path) -> tuple[dict[str, Any], float]:
    """Return what a program writes to the path that is its last argument, and its most memory, 10^6 bytes.

    Raises
    ------
    OpenImageOError
        It fails; the message has its last words.
    """
    result_path = folder / "result.json"
    command = [sys.executable, "-m", module, *map(str, arguments), str(result_path)]
    environment = os.environ | {
        "PYTHONPATH": str(_REPOSITORY),
        # FiftyOne keeps its database where the benchmark keeps its files, and reports to nobody.
        "FIFTYONE_DATABASE_DIR": str(folder / "database"),
        "FIFTYONE_DO_NOT_TRACK": "1",
    }
    finished = run_measured(command, environment)
    if finished.exit_code:
        last = OpenImageOError(finished.errors.strip().rpartition("\n")[2])
        raise OpenImageOError(f"{module} ended with exit code {finished.exit_code}: {one_line(last)}")
    return dict(json.loads(result_path.read_text(encoding="utf-8"))), finished.peak_mb
