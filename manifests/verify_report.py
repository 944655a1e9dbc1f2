"""What verifying a manifest found, and how it is printed."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

_MOST_SHOWN = 20


@dataclass
class Report:
    """What verifying found.

    Attributes
    ----------
    name : str
        The manifest's folder.
    n_images : int
        Its records.
    n_retired : int
        Of these, images that were withdrawn since.
    problems : dict of str to list of str
        By kind, in the order in which they were looked for.
    notes : list of str
        What was not, or could not be, looked at.
    """

    name: str
    n_images: int = 0
    n_retired: int = 0
    problems: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    notes: list[str] = field(default_factory=list)

    @property
    def n_problems(self) -> int:
        """All problems of all kinds."""
        return sum(map(len, self.problems.values()))

    def add(self, kind: str, *texts: str) -> None:
        """Note problems of one kind."""
        self.problems[kind] += texts


def report_lines(report: Report) -> list[str]:
    """Return a report for the terminal: of each kind the number, and the first that were found."""
    retired = f", {report.n_retired:,} of them retired since" if report.n_retired else ""
    lines = [f"{report.name}: {report.n_images:,} images{retired}"]
    counts = Counter({kind: len(texts) for kind, texts in report.problems.items() if texts})
    for kind, n in counts.items():
        lines.append(f"{kind}: {n:,}")
        lines += [f"  {text}" for text in report.problems[kind][:_MOST_SHOWN]]
        lines += [f"  and {n - _MOST_SHOWN:,} more"] if n > _MOST_SHOWN else []
    lines += [f"note: {note}" for note in report.notes]
    if counts:
        return [*lines, f"{counts.total():,} problems"]
    return [*lines, "verified: no problem in what was looked at" if report.notes else "verified: no problem"]
