"""Views through a model: in batches, at a stated precision, with the time that was waited for what."""

import contextlib
import itertools
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

from curation.encoder import Encoder
from curation.reading import PictureFile, ReadViews, ViewReader, read_ahead
from manifests.errors import InputError

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""What a model may compute in, by autocast; its weights stay as they are, and vectors are made unit in float32."""

_BATCHES_AHEAD = 2
"""Decoded pictures that wait for the model, in batches; more would only cost memory."""

_NO_DIRECTION = "the model gives a NaN, infinite or zero vector"

FileT = TypeVar("FileT", bound=PictureFile)
ItemT = TypeVar("ItemT")


def chosen_precision(wanted: str, device: torch.device) -> str:
    """Return a key of `PRECISIONS` for it or ``auto``: ``fp16`` on a GPU, else ``fp32``.

    Not bf16, whose seven bits of fraction move vectors: those of a MobileNetV2 on 200 real pictures had a cosine
    of 0.990 to the exact ones on average, and of 0.90 at least. On a processor ``auto`` is ``fp32`` even where
    bf16 is faster: a store made on one machine could else not be gone on with on another.

    Raises
    ------
    InputError
        `wanted` is neither.
    """
    if wanted in PRECISIONS:
        return wanted
    if wanted != "auto":
        raise InputError(f"--precision: expected auto or {', '.join(PRECISIONS)}, found {wanted!r}")
    return "fp16" if device.type == "cuda" else "fp32"


@dataclass
class Waits:
    """Seconds that the main thread waited for pictures to be decoded, and for the model."""

    decoding_s: float = 0.0
    model_s: float = 0.0

    @contextlib.contextmanager
    def for_model(self) -> Iterator[None]:
        """Count the block as time of the model."""
        started = time.monotonic()
        yield
        self.model_s += time.monotonic() - started

    def while_decoding(self, stream: Iterator[ItemT]) -> Generator[ItemT, None, None]:
        """Yield from `stream`, counting what the consumer waits for it."""
        while True:
            started = time.monotonic()
            item = next(stream, None)
            self.decoding_s += time.monotonic() - started
            if item is None:
                return
            yield item


@dataclass(frozen=True)
class EncodedViews:
    """One picture's views: names, unit vectors float16 (n_views, d), and lengths float32 (n_views,) or None."""

    names: tuple[str, ...]
    embeddings: npt.NDArray[np.float16]
    norms: npt.NDArray[np.float32] | None


@dataclass(frozen=True)
class Encoding:
    """How pictures go through an encoder.

    Attributes
    ----------
    encoder : Encoder
        The model.
    reader : ViewReader
        How its pixels are made.
    batch_size : int
        Views in one call of the model, more by less than those of one picture.
    n_workers : int
        Readers ahead of the model; they change nothing.
    precision : str
        A key of `PRECISIONS`.
    waits : Waits
        Is added to.
    """

    encoder: Encoder
    reader: ViewReader
    batch_size: int
    n_workers: int
    precision: str = "fp32"
    waits: Waits = field(default_factory=Waits)

    def run(self, groups: Iterable[Sequence[FileT]]) -> Generator[tuple[FileT, EncodedViews | str], None, None]:
        """Yield each picture of each group with its vectors, or why it has none, in order.

        Pictures are read over the ends of groups, but batches end with them, so that a group's vectors are the
        same whichever groups a run begins with: a batch of another size is rounded otherwise.
        """
        counted, to_read = itertools.tee(groups)
        pictures = itertools.chain.from_iterable(to_read)
        n_ahead = max(_BATCHES_AHEAD * self.batch_size // _n_views_at_least(self.reader.grid), self.n_workers)
        stream = self.waits.while_decoding(
            read_ahead(self.reader, pictures, n_workers=self.n_workers, n_ahead=n_ahead)
        )
        # Closed here and not when it is collected: its workers end before the caller goes on.
        with contextlib.closing(stream):
            for group in counted:
                yield from self._group(itertools.islice(stream, len(group)))

    def _group(
        self, pictures: Iterator[tuple[FileT, ReadViews | str]]
    ) -> Iterator[tuple[FileT, EncodedViews | str]]:
        batch: list[tuple[FileT, ReadViews | str]] = []
        n_views = 0
        for picture, read in pictures:
            batch.append((picture, read))
            n_views += 0 if isinstance(read, str) else len(read.names)
            if n_views >= self.batch_size:
                yield from self._encoded(batch)
                batch, n_views = [], 0
        yield from self._encoded(batch)

    def _encoded(
        self, batch: Sequence[tuple[FileT, ReadViews | str]]
    ) -> Iterator[tuple[FileT, EncodedViews | str]]:
        readable = [read for _, read in batch if not isinstance(read, str)]
        if readable:
            vectors, norms = self._vectors(torch.cat([read.pixels for read in readable]))
        at = 0
        for picture, read in batch:
            if isinstance(read, str):
                yield picture, read
                continue
            own = slice(at, at + len(read.names))
            at = own.stop
            if not (np.isfinite(vectors[own]).all() and vectors[own].any(axis=1).all()):
                yield picture, _NO_DIRECTION
            else:
                own_norms = None if norms is None else norms[own]
                yield picture, EncodedViews(read.names, vectors[own].astype(np.float16), own_norms)

    def _vectors(self, pixels: torch.Tensor) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32] | None]:
        device = self.encoder.device
        if device.type == "cuda":
            pixels = pixels.pin_memory()
        dtype = PRECISIONS[self.precision]
        # TensorFloat-32, cuDNN's default, would make fp32 on a GPU another thing than on a processor, by 1e-3.
        exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
        with self.waits.for_model(), exact, torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            return self.encoder.encode(pixels)


def _n_views_at_least(grid: int) -> int:
    return 1 + grid * grid
