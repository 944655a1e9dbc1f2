import csv
import itertools
import json
import math
import re
import statistics

import matplotlib as mpl
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from manifests import schema
from manifests.label_space import ClassName, write_label_space
from manifests.report.parts import BEST, SECOND, Chart, Gallery, Table, Text
from manifests.workspace import Workspace
from scoring.feature_sets import feature_set_writer
from scoring.figures import percent_with_interval
from scoring.heads import Head, write_head
from scoring.lineage import head_digest
from scoring.metrics import METRIC_NAMES
from scoring.plots.combination import LOGIT, N_POINTS, combination_figure, drawn_points
from scoring.plots.histogram_grid import histogram_grid
from scoring.plots.results import read_results
from scoring.report import sections
from scoring.report.charts import chart_parts
from scoring.report.extremes import best_of_each_family, extremes_of
from scoring.report.galleries import gallery_parts
from scoring.report.result_tables import result_parts
from scoring.report.scored_model import ScoredModel, read_scored_model

SETS = {"val": 60, "far": 40, "near": 30}
HEAD = Head(torch.eye(3), torch.zeros(3))
ALPHA = 2.0


def scores_of(sets=SETS, seed=0) -> dict[str, dict[str, np.ndarray]]:
    random = np.random.default_rng(seed)
    found = {}
    for place, (name, n) in enumerate(sets.items()):
        energy, residual = random.normal(2 * place, 1, n), random.gamma(4, 1 + place, n)
        # Steps, so that images tie.
        msp = np.round(random.normal(place, 1, n), 1)
        found[name] = {"msp": msp, "energy": energy, "residual": residual, "vim": ALPHA * residual + energy}
    return found


def ids_of(name, n) -> list[str]:
    return [f"{name}_{number:03d}" for number in range(n)]


