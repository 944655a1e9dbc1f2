"""The clients that are compared, each run against a server of its own: the raw client, ours and img2dataset.

What a run stored stays in a new folder below the one that it is given.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from curation.bench.bodies import Body
from curation.bench.process import FinishedProcess, run_measured
from curation.bench.raw_client import fetch_raw
from curation.bench.server import BenchServer, image_id_of, serving
from manifests.errors import OpenImageOError, one_line

_REPOSITORY = Path(__file__).resolve().parents[2]
_PROGRAM = _REPOSITORY / "cli.py"
_IMG2DATASET_BIN = _REPOSITORY / ".venv-img2dataset" / "bin"

IMG2DATASET_MISSING = "img2dataset is not installed and was not timed: make bench-peers"


@dataclass(frozen=True)
class Load:
    """What every client is asked for.

    Attributes
    ----------
    body : Body
        The kind of picture.
    n_images, n_workers : int
        Pictures, and connections at a time.
    has_faults : bool
        Whether one picture in twenty faults once.
    """

    body: Body
    n_images: int
    n_workers: int
    has_faults: bool = False


@dataclass(frozen=True)
class ClientRun:
    """One run of one client.

    Attributes
    ----------
    n_images, n_arrived : int
        Asked for, and arrived as the client's own count says.
    busy_s : float
        From the first request that the server saw to the end of the client's process.
    whole_s : float
        From the start of the client's process.
    peak_mb : float, optional
        Most memory of all its processes; None of the raw client, which runs in processes of the benchmark.
    n_requests, n_connections, n_faults : int
        As the server counted them.
    server_cpu_s : float
        Processor time of the server.
    """

    n_images: int
    n_arrived: int
    busy_s: float
    whole_s: float
    peak_mb: float | None
    n_requests: int
    n_connections: int
    n_faults: int
    server_cpu_s: float

    @property
    def images_per_s(self) -> float:
        """Pictures that arrived, a second."""
        return self.n_arrived / self.busy_s


def run_raw(load: Load, folder: Path, *, n_processes: int, stores: bool) -> ClientRun:
    """Return a run of the raw client; `stores`: with SHA-256 and a file a picture."""
    with _kept(folder) as store, serving(load.body) as server:
        started_at = time.monotonic()
        fetch_raw(
            server.base_url, load.n_images, load.n_workers,
            n_processes=n_processes, store_dir=store if stores else None,
        )  # fmt: skip
        return _client_run(load, server, load.n_images, started_at, time.monotonic(), None)


def run_ours(load: Load, folder: Path, options: Sequence[str] = ()) -> ClientRun:
    """Return a run of the stage `download` by its command, on a new workspace with made-up candidates."""
    with (
        _kept(folder) as scratch,
        serving(load.body, has_faults=load.has_faults) as server,
    ):
        ids, workspace = scratch / "ids.txt", scratch / "workspace"
        ids.write_text("".join(f"{image_id_of(index)}\n" for index in range(load.n_images)))
        program = [sys.executable, str(_PROGRAM)]
        _check(
            run_measured([*program, "candidates", "--metadata", str(ids), "--workspace", str(workspace)]),
            "python cli.py candidates",
        )
        command = [
            *program, "download", "--workspace", str(workspace), "--base-url", server.base_url,
            "--allow-private", "--workers", str(load.n_workers), *options,
        ]  # fmt: skip
        finished = _check(run_measured(command), "python cli.py download")
        record = json.loads((workspace / "provenance" / "download.json").read_text(encoding="utf-8"))
        n_arrived = record["counts"].get("ok", 0)
        return _client_run(load, server, n_arrived, finished.started_at, finished.ended_at, finished.peak_mb)


def run_img2dataset(load: Load, folder: Path, options: Sequence[str] = ()) -> ClientRun:
    """Return a run of img2dataset into files, a process a core, each with as many threads as ours has in all."""
    with (
        _kept(folder) as scratch,
        serving(load.body, has_faults=load.has_faults) as server,
    ):
        urls, output = scratch / "urls.txt", scratch / "output"
        urls.write_text(
            "".join(f"{server.base_url}/test/{image_id_of(index)}.jpg\n" for index in range(load.n_images))
        )
        n_processes = os.cpu_count() or 1
        command = [
            str(_IMG2DATASET_BIN / "img2dataset"), "--url_list", str(urls), "--output_folder", str(output),
            "--output_format", "files", "--processes_count", str(n_processes),
            "--thread_count", str(load.n_workers),
            # Shards are what it spreads over processes: two for each, so that none is idle.
            "--number_sample_per_shard", str(max(1, -(-load.n_images // (2 * n_processes)))), *options,
        ]  # fmt: skip
        # Its albumentations would ask a registry for news.
        environment = {**os.environ, "NO_ALBUMENTATIONS_UPDATE": "1", "WANDB_MODE": "disabled"}
        finished = _check(run_measured(command, environment), "img2dataset")
        shards = [json.loads(path.read_text(encoding="utf-8")) for path in output.glob("*_stats.json")]
        n_arrived = sum(shard["successes"] for shard in shards)
        return _client_run(load, server, n_arrived, finished.started_at, finished.ended_at, finished.peak_mb)


def img2dataset_version() -> str | None:
    """Return the version of img2dataset in its own environment, or None where there is none."""
    program = "from importlib import metadata; print(metadata.version('img2dataset'))"
    try:
        asked = subprocess.run(
            [str(_IMG2DATASET_BIN / "python"), "-c", program], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return asked.stdout.strip()


@contextlib.contextmanager
def _kept(folder: Path) -> Iterator[Path]:
    """Yield a new folder, which is the caller's to delete, and deleted here only where the client fails."""
    scratch = Path(tempfile.mkdtemp(dir=folder))
    try:
        yield scratch
    except BaseException:
        shutil.rmtree(scratch)
        raise


def _client_run(
    load: Load, server: BenchServer, n_arrived: int, started_at: float, ended_at: float, peak_mb: float | None
) -> ClientRun:
    counts = server.counts
    return ClientRun(
        n_images=load.n_images, n_arrived=n_arrived, busy_s=ended_at - counts.first_request_at,
        whole_s=ended_at - started_at, peak_mb=peak_mb, n_requests=counts.n_requests,
        n_connections=counts.n_connections, n_faults=counts.n_faults, server_cpu_s=counts.cpu_s,
    )  # fmt: skip


def _check(finished: FinishedProcess, name: str) -> FinishedProcess:
    if finished.exit_code:
        last = OpenImageOError(finished.errors.strip().rpartition("\n")[2])
        raise OpenImageOError(f"{name} ended with exit code {finished.exit_code}: {one_line(last)}")
    return finished
