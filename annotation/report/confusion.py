"""The section of confusion: which class against which, and out against class, where annotators differ."""

from collections import Counter
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from annotation.report.team import NOBODY, Team
from annotation.statistics.answer_matrix import AnswerMatrix
from manifests.plots.page import BAD, IN_PAGE, INK, QUIET, WIDE_IN, svg_of
from manifests.report.parts import Chart, Part, Section, Table, Text

KEY, TITLE = "confusion", "Confusion between annotators"
_MOST_ROWS = 25
_MOST_LABELS = 12
_MOST_NAME_CHARS = 22
_STRONGEST = 0.75
"""Opacity of the fullest cell: text must stay readable on it."""

_N_WORDS = 2
"""Codes 0 and 1 are out and difficult, the others classes: see `AnswerMatrix.with_classes`."""

Pair = tuple[int, int]


def confusion_section(team: Team) -> Section:
    """Return the section: the commonest confusions as a list, and the most confused answers as a heat map."""
    if not team.blind.image_ids:
        return Section(KEY, TITLE, missing=NOBODY)
    pairs = answer_pairs(team.blind)
    differing = {pair: n for pair, n in pairs.items() if pair[0] != pair[1]}
    n_all, n_differing = sum(pairs.values()), sum(differing.values())
    if not n_all:
        missing = "No image has two blind answers yet: confusion shows when a second annotator has judged."
        return Section(KEY, TITLE, missing=missing)
    parts: list[Part] = [
        Text(
            f"Of {n_all:,} pairs of blind answers to one image by two annotators, {n_differing:,} "
            f"({n_differing / n_all:.2%}) differ, in the answer or in the class."
        )
    ]
    if differing:
        parts += [_pairs_table(team, pairs, differing), _heat_map(team, pairs, differing)]
    return Section(KEY, TITLE, parts)


def answer_pairs(blind: AnswerMatrix) -> Counter[Pair]:
    """Return how often two annotators gave each pair of answers to an image, the smaller code first.

    An image with three answers counts as three pairs. Codes are those of `AnswerMatrix.with_classes`.
    """
    codes = blind.with_classes().astype(np.int64)
    n_codes = int(codes.max(initial=0)) + 1
    found: Counter[Pair] = Counter()
    for first, second in combinations(range(codes.shape[1]), 2):
        both = codes[(codes[:, first] >= 0) & (codes[:, second] >= 0)][:, [first, second]]
        keys, counts = np.unique(both.min(axis=1) * n_codes + both.max(axis=1), return_counts=True)
        for key, n in zip(keys.tolist(), counts.tolist(), strict=True):
            found[divmod(key, n_codes)] += n
    return found


def _name(team: Team, code: int) -> str:
    return ("out", "difficult")[code] if code < _N_WORDS else team.class_name(code - _N_WORDS)


def _given(pairs: dict[Pair, int]) -> Counter[int]:
    """Return how often each answer was given beside another one: a pair of equal answers holds it twice."""
    given: Counter[int] = Counter()
    for pair, n in pairs.items():
        for code in pair:
            given[code] += n
    return given


def _pairs_table(team: Team, pairs: dict[Pair, int], differing: dict[Pair, int]) -> Table:
    given = _given(pairs)
    ordered = sorted(differing.items(), key=lambda item: (-item[1], item[0]))
    rows = []
    for (first, second), n in ordered[:_MOST_ROWS]:
        rarer = min(given[first], given[second])
        rows.append((_name(team, first), _name(team, second), f"{n:,}", f"{n / rarer:.1%} of {rarer:,}"))
    which = f"The {len(rows):,} commonest of {len(ordered):,}" if len(rows) < len(ordered) else f"All {len(rows)}"
    caption = (
        f"{which} confusions. The last column: how often the rarer of the two was answered, and in what share of "
        "these the answer beside it was the other one. A pair that agrees has its answer twice."
    )
    return Table(("one said", "another said", "pairs", "of the rarer answer"), rows, caption, frozenset({2, 3}))


def _heat_map(team: Team, pairs: dict[Pair, int], differing: dict[Pair, int]) -> Chart:
    involved = _given(differing)
    ordered = sorted(involved, key=lambda code: (-involved[code], code))[:_MOST_LABELS]
    # The words first, then the classes, so that the map of a later day can be laid beside this one.
    labels = sorted(ordered, key=lambda code: (code >= _N_WORDS, ordered.index(code)))
    shares = _shares(pairs, labels)
    names = [_short(_name(team, code)) for code in labels]
    with IN_PAGE.applied():
        side = 0.36 * len(labels)
        figure = IN_PAGE.new_figure(WIDE_IN, 1.5 + side)
        axes = figure.subplots()
        _draw_cells(axes, shares)
        places = np.arange(len(labels))
        axes.set_xticks(places, names, rotation=35, ha="left", rotation_mode="anchor")
        axes.set_yticks(places, names)
        axes.xaxis.tick_top()
        axes.tick_params(length=0)
        axes.set(xlim=(-0.5, len(labels) - 0.5), ylim=(len(labels) - 0.5, -0.5))
        axes.spines[["left", "bottom"]].set_visible(False)
        svg = svg_of(figure, "confusion")
    which = (
        f"the {len(labels)} most confused of {len(involved):,} answers"
        if len(labels) < len(involved)
        else "all answers that were confused"
    )
    caption = (
        f"Where one annotator gave the answer at the left, another gave the one on top: in per cent, for {which}. "
        "100 per cent are all the times that the answer at the left was given, counted as in the table: a pair "
        "that agrees has it twice. The diagonal, without colour, is agreement; what is missing to 100 went to "
        "answers not shown."
    )
    worst = sorted(differing.items(), key=lambda item: (-item[1], item[0]))[:5]
    told = "; ".join(f"{_name(team, one)} against {_name(team, other)}: {n:,}" for (one, other), n in worst)
    return Chart(svg, caption, told)


def _shares(pairs: dict[Pair, int], labels: list[int]) -> npt.NDArray[np.float64]:
    """Return of each answer in `labels` (rows) how often the other annotator said each (columns)."""
    given = _given(pairs)
    shares = np.zeros((len(labels), len(labels)))
    for row, one in enumerate(labels):
        for column, other in enumerate(labels):
            n = pairs.get((min(one, other), max(one, other)), 0) * (2 if one == other else 1)
            shares[row, column] = n / given[one] if given[one] else 0.0
    return shares


def _draw_cells(axes: Any, shares: npt.NDArray[np.float64]) -> None:
    """Draw rectangles rather than one image: they take the page's colours."""
    strongest = float(np.where(np.eye(len(shares), dtype=bool), 0, shares).max()) or 1.0
    for row, column in np.ndindex(*shares.shape):
        share = float(shares[row, column])
        is_agreement = row == column
        if share and not is_agreement:
            alpha = max(0.06, _STRONGEST * share / strongest)
            axes.bar(column, 0.94, width=0.94, bottom=row - 0.47, color=BAD, alpha=alpha)
        text = "" if not share else "<1" if share < 0.01 else f"{100 * share:.0f}"
        axes.text(column, row, text, ha="center", va="center", fontsize=7.5, color=QUIET if is_agreement else INK)


def _short(name: str) -> str:
    """Return the first of a class's names, as a chart can show it."""
    first = name.split(",")[0]
    shown = "".join(letter if letter.isprintable() and ord(letter) < 0x250 else "?" for letter in first)
    return shown if len(shown) <= _MOST_NAME_CHARS else shown[: _MOST_NAME_CHARS - 1] + "…"
