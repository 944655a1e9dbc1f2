"""Results as tables: the paper's Table 2, limits set by contamination, and the methods that were left out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from manifests.frozen import HEADER_FILE, read_header
from manifests.report.parts import BEST, SECOND, Part, Table, Text
from manifests.workspace import Workspace, checked_name
from scoring.contamination import Contamination, certified_contamination, contamination_limits
from scoring.figures import INTERVAL_WORDS, percent_with_interval
from scoring.methods.table import METHODS, Method
from scoring.metrics import n_caught, n_kept
from scoring.plots.results import Estimate, MetricsByMethod, Results
from scoring.plots.style import PRINTED
from scoring.report.scored_model import ScoredModel

_UP, _DOWN = "\N{UPWARDS ARROW}", "\N{DOWNWARDS ARROW}"
_HEADERS = {
    "auroc": f"AUROC {_UP}", "fpr95_in": f"fpr95_in {_DOWN}", "fpr95_out": f"fpr95_out {_DOWN}",
}  # fmt: skip
_FAMILIES = tuple(PRINTED.families)


def result_parts(workspace: Workspace, model: ScoredModel) -> list[Part]:
    """Return the results of one model: tables, what they rest on, and what limits them."""
    results, record = model.results, model.record
    parts: list[Part] = [
        Text(_made_how(model), is_quiet=True),
        *(Text(f"Note: {warning}.") for warning in record.warnings),
        *_main_tables(results),
        Text(_two_fpr95(results) + _interval_words(results), is_quiet=True),
    ]
    if model.without_known_in is not None:
        counts = ", ".join(f"{n:,} of {name}" for name, n in record.n_known_in.items())
        caption = f"Without the images known to be in distribution ({counts}), in percent"
        parts.append(metrics_table(results, model.without_known_in, tuple(_HEADERS), caption))
    parts.append(_limits_part(workspace, model))
    if record.refused:
        titles = {method.name: method.title for method in METHODS}
        rows = [(titles.get(name, name), reason) for name, reason in record.refused.items()]
        parts.append(Table(("method", "reason"), rows, f"{len(rows)} methods left out, with the reason"))
    return parts


def _two_fpr95(results: Results) -> str:
    """Return what the two are, and on how many images of these sets: of few, whole images are no longer 95 %."""
    n_in = len(results.image_ids[results.val])
    caught = [
        f"{n_caught(len(results.image_ids[name])):,} of {len(results.image_ids[name]):,} of {name}"
        for name in results.ood_sets
    ]
    return (
        "FPR95 has two meanings. fpr95_in is the share of OOD images let through where 95 % of ID images are "
        f"kept, rounded down to whole images as in the ViM authors' code: {n_kept(n_in):,} of {n_in:,}. fpr95_out "
        "is the share of ID images lost where 95 % of OOD images are caught, rounded up as in OpenOOD: "
        f"{', '.join(caught)}. The two are never comparable."
    )


def _main_tables(results: Results) -> list[Table]:
    """Return the paper's Table 2, and FPR95 as OpenOOD counts it: beside it, or below where it is wide already."""
    caption = "Results of all methods, in percent"
    if len(results.ood_sets) == 1:
        return [metrics_table(results, results.metrics, tuple(_HEADERS), caption)]
    in_openood = "The same as OpenOOD counts FPR95, in percent"
    return [
        metrics_table(results, results.metrics, ("auroc", "fpr95_in"), caption),
        metrics_table(results, results.metrics, ("fpr95_out",), in_openood),
    ]


def metrics_table(results: Results, metrics: MetricsByMethod, shown: Sequence[str], caption: str) -> Table:
    """Return methods as rows, by what they read, and OOD sets as columns, as in Table 2 of the ViM paper.

    Parameters
    ----------
    results : Results
        Which methods and sets.
    metrics : MetricsByMethod
        Of all of them.
    shown : sequence of str
        Metrics side by side below each set; beside more than one set stands their average.
    caption : str
        What the table says, without what is marked.
    """
    methods = sorted(results.methods, key=lambda method: _FAMILIES.index(method.family))
    columns = [
        [metrics[method.name, ood_set][name] for method in methods]
        for ood_set in results.ood_sets
        for name in shown
    ]
    blocks = list(results.ood_sets)
    if len(blocks) > 1:
        blocks.append("average")
        columns += [[_mean(results, metrics, method, name) for method in methods] for name in shown]
    marks = {
        (row, 2 + place): mark
        for place, column in enumerate(columns)
        for row, mark in _marks(
            [one.value for one in column], is_high=shown[place % len(shown)] == "auroc"
        ).items()
    }
    return Table(
        header=("source", "method", *(_HEADERS[name] for _ in blocks for name in shown)),
        rows=[
            (method.family, method.title, *(_cell(column[row]) for column in columns))
            for row, method in enumerate(methods)
        ],
        caption=caption + ("; best and second best of each column are marked" if marks else ""),
        numeric=frozenset(range(2, 2 + len(columns))),
        marks=marks,
        groups=(("", 2), *((block, len(shown)) for block in blocks)),
    )


