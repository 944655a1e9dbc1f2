"""How far the annotators are: answers by queue and annotator, and what became of the rounds of inspection."""

from annotation.ballots import Ballots, read_ballots
from annotation.inspection import results_of
from annotation.rounds import read_rounds
from manifests import schema
from manifests.workspace import Workspace


def progress_lines(workspace: Workspace) -> list[str]:
    """Return a line for each queue with answers that stand, and one for each round of inspection.

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
    return lines + _round_lines(workspace, ballots)


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
    return lines
