"""Benchmarks of this package, as `bench` runs them."""

from manifests.commands.bench import Bench, BenchFigures, BenchOptions
from manifests.commands.summary import announce


def benches() -> dict[str, Bench]:
    """Return the benchmarks of this package by name."""
    return {"annotate": Bench(frozenset({"rows", "quick", "seed", "masks"}), _annotate)}


def _annotate(given: BenchOptions) -> BenchFigures:
    from annotation.bench.figures import annotate_data, annotate_table
    from annotation.bench.run import DEFAULT_SIZES, QUICK_SIZES, bench_annotate

    by_default = QUICK_SIZES if given.quick else DEFAULT_SIZES
    sizes = by_default if given.rows is None else (given.rows,)
    results = bench_annotate(
        given.workspace, sizes, quick=given.quick, seed=given.seed, with_masks=given.masks, announce=announce
    )
    return BenchFigures(annotate_table(results), annotate_data(results))
