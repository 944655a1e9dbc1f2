import csv
import json
import math
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from cli import run
from manifests.errors import FeatureError, InputError
from manifests.stage_commands import EXIT_OUR_ERROR
from scoring.contamination import Contamination
from scoring.feature_sets import FeatureSet, feature_set_writer, open_feature_set
from scoring.heads import Head, write_head
from scoring.methods.table import METHOD_NAMES, METHODS
from scoring.metrics import METRIC_NAMES, measure
from scoring.score import score
from scoring.score_settings import FigureSettings, FitSettings, SetNames
from scoring.tables import results_data, results_table

N_CLASSES, N_FEATURES = 4, 24
NAMES = SetNames(("far", "near"))
FAR = SetNames(("far",))
# The defaults of these are for 1,000 features and training sets of as many.
SMALL = {"neco": {"dim": 10}, "nnguide": {"share": 0.5}}
NO_DRAWS = FigureSettings(n_draws=0)
FEW_DRAWS = FigureSettings(n_draws=50)


def write_set(folder, name: str, image_ids, features: torch.Tensor, classes=None) -> None:
    with feature_set_writer(folder / f"{name}.parquet", N_FEATURES) as writer:
        writer.write(image_ids, classes or [None] * len(image_ids), features)


@pytest.fixture
def features_dir(tmp_path):
    """A head and rectified sets of 400 training, 90 ID and 2 x 60 OOD images."""
    folder = tmp_path / "features"
    generator = torch.Generator().manual_seed(0)
    head = Head(torch.randn(N_CLASSES, N_FEATURES, generator=generator), torch.zeros(N_CLASSES))
    write_head(folder, head)
    for name, n_images, lean in (("train", 400, 1.0), ("val", 90, 1.0), ("far", 60, 0.0), ("near", 60, 0.5)):
        classes = torch.randint(N_CLASSES, (n_images,), generator=generator)
        noise = torch.randn(n_images, N_FEATURES, generator=generator)
        features = (lean * head.weight[classes] + 0.5 * noise).clamp(min=0)
        names = [f"{name}_{number:03}" for number in range(n_images)]
        write_set(folder, name, names, features, classes.tolist() if lean == 1 else None)
    return folder


def scores_by_image(result) -> dict[tuple[str, str], dict[str, float]]:
    rows = pq.read_table(result.paths[0]).to_pylist()
    return {(row.pop("set"), row.pop("image_id")): row for row in rows}


