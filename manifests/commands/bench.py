"""What `bench` gives each package's benchmarks, and this package's own."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class BenchOptions:
    """The options of `bench`; a benchmark reads those that it says it takes."""

    workspace: Path
    size: str
    features: Path | None
    method: list[str] | None
    peers: bool
    seed: int
    device: str
    images: int | None
    workers: int
    quick: bool
    rows: int | None
    data: Path | None
    masks: bool


BENCH_OPTIONS = tuple(field.name for field in fields(BenchOptions))


@dataclass(frozen=True)
class BenchFigures:
    """What a benchmark found: a table to print, and its figures as JSON values with units in their names."""

    table: str
    data: dict[str, Any]


@dataclass(frozen=True)
class Bench:
    """One benchmark.

    Attributes
    ----------
    takes : frozenset of str
        The options that mean something to it besides ``--workspace``; others are refused.
    measure : callable
        Returns what it found.
    """

    takes: frozenset[str]
    measure: Callable[[BenchOptions], BenchFigures]


def benches() -> dict[str, Bench]:
    """Return the benchmarks of this package by name."""
    return {"manifests": Bench(frozenset({"images"}), _manifests)}


def _manifests(given: BenchOptions) -> BenchFigures:
    from manifests.bench import OPENIMAGE_O, bench_manifests, timings_table
    from manifests.exporters.bench import EXPORT_STEPS

    n_images = OPENIMAGE_O if given.images is None else given.images
    timings = bench_manifests(given.workspace, EXPORT_STEPS, n_images=n_images)
    return BenchFigures(timings_table(timings), {"timings": [asdict(one) for one in timings]})
