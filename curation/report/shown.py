"""The shown classes of all screened pictures, as flat arrays: a million of them are counted in a blink."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

_HUMAN, _NOT_TOLD = "human", "not told"


@dataclass(frozen=True, eq=False)
class ShownClasses:
    """One entry a picture and shown class.

    Attributes
    ----------
    rows : (n,) int64
        The picture's row in ``screen.parquet``.
    ranks : (n,) int64
        Place among the classes of the picture, from 0.
    similarities : (n,) float32
        Cosine of class and picture.
    sources, views : (n,) array of str
        Who raised the class, and in which view; ``not told`` in a table that does not say.
    n_rows : int
        Pictures, those without shown classes too.
    """

    rows: npt.NDArray[np.int64]
    ranks: npt.NDArray[np.int64]
    similarities: npt.NDArray[np.float32]
    sources: npt.NDArray[np.str_]
    views: npt.NDArray[np.str_]
    n_rows: int

    def models(self) -> list[str]:
        """Return the sources that are models, CLIP first; their cosines cannot be compared with each other."""
        return sorted(set(np.unique(self.sources).tolist()) - {_HUMAN}, key=lambda word: (word != "clip", word))

    def highest(self, model: str) -> npt.NDArray[np.float32]:
        """Return the highest cosine of each picture (n_rows,) by one of `models`, NaN where it shows no class.

        Classes that people verified carry the cosine of the first model, and count there.
        """
        wanted = [model, _HUMAN] if model == self.models()[0] else [model]
        is_wanted = np.isin(self.sources, wanted)
        highest = np.full(self.n_rows, -np.inf, np.float32)
        np.maximum.at(highest, self.rows[is_wanted], self.similarities[is_wanted])
        return np.where(np.isneginf(highest), np.float32(np.nan), highest)

    def counts_by_source(self) -> dict[str, tuple[int, int]]:
        """Return of each source the classes that it raised, and those of them that are shown first."""
        everywhere, first = Counter(self.sources.tolist()), Counter(self.sources[self.ranks == 0].tolist())
        return {source: (everywhere[source], first[source]) for source in sorted(everywhere)}

    def counts_by_view(self) -> dict[str, int]:
        """Return the classes raised by the whole picture, and by its tiles of each size."""
        kinds, counts = np.unique(self.views, return_counts=True)
        found: Counter[str] = Counter()
        for view, n in zip(kinds.tolist(), counts.tolist(), strict=True):
            # tile_3_0_2 is one of 3 x 3.
            parts = view.split("_")
            found[f"tiles {parts[1]} x {parts[1]}" if parts[0] == "tile" and len(parts) > 1 else view] += n
        return dict(sorted(found.items()))


def shown_classes(screened: pa.Table) -> ShownClasses:
    """Return the shown classes of ``screen.parquet``."""
    similarities = screened.column("shown_similarities").combine_chunks()
    rows = pc.list_parent_indices(similarities).to_numpy(zero_copy_only=False).astype(np.int64)
    starts = np.searchsorted(rows, rows)
    return ShownClasses(
        rows,
        np.arange(len(rows)) - starts,
        pc.list_flatten(similarities).to_numpy(zero_copy_only=False).astype(np.float32),
        _words(screened.column("shown_sources"), len(rows)),
        _words(screened.column("shown_views"), len(rows)),
        screened.num_rows,
    )


def _words(column: pa.ChunkedArray, n_entries: int) -> npt.NDArray[np.str_]:
    words = pc.list_flatten(column.combine_chunks())
    if len(words) != n_entries:
        return np.full(n_entries, _NOT_TOLD)
    # A few words stand for all entries: they are made of numbers, not of a million texts.
    encoded = words.dictionary_encode()
    names = np.array(encoded.dictionary.to_pylist() or [_NOT_TOLD], np.str_)
    return names[encoded.indices.to_numpy(zero_copy_only=False)]
