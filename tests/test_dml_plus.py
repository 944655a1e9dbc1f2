"""DML+ over the features of two models: the formula, the join by image id, and what is refused."""

import csv
import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import cli
from manifests.errors import FeatureError, InputError
from scoring.feature_sets import open_feature_set
from scoring.heads import Head
from scoring.methods.dml_plus import DMLPlus
from scoring.methods.fitting import options_from_text
from scoring.outputs import Outputs
from scoring.plots.plot import plot_results
from scoring.score import score
from scoring.score_plan import plan_score
from scoring.second_model import paired
from scoring.statistics.gather import Training
from tests.two_models_world import N_CLASSES, N_IMAGES, NAMES, NO_DRAWS, scored, write_model, write_set


@pytest.fixture
def models(tmp_path):
    """Two models of the same images in different orders, and of different sizes."""
    return write_model(tmp_path / "mcf", 1, 12), write_model(tmp_path / "mnc", 2, 20, order_seed=5)


def rows_by_id(folder, name: str) -> dict[str, np.ndarray]:
    table = pq.read_table(folder / f"{name}.parquet").to_pydict()
    return dict(zip(table["image_id"], np.array(table["features"]), strict=True))


def naive_parts(models, name: str) -> tuple[dict[str, float], dict[str, float]]:
    """MaxCosine of the first model and the norm of the second, an image at a time."""
    from scoring.heads import read_head

    weight = read_head(models[0]).weight.double().numpy()
    cosine = {
        image_id: max(x @ w / np.sqrt(x @ x) / np.sqrt(w @ w) for w in weight)
        for image_id, x in rows_by_id(models[0], name).items()
    }
    return cosine, {image_id: np.sqrt(x @ x) for image_id, x in rows_by_id(models[1], name).items()}


def test_score_is_lambda_times_cosine_of_one_plus_norm_of_the_other_joined_by_id(models, tmp_path):
    result, found = scored(models, tmp_path / "out")
    cosine, norm = naive_parts(models, "train")
    scale = np.mean(list(norm.values())) / np.mean(list(cosine.values()))
    assert result.fitted["lambda of DML+"] == pytest.approx(scale, rel=1e-6)
    expected = {}
    for name in ("val", "far"):
        cosine, norm = naive_parts(models, name)
        expected |= {(name, image_id): -(scale * cosine[image_id] + norm[image_id]) for image_id in cosine}
    assert found == pytest.approx(expected, rel=1e-6)


def test_given_lambda_and_balance_are_taken(models, tmp_path):
    given, _ = scored(models, tmp_path / "given", scale=7.0)
    assert given.fitted["lambda of DML+"] == 7.0
    plain, thrice = (scored(models, tmp_path / str(one), balance=one)[0] for one in (1.0, 3.0))
    assert thrice.fitted["lambda of DML+"] == pytest.approx(3 * plain.fitted["lambda of DML+"], rel=1e-12)


def test_published_lambda_of_the_id_test_images_is_taken_only_by_name_and_warned_of(models, tmp_path):
    plain, _ = scored(models, tmp_path / "plain")
    assert not any("lambda" in warning for warning in plain.warnings)
    result, _ = scored(models, tmp_path / "out", scale_from="id_test")
    cosine, norm = naive_parts(models, "val")
    assert result.fitted["lambda of DML+"] == pytest.approx(sum(norm.values()) / sum(cosine.values()), rel=1e-6)
    assert any("lambda of DML+ is of the ID images that are scored" in warning for warning in result.warnings)


def test_order_and_chunks_of_either_model_change_nothing(models, tmp_path):
    _, expected = scored(models, tmp_path / "a")
    write_model(tmp_path / "mcf_shuffled", 1, 12, order_seed=8)
    other = (tmp_path / "mcf_shuffled", models[1])
    assert scored(other, tmp_path / "b")[1] == pytest.approx(expected, rel=1e-6)
    first, second = (open_feature_set(folder, "val", chunk_rows=7) for folder in models)
    norms = torch.cat([batch.second_norm for batch in paired(first, second)])
    assert norms.tolist() == pytest.approx(
        [naive_parts(models, "val")[1][image_id] for image_id in first.image_ids.to_pylist()], rel=1e-6
    )


def test_model_beside_itself_is_dml(models, tmp_path):
    result = score(
        models[0], NAMES, tmp_path / "out", methods=["dml", "dml_plus"], figures=NO_DRAWS, second_dir=models[0]
    )
    table = pq.read_table(result.paths[0])
    assert table.column("dml").to_pylist() == pytest.approx(table.column("dml_plus").to_pylist(), rel=1e-9)


