"""What all sections of annotation are made of, read once: every log, what stands of it, what is known beside."""

from dataclasses import dataclass

from annotation.ballots import Ballots, read_ballots
from annotation.consensus import INDEPENDENT_QUEUE, counted_votes, recorded_rule
from annotation.decisions import Decision
from annotation.gold import GoldEntry, read_gold
from annotation.review import read_class_names
from annotation.simulated import GUIDELINE
from annotation.statistics.annotators import AnnotatorReport, agreement_with_others, annotator_report
from annotation.statistics.answer_matrix import AnswerMatrix, answer_matrix
from annotation.verdicts import ConsensusRule
from manifests.proportions import counted_share
from manifests.workspace import Workspace

NOBODY = "Nobody has answered yet: `python cli.py annotate --annotator NAME` opens the screen."


@dataclass(frozen=True)
class Team:
    """The annotators of a workspace.

    Attributes
    ----------
    workspace : Workspace
        Where they work.
    ballots : Ballots
        All logs.
    rule : ConsensusRule
        Of the last consensus; whom it sets aside counts in no agreement.
    gold : dict of str to GoldEntry
        The gold images.
    blind : AnswerMatrix
        The standing votes of the queue ``first``, which are blind, by those who count.
    reports : dict of str to AnnotatorReport
        By annotator, those who are set aside too.
    class_names : dict of int to str
        Names by class index, where the workspace knows them.
    """

    workspace: Workspace
    ballots: Ballots
    rule: ConsensusRule
    gold: dict[str, GoldEntry]
    blind: AnswerMatrix
    reports: dict[str, AnnotatorReport]
    class_names: dict[int, str]

    @property
    def decisions(self) -> dict[str, list[Decision]]:
        """All decisions by annotator."""
        return {name: log.decisions for name, log in self.ballots.logs.items()}

    @property
    def simulated(self) -> list[str]:
        """Those whose answers a program made up."""
        return [
            name
            for name, decisions in self.decisions.items()
            if any(decision.guideline == GUIDELINE for decision in decisions)
        ]

    def class_name(self, class_index: int) -> str:
        """Return what a class is called, or its number."""
        return self.class_names.get(class_index, f"class {class_index}")


def read_team(workspace: Workspace) -> Team:
    """Return all that is known of the annotators of `workspace`.

    Raises
    ------
    TableError
        A log is damaged.
    """
    ballots, rule = read_ballots(workspace), recorded_rule(workspace)
    gold = read_gold(workspace)
    blind = answer_matrix(counted_votes(ballots, rule, INDEPENDENT_QUEUE))
    with_others = agreement_with_others(blind)
    reports = {
        name: annotator_report(name, log.decisions, gold, with_others.get(name, counted_share(0, 0)))
        for name, log in ballots.logs.items()
    }
    names = {index: known.name for index, known in read_class_names(workspace).items()}
    return Team(workspace, ballots, rule, gold, blind, reports, names)
