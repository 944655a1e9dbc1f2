import csv
import math

import pyarrow.parquet as pq
import pytest
import torch

from manifests.errors import FeatureError, InputError
from scoring.feature_sets import feature_set_writer, open_feature_set
from scoring.heads import Head, write_head
from scoring.metrics import METRIC_NAMES
from scoring.score import score
from scoring.tables import results_table

N_CLASSES, N_FEATURES = 4, 12
OOD_SETS = ("far", "near")


def write_set(folder, name: str, image_ids, features: torch.Tensor) -> None:
    with feature_set_writer(folder / f"{name}.parquet", N_FEATURES) as writer:
        writer.write(image_ids, [None] * len(image_ids), features)


@pytest.fixture
def features_dir(tmp_path):
    """A head and sets of 200 training, 90 ID and 2 x 60 OOD images."""
    folder = tmp_path / "features"
    generator = torch.Generator().manual_seed(0)
    head = Head(torch.randn(N_CLASSES, N_FEATURES, generator=generator), torch.zeros(N_CLASSES))
    write_head(folder, head)
    for name, n_images, lean in (("train", 200, 1.0), ("val", 90, 1.0), ("far", 60, 0.0), ("near", 60, 0.5)):
        classes = torch.randint(N_CLASSES, (n_images,), generator=generator)
        noise = torch.randn(n_images, N_FEATURES, generator=generator)
        names = [f"{name}_{number:03}" for number in range(n_images)]
        write_set(folder, name, names, lean * head.weight[classes] + 0.5 * noise)
    return folder


def scores_by_image(result) -> dict[tuple[str, str], dict[str, float]]:
    rows = pq.read_table(result.scores_path).to_pylist()
    return {(row.pop("set"), row.pop("image_id")): row for row in rows}


def test_results_file_holds_every_method_and_set_at_full_precision(features_dir, tmp_path):
    result = score(features_dir, ood_sets=OOD_SETS, out_dir=tmp_path / "out")
    with result.results_path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["method", "set", *METRIC_NAMES]
    assert [(row["method"], row["set"]) for row in rows] == list(result.figures)
    assert len(rows) == 5 * 2
    for row in rows:
        metrics = result.figures[row["method"], row["set"]]
        assert [float(row[name]) for name in METRIC_NAMES] == [getattr(metrics, name) for name in METRIC_NAMES]


def test_scores_file_holds_each_evaluated_image_once(features_dir, tmp_path):
    result = score(features_dir, ood_sets=OOD_SETS, out_dir=tmp_path / "out")
    table = pq.read_table(result.scores_path)
    assert table.schema.names == ["image_id", "set", "msp", "energy", "max_logit", "residual", "vim"]
    assert {str(dtype) for dtype in table.schema.types[2:]} == {"double"}
    expected = {
        (name, image_id)
        for name in ("val", *OOD_SETS)
        for image_id in open_feature_set(features_dir, name).image_ids.to_pylist()
    }
    assert scores_by_image(result).keys() == expected
    assert table.num_rows == len(expected)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["results.csv", "scores.parquet"]


def test_second_run_ends_in_the_same_bytes(features_dir, tmp_path):
    contents = []
    for _ in range(2):
        result = score(features_dir, ood_sets=OOD_SETS, out_dir=tmp_path / "out")
        contents.append((result.scores_path.read_bytes(), result.results_path.read_bytes()))
    assert contents[0] == contents[1]


def test_scores_do_not_depend_on_chunks_or_on_the_order_of_rows(features_dir, tmp_path):
    plain = score(features_dir, ood_sets=OOD_SETS, out_dir=tmp_path / "plain")
    for name in ("train", "val", *OOD_SETS):
        rows = pq.read_table(features_dir / f"{name}.parquet")
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(1)).numpy()
        pq.write_table(rows.take(order), features_dir / f"{name}.parquet")
    other = score(features_dir, ood_sets=OOD_SETS, out_dir=tmp_path / "other", chunk_rows=7)
    expected, found = scores_by_image(plain), scores_by_image(other)
    assert found.keys() == expected.keys()
    for key, scores in expected.items():
        assert found[key] == pytest.approx(scores, rel=1e-5, abs=1e-6)
    for key, metrics in plain.figures.items():
        assert other.figures[key].auroc == pytest.approx(metrics.auroc, abs=1e-3)


def test_methods_without_training_need_no_training_set(features_dir, tmp_path):
    (features_dir / "train.parquet").unlink()
    result = score(features_dir, train=None, ood_sets=["far"], methods=["energy", "msp"], out_dir=tmp_path / "out")
    assert result.n_images == {"val": 90, "far": 60}
    assert (result.dim, result.alpha) == (None, None)
    assert pq.read_schema(result.scores_path).names == ["image_id", "set", "msp", "energy"]


