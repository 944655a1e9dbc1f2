"""``downloads.parquet``: what the log says of every candidate, written in the order of the candidates."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from curation.download_log import DownloadLog, Row
from curation.download_state import DownloadState, candidate_batches
from curation.placeholders import repeated_pictures
from manifests import schema
from manifests.errors import OpenImageOError
from manifests.parquet import write_rows
from manifests.workspace import Workspace

_SCHEMA = schema.DOWNLOADS.schema
_MOST_REASONS = 1000
_SHOWN_REASONS = 3


@dataclass
class Outcome:
    """How many images there are of each status, and why the others have no picture."""

    n_by_status: Counter[str] = field(default_factory=Counter)
    n_by_reason: Counter[str] = field(default_factory=Counter)

    def count(self, row: Row) -> None:
        """Count one row of the table."""
        self.n_by_status[row["status"]] += 1
        if row["status"] != "ok":
            reason = f"{row['status']} ({row['reason']})"
            # Reasons may quote what a server sent: their number must not grow with the images.
            is_counted = reason in self.n_by_reason or len(self.n_by_reason) < _MOST_REASONS
            self.n_by_reason[reason if is_counted else row["status"]] += 1


def write_downloads(workspace: Workspace, state: DownloadState, log: DownloadLog) -> Outcome:
    """Write the table from the log, in bounded memory; equal logs' last lines give equal bytes."""
    repeated = repeated_pictures(workspace, state, log)
    outcome = Outcome()

    def tables() -> Iterator[pa.Table]:
        for first, batch in candidate_batches(workspace, ["image_id"]):
            columns: dict[str, list[Any]] = {name: [] for name in _SCHEMA.names}
            for position in range(first, first + batch.num_rows):
                row = log.row_at(int(state.starts[position]))
                if position in repeated:
                    row |= {"status": "placeholder", "reason": repeated[position]}
                outcome.count(row)
                for name, values in columns.items():
                    values.append(row.get(name))
            arrays = [_array(values, _SCHEMA.field(name).type) for name, values in columns.items()]
            yield pa.Table.from_arrays(arrays, schema=_SCHEMA)

    write_rows(workspace.path_of(schema.DOWNLOADS), schema.DOWNLOADS, tables())
    return outcome


def _array(values: Sequence[Any], dtype: pa.DataType) -> pa.Array:
    """Return a column of texts or integers; `pa.array` would import pandas for it, which takes half a second."""
    if pa.types.is_string(dtype):
        builder = pa.lib.StringBuilder()
        builder.append_values(values)
        return builder.finish()
    is_given = np.array([value is not None for value in values])
    numbers = np.array([value or 0 for value in values], dtype.to_pandas_dtype())
    validity = np.packbits(is_given, bitorder="little")
    return pa.Array.from_buffers(dtype, len(values), [pa.py_buffer(validity), pa.py_buffer(numbers)])


def describe_failed(outcome: Outcome) -> str | None:
    """Return one line on the images that failed, as another attempt may well bring them; None where none did."""
    n_failed = outcome.n_by_status["failed"]
    if not n_failed:
        return None
    reasons = Counter({reason: n for reason, n in outcome.n_by_reason.items() if reason.startswith("failed")})
    return f"{n_failed:,} images failed: {_commonest(reasons)}; --retry failed asks for them again"


def refuse_failures(outcome: Outcome, max_failures: float) -> None:
    """Raise where more than the share `max_failures` of the images are without a picture, or all are.

    Raises
    ------
    OpenImageOError
        With the commonest reasons, and what to do.
    """
    n_images = outcome.n_by_status.total()
    n_without = n_images - outcome.n_by_status["ok"]
    if not n_without or (n_without < n_images and n_without <= max_failures * n_images):
        return
    commonest = _commonest(outcome.n_by_reason)
    if n_without == n_images:
        raise OpenImageOError(f"no picture arrived, of {n_images:,}: {commonest}; what was learnt is saved")
    raise OpenImageOError(
        f"{n_without:,} of {n_images:,} images ({n_without / n_images:.1%}) are without a picture, over "
        f"--max-failures {max_failures:g}: {commonest}; everything is saved: --retry STATUS asks for them again"
    )


def _commonest(n_by_reason: Counter[str]) -> str:
    return ", ".join(f"{n:,} {reason}" for reason, n in n_by_reason.most_common(_SHOWN_REASONS))
