"""All pairs of near-duplicates, ours in a process of its own, beside the product's limit and fiftyone-brain."""

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from curation.bench.screen.programs import run_program
from curation.bench.screen.report import Row, Section
from curation.bench.screen.vectors import N_DIMENSIONS, PlantedVectors, planted_vectors, product_rate
from curation.duplicates.cosine import close_pairs

LEAST_SIMILARITY = 0.9

_GOAL_S, _GOAL_GB = 240, 1.5
_N_TRAIN = 9_011_219
"""Images of Open Images' train set, the largest that anyone would search."""

_SHEET_FLOPS, _SHEET_BYTES_PER_S = 989e12, 4.8e12
"""Of NVIDIA's data sheet of the H200 SXM: dense float16 products, summed in float32; memory."""


def near_duplicate_section(
    planted: PlantedVectors, folder: Path, device: torch.device, n_peer_rows: int | None, seed: int
) -> tuple[Section, Row]:
    """Return what the search for all close pairs costs, with the row of ours.

    Parameters
    ----------
    planted : PlantedVectors
        Planted for `LEAST_SIMILARITY`.
    folder : Path
        For files between processes.
    device : torch.device
        Where ours multiplies.
    n_peer_rows : int, optional
        Rows that fiftyone-brain is given; None leaves it out.
    seed : int
        Of these rows.
    """
    ours, found = _run_ours(planted, folder, device)
    n_rows = len(planted.vectors)
    rate = product_rate(device)
    limit = Row("limit: the bare float32 product, half of it", ours.size, n_rows**2 * N_DIMENSIONS / rate)
    counts = _pair_counts(planted.pairs, found)
    rows, notes = [ours, limit], [_told_recall(counts), _told_goal()]
    if n_peer_rows is not None:
        of_peer = planted_vectors(n_peer_rows, LEAST_SIMILARITY, seed)
        rows += _peer_rows(of_peer, folder, device, n_rows)
        notes.append(
            f"fiftyone-brain: compute_near_duplicates(threshold={1 - LEAST_SIMILARITY:g}, embeddings=...) on a "
            "data set that is there already; its time is taken to grow with the square of the rows"
        )
    title = f"Near-duplicates: all pairs of cosine {LEAST_SIMILARITY} or more"
    figures = {"goal_s": _GOAL_S, "goal_peak_gb": _GOAL_GB, **counts}
    return Section(title, tuple(rows), tuple(notes), figures), ours


def plan_section(ours: Row, n_rows: int, device_name: str) -> Section:
    """Return what all pairs of Open Images' train set would take, from a slice that was measured."""
    flops = float(_N_TRAIN) ** 2 * N_DIMENSIONS
    measured_rate = float(n_rows) ** 2 * N_DIMENSIONS / ours.seconds
    size = f"{_N_TRAIN:,} x {N_DIMENSIONS}"
    held_gb = _N_TRAIN * N_DIMENSIONS * 2 / 1e9
    written = 2 * 4 * float(_N_TRAIN) ** 2 / 2
    bare_s = flops / _SHEET_FLOPS
    return Section(
        "Plan: all pairs of the train set",
        (
            Row(f"at the rate of {device_name}, {measured_rate / 1e12:.2f} TFLOP/s", size, flops / measured_rate),
            Row("data sheet of an H200: float16 products alone", size, bare_s),
            Row("data sheet: every similarity to memory and back", size, bare_s + written / _SHEET_BYTES_PER_S),
        ),
        (
            f"n^2 d = {flops:.3g} operations: half of n x n products, two for each dimension; {held_gb:.1f} GB of "
            f"float16 held; 2 x 4 x n^2 / 2 = {written / 1e12:.0f} TB of float32 similarities to memory and back",
            f"The slice is the search above, {n_rows:,} rows on {device_name}; seconds grow with n^2. "
            "Data-sheet rows are bounds, not measurements",
        ),
    )


def _run_ours(planted: PlantedVectors, folder: Path, device: torch.device) -> tuple[Row, npt.NDArray[np.int64]]:
    given, taken = folder / "vectors.npy", folder / "pairs.npy"
    np.save(given, planted.vectors)
    result, peak_mb = run_program(__name__, [given, taken, device], folder)
    size = f"{len(planted.vectors):,} x {N_DIMENSIONS}"
    return Row("ours", size, result["seconds"], peak_mb=peak_mb), np.load(taken)


def _peer_rows(planted: PlantedVectors, folder: Path, device: torch.device, n_rows: int) -> list[Row]:
    ours, _ = _run_ours(planted, folder, device)
    program = "curation.bench.screen.fiftyone_brain"
    result, peak_mb = run_program(program, [folder / "vectors.npy", 1 - LEAST_SIMILARITY], folder)
    return [
        ours,
        Row(f"fiftyone-brain {result['version']}", ours.size, result["seconds"], peak_mb=peak_mb),
        Row(
            "fiftyone-brain, extrapolated",
            f"{n_rows:,} x {N_DIMENSIONS}",
            result["seconds"] * (n_rows / len(planted.vectors)) ** 2,
        ),
    ]


def _pair_counts(planted: npt.NDArray[np.int64], found: npt.NDArray[np.int64]) -> dict[str, int]:
    expected, given = set(map(tuple, planted.tolist())), set(map(tuple, found.tolist()))
    return {
        "n_planted": len(expected),
        "n_planted_found": len(expected & given),
        "n_others_found": len(given - expected),
    }


def _told_recall(counts: Mapping[str, int]) -> str:
    n_planted = counts["n_planted"]
    return (
        f"Of {n_planted:,} planted pairs {counts['n_planted_found'] / max(1, n_planted):.4%} were found, and "
        f"{counts['n_others_found']:,} others"
    )


def _told_goal() -> str:
    return f"Goal of ours at 125,436 on two cores: {_GOAL_S} s, {_GOAL_GB:g} GB at most, every pair found"


def _main(given: str, taken: str, device: str, result_path: str) -> None:
    vectors = np.load(given).astype(np.float32)
    started = time.perf_counter()
    pairs = close_pairs(vectors, LEAST_SIMILARITY, device=device)
    seconds = time.perf_counter() - started
    np.save(taken, pairs)
    Path(result_path).write_text(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    _main(*sys.argv[1:])
