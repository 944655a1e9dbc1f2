"""How simulated annotators err. Every rate is an assumption, stated here, and no measurement of any person."""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass

from manifests.errors import InputError

CORNER_FACTOR = 3.0
"""How many times likelier a small object in a corner is missed. An assumption, not a measurement."""


@dataclass(frozen=True)
class Truth:
    """What is known of one picture by whoever simulates.

    Attributes
    ----------
    truth : str
        ``in``, ``out``, or any other word, which stands for a picture that nobody can decide.
    class_index : int or None
        The class, with ``in``.
    is_corner : bool
        Whether the object is small and in a corner, which makes it `CORNER_FACTOR` times likelier to be missed.
    """

    truth: str
    class_index: int | None
    is_corner: bool = False


@dataclass(frozen=True)
class GivenAnswer:
    """A simulated answer: the word, the class with ``in``, and the seconds it took."""

    answer: str
    class_index: int | None
    seconds: float


@dataclass(frozen=True)
class ErrorModel:
    """One kind of annotator. The errors on two pictures, and of two annotators on one, are independent.

    Attributes
    ----------
    miss_rate : float
        A true ``in`` is answered ``out``; `CORNER_FACTOR` times as often in a corner, at most always. So is every
        class that is **not among those shown**: who is not offered it cannot name it, the published set's own
        failure.
    false_in_rate : float
        A true ``out`` is answered ``in``, with one of the classes shown.
    difficult_rate : float
        The answer is ``difficult``, whatever the truth; for a truth other than ``in`` and ``out`` it always is.
    seconds : tuple of float
        Least and most seconds an answer, uniform between.
    has_search : bool
        Finds a class that is not shown by the search over all of them, and misses it no oftener than others.
    """

    miss_rate: float
    false_in_rate: float
    difficult_rate: float
    seconds: tuple[float, float] = (1.0, 5.0)
    has_search: bool = False

    def __post_init__(self) -> None:
        for name in ("miss_rate", "false_in_rate", "difficult_rate"):
            rate = getattr(self, name)
            if not 0 <= rate <= 1:
                raise InputError(f"{name}: expected a share in [0, 1], found {rate}")

    def answer(self, truth: Truth, shown_classes: Sequence[int], draws: random.Random) -> GivenAnswer:
        """Return the answer to one picture."""
        # All draws are made whatever the answer, so that two error models differ only where they decide so.
        hesitates, errs = draws.random() < self.difficult_rate, draws.random()
        guess = draws.choice(shown_classes) if shown_classes else None
        least, most = self.seconds
        seconds = round(least + (most - least) * draws.random(), 3)
        if hesitates or truth.truth not in ("in", "out"):
            return GivenAnswer("difficult", None, seconds)
        if truth.truth == "out":
            sees_in = guess is not None and errs < self.false_in_rate
            return GivenAnswer("in", guess, seconds) if sees_in else GivenAnswer("out", None, seconds)
        misses = errs < min(1.0, self.miss_rate * (CORNER_FACTOR if truth.is_corner else 1.0))
        if misses or (truth.class_index not in shown_classes and not self.has_search):
            return GivenAnswer("out", None, seconds)
        return GivenAnswer("in", truth.class_index, seconds)


COLLUDING = "colluding"
"""No error model of its own: copies the annotator named before it, errors and all."""

COLLUDING_SECONDS = (0.4, 1.2)
"""Copying is quicker than looking. An assumption."""

ERROR_MODELS = {
    "careful": ErrorModel(miss_rate=0.03, false_in_rate=0.01, difficult_rate=0.02, seconds=(2.0, 6.0)),
    "hasty": ErrorModel(miss_rate=0.15, false_in_rate=0.04, difficult_rate=0.01, seconds=(0.4, 1.6)),
    # Looks at nothing: a key held down.
    "always-ood": ErrorModel(miss_rate=1.0, false_in_rate=0.0, difficult_rate=0.0, seconds=(0.1, 0.3)),
    # Says what the truth table says. No person does: an auditor for a demo, where the table is all there is.
    "all-knowing": ErrorModel(0.0, 0.0, 0.0, seconds=(3.0, 9.0), has_search=True),
}


@dataclass(frozen=True)
class SimulatedAnnotator:
    """Who answers, and how.

    Attributes
    ----------
    annotator_id : str
        Begins with ``simulated-``.
    model : ErrorModel
        How they err; of a colluding one, the model of whom they copy.
    copied_id : str or None
        Whose answers they copy.
    """

    annotator_id: str
    model: ErrorModel
    copied_id: str | None = None

    def answer(self, image_id: str, truth: Truth, shown_classes: Sequence[int], seed: int) -> GivenAnswer:
        """Return the answer to one picture, which depends on nothing but seed, annotator and picture."""
        source = self.copied_id or self.annotator_id
        given = self.model.answer(truth, shown_classes, random.Random(draw_key(seed, source, image_id)))
        if self.copied_id is None:
            return given
        least, most = COLLUDING_SECONDS
        own = random.Random(draw_key(seed, self.annotator_id, image_id))
        return GivenAnswer(given.answer, given.class_index, round(least + (most - least) * own.random(), 3))


def draw_key(seed: int, annotator_id: str, image_id: str) -> int:
    """Return the number that seeds all that one annotator draws for one picture."""
    return int(hashlib.sha256(f"{seed}/{annotator_id}/{image_id}".encode()).hexdigest(), 16)


def simulated_team(kinds: Sequence[str]) -> tuple[SimulatedAnnotator, ...]:
    """Return one annotator a word of `kinds`, named ``simulated-careful-1``, ``simulated-careful-2``, ...

    Raises
    ------
    InputError
        A word is no kind, or ``colluding`` has nobody before it to copy.
    """
    team: list[SimulatedAnnotator] = []
    for position, kind in enumerate(kinds):
        annotator_id = f"simulated-{kind}-{kinds[: position + 1].count(kind)}"
        if kind in ERROR_MODELS:
            team.append(SimulatedAnnotator(annotator_id, ERROR_MODELS[kind]))
        elif kind == COLLUDING and team:
            before = team[-1]
            team.append(SimulatedAnnotator(annotator_id, before.model, before.copied_id or before.annotator_id))
        elif kind == COLLUDING:
            raise InputError(f"--annotators: {COLLUDING!r} copies the one before it, and stands first")
        else:
            raise InputError(f"--annotators: expected {', '.join((*ERROR_MODELS, COLLUDING))}; found {kind!r}")
    return tuple(team)