def test_second_run_ends_in_the_same_bytes_and_record_names_both_models(models, tmp_path):
    contents = []
    for _ in range(2):
        scored(models, tmp_path / "out")
        contents.append({path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()})
    assert contents[0] == contents[1]
    lineage = json.loads(contents[0]["score.json"])["lineage"]
    assert lineage["model"]["head_sha256"] != lineage["second_model"]["head_sha256"]


def test_results_of_another_second_model_are_not_replaced(models, tmp_path):
    scored(models, tmp_path / "out")
    other = write_model(tmp_path / "other", 3, 20)
    with pytest.raises(FeatureError, match="holds the scores of another model"):
        scored((models[0], other), tmp_path / "out")
    with pytest.raises(FeatureError, match="holds the scores of another model"):
        score(models[0], NAMES, tmp_path / "out", methods=["msp"], figures=NO_DRAWS)


class TestSetsThatDoNotMatch:
    def test_other_images_are_refused_with_counts(self, models, tmp_path):
        features = torch.randn(41, 20, generator=torch.Generator().manual_seed(0))
        write_set(models[1], "val", features)
        with pytest.raises(FeatureError, match=r"same images of val: 1 only in .*mnc.val.parquet \(val_040 among"):
            scored(models, tmp_path / "out")
        write_set(models[1], "val", features[:38])
        with pytest.raises(FeatureError, match=r"same images of val: 2 only in .*mcf.val.parquet \(val_038 among"):
            scored(models, tmp_path / "out")

    def test_other_class_of_an_image_is_refused_and_an_unknown_one_is_not(self, models, tmp_path):
        features = torch.randn(40, 20, generator=torch.Generator().manual_seed(0))
        write_set(models[1], "val", features, classes=[None] * 40)
        scored(models, tmp_path / "out")
        write_set(models[1], "val", features, classes=[row % N_CLASSES for row in range(39)] + [0])
        with pytest.raises(FeatureError, match=r"image val_039 is of class 3 in .*mcf.* and of class 0 in .*mnc"):
            scored(models, tmp_path / "again")

    def test_other_number_of_classes_is_refused(self, models, tmp_path):
        other = write_model(tmp_path / "three", 3, 20, n_classes=3)
        with pytest.raises(FeatureError, match="the second model has 3 classes, the first 4"):
            scored((models[0], other), tmp_path / "out")

    def test_missing_set_is_named(self, models, tmp_path):
        (models[1] / "far.parquet").unlink()
        with pytest.raises(FeatureError, match=r"far.parquet: no such file; the sets in this folder: train, val"):
            scored(models, tmp_path / "out")

    def test_other_manifest_or_pictures_moved_by_odin_are_refused(self, models, tmp_path):
        def record(folder, version: str, odin=None) -> None:
            manifest = {"name": f"openimage_o-{version}", "content_sha256": version}
            (folder / "far.json").write_text(json.dumps({"manifest": manifest, "odin": odin}))

        record(models[0], "1.0.0")
        record(models[1], "1.0.1")
        with pytest.raises(
            FeatureError, match=r"far is of manifest openimage_o-1.0.1, of the first model it is of"
        ):
            scored(models, tmp_path / "out")
        record(models[1], "1.0.0", odin={"temperature": 1000, "epsilon": 0.0014})
        with pytest.raises(FeatureError, match="features of pictures that ODIN moved"):
            scored(models, tmp_path / "out")


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"scale": -1.0}, r"DML\+: expected a scale \(lambda\) of at least 0, found -1.0"),
            ({"scale_from": "val"}, "expected scale_from to be train or id_test, found 'val'"),
            ({"balance": 0.0}, r"DML\+: expected a balance above 0, found 0.0"),
            ({"scale": 1.0, "scale_from": "id_test"}, "with a scale .* have no effect"),
            ({"scale": 1.0, "balance": 2.0}, "with a scale .* have no effect"),
        ],
    )
    def test_impossible_option_is_refused(self, models, tmp_path, options, message):
        with pytest.raises(InputError, match=message):
            scored(models, tmp_path / "out", **options)

    def test_options_are_read_from_the_command_line(self):
        given = [("dml_plus.scale_from", "id_test"), ("dml_plus.balance", "3")]
        assert options_from_text(given) == {"dml_plus": {"scale_from": "id_test", "balance": 3.0}}

    def test_method_of_two_models_needs_two(self, models, tmp_path):
        with pytest.raises(InputError, match=r"dml_plus: takes the features of two models: name the second's"):
            score(models[0], NAMES, tmp_path / "out", methods=["dml_plus"], figures=NO_DRAWS)
        with pytest.raises(InputError, match="which only dml_plus reads"):
            score(models[0], NAMES, tmp_path / "out", methods=["msp"], figures=NO_DRAWS, second_dir=models[1])
        head = Head(torch.eye(4), torch.zeros(4))
        with pytest.raises(FeatureError, match="takes the features of two models"):
            DMLPlus.fit(Training(head), scale=1.0).ood_score(Outputs(head, torch.eye(4)))

    def test_one_model_alone_is_scored_without_a_word_on_it(self, models, tmp_path):
        result = score(models[0], NAMES, tmp_path / "one", figures=NO_DRAWS)
        assert "dml_plus" not in {method.name for method in result.methods} | result.refused.keys()
        both = score(models[0], NAMES, tmp_path / "two", figures=NO_DRAWS, second_dir=models[1])
        assert [method.name for method in both.methods][-1] == "dml_plus"


