"""How many votes an image needs for a wanted contamination, and what they cost."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from annotation.review import review_image_ids
from annotation.statistics.annotators import mean_seconds
from annotation.statistics.answer_matrix import ANSWER_WORDS, IN, OUT, read_logs, without
from annotation.statistics.shared_votes import SharedVotes
from annotation.statistics.team_errors import StatedRates, TeamErrors, measured_errors, stated_errors
from manifests.text_table import aligned
from manifests.workspace import Workspace

CONFIDENCE = 0.95


@dataclass(frozen=True)
class PlanRow:
    """What a number of votes on every image comes to, where all must agree.

    Attributes
    ----------
    n_votes : int
        Votes an image.
    contamination : float
        Expected share of in-distribution images among those agreed to be out; NaN where errors that annotators
        share cannot be told from truth.
    low, high : float
        95 % interval of that share in a review set of this size: what is not known of the errors, and chance. NaN
        where `contamination` is.
    if_independent : float
        The expected share, were errors independent given the truth.
    disputed : float
        Share of the images on which the votes differ.
    kept : float
        Share of the truly out images that are agreed to be out.
    n_decisions, n_rulings : int
        Votes, and rulings on disputes.
    hours : float
        Of both, NaN where the pace is not known.
    """

    n_votes: int
    contamination: float
    low: float
    high: float
    if_independent: float
    disputed: float
    kept: float
    n_decisions: int
    n_rulings: int
    hours: float


def make_plan(
    workspace: Workspace,
    *,
    rates: StatedRates | None = None,
    prevalence: float | None = None,
    votes_max: int = 5,
    n_images: int | None = None,
    seconds: float | None = None,
    set_aside: Collection[str] = (),
    seed: int = 0,
) -> tuple[TeamErrors, list[PlanRow]]:
    """Return what is known of the errors, and a row for each number of votes; nothing is written.

    Parameters
    ----------
    workspace : Workspace
        With decision logs, and best with gold; not read where all is stated.
    rates : StatedRates, optional
        Instead of what was measured.
    prevalence : float, optional
        Share of the review set that is in-distribution, where it is known better than the answers tell.
    votes_max : int
        Most votes an image.
    n_images : int, optional
        Instead of the number under review.
    seconds : float, optional
        Per answer, instead of the measured pace.
    set_aside : collection of str
        Annotators who will not vote.
    seed : int
        Of the draws of what was measured.

    Raises
    ------
    InputError
        Nothing is measured or stated, or a rate is no share.
    StageMissingError
        `n_images` is not given and `screen` has not been run.
    """
    decisions = without(read_logs(workspace), set_aside)
    if rates is None:
        errors = measured_errors(workspace, decisions, prevalence=prevalence, seed=seed)
    else:
        errors = stated_errors(rates, votes_max)
    n_images = len(review_image_ids(workspace)) if n_images is None else n_images
    seconds = mean_seconds(decisions) if seconds is None else seconds
    return errors, plan_rows(errors, votes_max=votes_max, n_images=n_images, seconds=seconds, seed=seed)


def plan_rows(
    errors: TeamErrors, *, votes_max: int, n_images: int, seconds: float | None, seed: int = 0
) -> list[PlanRow]:
    """Return one row for each number of votes from 1 to `votes_max`.

    Parameters
    ----------
    errors : TeamErrors
        Of the annotators who will vote.
    votes_max : int
        Most votes an image.
    n_images : int
        Images under review.
    seconds : float or None
        Per answer.
    seed : int
        Of the draws that make the interval.
    """
    return [_row(errors, n_votes, n_images, seconds, seed) for n_votes in range(1, votes_max + 1)]


def fewest_votes(rows: Sequence[PlanRow], target: float) -> tuple[int | None, int | None]:
    """Return the fewest votes, two at least, that meet `target` as expected, and with the whole interval."""
    expected = [row.n_votes for row in rows if row.n_votes >= 2 and row.contamination <= target]
    surely = [row.n_votes for row in rows if row.n_votes >= 2 and row.high <= target]
    return (min(expected, default=None), min(surely, default=None))


def format_plan(errors: TeamErrors, rows: Sequence[PlanRow], target: float) -> str:
    """Return the plan as text: what is known, a row for each number of votes, the answer, and what it rests on."""
    header = ["votes", "contamination", "95 % interval", "if independent", "disputed", "OOD kept", "decisions",
              "rulings", "hours"]  # fmt: skip
    cells = [_cells(row) for row in rows]
    return "\n".join(
        [
            *_known(errors),
            "",
            *aligned([header, *cells], n_words=0),
            "",
            _answer(errors, rows, target),
            *_notes(errors),
        ]
    )


def _cells(row: PlanRow) -> list[str]:
    is_known = not np.isnan(row.contamination)
    return [
        str(row.n_votes),
        f"{row.contamination:.3%}" if is_known else "not known",
        f"{row.low:.3%} to {row.high:.3%}" if is_known else "not known",
        f"{row.if_independent:.3%}",
        f"{row.disputed:.1%}",
        f"{row.kept:.1%}",
        f"{row.n_decisions:,}",
        f"{row.n_rulings:,}",
        "-" if np.isnan(row.hours) else f"{row.hours:,.1f}",
    ]


def _row(errors: TeamErrors, n_votes: int, n_images: int, seconds: float | None, seed: int) -> PlanRow:
    share = errors.shares[0]

    def agreed(truth: int, answer: int) -> float:
        return float(errors.votes[truth][answer].expected(n_votes)[0])

    def alone(truth: int) -> float:
        return float(errors.votes[truth][OUT].independent(n_votes)[0])

    truths = range(len(ANSWER_WORDS))
    unanimous = sum(share[truth] * agreed(truth, answer) for truth in truths for answer in truths)
    disputed = float(min(1.0, max(0.0, 1 - unanimous))) if n_votes > 1 else 0.0
    n_decisions, n_rulings = n_votes * n_images, round(disputed * n_images)
    contamination = low = high = np.nan
    if errors.knows_truth:
        contamination = _share_in([share[truth] * agreed(truth, OUT) for truth in truths])
        low, high = _interval(errors, n_votes, n_images, seed)
    return PlanRow(
        n_votes=n_votes,
        contamination=contamination,
        low=low,
        high=high,
        if_independent=_share_in([share[truth] * alone(truth) for truth in truths]),
        disputed=disputed,
        kept=agreed(OUT, OUT),
        n_decisions=n_decisions,
        n_rulings=n_rulings,
        hours=np.nan if seconds is None else (n_decisions + n_rulings) * seconds / 3600,
    )


def _share_in(by_truth: Sequence[float]) -> float:
    total = sum(by_truth)
    return float(by_truth[IN] / total) if total else 0.0


def _interval(errors: TeamErrors, n_votes: int, n_images: int, seed: int) -> tuple[float, float]:
    """Return the ends over all draws: shared errors at their least, and at their most."""
    generator = np.random.default_rng(seed)

    def contamination(of_in: str, of_rest: str) -> np.ndarray:
        agreed = np.stack(
            [
                np.broadcast_to(
                    _moment(by_answer[OUT], of_in if truth == IN else of_rest, n_votes), _n_draws(errors)
                )
                for truth, by_answer in enumerate(errors.votes)
            ],
            axis=1,
        )
        # What this review set will hold, not what many would on average: so many images are drawn.
        n_agreed = generator.binomial(
            n_images, np.clip(np.broadcast_to(errors.shares, agreed.shape) * agreed, 0, 1)
        )
        return n_agreed[:, IN] / np.maximum(n_agreed.sum(axis=1), 1)

    tail = (1 - CONFIDENCE) / 2
    return (
        float(np.quantile(contamination("least", "most"), tail)),
        float(np.quantile(contamination("most", "least"), 1 - tail)),
    )


def _n_draws(errors: TeamErrors) -> int:
    """Return how many draws the interval takes; stated rates have one, and chance of the images alone."""
    return max(4000, len(errors.shares), *(len(by[OUT].mean) for by in errors.votes))


def _moment(votes: SharedVotes, end: str, n_votes: int) -> np.ndarray:
    return votes.least(n_votes) if end == "least" else votes.most(n_votes)


def _known(errors: TeamErrors) -> list[str]:
    missed, false_in = errors.votes[IN][OUT], errors.votes[OUT][IN]
    lines = [
        f"errors: {errors.source}",
        f"  in-distribution answered out {missed.mean[0]:.2%}, out answered in {false_in.mean[0]:.2%}; "
        f"of the review set {errors.shares[0, IN]:.1%} is in-distribution",
    ]
    if missed.is_paired:
        both = missed.expected(2)[0]
        lines.append(
            f"  two annotators both miss {both:.3%} of the in-distribution images; were errors independent, "
            f"{missed.independent(2)[0]:.3%}"
        )
    return lines


def _answer(errors: TeamErrors, rows: Sequence[PlanRow], target: float) -> str:
    most = rows[-1].n_votes
    if not errors.knows_truth:
        enough = min(
            (row.n_votes for row in rows if row.n_votes >= 2 and row.if_independent <= target), default=None
        )
        would = "no number of votes here would do" if enough is None else f"{enough} votes would do"
        return f"whether {target:.2%} is met cannot be known without gold; were errors independent, {would}"
    expected, surely = fewest_votes(rows, target)
    if expected is None:
        return f"no number of votes up to {most} is expected to meet {target:.2%}"
    if surely is None:
        return (
            f"{expected} votes are expected to meet {target:.2%}, but that is not shown: the interval reaches "
            "beyond it; more gold images, each answered by two or more, make it narrower"
        )
    if surely == expected:
        return f"{surely} votes meet {target:.2%}, the whole interval included"
    return f"{expected} votes are expected to meet {target:.2%}; {surely} meet it with the whole interval"


def _notes(errors: TeamErrors) -> list[str]:
    notes = [
        "  contamination is that of the images on which all votes say out; rulings on disputes are not in it",
        "  votes are taken as independent given the image, whose difficulty may differ; 'if independent' takes "
        "all images alike",
    ]
    if not errors.knows_truth:
        notes.append(
            "  no gold was answered: annotators who copy each other, or all miss the same objects, look like "
            "careful ones; all figures but decisions rest on the answers being independent given the truth"
        )
    elif not errors.sees_shared_errors:
        notes.append(
            "  no gold image was answered by two: how often they miss the same objects is not known; the upper "
            "end takes all misses to fall on the same images"
        )
    elif errors.source.startswith("gold"):
        notes.append("  gold is taken to be as hard as the review set, and to be answered by the same people")
    return notes