def contents_of(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def rows_of(path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_all_methods_but_the_grouped_run_by_default(features_dir, tmp_path):
    small = FitSettings(options=SMALL)
    result = score(features_dir, NAMES, tmp_path / "out", fit=small, figures=NO_DRAWS)
    assert set(result.refused) == {"max_group", "vim_group"}
    assert [method.name for method in result.methods] == [name for name in METHOD_NAMES if "group" not in name]
    groups = FitSettings(options=SMALL, group_of=(0, 0, 1, 1))
    assert score(features_dir, NAMES, tmp_path / "out", fit=groups, figures=NO_DRAWS).methods == METHODS


def test_results_file_holds_every_method_and_set_at_full_precision(features_dir, tmp_path):
    result = score(features_dir, NAMES, tmp_path / "out", figures=FEW_DRAWS)
    rows = rows_of(tmp_path / "out" / "results.csv")
    ends = [f"{metric}_{end}" for metric in METRIC_NAMES for end in ("low", "high")]
    assert list(rows[0]) == ["method", "set", *METRIC_NAMES, *ends]
    assert [(row["method"], row["set"]) for row in rows] == list(result.figures.metrics)
    assert len(rows) == len(result.methods) * 2
    scores = scores_by_image(result)
    for row in rows:
        in_scores = [one[row["method"]] for (name, _), one in scores.items() if name == "val"]
        out_scores = [one[row["method"]] for (name, _), one in scores.items() if name == row["set"]]
        metrics = measure(in_scores, out_scores)
        for name in METRIC_NAMES:
            assert float(row[name]) == getattr(metrics, name)
            assert float(row[f"{name}_low"]) <= float(row[f"{name}_high"])


def test_interval_holds_the_figure_of_most_methods(features_dir, tmp_path):
    figures = score(features_dir, NAMES, tmp_path / "out", figures=FigureSettings(n_draws=200)).figures
    inside = [
        figures.intervals[key]["auroc"][0] <= metrics.auroc <= figures.intervals[key]["auroc"][1]
        for key, metrics in figures.metrics.items()
    ]
    assert np.mean(inside) > 0.9


def test_without_draws_there_are_no_intervals(features_dir, tmp_path):
    result = score(features_dir, FAR, tmp_path / "out", methods=["msp"], figures=NO_DRAWS)
    assert list(rows_of(tmp_path / "out" / "results.csv")[0]) == ["method", "set", *METRIC_NAMES]
    assert "±" not in results_table(result)


def test_scores_file_holds_each_evaluated_image_once(features_dir, tmp_path):
    result = score(features_dir, NAMES, tmp_path / "out", figures=NO_DRAWS)
    table = pq.read_table(result.paths[0])
    assert table.schema.names == ["image_id", "set", *(method.name for method in result.methods)]
    assert {str(dtype) for dtype in table.schema.types[2:]} == {"double"}
    expected = {
        (name, image_id)
        for name in ("val", "far", "near")
        for image_id in open_feature_set(features_dir, name).image_ids.to_pylist()
    }
    assert scores_by_image(result).keys() == expected
    assert table.num_rows == len(expected)
    written = {"results.csv", "score.json", "scores.parquet"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == written


def test_second_run_ends_in_the_same_bytes(features_dir, tmp_path):
    contents = []
    for _ in range(2):
        score(features_dir, NAMES, tmp_path / "out", figures=FEW_DRAWS)
        contents.append({path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()})
    assert contents[0] == contents[1]


def test_scores_do_not_depend_on_chunks_or_on_the_order_of_rows(features_dir, tmp_path):
    # Other rows are then evenly spaced, which NNGuide keeps.
    methods = [name for name in METHOD_NAMES if name not in ("max_group", "vim_group", "nnguide")]
    given = {"methods": methods, "fit": FitSettings(options={"neco": SMALL["neco"]}), "figures": NO_DRAWS}
    plain = score(features_dir, NAMES, tmp_path / "plain", **given)
    for name in ("train", "val", "far", "near"):
        rows = pq.read_table(features_dir / f"{name}.parquet")
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(1)).numpy()
        pq.write_table(rows.take(order), features_dir / f"{name}.parquet")
    other = score(features_dir, NAMES, tmp_path / "other", **given, chunk_rows=7)
    expected, found = scores_by_image(plain), scores_by_image(other)
    assert found.keys() == expected.keys()
    for key, scores in expected.items():
        assert found[key] == pytest.approx(scores, rel=1e-4, abs=1e-5)
    for key, metrics in plain.figures.metrics.items():
        assert other.figures.metrics[key].auroc == pytest.approx(metrics.auroc, abs=1e-3)


def test_methods_without_training_need_no_training_set(features_dir, tmp_path):
    (features_dir / "train.parquet").unlink()
    names = SetNames(("far",), train=None)
    result = score(features_dir, names, tmp_path / "out", methods=["energy", "msp"], figures=NO_DRAWS)
    assert result.n_images == {"val": 90, "far": 60}
    assert result.fitted == {}
    assert pq.read_schema(result.paths[0]).names == ["image_id", "set", "msp", "energy"]


def test_given_dimension_is_used(features_dir, tmp_path):
    given = FitSettings(options={"vim": {"dim": 3}})
    assert score(features_dir, FAR, tmp_path / "out", fit=given, figures=NO_DRAWS).fitted["D"] == 3
    assert score(features_dir, FAR, tmp_path / "out", figures=NO_DRAWS).fitted["D"] == N_FEATURES // 2


def test_method_that_is_named_and_cannot_be_fitted_is_an_error(features_dir, tmp_path):
    write_set(features_dir, "bare", [f"bare_{row}" for row in range(400)], torch.rand(400, N_FEATURES))
    names = SetNames(("far",), train="bare")
    left_out = score(features_dir, names, tmp_path / "out", figures=NO_DRAWS)
    assert "needs the class of every training image" in left_out.refused["mahalanobis"]
    assert "Left out: mahalanobis: needs the class of every training image" in results_table(left_out)
    with pytest.raises(FeatureError, match="mahalanobis: needs the class of every training image"):
        score(features_dir, names, tmp_path / "out2", methods=["msp", "mahalanobis"], figures=NO_DRAWS)


def test_mode_openood_fits_on_the_set_named_for_it(features_dir, tmp_path):
    write_set(features_dir, "heldout", [f"heldout_{row}" for row in range(50)], torch.rand(50, N_FEATURES))
    names = SetNames(("far",), fit_val="heldout")
    fit = FitSettings(mode="openood")
    result = score(features_dir, names, tmp_path / "out", methods=["react"], fit=fit, figures=NO_DRAWS)
    assert result.n_images["heldout"] == 50
    record = json.loads((tmp_path / "out" / "score.json").read_text())
    assert (record["mode"], record["options"]["react"]) == ("openood", {"quantile": 0.9})
    with pytest.raises(FeatureError, match=r"react: .* ID validation images"):
        score(features_dir, FAR, tmp_path / "out2", methods=["react"], fit=fit, figures=NO_DRAWS)


def test_image_both_in_and_out_is_refused_and_counted(features_dir, tmp_path):
    write_set(features_dir, "mixed", ["train_003", "val_001", "val_002", "new"], torch.ones(4, N_FEATURES))
    with pytest.raises(FeatureError, match=r"mixed\.parquet: 1 of its 4 images are in the ID set train too"):
        score(features_dir, SetNames(("far", "mixed")), tmp_path / "out")
    with pytest.raises(FeatureError, match=r"mixed\.parquet: 2 of its 4 images are in the ID set val too"):
        score(features_dir, SetNames(("mixed",)), tmp_path / "out", methods=["msp"])
    assert not (tmp_path / "out").exists()


def test_validation_images_that_were_trained_on_are_a_warning(features_dir, tmp_path):
    names = SetNames(("far",), train="val")
    result = score(features_dir, names, tmp_path / "out", methods=["react"], figures=NO_DRAWS)
    assert result.warnings == (
        "90 of the 90 images of val are in val too, which flatters the methods that are fitted on it",
    )
    assert "Warning: 90 of the 90 images" in results_table(result)


def test_figures_without_images_known_to_be_in_distribution(features_dir, tmp_path):
    known_in = ["far_000", "far_001", "far_059", "elsewhere"]
    settings = FigureSettings(n_draws=20, known_in=known_in)
    result = score(features_dir, NAMES, tmp_path / "out", methods=["energy"], figures=settings)
    assert result.n_known_in == {"far": 3, "near": 0}
    scores = scores_by_image(result)
    in_scores = [one["energy"] for (name, _), one in scores.items() if name == "val"]
    kept = [one["energy"] for (name, image), one in scores.items() if name == "far" and image not in known_in]
    assert len(kept) == 57
    (row, _) = rows_of(tmp_path / "out" / "results.without_known_in.csv")
    assert float(row["auroc"]) == measure(in_scores, kept).auroc
    assert "Without images known to be in distribution (3 of far, 0 of near)" in results_table(result)
    score(features_dir, NAMES, tmp_path / "out", methods=["energy"], figures=NO_DRAWS)
    assert not (tmp_path / "out" / "results.without_known_in.csv").exists()


def test_known_images_of_which_none_is_there_are_an_error(features_dir, tmp_path):
    settings = FigureSettings(n_draws=0, known_in=["elsewhere"])
    with pytest.raises(InputError, match="none of the 1 listed is in far, near"):
        score(features_dir, NAMES, tmp_path / "out", methods=["energy"], figures=settings)


def test_limits_of_contamination_stand_beside_the_figures(features_dir, tmp_path):
    settings = FigureSettings(n_draws=0, contamination={"far": Contamination(0.1, 0.04, 0.2)})
    result = score(features_dir, NAMES, tmp_path / "out", methods=["energy"], figures=settings)
    lines = results_table(result)
    assert "AUROC 95.00 [90.00, 98.00], fpr95_in 9.50 [3.80, 19.00], fpr95_out 50.00 [0.00, 75.00]" in lines
    wrong = FigureSettings(n_draws=0, contamination={"fra": Contamination(0.1)})
    with pytest.raises(InputError, match="'fra' is not among the OOD sets far, near"):
        score(features_dir, NAMES, tmp_path / "out", figures=wrong)


def test_differences_from_a_baseline_are_paired(features_dir, tmp_path):
    settings = FigureSettings(n_draws=100, baseline="energy")
    result = score(features_dir, NAMES, tmp_path / "out", methods=["energy", "max_logit"], figures=settings)
    rows = rows_of(tmp_path / "out" / "differences.csv")
    assert {(row["method"], row["baseline"]) for row in rows} == {("max_logit", "energy")}
    one = next(row for row in rows if (row["set"], row["metric"]) == ("far", "auroc"))
    metrics = result.figures.metrics
    assert float(one["difference"]) == metrics["max_logit", "far"].auroc - metrics["energy", "far"].auroc
    # Two methods that rank nearly alike differ far less surely than each is known.
    low, high = result.figures.intervals["energy", "far"]["auroc"]
    assert float(one["high"]) - float(one["low"]) < 0.8 * (high - low)
    assert "AUROC less that of Energy" in results_table(result)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_draws": 0, "baseline": "msp"}, "found 'msp' and 0 draws"),
        ({"n_draws": -1}, "bootstrap: expected 0 draws or more, found -1"),
        ({"seed": -3}, "seed: expected 0 or more, found -3"),
    ],
)
def test_settings_of_figures_that_cannot_be_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        FigureSettings(**settings)