def test_command_scores_two_folders_and_plots_the_result(models, tmp_path, capsys):
    workspace = tmp_path / "ws"
    arguments = ["--workspace", str(workspace), "--features", str(models[0]), "--second-features", str(models[1])]
    chosen = ["--ood", "far", "--method", "max_cosine", "--method", "dml_plus", "--bootstrap", "0"]
    assert cli.run(["score", *arguments, *chosen]) == 0
    assert "DML+" in capsys.readouterr().out
    folder = workspace / "scores" / "mcf.mnc"
    with (folder / "results.csv").open(newline="") as stream:
        assert [row["method"] for row in csv.DictReader(stream)] == ["max_cosine", "dml_plus"]
    record = json.loads((workspace / "provenance" / "score.mcf.mnc.json").read_text())
    assert any(str(models[1] / "train.parquet") == name for name in record["inputs"])
    assert plot_results(folder, tmp_path / "plots").paths


def test_second_model_is_named_below_the_workspaces_features_as_the_first(models, tmp_path, capsys):
    workspace = tmp_path / "ws"
    shutil.copytree(models[0], workspace / "features" / "wrn-40-2.mcf")
    shutil.copytree(models[1], workspace / "features" / "wrn-40-2.mnc")
    arguments = ["--features", "wrn-40-2.mcf", "--second-features", "wrn-40-2.mnc", "--method", "dml_plus"]
    assert cli.run(["score", *arguments, "--ood", "far", "--bootstrap", "0", "--workspace", str(workspace)]) == 0
    assert "DML+" in capsys.readouterr().out
    assert (workspace / "scores" / "wrn-40-2.mcf.wrn-40-2.mnc" / "results.csv").is_file()


class TestWhichModelIsWhich:
    @pytest.fixture
    def named(self, models):
        """The two models with the names that `train-dml` gives."""
        for folder in models:
            for name in N_IMAGES:
                (folder / f"{name}.json").write_text(json.dumps({"model": f"{folder.name} wrn-10-1"}))
        return models

    def doubts(self, first, second, out) -> list[str]:
        result = score(first, NAMES, out, methods=["dml_plus"], figures=NO_DRAWS, second_dir=second)
        assert json.loads((out / "score.json").read_text())["warnings"] == list(result.warnings)
        return [warning for warning in result.warnings if warning.startswith("dml_plus")]

    def test_mcf_first_and_mnc_second_need_no_word(self, named, tmp_path):
        assert self.doubts(*named, tmp_path / "out") == []

    def test_swapped_models_are_told_in_one_line(self, named, tmp_path):
        assert self.doubts(*named[::-1], tmp_path / "out") == [
            "dml_plus takes MCF as the first model and MNC as the second; here they are mnc wrn-10-1 and "
            "mcf wrn-10-1: swap --features and --second-features"
        ]

    def test_one_model_twice_is_told_with_its_name_or_without_any(self, models, tmp_path):
        told = "dml_plus is of one model twice%s: --features is to be of MCF, --second-features of MNC"
        assert self.doubts(models[0], models[0], tmp_path / "unnamed") == [told % ""]
        for name in N_IMAGES:
            (models[0] / f"{name}.json").write_text(json.dumps({"model": "mcf tiny"}))
        assert self.doubts(models[0], models[0], tmp_path / "named") == [told % ", mcf tiny"]

    def test_a_plan_reads_both_folders_and_tells_the_same(self, named, tmp_path):
        plan = plan_score(named[1], NAMES, tmp_path, methods=["dml_plus"], second_dir=named[0])
        read = [str(named[at] / f"{name}.parquet") for at in (1, 0) for name in ("train", "val", "far")]
        assert [line.partition("(")[2].rstrip(")") for line in plan.reads] == read
        assert any(note.startswith("dml_plus takes MCF as the first") for note in plan.notes)
