"""The error tree of the toolkit.

::

    OpenImageOError
    ├── InputError            a flag, a file or a row that the user gave is not what it should be
    │   └── TableError        a table or log in the workspace does not follow its schema
    ├── StageMissingError     the table of an earlier stage is needed and is not there
    ├── WorkspaceLockedError  another process is at work on this workspace
    ├── ToolMissingError      a program or a model that the stage needs cannot be had on this machine
    ├── ModelError            a model or a checkpoint cannot be loaded, or does not fit
    ├── OutputError           what a command prints cannot be written
    ├── FeatureError          features, head or labels do not fit each other or the method
    └── UnreadableImageError  one picture cannot be read; carries the status to store

One bad picture is a row with a status and a reason; a broken run is one of these, raised. The command line
prints its message in one line and exits 1.
"""


def one_line(error: BaseException, most_chars: int = 300) -> str:
    """Return a library's message as one line of bounded length, for our own message or a stored reason."""
    return " ".join(str(error).split())[:most_chars] or type(error).__name__


class OpenImageOError(Exception):
    """Root of every error that the toolkit raises on purpose."""


class InputError(OpenImageOError):
    """Something the user gave is not what it should be; the message says what, where, and what to do."""


class TableError(InputError):
    """A table or a log does not follow its declared schema."""


class StageMissingError(OpenImageOError):
    """The output of an earlier stage is needed and is not in the workspace."""


class WorkspaceLockedError(OpenImageOError):
    """Another process holds the workspace; the message names it."""


class ToolMissingError(OpenImageOError):
    """A program that the stage needs is not on this machine; the message says what to install."""


class ModelError(OpenImageOError):
    """A model name, checkpoint or configuration cannot be used."""


class OutputError(OpenImageOError):
    """Standard output takes no more: its disk is full, or its reader gone."""


class FeatureError(OpenImageOError):
    """Features, head or labels do not fit each other, or not the method asked for."""


class UnreadableImageError(OpenImageOError):
    """One picture cannot be read.

    Attributes
    ----------
    status : str
        The download status to store: ``not_an_image``, ``undecodable`` or ``too_large``.
    reason : str
        One line for the ``reason`` column.
    """

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(f"{status}: {reason}")
        self.status = status
        self.reason = reason


class TerminatedError(KeyboardInterrupt):
    """The process was asked to end (SIGTERM); a `KeyboardInterrupt`, as what must be saved is the same."""
