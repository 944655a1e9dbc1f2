"""Parts of a report as HTML; galleries have a file of their own."""

import itertools
import math
import re
from collections.abc import Sequence

from manifests.page import escaped, visible
from manifests.report.parts import BEST, SECOND, Chart, Folded, Gallery, Part, Table, Text, Words

_N_SIZES = 6
_LONG_WORD_CHARS, _SENTENCE_CHARS = 60, 20
"""A longer word has no space to break at; a longer cell is read as a sentence, of several words a line."""

_HALF_POINTS = 330
"""Two charts below this stand side by side on paper too."""

_NARROW_CHARS, _SHORT_ROWS = 56, 40
_POINTS = re.compile(r'<svg[^>]*? width="([\d.]+)pt"')
_CODE = re.compile(r"`([^`]+)`")


def told(text: str) -> str:
    """Return a text with what stands between backticks as code."""
    return _CODE.sub(r"<code>\1</code>", escaped(text))


def parts_html(parts: Sequence[Part], galleries: Sequence[str]) -> str:
    """Return parts in order; charts that follow each other stand side by side where there is room.

    Parameters
    ----------
    parts : sequence of Part
        Of one section.
    galleries : sequence of str
        The HTML of its galleries, in order.
    """
    rest = iter(galleries)
    pieces = []
    for is_row, group in itertools.groupby(parts, _is_in_row):
        made = [next(rest) if isinstance(part, Gallery) else _part(part) for part in group]
        pieces += [f'<div class="row">\n{"".join(made)}</div>'] if is_row else made
    return "\n".join(pieces)


def _is_in_row(part: Part) -> bool:
    """Return whether a part stands beside others of its kind: charts, and tables of a few short columns."""
    if not isinstance(part, Table):
        return isinstance(part, Chart)
    widths = [max(map(len, column)) for column in zip(part.header, *part.rows, strict=True)]
    return sum(widths) <= _NARROW_CHARS and len(part.rows) <= _SHORT_ROWS


def _part(part: Text | Table | Chart | Words | Folded) -> str:
    if isinstance(part, Chart):
        return _chart(part)
    if isinstance(part, Text):
        return f'<p class="quiet">{told(part.text)}</p>' if part.is_quiet else f"<p>{told(part.text)}</p>"
    if isinstance(part, Table):
        return _table(part)
    if isinstance(part, Words):
        return _words(part)
    inner = parts_html(part.parts, ())
    return f"<details>\n<summary>{escaped(part.summary)}</summary>\n{inner}\n</details>"


def _chart(chart: Chart) -> str:
    # As wide as it was drawn, and its caption with it; on a small screen as wide as that is, if that can be read.
    found = _POINTS.search(chart.svg)
    width = f' style="--drawn:{found[1]}pt"' if found else ""
    half = ' class="half"' if found and float(found[1]) < _HALF_POINTS else ""
    # A drawing has line ends and letters of the page's own colours; what hides among them is shown by its number.
    drawn = "\n".join(visible(line) for line in chart.svg.splitlines())
    return (
        f"<figure{half}{width}>\n"
        f'<div class="drawing" role="img" aria-label="{escaped(chart.description)}">{drawn}</div>\n'
        f"<figcaption>{told(chart.caption)}</figcaption>\n</figure>\n"
    )


def _words(words: Words) -> str:
    most = max((n for _, n in words.counts), default=1)
    items = "".join(
        f'<li class="size-{_size(n, most)}">{escaped(word)}<span>{n:,}</span></li>\n' for word, n in words.counts
    )
    caption = f'<p class="quiet">{told(words.caption)}</p>\n' if words.caption else ""
    return f'{caption}<ul class="words">\n{items}</ul>'


def _size(n: int, most: int) -> int:
    """Return 1 to `_N_SIZES`: equal ratios of counts are equal steps, and the most frequent is the largest."""
    if most <= 1:
        return 1
    return 1 + math.floor((_N_SIZES - 1) * math.log(n) / math.log(most))


def _table(table: Table) -> str:
    # Outside of the table, as it may be wider than a narrow one; the region bears it as its name.
    caption = f'<p class="caption">{told(table.caption)}</p>\n' if table.caption else ""
    header = "".join(
        f'<th scope="col"{_cell_class(column, table, "")}>{escaped(name)}</th>'
        for column, name in enumerate(table.header)
    )
    rows = "".join(f"<tr>{_cells(place, row, table)}</tr>\n" for place, row in enumerate(table.rows))
    marks = set(table.marks.values())
    told_marks = [
        text for mark, text in ((BEST, "<strong>best</strong>"), (SECOND, "<u>second best</u>")) if mark in marks
    ]
    legend = f'<p class="legend">{", ".join(told_marks)}</p>\n' if told_marks else ""
    label = escaped(table.caption or ", ".join(table.header))
    return (
        f'<div class="table">\n{caption}<div class="scroll" role="region" aria-label="{label}">\n<table>\n'
        f"<thead>\n{_group_row(table)}<tr>{header}</tr>\n</thead>\n<tbody>\n{rows}</tbody>\n</table>\n</div>\n{legend}</div>\n"
    )


def _group_row(table: Table) -> str:
    if not table.groups:
        return ""
    cells = "".join(
        f'<th class="group" scope="colgroup" colspan="{span}">{escaped(name)}</th>'
        if name
        else f'<td colspan="{span}"></td>'
        for name, span in table.groups
    )
    return f"<tr>{cells}</tr>\n"


def _cells(place: int, row: Sequence[str], table: Table) -> str:
    cells = []
    for column, text in enumerate(row):
        shown = escaped(text)
        mark = table.marks.get((place, column))
        if mark == BEST:
            shown = f"<strong>{shown}</strong>"
        elif mark == SECOND:
            shown = f"<u>{shown}</u>"
        cells.append(f"<td{_cell_class(column, table, text)}>{shown}</td>")
    return "".join(cells)


def _cell_class(column: int, table: Table, text: str) -> str:
    if column in table.numeric:
        return ' class="number"'
    # Digests and addresses.
    if max(map(len, text.split()), default=0) > _LONG_WORD_CHARS:
        return ' class="long"'
    return ' class="sentence"' if len(text) > _SENTENCE_CHARS else ""