def test_given_dimension_is_used(features_dir, tmp_path):
    assert score(features_dir, ood_sets=["far"], out_dir=tmp_path / "out", dim=3).dim == 3
    assert score(features_dir, ood_sets=["far"], out_dir=tmp_path / "out").dim == N_FEATURES // 2


def test_image_both_in_and_out_is_refused_and_counted(features_dir, tmp_path):
    write_set(features_dir, "mixed", ["train_003", "val_001", "val_002", "new"], torch.ones(4, N_FEATURES))
    with pytest.raises(FeatureError, match=r"mixed\.parquet: 1 of its 4 images are in the ID set train too"):
        score(features_dir, ood_sets=["far", "mixed"], out_dir=tmp_path / "out")
    with pytest.raises(FeatureError, match=r"mixed\.parquet: 2 of its 4 images are in the ID set val too"):
        score(features_dir, ood_sets=["mixed"], methods=["msp"], out_dir=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_validation_images_that_were_trained_on_are_a_warning(features_dir, tmp_path):
    result = score(features_dir, train="val", ood_sets=["far"], out_dir=tmp_path / "out")
    assert result.warnings == (
        "90 of the 90 images of val are in val too, which flatters the methods that are fitted on it",
    )
    assert "Warning: 90 of the 90 images" in results_table(result)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"ood_sets": []}, InputError, "name at least one OOD set"),
        ({"ood_sets": ["far", "far"]}, InputError, "an OOD set is named twice"),
        ({"ood_sets": ["val"]}, InputError, "is an ID set too: train, val, val"),
        ({"ood_sets": ["train"]}, InputError, "is an ID set too"),
        ({"methods": ["odin2"]}, InputError, "method 'odin2' is not known"),
        ({"train": None}, InputError, "residual, vim: fitted on training features; name a training set"),
        ({"dim_rule": "paper"}, FeatureError, r"found D = 512 \(rule paper\)"),
        ({"dim": 12}, FeatureError, r"expected 0 < D < N = 12 features, found D = 12"),
        ({"dim_rule": "half"}, InputError, "rule for D: expected one of repo, paper"),
        ({"ood_sets": ["nowhere"]}, FeatureError, r"nowhere\.parquet: no such file"),
        ({"device": "tpu"}, InputError, "--device: expected auto, cpu, cuda or cuda:N, found 'tpu'"),
    ],
)
def test_wrong_arguments_are_refused_and_write_nothing(features_dir, tmp_path, arguments, error, message):
    with pytest.raises(error, match=message):
        score(features_dir, **({"ood_sets": ["far"], "out_dir": tmp_path / "out"} | arguments))
    assert not (tmp_path / "out").exists()


def test_score_that_overflows_names_method_and_image_and_leaves_no_file(features_dir, tmp_path):
    features = torch.ones(2, N_FEATURES)
    features[1] = 3e38
    write_set(features_dir, "huge", ["calm", "loud"], features)
    with pytest.raises(FeatureError, match=r"huge\.parquet: method .* gives image loud no finite score"):
        score(features_dir, ood_sets=["huge"], methods=["msp"], out_dir=tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_cuda_is_refused_where_there_is_none(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="--device cuda: no CUDA device is available here"):
        score(tmp_path, ood_sets=["far"], out_dir=tmp_path / "out", device="cuda")


def test_table_has_the_layout_of_the_paper(features_dir, tmp_path):
    result = score(features_dir, ood_sets=OOD_SETS, methods=["msp", "vim"], out_dir=tmp_path / "out")
    lines = results_table(result).splitlines()
    assert lines[0] == "AUROC / fpr95_in, %"
    assert lines[1].split() == ["method", "source", "far", "near", "average"]
    far, near = (result.figures["vim", name] for name in OOD_SETS)
    average = f"{50 * (far.auroc + near.auroc):.2f} / {50 * (far.fpr95_in + near.fpr95_in):.2f}"
    expected = (
        f"{100 * far.auroc:.2f} / {100 * far.fpr95_in:.2f}  {100 * near.auroc:.2f} / {100 * near.fpr95_in:.2f}"
    )
    assert lines[3].startswith("ViM")
    assert lines[3].split() == f"ViM feature + logit {expected} {average}".split()
    assert "AUROC / fpr95_out, %" in lines
    assert "share of OOD images let through where 95 % of ID images are kept" in "\n".join(lines)
    assert "share of ID images lost where 95 % of OOD images are caught" in "\n".join(lines)
    assert math.isclose(result.figures["vim", "far"].fpr95_out, far.fpr95_out)
