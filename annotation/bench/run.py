"""`bench annotate`: one made-up workspace a size, its queue timed in this process, its App in Chromium."""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from annotation.bench.chromium import measure_in_chromium, measure_masks_in_chromium
from annotation.bench.figures import SizeFigures, Times
from annotation.bench.later_tables import make_later_tables
from annotation.bench.made_masks import make_masks
from annotation.bench.serve import ANNOTATOR
from annotation.bench.world import made_up_answer, make_world
from annotation.judging import N_SHOWN_ITEMS
from annotation.queues import open_queue
from manifests.errors import InputError
from manifests.workspace import Workspace

DEFAULT_SIZES = (1_000, 20_000)
QUICK_SIZES = (1_000,)

_LEAST_ROWS = 100
_N_ANSWERS = 100
_N_QUICK_ANSWERS = 30
_N_STEPS = 300
_N_LINES = 200


def bench_annotate(
    workdir: Path,
    sizes: Sequence[int],
    *,
    quick: bool = False,
    with_masks: bool = False,
    seed: int = 0,
    announce: Callable[[str], None],
) -> list[SizeFigures]:
    """Return the figures of each size.

    Parameters
    ----------
    workdir : Path
        Where the workspaces are made, and deleted again; on the disk whose speed matters.
    sizes : sequence of int
        Candidates under review, each at least 100.
    quick : bool
        30 answers instead of 100.
    with_masks : bool
        After that, let two more sessions answer pictures with evidence masks, the one without opening any.
    seed : int
        Of what is made up.
    announce : callable
        Is told what is being done.

    Raises
    ------
    InputError
        A size is too small.
    ToolMissingError
        Playwright, Chromium or mongod is not installed.
    """
    n_answers = _N_QUICK_ANSWERS if quick else _N_ANSWERS
    # Each session answers other pictures, and one has to be left.
    least = max(_LEAST_ROWS, 3 * n_answers + 1) if with_masks else _LEAST_ROWS
    if min(sizes) < least:
        raise InputError(f"--rows: expected at least {least}, found {min(sizes)}")
    workdir.mkdir(parents=True, exist_ok=True)
    results = []
    for n_rows in sizes:
        folder = Path(tempfile.mkdtemp(prefix="annotate-", dir=workdir))
        try:
            announce(f"bench annotate: making {n_rows:,} candidates")
            workspace = make_world(folder / "workspace", n_rows, seed)
            make_later_tables(workspace, seed)
            announce("bench annotate: queue, log and browser")
            figures = _measured(workspace, n_rows, n_answers)
            if with_masks:
                announce("bench annotate: the browser again, with evidence masks")
                make_masks(workspace, seed)
                figures = replace(figures, masks=measure_masks_in_chromium(workspace, n_answers))
            results.append(figures)
        finally:
            shutil.rmtree(folder)
    return results


def _measured(workspace: Workspace, n_rows: int, n_answers: int) -> SizeFigures:
    started = time.perf_counter()
    queue = open_queue(workspace, ANNOTATOR)
    queue_s = time.perf_counter() - started
    steps = []
    for _ in range(min(_N_STEPS, queue.n_left - 1)):
        answer = made_up_answer(queue.upcoming(1)[0].image_id, "out")
        started = time.perf_counter()
        queue.record(answer)
        queue.refresh()
        queue.upcoming(N_SHOWN_ITEMS)
        steps.append(time.perf_counter() - started)
    return SizeFigures(
        n_rows, queue_s, Times.of(steps), _fsync_times(workspace.root), measure_in_chromium(workspace, n_answers)
    )


def _fsync_times(folder: Path) -> Times:
    """Return how long the disk takes for one line of the length of a decision."""
    line = json.dumps(made_up_answer("0" * 16, "out").to_row()).encode() + b"\n"
    durations = []
    with (folder / "floor.jsonl").open("ab", buffering=0) as stream:
        for _ in range(_N_LINES):
            started = time.perf_counter()
            stream.write(line)
            os.fsync(stream.fileno())
            durations.append(time.perf_counter() - started)
    return Times.of(durations)
