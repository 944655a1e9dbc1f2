"""A queue at work: what one annotator sees next, while they and others answer. Every step takes constant time."""

import heapq
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from annotation.assignment import Turns
from annotation.decisions import Decision
from annotation.other_logs import OtherLogs
from annotation.review import ReviewItem
from annotation.standing import Standing


@dataclass(frozen=True)
class QueuePlan:
    """What a queue holds for one annotator when it is opened.

    Attributes
    ----------
    name : str
        One of `manifests.schema.QUEUES`.
    items : mapping of str to ReviewItem
        All images that this annotator may answer here.
    order : sequence of str
        Those that are to be shown, without gold, in the order to show.
    needed : mapping of str to int
        The images of this queue, whoever answers them, with the votes that each needs.
    gold : mapping of str to int
        Images whose answers are logged as ``gold``, in the order to show, with the votes that are taken for needed
        in the team's figures. Who sees the figures must not tell gold from the rest by them.
    n_gold_after : callable
        Tells how many gold images follow an image of `order`, as long as there are some.
    turns : Turns, optional
        Whose turn an image is; without, everybody's.
    is_capped : bool
        Whether an image is no longer shown when it has the votes that it needs.
    may_answer : callable
        Tells from this annotator's standing answers whether they may be shown an image.
    set_aside : collection of str
        Annotators whose votes do not count.
    """

    name: str
    items: Mapping[str, ReviewItem]
    order: Sequence[str]
    needed: Mapping[str, int]
    gold: Mapping[str, int] = field(default_factory=dict)
    n_gold_after: Callable[[str], int] = field(default=lambda image_id: 0)
    turns: Turns | None = None
    is_capped: bool = True
    may_answer: Callable[[Standing, str], bool] = field(default=lambda own, image_id: not own.has_seen(image_id))
    set_aside: Collection[str] = ()

    def counts_as(self, image_id: str) -> str:
        """Return the queue under which an answer for `image_id` is logged."""
        return "gold" if image_id in self.gold else self.name

    def n_counted(self, image_id: str) -> int | None:
        """Return the votes after which the team is done with an image, None of one that is not counted."""
        return self.gold.get(image_id) if image_id in self.gold else self.needed.get(image_id)


