"""What a benchmark found, as a value that is kept as JSON and as text."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from manifests.text_table import aligned
from scoring.bench.alone import Cost
from scoring.bench.bounds import Job, gflop_of_products, gflop_together
from scoring.bench.machine import Machine
from scoring.bench.subset import PeerCost
from scoring.bench.together import N_DRAWS, TogetherCost


@dataclass(frozen=True)
class BenchResult:
    """What `bench_scoring` found.

    Attributes
    ----------
    machine : Machine
        Where.
    features : str
        Name of the folder of features.
    n_images : dict of str to int
        Images of each set.
    job : Job
        The counts that products depend on.
    rates : dict of str to float
        GFLOP/s of float32 products, by what multiplies.
    together : TogetherCost
        The paper's methods at once.
    shared, alone : tuple of Cost
        Shared work, and each method by itself.
    authors, detectors : tuple of PeerCost
        The ViM authors' formulations and pytorch-ood's detectors; empty where they were not timed.
    notes : tuple of str
        What was left out, one sentence each.
    """

    machine: Machine
    features: str
    n_images: dict[str, int]
    job: Job
    rates: dict[str, float]
    together: TogetherCost
    shared: tuple[Cost, ...]
    alone: tuple[Cost, ...]
    authors: tuple[PeerCost, ...]
    detectors: tuple[PeerCost, ...]
    notes: tuple[str, ...]

    @property
    def best_rate(self) -> float:
        """GFLOP/s of the fastest float32 product found: what bounds are made of."""
        return max(self.rates.values())

    @property
    def gflop_together(self) -> float:
        """10^9 operations of the products of `together`."""
        return gflop_together(self.together.methods, self.job)

    @property
    def authors_together_s(self) -> float | None:
        """Seconds of all of the authors' formulations, if each method of `together` was timed with its fit."""
        totals = {cost.method: cost.total_s for cost in self.authors if not cost.note}
        if not {"head product", "softmax", *self.together.methods} <= totals.keys():
            return None
        return sum(total for total in totals.values() if total is not None)

    def as_json(self) -> dict[str, Any]:
        """Return all of it as JSON values, with what follows from it: totals, bounds and ratios."""
        value = asdict(self)
        value |= {"best_rate": self.best_rate, "gflop_together": self.gflop_together}
        value["authors_together_s"] = self.authors_together_s
        for name, costs in (("shared", self.shared), ("alone", self.alone)):
            for row, cost in zip(value[name], costs, strict=True):
                row |= {"total_s": cost.total_s, "gflop": gflop_of_products(cost.name, self.job)}
        for name, peers in (("authors", self.authors), ("detectors", self.detectors)):
            for row, peer in zip(value[name], peers, strict=True):
                row |= {"total_s": peer.total_s, "ratio": peer.ratio}
        return value


def bench_table(result: BenchResult) -> str:
    """Return the result as text: the machine, the methods together, each by itself, and the peers beside ours."""
    blocks = [_heading(result), _together(result), _alone(result)]
    if result.authors:
        blocks.append(
            [
                "The ViM authors' formulations, and what ours adds to a run that has the logits and the softmax; "
                "difference: largest, in standard deviations",
                *_peers(result.authors, "difference", ".0e"),
                *_all_of_authors(result),
            ]
        )
    if result.detectors:
        blocks.append(
            [
                "pytorch-ood, fit and scores from features in memory, and ours the same; "
                "agreement: correlation of the ranks",
                *_peers(result.detectors, "agreement", ".4f"),
            ]
        )
    blocks.append(list(result.notes))
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _heading(result: BenchResult) -> list[str]:
    machine, job = result.machine, result.job
    rates = ", ".join(f"{rate:,.0f} by {name}" for name, rate in result.rates.items())
    images = ", ".join(f"{name} {n_images:,}" for name, n_images in result.n_images.items())
    return [
        f"{machine.processor}, {machine.n_threads} threads, {machine.memory_gib:.1f} GiB; computed on "
        f"{machine.device} with torch {machine.torch_version}",
        f"float32 products, GFLOP/s: {rates}",
        f"{result.features}: N = {job.N:,} features, C = {job.C:,} classes; {images}",
    ]


