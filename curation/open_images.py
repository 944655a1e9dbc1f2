"""Reading official Open Images metadata in blocks, refusing what is malformed with file and line."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from curation.metadata.csv_rows import read_rows
from curation.metadata.csv_tables import read_tables
from curation.metadata.files import is_archive, open_streams
from curation.metadata.image_table import IMAGES, IMAGES_SCHEMA, SUBSETS
from manifests.errors import InputError
from manifests.image_ids import ListedImage, read_image_list
from manifests.mirror import MIRROR_URL, picture_url

_MEMBER = "images.csv"


def read_metadata_tables(path: Path, *, subset_of_list: str | None = None) -> Iterator[pa.Table]:
    """Yield the images of a metadata file in its order, in tables of `IMAGES_SCHEMA` and bounded size.

    Parameters
    ----------
    path : Path
        V3 ``images.csv``, the ``.tar.gz`` that holds it, a V4-V7 ``*-images-with-rotation.csv``, or a list of
        ids (``.txt``, as ViM's ``openimage_o.txt``).
    subset_of_list : str, optional
        The subset of a list's images. A line such as ``train/<id>`` names its own, which must be this one; a bare
        id is of ``test`` where none is given.

    Raises
    ------
    InputError
        The file cannot be read or is of no known form, or a row is malformed; the message names file and line.
    """
    if not path.is_file():
        raise InputError(f"--metadata {path}: there is no such file")
    if path.suffix == ".txt":
        rows = [_listed_row(image, path, subset_of_list) for image in read_image_list(path)]
        yield pa.Table.from_pylist(rows, schema=IMAGES_SCHEMA)
    elif path.suffix == ".csv" or is_archive(path):
        for where, stream in open_streams(path, _MEMBER):
            yield from read_tables(stream, where, IMAGES)
    else:
        raise InputError(f"--metadata {path}: expected .csv, .tar.gz or a list .txt")


def read_metadata(path: Path, *, subset_of_list: str | None = None) -> Iterator[dict[str, Any]]:
    """Yield the rows of `read_metadata_tables` one by one, for small files."""
    for table in read_metadata_tables(path, subset_of_list=subset_of_list):
        yield from table.to_pylist()


def places_of(path: Path, image_id: str) -> list[str]:
    """Return ``file, line N`` of each row of a CSV or archive that is of this image."""
    places = []
    for where, stream in open_streams(path, _MEMBER):
        n_columns = stream.readline().count(b",") + 1
        rows = read_rows(stream, where, n_columns, n_lines_before=1)
        places += [f"{where}, line {line}" for line, cells in rows if cells[0] == image_id]
    return places


def _listed_row(image: ListedImage, path: Path, subset: str | None) -> dict[str, Any]:
    # Other folders are those of a disk, such as `openimage_o/images/<id>.jpg -1` in OpenOOD's lists.
    own = image.folder if image.folder in SUBSETS else None
    if own is not None and subset not in (None, own):
        raise InputError(f"{path}, line {image.line}: names the subset {own}, --subset says {subset}")
    found = own or subset or "test"
    url = picture_url(MIRROR_URL, found, image.image_id)
    return {"image_id": image.image_id, "subset": found, "url": url, "is_withdrawn": False}
