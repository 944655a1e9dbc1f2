"""Reading official Open Images metadata in blocks, refusing what is malformed with file and line."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from curation.metadata.csv_rows import read_rows
from curation.metadata.csv_tables import read_tables
from curation.metadata.files import is_archive, open_streams
from curation.metadata.image_table import IMAGES, IMAGES_SCHEMA
from manifests.errors import InputError
from manifests.image_ids import read_image_ids
from manifests.mirror import MIRROR_URL, picture_url

_MEMBER = "images.csv"


def read_metadata_tables(path: Path, *, subset_of_list: str = "test") -> Iterator[pa.Table]:
    """Yield the images of a metadata file in its order, in tables of `IMAGES_SCHEMA` and bounded size.

    Parameters
    ----------
    path : Path
        V3 ``images.csv``, the ``.tar.gz`` that holds it, a V4-V7 ``*-images-with-rotation.csv``, or a list of
        bare ids (``.txt``, as ViM's ``openimage_o.txt``).
    subset_of_list : str
        The subset of the images of a bare list, which names none.

    Raises
    ------
    InputError
        The file cannot be read or is of no known form, or a row is malformed; the message names file and line.
    """
    if not path.is_file():
        raise InputError(f"--metadata {path}: there is no such file")
    if path.suffix == ".txt":
        rows = [_bare_row(image_id, subset_of_list) for image_id in read_image_ids(path)]
        yield pa.Table.from_pylist(rows, schema=IMAGES_SCHEMA)
    elif path.suffix == ".csv" or is_archive(path):
        for where, stream in open_streams(path, _MEMBER):
            yield from read_tables(stream, where, IMAGES)
    else:
        raise InputError(f"--metadata {path}: expected .csv, .tar.gz or a list .txt")


def read_metadata(path: Path, *, subset_of_list: str = "test") -> Iterator[dict[str, Any]]:
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


def _bare_row(image_id: str, subset: str) -> dict[str, Any]:
    url = picture_url(MIRROR_URL, subset, image_id)
    return {"image_id": image_id, "subset": subset, "url": url, "is_withdrawn": False}