def naive_metrics(in_scores, out_scores) -> dict[str, float]:
    """AUROC and both FPR95 by counting pairs and images one by one."""
    pairs = list(itertools.product(in_scores.tolist(), out_scores.tolist()))
    in_threshold = sorted(in_scores)[int(0.95 * len(in_scores)) - 1]
    out_threshold = sorted(out_scores, reverse=True)[-(-95 * len(out_scores) // 100) - 1]
    return {
        "auroc": sum((out > inside) + (out == inside) / 2 for inside, out in pairs) / len(pairs),
        "aupr_in": 0.5,
        "aupr_out": 0.5,
        "fpr95_in": float(np.mean(out_scores <= in_threshold)),
        "fpr95_out": float(np.mean(in_scores >= out_threshold)),
    }


def write_scores(folder, scores, *, half_width=None, figures=None, order=None, **record) -> None:
    """A folder as `score` leaves it; `figures` replaces metrics, `order` the order of rows."""
    folder.mkdir(parents=True, exist_ok=True)
    methods = list(scores["val"])
    table = pa.table(
        {
            "image_id": [one for name, found in scores.items() for one in ids_of(name, len(found[methods[0]]))],
            "set": [name for name, found in scores.items() for _ in found[methods[0]]],
            **{method: np.concatenate([found[method] for found in scores.values()]) for method in methods},
        }
    )
    pq.write_table(table if order is None else table.take(order), folder / "scores.parquet")
    ood_sets = [name for name in scores if name != "val"]
    rows = []
    for method, name in itertools.product(methods, ood_sets):
        found = naive_metrics(scores["val"][method], scores[name][method]) | (figures or {}).get(
            (method, name), {}
        )
        if half_width:
            found |= {f"{metric}_low": found[metric] - half_width for metric in METRIC_NAMES}
            found |= {f"{metric}_high": found[metric] + half_width for metric in METRIC_NAMES}
        rows.append({"method": method, "set": name, **found})
    with (folder / "results.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    whole = {
        "lineage": {"model": {"head_sha256": head_digest(HEAD)}, "manifests": {}},
        "sets": {"train": "train", "val": "val", "fit_val": None, "ood": ood_sets},
        "n_images": {name: len(found[methods[0]]) for name, found in scores.items()},
        "mode": "authors", "options": {}, "fitted": {"alpha": ALPHA, "D": 2}, "refused": {}, "warnings": [],
        "bootstrap": {"n_draws": 0, "seed": 0}, "n_known_in": {}, "contamination": {}, **record,
    }  # fmt: skip
    (folder / "score.json").write_text(json.dumps(whole))


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return Workspace(tmp_path / "workspace")


@pytest.fixture
def scores_dir(workspace):
    write_scores(workspace.scores_dir / "tiny", scores_of())
    return workspace.scores_dir / "tiny"


def model_in(workspace) -> ScoredModel:
    return read_scored_model(workspace.scores_dir / "tiny", "scores-tiny")


def results_in(workspace, kind) -> list:
    return [part for part in result_parts(workspace, model_in(workspace)) if isinstance(part, kind)]


def charts_in(workspace, kind=Chart) -> list:
    return [part for part in chart_parts(model_in(workspace)) if isinstance(part, kind)]


def galleries_in(workspace, kind=Gallery) -> list:
    return [part for part in gallery_parts(workspace, model_in(workspace)) if isinstance(part, kind)]


def of_one_set(name="vim") -> dict[str, dict[str, np.ndarray]]:
    return {one: {name: found[name]} for one, found in scores_of({"val": 60, "far": 40}).items()}


def words(figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(mpl.text.Text))


# Sections


def test_without_scores_the_section_names_the_commands_that_make_them(workspace):
    (section,) = sections(workspace)
    assert (section.key, section.parts) == ("scores", ())
    assert "`python cli.py score --ood SET`" in section.missing


def test_every_scored_model_has_a_section_and_an_anchor_of_its_own(workspace):
    for name in ("ResNet.50", "resnet-50", "vit"):
        write_scores(workspace.scores_dir / name, of_one_set())
    found = sections(workspace)
    assert [section.title for section in found] == ["Scores: ResNet.50", "Scores: resnet-50", "Scores: vit"]
    assert [section.key for section in found] == ["scores-resnet-50", "scores-resnet-50-2", "scores-vit"]


def test_scoring_that_was_killed_is_said_to_be_unfinished(workspace, scores_dir):
    (scores_dir / "score.json").unlink()
    (section,) = sections(workspace)
    assert section.missing.startswith("Scoring was not finished: score.json is not there")


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (
            lambda folder: (folder / "score.json").write_text("{"),
            "score.json: not the record of the stage 'score'",
        ),
        (
            lambda folder: (folder / "score.json").write_text("[]"),
            "score.json: not the record of the stage 'score'",
        ),
        (lambda folder: (folder / "results.csv").unlink(), "results.csv: no such file"),
        (
            lambda folder: write_scores(folder, scores_of(), figures={("vim", "far"): {"auroc": 0.5}}),
            "not of one run",
        ),
        (
            lambda folder: write_scores(folder, scores_of(), sets={"val": "val", "ood": ["far"]}),
            "is of the OOD sets far, but the scores of far, near",
        ),
    ],
)
def test_damaged_model_says_so_in_its_place_and_the_others_are_shown(workspace, scores_dir, damage, problem):
    write_scores(workspace.scores_dir / "whole", of_one_set())
    damage(scores_dir)
    broken, whole = sections(workspace)
    assert problem in broken.problem
    assert not broken.parts
    assert whole.problem is None
    assert any(isinstance(part, Chart) for part in whole.parts)


def test_sections_do_not_depend_on_the_order_of_rows(workspace, scores_dir):
    first = sections(workspace)
    order = np.random.default_rng(5).permutation(sum(SETS.values()))
    write_scores(scores_dir, scores_of(), order=order)
    assert sections(workspace) == first


# Tables


