"""A made-up table of Open Images metadata of any length, to time its reading: realistic cells, nobody's."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.sample.made_up_rows import COLUMNS, make_up_row
from manifests.durable import replacing

_ROWS_MADE = 4_096
_MULTILINE_SHARE = 0.01
_REPEATED_ORIGINAL_SHARE = 0.001
_WITHDRAWN_SHARE = 0.1


def write_made_up_table(path: Path, n_rows: int, seed: int = 0) -> None:
    """Write `n_rows` rows in the columns of ``image_ids_and_rotation.csv``, without two equal ids.

    Author, title, addresses and rotation are drawn from 4,096 made-up rows, among them quoted, non-ASCII and
    many-line titles; ids, sizes and MD5s are each row's own, but for one in a thousand originals that repeats.
    """
    rng = np.random.default_rng(seed)
    rows = pa.Table.from_pylist(list(_some_rows(rng)))
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write((",".join(COLUMNS) + "\n").encode())
        for begin in range(0, n_rows, 65_536):
            file.write(_as_csv(rows, rng, begin, min(65_536, n_rows - begin)))


def _some_rows(rng: np.random.Generator) -> Iterator[dict[str, str]]:
    for _ in range(_ROWS_MADE):
        rotation = "nan" if rng.random() < _WITHDRAWN_SHARE else str(rng.choice(["0.0", "0.0", "", "90.0"]))
        row = make_up_row(rng, "0" * 16, rng.bytes(8), rotation)
        if rng.random() < _MULTILINE_SHARE:
            row["Title"] += '\nsecond line, of "two"\r\nand a third'
        yield {name: _quoted(cell) for name, cell in row.items()}


def _quoted(cell: str) -> str:
    needs_quotes = any(character in cell for character in '",\n\r')
    return '"' + cell.replace('"', '""') + '"' if needs_quotes else cell


def _as_csv(rows: pa.Table, rng: np.random.Generator, begin: int, n_rows: int) -> bytes:
    """Return rows number `begin` and on as CSV; an odd multiplier makes their ids differ and look random."""
    numbers = np.arange(begin, begin + n_rows, dtype=np.uint64) * np.uint64(0x9E37_79B9_7F4A_7C15)
    digests = rng.integers(0, 64, size=(n_rows, 22))
    digests[:, 21] = rng.choice([0, 16, 32, 48], n_rows)  # the last two bits of 16 bytes
    sizes = rng.integers(100_000, 5_000_000, n_rows)
    repeats = np.flatnonzero(rng.random(n_rows) < _REPEATED_ORIGINAL_SHARE)
    digests[repeats], sizes[repeats] = digests[0], sizes[0]
    alphabet = np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", np.uint8)
    md5s = np.full((n_rows, 24), ord("="), np.uint8)
    md5s[:, :22] = alphabet[digests]
    table = rows.take(pa.array(rng.integers(0, rows.num_rows, n_rows)))
    columns = {name: table.column(name) for name in table.column_names}
    columns["ImageID"] = pa.array([f"{number:016x}" for number in numbers.tolist()])
    columns["Subset"] = pa.repeat("train", n_rows)
    columns["OriginalSize"] = pa.array(sizes).cast(pa.string())
    columns["OriginalMD5"] = pa.array(md5s.view("S24")[:, 0].astype(str))
    lines = pc.binary_join_element_wise(*(columns[name] for name in COLUMNS), ",")
    return "\n".join([*lines.to_pylist(), ""]).encode()
