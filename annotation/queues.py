"""The queues: which images wait for which annotator, computed from the workspace whenever one is opened."""

import contextlib
import gc
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from annotation.assignment import assigned, ordered, with_gold
from annotation.ballots import Ballots, read_ballots
from annotation.consensus import current_verdicts, needed_by_rounds, recorded_rule
from annotation.decision_log import log_path, read_log
from annotation.decisions import checked_annotator_id
from annotation.gold import read_gold
from annotation.inspection import draw_round, open_round
from annotation.other_logs import OtherLogs
from annotation.review import ReviewItem, read_items, read_review
from annotation.rounds import read_rounds
from annotation.standing import Standing
from annotation.verdicts import MIN_VOTES, ConsensusRule
from annotation.work_queue import QueuePlan, WorkQueue
from manifests import schema
from manifests.errors import InputError
from manifests.workspace import Workspace

GOLD_SHARE = 0.05
"""One in twenty images of the queues ``first`` and ``audit`` is gold, as long as there is some."""


@dataclass(frozen=True)
class _Request:
    """What was asked of `open_queue`, and what every annotator has said so far."""

    workspace: Workspace
    annotator_id: str
    rule: ConsensusRule
    order: str
    seed: int
    annotators: tuple[str, ...]
    gold_share: float
    own_disputes: bool
    ballots: Ballots

    def ordered(self, items: Iterable[ReviewItem], order: str | None = None) -> list[str]:
        """Return the ids of `items` in the order asked for, or in the one given."""
        return ordered(items, order or self.order, self.seed, self.annotator_id)

    def mixed(self, image_ids: Sequence[str], gold: Mapping[str, ReviewItem]) -> tuple[str, ...]:
        """Return `image_ids` with gold among them, of that which this annotator has not seen."""
        standing = self.ballots.standing[self.annotator_id]
        unseen = [image_id for image_id in gold if not standing.has_seen(image_id)]
        return tuple(with_gold(image_ids, unseen, self.gold_share, seed=self.seed, annotator_id=self.annotator_id))


def open_queue(
    workspace: Workspace,
    annotator_id: str,
    name: str = "first",
    *,
    votes: int = MIN_VOTES,
    order: str = "risk",
    seed: int = 0,
    annotators: Sequence[str] = (),
    gold_share: float = GOLD_SHARE,
    sample: int | None = None,
    own_disputes: bool = False,
) -> WorkQueue:
    """Return the queue of one annotator.

    - ``first``: images under review with fewer votes of others than they need. With `annotators` each image is
      the turn of as many of them as it needs votes, drawn by `seed`, the same on every machine. Without, each
      takes first what would be their turn among all who have voted here, then what the others leave.
    - ``dispute``: disputed images without a ruling. Who voted on one or inspected it is no judge of it.
    - ``inspection``: the sample of the open round; where there is none, `sample` draws one.
    - ``gold``: the gold images alone, for training.
    - ``audit``: the images of all audits.

    An image comes to an annotator once, whatever the queue; only a dispute may come to who has skipped it. Those
    whom the last `consensus` set aside do not count, nor do the votes that they have given.

    Parameters
    ----------
    workspace : Workspace
        Screened.
    annotator_id : str
        Whose queue.
    name : str
        One of `manifests.schema.QUEUES`.
    votes : int
        Votes that an image needs, as for `consensus`; a failed round of inspection adds to them.
    order : str
        ``risk``, riskiest first, or ``random``, drawn by `seed` for this annotator.
    seed : int
        Of every draw.
    annotators : sequence of str
        A fixed team, of whom `annotator_id` is one.
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
    rule = ConsensusRule(votes, last.majority, last.set_aside)
    _check_team(annotator_id, annotators, rule)
    if sample is not None:
        _ensure_round(workspace, sample, seed)
    with _collector_paused():
        others = OtherLogs(workspace, annotator_id)
        own = read_log(log_path(workspace, annotator_id)).decisions
        standing = dict(sorted({**others.standing, annotator_id: Standing(own)}.items()))
        request = _Request(
            workspace, annotator_id, rule, order, seed, tuple(annotators), gold_share, own_disputes,
            Ballots({}, standing),
        )  # fmt: skip
        return WorkQueue(annotator_id, _PLANS[name](request), own, others)


@contextlib.contextmanager
def _collector_paused() -> Iterator[None]:
    """Keep the garbage collector from going again and again through a million new objects that all stay."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


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


