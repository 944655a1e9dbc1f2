"""Tables on a terminal."""

from collections.abc import Sequence

TERMINAL_COLUMNS = 100
"""What a table may take of a line."""

_GAP = "  "


def aligned(rows: Sequence[Sequence[str]], n_words: int = 1) -> list[str]:
    """Return cells in columns: the first `n_words` of each row to the left, figures to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        _GAP.join(
            cell.ljust(width) if position < n_words else cell.rjust(width)
            for position, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def stacked(rows: Sequence[Sequence[str]], n_words: int = 1, most_columns: int = TERMINAL_COLUMNS) -> list[str]:
    """Return cells in columns as `aligned`; what has no room in `most_columns` is put into further tables below.

    The first `n_words` of each row stand in every table. A table has at least one figure a row, however wide.
    """
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    room = most_columns - sum(widths[:n_words]) - len(_GAP) * (n_words - 1)
    tables: list[list[int]] = [[]]
    used = 0
    for place, width in enumerate(widths[n_words:], n_words):
        used += len(_GAP) + width
        if used > room and tables[-1]:
            tables.append([])
            used = len(_GAP) + width
        tables[-1].append(place)
    blocks = [
        aligned([[*row[:n_words], *(row[place] for place in table)] for row in rows], n_words) for table in tables
    ]
    return [line for number, block in enumerate(blocks) for line in ([""] if number else []) + block]