def test_results_stand_in_the_layout_of_table_2(workspace, scores_dir):
    table, out_table = results_in(workspace, Table)[:2]
    assert table.header == ("source", "method", *("AUROC ↑", "fpr95_in ↓") * 3)
    assert table.groups == (("", 2), ("far", 2), ("near", 2), ("average", 2))
    assert [row[:2] for row in table.rows] == [
        ("probability", "MSP"), ("logit", "Energy"), ("feature", "Residual"), ("feature + logit", "ViM"),
    ]  # fmt: skip
    scores = scores_of()
    for row, method in zip(table.rows, ("msp", "energy", "residual", "vim"), strict=True):
        found = [naive_metrics(scores["val"][method], scores[name][method]) for name in ("far", "near")]
        shown = [one[metric] for one in found for metric in ("auroc", "fpr95_in")]
        means = [statistics.mean(one[metric] for one in found) for metric in ("auroc", "fpr95_in")]
        assert row[2:] == tuple(f"{100 * value:.2f}" for value in (*shown, *means))
        assert out_table.rows[[one[1] for one in out_table.rows].index(row[1])][2:4] == tuple(
            f"{100 * one['fpr95_out']:.2f}" for one in found
        )
    assert out_table.header[2:] == ("fpr95_out ↓",) * 3


def test_best_and_second_best_are_marked_and_equal_ones_share_a_mark(workspace, scores_dir):
    values = {"msp": 0.25, "energy": 0.5, "residual": 0.25, "vim": 0.75}
    same = {(method, name): {"fpr95_out": value} for method, value in values.items() for name in ("far", "near")}
    write_scores(scores_dir, scores_of(), figures=same)
    table = results_in(workspace, Table)[1]
    for column in (2, 3, 4):
        marks = {table.rows[row][1]: mark for (row, place), mark in table.marks.items() if place == column}
        assert marks == {"MSP": BEST, "Residual": BEST, "Energy": SECOND}
    # AUROC: the highest is the best.
    results = results_in(workspace, Table)[0]
    far = [float(row[2]) for row in results.rows]
    assert results.marks[int(np.argmax(far)), 2] == BEST
    assert results.marks[int(np.argsort(far)[-2]), 2] == SECOND


def test_one_method_has_nothing_to_be_compared_with(workspace, scores_dir):
    write_scores(scores_dir, {name: {"vim": found["vim"]} for name, found in scores_of().items()})
    table = results_in(workspace, Table)[0]
    assert table.marks == {}
    assert "marked" not in table.caption


def test_half_the_width_of_an_interval_stands_beside_its_figure(workspace, scores_dir):
    flat = {("vim", "far"): {"fpr95_in": 0.5, "fpr95_out": 0.5}}
    write_scores(scores_dir, of_one_set(), figures=flat, half_width=0.012)
    (table,) = results_in(workspace, Table)
    assert table.rows[0][3:] == ("50.00 ±1.2", "50.00 ±1.2")
    # All three metrics side by side, and no average over a single set.
    assert table.groups == (("", 2), ("far", 3))


def test_an_interval_that_would_pass_a_bound_is_told_by_its_ends(workspace, scores_dir):
    # The AUROC has to stay that of the scores. 98 % and 1.2 on either side stay below a hundred.
    figures = {("vim", "far"): {
        "fpr95_in": 1.0, "fpr95_in_low": 0.9941, "fpr95_in_high": 1.0,
        "fpr95_out": 0.98, "fpr95_out_low": 0.968, "fpr95_out_high": 0.992,
    }}  # fmt: skip
    write_scores(scores_dir, of_one_set(), figures=figures)
    (table,) = results_in(workspace, Table)
    assert table.rows[0][3:] == ("100.00 [99.41, 100.00]", "98.00 ±1.2")


