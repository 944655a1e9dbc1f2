"""Inspection: random rounds over images that annotators agree on, as the ViM paper has them."""

from collections.abc import Mapping, Sequence
from typing import Any

from annotation.assignment import draw
from annotation.ballots import Ballots, read_ballots
from annotation.consensus import counted_votes, recorded_rule
from annotation.review import review_image_ids
from annotation.rounds import (
    Round,
    Stratum,
    StratumResult,
    read_rounds,
    round_path,
    round_paths,
    round_results,
    write_round,
)
from annotation.verdicts import n_votes_of
from manifests import schema
from manifests.errors import InputError
from manifests.proportions import Share, counted_share
from manifests.text_table import aligned
from manifests.workspace import Workspace

RISK_PARTS = ("low", "middle", "high")
"""Images of one verdict are parted by risk into thirds: what contaminates the set is likelier among the risky."""

AGREED = ("out", "in", "difficult")


def draw_round(workspace: Workspace, n_sample: int, *, seed: int = 0, max_defects: float = 0.02) -> Round:
    """Draw the next round over the images that annotators agree on, store it, and return it.

    The sample is shared out over the strata, verdict by third of risk, in proportion to their sizes, and at least
    one image to each where it reaches. An image is drawn in one round at most. Asked again for the round that is
    open, with the same arguments, it returns that.

    Parameters
    ----------
    workspace : Workspace
        With verdicts.
    n_sample : int
        Images to inspect; all, where there are no more.
    seed : int
        Equal seeds draw equal images.
    max_defects : float
        In [0, 1]. A stratum fails where more than this share of its sample is found defective: then each of its
        images needs one vote more than it has.

    Raises
    ------
    StageMissingError
        `consensus` has not been run.
    InputError
        A number is out of range, nothing is left to draw, or another round is not finished.
    """
    if n_sample < 1 or not 0 <= max_defects <= 1:
        raise InputError(
            f"inspect: expected a sample of 1 or more and defects in [0, 1], found {n_sample}, {max_defects}"
        )
    rounds = read_rounds(workspace)
    ballots = read_ballots(workspace)
    latest = open_round(workspace, rounds, ballots)
    if latest is not None:
        if (latest.sample_size, latest.seed, latest.max_defects) != (n_sample, seed, max_defects):
            raise InputError(
                f"{round_path(workspace, latest.number)}: this round is not finished; inspect it first: "
                f"{inspection_wait(latest, results_of(workspace, latest, ballots), ballots)}"
            )
        return latest
    number = len(rounds) + 1
    arguments = {"sample": n_sample, "seed": seed, "max_defects": max_defects}
    inputs = [workspace.path_of(schema.VERDICTS), *round_paths(workspace)]
    with workspace.stage("inspect", arguments, inputs, record_as=f"inspect.{number}") as record:
        if round_path(workspace, number).exists():
            raise InputError(f"{round_path(workspace, number)}: another process has drawn this round just now")
        seen = {image_id for earlier in rounds for image_id in earlier.sample}
        strata = _strata(_agreed_rows(workspace), seen, n_sample, draw_of=(seed, number))
        drawn = Round(number, n_sample, seed, max_defects, strata)
        if not drawn.sample:
            raise InputError("inspect: there is no agreed image that has not been drawn yet")
        write_round(workspace, drawn)
        record.seed = seed
        record.counts = {stratum.name: len(stratum.sample) for stratum in drawn.strata}
    return drawn


def open_round(workspace: Workspace, rounds: Sequence[Round], ballots: Ballots) -> Round | None:
    """Return the latest of `rounds` if images of it wait for an inspector, else None."""
    if not rounds:
        return None
    results = results_of(workspace, rounds[-1], ballots)
    return None if all(result.is_complete for result in results) else rounds[-1]


def results_of(workspace: Workspace, drawn: Round, ballots: Ballots) -> list[StratumResult]:
    """Return what inspectors have found in a round so far, by the rule of the last consensus."""
    rule = recorded_rule(workspace)
    return round_results(
        drawn,
        set(review_image_ids(workspace)),
        inspections=counted_votes(ballots, rule, "inspection"),
        rulings=counted_votes(ballots, rule, "dispute"),
    )


def inspection_wait(drawn: Round, results: Sequence[StratumResult], ballots: Ballots) -> str:
    """Return in words how many images of a round wait for an inspector, and who has skipped some of them."""
    n_left = sum(result.n_sample - result.defects.n_all for result in results)
    skipped = {
        name: sum(
            (answer := own.answer("inspection", image_id)) is not None and answer.answer == "skip"
            for image_id in drawn.sample
        )
        for name, own in ballots.standing.items()
    }
    by_whom = ", ".join(f"{name} {n:,}" for name, n in skipped.items() if n)
    return (
        f"{n_left:,} images wait for somebody who has not voted on them"
        + f"; skipped: {by_whom}, who get them again, and others too, with annotate --queue inspection"
        * bool(by_whom)
    )


