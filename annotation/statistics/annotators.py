"""One annotator at a time: how much, how fast, how right on gold, and how often at one with the others."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from annotation.decisions import Decision
from annotation.gold import GoldEntry
from annotation.statistics.answer_matrix import (
    ANSWER_WORDS,
    NO_ANSWER,
    AnswerMatrix,
    code_of,
)
from annotation.statistics.opinions import gold_answers
from manifests.proportions import Share, counted_share
from manifests.text_table import aligned

TOO_FAST_S = 0.3
"""Faster than a person can look: in the plainest task of this kind, animal or not, the median was 0.445 s (Thorpe,
Fize & Marlot 1996, Nature 381)."""


@dataclass(frozen=True)
class AnnotatorReport:
    """What one annotator's log shows.

    Attributes
    ----------
    annotator_id : str
        Who.
    n_by_queue : dict of str to int
        Standing answers by queue, ``skip`` among them.
    median_s, p10_s, p90_s : float
        Seconds an answer, taken back or not; NaN without any.
    n_too_fast, n_answers : int
        Answers under `TOO_FAST_S`, and all.
    gold : ndarray of int, (3, 3)
        Of truth and answer in the order of `ANSWER_WORDS`, on gold images.
    right_class : Share
        Of the gold images rightly answered in, those with gold's class, where it names one.
    with_others : Share
        Of the images on which all others agree, two answers at least, those answered so too.
    """

    annotator_id: str
    n_by_queue: dict[str, int]
    median_s: float
    p10_s: float
    p90_s: float
    n_too_fast: int
    n_answers: int
    gold: np.ndarray
    right_class: Share
    with_others: Share

    @property
    def on_gold(self) -> Share:
        """Right answers on gold."""
        return counted_share(int(np.trace(self.gold)), int(self.gold.sum()))


def annotator_report(
    annotator_id: str,
    decisions: Sequence[Decision],
    gold: Mapping[str, GoldEntry],
    with_others: Share,
) -> AnnotatorReport:
    """Return the report of one annotator.

    Parameters
    ----------
    annotator_id : str
        Who.
    decisions : sequence of Decision
        Their log.
    gold : mapping of str to GoldEntry
        From `annotation.gold.read_gold`.
    with_others : Share
        From `agreement_with_others`.
    """
    given = [decision for decision in decisions if decision.answer != "undo"]
    seconds = np.array([decision.seconds for decision in given], dtype=np.float64)
    p10, median, p90 = np.quantile(seconds, (0.1, 0.5, 0.9)).tolist() if given else [np.nan] * 3
    confusion = np.zeros((len(ANSWER_WORDS),) * 2, dtype=np.int64)
    n_right_class = n_with_class = 0
    for image_id, decision in gold_answers(decisions, gold).items():
        entry = gold[image_id]
        confusion[code_of(entry.answer), code_of(decision.answer)] += 1
        if entry.answer == decision.answer == "in" and entry.class_index is not None:
            n_with_class += 1
            n_right_class += decision.class_index == entry.class_index
    return AnnotatorReport(
        annotator_id=annotator_id,
        n_by_queue=_standing_by_queue(decisions),
        median_s=median,
        p10_s=p10,
        p90_s=p90,
        n_too_fast=int((seconds < TOO_FAST_S).sum()),
        n_answers=len(given),
        gold=confusion,
        right_class=counted_share(n_right_class, n_with_class),
        with_others=with_others,
    )


def agreement_with_others(matrix: AnswerMatrix) -> dict[str, Share]:
    """Return for each annotator the share of images answered as the others' consensus, which leaves them out.

    The others' consensus is what two or more others all say. Where no image has three answers there is none.
    """
    shares = {}
    for column, annotator_id in enumerate(matrix.annotator_ids):
        others = np.delete(matrix.answers, column, axis=1)
        own = matrix.answers[:, column]
        highest = others.max(axis=1, initial=NO_ANSWER)
        is_agreed = ((others == highest[:, np.newaxis]) | (others == NO_ANSWER)).all(axis=1)
        counts = (own != NO_ANSWER) & is_agreed & ((others != NO_ANSWER).sum(axis=1) >= 2)
        shares[annotator_id] = counted_share(int((own == highest)[counts].sum()), int(counts.sum()))
    return shares


def format_annotators(reports: Sequence[AnnotatorReport], min_gold: float) -> str:
    """Return a row an annotator, their confusion on gold, and the names of those below `min_gold`."""
    header = ["annotator", "answers", "median s", "p10", "p90",
              f"under {TOO_FAST_S:g} s", "on gold", "95 % interval",
              "right class", "as the others"]  # fmt: skip
    rows = [_cells(report) for report in reports]
    lines = aligned([header, *rows])
    for report in reports:
        lines += _confusion_lines(report)
        lines += _warnings(report, min_gold)
    return "\n".join(lines)


def mean_seconds(decisions: Mapping[str, Sequence[Decision]]) -> float | None:
    """Return the mean seconds of a vote over all annotators, breaks left out; None where nobody voted.

    The slowest hundredth is left out: a picture left on screen over lunch is no work.
    """
    seconds = np.array(
        [
            decision.seconds
            for given in decisions.values()
            for decision in given
            if decision.queue in ("first", "gold") and decision.answer != "undo"
        ],
        dtype=np.float64,
    )
    if not seconds.size:
        return None
    return float(seconds[seconds <= np.quantile(seconds, 0.99)].mean())


def _standing_by_queue(decisions: Sequence[Decision]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for decision in decisions:
        counts[decision.queue] += -1 if decision.answer == "undo" else 1
    return {queue: n for queue, n in sorted(counts.items()) if n}


def _cells(report: AnnotatorReport) -> list[str]:
    on_gold = report.on_gold
    by_queue = ", ".join(f"{queue} {n:,}" for queue, n in report.n_by_queue.items())
    return [
        report.annotator_id,
        by_queue or "0",
        *(f"{value:.2f}" if report.n_answers else "-" for value in (report.median_s, report.p10_s, report.p90_s)),
        f"{report.n_too_fast:,}",
        on_gold.brief,
        f"{on_gold.low:.1%} to {on_gold.high:.1%}" if on_gold.n_all else "-",
        report.right_class.brief,
        report.with_others.brief,
    ]


def _confusion_lines(report: AnnotatorReport) -> list[str]:
    lines = []
    for truth, row in zip(ANSWER_WORDS, report.gold.tolist(), strict=True):
        if sum(row):
            shares = "; ".join(
                f"{answer} {counted_share(n, sum(row))}" for answer, n in zip(ANSWER_WORDS, row, strict=True) if n
            )
            lines.append(f"  {report.annotator_id}, gold {truth}: {shares}")
    return lines


def _warnings(report: AnnotatorReport, min_gold: float) -> list[str]:
    on_gold = report.on_gold
    if not on_gold.n_all or on_gold.value >= min_gold:
        return []
    few = f"; {on_gold.n_all:,} answers are too few to be sure" if on_gold.high >= min_gold else ""
    return [
        f"  {report.annotator_id} is below {min_gold:.0%} on gold{few}; to leave their answers out of the "
        f"verdicts: consensus --set-aside {report.annotator_id}"
    ]
