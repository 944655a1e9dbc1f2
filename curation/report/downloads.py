"""The section of downloads: what was proposed, what arrived, and why the rest did not."""

import math
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.report.charts import Kind, bars, draw_histogram
from manifests import schema
from manifests.plots.page import BAD, IN_PAGE, SERIES, WIDE_IN, svg_of
from manifests.report.parts import Chart, Part, Section, Table, Text
from manifests.workspace import Workspace

KEY, TITLE = "downloads", "Downloads"
_MOST_REASONS = 20
_N_BINS = 40


def downloads_section(workspace: Workspace) -> Section:
    """Return the section: candidates, statuses and reasons, bytes and sizes."""
    if not workspace.has(schema.CANDIDATES):
        missing = (
            "No picture has been proposed yet: `python cli.py candidates --metadata FILE` reads the metadata."
        )
        return Section(KEY, TITLE, missing=missing)
    proposed = _proposed_table(workspace)
    if not workspace.has(schema.DOWNLOADS):
        missing = "Nothing has been fetched yet: `python cli.py download` does it."
        return Section(KEY, TITLE, [proposed], missing)
    downloads = workspace.read(schema.DOWNLOADS)
    arrived = downloads.filter(pc.equal(downloads.column("status"), "ok"))
    parts: list[Part] = [_summary(downloads, arrived), proposed, _status_table(downloads)]
    if arrived.num_rows < downloads.num_rows:
        parts += _failures(downloads)
    if arrived.column("size_bytes").null_count < arrived.num_rows:
        parts.append(_sizes_chart(arrived))
    return Section(KEY, TITLE, parts)


def _proposed_table(workspace: Workspace) -> Table:
    by_subset = Counter(workspace.read(schema.CANDIDATES).column("subset").to_pylist())
    rows = [(f"candidates of {subset}", f"{n:,}") for subset, n in sorted(by_subset.items())]
    if workspace.has(schema.WITHDRAWN):
        n_withdrawn = workspace.read(schema.WITHDRAWN).num_rows
        rows.append(("of these, withdrawn from Flickr", f"{n_withdrawn:,}"))
    if workspace.has(schema.ORIGINAL_DUPLICATES):
        is_dropped = workspace.read(schema.ORIGINAL_DUPLICATES).column("is_dropped")
        n_dropped = pc.sum(is_dropped).as_py() or 0
        rows.append(("dropped: its original is that of an earlier one", f"{n_dropped:,}"))
        rows.append(("kept, though its original is that of an earlier one", f"{len(is_dropped) - n_dropped:,}"))
    return Table(("proposed", "pictures"), rows, "What the metadata proposes.", numeric=frozenset({1}))


def _summary(downloads: pa.Table, arrived: pa.Table) -> Text:
    n_all, n_arrived = downloads.num_rows, arrived.num_rows
    n_bytes = pc.sum(arrived.column("size_bytes")).as_py() or 0
    n_again = pc.sum(pc.greater(downloads.column("attempts"), 1)).as_py() or 0
    share = f" ({n_arrived / n_all:.1%})" if n_all else ""
    return Text(
        f"{n_arrived:,} of {n_all:,} candidates have a picture{share}, {_bytes_text(n_bytes)} in all. "
        f"{n_again:,} were asked for more than once."
    )


def _status_table(downloads: pa.Table) -> Table:
    counts = Counter(downloads.column("status").to_pylist())
    rows = [
        (status, f"{counts[status]:,}", f"{counts[status] / counts.total():.2%}")
        for status in schema.DOWNLOAD_STATUSES
        if counts[status]
    ]
    return Table(("status", "pictures", "share"), rows, "What became of each candidate.", frozenset({1, 2}))


def _failures(downloads: pa.Table) -> list[Part]:
    failed = downloads.filter(pc.not_equal(downloads.column("status"), "ok"))
    statuses, reasons = (failed.column(name).to_pylist() for name in ("status", "reason"))
    counts = Counter((status, reason or "no reason") for status, reason in zip(statuses, reasons, strict=True))
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = ordered[:_MOST_REASONS]
    rows = [(status, reason, f"{n:,}") for (status, reason), n in shown]
    which = f"the {len(shown)} commonest of {len(ordered):,}" if len(shown) < len(ordered) else f"all {len(shown)}"
    by_status = sorted(Counter(statuses).items(), key=lambda item: (-item[1], item[0]))
    return [
        bars("downloads-failures", by_status, "Candidates without a picture, by status.", colour=BAD),
        Table(("status", "reason", "pictures"), rows, f"Why they have none: {which} reasons.", frozenset({2})),
    ]


def _sizes_chart(arrived: pa.Table) -> Chart:
    kilobytes = arrived.column("size_bytes").drop_null().to_numpy() / 1e3
    widths, heights = (arrived.column(name).fill_null(0).to_numpy() for name in ("width_px", "height_px"))
    longer = np.maximum(widths, heights)
    longer = longer[longer > 0]
    with IN_PAGE.applied():
        figure = IN_PAGE.new_figure(WIDE_IN, 2.4)
        left, right = figure.subplots(1, 2)
        for axes, values, label in ((left, kilobytes, "file in kB"), (right, longer, "longer side in pixels")):
            draw_histogram(axes, _log_edges(values), [Kind("", values, SERIES[0])], label=label)
            axes.set_xscale("log")
            axes.xaxis.set_minor_formatter("")
            ticks = _round_numbers(*axes.get_xlim())
            axes.set_xticks(ticks, [f"{tick:,.4g}" for tick in ticks])
        svg = svg_of(figure, "downloads-sizes")
    middle = [f"{np.median(values):,.0f}" if len(values) else "not known" for values in (kilobytes, longer)]
    return Chart(
        svg,
        f"Sizes of the {arrived.num_rows:,} files as served. Both axes of size are logarithmic.",
        f"The median file has {middle[0]} kB; the median longer side has {middle[1]} pixels.",
    )


def _log_edges(values: np.ndarray) -> np.ndarray:
    low, high = (values.min(), values.max()) if len(values) else (1.0, 10.0)
    # Equal sizes have no spread, and would get bins of no width.
    low, high = max(low, 1e-3) / 1.05, max(high, 1e-3) * 1.05
    return np.geomspace(low, high, _N_BINS + 1)


def _round_numbers(low: float, high: float) -> list[float]:
    """Return round numbers between two bounds, the fewer within a power of ten the more powers there are."""
    powers = [10.0**power for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
    factors = (
        (1.0,) if high / low > 1e3 else (1.0, 2.0, 5.0) if high / low > 10 else (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)
    )
    return [factor * power for power in powers for factor in factors if low <= factor * power <= high]


def _bytes_text(n_bytes: int) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if n_bytes >= size:
            return f"{n_bytes / size:.1f} {unit}"
    return f"{n_bytes / 1e3:.1f} kB"
