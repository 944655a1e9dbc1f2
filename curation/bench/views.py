"""`bench views`: what tiles find of small in-class objects, what they cost, and what fast decoding changes.

An ImageNet picture, whose class is known, is pasted at a share of the area into a picture that shows no class,
made 1024 x 768 px large as most of Open Images' copies are; then it is looked for with every grid of tiles.
"""

import csv
import math
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from curation.encoder import Encoder
from curation.views import cut_views, least_side_px
from manifests.errors import InputError
from manifests.images import decode_image, jpeg_bytes, read_image
from manifests.schema import N_SHOWN_CLASSES

SHARES = (0.25, 0.10, 0.05)
_SIZE_PX = (1024, 768)
_JPEG_QUALITY = 90


@dataclass(frozen=True)
class GridFigures:
    """What one grid of tiles reaches.

    Attributes
    ----------
    grids : tuple of int
        Tiles along the shorter side; several where their views are taken together.
    n_views : float
        Views a picture, the whole among them.
    best, shown : tuple of float
        For each of `SHARES`, how often the pasted class has the highest cosine over the views, and one of the ten
        highest.
    """

    grids: tuple[int, ...]
    n_views: float
    best: tuple[float, ...]
    shown: tuple[float, ...]


@dataclass(frozen=True)
class FastFigures:
    """What decoding at reduced size changes, by grid: cosine to the exact vectors, and milliseconds a picture."""

    grid: int
    least_cosine: float
    mean_cosine: float
    exact_ms: float
    fast_ms: float


@dataclass(frozen=True)
class ViewsBench:
    """What `bench_views` found on `n_pictures` pasted pictures with the encoder `model`."""

    model: str
    n_pictures: int
    grids: tuple[GridFigures, ...]
    fast: tuple[FastFigures, ...]

    def as_json(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        grids = [
            {
                "grids": one.grids,
                "n_views": one.n_views,
                "pasted": [
                    {"area_share": area_share, "best": best, "shown": shown}
                    for area_share, best, shown in zip(SHARES, one.best, one.shown, strict=True)
                ],
            }
            for one in self.grids
        ]
        fast = [asdict(one) for one in self.fast]
        return {"model": self.model, "n_pictures": self.n_pictures, "grids": grids, "fast_decode": fast}


@dataclass(frozen=True)
class Pasted:
    """A JPEG that holds a picture of a class at one of `SHARES`, and where: left, top, right, bottom."""

    share: int
    class_index: int
    content: bytes
    box: tuple[int, int, int, int]


def bench_views(
    encoder: Encoder,
    prototypes: npt.NDArray[np.float32],
    data_dir: Path,
    *,
    n_pictures: int = 100,
    grids: Sequence[int] = (2, 3, 4),
    seed: int = 0,
) -> ViewsBench:
    """Return what tiles find, measured with a real model on real pictures.

    Parameters
    ----------
    encoder : Encoder
        The model.
    prototypes : ndarray of float32, (n_classes, n_dimensions)
        Unit length, in the encoder's space.
    data_dir : Path
        With ``imagenet_val/`` (pictures, labels.csv) and ``pool/`` (test/, truth.csv).
    n_pictures : int
        ImageNet pictures to paste, each at every share.
    grids : sequence of int
        Tiles along the shorter side, besides the whole picture alone and all of them together.
    seed : int
        Chooses pictures and places.

    Raises
    ------
    InputError
        `data_dir` is not such a folder.
    """
    combinations = [(), *((grid,) for grid in grids), tuple(grids)]
    ranks: dict[tuple[int, ...], list[tuple[int, int]]] = {combination: [] for combination in combinations}
    n_views = dict.fromkeys(combinations, 0)
    pasted = list(pasted_pictures(data_dir, n_pictures, seed))
    for one in pasted:
        image = decode_image(one.content)
        by_grid = {grid: _encode(encoder, image, grid) @ prototypes.T for grid in (0, *grids)}  # (v, c)
        for combination in combinations:
            # The whole picture stands first in every grid, and is counted once.
            similarities = np.concatenate([by_grid[0], *(by_grid[grid][1:] for grid in combination)])
            highest = similarities.max(axis=0)
            ranks[combination].append((one.share, int((highest > highest[one.class_index]).sum())))
            n_views[combination] += len(similarities)
    figures = tuple(
        GridFigures(
            combination,
            n_views[combination] / len(pasted),
            _shares_within(ranks[combination], 1),
            _shares_within(ranks[combination], N_SHOWN_CLASSES),
        )
        for combination in combinations
    )
    smallest = [one.content for one in pasted if one.share == len(SHARES) - 1]
    fast = tuple(_fast_figures(encoder, smallest, grid) for grid in (0, *grids))
    return ViewsBench(encoder.name, n_pictures, figures, fast)


def views_table(bench: ViewsBench) -> str:
    """Return the result as text: one line a grid, then one line a grid of what fast decoding changes."""
    shares = "".join(f"  {share:>4.0%} best  shown" for share in SHARES)
    lines = [
        f"{bench.model}: {bench.n_pictures} ImageNet pictures, each pasted into one of {_SIZE_PX[0]} x "
        f"{_SIZE_PX[1]} px that shows no class, at a share of its area",
        "best, shown: how often its class has the highest cosine over the views, and one of the ten highest",
        f"{'tiles':12}  views{shares}",
    ]
    for grid in bench.grids:
        reached = "".join(
            f"  {best:>9.2f}  {shown:>5.2f}" for best, shown in zip(grid.best, grid.shown, strict=True)
        )
        lines.append(f"{' and '.join(map(str, grid.grids)) or 'none':12}  {grid.n_views:>5.1f}{reached}")
    lines += ["", "--fast-decode", "tiles  least cosine  mean cosine  exact ms  fast ms"]
    lines += [
        f"{fast.grid:>5}  {fast.least_cosine:>12.4f}  {fast.mean_cosine:>11.4f}  {fast.exact_ms:>8.1f}  "
        f"{fast.fast_ms:>7.1f}"
        for fast in bench.fast
    ]
    return "\n".join(lines)


def check_pictures_to_paste(data_dir: Path) -> None:
    """Refuse a folder without the lists that `pasted_pictures` reads; raises as it does."""
    _lists(data_dir)


def pasted_pictures(data_dir: Path, n_pictures: int, seed: int) -> Iterator[Pasted]:
    """Yield ImageNet pictures at every share of `SHARES`, each in a picture that shows no class.

    Raises
    ------
    InputError
        `data_dir` is not a folder as `bench_views` takes it.
    """
    labels, outs = _lists(data_dir)
    drawn = random.Random(seed)
    drawn.shuffle(labels)
    drawn.shuffle(outs)
    for number, label in enumerate(labels[:n_pictures]):
        shown = read_image(data_dir / "imagenet_val" / label["file"])
        background = _filling(read_image(data_dir / "pool" / "test" / f"{outs[number % len(outs)]}.jpg"))
        for share, area in enumerate(SHARES):
            side = min(round(math.sqrt(area * _SIZE_PX[0] * _SIZE_PX[1])), *_SIZE_PX)
            image = background.copy()
            place = (drawn.randint(0, _SIZE_PX[0] - side), drawn.randint(0, _SIZE_PX[1] - side))
            image.paste(shown.resize((side, side), Image.Resampling.BICUBIC), place)
            box = (*place, place[0] + side, place[1] + side)
            yield Pasted(share, int(label["class_index"]), jpeg_bytes(image, _JPEG_QUALITY), box)


def _lists(data_dir: Path) -> tuple[list[dict[str, str]], list[str]]:
    """Return the rows of ImageNet's pictures, and the ids of those that show no class."""
    labels = _rows(data_dir / "imagenet_val" / "labels.csv", {"file", "class_index"})
    truth = _rows(data_dir / "pool" / "truth.csv", {"image_id", "truth"})
    return labels, sorted(row["image_id"] for row in truth if row["truth"] == "out")


def _rows(path: Path, columns: set[str]) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"--data: {path} cannot be read as CSV ({error})") from error
    if not columns <= set(reader.fieldnames or ()):
        raise InputError(f"--data: {path}: expected the columns {', '.join(sorted(columns))}")
    return rows


