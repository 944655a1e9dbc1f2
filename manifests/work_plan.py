"""What a stage that takes long or fetches would do: its own plan, told by a dry run."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

_UNITS = ("bytes", "kB", "MB", "GB", "TB")


@dataclass(frozen=True)
class Fetch:
    """What would be fetched from one place.

    Attributes
    ----------
    what : str
        In words: ``pictures``, or a file's name.
    place : str
        Host, address, or the library that fetches it.
    n_files : int
        How many.
    size_bytes : int or None
        Of all together; None where nobody can know without asking.
    is_estimate : bool
        Whether `size_bytes` is one.
    """

    what: str
    place: str
    n_files: int = 1
    size_bytes: int | None = None
    is_estimate: bool = False

    def __str__(self) -> str:
        size = "of unknown size"
        if self.size_bytes is not None:
            size = f"{'about ' if self.is_estimate else ''}{size_in_words(self.size_bytes)}"
        what = self.what if self.n_files == 1 else f"{self.n_files:,} {self.what}"
        return f"{what} from {self.place}, {size}"


def weights_to_fetch(model: str, weights: str) -> list[Fetch]:
    """Return the weights that are not a file here: the model's library asks for them unless its cache has them."""
    if Path(weights or model).exists():
        return []
    return [Fetch(f"weights of {model} {weights}".rstrip(), "the model's library, unless its cache has them")]


@dataclass(frozen=True)
class WorkPlan:
    """What one run would do.

    Attributes
    ----------
    unit : str
        What is counted: ``images``, mostly.
    n_due, n_done : int
        To be done, and done already.
    reads : sequence of str
        What would be read.
    fetches : sequence of Fetch
        What would be asked for over the network.
    writes : sequence of str
        Files and folders that would be written or added to, as paths alone.
    notes : sequence of str
        What the plan cannot know, and what else there is to say.
    """

    n_due: int
    n_done: int
    unit: str = "images"
    reads: Sequence[str] = ()
    fetches: Sequence[Fetch] = ()
    writes: Sequence[str] = ()
    notes: Sequence[str] = ()

    def recorded_as(self, workspace_root: Path, record_name: str) -> "WorkPlan":
        """Return the plan with the record that the stage leaves in ``provenance/``."""
        return replace(self, writes=(*self.writes, str(workspace_root / "provenance" / f"{record_name}.json")))

    def told(self, told: Callable[[str], str]) -> "WorkPlan":
        """Return the plan with `told` of each of its texts."""
        reads, writes, notes = (tuple(map(told, texts)) for texts in (self.reads, self.writes, self.notes))
        return replace(self, reads=reads, writes=writes, notes=notes)

    def lines(self) -> list[str]:
        """Return the plan for the terminal."""
        return [
            f"{self.unit} to do: {self.n_due:,}; done already: {self.n_done:,}",
            *(f"would read {one}" for one in self.reads),
            *(f"would fetch {one}" for one in self.fetches),
            *(f"would write {one}" for one in self.writes),
            *self.notes,
        ]

    def as_json(self) -> dict[str, Any]:
        """Return the plan as JSON values."""
        return asdict(self)


def size_in_words(size_bytes: float) -> str:
    """Return a number of bytes in the largest unit of which it has one, to three digits."""
    size, unit = float(size_bytes), _UNITS[0]
    for unit in _UNITS:
        if size < 1000 or unit == _UNITS[-1]:
            break
        size /= 1000
    return f"{size:,.0f} {unit}" if unit == "bytes" or size >= 100 else f"{size:.3g} {unit}"
