"""``bench manifests``: what building, verifying and exporting take, beside the machine's SHA-256 and Parquet."""

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from manifests import schema
from manifests.build import build_manifest
from manifests.errors import InputError
from manifests.frozen import Manifest
from manifests.images import jpeg_bytes
from manifests.text_table import aligned
from manifests.verify import Against, verify_manifest
from manifests.verify_pictures import Depth, picture_findings
from manifests.workspace import Workspace

Value = TypeVar("Value")

OPENIMAGE_O = 17_632
OPEN_IMAGES_TEST = 125_436
_PICTURE_BYTES = 300_000
"""What the made-up tables state: about the mean of Open Images' copies."""

_N_PICTURES = 2_000
_SIDES_PX = (1024, 768)
_LICENCE = "https://creativecommons.org/licenses/by/2.0/"


@dataclass(frozen=True)
class Timing:
    """One thing that was timed.

    Attributes
    ----------
    name : str
        What was done.
    seconds : float
        It took.
    limit_s : float, optional
        What it may take at most, where something is said of it.
    note : str
        How to read it.
    cpu_s : float, optional
        Of all threads, where shares are made of it.
    size_bytes : int, optional
        Of what was read, where rates are made of it.
    """

    name: str
    seconds: float
    limit_s: float | None = None
    note: str = ""
    cpu_s: float | None = None
    size_bytes: int | None = None


Step = tuple[str, float | None, Callable[[Workspace, Manifest, Path], object]]
"""Name, most seconds, and what to do with a frozen set of `OPENIMAGE_O` images; the folder is a new one."""


def bench_manifests(workdir: Path, steps: Sequence[Step] = (), *, n_images: int = OPENIMAGE_O) -> list[Timing]:
    """Time building and verifying on made-up sets, and `steps` on the smaller one.

    Parameters
    ----------
    workdir : Path
        A folder ``manifests`` in it is made anew, and deleted in the end.
    steps : sequence of Step
        Exports, say.
    n_images : int
        Of the smaller set; the larger one has about seven times as many.

    Raises
    ------
    InputError
        `n_images` is not positive.
    """
    if n_images < 1:
        raise InputError(f"--images: expected at least 1, found {n_images}")
    root = workdir / "manifests"
    shutil.rmtree(root, ignore_errors=True)
    try:
        small = made_up_workspace(root / "small", n_images)
        manifest, build = _timed(f"build {n_images:,} images", 3, lambda: build_manifest(small, "bench", "1.0.0"))
        timings = [build]
        _, verify = _timed("verify it without pictures", 2, lambda: _without_problem(manifest.folder, Against()))
        timings.append(verify)
        for name, limit_s, step in steps:
            timings.append(_timed(name, limit_s, partial(step, small, manifest, root / "out"))[1])
        timings.append(_plain_parquet(manifest.records, root / "plain.parquet"))
        n_large = round(n_images * OPEN_IMAGES_TEST / OPENIMAGE_O)
        large = made_up_workspace(root / "large", n_large)
        timings.append(_timed(f"build {n_large:,} images", 15, lambda: build_manifest(large, "bench", "1.0.0"))[1])
        return [*timings, *_hashing(root / "pictures", min(n_images, _N_PICTURES))]
    finally:
        shutil.rmtree(root, ignore_errors=True)


def timings_table(timings: Sequence[Timing]) -> str:
    """Return the timings for the terminal."""
    rows = [("", "seconds", "at most")]
    for one in timings:
        limit = "" if one.limit_s is None else f"{one.limit_s:.3g}"
        rows.append((one.name, f"{one.seconds:.2f}", limit))
    return "\n".join([*aligned(rows), *(f"{one.name}: {one.note}" for one in timings if one.note)])