class WorkQueue:
    """One annotator's queue; made by `annotation.queues.open_queue`.

    Parameters
    ----------
    annotator_id : str
        Whose queue.
    plan : QueuePlan
        What it holds.
    own : sequence of Decision
        This annotator's decisions so far, oldest first.
    others : OtherLogs
        What the others say.
    """

    def __init__(self, annotator_id: str, plan: QueuePlan, own: Sequence[Decision], others: OtherLogs) -> None:
        self.annotator_id = annotator_id
        self.plan = plan
        self._others = others
        self._own = Standing()
        self._rank = {image_id: rank for rank, image_id in enumerate(plan.order)}
        self._votes: Counter[str] = Counter()
        self._voters: Counter[str] = Counter()
        self._n_done = self._n_own = 0
        self._history: dict[tuple[str, str], None] = {}
        self._window: deque[str] = deque()
        self._due: set[str] = set()
        # Ranks of what is due: what may be this annotator's turn, and what is the turn of others.
        self._heap: list[int] = []
        self._later: list[tuple[int, int]] = []
        self._n_gold_due = 0
        self._n_total = len(plan.needed) + sum(n > 0 for n in plan.gold.values())
        for name, standing in others.standing.items():
            self._count_all(name, standing)
        for decision in own:
            self._take_own(decision)
        self._gold = deque(image_id for image_id in plan.gold if plan.may_answer(self._own, image_id))
        for image_id in plan.order:
            self._reconsider(image_id)

    @property
    def n_own(self) -> int:
        """How many decisions of this annotator have been taken."""
        return self._n_own

    @property
    def last_answer(self) -> tuple[str, str] | None:
        """The latest answer of this queue that stands, as (queue under which it is logged, image_id)."""
        return next(reversed(self._history), None)

    @property
    def last_note(self) -> str:
        """What was noted with `last_answer`."""
        answer = self._own.answer(*self.last_answer) if self.last_answer else None
        return answer.note if answer else ""

    @property
    def n_answered(self) -> int:
        """Images of this queue with a standing answer of this annotator."""
        return len(self._history)

    @property
    def n_left(self) -> int:
        """Images that this annotator is still to answer."""
        return len(self._due) + len(self._window) + min(self._n_gold_due, len(self._gold))

    @property
    def team(self) -> dict[str, int]:
        """How far all annotators are: n_done, n_total images, n_annotators. Counts only, as they work blind."""
        return {
            "n_done": self._n_done,
            "n_total": self._n_total,
            "n_annotators": sum(n > 0 for n in self._voters.values()),
        }

    def latest(self, n: int) -> list[str]:
        """Return the images of the latest `n` answers, latest last."""
        newest = [image_id for _, (_, image_id) in zip(range(n), reversed(self._history), strict=False)]
        return newest[::-1]

    def upcoming(self, n: int) -> list[ReviewItem]:
        """Return the next `n` images. Once returned, an image stays until it is answered, whatever others do."""
        while len(self._window) < n and (image_id := self._next()) is not None:
            if not self._heap and self._window and len(self._window) >= self._depth():
                break
            n_gold = self.plan.n_gold_after(image_id)
            self._drop(image_id)
            self._window.append(image_id)
            while n_gold and self._gold:
                gold_id = self._gold.popleft()
                if self.is_open(gold_id) and gold_id not in self._window:
                    self._window.append(gold_id)
                    n_gold -= 1
        return [self.plan.items[image_id] for _, image_id in zip(range(n), self._window, strict=False)]

    def is_open(self, image_id: str) -> bool:
        """Return whether this annotator may answer an image of this queue now, even if it has votes enough."""
        return image_id in self.plan.items and self.plan.may_answer(self._own, image_id)

    def record(self, decision: Decision) -> None:
        """Take an answer of this annotator that is on disk."""
        image_id = decision.image_id
        if decision.answer == "undo":
            self._take_own(decision)
            self._drop(image_id)
            if self.is_open(image_id):
                self._window.appendleft(image_id)
            return
        if image_id in self._window:
            self._window.remove(image_id)
        self._drop(image_id)
        self._take_own(decision)

    def refresh(self) -> None:
        """Take what others have answered meanwhile."""
        for name, decision, change in self._others.news():
            image_id = decision.image_id
            if change and decision.queue == self.plan.counts_as(image_id) and name not in self.plan.set_aside:
                self._count(name, image_id, change)
            # Also after a skip, which is no vote: whose turn the image was may have to be passed on.
            self._reconsider(image_id)
        self._meet_newcomers()

    def answers_of_others(self, image_id: str) -> list[tuple[str, Decision]]:
        """Return the standing votes, inspections and rulings of all others for an image, by annotator."""
        return [
            (name, vote)
            for name, standing in sorted(self._others.standing.items())
            for queue in ("first", "inspection", "dispute")
            if (vote := standing.vote(queue, image_id)) is not None
        ]

    def _take_own(self, decision: Decision) -> None:
        change = self._own.take(decision)
        self._n_own += 1
        key = (decision.queue, decision.image_id)
        if decision.image_id in self.plan.items and decision.queue in (self.plan.name, "gold"):
            self._history.pop(key, None)
            if self._own.answer(*key) is not None:
                self._history[key] = None
        counts = self.annotator_id not in self.plan.set_aside
        if change and counts and decision.queue == self.plan.counts_as(decision.image_id):
            self._count(self.annotator_id, decision.image_id, change)

    def _count_all(self, name: str, standing: Standing) -> None:
        if name not in self.plan.set_aside:
            for queue in {self.plan.name, "gold"}:
                for image_id in standing.votes(queue):
                    if self.plan.counts_as(image_id) == queue:
                        self._count(name, image_id, 1)

    def _count(self, name: str, image_id: str, change: int) -> None:
        needed = self.plan.n_counted(image_id)
        if needed is None:
            return
        was_done = self._votes[image_id] >= needed
        self._votes[image_id] += change
        self._voters[name] += change
        self._n_done += (self._votes[image_id] >= needed) - was_done

    def _is_due(self, image_id: str) -> bool:
        if not self.plan.may_answer(self._own, image_id):
            return False
        if self.plan.is_capped and self._votes[image_id] >= self.plan.needed[image_id]:
            return False
        return self.plan.turns is None or not self.plan.turns.is_fixed or not self._n_before(image_id)

    def _n_before(self, image_id: str) -> int:
        if self.plan.turns is None:
            return 0
        return self.plan.turns.n_before(
            image_id, self.plan.needed[image_id], lambda name: self._can_vote(name, image_id)
        )

    def _can_vote(self, name: str, image_id: str) -> bool:
        standing = self._own if name == self.annotator_id else self._others.standing.get(name)
        if standing is None:
            return True
        return standing.vote(self.plan.name, image_id) is not None or self.plan.may_answer(standing, image_id)

    def _meet_newcomers(self) -> None:
        """Share out what is left among those who have come since, unless the team is fixed."""
        if self.plan.turns is not None and not self.plan.turns.is_fixed:
            standing = self._others.standing
            self.plan.turns.add(sharers(standing, self.plan.name) - set(self.plan.set_aside))

    def _depth(self) -> int:
        """Return how many images to take ahead of those that are the turn of others.

        What is taken ahead stays, whatever they answer meanwhile: near the end that is votes too many.
        """
        return 1 + len(self._due) // (2 * self.plan.turns.n_names) if self.plan.turns else len(self._due) + 1

    def _next(self) -> str | None:
        """Return what is due next: the first whose turn is this annotator's, then the first of others' turns."""
        while self._heap:
            image_id = self.plan.order[self._heap[0]]
            n_before = self._n_before(image_id) if image_id in self._due else 0
            if image_id in self._due and not n_before:
                return image_id
            rank = heapq.heappop(self._heap)
            if image_id in self._due:
                heapq.heappush(self._later, (n_before, rank))
        while self._later and self.plan.order[self._later[0][1]] not in self._due:
            heapq.heappop(self._later)
        return self.plan.order[self._later[0][1]] if self._later else None

    def _reconsider(self, image_id: str) -> None:
        """Take an image off what is due, or put it back, after the votes of others have changed."""
        if image_id not in self._rank or image_id in self._window:
            return
        if not self._is_due(image_id):
            self._drop(image_id)
        elif image_id not in self._due:
            self._due.add(image_id)
            self._n_gold_due += self.plan.n_gold_after(image_id)
            heapq.heappush(self._heap, self._rank[image_id])

    def _drop(self, image_id: str) -> None:
        if image_id in self._due:
            self._due.remove(image_id)
            self._n_gold_due -= self.plan.n_gold_after(image_id)


def sharers(standing: Mapping[str, Standing], queue: str) -> set[str]:
    """Return who shares out the images of a queue: who has answered in it, or gold, or nothing at all yet."""
    return {name for name, given in standing.items() if not (found := given.queues()) or found & {queue, "gold"}}