@pytest.mark.parametrize(
    ("settings", "methods", "error", "message"),
    [
        ({"baseline": "vim"}, ["msp"], InputError, r"expected one of the methods \(msp\), found 'vim'"),
        ({"known_in": ["elsewhere"]}, ["msp"], InputError, "none of the 1 listed is in far"),
        ({"known_in": [f"far_{row:03}" for row in range(60)]}, ["msp"], FeatureError, "all of its images are"),
    ],
)
def test_figures_that_cannot_be_made_are_refused_before_fitting(
    features_dir, tmp_path, monkeypatch, settings, methods, error, message
):
    def fit(*_, **__):
        pytest.fail("fitted first")

    score(features_dir, FAR, tmp_path / "out", methods=["energy"], figures=NO_DRAWS)
    before = contents_of(tmp_path / "out")
    monkeypatch.setattr("scoring.score.fit_methods", fit)
    with pytest.raises(error, match=message):
        score(features_dir, FAR, tmp_path / "out", methods=methods, figures=FigureSettings(5, **settings))
    assert contents_of(tmp_path / "out") == before


def test_baseline_that_cannot_be_fitted_or_scored_leaves_earlier_results(features_dir, tmp_path):
    write_set(features_dir, "strange", ["one", "two"], -torch.ones(2, N_FEATURES))
    names = SetNames(("strange",))
    score(features_dir, names, tmp_path / "out", methods=["energy"], figures=NO_DRAWS)
    before = contents_of(tmp_path / "out")
    for baseline, reason in (("max_group", "max_group: "), ("scale", r"scale: exp\(s1 / s2\) is not finite")):
        with pytest.raises(FeatureError, match=reason):
            score(features_dir, names, tmp_path / "out", figures=FigureSettings(5, baseline=baseline))
        assert contents_of(tmp_path / "out") == before


