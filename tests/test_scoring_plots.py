import csv
import itertools
import json

import matplotlib as mpl
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from sklearn import metrics as sklearn_metrics

import cli
from manifests.errors import InputError, StageMissingError, TableError
from manifests.plots.style import FORMATS
from scoring.methods.table import METHODS
from scoring.plots.comparison import ComparedMethod, comparison_figure
from scoring.plots.histograms import histogram, histogram_figure, score_range, threshold_in
from scoring.plots.labels import place_labels
from scoring.plots.plot import plan_plots, plot_results
from scoring.plots.results import Estimate, read_results
from scoring.plots.roc import RocCurve, bends, roc_figure, roc_points
from scoring.plots.style import PRINTED

SETS = {"val": 300, "far": 90, "near": 120}
NAMES = ("msp", "max_logit", "vim")


def scores_of(sets: dict[str, int], seed: int = 0) -> dict[str, dict[str, np.ndarray]]:
    random = np.random.default_rng(seed)
    shift = {name: 0.7 * number for number, name in enumerate(sets)}
    return {
        name: {method: random.normal(shift[name] * (1 + place), 1, n) for place, method in enumerate(NAMES)}
        for name, n in sets.items()
    }


def write_folder(folder, scores, *, val="val", interval=None, figures=None) -> None:
    """A folder of results with the AUROC of scikit-learn, or with `figures` where given."""
    folder.mkdir(parents=True, exist_ok=True)
    columns = {
        "image_id": [f"{name}_{number}" for name, found in scores.items() for number in range(len(found["vim"]))],
        "set": [name for name, found in scores.items() for _ in range(len(found["vim"]))],
    }
    columns |= {method: np.concatenate([found[method] for found in scores.values()]) for method in NAMES}
    pq.write_table(pa.table(columns), folder / "scores.parquet")
    rows = []
    for method, name in itertools.product(NAMES, [name for name in scores if name != val]):
        pair = scores[val][method], scores[name][method]
        is_out = np.r_[np.zeros(len(pair[0])), np.ones(len(pair[1]))]
        found = float(sklearn_metrics.roc_auc_score(is_out, np.concatenate(pair)))
        row = {"method": method, "set": name, "auroc": (figures or {}).get((method, name), found)}
        if interval:
            row |= {"auroc_low": max(found - interval, 0.0), "auroc_high": min(found + interval, 1.0)}
        rows.append(row)
    write_csv(folder / "results.csv", rows)


def write_csv(path, rows) -> None:
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def results_dir(tmp_path):
    write_folder(tmp_path / "scores", scores_of(SETS), interval=0.03)
    return tmp_path / "scores"


def drawn(figure: Figure) -> Figure:
    figure.draw_without_rendering()
    return figure


def overlap(one, other) -> bool:
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    # Boxes that touch do not overlap, up to rounding.
    return min(width, height) > 1e-6


def holds(outer, inner) -> bool:
    return outer.x0 <= inner.x0 and inner.x1 <= outer.x1 and outer.y0 <= inner.y0 and inner.y1 <= outer.y1


def words(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(mpl.text.Text))


# ROC curves


@pytest.mark.parametrize("n_levels", [1, 4, 10**9])
def test_roc_points_equal_those_of_scikit_learn(n_levels):
    random = np.random.default_rng(0)
    in_scores = np.round(random.normal(0, 1, 407) * n_levels) / n_levels
    out_scores = np.round(random.normal(0.7, 1.5, 263) * n_levels) / n_levels
    let_through, kept = roc_points(in_scores, out_scores)
    is_in = np.r_[np.ones(407), np.zeros(263)]
    expected = sklearn_metrics.roc_curve(is_in, -np.r_[in_scores, out_scores], drop_intermediate=False)
    np.testing.assert_allclose(let_through, expected[0], atol=1e-15)
    np.testing.assert_allclose(kept, expected[1], atol=1e-15)