def _mean(results: Results, metrics: MetricsByMethod, method: Method, name: str) -> Estimate:
    values = [metrics[method.name, ood_set][name].value for ood_set in results.ood_sets]
    return Estimate(sum(values) / len(values))


def _marks(values: Sequence[float], *, is_high: bool) -> dict[int, str]:
    """Return the places of the best and of the second best value; equal ones share a mark."""
    distinct = sorted(set(values), reverse=is_high)
    if len(values) == 1 or len(distinct) == 1:
        return {}
    mark_of = {distinct[0]: BEST, distinct[1]: SECOND}
    return {place: mark_of[value] for place, value in enumerate(values) if value in mark_of}


def _cell(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return percent_with_interval(estimate.value)
    return percent_with_interval(estimate.value, (estimate.low, estimate.high))


def _made_how(model: ScoredModel) -> str:
    record = model.record
    images = ", ".join(f"{name} {n:,}" for name, n in record.n_images.items())
    fitted = ", ".join(f"{name} = {value:.4g}" for name, value in record.fitted.items())
    whose = {"authors": "the authors'", "openood": "OpenOOD's"}.get(record.mode, record.mode)
    return f"Images: {images}. Settings of the methods: {whose}." + (f" Fitted: {fitted}." if fitted else "")


def _interval_words(results: Results) -> str:
    if not any(one.low is not None for found in results.metrics.values() for one in found.values()):
        return " No intervals were estimated (--bootstrap 0)."
    return f" {INTERVAL_WORDS} All of them, and AUPR both ways, are in results.csv."


@dataclass(frozen=True)
class _Rate:
    """What is known of an OOD set's contamination, and from where."""

    source: str
    rate: Contamination | None = None


def _limits_part(workspace: Workspace, model: ScoredModel) -> Part:
    """Return the best figures that a detector can get which cannot tell hidden ID images from other ID images."""
    rates = {name: _rate(workspace, model, name) for name in model.results.ood_sets}
    if not any(known.rate for known in rates.values()):
        told = "; ".join(f"{name}: {known.source}" for name, known in rates.items())
        return Text(f"What contamination lets a detector reach is not known ({told}).", is_quiet=True)
    return Table(
        header=("OOD set", "really ID", "AUROC at most", "fpr95_in at least", "fpr95_out at least", "by"),
        rows=[(name, *_limits_cells(known.rate), known.source) for name, known in rates.items()],
        caption="What ID images hidden in an OOD set leave to a detector that is perfect on the others, in "
        "percent, and in brackets at both ends of the interval. Better figures tell apart where sets come from.",
        numeric=frozenset(range(1, 5)),
    )


def _limits_cells(rate: Contamination | None) -> tuple[str, str, str, str]:
    if rate is None:
        unknown = "\N{EM DASH}"
        return unknown, unknown, unknown, unknown
    limits = contamination_limits(rate)
    ends = [end for end in (limits.at_low, limits.at_high) if end is not None]
    shares = [rate.rate, *(end for end in (rate.low, rate.high) if end is not None)]
    return (
        _with_ends(shares),
        _with_ends([one.auroc_ceiling for one in (limits.at_rate, *ends)]),
        _with_ends([one.fpr95_in_floor for one in (limits.at_rate, *ends)]),
        _with_ends([one.fpr95_out_floor for one in (limits.at_rate, *ends)]),
    )


def _with_ends(values: Sequence[float]) -> str:
    """Return a share and, where there are any, the ends of its interval."""
    value, *ends = (100 * one for one in values)
    return f"{value:.2f}" + (f" [{min(ends):.2f}, {max(ends):.2f}]" if ends else "")


def _rate(workspace: Workspace, model: ScoredModel, ood_set: str) -> _Rate:
    """Return the contamination given to `score`, or else that of the certificate of the set's manifest."""
    if ood_set in model.record.contamination:
        return _Rate("as given to score", model.record.contamination[ood_set])
    if ood_set not in model.record.manifests:
        return _Rate("not made of a manifest")
    name, digest = model.record.manifests[ood_set]
    folder = workspace.manifests_dir / checked_name(name, f"manifest of {ood_set}")
    if not (folder / HEADER_FILE).is_file():
        return _Rate(f"{name} is not in this workspace")
    header: Mapping[str, object] = read_header(folder)
    if header["content_sha256"] != digest:
        return _Rate(f"{name} has other records now than when it was scored")
    if header.get("certificate") is None:
        return _Rate(f"{name} has no certificate")
    return _Rate(f"certificate of {name}", certified_contamination(folder / HEADER_FILE))
