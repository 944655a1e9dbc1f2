"""What a training step learns from: pictures, masks and one phrase each, drawn by seed and epoch alone."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from curation.localize.letterbox import letterbox_of
from curation.localize.referring_set import ReferringExample
from manifests.ahead import prepared_ahead
from manifests.errors import InputError


@dataclass(frozen=True, eq=False)
class Batch:
    """One step's examples.

    Attributes
    ----------
    pixels : Tensor
        uint8 (n, 3, side, side).
    masks : Tensor
        uint8 (n, side, side), 0 to 255.
    phrases : list of str
        One an example.
    """

    pixels: torch.Tensor
    masks: torch.Tensor
    phrases: list[str]


@dataclass(frozen=True)
class BatchMaker:
    """Makes the batches of any epoch.

    Attributes
    ----------
    examples : sequence of ReferringExample
        To learn from; an epoch takes each once with one of its phrases, but for a rest that fills no batch.
    batch_size : int
        Of each batch.
    side_px : int
        Of the input.
    colour : tuple of int
        Around pictures that are not square.
    seed : int
        Of order and phrases.
    n_workers : int
        Threads that read pictures; the batches do not depend on it.

    Raises
    ------
    InputError
        There are fewer examples than a batch takes.
    """

    examples: Sequence[ReferringExample]
    batch_size: int
    side_px: int
    colour: tuple[int, int, int]
    seed: int
    n_workers: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.batch_size <= len(self.examples):
            raise InputError(
                f"--batch-size {self.batch_size}: expected 1 to {len(self.examples):,}, the examples to learn from"
            )

    @property
    def n_batches(self) -> int:
        """Batches of an epoch."""
        return len(self.examples) // self.batch_size

    def of_epoch(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of an epoch, counted from 0."""
        rng = np.random.default_rng([self.seed, epoch])
        order = rng.permutation(len(self.examples))[: self.n_batches * self.batch_size]
        asked = [(example, str(rng.choice(example.phrases))) for example in (self.examples[i] for i in order)]
        read = prepared_ahead(self._read, asked, n_workers=self.n_workers, n_ahead=2 * self.batch_size)
        for _ in range(self.n_batches):
            parts = list(itertools.islice(read, self.batch_size))
            pixels, masks = zip(*(placed for _, placed in parts), strict=True)
            yield Batch(torch.stack(pixels), torch.stack(masks), [phrase for (_, phrase), _ in parts])

    def _read(self, asked: tuple[ReferringExample, str]) -> tuple[torch.Tensor, torch.Tensor]:
        picture, mask = asked[0].read()
        box = letterbox_of(picture.width, picture.height, self.side_px)
        return box.place(picture, self.colour), box.place_mask(mask)
