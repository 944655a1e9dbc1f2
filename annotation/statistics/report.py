"""The stage `annotators`: agreement, one report an annotator, and a second opinion on each image."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from annotation.decision_log import log_path
from annotation.decisions import Decision
from annotation.gold import GoldEntry, read_gold
from annotation.statistics.agreement import (
    Estimate,
    cohen_kappa,
    fleiss_kappa,
    krippendorff_alpha,
    raw_agreement,
)
from annotation.statistics.annotators import (
    AnnotatorReport,
    agreement_with_others,
    annotator_report,
    format_annotators,
)
from annotation.statistics.answer_matrix import (
    NO_ANSWER,
    AnswerMatrix,
    answer_matrix,
    answers_in_queue,
    read_logs,
    without,
)
from annotation.statistics.opinions import contradictions, second_opinion
from annotation.statistics.shared_mistakes import SharedMistakes, shared_mistakes
from manifests import schema
from manifests.errors import InputError
from manifests.proportions import counted_share
from manifests.text_table import aligned
from manifests.workspace import Workspace


@dataclass(frozen=True)
class PairReport:
    """Two annotators: raw agreement and Cohen's kappa on blind answers, and equal mistakes on gold."""

    annotator_ids: tuple[str, str]
    agreement: Estimate
    kappa: Estimate
    mistakes: SharedMistakes


@dataclass(frozen=True)
class AnnotatorsSummary:
    """What the stage found.

    Attributes
    ----------
    reports : tuple of AnnotatorReport
        One an annotator, those set aside among them.
    agreement : dict of str to Estimate
        By name of the coefficient, over the blind answers.
    pairs : tuple of PairReport
        Every two annotators who answered an image in common.
    is_converged : bool
        Of Dawid-Skene.
    n_opinions : int
        Images with a row in ``opinions.parquet``.
    n_against : dict of tuple of str to int
        Images by settled verdict and differing opinion.
    most_answers : int
        Most answers to one image.
    """

    reports: tuple[AnnotatorReport, ...]
    agreement: dict[str, Estimate]
    pairs: tuple[PairReport, ...]
    is_converged: bool
    n_opinions: int
    n_against: dict[tuple[str, str], int]
    most_answers: int


def report_annotators(
    workspace: Workspace, *, set_aside: Collection[str] = (), seed: int = 0
) -> AnnotatorsSummary:
    """Write ``opinions.parquet`` and return agreement, reports and contradictions; no verdict changes.

    Parameters
    ----------
    workspace : Workspace
        With decision logs.
    set_aside : collection of str
        Annotators who are reported, and whose answers count in neither agreement nor opinions.
    seed : int
        Of the bootstrap intervals.

    Raises
    ------
    InputError
        Nobody has answered, or an annotator to set aside has no log.
    TableError
        A log is damaged.
    WorkspaceLockedError
        Another process is at work here.
    """
    decisions = read_logs(workspace)
    counted = without(decisions, set_aside)
    matrix = answer_matrix({name: answers_in_queue(given, "first") for name, given in counted.items()})
    if not matrix.image_ids:
        raise InputError("annotators: nobody has answered yet: run 'annotate' first")
    gold = read_gold(workspace)
    inputs = [log_path(workspace, name) for name in decisions]
    inputs += [workspace.path_of(table) for table in (schema.GOLD, schema.VERDICTS) if workspace.has(table)]
    with workspace.stage("annotators", {"set_aside": sorted(set_aside)}, inputs) as record:
        record.seed = seed
        model, rows = second_opinion(counted, gold)
        workspace.write(schema.OPINIONS, rows)
        verdicts = workspace.read(schema.VERDICTS).to_pylist() if workspace.has(schema.VERDICTS) else []
        n_against = contradictions(rows, verdicts)
        record.counts = {"opinions": len(rows), "against_the_verdict": n_against.total()}
        record.details = {"iterations": model.n_iterations, "is_converged": model.is_converged}
    return AnnotatorsSummary(
        reports=_reports(decisions, gold, matrix),
        agreement=_agreement(matrix, seed),
        pairs=_pairs(matrix, counted, gold, seed),
        is_converged=model.is_converged,
        n_opinions=len(rows),
        n_against=dict(sorted(n_against.items())),
        most_answers=int((matrix.answers != NO_ANSWER).sum(axis=1).max()),
    )


