"""An export of the format `torch` as a data set of pictures, and a loader of its batches."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from manifests.errors import InputError, TableError, UnreadableImageError
from manifests.exporters.exported_set import RECORDS_NAME
from manifests.images import read_image
from manifests.parquet import read_parquet

_COLUMNS = ("image_id", "path", "label", "split", "rotation_deg")


class Sample(NamedTuple):
    """One picture as `transform` made it, its label (-1: out-of-distribution) as `target_transform` made it."""

    image: Any
    label: Any
    image_id: str


class ExportedImages(Dataset[Sample]):
    """The pictures of an export, sorted by image id, upright as `extract-features` reads them.

    Parameters
    ----------
    folder : str or Path
        Written by ``export --format torch``.
    split : str, optional
        Keep the images of this split alone.
    transform : callable, optional
        From an upright RGB picture to what a sample holds; the picture itself where it is not given.
    target_transform : callable, optional
        From the label to what a sample holds.

    Raises
    ------
    InputError
        `folder` is no such export, or holds no image of the split.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        split: str | None = None,
        transform: Callable[[Image.Image], Any] | None = None,
        target_transform: Callable[[int], Any] | None = None,
    ) -> None:
        self.folder = Path(folder)
        path = self.folder / RECORDS_NAME
        if not path.is_file():
            raise InputError(f"{path} is not there: expected a folder written by 'export --format torch'")
        rows = read_parquet(path)
        if missing := set(_COLUMNS) - set(rows.column_names):
            raise TableError(
                f"{path}: expected the column {min(missing)}; was it written by 'export --format torch'?"
            )
        kept = [row for row in rows.select(_COLUMNS).to_pylist() if split in (None, row["split"])]
        if not kept:
            splits = ", ".join(sorted(set(rows.column("split").to_pylist())))
            raise InputError(f"{folder}: no image of the split {split!r}; there are {splits}")
        self.image_ids: tuple[str, ...] = tuple(row["image_id"] for row in kept)
        self._transform = transform
        self._target_transform = target_transform
        self._rows = kept

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Sample:
        """Return one sample.

        Raises
        ------
        InputError
            Its picture cannot be read.
        """
        row = self._rows[index]
        path = self.folder / row["path"]
        try:
            image: Any = read_image(path, row["rotation_deg"])
        except UnreadableImageError as error:
            raise InputError(f"{path}: {error}") from error
        label: Any = row["label"]
        if self._transform is not None:
            image = self._transform(image)
        if self._target_transform is not None:
            label = self._target_transform(label)
        return Sample(image, label, row["image_id"])


def exported_loader(
    folder: str | Path,
    transform: Callable[[Image.Image], torch.Tensor],
    *,
    split: str | None = None,
    target_transform: Callable[[int], Any] | None = None,
    batch_size: int = 64,
    n_workers: int = 0,
) -> DataLoader[Sample]:
    """Return a loader of batches in the order of the image ids, the last one smaller where it must be.

    A batch is a `Sample`: images stacked ``(n, ...)``, labels int64 ``(n,)``, image ids as a list.

    Parameters
    ----------
    folder, split, target_transform
        As `ExportedImages` takes them.
    transform : callable
        From an upright RGB picture to a tensor of one shape for all.
    batch_size, n_workers : int
        Pictures a batch; processes that read them, none for this one.
    """
    images = ExportedImages(folder, split=split, transform=transform, target_transform=target_transform)
    return DataLoader(
        images, batch_size=batch_size, shuffle=False, num_workers=n_workers, pin_memory=torch.cuda.is_available()
    )