def _first(request: _Request) -> QueuePlan:
    gold = read_gold(request.workspace)
    review = {item.image_id: item for item in read_review(request.workspace)}
    # Of gold that is under review, all is known by now.
    others = _items(request.workspace, gold.keys() - review.keys())
    gold_items = {image_id: review.get(image_id) or others[image_id] for image_id in gold}
    items = {image_id: item for image_id, item in review.items() if image_id not in gold}
    more = needed_by_rounds(request.workspace, request.ballots, request.rule, items)
    needed = {image_id: max(request.rule.n_votes, more.get(image_id, 0)) for image_id in items}
    return QueuePlan(
        "first",
        items | gold_items,
        request.mixed(_by_turn(request, request.ordered(items.values()), needed), gold_items),
        needed,
        gold_ids=gold_items.keys(),
        set_aside=request.rule.set_aside,
    )


def _by_turn(request: _Request, image_ids: Sequence[str], needed: Mapping[str, int]) -> list[str]:
    """Return the images whose turn it is with this annotator, and, unless the team is fixed, then all others."""
    voters = (name for name, given in request.ballots.votes("first").items() if given)
    known = {*(request.annotators or voters), request.annotator_id} - set(request.rule.set_aside)
    if len(known) <= request.rule.n_votes:
        return list(image_ids)
    mine: list[str] = []
    rest: list[str] = []
    for image_id in image_ids:
        turn = assigned(image_id, sorted(known), needed[image_id], request.seed)
        (mine if request.annotator_id in turn else rest).append(image_id)
    return mine if request.annotators else mine + rest


def _dispute(request: _Request) -> QueuePlan:
    review = {item.image_id: item for item in read_review(request.workspace)}
    more = needed_by_rounds(request.workspace, request.ballots, request.rule, review)
    rows = current_verdicts(review, request.ballots, request.rule, more)
    # Where adjudicators contradict each other, a third cannot settle it: one of them takes a ruling back.
    disputed = {row["image_id"] for row in rows if row["verdict"] == "disputed"}
    ruled = {
        image_id for standing in request.ballots.standing.values() for image_id in standing.votes("dispute")
    } & review.keys()
    items = {image_id: item for image_id, item in review.items() if image_id in disputed | ruled}
    return QueuePlan(
        "dispute",
        items,
        tuple(request.ordered(items.values())),
        dict.fromkeys(items, 1),
        may_answer=_judge_of_others if not request.own_disputes else _not_ruled,
        set_aside=request.rule.set_aside,
    )


def _judge_of_others(own: Standing, image_id: str) -> bool:
    return _not_ruled(own, image_id) and not (own.vote("first", image_id) or own.vote("inspection", image_id))


def _not_ruled(own: Standing, image_id: str) -> bool:
    return own.answer("dispute", image_id) is None


def _inspection(request: _Request) -> QueuePlan:
    latest = open_round(request.workspace, read_rounds(request.workspace), request.ballots)
    review = {item.image_id: item for item in read_review(request.workspace)}
    sample = [image_id for image_id in latest.sample if image_id in review] if latest else []
    items = {image_id: review[image_id] for image_id in sample}
    order = tuple(request.ordered(items.values()))
    return QueuePlan("inspection", items, order, dict.fromkeys(items, 1), set_aside=request.rule.set_aside)


def _gold(request: _Request) -> QueuePlan:
    items = _items(request.workspace, read_gold(request.workspace))
    order = tuple(request.ordered(items.values(), "random"))
    return QueuePlan("gold", items, order, dict.fromkeys(items, 1), is_capped=False)


def _audit(request: _Request) -> QueuePlan:
    names = sorted(path.stem for path in request.workspace.audits_dir.glob("*.parquet"))
    tables = [request.workspace.read(schema.audit_table(name)) for name in names]
    sample = set(itertools.chain.from_iterable(table.column("image_id").to_pylist() for table in tables))
    items = _items(request.workspace, sorted(sample))
    gold_items = {
        image_id: item
        for image_id, item in _items(request.workspace, read_gold(request.workspace)).items()
        if image_id not in sample
    }
    # At random whatever was asked for: the place in the queue must not tell an auditor the risk.
    order = request.ordered(items.values(), "random")
    return QueuePlan(
        "audit",
        items | gold_items,
        request.mixed(order, gold_items),
        dict.fromkeys(items, 1),
        gold_ids=gold_items.keys(),
        is_capped=False,
        set_aside=request.rule.set_aside,
    )


def _items(workspace: Workspace, image_ids: Iterable[str]) -> dict[str, ReviewItem]:
    wanted = list(image_ids)
    return {item.image_id: item for item in read_items(workspace, wanted)} if wanted else {}


_PLANS: Mapping[str, Callable[[_Request], QueuePlan]] = {
    "first": _first,
    "dispute": _dispute,
    "inspection": _inspection,
    "gold": _gold,
    "audit": _audit,
}
