"""The second opinion: what Dawid and Skene's model makes of each image, beside the verdict never in its place."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from annotation.decisions import Decision
from annotation.gold import GoldEntry
from annotation.statistics.answer_matrix import ANSWER_WORDS, NO_ANSWER, answer_matrix, answers_in_queue, code_of
from annotation.statistics.dawid_skene import DawidSkene, dawid_skene

_LEAST_LEAD = 1e-9
"""Two probabilities closer than this are a tie, and a tie is no opinion: rounding must not settle it."""


def second_opinion(
    decisions: Mapping[str, Sequence[Decision]], gold: Mapping[str, GoldEntry]
) -> tuple[DawidSkene, list[dict[str, Any]]]:
    """Return the fitted model, and one row of `manifests.schema.OPINIONS` an image with a blind answer.

    Parameters
    ----------
    decisions : mapping of str to sequence of Decision
        By annotator; at least one answer in the queue ``first``.
    gold : mapping of str to GoldEntry
        The gold images: with the truth known, they teach the model how each annotator errs.
    """
    first = answer_matrix({name: answers_in_queue(given, "first") for name, given in decisions.items()})
    on_gold = answer_matrix({name: gold_answers(given, gold) for name, given in decisions.items()})
    known = [NO_ANSWER] * len(first.image_ids) + [code_of(gold[image_id].answer) for image_id in on_gold.image_ids]
    model = dawid_skene(np.concatenate([first.answers, on_gold.answers]), known=np.array(known))
    return model, [
        _row(image_id, posterior)
        for image_id, posterior in zip(first.image_ids, model.posteriors.tolist(), strict=False)
    ]


def gold_answers(decisions: Sequence[Decision], gold: Mapping[str, GoldEntry]) -> dict[str, Decision]:
    """Return one annotator's standing answers to images that still are gold, by image, without ``skip``."""
    given = answers_in_queue(decisions, "gold")
    return {image_id: decision for image_id, decision in given.items() if image_id in gold}


def contradictions(
    rows: Sequence[Mapping[str, Any]], verdicts: Sequence[Mapping[str, Any]]
) -> Counter[tuple[str, str]]:
    """Return how many images have each verdict and opinion that differ, open and disputed images left out."""
    opinion_of = {row["image_id"]: row["opinion"] for row in rows}
    pairs = (
        (verdict["verdict"], opinion_of.get(verdict["image_id"]))
        for verdict in verdicts
        if verdict["verdict"] in ANSWER_WORDS
    )
    return Counter((verdict, opinion) for verdict, opinion in pairs if opinion is not None and opinion != verdict)


def _row(image_id: str, posterior: Sequence[float]) -> dict[str, Any]:
    by_word = dict(zip(ANSWER_WORDS, posterior, strict=True))
    second, first = sorted(posterior)[-2:]
    opinion = max(by_word, key=by_word.__getitem__) if first - second > _LEAST_LEAD else None
    return {"image_id": image_id} | {f"p_{word}": p for word, p in by_word.items()} | {"opinion": opinion}