def test_drawn_curve_has_few_points_and_leaves_the_whole_nowhere():
    random = np.random.default_rng(1)
    whole = np.stack(roc_points(random.normal(0, 1, 50_000), random.normal(1, 1, 17_632)))
    drawn_points = np.stack(bends(*whole))
    assert drawn_points.shape[1] <= 300
    assert (drawn_points[:, [0, -1]] == whole[:, [0, -1]]).all()
    # Nowhere further up or down, or else to the side, than is seen; ends of a steep stretch are told by the side.
    upwards = np.abs(np.interp(whole[0], *drawn_points) - whole[1])
    sidewards = np.abs(np.interp(whole[1], *drawn_points[::-1]) - whole[0])
    assert np.minimum(upwards, sidewards).max() < np.sqrt(2) / 2000
    assert np.trapezoid(drawn_points[1], drawn_points[0]) == pytest.approx(
        np.trapezoid(whole[1], whole[0]), abs=5e-4
    )


def test_small_curve_keeps_every_point():
    whole = roc_points([0.0, 1.0, 1.0, 2.0], [1.0, 2.0, 3.0])
    assert [points.tolist() for points in bends(*whole)] == [points.tolist() for points in whole]
    # 0 keeps one ID image; 1 keeps three and lets one OOD image through; 2 and 3 let one more through each.
    assert whole[0].tolist() == [0, 0, 1 / 3, 2 / 3, 1]
    assert whole[1].tolist() == [0, 1 / 4, 3 / 4, 1, 1]


def many_curves(n_methods: int) -> list[RocCurve]:
    random = np.random.default_rng(2)
    curves = []
    for number, auroc in enumerate(random.uniform(0.5, 1, n_methods).tolist()):
        points = roc_points(random.normal(0, 1, 200), random.normal(1, 1, 200))
        curves.append(RocCurve(f"Method{number}", *points, auroc))
    return curves


@pytest.mark.parametrize("n_methods", [1, 5, 30])
def test_roc_legend_lists_every_method_best_first_and_lies_beside_the_curves(n_methods):
    curves = many_curves(n_methods)
    figure = drawn(roc_figure(curves, coloured=["Method0"], in_name="val", out_name="far"))
    (legend,) = figure.legends
    entries = [text.get_text().split() for text in legend.get_texts()][:n_methods]
    expected = sorted(curves, key=lambda curve: curve.auroc, reverse=True)
    assert entries == [[f"{100 * curve.auroc:.2f}", curve.title] for curve in expected]
    box = legend.get_window_extent()
    assert holds(figure.bbox, box)
    assert holds(figure.bbox, figure.axes[0].get_tightbbox())
    assert not overlap(box, figure.axes[0].get_tightbbox())


def test_roc_curve_has_one_colour_in_all_figures_and_the_rest_are_grey():
    curves = many_curves(9)
    colours = []
    for order in (curves, curves[::-1]):
        figure = roc_figure(order, coloured=["Method3", "Method8"], in_name="val", out_name="far")
        handles = figure.legends[0].legend_handles
        labels = [text.get_text().split()[-1] for text in figure.legends[0].get_texts()]
        colours.append(dict(zip(labels, (to_hex(handle.get_color()) for handle in handles), strict=True)))
    assert colours[0] == colours[1]
    greys = {colours[0][curve.title] for curve in curves if curve.title not in ("Method3", "Method8")}
    assert len(greys) == 1
    assert len({colours[0]["Method3"], colours[0]["Method8"], *greys}) == 3


def test_roc_axes_name_the_positive_class_and_mark_95_percent_of_id():
    figure = roc_figure(many_curves(2), coloured=[], in_name="val", out_name="far")
    axes = figure.axes[0]
    assert axes.get_xlabel() == "OOD images let through, %"
    assert axes.get_ylabel() == "ID images kept, % (ID is the positive class)"
    assert "95 % of ID kept: fpr95_in" in words(figure)
    assert [0.95, 0.95] in [list(line.get_ydata()) for line in axes.lines]


