"""The section of agreement: how far annotators agree, in pairs and in all, and how right they are on gold."""

from itertools import combinations

import numpy as np

from annotation.report.team import NOBODY, Team
from annotation.statistics.agreement import (
    Estimate,
    cohen_kappa,
    fleiss_kappa,
    krippendorff_alpha,
    raw_agreement,
)
from annotation.statistics.answer_matrix import ANSWER_WORDS, IN, OUT
from annotation.statistics.shared_mistakes import shared_mistakes
from manifests.proportions import counted_share
from manifests.report.parts import Part, Section, Table, Text

KEY, TITLE = "agreement", "Agreement"
_MOST_PAIRS = 20

HOW_TO_READ = (
    "How to read these: 1 is full agreement, 0 is what answers drawn at random from the same shares would give, "
    "and below 0 is worse than that. Krippendorff (2004) relies on an alpha of 0.8 and above, draws tentative "
    "conclusions from 0.667, and none below. Fleiss' kappa is nearly the same figure, over the images with the "
    "commonest number of answers only. All of them fall when one answer is rare, though the annotators disagree "
    "no more often: where nearly every image is out, read the raw agreement beside them. The intervals are of "
    "resampled images (95 %). Agreement is not truth: who copies agrees fully, and two may miss the same small "
    "object. Gold images tell the one from the other."
)


def agreement_section(team: Team) -> Section:
    """Return the section: coefficients, pairs of annotators, and gold."""
    if not team.blind.image_ids:
        return Section(KEY, TITLE, missing=NOBODY)
    parts: list[Part] = [_coefficients(team), Text(HOW_TO_READ, is_quiet=True)]
    pairs = _pairs_table(team)
    if pairs is not None:
        parts.append(pairs)
    return Section(KEY, TITLE, [*parts, _gold_part(team)])


def _coefficients(team: Team) -> Table:
    codes, with_classes = team.blind.answers, team.blind.with_classes()
    estimates = {
        "raw agreement": raw_agreement(codes),
        "Krippendorff's alpha": krippendorff_alpha(codes),
        "Fleiss' kappa": fleiss_kappa(codes),
        "raw agreement, classes told apart": raw_agreement(with_classes),
        "Krippendorff's alpha, classes told apart": krippendorff_alpha(with_classes),
    }
    rows = [(name, *_estimate_cells(estimate)) for name, estimate in estimates.items()]
    aside = f" without {', '.join(team.rule.set_aside)}, who are set aside" if team.rule.set_aside else ""
    caption = f"Agreement of the blind answers out, in and difficult{aside}; below, with each class told apart."
    return Table(("coefficient", "value", "95 % interval", "images"), rows, caption, frozenset({1, 2, 3}))


def _estimate_cells(estimate: Estimate) -> tuple[str, str, str]:
    n_images = f"{estimate.n_images:,}"
    if np.isnan(estimate.value):
        return "not defined", "-", n_images
    interval = "-" if np.isnan(estimate.low) else f"{estimate.low:.3f} to {estimate.high:.3f}"
    return f"{estimate.value:.3f}", interval, n_images


def _pairs_table(team: Team) -> Table | None:
    names, codes = team.blind.annotator_ids, team.blind.answers
    found = []
    for first, second in combinations(range(len(names)), 2):
        both = (codes[:, first] >= 0) & (codes[:, second] >= 0)
        if both.any():
            is_equal = codes[both, first] == codes[both, second]
            found.append((float(is_equal.mean()), first, second, int(both.sum())))
    if not found:
        return None
    rows = []
    for agreed, first, second, n_images in sorted(found)[:_MOST_PAIRS]:
        kappa, interval, _ = _estimate_cells(cohen_kappa(codes[:, first], codes[:, second]))
        pair = (names[first], names[second])
        mistakes = shared_mistakes(team.decisions[pair[0]], team.decisions[pair[1]], team.gold)
        equal = f"{mistakes.n_equal:,} ({mistakes.expected:.1f} by chance)" if mistakes.n_images else "-"
        warning = "one copies, or these images mislead both" if mistakes.is_striking else ""
        rows.append((" and ".join(pair), f"{n_images:,}", f"{agreed:.1%}", kappa, interval, equal, warning))
    which = (
        f"the {len(rows)} of {len(found):,} that agree least"
        if len(rows) < len(found)
        else "least agreement first"
    )
    return Table(
        ("two annotators", "images", "agree", "Cohen's kappa", "95 % interval", "equal mistakes on gold", ""),
        rows,
        f"Every two who answered an image in common, {which}.",
        frozenset({1, 2, 3, 4, 5}),
    )


def _gold_part(team: Team) -> Part:
    asked = {name: report for name, report in team.reports.items() if report.gold.sum()}
    if not asked:
        state = (
            f"None of the {len(team.gold):,} gold images has been answered yet"
            if team.gold
            else "There is no gold"
        )
        return Text(f"{state}: `python cli.py gold --add FILE` adds images with a known answer, met unmarked.")
    rows = []
    for name, report in asked.items():
        right, gold = report.on_gold, report.gold
        rows.append((
            name, f"{right.n_all:,}", f"{right.value:.1%}", f"{right.low:.1%} to {right.high:.1%}",
            counted_share(int(gold[IN, OUT]), int(gold[IN].sum())).brief,
            counted_share(int(gold[OUT, IN]), int(gold[OUT].sum())).brief,
            counted_share(int(gold[:, ANSWER_WORDS.index("difficult")].sum()), right.n_all).brief,
            report.right_class.brief, report.with_others.brief,
        ))  # fmt: skip
    header = (
        "annotator", "gold answers", "right", "95 % interval", "in taken for out", "out taken for in",
        "called difficult", "right class", "as the others agree",
    )  # fmt: skip
    caption = (
        "Answers to images whose answer is known, met unmarked. In taken for out is the mistake that contaminates "
        "the set. The last column needs no gold: of the images on which all others agree, those answered so too."
    )
    return Table(header, rows, caption, frozenset(range(1, len(header))))