@pytest.mark.parametrize(
    ("value", "ends", "said"),
    [
        (0.5, None, "50.00"), (0.5, (0.488, 0.512), "50.00 ±1.2"), (0.01, (0.0, 0.02), "1.00 ±1.0"),
        (0.0, (0.0, 0.004), "0.00 [0.00, 0.40]"), (1.0, (1.0, 1.0), "100.00 ±0.0"),
        # Half a width of 0.05 is printed as 0.1, and 99.92 and 0.1 are more than a hundred.
        (0.99925, (0.9987, 0.9998), "99.92 [99.87, 99.98]"),
    ],
)  # fmt: skip
def test_a_figure_never_leaves_0_to_100_as_it_is_printed(value, ends, said):
    assert percent_with_interval(value, ends) == said


def test_how_many_images_95_percent_are_is_told(workspace, scores_dir):
    sizes = {name: len(found["vim"]) for name, found in scores_of().items()}
    (text,) = [one.text for one in results_in(workspace, Text) if "two meanings" in one.text]
    n_in = sizes.pop("val")
    assert f"{math.floor(0.95 * n_in)} of {n_in}." in text
    for name, n_out in sizes.items():
        assert f"{math.ceil(0.95 * n_out)} of {n_out} of {name}" in text


def test_methods_left_out_and_warnings_are_told(workspace, scores_dir):
    write_scores(scores_dir, scores_of(), refused={"neco": "expected 0 < dim < 96"}, warnings=["alpha is odd"])
    table = results_in(workspace, Table)[-1]
    assert table.header == ("method", "reason")
    assert list(table.rows) == [("NECO", "expected 0 < dim < 96")]
    assert "Note: alpha is odd." in [part.text for part in results_in(workspace, Text)]


def test_figures_without_known_in_images_are_shown_beside_those_of_all(workspace, scores_dir):
    write_scores(scores_dir, scores_of(), n_known_in={"far": 3, "near": 0})
    rows = [
        {"method": method, "set": name, **dict.fromkeys(METRIC_NAMES, 0.125)}
        for method in ("msp", "energy", "residual", "vim")
        for name in ("far", "near")
    ]
    with (scores_dir / "results.without_known_in.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    table = results_in(workspace, Table)[2]
    assert table.caption.startswith("Without the images known to be in distribution (3 of far, 0 of near)")
    assert {cell for row in table.rows for cell in row[2:]} == {"12.50"}


def test_contamination_given_to_score_limits_the_figures(workspace, scores_dir):
    write_scores(scores_dir, scores_of(), contamination={"far": {"rate": 0.1, "low": 0.05, "high": 0.2}})
    table = next(one for one in results_in(workspace, Table) if one.header[0] == "OOD set")
    # 1 - rate / 2, 0.95 rate and (rate - 0.05) / rate.
    assert table.rows[0] == (
        "far", "10.00 [5.00, 20.00]", "95.00 [90.00, 97.50]", "9.50 [4.75, 19.00]", "50.00 [0.00, 75.00]",
        "as given to score",
    )  # fmt: skip
    assert table.rows[1] == ("near", "—", "—", "—", "—", "not made of a manifest")


def certified_header(digest) -> dict:
    certificate = {
        "audit": "a", "manifest": "far-1.0.0", "content_sha256": digest, "n_images": 40, "goal": {},
        "n_earlier": 0, "seed": 0, "confidence": 0.95, "confidence_of_all": 0.95, "bound": 0.1, "looks": [],
        "n_looks_taken": 1, "n_sample": 20, "n_defects": 1, "n_difficult": 0, "defects": ["x"], "difficult": [],
        "known_defects": [],
        "upper_bound": 0.2, "upper_bound_with_difficult": 0.2, "n_defects_possible": 8, "is_certified": False,
        "strata": {}, "other_audits": [], "answers_sha256": "b",
    }  # fmt: skip
    return {"name": "far", "version": "1.0.0", "content_sha256": digest, "certificate": certificate}


def test_certificate_of_the_manifest_limits_the_figures_unless_its_records_changed(workspace, scores_dir):
    folder = workspace.manifests_dir / "far-1.0.0"
    folder.mkdir(parents=True)
    of_manifest = {"name": "far-1.0.0", "content_sha256": "d" * 64}
    lineage = {"model": {"head_sha256": "h"}, "manifests": {"far": of_manifest, "near": None}}
    write_scores(scores_dir, scores_of(), lineage=lineage)
    (folder / "manifest.json").write_text(json.dumps(certified_header("d" * 64)))
    table = next(one for one in results_in(workspace, Table) if one.header[0] == "OOD set")
    # One defect of 20, and at most a fifth of all.
    assert table.rows[0] == (
        "far", "5.00 [0.00, 20.00]", "97.50 [90.00, 100.00]", "4.75 [0.00, 19.00]", "0.00 [0.00, 75.00]",
        "certificate of far-1.0.0",
    )  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(certified_header("e" * 64)))
    (unknown,) = (part.text for part in results_in(workspace, Text) if "contamination" in part.text)
    assert "far: far-1.0.0 has other records now than when it was scored" in unknown