# Histograms


def test_histogram_counts_every_image_once_as_numpy_does():
    random = np.random.default_rng(3)
    scores = np.r_[random.normal(0, 1, 997), 1e6, -1e6, 4.0]
    edges = np.linspace(-4, 4, 41)
    found = histogram(scores, edges)
    assert found.counts.tolist() == np.histogram(scores, edges)[0].tolist()
    assert found.counts[-1] >= 1  # 4.0, on the last edge
    assert (found.n_below, found.n_above) == ((scores < -4).sum(), (scores > 4).sum())
    assert found.shares.sum() + (found.n_below + found.n_above) / 1000 == pytest.approx(1)


def test_tails_do_not_stretch_the_axis_and_what_lies_beyond_is_stated():
    random = np.random.default_rng(4)
    in_scores = np.r_[random.normal(0, 1, 990), np.full(5, 40), np.full(5, 1e6)]
    out_scores = {"near": np.r_[random.normal(1, 1, 200), -40, 40, 1e6], "far": random.normal(2, 1, 100)}
    lowest, highest = score_range(in_scores, list(out_scores.values()))
    bulk = np.concatenate([in_scores[:990], out_scores["near"][:200], out_scores["far"]])
    assert lowest <= bulk.min()
    assert bulk.max() <= highest
    assert highest - lowest < 1.5 * np.ptp(bulk)
    figure = histogram_figure(in_scores, out_scores, title="ViM", val="val", aurocs={"near": 0.7, "far": 0.9})
    near, far = (axes.get_title(loc="left") for axes in figure.axes)
    assert "OOD images beyond the axis: 1 left, 2 right" in near
    assert "beyond" not in far
    assert "ID images beyond the axis: 10 right" in figure.legends[0].get_title().get_text()


@pytest.mark.parametrize("increase", [lambda p: p, lambda p: p**4, lambda p: 1 - (1 - p) ** 4])
def test_scores_between_zero_and_one_that_crowd_at_one_end_stay_on_the_axis(increase):
    random = np.random.default_rng(5)
    in_scores, out_scores = increase(random.uniform(0, 1, 900)), increase(random.uniform(0.3, 1, 900))
    lowest, highest = score_range(in_scores, [out_scores])
    assert lowest <= min(in_scores.min(), out_scores.min())
    assert max(in_scores.max(), out_scores.max()) <= highest


@pytest.mark.parametrize("n_in", [1, 3, 19, 20, 1000])
def test_threshold_is_that_of_the_vim_repository_and_lets_through_what_the_panel_says(n_in):
    random = np.random.default_rng(n_in)
    in_scores, out_scores = random.normal(0, 1, n_in), random.normal(1, 1, 200)
    expected = -np.sort(-in_scores)[-max(int(np.floor(0.95 * n_in)), 1)]
    assert threshold_in(in_scores) == expected
    figure = histogram_figure(in_scores, {"far": out_scores}, title="ViM", val="val", aurocs={"far": 0.8})
    (axes,) = figure.axes
    assert f"fpr95_in {100 * np.mean(out_scores <= expected):.2f} %" in axes.get_title(loc="left")
    assert [expected, expected] in [list(line.get_xdata()) for line in axes.lines]


def test_threshold_that_cannot_be_shown_is_stated():
    in_scores = np.r_[np.linspace(0, 1, 90), np.full(10, 1e6)]
    figure = histogram_figure(
        in_scores, {"far": np.linspace(0, 2, 90)}, title="ViM", val="val", aurocs={"far": 0.5}
    )
    assert "threshold beyond the axis: 1e+06" in words(figure)
    assert not figure.axes[0].lines


