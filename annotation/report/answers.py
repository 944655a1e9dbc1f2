"""The section of answers: how many, by whom, on which days, of which kind, and how fast."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from annotation.consensus import INDEPENDENT_QUEUE
from annotation.decisions import Decision, standing_answers
from annotation.report.days import Bins, binned_days
from annotation.report.masks import mask_parts
from annotation.report.team import NOBODY, Team
from annotation.statistics.annotators import TOO_FAST_S
from manifests import schema
from manifests.plots.page import BAD, IN_PAGE, INK, QUIET, SERIES, WIDE_IN, svg_of
from manifests.report.parts import Chart, Part, Section, Table, Text

KEY, TITLE = "answers", "Answers"

_MOST_NAMED = 6
"""Annotators with a colour or a panel of their own; of seven colours, the last is that of all others."""

_MOST_BARS = 20

_EDGES_S = np.geomspace(0.1, 600, 41)

_KIND_COLOURS = {"out": SERIES[0], "in": BAD, "difficult": SERIES[3], "skip": SERIES[6]}


def answers_section(team: Team) -> Section:
    """Return the section; it begins with whom it is for."""
    given = {
        name: [decision for decision in decisions if decision.answer != "undo"]
        for name, decisions in team.decisions.items()
    }
    given = {name: decisions for name, decisions in given.items() if decisions}
    if not given:
        return Section(KEY, TITLE, missing=NOBODY)
    parts: list[Part] = [
        Text(
            "This chapter and those on agreement, disputes, losses and checks are for the curator. They say who "
            "answered what, and which images are gold or controls: keep them from annotators who still judge."
        )
    ]
    if team.simulated:
        parts.append(
            Text(
                f"{_listed(team.simulated)}: simulated. A program made these answers up, with their seconds and "
                "their dates; they show how the pages look and say nothing about people."
            )
        )
    # Who gave most answers comes first, and keeps a colour of their own.
    ordered = sorted(given, key=lambda name: (-len(given[name]), name))
    # Days that a program made up, years away, would leave no room for those of people.
    dated = [name for name in ordered if name not in team.simulated] or ordered
    parts += [_days_chart(given, dated), _team_table(team, given)]
    if team.blind.image_ids:
        parts.append(_kinds_chart(team, ordered))
    return Section(KEY, TITLE, [*parts, _seconds_chart(team, given, ordered), *mask_parts(team)])


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED:,} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


def _days_chart(given: dict[str, list[Decision]], ordered: Sequence[str]) -> Chart:
    bins = binned_days({name: [decision.at for decision in given[name]] for name in ordered})
    groups = [(name, bins.counts[name]) for name in ordered[:_MOST_NAMED]]
    others = ordered[_MOST_NAMED:]
    if others:
        groups.append((f"{len(others):,} others", np.sum([bins.counts[name] for name in others], axis=0)))
    with IN_PAGE.applied():
        figure = IN_PAGE.new_figure(WIDE_IN, 2.6)
        axes = figure.subplots()
        places, below = np.arange(len(bins.names)), np.zeros(len(bins.names), np.int64)
        for (name, counts), colour in zip(groups, SERIES, strict=False):
            axes.bar(places, counts, bottom=below, width=0.8, color=colour, label=name)
            below = below + counts
        step = -(-len(bins.names) // 10)
        axes.set_xticks(places[::step], bins.names[::step])
        axes.set(ylabel=f"answers a {bins.unit}", xlim=(-0.7, max(len(places), 8) - 0.3))
        axes.yaxis.set_major_formatter("{x:,.0f}")
        axes.legend(fontsize=8, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1))
        svg = svg_of(figure, "answers-days")
    return Chart(svg, f"Answers a {bins.unit} and annotator, by the date in UTC.", _days_told(bins, below))


def _days_told(bins: Bins, totals: np.ndarray) -> str:
    busiest = int(totals.argmax())
    return (
        f"{int(totals.sum()):,} answers from {bins.names[0]} to {bins.names[-1]}; most in the {bins.unit} of "
        f"{bins.names[busiest]}: {int(totals[busiest]):,}."
    )


def _team_table(team: Team, given: dict[str, list[Decision]]) -> Table:
    queues = [queue for queue in schema.QUEUES if any(queue in one.n_by_queue for one in team.reports.values())]
    rows = []
    for name, decisions in given.items():
        report = team.reports[name]
        n_undone = len(team.decisions[name]) - len(decisions)
        rows.append((
            name, *(f"{report.n_by_queue.get(queue, 0):,}" for queue in queues), f"{n_undone:,}",
            f"{report.median_s:.1f}", f"{report.p90_s:.1f}", f"{report.n_too_fast:,}",
            f"{sum(decision.seconds for decision in decisions) / 3600:.1f}",
        ))  # fmt: skip
    header = ("annotator", *queues, "taken back", "median s", "90 % s", f"under {TOO_FAST_S:g} s", "hours")
    aside = f" Set aside by the consensus: {_listed(team.rule.set_aside)}." if team.rule.set_aside else ""
    return Table(
        header,
        rows,
        "Standing answers by queue, skipped images among them; and the seconds of all answers: half were faster "
        f"than the median, nine in ten faster than the next. Nobody can look in under {TOO_FAST_S:g} s.{aside}",
        frozenset(range(1, len(header))),
    )


def _kinds_chart(team: Team, ordered: Sequence[str]) -> Chart:
    counts = {}
    for name in ordered:
        first = (decision for decision in team.decisions[name] if decision.queue == INDEPENDENT_QUEUE)
        counts[name] = Counter(decision.answer for decision in standing_answers(first).values())
    counts = {name: found for name, found in counts.items() if found}
    shown = list(counts)[:_MOST_BARS]
    with IN_PAGE.applied():
        figure = IN_PAGE.new_figure(WIDE_IN, 0.9 + 0.26 * len(shown))
        axes = figure.subplots()
        left = np.zeros(len(shown))
        for word, colour in _KIND_COLOURS.items():
            shares = np.array([counts[name][word] / counts[name].total() for name in shown])
            axes.barh(np.arange(len(shown)), shares, left=left, height=0.7, color=colour, label=word)
            left = left + shares
        axes.set_yticks(np.arange(len(shown)), [f"{name} ({counts[name].total():,})" for name in shown])
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        axes.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
        axes.legend(fontsize=8, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1))
        svg = svg_of(figure, "answers-kinds")
    which = f" The {len(shown)} of {len(counts):,} annotators with the most." if len(shown) < len(counts) else ""
    told = "; ".join(
        f"{name}: " + ", ".join(f"{word} {counts[name][word]:,}" for word in _KIND_COLOURS) for name in shown
    )
    return Chart(
        svg,
        f"Standing blind answers by kind. Who differs much from the others may go by other rules.{which}",
        told,
    )


def _seconds_chart(team: Team, given: dict[str, list[Decision]], ordered: Sequence[str]) -> Chart:
    shown = ordered[:_MOST_NAMED]
    n_columns = min(3, len(shown))
    n_rows = -(-len(shown) // n_columns)
    told = []
    with IN_PAGE.applied():
        figure = IN_PAGE.new_figure(WIDE_IN, 0.4 + 1.7 * n_rows)
        grid = figure.subplots(n_rows, n_columns, squeeze=False, sharex=True).ravel()
        for axes, name, colour in zip(grid, shown, SERIES, strict=False):
            seconds = np.array([decision.seconds for decision in given[name]])
            median, most = team.reports[name].median_s, team.reports[name].p90_s
            counts, _ = np.histogram(np.clip(seconds, _EDGES_S[0], _EDGES_S[-1]), _EDGES_S)
            axes.stairs(counts, _EDGES_S, fill=True, color=colour, alpha=0.35)
            axes.stairs(counts, _EDGES_S, color=colour, linewidth=1.2)
            axes.axvline(median, color=INK, linewidth=1)
            axes.axvline(most, color=QUIET, linewidth=1, linestyle="--")
            axes.set_title(f"{name}: {median:.1f} s, 90 % {most:.1f} s")
            axes.set_xscale("log")
            axes.set_xticks([0.1, 1, 10, 100], ["0.1 s", "1 s", "10 s", "100 s"])
            axes.xaxis.set_minor_formatter("")
            axes.yaxis.set_major_formatter("{x:,.0f}")
            told.append(f"{name}: median {median:.2f} s, nine in ten under {most:.2f} s")
        for axes in grid[::n_columns]:
            axes.set_ylabel("answers")
        for axes in grid[len(shown) :]:
            axes.set_visible(False)
        svg = svg_of(figure, "answers-seconds")
    which = (
        f" The {len(shown)} of {len(ordered):,} annotators with the most answers."
        if len(shown) < len(ordered)
        else ""
    )
    caption = (
        "Seconds from picture on screen to answer, on a logarithmic axis: median (line) and 90 % (dashed). "
        f"Answers beyond the ends are counted at the ends.{which}"
    )
    return Chart(svg, caption, "; ".join(told))