# Charts


def test_charts_are_drawn_in_the_colours_of_the_page_and_keep_their_words(workspace, scores_dir):
    charts = charts_in(workspace)
    assert len(charts) == 1 + 1 + 2 + 2  # Comparison, combination, ROC curves, histograms.
    for chart in charts:
        assert "var(--series-1)" in chart.svg
        assert "#0102" not in chart.svg
        assert set(re.findall(r"#[0-9a-f]{6}\b", chart.svg)) <= {"#000000", "#ffffff"}
        assert "ViM" in chart.svg
        assert chart.caption
        assert chart.description
    # Ids within a drawing refer to that drawing.
    ids = [set(re.findall(r'id="([^"]+)"', chart.svg)) for chart in charts]
    assert all(one.isdisjoint(other) for one, other in itertools.combinations(ids, 2))


def test_one_ood_set_has_no_comparison_and_says_so(workspace, scores_dir):
    write_scores(scores_dir, of_one_set())
    assert len(charts_in(workspace)) == 2  # ROC curves and histograms.
    assert "AUROC on one OOD set against another: far is the only OOD set." in [
        part.text for part in charts_in(workspace, Text)
    ]


def test_dots_are_some_of_the_images_whatever_their_order():
    random = np.random.default_rng(3)
    scores = {"energy": random.normal(size=2500), "residual": random.gamma(2, 1, 2500)}
    drawn = drawn_points(scores)
    assert len(drawn) == N_POINTS
    all_points = set(zip(scores["energy"].tolist(), scores["residual"].tolist(), strict=True))
    assert len({tuple(point) for point in drawn.tolist()} & all_points) == N_POINTS
    order = random.permutation(2500)
    shuffled = drawn_points({name: values[order] for name, values in scores.items()})
    assert drawn.tolist() == shuffled.tolist()
    few = {name: values[:7] for name, values in scores.items()}
    assert sorted(map(tuple, drawn_points(few).tolist())) == sorted(zip(*few.values(), strict=True))


def test_lines_of_the_combination_keep_95_percent_of_id(workspace, scores_dir):
    scores = scores_of()["val"]
    figure = combination_figure(read_results(scores_dir), alpha=ALPHA)
    for axes in figure.axes:
        upright, level, slanted = axes.lines
        n_kept = int(0.95 * SETS["val"])
        assert (scores["energy"] <= upright.get_xdata()[0]).sum() == n_kept
        assert (scores["residual"] <= level.get_ydata()[0]).sum() == n_kept
        (left, right), (at_left, at_right) = slanted.get_data()
        height = at_left + (at_right - at_left) * (scores["energy"] - left) / (right - left)
        # One image lies on the line itself.
        assert (scores["residual"] <= height + 1e-9).sum() == n_kept
    assert [axes.get_title().split(" (")[0] for axes in figure.axes] == ["far", "near"]


