"""CSV of texts that strangers wrote: no spreadsheet runs a cell, and no cell breaks a row."""

import csv
import io
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

# What a spreadsheet takes for a formula: OWASP, "CSV Injection".
_FORMULA_STARTS = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def inert(cell: str) -> str:
    """Return a text that no spreadsheet runs, on one line: Flickr titles are anybody's text.

    White space but the blank becomes a blank, any other control character U+FFFD, and what would then be a formula
    begins with an apostrophe. Python 3.11 does not quote a carriage return, at which programs end a row.
    """
    text = cell if cell.isprintable() else "".join(map(_visible, cell))
    # Spreadsheets pass over blanks before a formula.
    return f"'{text}" if text.lstrip().startswith(_FORMULA_STARTS) else text


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a CSV table with bare line feeds; None becomes an empty cell. Texts have passed `inert`."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return stream.getvalue()


def _visible(character: str) -> str:
    if character in "\t\n\v\f\r\x1c\x1d\x1e\x1f\x85\u2028\u2029":
        return " "
    # Cc: controls; Cs: halves of surrogate pairs, which UTF-8 cannot hold.
    return _REPLACEMENT if unicodedata.category(character) in ("Cc", "Cs") else character
