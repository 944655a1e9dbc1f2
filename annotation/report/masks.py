"""The part on evidence masks: what was answered where they were opened, beside where they were not."""

from collections import Counter

from annotation.consensus import INDEPENDENT_QUEUE, counted_votes
from annotation.report.team import Team
from annotation.statistics.mask_figures import HEADER, NO_PROOF, mask_cells, mask_figures
from manifests import schema
from manifests.report.parts import Part, Table, Text

CAPTION = (
    "Standing blind answers by whether the annotator had opened the evidence masks over the picture. "
    "Half were faster than the median, nine in ten faster than the next. Images are those with two answers or "
    "more, each in the first row that one of its answers belongs to."
)


def mask_parts(team: Team) -> list[Part]:
    """Return the part; nothing where no masks were opened."""
    opened: Counter[str] = Counter()
    for standing in team.ballots.standing.values():
        for queue in schema.QUEUES:
            opened[queue] += sum(given.has_opened_masks for given in standing.votes(queue).values())
    if not opened.total():
        return []
    by_queue = ", ".join(f"{queue} {n:,}" for queue, n in opened.items() if n)
    told = Text(f"Standing answers with evidence masks opened over the picture, by queue: {by_queue}.")
    figures = mask_figures(counted_votes(team.ballots, team.rule, INDEPENDENT_QUEUE))
    if not figures:
        return [told]
    table = Table(HEADER, [mask_cells(one) for one in figures], CAPTION, frozenset(range(1, len(HEADER))))
    return [told, table, Text(NO_PROOF)]
