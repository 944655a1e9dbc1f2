"""A judging session: which picture one annotator sees next, and what happens to each answer.

Knows neither FiftyOne nor a browser: plain values in, plain values out.
"""

import statistics
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from annotation.catalogue import Catalogue
from annotation.decision_log import DecisionLog
from annotation.decisions import Decision, utc_now
from annotation.evidence_masks import EvidenceMasks
from annotation.mask_use import MaskUse, MaskWitness
from annotation.review import ReviewItem
from annotation.sent_masks import SentMasks
from annotation.work_queue import WorkQueue
from manifests.errors import InputError
from manifests.workspace import tool_version

N_SHOWN_ITEMS = 4
"""The candidate, and how many after it the panel may fetch and show before a reply is there."""

N_UNDOABLE = 20

_PACE_ANSWERS = 50

TEAM_REFRESH_ANSWERS = 10
"""After so many answers the team's figures are counted anew: by one answer they would tell gold from the rest."""

Request = Mapping[str, Any]


class JudgingSession:
    """One annotator at one queue.

    Parameters
    ----------
    log : DecisionLog
        The annotator's log, open for writing.
    queue : WorkQueue
        Of the same annotator.
    catalogue : Catalogue
        What can be shown of classes.
    masks : EvidenceMasks, optional
        Where in the pictures these might be, as far as the queue offers it: see `EvidenceMasks.of_queue`.

    Raises
    ------
    InputError
        The queue is another annotator's.
    TableError
        The record of what was sent to the annotator is damaged.
    """

    def __init__(
        self, log: DecisionLog, queue: WorkQueue, catalogue: Catalogue, masks: EvidenceMasks | None = None
    ) -> None:
        if log.annotator_id != queue.annotator_id:
            raise InputError(f"a queue of {log.annotator_id} was expected, found one of {queue.annotator_id}")
        self._log = log
        self._queue = queue
        self._catalogue = catalogue
        self._masks = masks
        self._offers_masks = masks is not None and any(map(masks.has, queue.plan.items))
        self._unreadable: set[str] = set()
        self._sent = SentMasks(log)
        self._witness = MaskWitness(log.decisions, self._sent.image_ids)
        self._tool_version = tool_version()
        # What was answered between the reading of the queue and the opening of the log.
        for decision in log.decisions[queue.n_own :]:
            queue.record(decision)
        self._of_session: dict[str, float] = {}
        self._team = (-1, queue.team)
        self._pace: deque[float] = deque(maxlen=_PACE_ANSWERS)
        self._notes: dict[str, str] = {}
        # The App runs each request in a thread of its own.
        self._lock = threading.Lock()

    @property
    def n_left(self) -> int:
        """Pictures that this annotator is still to answer."""
        return self._queue.n_left

    @property
    def n_answered(self) -> int:
        """Pictures answered in this session, less those taken back."""
        return len(self._of_session)

    def state(self) -> dict[str, Any]:
        """Return what the panel shows: the candidate and those after it, progress, and what can be taken back."""
        with self._lock:
            self._queue.refresh()
            return self._state()

    def answer(self, request: Request) -> dict[str, Any]:
        """Store one answer and return the next state; one that cannot be stored is in ``refused``, in words.

        Parameters
        ----------
        request : mapping
            decision_id, image_id, answer, class_index, seconds and, if wanted, note and masks_seen, as the panel
            sends them. The image is named so that a late click cannot judge the wrong picture.
        """
        return self._respond(self._store_answer, request)

    def undo(self, request: Request) -> dict[str, Any]:
        """Take back the latest answer, whose image the request names, and return the state, as `answer` does."""
        return self._respond(self._store_undo, request)

    def classes(self) -> list[dict[str, Any]]:
        """Return the whole label space for the search, in the order of class_index."""
        return self._catalogue.all_classes()

    def masks(self, request: Request) -> list[dict[str, Any]]:
        """Return where the classes shown beside the picture that the request names might be.

        That they were sent is on disk before they are.

        Raises
        ------
        InputError
            The picture is not in this queue, or it cannot be stored that its masks are sent.
        TableError
            The masks are damaged.
        """
        item = self._item_of(request)
        found = self._masks_of(item)
        if found:
            self._sent.add(item.image_id)
            with self._lock:
                self._witness.note_sent(item.image_id)
        return found

    def _masks_of(self, item: ReviewItem) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        try:
            found = self._masks.of(item) if self._masks else []
        finally:
            # Damaged, or gone: who wanted to open them could not, and that is not to have left them closed.
            if not found:
                self._unreadable.add(item.image_id)
        return found

    def _respond(self, store: Callable[[Request], None], request: Request) -> dict[str, Any]:
        with self._lock:
            refused = ""
            try:
                store(request)
            except InputError as error:
                refused = str(error)
            self._queue.refresh()
            return self._state() | {"refused": refused}

    def _store_answer(self, request: Request) -> None:
        # First of all: what was stored stays stored, though the screen has been run again since.
        if self._log_knows(request):
            return
        item = self._item_of(request)
        queue = self._queue.plan.counts_as(item.image_id)
        decision = self._decision(request, item, queue, str(request.get("answer")))
        if decision.answer == "undo":
            raise InputError("an answer was expected, found 'undo'")
        if not self._is_known_class(decision, item):
            raise InputError(
                f"class {decision.class_index} is in no label space and not shown beside {item.image_id}"
            )
        if not self._queue.is_open(item.image_id):
            raise InputError(f"{item.image_id} has been answered already; undo takes the answer back")
        self._log.append(decision)
        self._queue.record(decision)
        self._witness.note_stored(decision)
        self._of_session[item.image_id] = decision.seconds
        self._pace.append(decision.seconds)
        self._notes.pop(item.image_id, None)

    def _store_undo(self, request: Request) -> None:
        stored = self._log.find(_decision_id(request))
        if stored is not None and (stored.answer, stored.image_id) == ("undo", request.get("image_id")):
            return
        item = self._item_of(request)
        last = self._queue.last_answer
        if last is None or last[1] != item.image_id:
            raise InputError(f"{item.image_id} is not the latest answer; only that can be taken back")
        decision = self._decision({**request, "class_index": None, "note": ""}, item, last[0], "undo")
        note = self._queue.last_note
        self._log.append(decision)
        self._queue.record(decision)
        self._notes[item.image_id] = note
        if self._of_session.pop(item.image_id, None) is not None and self._pace:
            self._pace.pop()

    def _log_knows(self, request: Request) -> bool:
        """Return whether this very request was stored before: its reply got lost and it is sent again."""
        stored = self._log.find(_decision_id(request))
        said = (
            request.get("image_id"),
            request.get("answer"),
            request.get("class_index"),
            request.get("note") or "",
        )
        return stored is not None and said == (stored.image_id, stored.answer, stored.class_index, stored.note)

    def _is_known_class(self, decision: Decision, item: ReviewItem) -> bool:
        index = decision.class_index
        return index is None or index in item.shown_classes or index in self._catalogue.class_names

    def _item_of(self, request: Request) -> ReviewItem:
        item = self._queue.plan.items.get(str(request.get("image_id")))
        if item is None:
            raise InputError(f"image {request.get('image_id')!r} is not in this queue")
        return item

    def _decision(self, request: Request, item: ReviewItem, queue: str, answer: str) -> Decision:
        return Decision(
            decision_id=_decision_id(request),
            image_id=item.image_id,
            answer=answer,
            class_index=request.get("class_index"),
            shown_classes=item.shown_classes,
            queue=queue,
            seconds=request.get("seconds", 0),
            guideline=self._catalogue.guideline,
            tool_version=self._tool_version,
            at=utc_now(),
            note=request.get("note") or "",
            masks=None if answer == "undo" else self._mask_use(request, item),
        )

    def _mask_use(self, request: Request, item: ReviewItem) -> MaskUse | None:
        told = request.get("masks_seen")
        is_offered = self._has_masks(item) and item.image_id not in self._unreadable
        return self._witness.use(item.image_id, item.shown_classes, told, is_offered=is_offered)

    def _has_masks(self, item: ReviewItem) -> bool:
        return self._masks is not None and self._masks.has(item.image_id)

    def _state(self) -> dict[str, Any]:
        queue = self._queue
        items = [self._shown(item) for item in queue.upcoming(N_SHOWN_ITEMS)]
        return {
            "annotator_id": queue.annotator_id,
            "queue": queue.plan.name,
            "guideline": self._catalogue.guideline,
            "items": items,
            "offers_masks": self._offers_masks,
            "undoable": queue.latest(N_UNDOABLE),
            "n_total": queue.n_left + queue.n_answered,
            "n_left": queue.n_left,
            "n_answered": self.n_answered,
            "pace_s": statistics.median(self._pace) if self._pace else None,
            "team": self._team_figures(),
            "refused": "",
        }

    def _team_figures(self) -> dict[str, int]:
        tens = self._queue.n_own // TEAM_REFRESH_ANSWERS
        if self._team[0] != tens:
            self._team = (tens, self._queue.team)
        return self._team[1]

    def _shown(self, item: ReviewItem) -> dict[str, Any]:
        shown = self._catalogue.shown_item(item) | {"note": self._notes.get(item.image_id, "")}
        shown["has_masks"] = self._has_masks(item)
        if self._queue.plan.name == "dispute":
            said = self._queue.answers_of_others(item.image_id)
            shown["answers"] = [self._answer_of_other(name, decision) for name, decision in said]
        return shown

    def _answer_of_other(self, annotator_id: str, decision: Decision) -> dict[str, Any]:
        index = decision.class_index
        return {
            "annotator_id": annotator_id,
            "answer": decision.answer,
            "class_index": index,
            "class_name": None if index is None else self._catalogue.name_of(index),
            "note": decision.note,
            "seconds": decision.seconds,
        }


def _decision_id(request: Request) -> str:
    found = request.get("decision_id")
    if not isinstance(found, str):
        raise InputError(f"decision_id: expected the id of this request, found {found!r}")
    return found
