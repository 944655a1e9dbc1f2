"""Evidence masks on disk: where in a picture each of its shown classes might be, by one localizer.

``masks/<localizer digest>/`` holds ``shard-NNNN.parquet`` and ``unreadable.parquet``. A mask is a small 8-bit PNG
that covers the whole upright picture, 0 for no evidence to 255 for all. An image's shard depends on its id alone,
and a shard is either whole or absent, so that a run that was killed ends later in the bytes of one that was not.
"""

import io
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

from manifests import schema
from manifests.durable import delete
from manifests.errors import TableError
from manifests.image_ids import shard_of
from manifests.parquet import parquet_schema, read_written_as, write_parquet
from manifests.stored_pictures import StoredPicture
from manifests.workspace import Workspace

LONGEST_SIDE_CELLS = 64
"""Of a mask: an object of 1 % of the area has six cells to its side, and ten masks take about 10 kB a picture."""

IS_EVIDENCE_FROM = 128
"""From here on a cell counts as the class's: a `curation.localize.localizer.Localizer` says 0.5."""

MASK_FACTS = schema.MASKS.remove(schema.MASKS.get_field_index("mask"))
"""What is read of `schema.MASKS` where the masks themselves are not wanted."""

RISK_NUMBER = "localizer"
"""The word that a calibration's number begins with which is taken of masks; the localizer's digest follows."""

_N_SHARDS = 256
_RERUN = "run 'localize' again"


@dataclass(frozen=True)
class MaskFacts:
    """What is known of a mask without decoding it.

    Attributes
    ----------
    class_name : str
        What the localizer was asked for: where the class is called otherwise now, the mask is outdated.
    area_share, peak : float
        As `mask_facts` gives them, in single precision.
    """

    class_name: str
    area_share: float
    peak: float


@dataclass(frozen=True)
class LocatedImage:
    """What is known of the masks of one picture, without the masks themselves.

    Attributes
    ----------
    image_id : str
        Its id.
    sha256, rotation_deg : str, int
        Of which pixels: where they differ from the stored picture's, the masks are outdated.
    facts : mapping of int to MaskFacts
        By class index.
    """

    image_id: str
    sha256: str
    rotation_deg: int
    facts: Mapping[int, MaskFacts]

    @property
    def names(self) -> dict[int, str]:
        """What the localizer was asked for, by class index."""
        return {class_index: facts.class_name for class_index, facts in self.facts.items()}

    def is_of(self, picture: StoredPicture) -> bool:
        """Return whether these are masks of the picture as it is stored now."""
        return (self.sha256, self.rotation_deg) == picture.pixels


@dataclass(frozen=True)
class MaskedImage(LocatedImage):
    """The masks of one picture.

    Attributes
    ----------
    masks : mapping of int to bytes
        PNG by class index, of the classes of `facts`.
    """

    masks: Mapping[int, bytes]


def located_images(rows: pa.Table) -> dict[str, LocatedImage]:
    """Return images by id, of rows sorted by image id that have the columns of `MASK_FACTS`."""
    told = rows.select(MASK_FACTS.names)
    return {key[0]: LocatedImage(*key, _facts(of_image)) for key, of_image in _by_image(told)}


def _masked_images(rows: pa.Table) -> dict[str, MaskedImage]:
    """Return images by id, of rows of `schema.MASKS` sorted by image id."""
    return {
        key[0]: MaskedImage(*key, _facts(of_image), {row[3]: row[7] for row in of_image})
        for key, of_image in _by_image(rows)
    }


def _by_image(rows: pa.Table) -> Iterator[tuple[tuple[str, str, int], list[tuple[Any, ...]]]]:
    told = zip(*rows.to_pydict().values(), strict=True)
    for (image_id, sha256, rotation_deg), of_image in itertools.groupby(told, key=lambda row: row[:3]):
        yield (image_id, sha256, rotation_deg), list(of_image)


def _facts(of_image: Sequence[tuple[Any, ...]]) -> dict[int, MaskFacts]:
    return {row[3]: MaskFacts(*row[4:7]) for row in of_image}