def test_peak_that_would_flatten_the_rest_is_cut_and_its_height_stated():
    in_scores, out_scores = np.r_[np.zeros(800), np.linspace(0, 1, 200)], np.linspace(0, 1, 1000)
    figure = histogram_figure(in_scores, {"far": out_scores}, title="MSP", val="val", aurocs={"far": 0.9})
    (axes,) = figure.axes
    # The first of 20 bins, from -0.02 to 0.032, holds the 800 zeros and 7 of the 200 others.
    assert "cut at the top: bins with 80.7 % of ID" in axes.get_title(loc="left")
    assert 0.052 < axes.get_ylim()[1] < 0.4


POPULATIONS = {
    "constant": lambda random, n: np.full(n, 3.0),
    "constant and large": lambda random, n: np.full(n, 1e6),
    "equal up to rounding": lambda random, n: 1e6 * (1 + 1e-15 * random.integers(0, 3, n)),
    "huge": lambda random, n: 1e300 * random.normal(size=n),
    "small": lambda random, n: 1e-300 * random.normal(size=n),
    "cauchy": lambda random, n: random.standard_cauchy(n),
    "ordinary": lambda random, n: random.normal(size=n),
}


@pytest.mark.parametrize("kind", POPULATIONS)
@pytest.mark.parametrize(("n_sets", "val"), [(1, "val"), (2, "imagenet_val_with_a_rather_long_name"), (5, "val")])
def test_no_words_of_a_histogram_are_cut_or_lie_on_others(kind, n_sets, val, tmp_path):
    random = np.random.default_rng(6)
    in_scores = POPULATIONS[kind](random, 500)
    names = ["far", "openimage_o", "a_set_with_a_rather_long_name", "tiny", "textures"][:n_sets]
    out_scores = {name: POPULATIONS[kind](random, 3 if name == "tiny" else 1763) for name in names}
    figure = histogram_figure(
        in_scores, out_scores, title="Mahalanobis", val=val, aurocs=dict.fromkeys(names, 1.0)
    )
    PRINTED.style.write(figure, tmp_path / "histogram.png")
    drawn(figure)
    assert len(figure.axes) == n_sets
    boxes = [figure.legends[0].get_window_extent()]
    for axes in figure.axes:
        boxes += [axes._left_title.get_window_extent(), axes.get_window_extent()]
    assert all(holds(figure.bbox, box) for box in boxes)
    assert not any(overlap(one, other) for one, other in itertools.combinations(boxes, 2))
    ticks = [label.get_window_extent() for label in figure.axes[-1].get_xticklabels() if label.get_text()]
    limits = figure.axes[-1].get_window_extent()
    shown = [box for box in ticks if limits.x0 <= (box.x0 + box.x1) / 2 <= limits.x1]
    assert not any(overlap(one, other) for one, other in itertools.combinations(shown, 2))


# AUROC of one set against another


def compared(
    n_methods: int, spread: float, *, half_width: float | None = None, seed: int = 7
) -> list[ComparedMethod]:
    """Methods in a crowd of `spread` around 85 %, every tenth far from it."""
    random = np.random.default_rng(seed)
    families = list(PRINTED.families)
    methods = []
    for number in range(n_methods):
        x, y = 0.85 + (0.2 if number % 10 == 9 else spread) * random.uniform(-0.5, 0.5, 2)
        ends = [(v - half_width, v + half_width) if half_width else (None, None) for v in (x, y)]
        family = families[number % len(families)]
        methods.append(ComparedMethod(f"Method-{number}", family, Estimate(x, *ends[0]), Estimate(y, *ends[1])))
    return methods


