"""`bench screen`: each figure in turn, beside the machine's limit and beside rivals."""

import tempfile
from pathlib import Path

import torch

from curation.bench.machine import Machine
from curation.bench.screen.classes import class_section
from curation.bench.screen.embedding import embed_section
from curation.bench.screen.hashes import hash_section
from curation.bench.screen.near_duplicates import LEAST_SIMILARITY, near_duplicate_section, plan_section
from curation.bench.screen.programs import is_installed
from curation.bench.screen.report import ScreenBench
from curation.bench.screen.vectors import planted_vectors
from manifests.devices import device_name
from manifests.durable import write_json
from manifests.errors import InputError

_MOST_PEER_VECTORS, _MOST_PEER_HASHES = 10_000, 5_000
"""What the rivals do in seconds; both compare each with each."""

_EMBEDDED_SHARE = 10
"""One picture in so many is embedded: a model of this size takes a second for a few on a processor."""


def bench_screen(
    *,
    workdir: Path,
    n_rows: int = 125_436,
    n_pictures: int = 400,
    quick: bool = False,
    peers: bool = True,
    seed: int = 0,
    device: str = "auto",
) -> ScreenBench:
    """Return what screening costs here, after writing it to ``<workdir>/bench_screen.json``.

    Parameters
    ----------
    workdir : Path
        Where pictures and vectors lie meanwhile, and where the result goes.
    n_rows : int
        Vectors and hashes; by default those of Open Images' test set.
    n_pictures : int
        Photographs to hash; a tenth of them is embedded.
    quick : bool
        A tenth of everything.
    peers : bool
        Whether to time fiftyone-brain, and imagededup where it is installed.
    seed : int
        Of what is made up.
    device : str
        ``auto``, ``cpu`` or ``cuda``: where near-duplicates are searched and pictures embedded.

    Raises
    ------
    InputError
        A count or the device is not what it should be.
    OpenImageOError
        A program failed.
    """
    if n_rows < 100 or n_pictures < 10:
        raise InputError(f"--rows, --images: expected 100 and 10 or more, found {n_rows}, {n_pictures}")
    where = torch.device(device_name(device, has_cuda=torch.cuda.is_available()))
    if quick:
        n_rows, n_pictures = max(100, n_rows // 10), max(10, n_pictures // 10)
    workdir.mkdir(parents=True, exist_ok=True)
    n_peer_rows = min(n_rows, _MOST_PEER_VECTORS) if peers else None
    n_peer_hashes = min(n_rows, _MOST_PEER_HASHES) if peers and is_installed("imagededup") else None
    named = torch.cuda.get_device_name(where) if where.type == "cuda" else where.type
    with tempfile.TemporaryDirectory(dir=workdir) as scratch:
        folders = {name: Path(scratch) / name for name in ("classes", "pairs", "hashes", "embed")}
        for folder in folders.values():
            folder.mkdir()
        planted = planted_vectors(n_rows, LEAST_SIMILARITY, seed)
        near_duplicates, ours = near_duplicate_section(planted, folders["pairs"], where, n_peer_rows, seed)
        sections = (
            class_section(planted.vectors, folders["classes"], seed),
            near_duplicates,
            hash_section(n_pictures, n_rows, folders["hashes"], n_peer_hashes, seed),
            embed_section(max(1, n_pictures // _EMBEDDED_SHARE), folders["embed"], device),
            plan_section(ours, n_rows, named),
        )
    result = ScreenBench(Machine.here(), named, torch.get_num_threads(), sections)
    write_json(workdir / "bench_screen.json", result.as_json())
    return result
