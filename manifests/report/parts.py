"""What a report is made of. Every text here is text: whoever renders it escapes it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

BEST, SECOND = "best", "second"
"""Marks of a table's cell."""


@dataclass(frozen=True)
class Text:
    """A paragraph; a quiet one explains, and stands back. What stands between backticks is set as code."""

    text: str
    is_quiet: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of texts below a header.

    Attributes
    ----------
    header : sequence of str
        One a column.
    rows : sequence of sequence of str
        As they are shown: numbers are formatted already.
    caption : str
        What the table says, in a sentence.
    numeric : collection of int
        Columns that are set right, in digits of one width.
    marks : mapping of (row, column) to `BEST` or `SECOND`
        Cells that stand out.
    groups : sequence of (str, int)
        A line above the header: a heading and how many columns it spans; empty for none.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    numeric: frozenset[int] = frozenset()
    marks: Mapping[tuple[int, int], str] = field(default_factory=dict)
    groups: Sequence[tuple[str, int]] = ()


@dataclass(frozen=True)
class Chart:
    """A drawing.

    Attributes
    ----------
    svg : str
        From `manifests.plots.page.svg_of`: the only markup that a part may hold.
    caption : str
        What it shows, and how to read it.
    description : str
        What somebody who cannot see it is told: the figures that matter.
    """

    svg: str
    caption: str
    description: str


@dataclass(frozen=True)
class CardPicture:
    """One picture of a card: an image of the workspace, or a file elsewhere.

    Attributes
    ----------
    path : Path
        Where its bytes lie; the page says so where there is none, or where it cannot be read.
    name : str
        An image id, or a file name.
    rotation_deg : int, optional
        As `manifests.images.read_image` takes it.
    """

    path: Path
    name: str
    rotation_deg: int | None = None


@dataclass(frozen=True)
class Card:
    """One or more pictures side by side, with lines below.

    Attributes
    ----------
    pictures : sequence of CardPicture
        Empty where none may be shown: the lines say why.
    lines : sequence of str
        The first stands out; a filter looks in all of them.
    source_url : str, optional
        The picture's own page, as its author's licence asks for; used where it is an http address.
    """

    pictures: Sequence[CardPicture]
    lines: Sequence[str]
    source_url: str | None = None


@dataclass(frozen=True)
class Gallery:
    """Cards that are looked at page by page.

    Attributes
    ----------
    name : str
        Heading.
    cards : sequence of Card
        In the order in which they are shown. Short galleries lie in the page, long ones beside it.
    caption : str
        What is shown, in which order, and how many there were where not all are shown.
    """

    name: str
    cards: Sequence[Card]
    caption: str = ""


@dataclass(frozen=True)
class Words:
    """Words set in sizes that follow their counts, in the order given; also a list for who cannot see sizes.

    Attributes
    ----------
    counts : sequence of (str, int)
        Each word and how often it was met, 1 or more.
    caption : str
        What is counted.
    """

    counts: Sequence[tuple[str, int]]
    caption: str = ""


@dataclass(frozen=True)
class Folded:
    """Parts that are seen when they are asked for, behind one line; no galleries."""

    summary: str
    parts: Sequence["Text | Table | Chart | Words | Folded"]


Part = Text | Table | Chart | Gallery | Words | Folded


@dataclass(frozen=True)
class Section:
    """One chapter of the report.

    Attributes
    ----------
    key : str
        Its anchor: small letters and hyphens.
    title : str
        Its heading.
    parts : sequence of Part
        In order; sub-headings are the names of galleries and captions of tables and charts.
    missing : str, optional
        Where nothing is there yet: what would fill it, with the command.
    problem : str, optional
        Where a table is damaged: the error, in its place; `report` then exits with 1.
    """

    key: str
    title: str
    parts: Sequence[Part] = ()
    missing: str | None = None
    problem: str | None = None