@pytest.mark.parametrize("half_width", [None, 0.005], ids=["bare", "whiskers"])
@pytest.mark.parametrize(
    ("n_methods", "spread"), [(1, 0.0), (2, 0.0), (5, 0.0), (5, 0.1), (16, 0.02), (25, 0.03), (30, 0.06)]
)
def test_labels_are_inside_the_axes_and_lie_neither_on_each_other_nor_on_markers(n_methods, spread, half_width):
    methods = compared(n_methods, spread, half_width=half_width)
    figure = drawn(comparison_figure(methods, x_set="near", y_set="far"))
    (axes,) = figure.axes
    texts = [text for text in axes.texts if isinstance(text, Annotation)]
    assert [text.get_text() for text in texts] == [method.title for method in methods]
    boxes = [text.get_window_extent() for text in texts]
    assert all(holds(axes.bbox, box) for box in boxes)
    assert not any(overlap(one, other) for one, other in itertools.combinations(boxes, 2))
    centres = axes.transData.transform([(method.x.value, method.y.value) for method in methods])
    is_on_marker = [
        box.x0 < x < box.x1 and box.y0 < y < box.y1 for box, (x, y) in itertools.product(boxes, centres)
    ]
    assert not any(is_on_marker)
    assert holds(figure.bbox, figure.legends[0].get_window_extent())
    assert not overlap(axes.get_tightbbox(), figure.legends[0].get_window_extent())


