"""The shares of the answers in the whole review set, from that part of it which has been answered."""

from collections.abc import Collection, Mapping

import numpy as np
import pyarrow.compute as pc

from annotation.statistics.answer_matrix import ANSWER_WORDS, NO_ANSWER, AnswerMatrix
from manifests import schema
from manifests.errors import InputError
from manifests.workspace import Workspace

N_STRATA = 10
"""Parts by risk, each of which must have been answered before anything is said of all images."""

LEAST_ANSWERED = 20
"""Images answered in a part, or all of it: its share of `in` is then known to 22 percentage points at worst."""


def review_risks(workspace: Workspace, gold_ids: Collection[str]) -> dict[str, float]:
    """Return the risk of each image under review that is voted on, which gold is not."""
    screened = workspace.read(schema.SCREEN).select(["image_id", "status", "risk"])
    review = screened.filter(pc.equal(screened.column("status"), "review"))
    risks = zip(*(review.column(name).to_pylist() for name in ("image_id", "risk")), strict=True)
    return {image_id: risk or 0.0 for image_id, risk in risks if image_id not in gold_ids}


def answered_shares(
    first: AnswerMatrix, risks: Mapping[str, float], generator: np.random.Generator, n_draws: int
) -> np.ndarray:
    """Return draws of the shares that each answer would have, were all images answered.

    A queue comes riskiest first, so that what has been answered is not like the rest: each tenth of the risks is
    measured for itself, and weighs what it holds. Draws are Dirichlet with Jeffreys' prior, and nearer to what was
    found the less is left to answer (the finite population correction, Cochran 1977, section 2.6).

    Parameters
    ----------
    first : AnswerMatrix
        Votes so far.
    risks : mapping of str to float
        By image, of all that are to be voted on.
    generator : numpy.random.Generator
        Of the draws.
    n_draws : int
        How many, the point estimate first.

    Returns
    -------
    ndarray of float64, (n_draws, 3)
        In the order of `ANSWER_WORDS`.

    Raises
    ------
    InputError
        A tenth has too few answers to say anything of it.
    """
    answers = _by_image(first, risks)
    strata = _strata(np.array(list(risks.values())))
    shares = np.zeros((n_draws, len(ANSWER_WORDS)))
    n_unknown = 0
    for stratum in np.unique(strata):
        given = answers[strata == stratum]
        n_answered = int((given >= 0).any(axis=1).sum())
        if n_answered < min(len(given), LEAST_ANSWERED):
            n_unknown += len(given)
            continue
        found = np.array([(given == code).sum() for code in range(len(ANSWER_WORDS))]) / (given >= 0).sum()
        drawn = generator.dirichlet(found * n_answered + 0.5, n_draws)
        drawn[0] = found
        left = np.sqrt(1 - n_answered / len(given))
        shares += len(given) / len(risks) * (found + left * (drawn - found))
    if n_unknown or not risks:
        raise InputError(
            f"plan: {n_unknown:,} of {len(risks):,} images are of risks at which hardly any has an answer (the "
            "queue comes riskiest first), so the share that is in-distribution is not known: give --prevalence, "
            "or let somebody annotate with --order random"
        )
    return shares


def _by_image(first: AnswerMatrix, image_ids: Collection[str]) -> np.ndarray:
    """Return the answers to `image_ids`, in their order: ``(n_images, n_annotators)``."""
    row_of = {image_id: row for row, image_id in enumerate(first.image_ids)}
    answers = np.full((len(image_ids), first.answers.shape[1]), NO_ANSWER, dtype=np.int8)
    for place, image_id in enumerate(image_ids):
        if image_id in row_of:
            answers[place] = first.answers[row_of[image_id]]
    return answers


def _strata(risks: np.ndarray) -> np.ndarray:
    """Return the part of each risk, equal risks in one."""
    if not risks.size:
        return risks
    edges = np.unique(np.quantile(risks, np.arange(1, N_STRATA) / N_STRATA))
    return np.searchsorted(edges, risks, side="left")