def test_line_of_vim_is_not_drawn_where_the_two_do_not_add_up_to_it(scores_dir):
    figure = combination_figure(read_results(scores_dir), alpha=ALPHA + 0.5)
    assert all(len(axes.lines) == 2 for axes in figure.axes)
    assert "kept by ViM" not in words(figure)


def test_combination_is_few_elements_whatever_the_number_of_images(workspace, scores_dir):
    write_scores(scores_dir, scores_of({"val": 700, "far": 500, "near": 600}))
    chart = next(part for part in charts_in(workspace) if "What ViM combines" in part.caption)
    assert chart.svg.count("<path") + chart.svg.count("<use") < 150
    assert "700 of 700 of val, 500 of 500 of far, 600 of 600 of near" in chart.caption


def test_combination_without_residual_is_left_out_with_its_reason(workspace, scores_dir):
    write_scores(scores_dir, of_one_set(LOGIT))
    assert not [part for part in charts_in(workspace) if "ViM combines" in part.caption]
    assert "Residual against Energy: needs the scores of both." in [
        part.text for part in charts_in(workspace, Text)
    ]


def test_histograms_of_all_methods_stand_best_first_with_what_they_do_not_show(scores_dir):
    scores = scores_of()
    scores["far"]["residual"] = np.r_[scores["far"]["residual"][:37], [9e3, 1e4, 1e5]]
    scores["far"]["vim"] = scores["far"]["residual"]
    write_scores(scores_dir, scores)
    figure = histogram_grid(read_results(scores_dir), "far")
    shares = [float(axes.get_title(loc="right")) for axes in figure.axes]
    assert shares == sorted(shares, reverse=True)
    expected = {"Energy": "energy", "Residual": "residual", "MSP": "msp", "ViM": "vim"}
    for axes in figure.axes:
        method = expected[axes.get_title(loc="left")]
        auroc = naive_metrics(scores["val"][method], scores["far"][method])["auroc"]
        assert axes.get_title(loc="right") == f"{100 * auroc:.1f}"
        assert axes.get_xlabel() == ("beyond: 3 OOD" if method == "residual" else axes.get_xlabel())
    assert "ID: val (60)" in words(figure)


# Galleries


def test_extremes_are_the_images_that_a_method_gets_most_wrong(scores_dir):
    results = read_results(scores_dir)
    scores = scores_of()
    msp = next(method for method in results.methods if method.name == "msp")
    far, near, val = extremes_of(results, msp, n_images=9)
    assert [one.set_name for one in (far, near, val)] == ["far", "near", "val"]
    for found, sign in ((far, 1), (near, 1), (val, -1)):
        values = scores[found.set_name]["msp"].tolist()
        expected = sorted(
            zip(values, ids_of(found.set_name, len(values)), strict=True), key=lambda one: (sign * one[0], one[1])
        )
        assert [(one.ood_score, one.image_id) for one in found.images] == expected[:9]
        assert [one.n_in_below for one in found.images] == [
            sum(value < one.ood_score for value in scores["val"]["msp"]) for one in found.images
        ]
    assert len(extremes_of(results, msp, n_images=500)[1].images) == SETS["near"]


@pytest.mark.parametrize(
    ("n_in_below", "told"),
    [(0, "0 of 50,000 ID images (0.0 %)"), (49_999, "49,999 of 50,000 ID images (99.998 %)")],
)
def test_place_among_id_images_is_not_rounded_to_none_or_all(workspace, scores_dir, n_in_below, told):
    many = {"val": 50_000, "far": 1}
    scores = {name: {"energy": np.arange(n, dtype=float)} for name, n in many.items()}
    scores["far"]["energy"] += n_in_below - 0.5
    figures = {("energy", "far"): {"auroc": n_in_below / 50_000}}
    write_scores(scores_dir, scores, figures=figures)
    table = galleries_in(workspace, Table)[0]
    assert table.rows[0][2] == f"above {told}"


