"""The section of the screen: what it dropped and why, how sure it was, and the pictures near its bound."""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curation.report.calibration import UsedCalibration, used_calibration
from curation.report.charts import Kind, Mark, draw_histogram
from curation.report.shown import ShownClasses, shown_classes
from manifests import schema
from manifests.label_space import read_label_space
from manifests.plots.page import BAD, IN_PAGE, SERIES, WIDE_IN, svg_of
from manifests.report.own_pictures import own_pictures
from manifests.report.parts import Card, Chart, Gallery, Part, Section, Table, Text
from manifests.tiles import FULL
from manifests.workspace import Workspace

KEY, TITLE = "screening", "Screening"

MOST_CARDS = 60
"""Of a gallery of examples."""

_N_BINS = 50
_N_CARD_CLASSES = 3
_USUAL = ("clip", FULL)

Row = Mapping[str, Any]

Kinds = npt.NDArray[np.str_]


def screening_section(workspace: Workspace) -> Section:
    """Return the section: reasons, similarity, risk and operating point, sources, and pictures near the bound."""
    if not workspace.has(schema.SCREEN):
        missing = "Nothing has been screened: `python cli.py embed`, then `python cli.py screen` do it."
        return Section(KEY, TITLE, missing=missing)
    screened = workspace.read(schema.SCREEN)
    shown = shown_classes(screened)
    used = used_calibration(workspace)
    kinds = _kinds(screened)
    parts: list[Part] = [_summary(workspace, kinds), _reasons_table(kinds)]
    if shown.models():
        parts.append(_similarity_chart(kinds, shown))
    if screened.column("risk").null_count < screened.num_rows:
        parts.append(_risk_chart(kinds, screened, used))
    if len(shown.rows):
        parts += _source_tables(shown)
    return Section(KEY, TITLE, [*parts, *_galleries(workspace, screened, kinds, used is not None)])


def _kinds(screened: pa.Table) -> Kinds:
    """Return of each row ``kept``, ``control``, or the reason for which it was dropped."""
    statuses, reasons = (screened.column(name).to_pylist() for name in ("status", "reason"))
    controls = screened.column("is_control").to_pylist()
    return np.array(
        [
            "control" if control else "kept" if status == "review" else reason or "no reason"
            for status, reason, control in zip(statuses, reasons, controls, strict=True)
        ],
        np.str_,
    )


def _summary(workspace: Workspace, kinds: Kinds) -> Text:
    counts = Counter(kinds.tolist())
    n_flagged = counts["control"] + counts["in_class"]
    text = f"{counts['kept'] + counts['control']:,} of {len(kinds):,} pictures are under review."
    share = workspace.read_record("screen", "arguments").get("control_share")
    if not n_flagged:
        return Text(f"{text} None was dropped as in-class, so there is no control image either.")
    drawn = f"drawn at random with a share of {share:.1%}, " if isinstance(share, float) else ""
    return Text(
        f"{text} {n_flagged:,} were found to be plainly in-class; {counts['control']:,} of these "
        f"({counts['control'] / n_flagged:.1%}) are control images: {drawn}they go to the annotators unmarked, "
        "and show what the screen loses."
    )


def _reasons_table(kinds: Kinds) -> Table:
    counts = Counter(kinds.tolist())
    meanings = {
        "kept": "under review",
        "control": "under review as a control image",
        "in_class": "dropped: plainly in-class",
        "duplicate": "dropped: a copy of another candidate",
        "leak": "dropped: also in another data set",
        "unreadable": "dropped: cannot be read",
        "low_quality": "dropped: flagged by a quality check",
    }
    rows = [
        (meanings.get(kind, kind), f"{counts[kind]:,}", f"{counts[kind] / len(kinds):.2%}")
        for kind in [*meanings, *sorted(counts.keys() - meanings.keys())]
        if counts[kind]
    ]
    return Table(("outcome", "pictures", "share"), rows, "What the screen did, and why.", frozenset({1, 2}))


def _outlines(kinds: Kinds, values: npt.NDArray[np.float64]) -> list[Kind]:
    """Return `values` of what was kept, of what was found in-class, and of the rest, without NaN."""
    is_in = np.isin(kinds, ["in_class", "control"])
    groups = (("kept", kinds == "kept", SERIES[0]), ("in-class", is_in, BAD),
              ("dropped otherwise", ~is_in & (kinds != "kept"), SERIES[6]))  # fmt: skip
    return [Kind(name, values[own & ~np.isnan(values)], colour) for name, own, colour in groups]


def _similarity_chart(kinds: Kinds, shown: ShownClasses) -> Chart:
    models = shown.models()
    told = []
    with IN_PAGE.applied():
        figure = IN_PAGE.new_figure(WIDE_IN, 2.8)
        for axes, model in zip(figure.subplots(1, len(models), squeeze=False)[0], models, strict=True):
            outlines = _outlines(kinds, shown.highest(model).astype(np.float64))
            values = np.concatenate([kind.values for kind in outlines])
            low, high = float(values.min()), float(values.max())
            edges = np.linspace(low, max(high, low + 1e-3), _N_BINS + 1)
            draw_histogram(axes, edges, outlines, label=f"highest similarity ({model})")
            axes.legend(fontsize=7.5)
            told.append(f"{model}: median {np.median(values):.3f}, from {low:.3f} to {high:.3f}")
        svg = svg_of(figure, "screening-similarity")
    return Chart(
        svg,
        "Cosine of each picture with its most similar class, over the whole picture and its tiles. In-class: "
        "found to be so by risk, control images among them. Where they overlap, this number alone does not tell.",
        "; ".join(told),
    )


