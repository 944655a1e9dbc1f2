"""The section of disputes: what annotators do not agree on, each image with every answer."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from annotation.decisions import Decision
from annotation.report.team import NOBODY, Team
from annotation.verdicts import n_votes_of
from manifests import schema
from manifests.report.own_pictures import own_pictures
from manifests.report.parts import Card, Gallery, Section, Table

KEY, TITLE = "disputes", "Disputes"

MOST_CARDS = 240
"""Disputes that are shown."""

_QUEUES = ("first", "inspection", "dispute")
"""What counts towards a verdict, in the order in which it is asked."""


def disputes_section(team: Team) -> Section:
    """Return the section: disputes by state, and their pictures with every answer."""
    if not team.blind.image_ids:
        return Section(KEY, TITLE, missing=NOBODY)
    if not team.workspace.has(schema.VERDICTS):
        missing = (
            "The answers have not been counted: `python cli.py consensus` finds what is agreed and what is not."
        )
        return Section(KEY, TITLE, missing=missing)
    verdicts = team.workspace.read(schema.VERDICTS)
    is_ruled = pc.equal(verdicts.column("source"), "adjudication")
    disputed = verdicts.filter(pc.or_(pc.equal(verdicts.column("verdict"), "disputed"), is_ruled))
    return Section(KEY, TITLE, [_states_table(disputed, verdicts.num_rows), *_gallery(team, disputed)])


def _states_table(disputed: pa.Table, n_all: int) -> Table:
    states = Counter(zip(*(disputed.column(name).to_pylist() for name in ("verdict", "source")), strict=True))
    meanings = {
        ("disputed", "consensus"): "open: the votes differ",
        ("disputed", "inspection"): "open: the votes agree, an inspector says otherwise",
        ("disputed", "adjudication"): "open: the adjudicators' rulings contradict each other",
        ("out", "adjudication"): "ruled out",
        ("in", "adjudication"): "ruled in",
        ("difficult", "adjudication"): "ruled difficult",
    }
    rows = [(meaning, f"{states[state]:,}") for state, meaning in meanings.items() if states[state]]
    rows.append(("all", f"{disputed.num_rows:,} of {n_all:,}"))
    caption = (
        "Disputes by the last consensus. `python cli.py annotate --queue dispute` shows the open ones to an "
        "adjudicator."
    )
    return Table(("state", "images"), rows, caption, numeric=frozenset({1}))


def _gallery(team: Team, disputed: pa.Table) -> list[Gallery]:
    if not disputed.num_rows:
        return []
    # What waits for a ruling first; then where most was said.
    ordered = sorted(
        disputed.to_pylist(),
        key=lambda row: (row["verdict"] != "disputed", -n_votes_of(row), row["image_id"]),
    )
    shown = ordered[:MOST_CARDS]
    pictures = own_pictures(team.workspace, [row["image_id"] for row in shown])
    votes = {queue: team.ballots.votes(queue) for queue in _QUEUES}
    cards = [Card([pictures[row["image_id"]]], _lines(team, row, votes)) for row in shown]
    caption = (
        f"{len(cards):,} of {len(ordered):,} disputes, open ones first, with what everybody said. Not for "
        "annotators: an adjudicator sees the same on the screen, whoever votes must not."
    )
    return [Gallery("Disputes", cards, caption)]


def _lines(
    team: Team, row: Mapping[str, Any], votes: Mapping[str, Mapping[str, Mapping[str, Decision]]]
) -> list[str]:
    state = "open" if row["verdict"] == "disputed" else f"ruled {row['verdict']}"
    lines = [state]
    for queue in _QUEUES:
        for name, given in votes[queue].items():
            decision = given.get(row["image_id"])
            if decision is not None:
                aside = ", set aside" if name in team.rule.set_aside else ""
                who = name if queue == "first" else f"{name} ({queue})"
                lines.append(f"{who}{aside}: {_told(team, decision)}")
    return [*lines, row["image_id"]]


def _told(team: Team, decision: Decision) -> str:
    told = decision.answer
    if decision.class_index is not None:
        told += f", {team.class_name(decision.class_index)}"
    return f"{told} ({decision.note})" if decision.note else told