def made_up_workspace(root: Path, n_images: int) -> Workspace:
    """Return a workspace of images that were all agreed to be out; there are no pictures."""
    space = Workspace(root)
    names = [hashlib.sha256(str(number).encode()).hexdigest()[:16] for number in range(n_images)]
    digests = [hashlib.sha256(name.encode()).hexdigest() for name in names]
    parts: list[tuple[schema.TableSpec, dict[str, list[Any]]]] = [
        (schema.CANDIDATES, {
            "subset": ["test"] * n_images, "url": [f"https://mirror.invalid/test/{name}.jpg" for name in names],
            "license_url": [_LICENCE] * n_images, "author": [f"author of {name}" for name in names],
            "title": [f"title of {name}" for name in names],
            "landing_url": [f"https://www.flickr.invalid/photos/{name}" for name in names],
        }),
        (schema.DOWNLOADS, {
            "status": ["ok"] * n_images, "attempts": [1] * n_images, "sha256": digests,
            "size_bytes": [_PICTURE_BYTES] * n_images,
            "width_px": [_SIDES_PX[0]] * n_images, "height_px": [_SIDES_PX[1]] * n_images,
            "path": [space.relative_image_path(name) for name in names],
        }),
        (schema.SCREEN, {
            "status": ["review"] * n_images, "risk": [number / n_images for number in range(n_images)],
            "is_control": [False] * n_images,
        }),
        (schema.VERDICTS, {
            "verdict": ["out"] * n_images, "source": ["consensus"] * n_images, "n_out": [2] * n_images,
            "n_in": [0] * n_images, "n_difficult": [0] * n_images,
        }),
    ]  # fmt: skip
    for spec, columns in parts:
        known: dict[str, list[Any]] = {"image_id": names, **columns}
        nothing = [None] * n_images
        space.write(
            spec, pa.table({one: known.get(one, nothing) for one in spec.schema.names}, schema=spec.schema)
        )
    return space


def _timed(name: str, limit_s: float | None, action: Callable[[], Value]) -> tuple[Value, Timing]:
    started = time.perf_counter()
    value = action()
    return value, Timing(name, time.perf_counter() - started, limit_s)


def _without_problem(folder: Path, against: Against) -> None:
    report = verify_manifest(folder, against)
    if report.n_problems:
        raise InputError(f"bench manifests: {report.name} has {report.n_problems} problems")


def _plain_parquet(records: pa.Table, path: Path) -> Timing:
    """Time what no build can do without: putting the records into a Parquet file."""
    return _timed(f"plain Parquet of {records.num_rows:,} records", None, lambda: pq.write_table(records, path))[1]


def _hashing(folder: Path, n_pictures: int) -> list[Timing]:
    """Time deep verifying of pictures in the page cache beside hashing them, and as many bytes in memory."""
    content = _picture()
    digest = hashlib.sha256(content).hexdigest()
    records: list[dict[str, Any]] = []
    for number in range(n_pictures):
        name = f"{number:016x}"
        path = folder / Workspace.relative_image_path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        records.append({"image_id": name, "sha256": digest, "width_px": _SIDES_PX[0], "height_px": _SIDES_PX[1]})
    n_bytes = n_pictures * len(content)

    paths = [str(folder / Workspace.relative_image_path(record["image_id"])) for record in records]

    def hash_all(read: Callable[[str], bytes]) -> None:
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            list(pool.map(lambda path: hashlib.sha256(read(path)).digest(), paths))

    def verify_all() -> None:
        if picture_findings(records, folder, Depth(reads_bytes=True)):
            raise InputError(f"bench manifests: {folder} changed meanwhile")

    actions = (
        lambda: hash_all(lambda _: content),
        lambda: hash_all(lambda path: Path(path).read_bytes()),
        verify_all,
    )
    # In turn, and the best of three: on a machine with other work, one round says little.
    rounds = [[_clocks(action) for action in actions] for _ in range(3)]
    memory, files, deep = (
        [min(figures) for figures in zip(*clocks, strict=True)] for clocks in zip(*rounds, strict=True)
    )
    in_memory, of_files = (f"{n_bytes / seconds / 1e6:,.0f} MB/s" for seconds, _ in (memory, files))
    shares = (
        f"{files[0] / deep[0]:.0%} of the files' rate; in CPU time "
        f"{files[1] / deep[1]:.0%}, and {memory[1] / deep[1]:.0%} of memory's"
    )
    return [
        Timing(f"sha256 of {n_bytes / 1e6:,.0f} MB in memory", memory[0], None, in_memory, memory[1], n_bytes),
        Timing(f"sha256 of {n_pictures:,} files of as many bytes", files[0], None, of_files, files[1], n_bytes),
        Timing("verify these files as pictures", deep[0], files[0] / 0.8, shares, deep[1], n_bytes),
    ]


def _clocks(action: Callable[[], None]) -> tuple[float, float]:
    """Return the seconds that something took, and the CPU seconds of all its threads."""
    started, started_cpu = time.perf_counter(), time.process_time()
    action()
    return time.perf_counter() - started, time.process_time() - started_cpu


def _picture() -> bytes:
    return jpeg_bytes(Image.effect_noise(_SIDES_PX, 60).convert("RGB"), 80)