def _filling(image: Image.Image) -> Image.Image:
    """Return the middle of a picture, resized to fill the whole size."""
    scale = max(_SIZE_PX[0] / image.width, _SIZE_PX[1] / image.height)
    width, height = (math.ceil(length * scale) for length in image.size)
    left, top = (width - _SIZE_PX[0]) // 2, (height - _SIZE_PX[1]) // 2
    box = (left, top, left + _SIZE_PX[0], top + _SIZE_PX[1])
    return image.resize((width, height), Image.Resampling.BICUBIC).crop(box)


def _encode(encoder: Encoder, image: Image.Image, grid: int) -> npt.NDArray[np.float32]:
    return encoder.encode(torch.stack([encoder.pixels(view) for _, view in cut_views(image, grid)]))[0]


def _shares_within(ranks: Sequence[tuple[int, int]], n_best: int) -> tuple[float, ...]:
    by_share = ([rank < n_best for at, rank in ranks if at == share] for share in range(len(SHARES)))
    return tuple(sum(found) / len(found) for found in by_share)


def _fast_figures(encoder: Encoder, contents: Sequence[bytes], grid: int) -> FastFigures:
    least_px = least_side_px(grid, encoder.input_px)
    cosines: list[npt.NDArray[np.float32]] = []
    spent_s = [0.0, 0.0]
    for content in contents:
        vectors = []
        for at, asked_px in enumerate((None, least_px)):
            started = time.thread_time()
            views = cut_views(decode_image(content, least_side_px=asked_px), grid)
            pixels = torch.stack([encoder.pixels(view) for _, view in views])
            spent_s[at] += time.thread_time() - started
            vectors.append(encoder.encode(pixels)[0])
        cosines.append((vectors[0] * vectors[1]).sum(axis=1))
    together = np.concatenate(cosines)
    exact_ms, fast_ms = (1000 * seconds / len(contents) for seconds in spent_s)
    return FastFigures(grid, float(together.min()), float(together.mean()), exact_ms, fast_ms)
