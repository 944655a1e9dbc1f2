"""What other annotators answer while one is at work: their logs, read on as they grow."""

import os
from collections.abc import Iterator

from annotation.decision_log import log_path
from annotation.decisions import Decision
from annotation.log_reader import LogReader
from annotation.standing import Standing
from manifests.errors import TableError
from manifests.workspace import Workspace


class OtherLogs:
    """The logs of all annotators of a workspace but one.

    Parameters
    ----------
    workspace : Workspace
        Where the logs lie.
    annotator_id : str
        Who is not read here.

    Attributes
    ----------
    standing : dict of str to Standing
        By annotator, all that `news` has given; empty for who has opened a log and not answered yet.

    Raises
    ------
    TableError
        A log is damaged; the message names file and line.
    """

    def __init__(self, workspace: Workspace, annotator_id: str) -> None:
        self.standing: dict[str, Standing] = {}
        self._workspace = workspace
        self._own_name = log_path(workspace, annotator_id).name
        self._readers: dict[str, LogReader] = {}
        self._damaged: set[str] = set()
        for name, n_bytes in self._sizes():
            self._read_on(name, n_bytes)

    def news(self) -> Iterator[tuple[str, Decision, int]]:
        """Yield what has been added since the last call: annotator, decision, and by how many votes it changes."""
        for name, n_bytes in self._sizes():
            try:
                yield from self._read_on(name, n_bytes)
            except (TableError, OSError):
                # Somebody else's log was damaged meanwhile. That must not stop this annotator: at worst one image
                # gets a vote too many. `consensus` and `decisions verify` name the line.
                self._damaged.add(name)

    def _sizes(self) -> list[tuple[str, int]]:
        try:
            with os.scandir(self._workspace.decisions_dir) as entries:
                return sorted(
                    (entry.name, entry.stat().st_size)
                    for entry in entries
                    if entry.name.endswith(".jsonl")
                    and not entry.name.startswith(".")
                    and entry.name != self._own_name
                )
        except FileNotFoundError:
            return []

    def _read_on(self, name: str, n_bytes: int) -> list[tuple[str, Decision, int]]:
        annotator_id = name.removesuffix(".jsonl")
        reader = self._readers.setdefault(name, LogReader(self._workspace.decisions_dir / name))
        standing = self.standing.setdefault(annotator_id, Standing())
        if name in self._damaged or n_bytes == reader.n_bytes:
            return []
        return [(annotator_id, decision, standing.take(decision)) for decision in reader.read_on()]
