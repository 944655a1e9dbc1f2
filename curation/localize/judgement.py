"""Localizers beside each other on examples that none of them has learnt from."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from curation.localize.evaluate import LEAST_EVIDENCE, evaluate
from curation.localize.localizer import Localizer
from curation.localize.metrics import PRECISION_AT, SegmentationFigures
from curation.localize.referring_set import ReferringExample
from manifests.text_table import aligned

_HEADINGS = (
    "answer", "evidence from", "mean IoU", "overall IoU", *(f"P@{at:g}" for at in PRECISION_AT),
    "pixel acc.", "mean pixel acc.", "class mean IoU",
)  # fmt: skip


@dataclass(frozen=True)
class Contender:
    """A localizer and how to read its evidence.

    Attributes
    ----------
    name : str
        What it is, for people.
    localizer : Localizer
        Asked for masks.
    threshold : float
        From which evidence on a place counts as named.
    """

    name: str
    localizer: Localizer
    threshold: float = LEAST_EVIDENCE


def judged(contenders: Iterable[Contender], examples: Sequence[ReferringExample], *, title: str) -> list[str]:
    """Return the figures of each on all phrases of the examples, as lines of a table."""
    rows = [(one, evaluate(one.localizer, examples, threshold=one.threshold)) for one in contenders]
    n_phrases = sum(len(example.phrases) for example in examples)
    return [
        f"{title}: {len(examples):,} masks, {n_phrases:,} phrases",
        *aligned([_HEADINGS, *(_cells(one, figures) for one, figures in rows)]),
    ]


def _cells(one: Contender, figures: SegmentationFigures) -> tuple[str, ...]:
    return (one.name, f"{one.threshold:.3g}", *(f"{value:.3f}" for value in figures.as_row().values()))