def _together(result: BenchResult) -> list[str]:
    cost, gflop = result.together, result.gflop_together
    rows = [("step", "seconds", "waiting for rows")]
    for number, reading in enumerate(cost.fit_readings, start=1):
        rows.append((f"fit, reading {number}", _told(reading.seconds), _told(reading.waited_s)))
    rows += [
        ("fit, solving", _told(cost.solving_s), ""),
        ("scoring", _told(cost.scoring.seconds), _told(cost.scoring.waited_s)),
        ("metrics", _told(cost.metrics_s), ""),
        ("total", _told(cost.total_s), ""),
    ]
    bound_s = gflop / result.best_rate
    on_device = "" if cost.peak_device_mb is None else f"; tensors on the GPU {cost.peak_device_mb:,.0f} MB"
    return [
        f"Together, from Parquet to metrics, imports apart: {', '.join(cost.methods)}",
        *(f"  not fitted: {name}: {reason}" for name, reason in cost.refused.items()),
        *aligned(rows),
        f"Products: {gflop:,.0f} GFLOP, {_told(bound_s)} s; the total is {_ratio(cost.total_s, bound_s)} that.",
        f"Peak memory {cost.peak_mb:,.0f} MB, of which {cost.imports_mb:,.0f} MB are imports{on_device}.",
        f"Bootstrap intervals, {N_DRAWS:,} draws, would take {_told(cost.intervals_s)} s more.",
    ]


def _alone(result: BenchResult) -> list[str]:
    if not result.alone:
        return []
    rows = [("method", "statistics", "fit", "scores", "total s", "GFLOP", "products s", "total / products")]
    for cost in (*result.shared, *result.alone):
        if cost.refused is None:
            rows.append((cost.name, *_seconds_of(cost), *_bound_of(cost, result)))
    first = result.alone[0]
    return [
        "Each method by itself, reading, head product, softmax and norms apart (the first rows: what they take); "
        f"scores: {_counted(first.n_timed, first.n_scored)}",
        *aligned(rows),
        *(f"  not timed: {cost.name}: {cost.refused}" for cost in result.alone if cost.refused is not None),
    ]


def _seconds_of(cost: Cost) -> tuple[str, str, str, str]:
    scores_s = cost.total_s - cost.statistics_s - cost.fit_s
    return _told(cost.statistics_s), _told(cost.fit_s), _told(scores_s), _told(cost.total_s)


def _bound_of(cost: Cost, result: BenchResult) -> tuple[str, str, str]:
    gflop = gflop_of_products(cost.name, result.job)
    if cost.name == "head product":
        gflop = gflop_together((), result.job)
    if gflop is None:
        return "-", "-", "-"
    bound_s = gflop / result.best_rate
    return _told(gflop), _told(bound_s), _ratio(cost.total_s, bound_s)


def _peers(costs: Sequence[PeerCost], agreement: str, digits: str) -> Iterator[str]:
    rows = [("method", "peer", "fit s", "ms / image", "total s", "ours s", "ratio", agreement, "images timed")]
    for cost in costs:
        if cost.total_s is None:
            continue
        rows.append(
            (
                cost.method,
                cost.peer,
                "-" if cost.fit_s is None else _told(cost.fit_s),
                _told(1000 * cost.score_s / cost.n_timed),
                _told(cost.total_s),
                "-" if cost.ours_s is None else _told(cost.ours_s),
                "-" if cost.ratio is None else _times(cost.ratio),
                "-" if cost.agreement is None else format(cost.agreement, digits),
                _counted(cost.n_timed, cost.n_scored),
            )
        )
    yield from aligned(rows, n_words=2)
    yield from (f"  {cost.method}, {cost.peer}: {cost.note}" for cost in costs if cost.note)


def _all_of_authors(result: BenchResult) -> list[str]:
    total_s = result.authors_together_s
    if total_s is None:
        return []
    ours_s = result.together.total_s
    return [
        f"All of theirs {_told(total_s)} s, without reading and metrics; ours together, with both, "
        f"{_told(ours_s)} s: {_times(total_s / ours_s)}"
    ]


def _counted(n_timed: int, n_scored: int) -> str:
    if n_timed >= n_scored:
        return f"all {n_scored:,} images"
    return f"{n_timed:,} of {n_scored:,} images, extrapolated"


def _told(number: float) -> str:
    """Return three digits that count, and all before the point."""
    n_decimals = 2 - math.floor(math.log10(number)) if number > 0 else 0
    return f"{number:,.{min(max(n_decimals, 0), 6)}f}"


def _ratio(seconds: float, bound_s: float) -> str:
    return _times(seconds / bound_s) if bound_s else "-"


def _times(ratio: float) -> str:
    return f"{ratio:,.0f} x" if ratio >= 10 else f"{ratio:.2g} x"
