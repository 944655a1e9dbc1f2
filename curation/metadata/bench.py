"""``bench metadata``: what the stage `candidates` takes for a long table, beside plain passes over its file."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from curation.metadata.bench_table import write_made_up_table
from manifests import schema
from manifests.errors import InputError, OpenImageOError
from manifests.workspace import Workspace

_READER_MODULE = "curation.metadata.plain_passes"


@dataclass(frozen=True)
class Pass:
    """One process over the whole file.

    Attributes
    ----------
    name : str
        What it did.
    seconds : float
        From its start to its end, imports too.
    cpu_s : float
        Of these, what it computed: on a machine with other work, the figure to compare.
    peak_bytes : int
        Its largest resident size.
    n_rows : int
        Rows of the file.
    """

    name: str
    seconds: float
    cpu_s: float
    peak_bytes: int
    n_rows: int

    @property
    def rows_per_s(self) -> float:
        """Rows in a second."""
        return self.n_rows / self.seconds


@dataclass(frozen=True)
class MetadataBench:
    """What `bench_metadata` found: the file's size, and one pass after another over it."""

    size_bytes: int
    passes: tuple[Pass, ...]

    def as_json(self) -> dict[str, Any]:
        """Return all of it as JSON values, with the rates."""
        passes = [{**asdict(one), "rows_per_s": one.rows_per_s} for one in self.passes]
        return {"size_bytes": self.size_bytes, "passes": passes}


def bench_metadata(folder: Path, n_rows: int, *, seed: int = 0) -> MetadataBench:
    """Time the stage, csv.reader and pyarrow.csv on one made-up table, each in a process on one core.

    Parameters
    ----------
    folder : Path
        Where the table (370 bytes a row) and the stage's workspace lie; both are deleted in the end.
    n_rows : int
        Rows of the table; 9,011,219 are Open Images' train table.
    seed : int
        Of the table.

    Raises
    ------
    InputError
        `n_rows` is not positive.
    OpenImageOError
        A pass fails or loses rows.
    """
    if n_rows < 1:
        raise InputError(f"--rows: expected at least 1, found {n_rows}")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        path, workspace = Path(name) / "image_ids_and_rotation.csv", Workspace(Path(name) / "workspace")
        write_made_up_table(path, n_rows, seed)
        stage = ["cli", "candidates", "--metadata", str(path), "--workspace", str(workspace.root)]
        passes = (
            _timed("candidates (reads, checks, sorts, writes)", stage, n_rows, Path(name)),
            _timed("csv.reader (reads)", [_READER_MODULE, "csv", str(path)], n_rows, Path(name)),
            _timed("pyarrow.csv (reads)", [_READER_MODULE, "pyarrow", str(path)], n_rows, Path(name)),
        )
        n_written = pq.read_metadata(workspace.path_of(schema.CANDIDATES)).num_rows
        if n_written != n_rows:
            raise OpenImageOError(f"bench: candidates.parquet has {n_written:,} of {n_rows:,} rows")
        return MetadataBench(path.stat().st_size, passes)


def _timed(name: str, arguments: Sequence[str], n_rows: int, folder: Path) -> Pass:
    """Run ``python -m`` with `arguments` on one core; what it says is told only where it fails.

    A stage ends with what to run next, on a workspace that is deleted here.
    """
    started = time.perf_counter()
    with (folder / "notices.txt").open("w+b") as notices:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments], stdout=subprocess.DEVNULL, stderr=notices,
            preexec_fn=_stay_on_one_core,
        )  # fmt: skip
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            notices.seek(0)
            last = notices.read().decode(errors="replace").splitlines()[-1:] or ["without a word"]
            raise OpenImageOError(f"bench: {name} ended with exit code {process.returncode}: {last[0]}")
    # Linux counts kilobytes, macOS bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    seconds = time.perf_counter() - started
    return Pass(name, seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit, n_rows)


def _stay_on_one_core() -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def bench_metadata_table(result: MetadataBench) -> str:
    """Return the figures as text, one line a pass."""
    n_rows = result.passes[0].n_rows
    lines = [
        f"metadata: {n_rows:,} made-up rows, {result.size_bytes / 1e6:,.0f} MB; each pass one process on one core",
        f"{'':42} {'seconds':>9} {'of CPU':>9} {'rows/s':>9} {'peak MB':>9}",
    ]
    lines += [
        f"{each.name:42} {each.seconds:9.1f} {each.cpu_s:9.1f} {each.rows_per_s:9,.0f} "
        f"{each.peak_bytes / 1e6:9,.0f}"
        for each in result.passes
    ]
    return "\n".join(lines)
