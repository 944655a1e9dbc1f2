"""The operators that the panel calls: thin doors to the one judging session of this process."""

from typing import Any

import fiftyone.operators as foo

from annotation.judging import JudgingSession

_served: list[JudgingSession] = []


def serve_session(session: JudgingSession) -> None:
    """Let the operators of this process work on `session`; FiftyOne makes them itself and passes no arguments."""
    _served[:] = [session]


def _session() -> JudgingSession:
    if not _served:
        raise RuntimeError("no judging session is open in this process; start the App with `annotate`")
    return _served[0]


class ShowCandidate(foo.Operator):
    """Returns what the panel shows now."""

    @property
    def config(self) -> foo.OperatorConfig:
        """Its name, and that the operator browser does not list it."""
        return foo.OperatorConfig(name="show_candidate", label="Show the candidate", unlisted=True)

    def execute(self, ctx: foo.ExecutionContext) -> dict[str, Any]:
        """Return the session's state."""
        return _session().state()


class StoreAnswer(foo.Operator):
    """Stores one answer; when it returns, the answer is on disk."""

    @property
    def config(self) -> foo.OperatorConfig:
        """Its name, and that the operator browser does not list it."""
        return foo.OperatorConfig(name="store_answer", label="Store an answer", unlisted=True)

    def execute(self, ctx: foo.ExecutionContext) -> dict[str, Any]:
        """Return the session's next state."""
        return _session().answer(ctx.params)


class UndoAnswer(foo.Operator):
    """Takes back the latest answer."""

    @property
    def config(self) -> foo.OperatorConfig:
        """Its name, and that the operator browser does not list it."""
        return foo.OperatorConfig(name="undo_answer", label="Undo the latest answer", unlisted=True)

    def execute(self, ctx: foo.ExecutionContext) -> dict[str, Any]:
        """Return the session's state with that picture shown again."""
        return _session().undo(ctx.params)


OPERATORS = (ShowCandidate, StoreAnswer, UndoAnswer)
