"""What others' plain readers take for a file: ``python -m curation.metadata.plain_passes csv|pyarrow FILE``.

They check nothing and keep nothing: a bound on what any reader can reach, not a rival.
"""

import csv
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.csv


def pass_with_csv(path: Path) -> int:
    """Return the number of records that the standard library's reader finds."""
    with path.open(encoding="utf-8", newline="") as stream:
        return sum(1 for _ in csv.reader(stream)) - 1


def pass_with_pyarrow(path: Path) -> int:
    """Return the number of records that pyarrow finds, block by block, on one thread, all cells as text."""
    with path.open("rb") as stream:
        names = stream.readline().decode().strip().split(",")
    reader = pyarrow.csv.open_csv(
        path,
        pyarrow.csv.ReadOptions(use_threads=False, block_size=8 << 20),
        pyarrow.csv.ParseOptions(newlines_in_values=True),
        pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string())),
    )
    return sum(batch.num_rows for batch in reader)


PASSES = {"csv": pass_with_csv, "pyarrow": pass_with_pyarrow}

if __name__ == "__main__":
    print(PASSES[sys.argv[1]](Path(sys.argv[2])))
