"""What the report shows of annotation: who answered what, how fast, how far they agree, what was checked."""

from annotation.report import agreement, answers, checks, confusion, disputes, loss
from annotation.report.team import read_team
from manifests.report.gathered import gathered
from manifests.report.parts import Section
from manifests.workspace import Workspace

_CHAPTERS = (
    (answers.KEY, answers.TITLE, answers.answers_section),
    (agreement.KEY, agreement.TITLE, agreement.agreement_section),
    (confusion.KEY, confusion.TITLE, confusion.confusion_section),
    (disputes.KEY, disputes.TITLE, disputes.disputes_section),
    (loss.KEY, loss.TITLE, loss.loss_section),
    (checks.KEY, checks.TITLE, checks.checks_section),
)


def sections(workspace: Workspace) -> list[Section]:
    """Return the sections of annotation; those of which nothing is known yet say what is missing.

    Nothing of the workspace is written. They name annotators, gold and control images: they are for the curator,
    and must not reach annotators who still judge. A section whose table is damaged says that in its place; of
    damaged logs nothing can be told, and there is one section that says so.
    """
    return gathered(workspace, [(answers.KEY, "Annotation", _sections_of_team)])


def _sections_of_team(workspace: Workspace) -> list[Section]:
    return gathered(read_team(workspace), _CHAPTERS)
