"""The standing answers of all annotators as one matrix, image by annotator, for the statistics."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from annotation.decision_log import annotator_ids, log_path, read_decisions
from annotation.decisions import Decision, standing_answers
from manifests.errors import InputError
from manifests.workspace import Workspace

ANSWER_WORDS = ("out", "in", "difficult")
"""The answers that are opinions, in the order of their codes; ``skip`` is none."""

OUT, IN, DIFFICULT = range(len(ANSWER_WORDS))

NO_ANSWER = -1

_CODE_OF = {word: code for code, word in enumerate(ANSWER_WORDS)}


@dataclass(frozen=True)
class AnswerMatrix:
    """Answers of several annotators to the same images.

    Attributes
    ----------
    image_ids : tuple of str
        Images with at least one answer, sorted.
    annotator_ids : tuple of str
        Sorted.
    answers : ndarray of int8, (n_images, n_annotators)
        Codes of `ANSWER_WORDS`, `NO_ANSWER` where there is none.
    classes : ndarray of int16, (n_images, n_annotators)
        The class named with ``in``, -1 elsewhere.
    """

    image_ids: tuple[str, ...]
    annotator_ids: tuple[str, ...]
    answers: np.ndarray
    classes: np.ndarray

    def with_classes(self) -> np.ndarray:
        """Return codes that tell each class apart: 0 out, 1 difficult, 2 + class_index in; -1 for no answer."""
        codes = np.full(self.answers.shape, NO_ANSWER, dtype=np.int32)
        codes[self.answers == OUT] = 0
        codes[self.answers == DIFFICULT] = 1
        seen = self.answers == IN
        codes[seen] = 2 + self.classes[seen].astype(np.int32)
        return codes


def code_of(answer: str) -> int:
    """Return the code of an answer in `ANSWER_WORDS`, `NO_ANSWER` for any other word."""
    return _CODE_OF.get(answer, NO_ANSWER)


def read_logs(workspace: Workspace) -> dict[str, list[Decision]]:
    """Return all decisions by annotator.

    Raises
    ------
    TableError
        A log is damaged.
    """
    return {name: read_decisions(log_path(workspace, name)) for name in annotator_ids(workspace)}


def without(
    decisions: Mapping[str, Sequence[Decision]], set_aside: Collection[str]
) -> dict[str, Sequence[Decision]]:
    """Return the decisions of all but the annotators in `set_aside`.

    Raises
    ------
    InputError
        One of them has no log here: a name mistyped would silently set nobody aside.
    """
    for name in set_aside:
        if name not in decisions:
            raise InputError(f"--set-aside {name}: has no log here; there are {', '.join(decisions) or 'none'}")
    return {name: given for name, given in decisions.items() if name not in set_aside}


def answers_in_queue(decisions: Iterable[Decision], queue: str) -> dict[str, Decision]:
    """Return one annotator's standing answers of one queue by image, without ``skip``."""
    standing = standing_answers(decision for decision in decisions if decision.queue == queue)
    return {image_id: decision for image_id, decision in standing.items() if decision.answer != "skip"}


def answer_matrix(answers_by_annotator: Mapping[str, Mapping[str, Decision]]) -> AnswerMatrix:
    """Return the matrix of the standing answers, whatever the order in which they come.

    Parameters
    ----------
    answers_by_annotator : mapping of str to mapping of str to Decision
        Annotator to image to answer, as `answers_in_queue` gives it. An annotator without answers has a column.
    """
    image_ids = sorted(set().union(*answers_by_annotator.values()))
    names = sorted(answers_by_annotator)
    row_of = {image_id: row for row, image_id in enumerate(image_ids)}
    answers = np.full((len(image_ids), len(names)), NO_ANSWER, dtype=np.int8)
    classes = np.full(answers.shape, -1, dtype=np.int16)
    for column, name in enumerate(names):
        given = answers_by_annotator[name]
        rows = np.fromiter((row_of[image_id] for image_id in given), dtype=np.int64, count=len(given))
        answers[rows, column] = [_CODE_OF[decision.answer] for decision in given.values()]
        classes[rows, column] = [
            -1 if decision.class_index is None else decision.class_index for decision in given.values()
        ]
    return AnswerMatrix(tuple(image_ids), tuple(names), answers, classes)
