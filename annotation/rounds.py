"""Rounds of inspection as files: which agreed images were drawn, and what became of them.

A round is drawn once, ``inspections/round-<n>.json``, and never changed: what it found follows from it and the
decisions at any time.
"""

import json
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from annotation.verdicts import Answers, majority_ruling
from manifests.durable import write_json
from manifests.errors import TableError
from manifests.proportions import Share, counted_share
from manifests.workspace import Workspace


@dataclass(frozen=True)
class Stratum:
    """Agreed images that are alike in verdict and risk, and those drawn of them.

    Attributes
    ----------
    name : str
        Verdict and part of the risks, ``out/risk-high``.
    verdict : str
        What was agreed on for each.
    n_votes : dict of str to int
        All its images, with the votes that each had when the round was drawn.
    sample : tuple of str
        The images to inspect.
    """

    name: str
    verdict: str
    n_votes: dict[str, int]
    sample: tuple[str, ...]


@dataclass(frozen=True)
class Round:
    """One round: its number from 1, how it was drawn, and its strata.

    Attributes
    ----------
    number, sample_size, seed : int
        From 1; as asked for.
    max_defects : float
        A stratum fails where a larger share of its sample is defective.
    strata : tuple of Stratum
        In the order of their names.
    """

    number: int
    sample_size: int
    seed: int
    max_defects: float
    strata: tuple[Stratum, ...]

    @property
    def sample(self) -> list[str]:
        """The images to inspect, of all strata."""
        return [image_id for stratum in self.strata for image_id in stratum.sample]


@dataclass(frozen=True)
class StratumResult:
    """What inspectors found in one stratum so far.

    Attributes
    ----------
    stratum : Stratum
        As drawn.
    n_sample : int
        Images drawn that are still under review.
    defects : Share
        Of those inspected, the share with a verdict that an inspector denies.
    has_failed : bool
        The defects found are more than `max_defects` of the whole sample allows; no further answer can help.
    """

    stratum: Stratum
    n_sample: int
    defects: Share
    has_failed: bool

    @property
    def is_complete(self) -> bool:
        """Whether all its images have been inspected."""
        return self.defects.n_all == self.n_sample


def round_path(workspace: Workspace, number: int) -> Path:
    """Return where a round lies."""
    return workspace.inspections_dir / f"round-{number}.json"


def round_paths(workspace: Workspace) -> list[Path]:
    """Return the files of all rounds, in order."""
    paths: list[Path] = []
    while (path := round_path(workspace, len(paths) + 1)).exists():
        paths.append(path)
    return paths


def read_rounds(workspace: Workspace) -> list[Round]:
    """Return all rounds, in order.

    Raises
    ------
    TableError
        A file is not a round.
    """
    return [_read_round(path) for path in round_paths(workspace)]


def write_round(workspace: Workspace, drawn: Round) -> Path:
    """Write a round in one step and return its path."""
    path = round_path(workspace, drawn.number)
    write_json(path, asdict(drawn))
    return path


def round_results(
    drawn: Round, under_review: Collection[str], *, inspections: Answers, rulings: Answers
) -> list[StratumResult]:
    """Return what a round has found so far, by stratum.

    An image is defective where an inspector's answer is not its verdict, unless the rulings since then say that
    the verdict was right.

    Parameters
    ----------
    drawn : Round
        The round.
    under_review : collection of str
        Images that are no longer among them are left out.
    inspections, rulings : mapping
        Annotator to image to standing answer of annotators who count, without ``skip``.
    """
    said, ruled = answers_by_image(inspections), answers_by_image(rulings)
    results = []
    for stratum in drawn.strata:
        sample = [image_id for image_id in stratum.sample if image_id in under_review]
        inspected = [image_id for image_id in sample if image_id in said]
        n_defects = sum(
            any(answer != stratum.verdict for answer in said[image_id])
            and majority_ruling(ruled.get(image_id, ())) != stratum.verdict
            for image_id in inspected
        )
        results.append(
            StratumResult(
                stratum,
                len(sample),
                counted_share(n_defects, len(inspected)),
                n_defects > drawn.max_defects * len(sample),
            )
        )
    return results


def votes_needed(results: Iterable[StratumResult]) -> dict[str, int]:
    """Return the votes that images of failed strata need: one more than they had when the round was drawn."""
    needed: Counter[str] = Counter()
    for result in results:
        if result.has_failed:
            for image_id, n_votes in result.stratum.n_votes.items():
                needed[image_id] = max(needed[image_id], n_votes + 1)
    return dict(needed)


def answers_by_image(answers: Answers) -> dict[str, list[str]]:
    """Return what was said of each image, whoever said it."""
    by_image: dict[str, list[str]] = {}
    for given in answers.values():
        for image_id, decision in given.items():
            by_image.setdefault(image_id, []).append(decision.answer)
    return by_image


def _read_round(path: Path) -> Round:
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
        strata = tuple(
            Stratum(one["name"], one["verdict"], dict(one["n_votes"]), tuple(one["sample"]))
            for one in row["strata"]
        )
        return Round(row["number"], row["sample_size"], row["seed"], row["max_defects"], strata)
    except (ValueError, KeyError, TypeError) as error:
        raise TableError(f"{path}: not a round of inspection ({error!r})") from error
