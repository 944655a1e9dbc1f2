"""Pictures of known truth to measure the screen on: real ones, and in-class ones pasted small into others."""

import csv
import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from curation.screening.truth import is_held_out
from manifests import schema
from manifests.durable import replacing, sha256_of_file
from manifests.errors import InputError
from manifests.images import read_image
from manifests.workspace import Workspace

AREA_SHARES = (0.25, 0.10, 0.05)
"""Of the picture that an in-class one is pasted into."""

TRUTH_COLUMNS = ("image_id", "truth", "class_index", "kind")
_JPEG_QUALITY = 95


@dataclass(frozen=True)
class RealPicture:
    """One picture of the data folder: its truth (``in``, ``out`` or another word), class and where it lies."""

    image_id: str
    truth: str
    class_index: int | None
    path: Path


def read_real_pictures(data_dir: Path) -> list[RealPicture]:
    """Return the pictures of ``pool/`` and ``imagenet_val/``, sorted by image id.

    Raises
    ------
    InputError
        `data_dir` is no such folder.
    """
    pool, val = data_dir / "pool", data_dir / "imagenet_val"
    try:
        pictures = [
            RealPicture(
                row["image_id"], row["truth"], int(row["class_index"]) if row["class_index"] else None,
                pool / "test" / f"{row['image_id']}.jpg",
            )
            for row in _rows(pool / "truth.csv")
        ]  # fmt: skip
        pictures += [
            RealPicture(Path(row["file"]).stem, "in", int(row["class_index"]), val / row["file"])
            for row in _rows(val / "labels.csv")
        ]
    except (OSError, KeyError, ValueError, csv.Error) as error:
        raise InputError(
            f"--data {data_dir}: expected pool/truth.csv and imagenet_val/labels.csv ({error!r})"
        ) from error
    return sorted(pictures, key=lambda picture: picture.image_id)


def make_workspace(data_dir: Path, workspace: Workspace, seed: int) -> Path:
    """Fill candidates, downloads and pictures of a workspace, and return its ``truth.csv``.

    Every ``out`` picture of the held-out half is there three times more, each with an ``in`` picture of that
    half pasted in, at the shares of `AREA_SHARES` and a random place; their truth is ``pasted`` and their kind
    says how large. A run over a workspace that holds them already repeats nothing.
    """
    pictures = read_real_pictures(data_dir)
    rows: list[tuple[str, str, int | None, str]] = []
    for picture in pictures:
        _place(picture.path, workspace.root / workspace.relative_image_path(picture.image_id))
        rows.append((picture.image_id, picture.truth, picture.class_index, "whole"))
    held_out = [picture for picture in pictures if is_held_out(picture.image_id, seed)]
    rows += _paste_all(held_out, workspace, seed)
    _write_tables(workspace, sorted(row[0] for row in rows))
    path = workspace.root / "truth.csv"
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(TRUTH_COLUMNS)
        writer.writerows(sorted(rows))
    return path


def read_truth_rows(path: Path) -> dict[str, dict[str, str]]:
    """Return the rows of a ``truth.csv`` of `make_workspace` by image id."""
    return {row["image_id"]: row for row in _rows(path)}


def paste(host: Image.Image, guest: Image.Image, area_share: float, at: tuple[float, float]) -> Image.Image:
    """Return `host` with `guest` pasted in, its shape kept, on a share of the area.

    Parameters
    ----------
    host, guest : Image
        Upright RGB.
    area_share : float
        Of the host; less where the guest would stand over.
    at : tuple of float
        Where, horizontally and vertically, each in [0, 1]: from edge to edge.
    """
    scale = (area_share * host.width * host.height / (guest.width * guest.height)) ** 0.5
    scale = min(scale, host.width / guest.width, host.height / guest.height)
    size = max(1, round(guest.width * scale)), max(1, round(guest.height * scale))
    both = host.copy()
    place = int(at[0] * (host.width - size[0])), int(at[1] * (host.height - size[1]))
    both.paste(guest.resize(size, Image.Resampling.LANCZOS), place)
    return both


def _paste_all(
    pictures: Sequence[RealPicture], workspace: Workspace, seed: int
) -> list[tuple[str, str, int | None, str]]:
    guests = [picture for picture in pictures if picture.truth == "in"]
    hosts = [picture for picture in pictures if picture.truth == "out"]
    rows = []
    for host in hosts:
        # Of the host's id alone: another set of pictures leaves the others as they are.
        draws = np.random.default_rng([seed, *hashlib.sha256(host.image_id.encode()).digest()])
        for area_share in AREA_SHARES:
            guest = guests[int(draws.integers(len(guests)))]
            at = (float(draws.random()), float(draws.random()))
            kind = f"pasted {area_share:.0%}"
            image_id = f"pasted{round(100 * area_share):02d}-{host.image_id}"[:64]
            path = workspace.root / workspace.relative_image_path(image_id)
            if not path.exists():
                image = paste(read_image(host.path), read_image(guest.path), area_share, at)
                with replacing(path) as temporary:
                    image.save(temporary, "JPEG", quality=_JPEG_QUALITY)
            rows.append((image_id, "pasted", guest.class_index, kind))
    return rows


def _place(source: Path, path: Path) -> None:
    if not path.exists():
        with replacing(path) as temporary:
            shutil.copyfile(source, temporary)


def _write_tables(workspace: Workspace, image_ids: Sequence[str]) -> None:
    candidates = [{"image_id": k, "subset": "test", "url": f"https://example.org/{k}.jpg"} for k in image_ids]
    workspace.write(schema.CANDIDATES, candidates)
    workspace.write(schema.DOWNLOADS, [_download_row(workspace, image_id) for image_id in image_ids])


def _download_row(workspace: Workspace, image_id: str) -> Mapping[str, Any]:
    relative = workspace.relative_image_path(image_id)
    path = workspace.root / relative
    width_px, height_px = read_image(path).size
    return {
        "image_id": image_id, "status": "ok", "attempts": 1, "sha256": sha256_of_file(path),
        "size_bytes": path.stat().st_size, "width_px": width_px, "height_px": height_px, "path": relative,
    }  # fmt: skip


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))
