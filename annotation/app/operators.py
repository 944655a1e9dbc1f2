"""The operators that the panel calls: thin doors to the judging sessions of this process, one an annotator.

Who asks stands in ``params["annotator_id"]``, written there by the guard whatever the browser claims.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import fiftyone.operators as foo

from annotation.judging import JudgingSession


@dataclass(frozen=True)
class _Served:
    sessions: Mapping[str, JudgingSession]
    guideline_text: str


_served: list[_Served] = []


def serve_sessions(sessions: Mapping[str, JudgingSession], guideline_text: str) -> None:
    """Let the operators of this process work on `sessions`; FiftyOne makes them itself and passes no arguments.

    Parameters
    ----------
    sessions : mapping of str to JudgingSession
        By annotator.
    guideline_text : str
        The instructions, in Markdown.
    """
    _served[:] = [_Served(sessions, guideline_text)]


def _session(ctx: foo.ExecutionContext) -> JudgingSession:
    if not _served:
        raise RuntimeError("no judging session is open in this process; start the App with `annotate`")
    annotator_id = ctx.params.get("annotator_id")
    if annotator_id not in _served[0].sessions:
        raise RuntimeError(f"nobody named {annotator_id!r} is judging here")
    return _served[0].sessions[annotator_id]


def _unlisted(name: str, label: str) -> foo.OperatorConfig:
    """Return a configuration that keeps the operator out of the operator browser."""
    return foo.OperatorConfig(name=name, label=label, unlisted=True)


class ShowCandidate(foo.Operator):
    """Returns what the panel shows now."""

    @property
    def config(self) -> foo.OperatorConfig:
        """Its name."""
        return _unlisted("show_candidate", "Show the candidate")

    def execute(self, ctx: foo.ExecutionContext) -> dict[str, Any]:
        """Return the session's state."""
        return _session(ctx).state()


class ShowCatalogue(foo.Operator):
    """Returns what stays the same for a whole session: all classes, for the search, and the guideline."""

    @property
    def config(self) -> foo.OperatorConfig:
        """Its name."""
        return _unlisted("show_catalogue", "Show all classes and the guideline")

    def execute(self, ctx: foo.ExecutionContext) -> dict[str, Any]:
        """Return classes and guideline_text."""
        return {"classes": _session(ctx).classes(), "guideline_text": _served[0].guideline_text}


class ShowMasks(foo.Operator):
    """Returns where in one picture each shown class might be; asked for only when it is wanted."""

    @property
    def config(self) -> foo.OperatorConfig:
        """Its name."""
        return _unlisted("show_masks", "Show where classes might be")

    def execute(self, ctx: foo.ExecutionContext) -> dict[str, Any]:
        """Return the masks of one picture."""
        return {"masks": _session(ctx).masks(ctx.params)}


class StoreAnswer(foo.Operator):
    """Stores one answer; when it returns, the answer is on disk."""

    @property
    def config(self) -> foo.OperatorConfig:
        """Its name."""
        return _unlisted("store_answer", "Store an answer")

    def execute(self, ctx: foo.ExecutionContext) -> dict[str, Any]:
        """Return the session's next state."""
        return _session(ctx).answer(ctx.params)


class UndoAnswer(foo.Operator):
    """Takes back the latest answer."""

    @property
    def config(self) -> foo.OperatorConfig:
        """Its name."""
        return _unlisted("undo_answer", "Undo the latest answer")

    def execute(self, ctx: foo.ExecutionContext) -> dict[str, Any]:
        """Return the session's state with that picture shown again."""
        return _session(ctx).undo(ctx.params)


OPERATORS = (ShowCandidate, ShowCatalogue, ShowMasks, StoreAnswer, UndoAnswer)
