"""Localizers beside each other on examples that none of them has learnt from."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curation.localize.evaluate import LEAST_EVIDENCE, evaluate
from curation.localize.localizer import Localizer
from curation.localize.metrics import PRECISION_AT, SegmentationFigures
from curation.localize.referring_set import ReferringExample
from manifests.text_table import aligned

_OF_ANSWERS = {
    "mean IoU": "mean_iou",
    "overall IoU": "overall_iou",
    **{f"P@{at:g}": f"precision_at_{at:g}" for at in PRECISION_AT},
}
_OF_PIXELS = {
    "pixel acc.": "pixel_accuracy", "mean pixel acc.": "mean_pixel_accuracy", "class mean IoU": "class_mean_iou",
}  # fmt: skip
"""Headings of the two tables, and the figures below them by their names in `SegmentationFigures.as_row`."""

_MEANING = (
    f"P@{PRECISION_AT[0]:g}: share of the answers whose IoU is above {PRECISION_AT[0]:g}.",
    "Overall IoU and pixel acc.: of all pixels together.",
    "Mean pixel acc. and class mean IoU: means over object and background, of all pixels together.",
    "Evidence from: the least evidence of a place that counts as named.",
)


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


@dataclass(frozen=True)
class JudgedContender:
    """How well the answers of a contender fit.

    Attributes
    ----------
    name : str
        The contender's.
    threshold : float
        From which evidence on a place counted as named.
    figures : SegmentationFigures
        Of all its answers.
    """

    name: str
    threshold: float
    figures: SegmentationFigures


@dataclass(frozen=True)
class Judgement:
    """The figures of contenders on the same examples.

    Attributes
    ----------
    title : str
        Which examples, for people.
    n_masks, n_phrases : int
        Examples, and phrases asked of each contender.
    contenders : tuple of JudgedContender
        In the order of the table.
    """

    title: str
    n_masks: int
    n_phrases: int
    contenders: tuple[JudgedContender, ...]

    def record(self) -> dict[str, Any]:
        """Return it as JSON values, figures by name; `from_record` reads them back."""
        contenders = [
            {"name": one.name, "threshold": one.threshold, **one.figures.as_row()} for one in self.contenders
        ]
        return {
            "title": self.title,
            "n_masks": self.n_masks,
            "n_phrases": self.n_phrases,
            "contenders": contenders,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "Judgement":
        """Return a judgement from its `record`; KeyError or TypeError where it is none."""
        n_phrases = record["n_phrases"]
        contenders = (
            JudgedContender(row["name"], row["threshold"], SegmentationFigures.from_row(row, n_phrases))
            for row in record["contenders"]
        )
        return cls(record["title"], record["n_masks"], n_phrases, tuple(contenders))


def judged(contenders: Iterable[Contender], examples: Sequence[ReferringExample], *, title: str) -> Judgement:
    """Return the figures of each on all phrases of the examples."""
    rows = [
        JudgedContender(one.name, one.threshold, evaluate(one.localizer, examples, threshold=one.threshold))
        for one in contenders
    ]
    return Judgement(title, len(examples), sum(len(example.phrases) for example in examples), tuple(rows))


def judgement_lines(judgements: Iterable[Judgement]) -> list[str]:
    """Return two tables a judgement, as one would be wider than a terminal, and below what the figures mean."""
    lines: list[str] = []
    for one in judgements:
        of_answers = [["answer", *_OF_ANSWERS], *(_cells(row, _OF_ANSWERS) for row in one.contenders)]
        of_pixels = [["answer", *_OF_PIXELS, "evidence from"]]
        of_pixels += [[*_cells(row, _OF_PIXELS), f"{row.threshold:.3g}"] for row in one.contenders]
        lines += [
            f"{one.title}: {one.n_masks:,} masks, {one.n_phrases:,} phrases",
            *aligned(of_answers),
            "",
            *aligned(of_pixels),
            "",
        ]
    return [*lines, *_MEANING]


def _cells(one: JudgedContender, headings: Mapping[str, str]) -> list[str]:
    row = one.figures.as_row()
    return [one.name, *(f"{row[name]:.3f}" for name in headings.values())]
