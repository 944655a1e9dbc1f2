"""The part on evidence masks: what was answered where they were opened, beside where they were not."""

from annotation.consensus import INDEPENDENT_QUEUE, counted_votes, under_review_only
from annotation.report.team import Team
from annotation.review import review_image_ids
from annotation.statistics.mask_figures import (
    ANSWER_HEADER,
    HOW_COUNTED,
    NO_PROOF,
    PAIR_HEADER,
    answer_cells,
    mask_figures,
    pair_rows,
)
from manifests import schema
from manifests.report.parts import Part, Table, Text

ANSWER_CAPTION = (
    "Standing blind answers to what is under review, by whether the annotator had opened the evidence masks over "
    "the picture."
)


def mask_parts(team: Team) -> list[Part]:
    """Return the part; nothing where nobody who counts has opened masks."""
    votes = {queue: counted_votes(team.ballots, team.rule, queue) for queue in schema.QUEUES}
    if team.workspace.has(schema.SCREEN):
        # As `consensus` counts them: else the two would not show the same figures.
        votes[INDEPENDENT_QUEUE] = under_review_only(votes[INDEPENDENT_QUEUE], {*review_image_ids(team.workspace)})
    opened = {
        queue: sum(decision.has_opened_masks for given in of_queue.values() for decision in given.values())
        for queue, of_queue in votes.items()
    }
    if not any(opened.values()):
        return []
    by_queue = ", ".join(f"{queue} {n:,}" for queue, n in opened.items() if n)
    aside = f", without {', '.join(team.rule.set_aside)}, who are set aside" if team.rule.set_aside else ""
    told = Text(f"Standing answers with evidence masks opened over the picture, by queue{aside}: {by_queue}.")
    figures = mask_figures(votes[INDEPENDENT_QUEUE])
    if not figures:
        return [told]
    answers = [answer_cells(one) for one in figures]
    parts: list[Part] = [told, Table(ANSWER_HEADER, answers, ANSWER_CAPTION, _numbers(ANSWER_HEADER))]
    pairs = pair_rows(figures)
    if pairs:
        caption = "How far two answers to one image agree, by whether masks had been opened."
        parts.append(Table(PAIR_HEADER, pairs, caption, _numbers(PAIR_HEADER)))
    return [*parts, Text(HOW_COUNTED, is_quiet=True), Text(NO_PROOF)]


def _numbers(header: tuple[str, ...]) -> frozenset[int]:
    return frozenset(range(1, len(header)))
