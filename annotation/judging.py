"""A judging session: which picture one annotator sees next, and what happens to each answer.

Knows neither FiftyOne nor a browser: plain values in, plain values out.
"""

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from annotation.decision_log import DecisionLog
from annotation.decisions import Decision, standing_answers, utc_now
from annotation.review import ReviewItem
from manifests.errors import InputError
from manifests.label_space import ClassName
from manifests.workspace import tool_version

GUIDELINE = "vim-section-5"
"""The paper's instructions: one of the classes shown = in, none of them = out, cannot decide = difficult."""

QUEUE = "first"

_N_UPCOMING = 2
"""How many pictures ahead the browser may fetch."""


class JudgingSession:
    """One annotator at the review set.

    Parameters
    ----------
    log : DecisionLog
        The annotator's log, open for writing.
    items : sequence of ReviewItem
        The review set in the order to show.
    class_names : mapping of int to ClassName
        Names of classes; one without a name is shown by its index.
    examples : mapping of int to Path
        Example pictures of classes, where there are any.
    guideline : str
        Name of the instructions, stored with every answer.
    """

    def __init__(
        self,
        log: DecisionLog,
        items: Sequence[ReviewItem],
        class_names: Mapping[int, ClassName],
        examples: Mapping[int, Path],
        guideline: str = GUIDELINE,
    ) -> None:
        self._log = log
        self._items = {item.image_id: item for item in items}
        self._class_names = class_names
        self._examples = examples
        self._guideline = guideline
        self._tool_version = tool_version()
        answered = standing_answers(decision for decision in log.decisions if decision.queue == QUEUE)
        self._history = [image_id for image_id in answered if image_id in self._items]
        self._pending = deque(image_id for image_id in self._items if image_id not in answered)
        self._n_left_at_start = len(self._pending)
        # The App runs each request in a thread of its own.
        self._lock = threading.Lock()

    @property
    def n_left(self) -> int:
        """Pictures without an answer of this annotator."""
        return len(self._pending)

    @property
    def n_answered(self) -> int:
        """Pictures answered in this session, less those taken back."""
        return self._n_left_at_start - len(self._pending)

    def state(self) -> dict[str, Any]:
        """Return what the panel shows: the candidate (None at the end), progress, and what can be taken back."""
        with self._lock:
            return self._state()

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Store one answer and return the next state; one that cannot be stored is in ``refused``, in words.

        Parameters
        ----------
        request : mapping
            decision_id, image_id, answer, class_index, seconds, as the panel sends them. The image is named so
            that a late click cannot judge the wrong picture.
        """
        return self._respond(self._store_answer, request)

    def undo(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Take back the latest answer, whose image the request names, and return the state, as `answer` does."""
        return self._respond(self._store_undo, request)

    def _respond(self, store: Any, request: Mapping[str, Any]) -> dict[str, Any]:
        with self._lock:
            try:
                store(request)
            except InputError as error:
                return self._state() | {"refused": str(error)}
            return self._state()

    def _store_answer(self, request: Mapping[str, Any]) -> None:
        item = self._item_of(request)
        decision = self._decision(request, item, str(request.get("answer")), request.get("class_index"))
        if decision.answer == "undo":
            raise InputError("an answer was expected, found 'undo'")
        if decision.answer == "in" and decision.class_index not in item.shown_classes:
            raise InputError(f"class {decision.class_index} is not among those shown beside {item.image_id}")
        if self._log_knows(decision):
            return
        if item.image_id not in self._pending:
            raise InputError(f"{item.image_id} has been answered already; undo takes the answer back")
        self._log.append(decision)
        self._pending.remove(item.image_id)
        self._history.append(item.image_id)

    def _store_undo(self, request: Mapping[str, Any]) -> None:
        item = self._item_of(request)
        decision = self._decision(request, item, "undo", None)
        if self._log_knows(decision):
            return
        if not self._history or self._history[-1] != item.image_id:
            raise InputError(f"{item.image_id} is not the latest answer; only that can be taken back")
        self._log.append(decision)
        self._history.pop()
        self._pending.appendleft(item.image_id)

    def _log_knows(self, decision: Decision) -> bool:
        """Return whether this very request was stored before: its reply got lost and it is sent again."""
        stored = self._log.find(decision.decision_id)
        return stored is not None and stored.says_the_same(decision)

    def _item_of(self, request: Mapping[str, Any]) -> ReviewItem:
        item = self._items.get(str(request.get("image_id")))
        if item is None:
            raise InputError(f"image {request.get('image_id')!r} is not under review")
        return item

    def _decision(self, request: Mapping[str, Any], item: ReviewItem, answer: str, class_index: Any) -> Decision:
        return Decision(
            decision_id=str(request.get("decision_id")),
            image_id=item.image_id,
            answer=answer,
            class_index=class_index,
            shown_classes=item.shown_classes,
            queue=QUEUE,
            seconds=request.get("seconds", 0),
            guideline=self._guideline,
            tool_version=self._tool_version,
            at=utc_now(),
        )

    def _state(self) -> dict[str, Any]:
        upcoming = [
            self._items[self._pending[place]] for place in range(1, min(len(self._pending), _N_UPCOMING + 1))
        ]
        return {
            "annotator_id": self._log.annotator_id,
            "guideline": self._guideline,
            "candidate": self._shown(self._items[self._pending[0]]) if self._pending else None,
            "upcoming_paths": [str(item.path) for item in upcoming],
            "undoable_image_id": self._history[-1] if self._history else None,
            "n_total": len(self._items),
            "n_left": len(self._pending),
            "n_answered": self.n_answered,
        }

    def _shown(self, item: ReviewItem) -> dict[str, Any]:
        return {
            "image_id": item.image_id,
            "path": str(item.path),
            "rotation_deg": item.rotation_deg,
            "classes": [
                self._shown_class(class_index, similarity)
                for class_index, similarity in zip(item.shown_classes, item.shown_similarities, strict=True)
            ],
        }

    def _shown_class(self, class_index: int, similarity: float) -> dict[str, Any]:
        known = self._class_names.get(class_index)
        example = self._examples.get(class_index)
        return {
            "class_index": class_index,
            "name": known.name if known else f"class {class_index}",
            "wnid": known.wnid or None if known else None,
            "similarity": similarity,
            "example_path": str(example) if example else None,
        }