class MaskStore:
    """The folder of one localizer's masks in a workspace."""

    def __init__(self, workspace: Workspace, digest: str) -> None:
        self.digest = digest
        self.folder = workspace.masks_dir / digest

    @staticmethod
    def shard_of(image_id: str) -> int:
        """Return the shard of an image, which depends on its id alone."""
        return shard_of(image_id, _N_SHARDS)

    def read_shard(self, shard: int) -> dict[str, MaskedImage]:
        """Return the images of one shard by id; empty where it has not been written.

        Raises
        ------
        TableError
            The file is damaged or of another version.
        """
        return _masked_images(self._rows(shard, schema.MASKS))

    def read_facts(self, shard: int) -> dict[str, LocatedImage]:
        """Return the same without the masks themselves; raises as `read_shard`."""
        return located_images(self._rows(shard, MASK_FACTS))

    def _rows(self, shard: int, wanted: pa.Schema) -> pa.Table:
        path = self._shard_path(shard)
        if not path.exists():
            return wanted.empty_table()
        return read_written_as(path, schema.MASKS, rerun=_RERUN, columns=wanted.names)

    def write_shard(self, shard: int, images: Mapping[str, MaskedImage]) -> None:
        """Write one shard, sorted by image id and class, in one step; one without an image is deleted."""
        rows = [
            (image.image_id, image.sha256, image.rotation_deg, index, *astuple(image.facts[index]), mask)
            for _, image in sorted(images.items())
            for index, mask in sorted(image.masks.items())
        ]
        if not rows:
            delete(self._shard_path(shard))
            return
        columns = dict(zip(schema.MASKS.names, map(list, zip(*rows, strict=True)), strict=True))
        write_parquet(self._shard_path(shard), pa.table(columns, schema=schema.MASKS))

    def numbers(self) -> list[int]:
        """Return the shards that have been written."""
        return [shard for shard in range(_N_SHARDS) if self._shard_path(shard).exists()]

    def is_whole(self, shard: int) -> bool:
        """Return whether a shard is there and its end, where Parquet says what the file holds, can be read."""
        try:
            return not schema.difference_of_form(parquet_schema(self._shard_path(shard)), schema.MASKS)
        except TableError:
            return False

    def facts(self) -> pa.Table:
        """Return all rows of the store but for the masks themselves, in no order."""
        tables = [self._rows(shard, MASK_FACTS) for shard in self.numbers()]
        return pa.concat_tables(tables) if tables else MASK_FACTS.empty_table()

    def write_unreadable(self, found: Mapping[str, tuple[str, str]]) -> None:
        """Write of some images, by id, the sha256 and why they have no masks."""
        columns = list(zip(*((image_id, *told) for image_id, told in sorted(found.items())), strict=True))
        names = schema.UNREADABLE.names
        table = pa.table(dict(zip(names, columns or [()] * len(names), strict=True)), schema=schema.UNREADABLE)
        write_parquet(self._unreadable_path, table)

    def read_unreadable(self) -> dict[str, tuple[str, str]]:
        """Return, by image id, the sha256 of pictures that had no masks when they were last tried, and why."""
        if not self._unreadable_path.exists():
            return {}
        table = read_written_as(self._unreadable_path, schema.UNREADABLE, rerun=_RERUN)
        rows = zip(*table.to_pydict().values(), strict=True)
        return {image_id: (sha256, reason) for image_id, sha256, reason in rows}

    @property
    def _unreadable_path(self) -> Path:
        return self.folder / "unreadable.parquet"

    def _shard_path(self, shard: int) -> Path:
        return self.folder / f"shard-{shard:04d}.parquet"


def mask_of(evidence: npt.NDArray[np.float32], size_px: tuple[int, int]) -> bytes:
    """Return a mask as it is stored, of evidence (height, width) in [0, 1] and the upright picture's size."""
    image = Image.fromarray(np.rint(evidence * 255).astype(np.uint8))
    # Made smaller it is a mean over cells, larger a line between them: Pillow's bilinear filter does either.
    image = image.resize(mask_size(size_px), Image.Resampling.BILINEAR)
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def mask_size(size_px: tuple[int, int]) -> tuple[int, int]:
    """Return width and height in cells of the mask of a picture of this size."""
    longest = max(size_px)
    width, height = (max(1, round(LONGEST_SIDE_CELLS * side / longest)) for side in size_px)
    return width, height


def cells_of(mask: bytes) -> npt.NDArray[np.uint8]:
    """Return the cells (height, width) of a stored mask."""
    with Image.open(io.BytesIO(mask), formats=["PNG"]) as image:
        return np.asarray(image.convert("L"))


def mask_facts(mask: bytes) -> tuple[float, float]:
    """Return the share of the area that counts as the class's, and the highest evidence, both in [0, 1]."""
    cells = cells_of(mask)
    return float((cells >= IS_EVIDENCE_FROM).mean()), float(cells.max() / 255)