class TestLineage:
    """Results of two models or two manifests never stand beside each other."""

    @staticmethod
    def tell(features_dir, name: str, **record) -> None:
        made_by = {"weights_digest": "a" * 64, "preprocessing": {"input_size_px": 224}, "odin": None}
        (features_dir / f"{name}.json").write_text(json.dumps(made_by | record))

    @staticmethod
    def run(features_dir, out_dir, *ood):
        return score(features_dir, SetNames(ood), out_dir, methods=["msp"], figures=NO_DRAWS)

    def test_sets_of_two_models_are_refused(self, features_dir, tmp_path):
        self.tell(features_dir, "val")
        self.tell(features_dir, "far", weights_digest="b" * 64)
        with pytest.raises(FeatureError, match="sets val and far were made with another weights_digest"):
            self.run(features_dir, tmp_path / "out", "far")

    def test_sets_of_two_versions_of_a_manifest_are_refused(self, features_dir, tmp_path):
        for name, version in (("far", "1.0.0"), ("near", "1.1.0")):
            manifest = {"name": f"openimage_o-{version}", "content_sha256": version}
            self.tell(features_dir, name, manifest=manifest)
        message = "far is of manifest openimage_o-1.0.0, near of openimage_o-1.1.0"
        with pytest.raises(FeatureError, match=message):
            self.run(features_dir, tmp_path / "out", "far", "near")

    def test_results_of_another_model_are_not_replaced(self, features_dir, tmp_path):
        self.run(features_dir, tmp_path / "out", "far")
        before = (tmp_path / "out" / "results.csv").read_bytes()
        (features_dir / "head.safetensors").unlink()
        write_head(features_dir, Head(torch.ones(N_CLASSES, N_FEATURES), torch.zeros(N_CLASSES)))
        with pytest.raises(FeatureError, match="holds the scores of another model"):
            self.run(features_dir, tmp_path / "out", "far")
        assert (tmp_path / "out" / "results.csv").read_bytes() == before

    def test_results_of_another_manifest_are_not_replaced(self, features_dir, tmp_path):
        self.tell(features_dir, "far", manifest={"name": "openimage_o-1.0.0", "content_sha256": "1"})
        self.run(features_dir, tmp_path / "out", "far")
        self.tell(features_dir, "far", manifest={"name": "openimage_o-1.0.1", "content_sha256": "2"})
        with pytest.raises(FeatureError, match=r"from manifest openimage_o-1.0.0, now it is of openimage_o-1.0.1"):
            self.run(features_dir, tmp_path / "out", "far")

    def test_pictures_that_odin_moved_are_scored_by_odin_alone(self, features_dir, tmp_path):
        for name in ("val", "far"):
            self.tell(features_dir, name, odin={"temperature": 500.0, "epsilon": 0.0014})
        (features_dir / "train.parquet").unlink()
        result = score(features_dir, FAR, tmp_path / "out", figures=NO_DRAWS)
        assert [method.name for method in result.methods] == ["odin"]
        record = json.loads((tmp_path / "out" / "score.json").read_text())
        assert record["options"] == {"odin": {"temperature": 500.0}}
        with pytest.raises(FeatureError, match=r"pictures that ODIN moved by 0.0014: .* found msp"):
            self.run(features_dir, tmp_path / "out", "far")

    def test_damaged_record_is_refused(self, features_dir, tmp_path):
        (features_dir / "far.json").write_text("{")
        with pytest.raises(FeatureError, match=r"far\.json: cannot be read as a record"):
            self.run(features_dir, tmp_path / "out", "far")

    @pytest.mark.parametrize(
        ("record", "message"),
        [
            ({"manifest": "abc"}, r"far\.json: manifest: expected null, or name .* found 'abc'"),
            ({"manifest": {"name": 1, "content_sha256": "1"}}, r"far\.json: manifest: expected null"),
            ({"odin": 5}, r"far\.json: odin: expected null, or temperature and epsilon as numbers, found 5"),
            ({"odin": {"x": 1}}, r"far\.json: odin: expected null"),
        ],
    )
    def test_record_of_a_set_that_is_another_thing_is_refused(self, features_dir, tmp_path, record, message):
        (features_dir / "far.json").write_text(json.dumps(record))
        with pytest.raises(FeatureError, match=message):
            self.run(features_dir, tmp_path / "out", "far")

    @pytest.mark.parametrize(
        ("lineage", "message"),
        [
            (5, r"score\.json: lineage: expected an object with the objects model and manifests"),
            ({"model": {}, "manifests": []}, r"score\.json: lineage: expected an object"),
            ({"model": {}, "manifests": {"far": "abc"}}, r"score\.json: lineage: manifests: far: expected null"),
        ],
    )
    def test_record_of_results_that_is_another_thing_is_refused(self, features_dir, tmp_path, lineage, message):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "score.json").write_text(json.dumps({"lineage": lineage}))
        with pytest.raises(FeatureError, match=message):
            self.run(features_dir, tmp_path / "out", "far")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--method", "msp", "--dim", "3"], "--dim: none of residual, vim and vim_group is asked for"),
        (["--method", "msp", "--dim-rule", "repo"], "--dim-rule: none of residual"),
        (["--method", "vim", "--train", ""], "vim: fitted on training features; name a training set"),
        (["--method", "msp", "--option", "vim.dim=3"], "options are given for vim, which is not among"),
        (["--bootstrap", "-1"], "bootstrap: expected 0 draws or more"),
    ],
)
def test_command_line_that_cannot_be_followed_is_one_line(features_dir, tmp_path, capsys, flags, message):
    given = ["--features", str(features_dir), "--ood", "far", "--out", str(tmp_path / "out")]
    assert run(["score", *given, *flags]) == EXIT_OUR_ERROR
    (line,) = [one for one in capsys.readouterr().err.splitlines() if one.startswith("error: ")]
    assert message in line


