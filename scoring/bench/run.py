"""`bench scoring`: makes the feature sets where they are not there, and times everything in fresh processes."""

from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import torch

from manifests.allocator import keep_freed_memory
from manifests.devices import device_name
from manifests.durable import write_json
from scoring.bench.alone import Cost, time_alone
from scoring.bench.authors import time_authors
from scoring.bench.bounds import product_rates
from scoring.bench.features import FORMAT_VERSION, make_features, size_named
from scoring.bench.machine import Machine, in_fresh_process
from scoring.bench.pytorch_ood_detectors import installed_version, time_detectors
from scoring.bench.report import BenchResult
from scoring.bench.sets import BenchSets
from scoring.bench.subset import PeerCost
from scoring.bench.together import PAPER_METHODS, time_together
from scoring.methods.table import METHOD_NAMES, methods_named


def bench_scoring(
    *,
    workdir: Path,
    size: str = "vit",
    features_dir: Path | None = None,
    device: str = "auto",
    methods: Sequence[str] = METHOD_NAMES,
    peers: bool = True,
    seed: int = 0,
) -> BenchResult:
    """Return what scoring costs here, after writing it to ``<workdir>/bench_<features>.json``.

    Parameters
    ----------
    workdir : Path
        Where feature sets are made, and kept for the next time, and where the result goes.
    size : {"tiny", "small", "vit", "bit"}
        Sets to make; `vit` takes 0.9 GB, `bit` 2.4 GB.
    features_dir : Path, optional
        Sets to take instead: a folder of features with ``train``, ``val`` and at least one more set.
    device : {"auto", "cpu", "cuda", "cuda:N"}
        Where to compute.
    methods : sequence of str
        Those that are timed one by one. The paper's nine are always timed together.
    peers : bool
        Whether to time the ViM authors' formulations and pytorch-ood's detectors too.
    seed : int
        Of the sets.

    Raises
    ------
    InputError
        A size, method or device is unknown.
    FeatureError
        The sets cannot be read, or lack ``train``, ``val`` or an OOD set.
    """
    place = torch.device(device_name(device, has_cuda=torch.cuda.is_available()))
    names = tuple(method.name for method in methods_named(methods))
    if features_dir is None:
        features_dir = workdir / f"{size}_seed{seed}_v{FORMAT_VERSION}"
        make_features(features_dir, size_named(size), seed)
    sets = BenchSets.open(features_dir, torch.device("cpu"))

    together = in_fresh_process(time_together, features_dir, PAPER_METHODS, place)
    one_by_one = in_fresh_process(_one_by_one, features_dir, names, place, peers)
    notes: list[str] = []
    detectors = _detectors(features_dir, names, place, notes) if peers else ()
    result = BenchResult(
        machine=one_by_one.machine,
        features=features_dir.name,
        n_images=sets.n_images,
        job=sets.job,
        rates=one_by_one.rates,
        together=together,
        shared=one_by_one.shared,
        alone=one_by_one.alone,
        authors=one_by_one.authors,
        detectors=detectors,
        notes=tuple(notes),
    )
    write_json(workdir / f"bench_{features_dir.name}.json", result.as_json())
    return result


@dataclass(frozen=True)
class _OneByOne:
    """What the process that takes methods one by one brings back."""

    machine: Machine
    rates: dict[str, float]
    shared: tuple[Cost, ...]
    alone: tuple[Cost, ...]
    authors: tuple[PeerCost, ...]


def _one_by_one(features_dir: Path, names: Sequence[str], device: torch.device, peers: bool) -> _OneByOne:
    keep_freed_memory()
    sets = BenchSets.open(features_dir, device)
    rates = product_rates(sets.job, sets.train.chunk_rows, device)
    alone = time_alone(sets, methods_named(names))
    authors = time_authors(sets, alone) if peers else ()
    return _OneByOne(Machine.here(device), rates, alone.shared, alone.costs, authors)


def _detectors(
    features_dir: Path, names: Sequence[str], device: torch.device, notes: list[str]
) -> tuple[PeerCost, ...]:
    """Return pytorch-ood's costs; where there are none, `notes` gets the reason."""
    found = installed_version()
    if found is None:
        notes.append("pytorch-ood is not installed and was not timed: pip install 'openimage-o-toolkit[bench]'")
        return ()
    try:
        costs = in_fresh_process(_detectors_alone, features_dir, names, device)
    except BrokenProcessPool:
        notes.append("pytorch-ood was not timed: its process was killed, as happens where memory runs out")
        return ()
    notes.append(f"pytorch-ood {found}.")
    return costs


def _detectors_alone(features_dir: Path, names: Sequence[str], device: torch.device) -> tuple[PeerCost, ...]:
    # Freed memory goes back here: what detectors take at once, gigabytes in all sizes, would never fit again.
    return time_detectors(BenchSets.open(features_dir, device), methods_named(names))
