"""How far the annotators are: answers by queue and annotator, and what became of the rounds of inspection."""

from annotation.ballots import Ballots, read_ballots
from annotation.collector import collector_paused
from annotation.consensus import current_verdicts, needed_by_rounds, recorded_rule
from annotation.gold import read_gold
from annotation.inspection import inspection_wait, results_of
from annotation.review import review_image_ids
from annotation.rounds import read_rounds
from annotation.standstill import standstill
from manifests import schema
from manifests.workspace import Workspace


@collector_paused()
def progress_lines(workspace: Workspace) -> list[str]:
    """Return a line for each queue with answers, and for each round of inspection, and then what stands still.

    Raises
    ------
    TableError
        A log or a round is damaged.
    """
    ballots = read_ballots(workspace)
    lines = []
    for queue in schema.QUEUES:
        given = {name: votes for name, votes in ballots.votes(queue).items() if votes}
        if given:
            n_images = len(set().union(*given.values()))
            answers = ", ".join(f"{name} {len(votes):,}" for name, votes in given.items())
            lines.append(f"queue {queue}: {n_images:,} images answered ({answers})")
    return lines + _round_lines(workspace, ballots) + _standstill_lines(workspace, ballots)


def _standstill_lines(workspace: Workspace, ballots: Ballots) -> list[str]:
    if not (workspace.has(schema.SCREEN) and ballots.logs):
        return []
    rule, image_ids, gold = recorded_rule(workspace), review_image_ids(workspace), read_gold(workspace)
    rows = current_verdicts(image_ids, ballots, rule, needed_by_rounds(workspace, ballots, rule, image_ids))
    n_gold = sum(row["image_id"] in gold and row["verdict"] == "open" for row in rows)
    lines = (
        [f"{n_gold:,} gold images are under review: they are asked as gold and get no verdict"] if n_gold else []
    )
    return lines + standstill(rows, ballots, rule, gold).lines()


def _round_lines(workspace: Workspace, ballots: Ballots) -> list[str]:
    lines = []
    for drawn in read_rounds(workspace):
        results = results_of(workspace, drawn, ballots)
        inspected, failed = sum(one.defects.n_all for one in results), sum(one.has_failed for one in results)
        defects, sample = sum(one.defects.n_hits for one in results), sum(one.n_sample for one in results)
        lines.append(
            f"inspection round {drawn.number}: {inspected:,} of {sample:,} inspected, {defects:,} defects, "
            f"{failed} of {len(results)} strata failed"
        )
        if inspected < sample:
            lines.append(f"  {inspection_wait(drawn, results, ballots)}")
    return lines