def test_best_method_of_each_family_is_that_of_the_best_average(scores_dir):
    scores = scores_of()
    for found in scores.values():
        found["max_logit"] = -found["energy"]
    write_scores(scores_dir, scores)
    assert [method.name for method in best_of_each_family(read_results(scores_dir))] == [
        "msp", "energy", "residual", "vim",
    ]  # fmt: skip


def write_features(workspace, set_name, classes) -> list[int]:
    """Features whose largest logit is known: the class is the largest of three, with the identity as head."""
    random = np.random.default_rng(len(set_name))
    features = random.normal(size=(SETS[set_name], 3)).astype(np.float32)
    path = workspace.features_dir / "tiny" / f"{set_name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    with feature_set_writer(path, 3) as writer:
        writer.write(ids_of(set_name, len(features)), classes, torch.from_numpy(features))
    return features.argmax(axis=1).tolist()


def write_downloads(workspace, image_ids, rotation_deg) -> None:
    candidates = [
        {
            "image_id": one,
            "subset": "test",
            "url": f"https://mirror.invalid/{one}.jpg",
            "rotation_deg": rotation_deg,
        }
        for one in image_ids
    ]
    downloads = [
        {
            "image_id": one, "status": "ok", "attempts": 1, "sha256": "0" * 64, "size_bytes": 1, "width_px": 4,
            "height_px": 3, "path": workspace.relative_image_path(one),
        }
        for one in image_ids
    ]  # fmt: skip
    workspace.write(schema.CANDIDATES, candidates)
    workspace.write(schema.DOWNLOADS, downloads)


@pytest.fixture
def pictured(workspace, scores_dir, tmp_path):
    """The set val out of a folder, far out of the workspace, near made elsewhere."""
    write_head(workspace.features_dir / "tiny", HEAD)
    (tmp_path / "imagenet" / "cat").mkdir(parents=True)
    for image_id in ids_of("val", SETS["val"]):
        (tmp_path / "imagenet" / "cat" / f"{image_id}.JPEG").write_bytes(b"")
    write_downloads(workspace, ids_of("far", SETS["far"]), 90)
    for set_name, arguments in (("val", {"images": str(tmp_path / "imagenet")}), ("far", {})):
        with workspace.stage("extract-features", arguments, record_as=f"extract-features.tiny.{set_name}"):
            pass
    with workspace.stage("score", {}, [workspace.features_dir / "tiny/head.safetensors"], record_as="score.tiny"):
        pass
    write_label_space(
        workspace.classes_path, [ClassName(place, name) for place, name in enumerate(("cat", "dog", "sea"))]
    )
    return {
        "val": write_features(workspace, "val", [number % 3 for number in range(SETS["val"])]),
        "far": write_features(workspace, "far", [None] * SETS["far"]),
    }


def gallery_named(workspace, start) -> Gallery:
    return next(part for part in galleries_in(workspace) if part.name.startswith(start))


def test_cards_show_picture_score_place_and_classes(workspace, pictured, tmp_path):
    scores, names = scores_of(), ("cat", "dog", "sea")
    gallery = gallery_named(workspace, "ViM: ID images that look most OOD (val)")
    best = int(np.argmax(scores["val"]["vim"]))
    (picture,) = gallery.cards[0].pictures
    assert picture.path == tmp_path / "imagenet" / "cat" / f"val_{best:03d}.JPEG"
    assert (picture.name, picture.rotation_deg) == (f"val_{best:03d}", None)
    predicted, own = pictured["val"][best], best % 3
    assert list(gallery.cards[0].lines) == [
        f"val_{best:03d}",
        f"score {scores['val']['vim'][best]:.4g}: above 59 of 60 ID images (98.3 %)",
        f"predicted: {names[predicted]} ({predicted})",
        f"its class: {names[own]} ({own})",
    ]
    assert len(gallery.cards) == 12
    assert gallery.caption == "The 12 of 60 images with the highest score, highest first."
    far = gallery_named(workspace, "ViM: OOD images that look most in-distribution (far)")
    worst = int(np.argmin(scores["far"]["vim"]))
    (picture,) = far.cards[0].pictures
    assert picture.path == workspace.root / workspace.relative_image_path(f"far_{worst:03d}")
    assert picture.rotation_deg == 90
    predicted = pictured["far"][worst]
    assert far.cards[0].lines[2:] == [f"predicted: {names[predicted]} ({predicted})"]
    n_let_through = int((scores["far"]["vim"] <= np.sort(scores["val"]["vim"])[56]).sum())
    assert far.caption.endswith(f"Where 95 % of ID images are kept, {n_let_through} of these are let through.")