def test_label_that_is_nearer_to_another_marker_is_joined_to_its_own():
    methods = compared(25, 0.03)
    (axes,) = drawn(comparison_figure(methods, x_set="near", y_set="far")).axes
    joined = {(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines if len(line.get_xdata()) == 2}
    places = [(method.x.value, method.y.value) for method in methods]
    n_strayed = 0
    for own, text in enumerate(axes.texts):
        box = text.get_window_extent()
        # Distance of each marker from the label, 0 inside.
        apart = [
            np.hypot(max(box.x0 - x, 0, x - box.x1), max(box.y0 - y, 0, y - box.y1))
            for x, y in axes.transData.transform(places)
        ]
        if int(np.argmin(apart)) != own:
            n_strayed += 1
            assert any(place == pytest.approx(places[own], abs=1e-9) for place in joined)
    assert n_strayed


@pytest.mark.parametrize("auroc", [0.0, 1.0])
def test_axes_end_at_0_and_100_percent(auroc):
    methods = [
        ComparedMethod(title, "logit", Estimate(auroc), Estimate(auroc)) for title in ("Energy", "MaxLogit")
    ]
    (axes,) = drawn(comparison_figure(methods, x_set="near", y_set="far")).axes
    assert 0 <= axes.get_xlim()[0] <= auroc <= axes.get_xlim()[1] <= 1
    assert 0 <= axes.get_ylim()[0] <= auroc <= axes.get_ylim()[1] <= 1
    assert all(holds(axes.bbox, text.get_window_extent()) for text in axes.texts)


def test_markers_and_whiskers_stand_at_the_figures_of_each_method():
    methods = [
        ComparedMethod("MSP", "probability", Estimate(0.7, 0.65, 0.72), Estimate(0.6)),
        ComparedMethod("ViM", "feature + logit", Estimate(0.9), Estimate(0.8, 0.79, 0.83)),
    ]
    figure = comparison_figure(methods, x_set="near", y_set="far")
    (axes,) = figure.axes
    lines = {(tuple(line.get_xdata()), tuple(line.get_ydata())): line for line in axes.lines}
    assert ((0.65, 0.72), (0.6, 0.6)) in lines
    assert ((0.9, 0.9), (0.79, 0.83)) in lines
    assert lines[(0.7,), (0.6,)].get_marker() == "D"
    assert lines[(0.9,), (0.8,)].get_marker() == "*"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("AUROC on near, %", "AUROC on far, %")
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["probability", "feature + logit", "95 % interval", "equal AUROC"]


def test_every_family_of_the_table_of_methods_has_a_marker():
    assert {method.family for method in METHODS} <= PRINTED.families.keys()
    assert len({marker for marker, _ in PRINTED.families.values()}) == len(PRINTED.families)
    assert len({colour for _, colour in PRINTED.families.values()}) == len(PRINTED.families)


def test_a_lone_label_goes_to_the_right_and_leaves_where_there_is_no_room():
    arguments = {"sizes": np.array([[20.0, 6.0]]), "point_radius": 2.0, "bars": np.empty((0, 4))}
    boxes, _ = place_labels(np.array([[50.0, 50.0]]), bounds=(0, 0, 100, 100), **arguments)
    assert boxes[0].tolist() == pytest.approx([50 + 2 + 0.35 * 6, 47, 50 + 2 + 0.35 * 6 + 20, 53])
    boxes, _ = place_labels(np.array([[95.0, 50.0]]), bounds=(0, 0, 100, 100), **arguments)
    assert boxes[0][2] <= 100
    assert boxes[0][1] >= 50 or boxes[0][3] <= 50 or boxes[0][2] <= 93


# The folder


def test_folder_gets_a_picture_a_method_an_ood_set_and_a_pair(results_dir, tmp_path):
    result = plot_results(results_dir, tmp_path / "out")
    assert [path.name for path in result.paths] == [
        "histogram-msp.png",
        "histogram-max_logit.png",
        "histogram-vim.png",
        "roc-far.png",
        "roc-near.png",
        "auroc-near-against-far.png",
    ]
    assert sorted(result.paths) == sorted((tmp_path / "out").iterdir())
    assert result.left_out == ()


def test_against_and_methods_choose_what_is_drawn(results_dir, tmp_path):
    result = plot_results(results_dir, tmp_path / "out", against="near", methods=["vim"])
    assert [path.name for path in result.paths] == [
        "histogram-vim.png",
        "roc-far.png",
        "roc-near.png",
        "auroc-far-against-near.png",
    ]


def test_with_one_ood_set_the_comparison_is_left_out_with_its_reason(tmp_path):
    write_folder(tmp_path / "scores", scores_of({"imagenet": 50, "far": 3}), val="imagenet")
    result = plot_results(tmp_path / "scores", tmp_path / "out", val="imagenet")
    assert [path.name for path in result.paths][-1] == "roc-far.png"
    assert result.left_out == (
        f"AUROC of one OOD set against another: far is the only OOD set of {tmp_path / 'scores'}",
    )


def test_a_plan_lists_what_the_run_then_writes_and_draws_nothing(results_dir, tmp_path, capsys):
    arguments = ["plot", "--scores", str(results_dir), "--against", "near", "--workspace", str(tmp_path)]
    assert cli.run([*arguments, "--dry-run", "--json"]) == 0
    told = capsys.readouterr()
    assert not (results_dir / "plots").exists()
    assert told.err == ""
    planned = json.loads(told.out)["plan"]
    assert (planned["n_due"], planned["unit"]) == (6, "pictures")
    assert cli.run(arguments) == 0
    assert sorted(planned["writes"]) == sorted(map(str, (results_dir / "plots").iterdir()))


def test_a_plan_refuses_and_leaves_out_what_the_run_does(tmp_path):
    write_folder(tmp_path / "scores", scores_of({"val": 50, "far": 3}))
    assert plan_plots(tmp_path / "scores", tmp_path / "out").notes == [
        f"left out: AUROC of one OOD set against another: far is the only OOD set of {tmp_path / 'scores'}"
    ]
    with pytest.raises(InputError, match="plot against near: expected an OOD set, one of far"):
        plan_plots(tmp_path / "scores", tmp_path / "out", against="near")


@pytest.mark.parametrize("file_format", FORMATS)
def test_second_run_ends_in_the_same_bytes_whatever_the_users_own_style(results_dir, tmp_path, file_format):
    contents = []
    for style in ({}, {"font.size": 20, "svg.hashsalt": None, "savefig.dpi": 40, "axes.grid": True}):
        with mpl.rc_context(style):
            before = dict(mpl.rcParams)
            result = plot_results(results_dir, tmp_path / "out", methods=["vim", "msp"], file_format=file_format)
            assert dict(mpl.rcParams) == before
        contents.append([path.read_bytes() for path in result.paths])
    assert contents[0] == contents[1]


def test_picture_does_not_depend_on_the_order_of_rows(results_dir, tmp_path):
    first = plot_results(results_dir, tmp_path / "first", methods=["vim", "msp"])
    table = pq.read_table(results_dir / "scores.parquet")
    # Each set is shuffled; the sets stay in their order, in which they are drawn.
    order = np.lexsort([np.random.default_rng(8).random(len(table)), np.repeat([0, 1, 2], list(SETS.values()))])
    pq.write_table(table.take(order), results_dir / "scores.parquet")
    second = plot_results(results_dir, tmp_path / "second", methods=["vim", "msp"])
    assert [path.read_bytes() for path in first.paths] == [path.read_bytes() for path in second.paths]


def test_failed_write_keeps_the_old_picture_and_leaves_no_other_file(results_dir, tmp_path, monkeypatch):
    old = plot_results(results_dir, tmp_path / "out").paths[0].read_bytes()
    n_files = len(list((tmp_path / "out").iterdir()))

    def half_written(figure, path, **options):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", half_written)
    with pytest.raises(OSError, match="disk full"):
        plot_results(results_dir, tmp_path / "out")
    assert (tmp_path / "out" / "histogram-msp.png").read_bytes() == old
    assert len(list((tmp_path / "out").iterdir())) == n_files


def test_results_are_those_of_the_files(results_dir):
    scores = scores_of(SETS)
    results = read_results(results_dir, methods=["vim", "msp"])
    assert [method.name for method in results.methods] == ["msp", "vim"]
    assert results.ood_sets == ("far", "near")
    assert results.in_scores["vim"].tolist() == scores["val"]["vim"].tolist()
    assert results.out_scores["near"]["msp"].tolist() == scores["near"]["msp"].tolist()
    is_out = np.r_[np.zeros(300), np.ones(90)]
    expected = sklearn_metrics.roc_auc_score(is_out, np.r_[scores["val"]["vim"], scores["far"]["vim"]])
    found = results.aurocs["vim", "far"]
    assert (found.value, found.low) == pytest.approx((expected, expected - 0.03), abs=1e-12)


def test_empty_interval_cells_are_no_interval(results_dir):
    path = results_dir / "results.csv"
    with path.open(newline="") as stream:
        rows = [row | {"auroc_low": "", "auroc_high": ""} for row in csv.DictReader(stream)]
    write_csv(path, rows)
    assert {(found.low, found.high) for found in read_results(results_dir).aurocs.values()} == {(None, None)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"val": "imagenet"},
            r"expected the ID set imagenet and at least one OOD set, found val, far, near; name",
        ),
        ({"against": "texture"}, "plot against texture: expected an OOD set, one of far, near"),
        ({"against": "val"}, "plot against val: expected an OOD set, one of far, near"),
        ({"methods": ["knn2"]}, r"holds no scores of method 'knn2'; its methods: msp, max_logit, vim"),
        ({"methods": ["vim", "vim"]}, "methods to plot: expected at least one, each once, found vim, vim"),
        ({"methods": []}, "methods to plot: expected at least one, each once, found none"),
        ({"file_format": "gif"}, "format of the plots: expected one of png, svg, pdf, found 'gif'"),
    ],
)
def test_wrong_arguments_are_refused_and_write_nothing(results_dir, tmp_path, arguments, message):
    with pytest.raises(InputError, match=message):
        plot_results(results_dir, tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["scores.parquet", "results.csv"])
