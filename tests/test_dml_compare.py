"""The comparison of the losses of `train-dml`: what it prints and gives as data, whatever was found."""

import json

import numpy as np
import pytest

from scoring.dml.compare import (
    BASELINE,
    COSINE_BASELINE,
    DML_PLUS,
    METHODS,
    PUBLISHED,
    Comparison,
    compare,
    comparison_data,
    comparison_table,
)
from scoring.dml.history import EpochFigures
from scoring.dml.recipe import LOSSES
from scoring.figures import figures_of
from tests.two_models_world import scored, write_model

FEW_METHODS = (BASELINE, COSINE_BASELINE, DML_PLUS)


def epoch(wfc: float | None, cfc: float) -> EpochFigures:
    return EpochFigures(9, 0.0, 0.0, 0.5, 0.9, 0.8, wfc, cfc)


def compared(in_scores, out_scores, *, data_name="world", last=None, n_draws=50) -> Comparison:
    """The comparison of scores by method, the OOD ones by set too."""
    pair = (COSINE_BASELINE, DML_PLUS)
    figures = figures_of(in_scores, out_scores, n_draws=n_draws, baseline=BASELINE)
    beside = figures_of(
        {name: in_scores[name] for name in pair},
        {one: {name: scores[name] for name in pair} for one, scores in out_scores.items()},
        n_draws=n_draws, baseline=COSINE_BASELINE,
    )  # fmt: skip
    return Comparison(data_name, last or dict.fromkeys(LOSSES, epoch(1.0, 1.0)), figures, beside, 12.5)


def test_claims_say_what_was_found_whatever_it_is():
    rng = np.random.default_rng(0)
    in_scores = {name: rng.normal(size=300) for name in FEW_METHODS}
    out_scores = {BASELINE: rng.normal(size=200), COSINE_BASELINE: 4 + rng.normal(size=200)}
    out_scores[DML_PLUS] = 2 + rng.normal(size=200)
    last = {
        "linear": epoch(9.0, 9.0), "cosine": epoch(2.0, 3.0), "mcf": epoch(2.5, 4.0), "mnc": epoch(1.0, 2.0),
    }  # fmt: skip
    found = compared(in_scores, {"far": out_scores}, last=last)
    told = comparison_table(found)
    assert "CFC does not fall with focal loss: 3 to 4" in told
    assert "WFC falls with center loss: 2 to 1" in told
    lines = told.splitlines()
    for baseline, word, sign in ((BASELINE, "ahead", 1), (COSINE_BASELINE, "behind", -1)):
        title = f"AUROC of DML+ less that of {baseline}, percentage points, with 95 % interval"
        row = lines[lines.index(title) + 1].split()
        # Of each pair of pictures, how often the OOD one is ahead.
        aurocs = [np.mean(out_scores[one][:, None] > in_scores[one]) for one in (DML_PLUS, baseline)]
        assert row[:3] == ["far", word, f"{100 * (aurocs[0] - aurocs[1]):+.2f}"]
        assert sign * float(row[2]) > 5
    assert "published" not in told.lower()
    assert "average" not in told
    same = {"far": dict.fromkeys(FEW_METHODS, out_scores[BASELINE])}
    assert comparison_table(compared(dict.fromkeys(FEW_METHODS, in_scores[BASELINE]), same)).count(
        "\nfar  not told apart  +0.00  [+0.00, +0.00]"
    ) == 2  # fmt: skip
    undefined = compared(in_scores, {"far": out_scores}, last={**last, "mnc": epoch(None, 2.0)})
    assert "WFC with center loss: not defined" in comparison_table(undefined)


def test_what_max_logit_of_a_cosine_network_is_not_is_said_below_the_figures():
    scores = {name: np.arange(20.0) for name in FEW_METHODS}
    told = comparison_table(compared(scores, {"far": scores}))
    assert "\nmax_logit of cosine and of mcf: norm x cosine, of a norm that their loss never saw." in told


def test_published_figures_stand_beside_those_of_cifar_100():
    scores = {name: np.arange(20.0) + place for place, name in enumerate(FEW_METHODS)}
    told = comparison_table(compared(scores, {"svhn": scores}, data_name="cifar100"))
    # Of one set both metrics are in one table.
    assert [line.split() for line in told.splitlines() if line.startswith(("on svhn", "DML+ as"))] == [
        ["on", "svhn,", "%", "AUROC", "fpr95_in"], ["DML+", "as", "published", "97.21", "17.58"],
    ]  # fmt: skip
    assert "AUROC 92.72, fpr95_in 34.37" in told


