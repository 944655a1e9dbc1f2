"""What each queue holds for one annotator, from what the workspace knows when it is opened."""

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from annotation.assignment import Turns, gold_order, n_gold_after, ordered
from annotation.ballots import Ballots
from annotation.consensus import counted_votes, current_verdicts, needed_by_rounds
from annotation.gold import read_gold
from annotation.inspection import open_round
from annotation.review import ReviewItem, read_items, read_review, review_pictures
from annotation.rounds import answers_by_image, read_rounds
from annotation.standing import Standing
from annotation.verdicts import ConsensusRule, majority_ruling
from annotation.work_queue import QueuePlan, sharers
from manifests import schema
from manifests.stored_pictures import StoredPicture
from manifests.workspace import Workspace


@dataclass(frozen=True)
class QueueRequest:
    """What was asked of `annotation.queues.open_queue`, and what every annotator has said so far.

    Attributes
    ----------
    workspace, annotator_id, rule, order, seed, gold_share, own_disputes
        As for `open_queue`.
    team : tuple of str
        Its `annotators`.
    present : tuple of str
        As for `open_queue`.
    ballots : Ballots
        The standing answers of all, the one who asks among them.
    """

    workspace: Workspace
    annotator_id: str
    rule: ConsensusRule
    order: str
    seed: int
    team: tuple[str, ...]
    present: tuple[str, ...]
    gold_share: float
    own_disputes: bool
    ballots: Ballots

    def ordered(self, items: Iterable[ReviewItem], order: str | None = None) -> tuple[str, ...]:
        """Return the ids of `items` in the order asked for, or in the one given."""
        return tuple(ordered(items, order or self.order, self.seed, self.annotator_id))

    def turns(self, queue: str) -> Turns:
        """Return whose turn the images of a queue are: the team's, or that of all who are known to be at it."""
        names = set(self.team) or {*sharers(self.ballots.standing, queue), *self.present, self.annotator_id}
        return Turns(self.annotator_id, names - set(self.rule.set_aside), self.seed, is_fixed=bool(self.team))

    def gold(self, gold_ids: Iterable[str], n_images: int, n_votes: int) -> dict[str, int]:
        """Return gold images in their order; those that who answers all images meets count with `n_votes`."""
        n_met = round(n_images * self.gold_share / (1 - self.gold_share))
        order = gold_order(gold_ids, self.seed)
        return {image_id: n_votes if place < n_met else 0 for place, image_id in enumerate(order)}

    def n_gold_after(self, image_id: str) -> int:
        """Return how many gold images follow an image."""
        return n_gold_after(image_id, self.gold_share, seed=self.seed, annotator_id=self.annotator_id)


def first_plan(request: QueueRequest) -> QueuePlan:
    """Return the images under review with the votes that each needs, gold among them."""
    gold = read_gold(request.workspace)
    pictures = review_pictures(request.workspace)
    review = {item.image_id: item for item in read_review(request.workspace, pictures)}
    # Of gold that is under review, all is known by now.
    others = _items(request.workspace, gold.keys() - review.keys(), pictures)
    gold_items = {image_id: review.get(image_id) or others[image_id] for image_id in gold}
    items = {image_id: item for image_id, item in review.items() if image_id not in gold}
    more = needed_by_rounds(request.workspace, request.ballots, request.rule, items)
    n_votes = request.rule.n_votes
    return QueuePlan(
        "first",
        items | gold_items,
        request.ordered(items.values()),
        {image_id: max(n_votes, more.get(image_id, 0)) for image_id in items},
        gold=request.gold(gold_items, len(items), n_votes),
        n_gold_after=request.n_gold_after,
        turns=request.turns("first"),
        set_aside=request.rule.set_aside,
    )


