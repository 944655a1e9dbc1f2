"""The stage `candidates`: which images are proposed, with everything Open Images says of them."""

import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from curation.open_images import read_metadata
from manifests import schema
from manifests.errors import InputError
from manifests.image_ids import read_image_ids
from manifests.workspace import Workspace


def propose_candidates(
    workspace: Workspace,
    metadata_path: Path,
    *,
    image_ids_path: Path | None = None,
    subset: str | None = None,
    limit: int | None = None,
) -> dict[str, int]:
    """Write ``candidates.parquet`` and return counts per subset and of listed ids that the metadata lacks.

    Parameters
    ----------
    workspace : Workspace
        Where the table goes.
    metadata_path : Path
        An official metadata file, or a list of bare ids.
    image_ids_path : Path, optional
        Keep only the images of this list.
    subset : str, optional
        Keep only images of this subset; of a bare list, the subset that its images belong to (default test).
    limit : int, optional
        Keep the first so many images.

    Raises
    ------
    InputError
        A file is malformed, an id stands twice, or nothing is left.
    """
    wanted = set(read_image_ids(image_ids_path)) if image_ids_path else None
    arguments = {
        "metadata": str(metadata_path), "image_ids": str(image_ids_path) if image_ids_path else None,
        "subset": subset, "limit": limit,
    }  # fmt: skip
    inputs = [metadata_path, *([image_ids_path] if image_ids_path else [])]
    with workspace.stage("candidates", arguments, inputs) as record:
        known: set[str] = set()
        rows = _chosen(
            _once_each(read_metadata(metadata_path, subset_of_list=subset or "test"), known), wanted, subset, limit
        )
        table = {row["image_id"]: row for row in rows}
        if not table:
            raise InputError(f"{metadata_path}: no image is left after --image-ids, --subset and --limit")
        workspace.write(schema.CANDIDATES, list(table.values()))
        record.counts = dict(Counter(row["subset"] for row in table.values()))
        if wanted is not None and limit is None:
            record.counts["not_in_metadata"] = len(wanted - known)
        return record.counts


def _chosen(
    rows: Iterator[dict[str, Any]], wanted: set[str] | None, subset: str | None, limit: int | None
) -> Iterator[dict[str, Any]]:
    kept = (
        row
        for row in rows
        if (wanted is None or row["image_id"] in wanted) and (subset is None or row["subset"] == subset)
    )
    return itertools.islice(kept, limit)


def _once_each(rows: Iterator[dict[str, Any]], known: set[str]) -> Iterator[dict[str, Any]]:
    """Yield `rows`, entering their ids in `known`; refuse an id that stands twice."""
    for row in rows:
        if row["image_id"] in known:
            raise InputError(f"the metadata names image {row['image_id']} twice: delete one of its rows")
        known.add(row["image_id"])
        yield row
