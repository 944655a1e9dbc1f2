"""The first section: how many images stand at which stage, and why the others left."""

from manifests.funnel import FunnelStep, funnel
from manifests.plots.page import IN_PAGE, QUIET, SERIES, WIDE_IN, svg_of
from manifests.report.parts import Chart, Part, Section, Table, Text
from manifests.workspace import Workspace

_BAR_IN, _AROUND_IN = 0.27, 0.5


def overview_sections(workspace: Workspace) -> list[Section]:
    """Return the funnel as a chart and a table.

    Raises
    ------
    TableError
        A table that the funnel counts is damaged.
    """
    steps = funnel(workspace)
    done = [step for step in steps if step.is_done]
    waiting = [step.stage.strip() for step in steps if not step.is_done]
    parts: list[Part] = []
    if done:
        parts += [_funnel_chart(done), _funnel_table(done)]
    if waiting:
        parts.append(Text(f"Not run here yet: {', '.join(waiting)}.", is_quiet=True))
    missing = None if done else "Nothing is here yet: `python cli.py candidates` proposes the first images."
    return [Section("overview", "From candidates to a manifest", parts, missing)]


def _funnel_table(steps: list[FunnelStep]) -> Table:
    rows = []
    for step in steps:
        reasons = sorted(step.left.items(), key=lambda item: (-item[1], item[0]))
        told = ", ".join(f"{word.replace('_', ' ')} {n:,}" for word, n in reasons)
        rows.append(
            (step.stage.strip(), f"{step.n_images:,}", f"{sum(step.left.values()):,}" if step.left else "", told)
        )
    header = ("Stage", "Images", "Left here", "Why")
    return Table(header, rows, "Images at each stage, and those that left at it, by reason.", frozenset({1, 2}))


def _funnel_chart(steps: list[FunnelStep]) -> Chart:
    # The table names the annotators: a team is too long for a label.
    names = [step.stage.strip().partition(" (")[0] for step in steps]
    counts = [step.n_images for step in steps]
    with IN_PAGE.applied():
        figure = IN_PAGE.new_figure(WIDE_IN, _AROUND_IN + _BAR_IN * len(steps))
        axes = figure.add_subplot()
        places = range(len(steps))
        axes.barh(places, counts, color=SERIES[0], height=0.72)
        for place, n in zip(places, counts, strict=True):
            axes.annotate(
                f"{n:,}", (n, place), xytext=(4, 0), textcoords="offset points", va="center", color=QUIET
            )
        axes.set_yticks(places, names)
        axes.invert_yaxis()
        axes.set_xlim(0, 1.12 * max(1, *counts))
        axes.xaxis.set_visible(False)
        for side in ("bottom", "left"):
            axes.spines[side].set_visible(False)
        axes.tick_params(left=False)
        svg = svg_of(figure, "funnel")
    told = "; ".join(f"{name} {n:,}" for name, n in zip(names, counts, strict=True))
    return Chart(svg, "Images at each stage.", f"Images at each stage: {told}.")
