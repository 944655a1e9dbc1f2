"""Pictures read, decoded and cut into views ahead of the model: in threads, or in processes where these pay."""

import itertools
import multiprocessing
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from curation.encoder import PixelMaker
from curation.verified_bytes import verified_bytes
from curation.views import cut_views, least_side_px
from manifests.ahead import prepared_ahead
from manifests.errors import ToolMissingError, UnreadableImageError, one_line
from manifests.images import decode_image

MOST_THREADS = 8
"""Up to so many workers are threads, above they are processes.

Of the 15 ms that a JPEG of 1024 x 768 px and its five views take a core, Pillow holds Python's lock for about 1
(measured on one core: `convert` 0.2, four `crop` 0.35, five copies to a tensor 0.2, walking the file's parts 0.1);
decoding (3.4) and resizing (11) let go of it. So eight threads hold it for half of the time and nearly run free,
and need no start: a process imports the model's library, for seconds, and each picture is copied once more.
"""


class PictureFile(Protocol):
    """A picture to read."""

    @property
    def path(self) -> Path:
        """Its file."""
        ...

    @property
    def rotation_deg(self) -> int | None:
        """Open Images' rotation, where known."""
        ...

    @property
    def sha256(self) -> str | None:
        """What its bytes are recorded by, where they are."""
        ...


FileT = TypeVar("FileT", bound=PictureFile)


@dataclass(frozen=True)
class ReadViews:
    """The views of one picture: their names, and their pixels, uint8 (n_views, 3, height, width)."""

    names: tuple[str, ...]
    pixels: torch.Tensor


@dataclass(frozen=True)
class ViewReader:
    """Reads a picture and makes the pixels of its views.

    Attributes
    ----------
    pixels : callable
        An encoder's.
    input_px : int
        An encoder's.
    grid : int
        As `curation.views.cut_views` takes it.
    is_fast : bool
        Let the JPEG decoder make a picture that is smaller by 2, 4 or 8, as long as no view falls short of
        `input_px`; this changes pixels a little.
    """

    pixels: PixelMaker
    input_px: int
    grid: int
    is_fast: bool = False

    def read(self, picture: PictureFile) -> ReadViews | str:
        """Return the views of a picture, or why there are none."""
        least_px = least_side_px(self.grid, self.input_px) if self.is_fast else None
        try:
            content = verified_bytes(picture.path, picture.sha256)
            image = decode_image(content, picture.rotation_deg, least_side_px=least_px)
        except UnreadableImageError as error:
            return error.reason
        views = cut_views(image, self.grid)
        return ReadViews(tuple(name for name, _ in views), torch.stack([self.pixels(view) for _, view in views]))


def read_ahead(
    reader: ViewReader, pictures: Iterable[FileT], *, n_workers: int, n_ahead: int
) -> Iterator[tuple[FileT, ReadViews | str]]:
    """Yield each picture with what `reader` makes of it, in order, while workers read up to `n_ahead` that follow.

    The workers' number changes nothing but the time.

    Raises
    ------
    ToolMissingError
        A worker process was ended from outside, by a lack of memory for one.
    """
    if n_workers <= MOST_THREADS:
        yield from prepared_ahead(reader.read, pictures, n_workers=n_workers, n_ahead=n_ahead)
        return
    given, to_read = itertools.tee(pictures)
    loader = DataLoader(
        _Reading(reader),
        batch_size=None,
        sampler=to_read,
        num_workers=n_workers,
        prefetch_factor=max(1, n_ahead // n_workers),
        # Not fork: the threads of torch and Pillow in this process may hold locks that a copy would wait for.
        multiprocessing_context=_forkserver(reader.pixels.__module__),
    )
    try:
        yield from zip(given, loader, strict=True)
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise ToolMissingError(
            f"a process that reads pictures was ended ({one_line(error)}): give fewer --workers; what was done is "
            "saved"
        ) from error


def _forkserver(module: str) -> BaseContext:
    """Return how worker processes start: as copies of one that has imported `module`, and has no threads."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([module])
    return context


class _Reading(Dataset[ReadViews | str]):
    """What a worker process holds: the reader, asked with a picture and not with a number."""

    def __init__(self, reader: ViewReader) -> None:
        self._reader = reader

    def __getitem__(self, picture: PictureFile) -> ReadViews | str:
        return self._reader.read(picture)