def test_empty_name_of_the_training_set_is_none(features_dir, tmp_path):
    (features_dir / "train.parquet").unlink()
    given = ["--features", str(features_dir), "--ood", "far", "--out", str(tmp_path / "out")]
    assert run(["score", *given, "--method", "msp", "--bootstrap", "0", "--train", ""]) == 0
    record = json.loads((tmp_path / "out" / "score.json").read_text())
    assert record["sets"]["train"] is None


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"ood": ()}, "name at least one OOD set"),
        ({"ood": ("far", "far")}, "an OOD set is named twice"),
        ({"ood": ("val",)}, "is an ID set too: train, val, val"),
        ({"ood": ("train",)}, "is an ID set too"),
        ({"ood": ("far",), "fit_val": "far"}, "is an ID set too: train, far, val, far"),
    ],
)
def test_set_that_is_in_and_out_is_refused(names, message):
    with pytest.raises(InputError, match=message):
        SetNames(**names)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"methods": ["odin2"]}, InputError, "method 'odin2' is not known"),
        ({"names": SetNames(("far",), train=None)}, InputError, "vim.*: fitted on training features; name a"),
        (
            {"fit": FitSettings(options={"vim": {"dim_rule": "paper"}})},
            FeatureError,
            r"found D = 512 \(rule paper\)",
        ),
        (
            {"fit": FitSettings(options={"vim": {"dim": 24}})},
            FeatureError,
            "vim: .* N = 24 features, found D = 24",
        ),
        ({"fit": FitSettings(options={"vim": {"dim_rule": "half"}})}, InputError, "rule for D: expected one of"),
        ({"fit": FitSettings(mode="mine")}, InputError, "mode: expected one of authors, openood"),
        ({"names": SetNames(("nowhere",))}, FeatureError, r"nowhere\.parquet: no such file"),
        ({"device": "tpu"}, InputError, "--device: expected auto, cpu, cuda or cuda:N, found 'tpu'"),
    ],
)
def test_wrong_arguments_are_refused_and_write_nothing(features_dir, tmp_path, arguments, error, message):
    with pytest.raises(error, match=message):
        score(features_dir, **({"names": FAR, "out_dir": tmp_path / "out"} | arguments))
    assert not (tmp_path / "out").exists()


