"""Benchmarks of this package, as `bench` runs them."""

from manifests.commands.bench import Bench, BenchFigures, BenchOptions


def benches() -> dict[str, Bench]:
    """Return the benchmarks of this package by name."""
    return {"scoring": Bench(frozenset({"size", "features", "method", "peers", "seed", "device"}), _scoring)}


def _scoring(given: BenchOptions) -> BenchFigures:
    from scoring.bench.report import bench_table
    from scoring.bench.run import bench_scoring
    from scoring.methods.table import METHOD_NAMES

    result = bench_scoring(
        workdir=given.workspace, size=given.size, features_dir=given.features, device=given.device,
        methods=given.method or METHOD_NAMES, peers=given.peers, seed=given.seed,
    )  # fmt: skip
    return BenchFigures(bench_table(result), result.as_json())