def test_set_without_pictures_or_features_is_a_table_with_the_reason(workspace, pictured):
    tables = [one for one in galleries_in(workspace, Table) if one.header[0] == "image"]
    assert len(tables) == 4  # near, of the best method of each family.
    assert all("No pictures: " in one.caption and "(near)" in one.caption for one in tables)
    near = scores_of()["near"]["vim"]
    assert tables[-1].rows[0][:2] == (f"near_{int(near.argmin()):03d}", f"{near.min():.4g}")
    assert tables[-1].header == ("image", "score", "where it lies")
    assert tables[-1].caption.endswith("and none of them was downloaded here.")
    (note,) = (
        part.text
        for part in galleries_in(workspace, Text)
        if "is not known" in part.text and "near" in part.text and "classes" in part.text
    )
    assert "near.parquet: no such file" in note


def test_card_of_a_picture_that_was_deleted_stays_and_points_at_nothing(workspace, pictured, tmp_path):
    top = f"val_{int(np.argmax(scores_of()['val']['vim'])):03d}"
    (tmp_path / "imagenet" / "cat" / f"{top}.JPEG").unlink()
    gallery = gallery_named(workspace, "ViM: ID images that look most OOD (val)")
    assert gallery.cards[0].lines[0] == gallery.cards[0].pictures[0].name == top
    assert [card.pictures[0].path.exists() for card in gallery.cards] == [False, *[True] * 11]


def test_folder_of_pictures_that_is_gone_is_named(workspace, pictured, tmp_path):
    (tmp_path / "imagenet").rename(tmp_path / "moved")
    table = next(one for one in galleries_in(workspace, Table) if one.caption.startswith("MSP: ID images"))
    assert table.caption.endswith(f"No pictures: {tmp_path / 'imagenet'}: no such folder of pictures.")
    assert table.rows[0][3] != ""


def test_features_of_another_model_say_nothing_of_classes(workspace, pictured):
    other = workspace.features_dir / "tiny" / "head.safetensors"
    other.unlink()
    write_head(other.parent, Head(2 * torch.eye(3), torch.zeros(3)))
    assert any("no longer at hand" in part.text for part in galleries_in(workspace, Text))
    gallery = gallery_named(workspace, "ViM: ID images that look most OOD (val)")
    assert all(len(card.lines) == 2 for card in gallery.cards)


def test_features_of_scores_that_were_written_elsewhere_are_found_by_their_own_record(workspace, pictured):
    (workspace.root / "provenance" / "score.tiny.json").unlink()
    recorder = Workspace(workspace.scores_dir / "tiny")
    with recorder.stage("score", {}, [workspace.features_dir / "tiny/head.safetensors"], record_as="score.other"):
        pass
    gallery = gallery_named(workspace, "ViM: ID images that look most OOD (val)")
    assert gallery.cards[0].lines[2].startswith("predicted: ")


def test_classes_have_numbers_where_the_names_are_those_of_another_head(workspace, pictured):
    write_label_space(workspace.classes_path, [ClassName(place, name) for place, name in enumerate("abcd")])
    gallery = gallery_named(workspace, "ViM: ID images that look most OOD (val)")
    assert re.fullmatch(r"predicted: class [012]", gallery.cards[0].lines[2])
