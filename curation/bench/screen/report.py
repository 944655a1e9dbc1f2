"""What `bench screen` found, as a value that is kept as JSON and as text."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from curation.bench.machine import Machine
from manifests.text_table import aligned


@dataclass(frozen=True)
class Row:
    """One thing that was timed.

    Attributes
    ----------
    what : str
        Ours, a limit of the machine, or a rival.
    size : str
        Of what.
    seconds : float
        It took; of an extrapolation, would take.
    n_done : int, optional
        Items in this time, where a rate says more than seconds.
    peak_mb : float, optional
        Most memory of the process, 10^6 bytes, where it had one of its own.
    """

    what: str
    size: str
    seconds: float
    n_done: int | None = None
    peak_mb: float | None = None


@dataclass(frozen=True)
class Section:
    """Rows that are about one thing.

    Attributes
    ----------
    title : str
        Of the block.
    rows : tuple of Row
        The first is ours.
    notes : tuple of str
        Sentences on how to read them.
    figures : mapping of str to float
        Those that stand in the notes: goals of the first row, and what else was counted.
    """

    title: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ScreenBench:
    """What `bench_screen` found.

    Attributes
    ----------
    machine : Machine
        Where.
    device : str
        What multiplied: ``cpu``, or the name of a GPU.
    n_threads : int
        Of products on the processor.
    sections : tuple of Section
        One a figure.
    """

    machine: Machine
    device: str
    n_threads: int
    sections: tuple[Section, ...]

    def as_json(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        return asdict(self)


def screen_table(result: ScreenBench) -> str:
    """Return the result as text, a block a section."""
    machine = result.machine
    heading = (
        f"{machine.processor}, {machine.n_cores} cores, {machine.memory_gib:.1f} GiB; Python "
        f"{machine.python_version}; products on {result.device}, {result.n_threads} threads"
    )
    return "\n\n".join([heading, *("\n".join(_block(section)) for section in result.sections)])


def _block(section: Section) -> list[str]:
    cells = [("", "size", "s", "a second", "peak MB")]
    cells += [
        (
            row.what,
            row.size,
            f"{row.seconds:,.2f}",
            "" if row.n_done is None else f"{row.n_done / row.seconds:,.1f}",
            "" if row.peak_mb is None else f"{row.peak_mb:,.0f}",
        )
        for row in section.rows
    ]
    kept = [column for column in zip(*cells, strict=True) if any(column[1:])]
    return [section.title, *aligned(list(zip(*kept, strict=True))), *section.notes]
