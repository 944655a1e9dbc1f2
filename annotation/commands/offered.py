"""What commands of other packages need of this one: the state of the decision logs, and of the work."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from manifests.workspace import Workspace


def log_problems(space: "Workspace") -> list[str]:
    """Return what is wrong with a workspace's decision logs, a text each."""
    from annotation.merge import check_logs

    return [check.problem for check in check_logs(space) if check.problem]


def progress_lines(space: "Workspace") -> Iterable[str]:
    """Return how far the human work is, in lines to print."""
    from annotation.progress import progress_lines as lines_of

    return lines_of(space)
