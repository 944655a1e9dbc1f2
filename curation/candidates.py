"""The stage `candidates`: which images are proposed, with everything Open Images says of them."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.metadata.id_keys import IdSet, KeyLedger, id_keys
from curation.metadata.image_table import IMAGES_SCHEMA, SUBSETS
from curation.metadata.sorted_rows import SortedRows
from curation.open_images import places_of, read_metadata_tables
from manifests import schema
from manifests.errors import InputError
from manifests.image_ids import read_image_ids
from manifests.parquet import write_rows
from manifests.workspace import Workspace


@dataclass(frozen=True)
class Choice:
    """Which images of the metadata are proposed; by default all.

    Attributes
    ----------
    image_ids_path : Path, optional
        Keep only the images of this list.
    subset : str, optional
        Keep only images of this subset; of a bare list, the subset that its images belong to (default test).
    limit : int, optional
        Keep the first so many images, in the file's order.
    drop_original_duplicates : bool
        Keep only the first by id of images whose originals are the same file; the others stand in
        ``original_duplicates.parquet`` as dropped.
    """

    image_ids_path: Path | None = None
    subset: str | None = None
    limit: int | None = None
    drop_original_duplicates: bool = False


def propose_candidates(workspace: Workspace, metadata_path: Path, choice: Choice = Choice()) -> dict[str, int]:
    """Write ``candidates.parquet`` and what is known of the originals; return counts.

    The metadata is streamed, and its rows sorted by id on disk: nine million need less than 1.5 GB of memory.

    Parameters
    ----------
    workspace : Workspace
        Where the tables go.
    metadata_path : Path
        An official metadata file, or a list of bare ids.
    choice : Choice
        Which of its images to keep.

    Raises
    ------
    InputError
        A file is malformed or has no rows, an id stands twice, the subset is unknown, or nothing is left.
    """
    if choice.subset not in (None, *SUBSETS):
        raise InputError(f"--subset: expected one of {', '.join(SUBSETS)}, found {choice.subset!r}")
    wanted = IdSet([pa.array(read_image_ids(choice.image_ids_path))]) if choice.image_ids_path else None
    arguments = {
        "metadata": str(metadata_path), "image_ids": str(choice.image_ids_path) if wanted else None,
        "subset": choice.subset, "limit": choice.limit,
        "drop_original_duplicates": choice.drop_original_duplicates,
    }  # fmt: skip
    inputs = [metadata_path, *([choice.image_ids_path] if choice.image_ids_path else [])]
    with (
        workspace.stage("candidates", arguments, inputs) as record,
        SortedRows(IMAGES_SCHEMA, workspace.root) as rows,
    ):
        chosen = _Chosen(rows)
        chosen.take(metadata_path, choice, wanted)
        if not chosen.n_read:
            raise InputError(f"{metadata_path}: holds no image below its header: is it the whole file?")
        _refuse_repeated_ids(metadata_path, chosen.all_ids)
        if not sum(chosen.n_by_subset.values()):
            raise InputError(f"{metadata_path}: no image is left after --image-ids, --subset and --limit")
        findings = _Findings(chosen.originals.repeated(), choice.drop_original_duplicates)
        rows_to_write = _with_findings_first(workspace, findings, chosen.rows.tables())
        write_rows(workspace.path_of(schema.CANDIDATES), schema.CANDIDATES, rows_to_write)
        record.counts = dict(chosen.n_by_subset - findings.n_dropped_by_subset) | findings.counts()
        if wanted is not None and choice.limit is None:
            record.counts["not_in_metadata"] = len(wanted) - chosen.n_wanted_found
        return record.counts


def _with_findings_first(
    workspace: Workspace, findings: "_Findings", tables: Iterator[pa.Table]
) -> Iterator[pa.Table]:
    """Yield the rows to write, then write what was found in them.

    Whoever writes these rows renames its file after the last one: where ``candidates.parquet`` is, all three are.
    """
    yield from findings.kept(tables)
    workspace.write(schema.ORIGINAL_DUPLICATES, findings.duplicates)
    workspace.write(schema.WITHDRAWN, pa.table([findings.withdrawn_ids()], schema=schema.WITHDRAWN.schema))


@dataclass
class _Chosen:
    """The rows that are kept, and what must be known of all rows before the first is written."""

    rows: SortedRows
    all_ids: KeyLedger = field(default_factory=KeyLedger)
    originals: KeyLedger = field(default_factory=KeyLedger)
    n_by_subset: Counter[str] = field(default_factory=Counter)
    n_read: int = 0
    n_wanted_found: int = 0

    def take(self, metadata_path: Path, choice: Choice, wanted: IdSet | None) -> None:
        n_left = choice.limit
        for table in read_metadata_tables(metadata_path, subset_of_list=choice.subset):
            self.n_read += table.num_rows
            self.all_ids.add(id_keys(table.column("image_id")))
            if wanted is not None:
                is_wanted = wanted.contains(table.column("image_id"))
                self.n_wanted_found += int(is_wanted.sum())
                table = table.filter(pa.array(is_wanted))
            if choice.subset is not None:
                table = table.filter(pc.equal(table.column("subset"), choice.subset))
            if n_left is not None:
                table = table.slice(0, n_left)
                n_left -= table.num_rows
            counted = pc.value_counts(table.column("subset").combine_chunks()).to_pylist()
            self.n_by_subset.update({each["values"]: each["counts"] for each in counted})
            self.originals.add(_original_keys(table.filter(_has_original(table))))
            self.rows.add(table)
            if n_left == 0:
                return


def _has_original(table: pa.Table) -> pa.ChunkedArray:
    return pc.and_(
        pc.is_valid(table.column("original_md5")), pc.is_valid(table.column("original_size_bytes"))
    )  # fmt: skip


def _original_keys(table: pa.Table) -> np.ndarray:
    """Return the first half of each MD5: equal originals have equal keys; `_Findings` compares the whole."""
    return id_keys(pc.utf8_slice_codeunits(table.column("original_md5"), 0, 16))


class _Findings:
    """What the sorted rows say of the originals: which are one file, which are withdrawn."""

    def __init__(self, repeated_keys: np.ndarray, drop_duplicates: bool) -> None:
        self._repeated_keys, self._drops = repeated_keys, drop_duplicates
        self._first: dict[tuple[str, int], str] = {}
        self._withdrawn: list[pa.Array] = [pa.array([], pa.string())]
        self.duplicates: list[dict[str, str | bool]] = []
        self.n_dropped_by_subset: Counter[str] = Counter()

    def kept(self, tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
        """Yield the rows to write, entering what is found."""
        for table in tables:
            duplicate_ids = self._enter_duplicates(table)
            if self._drops and duplicate_ids:
                is_duplicate = pc.is_in(table.column("image_id"), pa.array(duplicate_ids))
                dropped = table.column("subset").filter(is_duplicate)
                self.n_dropped_by_subset.update(dropped.to_pylist())
                table = table.filter(pc.invert(is_duplicate))
            withdrawn = table.column("image_id").filter(table.column("is_withdrawn"))
            self._withdrawn.append(withdrawn.combine_chunks())
            yield table.drop_columns("is_withdrawn")

    def _enter_duplicates(self, table: pa.Table) -> list[str]:
        """Return the ids whose original an earlier id has; tables come sorted, so the first by id is kept."""
        if not len(self._repeated_keys):
            return []
        given = table.select(["image_id", "original_md5", "original_size_bytes"]).filter(_has_original(table))
        at = np.isin(_original_keys(given), self._repeated_keys)
        found = []
        for row in given.filter(pa.array(at)).to_pylist():
            original = (row["original_md5"], row["original_size_bytes"])
            first = self._first.setdefault(original, row["image_id"])
            if first != row["image_id"]:
                found.append(row["image_id"])
                self.duplicates.append(
                    {"image_id": row["image_id"], "duplicate_of": first, "is_dropped": self._drops}
                )
        return found

    def withdrawn_ids(self) -> pa.Array:
        return pa.concat_arrays(self._withdrawn)

    def counts(self) -> dict[str, int]:
        counts = {
            "original_duplicates_dropped" if self._drops else "original_duplicates": len(self.duplicates),
            "withdrawn": len(self.withdrawn_ids()),
        }
        return {word: n for word, n in counts.items() if n}


def _refuse_repeated_ids(metadata_path: Path, all_ids: KeyLedger) -> None:
    """Refuse an id that stands twice, also among the rows that are not kept; the message names both lines."""
    repeated = all_ids.repeated()
    if not len(repeated):
        return
    n_times: Counter[str] = Counter()
    for table in read_metadata_tables(metadata_path):
        ids = table.column("image_id")
        n_times.update(ids.filter(pa.array(np.isin(id_keys(ids), repeated))).to_pylist())
    for image_id, n in n_times.items():
        if n > 1:
            first, second = places_of(metadata_path, image_id)[:2]
            raise InputError(f"{second}: names image {image_id} twice, first in {first}: delete one of its rows")
