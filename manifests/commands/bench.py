"""What `bench` gives each package's benchmarks, and this package's own."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path


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
class Bench:
    """One benchmark.

    Attributes
    ----------
    takes : frozenset of str
        The options that mean something to it besides ``--workspace``; others are refused.
    table : callable
        Measures, and returns the table to print.
    """

    takes: frozenset[str]
    table: Callable[[BenchOptions], str]


def benches() -> dict[str, Bench]:
    """Return the benchmarks of this package by name."""
    return {"manifests": Bench(frozenset({"images"}), _manifests)}


def _manifests(given: BenchOptions) -> str:
    from manifests.bench import OPENIMAGE_O, bench_manifests, timings_table
    from manifests.exporters.bench import EXPORT_STEPS

    n_images = OPENIMAGE_O if given.images is None else given.images
    return timings_table(bench_manifests(given.workspace, EXPORT_STEPS, n_images=n_images))