def _risk_chart(kinds: Kinds, screened: pa.Table, used: UsedCalibration | str | None) -> Chart:
    risks = screened.column("risk").cast(pa.float64()).fill_null(np.nan).to_numpy()
    bound = used.point.drop_above if isinstance(used, UsedCalibration) else None
    mark = None if bound is None else Mark(bound, f"dropped above {bound:.3f}")
    with IN_PAGE.applied():
        figure = IN_PAGE.new_figure(WIDE_IN, 2.8)
        axes = figure.subplots()
        outlines = _outlines(kinds, risks)
        draw_histogram(
            axes, np.linspace(0, 1, _N_BINS + 1), outlines, label="risk", mark=mark, has_log_counts=True
        )
        axes.legend(fontsize=7.5, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1))
        svg = svg_of(figure, "screening-risk")
    known = risks[~np.isnan(risks)]
    told = f"Median risk {np.median(known):.3f}; {int((known > 0.5).sum()):,} pictures are above 0.5."
    return Chart(svg, f"{_risk_caption(used)} The axis of counts is logarithmic.", told)


def _risk_caption(used: UsedCalibration | str | None) -> str:
    if used is None:
        return (
            "Risk by which the queue is ordered. It has not been calibrated, is no probability, and drops nothing."
        )
    if isinstance(used, str):
        return f"Risk by which the queue is ordered. What the bound loses is not known: {used}."
    point = used.point
    return (
        "Risk: the probability that a picture holds an in-distribution object. On held-out pictures, the "
        f"operating point loses {point.lost.value:.2%} of what is out (95 % interval {point.lost.low:.2%} to "
        f"{point.lost.high:.2%}; goal {point.max_lost:.2%}) and spares the annotators {point.flagged.value:.1%} "
        f"of what is in ({point.flagged.low:.1%} to {point.flagged.high:.1%})."
    )


def _source_tables(shown: ShownClasses) -> list[Table]:
    n_all = len(shown.rows)
    by_source = [
        (source, f"{n:,}", f"{n / n_all:.1%}", f"{n_first:,}")
        for source, (n, n_first) in shown.counts_by_source().items()
    ]
    by_view = [(view, f"{n:,}", f"{n / n_all:.1%}") for view, n in shown.counts_by_view().items()]
    return [
        Table(("source", "classes shown", "share", "shown first"), by_source,
              "Who proposed the classes that stand beside a picture; human: verified in Open Images.",
              frozenset({1, 2, 3})),
        Table(("view", "classes shown", "share"), by_view,
              "Which part of the picture raised them: what only a tile shows is what a look at the whole misses.",
              frozenset({1, 2})),
    ]  # fmt: skip


def _galleries(workspace: Workspace, screened: pa.Table, kinds: Kinds, is_calibrated: bool) -> list[Gallery]:
    has_risk = screened.column("risk").is_valid().to_numpy(zero_copy_only=False)
    sides = (
        ("Riskiest kept", "kept", "descending", "under review, riskiest first"),
        ("Least risky dropped", "in_class", "ascending", "dropped as in-class, least risky first"),
    )
    galleries = []
    for name, kind, order, what in sides:
        side = screened.filter(pa.array((kinds == kind) & has_risk))
        if side.num_rows:
            ordered = side.take(pc.sort_indices(side, [("risk", order), ("image_id", "ascending")])[:MOST_CARDS])
            caption = (
                f"{ordered.num_rows:,} of {side.num_rows:,} pictures {what}, with their most similar classes."
            )
            galleries.append(Gallery(name, _cards(workspace, ordered.to_pylist(), is_calibrated), caption))
    return galleries


def _cards(workspace: Workspace, rows: Sequence[Row], is_calibrated: bool) -> list[Card]:
    classes = read_label_space(workspace.classes_path) if workspace.classes_path.exists() else []
    names = {known.class_index: known.name for known in classes}
    pictures = own_pictures(workspace, [row["image_id"] for row in rows])
    word = "risk" if is_calibrated else "order"
    return [
        Card(
            [pictures[row["image_id"]]],
            [f"{word} {row['risk']:.3f}", *_shown_lines(row, names), row["image_id"]],
        )
        for row in rows
    ]


def _shown_lines(row: Row, names: Mapping[int, str]) -> list[str]:
    shown = zip(row["shown_classes"] or (), row["shown_similarities"] or (), strict=False)
    sources, views = row["shown_sources"] or (), row["shown_views"] or ()
    lines = []
    for place, (class_index, similarity) in enumerate(itertools.islice(shown, _N_CARD_CLASSES)):
        # What nearly all have is not worth the room.
        origin = [word for words in (sources, views) for word in words[place : place + 1] if word not in _USUAL]
        name = names.get(class_index, f"class {class_index}")
        lines.append(", ".join([f"{name} {similarity:.3f}", *origin]))
    return lines
