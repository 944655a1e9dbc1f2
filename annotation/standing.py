"""What one annotator's decisions come to: the standing answers of each queue, kept one decision at a time."""

from collections.abc import Iterable

from annotation.decisions import Decision


class Standing:
    """The answers of one annotator that have not been taken back, by queue and image.

    Parameters
    ----------
    decisions : iterable of Decision
        Oldest first, each decision_id once, as a log gives them.
    """

    def __init__(self, decisions: Iterable[Decision] = ()) -> None:
        self._stacks: dict[str, dict[str, list[Decision]]] = {}
        for decision in decisions:
            self._add(decision)

    def take(self, decision: Decision) -> int:
        """Add one decision, and return by how many its image has more votes of this annotator in its queue."""
        before = self.vote(decision.queue, decision.image_id)
        self._add(decision)
        return (self.vote(decision.queue, decision.image_id) is not None) - (before is not None)

    def _add(self, decision: Decision) -> None:
        stacks = self._stacks.setdefault(decision.queue, {})
        if decision.answer == "undo":
            stacks[decision.image_id].pop()
            if not stacks[decision.image_id]:
                del stacks[decision.image_id]
        else:
            stacks.setdefault(decision.image_id, []).append(decision)

    def answer(self, queue: str, image_id: str) -> Decision | None:
        """Return the latest standing answer, ``skip`` included, or None."""
        stack = self._stacks.get(queue, {}).get(image_id)
        return stack[-1] if stack else None

    def vote(self, queue: str, image_id: str) -> Decision | None:
        """Return the latest standing answer unless it is ``skip``, or None."""
        answer = self.answer(queue, image_id)
        return None if answer is None or answer.answer == "skip" else answer

    def votes(self, queue: str) -> dict[str, Decision]:
        """Return the standing answers of a queue by image, without ``skip``."""
        stacks = self._stacks.get(queue, {})
        return {image_id: stack[-1] for image_id, stack in stacks.items() if stack[-1].answer != "skip"}

    def has_seen(self, image_id: str, *, but_in: str = "") -> bool:
        """Return whether any answer for this image stands, in whatever queue or in any but one."""
        return any(image_id in stacks for queue, stacks in self._stacks.items() if queue != but_in)

    def queues(self) -> set[str]:
        """Return the queues in which an answer stands."""
        return {queue for queue, stacks in self._stacks.items() if stacks}