def format_summary(summary: AnnotatorsSummary, min_gold: float) -> str:
    """Return the whole report as text for the terminal."""
    names = max(map(len, summary.agreement))
    lines = ["agreement (1 full, 0 as by chance; rely on 0.8 and above, below 0.667 draw no conclusion):"]
    lines += [f"  {name.ljust(names)}  {estimate}" for name, estimate in summary.agreement.items()]
    lines += [*_pair_lines(summary.pairs), format_annotators(summary.reports, min_gold), *_opinion_lines(summary)]
    return "\n".join(lines)


def _reports(
    decisions: Mapping[str, Sequence[Decision]],
    gold: Mapping[str, GoldEntry],
    matrix: AnswerMatrix,
) -> tuple[AnnotatorReport, ...]:
    with_others = agreement_with_others(matrix)
    return tuple(
        annotator_report(name, given, gold, with_others.get(name, counted_share(0, 0)))
        for name, given in decisions.items()
    )


def _agreement(matrix: AnswerMatrix, seed: int) -> dict[str, Estimate]:
    with_classes = matrix.with_classes()
    return {
        "raw agreement": raw_agreement(matrix.answers, seed=seed),
        "Krippendorff's alpha": krippendorff_alpha(matrix.answers, seed=seed),
        "Fleiss' kappa": fleiss_kappa(matrix.answers, seed=seed),
        "raw agreement, classes told apart": raw_agreement(with_classes, seed=seed),
        "Krippendorff's alpha, classes told apart": krippendorff_alpha(with_classes, seed=seed),
    }


def _pairs(
    matrix: AnswerMatrix,
    decisions: Mapping[str, Sequence[Decision]],
    gold: Mapping[str, GoldEntry],
    seed: int,
) -> tuple[PairReport, ...]:
    reports = []
    for first, second in combinations(range(len(matrix.annotator_ids)), 2):
        names = (matrix.annotator_ids[first], matrix.annotator_ids[second])
        two = matrix.answers[:, [first, second]]
        agreement = raw_agreement(two, seed=seed)
        if agreement.n_images:
            kappa = cohen_kappa(two[:, 0], two[:, 1], seed=seed)
            mistakes = shared_mistakes(decisions[names[0]], decisions[names[1]], gold)
            reports.append(PairReport(names, agreement, kappa, mistakes))
    return tuple(reports)


def _pair_lines(pairs: Sequence[PairReport]) -> list[str]:
    if not pairs:
        return []
    header = ["two annotators", "agree", "Cohen's kappa", "images"]
    cells = [
        [" and ".join(pair.annotator_ids), f"{pair.agreement.value:.1%}", f"{pair.kappa.value:.3f}",
         f"{pair.agreement.n_images:,}"]
        for pair in pairs
    ]  # fmt: skip
    lines = aligned([header, *cells])
    for pair in pairs:
        if pair.mistakes.is_striking:
            lines.append(
                f"  {' and '.join(pair.annotator_ids)} make {pair.mistakes.n_equal:,} equal mistakes on gold, "
                f"{pair.mistakes.expected:.1f} by chance: one copies, or these images mislead both"
            )
    return lines


def _opinion_lines(summary: AnnotatorsSummary) -> list[str]:
    against = sum(summary.n_against.values())
    which = "; ".join(
        f"verdict {verdict}, opinion {opinion} {n:,}" for (verdict, opinion), n in summary.n_against.items()
    )
    lines = [
        f"Dawid-Skene: {summary.n_opinions:,} opinions, {against:,} against the verdict"
        + (f" ({which})" * (against > 0))
    ]
    if not summary.is_converged:
        lines.append("  it had not converged when it was stopped: read its opinions with care")
    if summary.most_answers < 3:
        lines.append("  with fewer than three answers an image it mostly repeats them")
    return lines
