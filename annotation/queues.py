"""The queues: which images wait for which annotator, computed from the workspace whenever one is opened."""

from collections.abc import Sequence

from annotation.assignment import checked_gold_share
from annotation.ballots import Ballots, read_ballots
from annotation.collector import collector_paused
from annotation.consensus import recorded_rule
from annotation.decision_log import log_path, read_log
from annotation.decisions import checked_annotator_id
from annotation.inspection import draw_round, open_round
from annotation.other_logs import OtherLogs
from annotation.queue_plans import PLANS, QueueRequest
from annotation.rounds import read_rounds
from annotation.standing import Standing
from annotation.verdicts import ConsensusRule
from annotation.work_queue import WorkQueue
from manifests import schema
from manifests.errors import InputError
from manifests.workspace import Workspace

GOLD_SHARE = 0.05
"""One in twenty images of the queues ``first`` and ``audit`` is gold, as long as there is some."""


def open_queue(
    workspace: Workspace,
    annotator_id: str,
    name: str = "first",
    *,
    votes: int | None = None,
    order: str = "risk",
    seed: int = 0,
    annotators: Sequence[str] = (),
    present: Sequence[str] = (),
    gold_share: float = GOLD_SHARE,
    sample: int | None = None,
    own_disputes: bool = False,
) -> WorkQueue:
    """Return the queue of one annotator.

    - ``first``: images under review with fewer votes of others than they need. With `annotators` each image is
      the turn of as many of them as it needs votes, drawn by `seed`, the same on every machine; who skips an image
      passes their turn on. Without, each takes first what would be their turn among all who are known here, then
      what the others leave. Known is who has voted, has opened a log, or is `present`.
    - ``dispute``: disputed images without a ruling, and those whose rulings contradict each other; shared out in
      turns too. Who voted on one or inspected it is no judge of it.
    - ``inspection``: the sample of the open round; where there is none, `sample` draws one. What an inspector has
      skipped comes to them again when the queue is opened the next time, last of all, and to other inspectors.
    - ``gold``: the gold images alone, for training.
    - ``audit``: the images of all audits.

    An image comes to an annotator once, whatever the queue; only a dispute or an inspection may come to who has
    skipped it. Gold images under review get no votes. Those whom the last
    `consensus` set aside do not count, nor do the votes that they have given.

    Parameters
    ----------
    workspace : Workspace
        Screened.
    annotator_id : str
        Whose queue.
    name : str
        One of `manifests.schema.QUEUES`.
    votes : int, optional
        With ``first``: votes that an image needs, where not those of the last `consensus` (2 before there is one);
        a failed round of inspection adds to them. A dispute is one by the rule of the last `consensus`.
    order : str
        ``risk``, riskiest first, or ``random``, drawn by `seed` for this annotator.
    seed : int
        Of every draw.
    annotators : sequence of str
        A fixed team, of whom `annotator_id` is one.
    present : sequence of str
        Annotators who are about to work at this queue too, with whom its images are shared out from the start.
    gold_share : float
        In [0, 1): about this share of the images is gold, unmarked, in the queues ``first`` and ``audit``.
    sample : int, optional
        With ``inspection``: how many images a new round draws.
    own_disputes : bool
        Let adjudicators rule on disputes in which they have voted, where a team is too small.

    Raises
    ------
    InputError
        A name, number or team is not what it should be.
    StageMissingError
        A stage before has not been run.
    TableError
        A table, a log or a round is damaged.
    """
    if name not in schema.QUEUES:
        raise InputError(f"queue: expected one of {schema.QUEUES}, found {name!r}")
    if sample is not None and name != "inspection":
        raise InputError(f"sample: goes with the queue 'inspection' alone, found it with {name!r}")
    checked_annotator_id(annotator_id)
    last = recorded_rule(workspace)
    n_votes = last.n_votes if votes is None or name == "dispute" else votes
    rule = ConsensusRule(n_votes, last.majority, last.set_aside)
    _check_team(annotator_id, annotators, rule)
    checked_gold_share(gold_share)
    if sample is not None:
        _ensure_round(workspace, sample, seed)
    with collector_paused():
        others = OtherLogs(workspace, annotator_id)
        own = read_log(log_path(workspace, annotator_id)).decisions
        standing = dict(sorted({**others.standing, annotator_id: Standing(own)}.items()))
        request = QueueRequest(
            workspace, annotator_id, rule, order, seed, tuple(annotators), tuple(present), gold_share,
            own_disputes, Ballots({}, standing),
        )  # fmt: skip
        return WorkQueue(annotator_id, PLANS[name](request), own, others)


def _check_team(annotator_id: str, annotators: Sequence[str], rule: ConsensusRule) -> None:
    if not annotators:
        return
    for name in annotators:
        checked_annotator_id(name)
    if annotator_id not in annotators or len(set(annotators)) != len(annotators):
        raise InputError(
            f"annotators: expected different names, {annotator_id} among them, found {list(annotators)}"
        )
    if len(set(annotators) - set(rule.set_aside)) < rule.n_votes:
        raise InputError(
            f"annotators: {rule.n_votes} votes an image need as many annotators who are not set aside, found "
            f"{list(annotators)}"
        )


def _ensure_round(workspace: Workspace, n_sample: int, seed: int) -> None:
    rounds = read_rounds(workspace)
    if open_round(workspace, rounds, read_ballots(workspace)) is None:
        draw_round(workspace, n_sample, seed=seed)