def test_score_that_overflows_names_method_and_image_and_leaves_no_file(features_dir, tmp_path):
    features = torch.ones(2, N_FEATURES)
    features[1] = 3e38
    write_set(features_dir, "huge", ["calm", "loud"], features)
    with pytest.raises(FeatureError, match=r"msp: gives image loud of .*huge\.parquet no finite score"):
        score(features_dir, SetNames(("huge",)), tmp_path / "out", methods=["msp"])
    assert not (tmp_path / "out").exists()


def test_method_that_refuses_an_image_is_left_out_and_the_others_go_on(features_dir, tmp_path, monkeypatch):
    # Features of which the largest sum to nothing: exp(s1 / s2) of SCALE and ASH-S has no value.
    write_set(features_dir, "strange", ["one", "two"], -torch.ones(2, N_FEATURES))
    names = SetNames(("strange",))
    n_reads: dict[str, int] = {}
    read = FeatureSet.__iter__

    def counted(feature_set):
        n_reads[feature_set.name] = n_reads.get(feature_set.name, 0) + 1
        return read(feature_set)

    monkeypatch.setattr(FeatureSet, "__iter__", counted)
    result = score(features_dir, names, tmp_path / "out", figures=NO_DRAWS)
    assert (n_reads["val"], n_reads["strange"]) == (1, 1)
    assert "exp(s1 / s2) is not finite for 2 of 2 images" in result.refused["scale"]
    assert "scale" not in pq.read_schema(result.paths[0]).names
    assert "vim" in pq.read_schema(result.paths[0]).names
    with pytest.raises(FeatureError, match=r"scale: exp\(s1 / s2\) is not finite"):
        score(features_dir, names, tmp_path / "other", methods=["scale"], figures=NO_DRAWS)


def test_cuda_is_refused_where_there_is_none(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="--device cuda: no CUDA device is available here"):
        score(tmp_path, FAR, tmp_path / "out", device="cuda")