def test_all_methods_on_the_six_published_sets_have_room_in_a_terminal():
    methods = [f"{method} of {loss}" for loss in LOSSES for method in METHODS] + [DML_PLUS]
    scores = {name: np.arange(20.0) + place for place, name in enumerate(methods)}
    found = compared(scores, dict.fromkeys(PUBLISHED, scores), data_name="cifar100", n_draws=10)
    lines = comparison_table(found).splitlines()
    assert max(map(len, lines)) <= 100
    assert [line.split()[-2:] for line in lines if line.startswith("DML+ as")] == [
        ["82.45", "92.72"], ["71.70", "34.37"],
    ]  # fmt: skip


def test_all_figures_are_there_as_numbers():
    in_scores = {name: np.array([0.0, 1, 2, 3]) for name in FEW_METHODS}
    out_scores = {
        BASELINE: np.array([1.5, 2.5]), COSINE_BASELINE: np.array([0.5, 3.5]), DML_PLUS: np.array([4.0, 5]),
    }  # fmt: skip
    last = {**dict.fromkeys(LOSSES, epoch(1.0, 1.0)), "mnc": epoch(None, 1.0)}
    data = comparison_data(
        compared(in_scores, {"svhn": out_scores, "own": out_scores}, data_name="cifar100", last=last)
    )
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    # 1.5 is above two of the four, 2.5 above three.
    assert data["figures"][BASELINE]["own"]["auroc"]["value"] == 5 / 8
    assert data["figures"][DML_PLUS]["svhn"]["auroc"] == {"value": 1, "low": 1, "high": 1}
    assert data["figures"][DML_PLUS]["svhn"].keys() == {"auroc", "aupr_in", "aupr_out", "fpr95_in", "fpr95_out"}
    assert {
        (baseline, method, name): metrics["auroc"]["difference"]
        for baseline, methods in data["differences"].items()
        for method, sets in methods.items()
        for name, metrics in sets.items()
    } == {
        (BASELINE, COSINE_BASELINE, "svhn"): 0, (BASELINE, COSINE_BASELINE, "own"): 0,
        (BASELINE, DML_PLUS, "svhn"): 3 / 8, (BASELINE, DML_PLUS, "own"): 3 / 8,
        (COSINE_BASELINE, DML_PLUS, "svhn"): 3 / 8, (COSINE_BASELINE, DML_PLUS, "own"): 3 / 8,
    }  # fmt: skip
    assert data["dml_plus_scale"] == 12.5
    assert data["published"] == {"svhn": {"auroc": 0.9721, "fpr95_in": 0.1758}}
    assert data["networks"]["mnc"]["wfc"] is None


def test_folders_are_scored_and_joined(tmp_path):
    folders = {
        loss: write_model(tmp_path / f"x.{loss}", seed, 12, order_seed=seed) for seed, loss in enumerate(LOSSES)
    }
    last = dict.fromkeys(folders, epoch(1.0, 1.0))
    found = compare(folders, last, ["far"], tmp_path / "scores", data_name="world", device="cpu")
    _, expected = scored((folders["mcf"], folders["mnc"]), tmp_path / "out")
    in_scores, out_scores = (
        [value for (name, _), value in expected.items() if name == one] for one in ("val", "far")
    )
    auroc = np.mean([[(o > i) + (o == i) / 2 for i in in_scores] for o in out_scores])
    assert found.figures.metrics[DML_PLUS, "far"].auroc == pytest.approx(auroc, rel=1e-12)
    assert (found.figures.baseline, found.beside_cosine.baseline) == (BASELINE, COSINE_BASELINE)
    for figures in (found.figures, found.beside_cosine):
        difference = figures.differences[DML_PLUS, "far"]["auroc"].difference
        baseline = found.figures.metrics[figures.baseline, "far"].auroc
        assert difference == pytest.approx(auroc - baseline, abs=1e-12)
    assert {path.name for path in (tmp_path / "scores").iterdir()} == {
        "x.linear", "x.cosine", "x.mcf", "x.mnc", "x.mcf.x.mnc",
    }  # fmt: skip