def dispute_plan(request: QueueRequest) -> QueuePlan:
    """Return the disputed images; where rulings contradict each other, one of somebody else is needed too."""
    review = {item.image_id: item for item in read_review(request.workspace)}
    more = needed_by_rounds(request.workspace, request.ballots, request.rule, review)
    rows = current_verdicts(review, request.ballots, request.rule, more)
    disputed = {row["image_id"] for row in rows if row["verdict"] == "disputed"}
    rulings = answers_by_image(counted_votes(request.ballots, request.rule, "dispute"))
    items = {image_id: item for image_id, item in review.items() if image_id in disputed or image_id in rulings}
    return QueuePlan(
        "dispute",
        items,
        request.ordered(items.values()),
        {image_id: _rulings_needed(rulings.get(image_id, [])) for image_id in items},
        turns=request.turns("dispute"),
        may_answer=_judge_of_others if not request.own_disputes else _not_ruled,
        set_aside=request.rule.set_aside,
    )


def _rulings_needed(rulings: list[str]) -> int:
    return len(rulings) + 1 if rulings and majority_ruling(rulings) is None else 1


def _judge_of_others(own: Standing, image_id: str) -> bool:
    return _not_ruled(own, image_id) and not (own.vote("first", image_id) or own.vote("inspection", image_id))


def _not_ruled(own: Standing, image_id: str) -> bool:
    return own.answer("dispute", image_id) is None


def inspection_plan(request: QueueRequest) -> QueuePlan:
    """Return the sample of the open round; what this inspector has skipped comes last."""
    latest = open_round(request.workspace, read_rounds(request.workspace), request.ballots)
    review = {item.image_id: item for item in read_review(request.workspace)}
    items = {image_id: review[image_id] for image_id in (latest.sample if latest else ()) if image_id in review}
    own = request.ballots.standing[request.annotator_id]
    order = sorted(request.ordered(items.values()), key=lambda image_id: own.has_seen(image_id))
    return QueuePlan(
        "inspection",
        items,
        order,
        dict.fromkeys(items, 1),
        turns=request.turns("inspection"),
        may_answer=_inspector,
        set_aside=request.rule.set_aside,
    )


def _inspector(own: Standing, image_id: str) -> bool:
    # The sample is small, and a round waits for all of it: who has skipped an image may look again.
    return own.vote("inspection", image_id) is None and not own.has_seen(image_id, but_in="inspection")


def gold_plan(request: QueueRequest) -> QueuePlan:
    """Return the gold images alone."""
    items = _items(request.workspace, read_gold(request.workspace))
    return QueuePlan(
        "gold", items, request.ordered(items.values(), "random"), dict.fromkeys(items, 1), is_capped=False
    )


def audit_plan(request: QueueRequest) -> QueuePlan:
    """Return the images of all audits, gold among them."""
    names = sorted(path.stem for path in request.workspace.audits_dir.glob("*.parquet"))
    tables = [request.workspace.read(schema.audit_table(name)) for name in names]
    sample = set(itertools.chain.from_iterable(table.column("image_id").to_pylist() for table in tables))
    items = _items(request.workspace, sorted(sample))
    gold_items = _items(request.workspace, read_gold(request.workspace).keys() - sample)
    return QueuePlan(
        "audit",
        items | gold_items,
        # At random whatever was asked for: the place in the queue must not tell an auditor the risk.
        request.ordered(items.values(), "random"),
        dict.fromkeys(items, 1),
        gold=request.gold(gold_items, len(items), 1),
        n_gold_after=request.n_gold_after,
        is_capped=False,
        set_aside=request.rule.set_aside,
    )


def _items(
    workspace: Workspace, image_ids: Iterable[str], pictures: Mapping[str, StoredPicture] | None = None
) -> dict[str, ReviewItem]:
    wanted = sorted(image_ids)
    return {item.image_id: item for item in read_items(workspace, wanted, pictures)} if wanted else {}


PLANS: Mapping[str, Callable[[QueueRequest], QueuePlan]] = {
    "first": first_plan,
    "dispute": dispute_plan,
    "inspection": inspection_plan,
    "gold": gold_plan,
    "audit": audit_plan,
}
