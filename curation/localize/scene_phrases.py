"""What can be said of the things of a drawn scene so that it names one of them and no other."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

RELATIONS = ("left of", "right of", "above", "below")


@dataclass(frozen=True)
class Thing:
    """One thing of a scene.

    Attributes
    ----------
    kind, colour, size : str
        Its words, such as ``ring``, ``red``, ``small``.
    x, y : float
        Its middle in [0, 1], y downwards.
    """

    kind: str
    colour: str
    size: str
    x: float
    y: float


@dataclass(frozen=True)
class Description:
    """Words for a thing; None where the phrase does not say.

    Attributes
    ----------
    kind : str
        Always said.
    colour, size : str or None
        Said before it.
    relation : str or None
        One of `RELATIONS`, to `landmark`.
    landmark : Description or None
        Another thing, said without size and relation.
    """

    kind: str
    colour: str | None = None
    size: str | None = None
    relation: str | None = None
    landmark: "Description | None" = None

    def text(self) -> str:
        """Return the phrase, such as ``the small red ring left of the cup``."""
        words = " ".join(word for word in ("the", self.size, self.colour, self.kind) if word)
        return words if self.landmark is None else f"{words} {self.relation} {self.landmark.text()}"

    def named(self, things: Sequence[Thing]) -> list[int]:
        """Return the places of the things that it fits."""
        fitting = [place for place, thing in enumerate(things) if self._fits_words(thing)]
        if self.landmark is None or self.relation is None:
            return fitting
        marks = self.landmark.named(things)
        return [p for p in fitting if any(p != m and is_at(things[p], self.relation, things[m]) for m in marks)]

    def _fits_words(self, thing: Thing) -> bool:
        said = ((self.kind, thing.kind), (self.colour, thing.colour), (self.size, thing.size))
        return all(word is None or word == own for word, own in said)


def is_at(thing: Thing, relation: str, landmark: Thing) -> bool:
    """Return whether a thing is, say, left of another: its middle is, and is so more than it is above or below."""
    dx, dy = thing.x - landmark.x, thing.y - landmark.y
    along, across = {
        "left of": (-dx, dy),
        "right of": (dx, dy),
        "above": (-dy, dx),
        "below": (dy, dx),
    }[relation]
    return along > abs(across)


def phrases_of(rng: np.random.Generator, things: Sequence[Thing], target: int, n_most: int) -> list[str]:
    """Return up to `n_most` phrases that name `target` alone; with a relation and without, where there are both.

    The words drawn are as few as possible in one phrase, and any in the others.
    """
    naming = [one for one in _descriptions(things, target) if one.named(things) == [target]]
    plain = [one.text() for one in naming if one.landmark is None]
    related = [one.text() for one in naming if one.landmark is not None]
    drawn = [min(group, key=len) for group in (plain, related) if group]
    rest = sorted({*plain, *related} - set(drawn))
    drawn += [rest[place] for place in rng.permutation(len(rest))[: max(0, n_most - len(drawn))]]
    return drawn[:n_most]


def _descriptions(things: Sequence[Thing], target: int) -> Iterator[Description]:
    thing = things[target]
    marks = [None, *_landmarks(things, target)]
    for colour, size, mark in itertools.product((None, thing.colour), (None, thing.size), marks):
        if mark is None:
            yield Description(thing.kind, colour, size)
            continue
        for relation in RELATIONS:
            yield Description(thing.kind, colour, size, relation, mark)


def _landmarks(things: Sequence[Thing], target: int) -> Iterator[Description]:
    """Yield what names one other thing, by its kind alone or with its colour."""
    for place, thing in enumerate(things):
        if place == target:
            continue
        for colour in (None, thing.colour):
            mark = Description(thing.kind, colour)
            if mark.named(things) == [place]:
                yield mark