def inspection_report(workspace: Workspace) -> str:
    """Return for each round and stratum its defect rate with a Clopper-Pearson interval, as a table.

    Raises
    ------
    InputError
        No round has been drawn.
    """
    rounds = read_rounds(workspace)
    if not rounds:
        raise InputError(f"{workspace.inspections_dir}: there is no round yet; draw one with inspect --sample N")
    ballots = read_ballots(workspace)
    return "\n".join(_round_report(drawn, results_of(workspace, drawn, ballots)) for drawn in rounds)


def _round_report(drawn: Round, results: Sequence[StratumResult]) -> str:
    whole = counted_share(
        sum(result.defects.n_hits for result in results), sum(result.defects.n_all for result in results)
    )
    rows: list[tuple[str, ...]] = [
        ("stratum", "images", "drawn", "inspected", "defects", "rate", "95 % interval", "")
    ]
    for result in results:
        stratum = result.stratum
        rows.append((*_cells(stratum.name, len(stratum.n_votes), result.n_sample, result.defects), _word(result)))
    sizes = (sum(len(result.stratum.n_votes) for result in results), sum(result.n_sample for result in results))
    rows.append((*_cells("all", *sizes, whole), ""))
    head = (
        f"round {drawn.number} (seed {drawn.seed}; a stratum fails above {drawn.max_defects:.2%} of its sample):"
    )
    return "\n".join([head, *(f"  {line}" for line in aligned(rows))])


def _cells(name: str, n_images: int, n_sample: int, defects: Share) -> tuple[str, ...]:
    rate = f"{defects.value:.2%}" if defects.n_all else "-"
    interval = f"{defects.low:.2%} to {defects.high:.2%}"
    counts = (f"{n:,}" for n in (n_images, n_sample, defects.n_all, defects.n_hits))
    return (name, *counts, rate, interval)


def _word(result: StratumResult) -> str:
    if result.has_failed:
        return "failed: sent back"
    return "passed" if result.is_complete else "open"


def _agreed_rows(workspace: Workspace) -> list[dict[str, Any]]:
    """Return the verdicts that follow from votes alone, each with the image's risk."""
    screened = workspace.read(schema.SCREEN).select(["image_id", "risk"]).to_pydict()
    risks = dict(zip(screened["image_id"], screened["risk"], strict=True))
    return [
        row | {"risk": risks.get(row["image_id"]) or 0.0}
        for row in workspace.read(schema.VERDICTS).to_pylist()
        # A ruling is not inspected: it is itself a second look, by somebody who saw all answers.
        if row["verdict"] in AGREED and row["source"] == "consensus"
    ]


def _strata(
    rows: Sequence[Mapping[str, Any]], seen: set[str], n_sample: int, *, draw_of: tuple[int, int]
) -> tuple[Stratum, ...]:
    members: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for verdict in AGREED:
        alike = sorted(
            (row for row in rows if row["verdict"] == verdict), key=lambda row: (row["risk"], row["image_id"])
        )
        for rank, row in enumerate(alike):
            part = RISK_PARTS[rank * len(RISK_PARTS) // len(alike)]
            members.setdefault((verdict, part), []).append(row)
    keys = sorted(members)
    fresh = {
        key: sorted(
            (row["image_id"] for row in members[key] if row["image_id"] not in seen),
            key=lambda image_id: draw("inspect", *draw_of, image_id),
        )
        for key in keys
    }
    shares = shared_out(n_sample, [len(fresh[key]) for key in keys])
    return tuple(
        Stratum(
            f"{verdict}/risk-{part}",
            verdict,
            {row["image_id"]: n_votes_of(row) for row in members[verdict, part]},
            tuple(sorted(fresh[verdict, part][:n])),
        )
        for (verdict, part), n in zip(keys, shares, strict=True)
    )


def shared_out(n: int, sizes: Sequence[int]) -> list[int]:
    """Return how many of `n` each part gets: in proportion to `sizes`, never more, one each where it reaches.

    What rounding leaves goes to the largest remainders, to the first of equals (Hamilton's method).
    """
    n_left = min(n, sum(sizes))
    given = [0] * len(sizes)
    if n_left >= sum(size > 0 for size in sizes):
        given = [int(size > 0) for size in sizes]
        n_left -= sum(given)
    rest = [size - got for size, got in zip(sizes, given, strict=True)]
    n_rest = sum(rest)
    if not n_rest:
        return given
    whole = [n_left * size // n_rest for size in rest]
    by_remainder = sorted(range(len(rest)), key=lambda place: (-(n_left * rest[place] % n_rest), place))
    for place in by_remainder[: n_left - sum(whole)]:
        whole[place] += 1
    return [got + more for got, more in zip(given, whole, strict=True)]
