"""All decisions of a workspace: every annotator's log read to its end, and what stands of it."""

from dataclasses import dataclass

from annotation.collector import collector_paused
from annotation.decision_log import annotator_ids, log_path, read_log
from annotation.decisions import Decision
from annotation.log_reader import LogReader
from annotation.standing import Standing
from manifests.workspace import Workspace


@dataclass(frozen=True)
class Ballots:
    """The logs and standing answers of all annotators.

    Attributes
    ----------
    logs : dict of str to LogReader
        By annotator, sorted.
    standing : dict of str to Standing
        By annotator, in the same order.
    """

    logs: dict[str, LogReader]
    standing: dict[str, Standing]

    def votes(self, queue: str) -> dict[str, dict[str, Decision]]:
        """Return annotator to image to standing answer of one queue, without ``skip``."""
        return {annotator_id: standing.votes(queue) for annotator_id, standing in self.standing.items()}


def read_ballots(workspace: Workspace) -> Ballots:
    """Return all decisions of `workspace`.

    Raises
    ------
    TableError
        A log is damaged; the message names file and line.
    """
    with collector_paused():
        logs = {name: read_log(log_path(workspace, name)) for name in annotator_ids(workspace)}
        return Ballots(logs, {name: Standing(log.decisions) for name, log in logs.items()})
