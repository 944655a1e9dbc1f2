"""What the sample's candidates are to be, decided before anything is drawn."""

import hashlib
from dataclasses import dataclass

import numpy as np

from curation.sample.pictures import IN_CLASSES, OUT_KINDS

CANDIDATE_MIX = {
    # The filters that chose Open Images' candidates leave mostly pictures without an ImageNet class.
    "plain_out": 0.45,
    # Plainly in-class pictures are what the screening is there to drop.
    "plain_in": 0.25,
    # The contamination that the published set suffers from: a small in-class object aside of the subject.
    "corner": 0.12,
    # Flickr holds series and re-uploads.
    "near_duplicate": 0.08,
    "exact_duplicate": 0.02,
    # Dead links and damaged files: more than in reality, so that every kind is met in a small world.
    "broken_missing": 0.03,
    "broken_html": 0.015,
    "broken_empty": 0.01,
    "broken_truncated": 0.015,
    "broken_garbage": 0.01,
}
"""Share of each kind of candidate; every kind is there at least once."""

CORNER_WIDTH_SHARE = (0.15, 0.30)
"""Side of a corner object over the width of the picture: small in the whole, large in a tile."""

TURNED_SHARE = 0.06
"""Share of pictures stored turned, with a Rotation other than 0; in Open Images 2.6 % have any value."""

GONE_SHARE = 0.03
"""Share of pictures whose Rotation is ``nan``: no longer on Flickr."""

UNKNOWN_ROTATION_SHARE = 0.3
"""Share of pictures whose Rotation is empty."""

LONGEST_SIDE_PX = (176, 256)
ASPECTS = (1.0, 4 / 3, 3 / 2, 3 / 4, 2 / 3, 16 / 9)

DUPLICATE_KINDS = ("near_duplicate", "exact_duplicate")


@dataclass(frozen=True)
class CandidatePlan:
    """One candidate before it is drawn.

    Attributes
    ----------
    image_id : str
        16 hex digits that say nothing about the picture.
    kind : str
        A key of `CANDIDATE_MIX`.
    seed : tuple of int
        Seed of the drawing; a duplicate has that of the picture it repeats.
    out_kind : str or None
        What is drawn out of distribution, where something is.
    class_index : int or None
        The in-class object that the picture shows, None where there is none: its truth.
    size : tuple of int
        Width and height of the upright picture.
    rotation : str
        The Rotation cell.
    duplicate_of : str or None
        Image id of the candidate that this one repeats.
    """

    image_id: str
    kind: str
    seed: tuple[int, ...]
    out_kind: str | None
    class_index: int | None
    size: tuple[int, int]
    rotation: str
    duplicate_of: str | None = None

    @property
    def truth(self) -> str:
        """``in`` where the picture as drawn shows an in-class object, else ``out``."""
        return "out" if self.class_index is None else "in"

    @property
    def rotation_deg(self) -> int:
        """Degrees counterclockwise that bring the stored picture upright."""
        return int(float(self.rotation)) if self.rotation not in ("", "nan") else 0


def image_id_of(seed: int, number: int) -> str:
    """Return the 16-hex image id of candidate `number`: a hash, so that order and kind do not show."""
    return hashlib.blake2b(f"{seed}/{number}".encode(), digest_size=8).hexdigest()


def plan_candidates(seed: int, n_candidates: int) -> list[CandidatePlan]:
    """Return the plans of all candidates, duplicates after the pictures that they repeat."""
    plans: list[CandidatePlan] = []
    for kind, count in _counts(n_candidates).items():
        for _ in range(count):
            number = len(plans)
            rng = np.random.default_rng([seed, 1, number])
            image_id = image_id_of(seed, number)
            if kind in DUPLICATE_KINDS:
                plans.append(_repeated(rng, plans, image_id, kind))
            else:
                plans.append(_fresh(rng, image_id, kind, (seed, 2, number)))
    return plans


def _counts(n_candidates: int) -> dict[str, int]:
    counts = {kind: max(1, round(share * n_candidates)) for kind, share in CANDIDATE_MIX.items()}
    counts["plain_out"] += n_candidates - sum(counts.values())
    return counts


def _fresh(rng: np.random.Generator, image_id: str, kind: str, seed: tuple[int, ...]) -> CandidatePlan:
    shows_class = kind in ("plain_in", "corner") or (kind.startswith("broken") and rng.random() < 0.4)
    shows_out = kind != "plain_in" and (kind == "corner" or not shows_class)
    longest, aspect = int(rng.integers(*LONGEST_SIDE_PX)), float(rng.choice(ASPECTS))
    shortest = round(longest / max(aspect, 1 / aspect))
    return CandidatePlan(
        image_id,
        kind,
        seed,
        out_kind=str(rng.choice(OUT_KINDS)) if shows_out else None,
        class_index=int(rng.integers(len(IN_CLASSES))) if shows_class else None,
        size=(longest, shortest) if aspect >= 1 else (shortest, longest),
        rotation=_rotation(rng),
    )


def _rotation(rng: np.random.Generator) -> str:
    draw = rng.random()
    if draw < TURNED_SHARE:
        return str(rng.choice(["90.0", "180.0", "270.0"]))
    if draw < TURNED_SHARE + GONE_SHARE:
        return "nan"
    return "" if draw < TURNED_SHARE + GONE_SHARE + UNKNOWN_ROTATION_SHARE else "0.0"


def _repeated(rng: np.random.Generator, plans: list[CandidatePlan], image_id: str, kind: str) -> CandidatePlan:
    sources = [plan for plan in plans if plan.duplicate_of is None]
    source = sources[int(rng.integers(len(sources)))]
    return CandidatePlan(
        image_id,
        kind,
        source.seed,
        source.out_kind,
        source.class_index,
        source.size,
        source.rotation,
        source.image_id,
    )