def test_table_has_the_layout_of_the_paper(features_dir, tmp_path):
    result = score(features_dir, NAMES, tmp_path / "out", methods=["msp", "vim"], figures=NO_DRAWS)
    lines = results_table(result).splitlines()
    assert lines[0] == "AUROC / fpr95_in, %"
    assert lines[1].split() == ["method", "source", "far", "near", "average"]
    far, near = (result.figures.metrics["vim", name] for name in ("far", "near"))
    average = f"{50 * (far.auroc + near.auroc):.2f} / {50 * (far.fpr95_in + near.fpr95_in):.2f}"
    expected = (
        f"{100 * far.auroc:.2f} / {100 * far.fpr95_in:.2f}  {100 * near.auroc:.2f} / {100 * near.fpr95_in:.2f}"
    )
    assert lines[3].startswith("ViM")
    assert lines[3].split() == f"ViM feature + logit {expected} {average}".split()
    assert "fpr95_out, %" in lines
    assert "share of OOD images let through where 95 % of ID images are kept" in " ".join(lines)
    assert "share of ID images lost where 95 % of OOD images are caught" in " ".join(lines)
    assert math.isclose(result.fitted["D"], N_FEATURES // 2)


def test_tables_of_many_sets_stand_below_each_other_in_a_terminal(features_dir, tmp_path):
    names = [f"far_{number}" for number in range(6)]
    for name in names:
        shutil.copy(features_dir / "far.parquet", features_dir / f"{name}.parquet")
    settings = FigureSettings(n_draws=20, baseline="msp")
    result = score(
        features_dir, SetNames(tuple(names)), tmp_path / "out", methods=["msp", "max_logit", "mahalanobis"],
        figures=settings,
    )  # fmt: skip
    lines = results_table(result).splitlines()
    assert max(map(len, lines)) <= 100
    headings = [line.split()[2:] for line in lines if line.startswith("method") and "source" in line]
    # One after the other, once for AUROC beside fpr95_in and once for fpr95_out.
    assert [name for heading in headings for name in heading] == [*names, "average"] * 2
    assert sum(line.startswith("Mahalanobis") for line in lines) == len(headings) + sum(
        line.startswith("method") and "source" not in line for line in lines
    )


def test_data_is_the_results_file_by_method_set_and_metric(features_dir, tmp_path):
    settings = FigureSettings(
        n_draws=20, baseline="energy", known_in=["far_000"], contamination={"far": Contamination(0.1)}
    )
    result = score(features_dir, NAMES, tmp_path / "out", methods=["energy", "max_logit"], figures=settings)
    data = json.loads(json.dumps(results_data(result), allow_nan=False))
    rows = rows_of(tmp_path / "out" / "results.csv")
    assert len(rows) == 4
    for row in rows:
        for metric in METRIC_NAMES:
            ends = {end: float(row[f"{metric}_{end}"]) for end in ("low", "high")}
            assert data["figures"][row["method"]][row["set"]][metric] == {"value": float(row[metric]), **ends}
    without = {(row["method"], row["set"]): row for row in rows_of(tmp_path / "out/results.without_known_in.csv")}
    assert data["without_known_in"]["energy"]["far"]["auroc"]["value"] == float(without["energy", "far"]["auroc"])
    assert data["n_known_in"] == {"far": 1, "near": 0}
    differences = rows_of(tmp_path / "out" / "differences.csv")
    assert len(differences) == 2 * len(METRIC_NAMES)
    for row in differences:
        told = data["differences"][row["method"]][row["set"]][row["metric"]]
        assert told == {name: float(row[name]) for name in ("difference", "low", "high", "share_sign_lost")}
    # A perfect detector of the other nine in ten: 1 less half of a tenth.
    assert data["contamination_limits"]["far"]["at_rate"]["auroc_ceiling"] == pytest.approx(0.95)


def test_the_command_tells_its_figures_as_numbers_and_without_draws_no_intervals(features_dir, tmp_path, capsys):
    arguments = ["score", "--features", str(features_dir), "--ood", "far", "--method", "msp", "--bootstrap", "0"]
    assert run([*arguments, "--out", str(tmp_path / "out"), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)["data"]
    (row,) = rows_of(tmp_path / "out" / "results.csv")
    assert data == {
        "figures": {"msp": {"far": {metric: {"value": float(row[metric])} for metric in METRIC_NAMES}}},
        "fitted": {}, "refused": {}, "warnings": [],
    }  # fmt: skip