def test_missing_file_is_refused(results_dir, tmp_path, name):
    (results_dir / name).unlink()
    with pytest.raises(StageMissingError, match=rf"{name}: no such file; run the stage 'score' first"):
        plot_results(results_dir, tmp_path / "out")


def replaced(table: pa.Table, name: str, column: pa.Array) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), name, column)


def with_cell(table: pa.Table, name: str, row: int, value) -> pa.Table:
    cells = table.column(name).to_pylist()
    cells[row] = value
    return replaced(table, name, pa.array(cells, table.schema.field(name).type))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda t: t.rename_columns(["image_id", "set", "msp", "odin9", "vim"]),
            "column odin9 is no known method",
        ),
        (
            lambda t: t.drop_columns(["set"]),
            "expected columns image_id, set and one a method, found image_id, msp",
        ),
        (lambda t: t.append_column("vim", t.column("vim")), "expected columns image_id, set and one a method"),
        (
            lambda t: replaced(t, "vim", t.column("vim").cast(pa.float32())),
            "column vim should be double, is float",
        ),
        (lambda t: with_cell(t, "vim", 301, float("nan")), "method vim has 1 scores .* image far_1 of set far"),
        (lambda t: with_cell(t, "vim", 2, float("inf")), "method vim has 1 scores .* image val_2 of set val"),
        (lambda t: with_cell(t, "msp", 2, None), "method msp has 1 scores .* image val_2 of set val"),
        (lambda t: with_cell(t, "set", 2, None), "1 rows have no set"),
        (lambda t: with_cell(t, "image_id", 2, "val_1"), "1 rows of set val repeat an image_id"),
        (lambda t: with_cell(t, "set", 2, "../up"), r"name of a set: expected letters.*found '\.\./up'"),
        (lambda t: t.slice(0, 0), "expected the ID set val and at least one OOD set, found no row"),
        (lambda t: t.slice(0, 300), "expected the ID set val and at least one OOD set, found val;"),
        (
            lambda t: t.slice(0, 400),
            r"AUROC of \w+ on near is [\d.]+ in results.csv, but [\d.]+ by scores.parquet",
        ),
    ],
)
def test_damaged_scores_are_refused(results_dir, tmp_path, damage, message):
    table = damage(pq.read_table(results_dir / "scores.parquet"))
    pq.write_table(table, results_dir / "scores.parquet")
    with pytest.raises(InputError, match=message):
        plot_results(results_dir, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_file_that_is_no_parquet_is_refused(results_dir, tmp_path):
    (results_dir / "scores.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(TableError, match=r"scores\.parquet: cannot be read as Parquet"):
        plot_results(results_dir, tmp_path / "out")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected columns method, set, auroc, found none"),
        ("method,set,fpr95\nvim,far,0.5\n", "expected columns method, set, auroc, found method, set, fpr95"),
        ("method,set,auroc\nvim,far\n", "line 2: expected 3 cells"),
        ("method,set,auroc\nvim,far,0.5,1\n", "line 2: expected 3 cells"),
        ("method,set,auroc\nvim,far,half\n", "line 2: auroc is no number: 'half'"),
        ("method,set,auroc\nvim,far,nan\n", r"line 2: expected auroc in \[0, 1\], found nan"),
        ("method,set,auroc\nvim,far,77\n", r"line 2: expected auroc in \[0, 1\], found 77"),
        ("method,set,auroc\nvim,far,\n", "line 2: expected auroc, and auroc_low with auroc_high or neither"),
        ("method,set,auroc,auroc_low\nvim,far,0.5,0.4\n", "line 2: expected auroc, and auroc_low with auroc_high"),
        ("method,set,auroc\nvim,far,0.5\nvim,far,0.5\n", "line 3: method vim on set far for the second time"),
        ("method,set,auroc\nvim,far,0.5\n", "no line for method msp on set far; run the stage 'score' again"),
        ('method,set,auroc\n"vim,far,0.5\n', "cannot be read as CSV"),
    ],
)
def test_damaged_figures_are_refused(results_dir, tmp_path, text, message):
    (results_dir / "results.csv").write_text(text)
    with pytest.raises(TableError, match=message):
        plot_results(results_dir, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_figures_of_another_run_are_refused(results_dir, tmp_path):
    write_folder(results_dir, scores_of(SETS), figures={("vim", "near"): 0.5})
    with pytest.raises(TableError, match=r"AUROC of vim on near is 0\.5 in results\.csv, but 0\.\d+ by scores"):
        plot_results(results_dir, tmp_path / "out")
