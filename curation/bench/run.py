"""`bench download`: every client in turn on the same pictures, with and without faults, and how memory grows."""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Never

from tqdm import tqdm

from curation.bench.bodies import BODY_BYTES, light_body, photo_body
from curation.bench.clients import (
    IMG2DATASET_MISSING,
    ClientRun,
    Load,
    img2dataset_version,
    run_img2dataset,
    run_ours,
    run_raw,
)
from curation.bench.limits import machine_limits
from curation.bench.machine import Machine
from curation.bench.report import OURS, PEER, RAW, STORING, DownloadBench, Section
from manifests.durable import write_json
from manifests.errors import InputError

_N_ROUNDS = 3
_MEMORY_FACTOR = 10
"""How many times the pictures of the other runs the long run has: 20,000 of 2,000."""

_FAULTS_FACTOR = 5
"""The same for the runs with faults: the last picture to fault, and not the run, would decide over a short one."""

_QUICK_FACTOR = 2
_LIMIT_IMAGES = 300
_AS_SERVED = ("--disable_all_reencoding", "True", "--resize_mode", "no")
_THREE_TRIES = ("--retries", "2")

_Client = Callable[[Load, Path], ClientRun]


@dataclass(frozen=True)
class _Bench:
    """What the rounds need to know."""

    folder: Path
    n_rounds: int
    progress: "tqdm[Never]"

    def section(self, load: Load, clients: Mapping[str, _Client], n_rounds: int | None = None) -> Section:
        """Return the runs of `clients`, in turn and so often, that what else the machine does meets all alike."""
        runs: dict[str, list[ClientRun]] = {name: [] for name in clients}
        for _ in range(n_rounds or self.n_rounds):
            for name, client in clients.items():
                self.progress.set_description(f"{load.body.name}: {name}")
                make_room(self.folder, load.n_images * BODY_BYTES)
                runs[name].append(client(load, self.folder))
                self.progress.update()
        return Section(load.body.name, {name: tuple(of_client) for name, of_client in runs.items()})


def bench_download(
    *, workdir: Path, n_images: int = 2000, n_workers: int = 16, quick: bool = False, peers: bool = True
) -> DownloadBench:
    """Return what downloading costs here, after writing it to ``<workdir>/bench_download.json``.

    Parameters
    ----------
    workdir : Path
        Where pictures are stored while a client runs, and where the result goes.
    n_images : int
        Pictures of a run; those with faults have five times as many, that which shows how memory grows ten times.
    n_workers : int
        Connections at a time.
    quick : bool
        One round instead of three, and the long runs only twice as long as the others.
    peers : bool
        Whether to time img2dataset too.

    Raises
    ------
    InputError
        A count is not what it should be, or the disk is too full for the pictures of the longest run.
    OpenImageOError
        A client failed as a whole.
    """
    if n_images < 1 or n_workers < 1:
        raise InputError(f"--images, --workers: expected 1 or more, found {n_images}, {n_workers}")
    memory_factor, faults_factor = (_QUICK_FACTOR,) * 2 if quick else (_MEMORY_FACTOR, _FAULTS_FACTOR)
    workdir.mkdir(parents=True, exist_ok=True)
    _check_disk(workdir, n_images * memory_factor * BODY_BYTES)
    version = img2dataset_version() if peers else None
    machine = Machine.here()
    light = Load(light_body(), n_images, n_workers)
    photo = Load(photo_body(), n_images, n_workers)
    clean = Load(light.body, n_images * faults_factor, n_workers)
    long = Load(light.body, n_images * memory_factor, n_workers)
    with (
        tempfile.TemporaryDirectory(dir=workdir) as kept,
        tqdm(unit="run", disable=not sys.stderr.isatty()) as progress,
    ):
        bench = _Bench(Path(kept), 1 if quick else _N_ROUNDS, progress)
        result = DownloadBench(
            machine=machine,
            n_images=n_images,
            n_workers=n_workers,
            n_rounds=bench.n_rounds,
            body_bytes={load.body.name: len(load.body.content("0" * 16)) for load in (light, photo)},
            img2dataset=version,
            limits={
                load.body.name: machine_limits(load.body, min(n_images, _LIMIT_IMAGES), workdir)
                for load in (light, photo)
            },
            light=bench.section(light, _raw_clients(machine.n_cores) | _all_storing_clients(version)),
            photo=bench.section(photo, _all_storing_clients(version)),
            clean=bench.section(clean, _storing_clients(version)),
            faulty=bench.section(replace(clean, has_faults=True), _storing_clients(version, has_retries=True)),
            long_run=bench.section(long, {OURS: run_ours}, n_rounds=1).runs[OURS][0],
            notes=(IMG2DATASET_MISSING,) if peers and version is None else (),
        )
    write_json(workdir / "bench_download.json", result.as_json())
    return result


def make_room(folder: Path, n_bytes: int) -> None:
    """Make ready for a run that stores `n_bytes`; what earlier ones stored in `folder` is deleted only if need be.

    For five seconds after a deletion ext4 looks for other inodes than those just freed, which made the run that
    followed a tenth slower.
    """
    if shutil.disk_usage(folder).free < 2 * n_bytes:
        for path in folder.iterdir():
            shutil.rmtree(path)
    # Else what one run stored would go to the disk on the time of the next.
    os.sync()


def _raw_clients(n_cores: int) -> dict[str, _Client]:
    clients: dict[str, _Client] = {}
    for stores, name in ((False, RAW), (True, STORING)):
        for n_processes in sorted({1, n_cores}):
            words = "1 process" if n_processes == 1 else f"{n_processes} processes"
            clients[f"{name} {words}"] = partial(run_raw, n_processes=n_processes, stores=stores)
    return clients


def _all_storing_clients(version: str | None) -> dict[str, _Client]:
    resized: dict[str, _Client] = {} if version is None else {"img2dataset, resized": run_img2dataset}
    return _storing_clients(version) | resized


def _storing_clients(version: str | None, *, has_retries: bool = False) -> dict[str, _Client]:
    clients: dict[str, _Client] = {OURS: run_ours}
    if version is not None:
        clients[PEER] = partial(run_img2dataset, options=_AS_SERVED)
        if has_retries:
            clients["img2dataset, 2 retries"] = partial(run_img2dataset, options=(*_AS_SERVED, *_THREE_TRIES))
    return clients


def _check_disk(folder: Path, n_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < 2 * n_bytes:
        raise InputError(
            f"--images: the longest run stores {n_bytes / 1e9:.1f} GB, and {folder} has {free / 1e9:.1f} GB free: "
            "twice as much is asked for; give fewer images or another --workspace"
        )
