import json
import math
import os
import sys
import types
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from scipy import special
from scipy.spatial.distance import cdist

from manifests.errors import FeatureError, InputError
from scoring.bench import authors, peers, pytorch_ood_detectors
from scoring.bench.alone import time_alone
from scoring.bench.bounds import PARTS_OF_METHOD, Job, gflop_of_products, gflop_together
from scoring.bench.features import OOD_SETS, SIZES, FeatureSize, make_features
from scoring.bench.machine import in_fresh_process
from scoring.bench.report import bench_table
from scoring.bench.run import bench_scoring
from scoring.bench.sets import BenchSets, in_memory
from scoring.bench.subset import PeerCost, timed_scores
from scoring.bench.together import PAPER_METHODS
from scoring.methods.fitting import fit_methods
from scoring.methods.table import METHOD_NAMES, METHODS, methods_named
from scoring.outputs import Outputs
from scoring.statistics.gather import Training

CPU = torch.device("cpu")
WIDE = FeatureSize(12, 120, 2_400, 300, (150, 150, 150, 150))
"""More features than any method wants at least."""

LARGEST_DIFFERENCE = {
    # The peer's float32 softmax is 1 but for a few units in the last place where ours counts the others.
    "msp": 1e-4, "max_logit": 1e-4, "energy": 1e-4, "react": 1e-4, "gradnorm": 1e-4, "kl_matching": 1e-4,
    "mahalanobis": 1e-4,
    # Float32 covariance and eigenvectors on its side: facts of scoring.md, section 5.
    "vim": 1e-3, "residual": 1e-3,
}  # fmt: skip


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make_features(tmp_path_factory.mktemp("tiny"), SIZES["tiny"], seed=0)


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    return BenchSets.open(make_features(tmp_path_factory.mktemp("wide"), WIDE, seed=1), CPU)


@pytest.fixture(scope="module")
def tiny_alone(tiny):
    sets = BenchSets.open(tiny, CPU)
    return sets, time_alone(sets, methods_named(PAPER_METHODS))


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """The benchmark itself, in the smallest size, without pytorch-ood whether or not it is installed."""
    workdir = tmp_path_factory.mktemp("bench")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scoring.bench.run.installed_version", lambda: None)
        found = bench_scoring(workdir=workdir, size="tiny", device="cpu", methods=["msp", "nusa", "vim", "neco"])
    return workdir, found


class TestFeatures:
    def test_sets_are_as_large_as_their_size_says(self, tiny):
        sets = BenchSets.open(tiny, CPU)
        assert sets.n_images == {"train": 2000, "val": 1000, **dict.fromkeys(sorted(OOD_SETS), 500)}
        assert (sets.head.n_classes, sets.head.n_features) == (10, 64)

    def test_classes_are_equally_frequent_and_ood_images_have_none(self, tiny):
        _, classes = in_memory(BenchSets.open(tiny, CPU).train)
        assert np.bincount(classes).tolist() == [200] * 10
        assert pq.read_table(tiny / "far.parquet").column("class_index").null_count == 500

    def test_equal_seeds_make_equal_files_and_others_do_not(self, tiny, tmp_path):
        again = make_features(tmp_path / "again", SIZES["tiny"], seed=0)
        other = make_features(tmp_path / "other", SIZES["tiny"], seed=1)
        for path in sorted(tiny.iterdir()):
            assert (again / path.name).read_bytes() == path.read_bytes(), path.name
            assert (other / path.name).read_bytes() != path.read_bytes(), path.name

    def test_only_a_missing_set_is_made_again_and_is_the_same(self, tiny, tmp_path):
        folder = make_features(tmp_path, SIZES["tiny"], seed=0)
        (folder / "near.parquet").unlink()
        kept = (folder / "far.parquet").stat().st_mtime_ns
        make_features(folder, SIZES["tiny"], seed=0)
        assert (folder / "near.parquet").read_bytes() == (tiny / "near.parquet").read_bytes()
        assert (folder / "far.parquet").stat().st_mtime_ns == kept

    @pytest.mark.parametrize("has_layer_norm", [False, True])
    def test_the_head_is_right_as_often_as_trained_ones_are(self, tmp_path, has_layer_norm):
        size = replace(SIZES["small"], n_train=2000, n_val=1000, has_layer_norm=has_layer_norm)
        sets = BenchSets.open(make_features(tmp_path, size, seed=2), CPU)
        features, classes = in_memory(sets.scored[0])
        predicted = Outputs(sets.head, features).predicted.numpy()
        assert 0.7 < (predicted == classes).mean() < 0.9
        assert bool((features < 0).any()) is has_layer_norm

    @pytest.mark.parametrize("has_layer_norm", [False, True])
    def test_every_method_can_be_fitted_and_warns_of_nothing(self, tmp_path, has_layer_norm):
        size = replace(WIDE, has_layer_norm=has_layer_norm)
        sets = BenchSets.open(make_features(tmp_path, size, seed=3), CPU)
        fitted = fit_methods(METHODS, Training(sets.head, sets.train, group_of=sets.group_of))
        assert fitted.refused == {}
        assert [scorer.warnings for scorer in fitted.scorers.values() if scorer.warnings] == []

    def test_no_size_of_another_name(self, tmp_path):
        with pytest.raises(InputError, match="size: expected one of tiny, small, vit, bit, found 'huge'"):
            bench_scoring(workdir=tmp_path, size="huge")


class TestPeers:
    """The formulations themselves, against a third way to the same numbers."""

    def logits(self) -> np.ndarray:
        return np.random.default_rng(0).normal(size=(30, 6)).astype(np.float32) * 3

    def test_gradnorm_is_the_product_of_two_sums(self):
        draw = np.random.default_rng(1)
        features, weight = (draw.normal(size=shape).astype(np.float32) for shape in ((20, 9), (6, 9)))
        bias = draw.normal(size=6).astype(np.float32)
        probabilities = special.softmax(features @ weight.T + bias, axis=1)
        expected = -np.abs(6 * probabilities - 1).sum(axis=1) * np.abs(features).sum(axis=1)
        np.testing.assert_allclose(peers.gradnorm_by_backward(features, weight, bias), expected, rtol=1e-5)

    def test_mahalanobis_is_scipys_distance_squared(self):
        draw = np.random.default_rng(2)
        classes = np.arange(400) % 5
        train = (draw.normal(size=(5, 8))[classes] + draw.normal(size=(400, 8))).astype(np.float32)
        means, precision = peers.mahalanobis_fit(train, classes, 5)
        centred = train - means[classes]
        np.testing.assert_allclose(precision, np.linalg.inv(centred.T @ centred / 400), rtol=1e-3, atol=1e-4)
        features = draw.normal(size=(30, 8)).astype(np.float32)
        distances = cdist(features, means, "mahalanobis", VI=precision) ** 2
        np.testing.assert_allclose(
            peers.mahalanobis_by_image(features, means, precision), distances.min(axis=1), rtol=1e-5
        )

    def test_kl_matching_is_scipys_relative_entropy_and_zeros_count_nothing(self):
        probabilities = peers.softmax_of(self.logits())
        templates = peers.kl_matching_fit(probabilities)
        probabilities[0] = np.eye(6)[0]
        divergences = special.rel_entr(probabilities[:, None].astype(np.float64), templates[None]).sum(axis=2)
        found = peers.kl_matching_by_pair(probabilities, templates)
        np.testing.assert_allclose(found, divergences.min(axis=1), rtol=1e-5)

    def test_templates_are_means_of_the_images_predicted_so(self):
        probabilities = peers.softmax_of(self.logits())
        chosen = probabilities[probabilities.argmax(axis=1) == 2]
        np.testing.assert_allclose(peers.kl_matching_fit(probabilities)[2], chosen.mean(axis=0), rtol=1e-6)


class TestAuthors:
    def test_their_scores_are_ours(self, tiny_alone):
        costs = {cost.method: cost for cost in authors.time_authors(*tiny_alone)}
        assert set(costs) == {"head product", "softmax", *PAPER_METHODS}
        for method, most in LARGEST_DIFFERENCE.items():
            assert costs[method].agreement < most, method
            assert costs[method].note == ""
        assert {name for name, cost in costs.items() if cost.fit_s is None} == {
            "msp", "max_logit", "energy", "gradnorm",
        }  # fmt: skip

    def test_without_memory_slow_methods_are_scored_with_our_fit_and_others_left_out(
        self, tiny_alone, monkeypatch
    ):
        monkeypatch.setattr(authors, "available_memory_bytes", lambda: 0)
        costs = {cost.method: cost for cost in authors.time_authors(*tiny_alone)}
        _, alone = tiny_alone
        ours = {cost.name: cost for cost in alone.costs}
        for method in ("mahalanobis", "kl_matching"):
            cost = costs[method]
            assert cost.agreement < LARGEST_DIFFERENCE[method]
            assert cost.note == "scores alone: too little memory for the fit"
            fit_s = ours[method].statistics_s + ours[method].fit_s
            assert cost.ours_s == pytest.approx(ours[method].total_s - fit_s)
        assert costs["vim"].note == "left out: too little memory for the fit"
        assert costs["vim"].total_s is None

    def test_as_many_images_as_the_budget_allows_and_at_least_a_batch(self):
        asked = []

        def score(rows: slice) -> np.ndarray:
            asked.append((rows.start, rows.stop))
            return np.arange(10.0)[rows]

        timed = timed_scores(score, 10, 4, CPU, budget_s=0.0)
        assert asked == [(0, 4), (0, 4)]
        assert timed.scores.tolist() == [0.0, 1.0, 2.0, 3.0]
        assert timed_scores(score, 10, 4, CPU, budget_s=math.inf).scores.tolist() == list(range(10))


class TestAlone:
    def test_scores_are_those_of_methods_fitted_together(self, wide):
        alone = time_alone(wide, METHODS)
        fitted = fit_methods(METHODS, Training(wide.head, wide.train, group_of=wide.group_of))
        assert alone.timed_features.shape == (wide.n_scored, WIDE.n_features)
        outputs = Outputs(wide.head, alone.timed_features)
        for name, scorer in fitted.scorers.items():
            torch.testing.assert_close(alone.scores[name], scorer.ood_score(outputs), rtol=1e-5, atol=1e-6)

    def test_a_shared_statistic_is_in_both_bills(self, wide):
        together = {cost.name: cost for cost in time_alone(wide, methods_named(["residual", "neco"])).costs}
        # Both ask for the moments alone.
        assert together["residual"].statistics_s == together["neco"].statistics_s > 0

    def test_a_method_that_cannot_be_fitted_has_its_reason(self, tiny):
        (cost,) = time_alone(BenchSets.open(tiny, CPU), methods_named(["neco"])).costs
        assert cost.refused is not None
        assert cost.refused.startswith("expected 0 < dim < 64 features, found dim = 100")

    def test_scores_of_all_images_are_extrapolated(self, wide):
        (cost,) = time_alone(wide, methods_named(["vim"])).costs
        half = replace(cost, n_timed=10, n_scored=30, score_s=2.0, statistics_s=1.0, fit_s=0.5)
        assert half.total_s == 1.0 + 0.5 + 6.0


class TestBounds:
    # ViT size: 200,000 training images, 84,792 scored.
    VIT = Job(K=200_000, V=84_792, N=768, C=1_000, D=512, G=8)

    @pytest.mark.parametrize(
        ("method", "gflop"),
        [
            ("kl_matching", 169.584),  # 2 x 84,792 x 1,000^2
            ("react", 130.240512),  # 2 x 84,792 x 768 x 1,000
            ("residual", 151.459971072),  # 200,000 x 768 x 769 + 2 x 84,792 x 768 x 256
            ("vim", 230.103171072),  # 200,000 x 768 x 769 + 2 x 284,792 x 768 x 256
            ("mahalanobis", 298.436388864),  # 118.1184 + 84,792 x 768 x 769 + 2 x 84,792 x 768 x 1,000
            ("knn", 26_048.1024),  # 2 x 84,792 x 768 x 200,000
            ("max_group", 1.356672),  # 2 x 84,792 x 1,000 x 8
        ],
    )
    def test_formulas_at_vit_size_worked_out_by_hand(self, method, gflop):
        assert gflop_of_products(method, self.VIT) == pytest.approx(gflop, rel=1e-12)

    def test_methods_without_a_product_have_no_bound(self):
        assert gflop_of_products("gradnorm", self.VIT) is None

    def test_what_methods_share_is_counted_once(self):
        # Head 437.440512; ReAct; ViM, which holds Residual; Mahalanobis without the moment 180.317988864; KL.
        expected = 437.440512 + 130.240512 + 230.103171072 + 180.317988864 + 169.584
        assert gflop_together(PAPER_METHODS, self.VIT) == pytest.approx(expected, rel=1e-12)

    def test_every_method_of_the_table_has_a_formula(self):
        assert PARTS_OF_METHOD.keys() == set(METHOD_NAMES)


class TestDetectors:
    """pytorch-ood's part, with a stand-in: the package itself need not be installed."""

    class MaxSoftmax:
        def __init__(self, model):
            assert model is None

        def predict_logits(self, logits):
            return -logits.softmax(dim=1).amax(dim=1)

    class KLMatching(MaxSoftmax):
        def fit_logits(self, logits, labels):
            raise ValueError("no such\nclass")

    @pytest.fixture
    def _stand_in(self, monkeypatch):
        module = types.ModuleType("pytorch_ood.detector")
        module.MaxSoftmax, module.KLMatching = self.MaxSoftmax, self.KLMatching
        monkeypatch.setitem(sys.modules, "pytorch_ood", types.ModuleType("pytorch_ood"))
        monkeypatch.setitem(sys.modules, "pytorch_ood.detector", module)

    @pytest.mark.usefixtures("_stand_in")
    def test_a_detector_is_timed_and_compared(self, wide):
        (cost,) = pytorch_ood_detectors.time_detectors(wide, methods_named(["msp", "neco"]))
        assert cost.peer == "pytorch-ood MaxSoftmax"
        assert cost.n_timed == wide.n_scored
        assert cost.agreement > 0.999
        assert cost.ratio == pytest.approx(cost.score_s / cost.ours_s)

    @pytest.mark.usefixtures("_stand_in")
    def test_one_that_raises_is_a_line(self, wide):
        (cost,) = pytorch_ood_detectors.time_detectors(wide, methods_named(["kl_matching"]))
        assert cost.note == "failed: ValueError: no such class"
        assert cost.total_s is None

    @pytest.mark.usefixtures("_stand_in")
    def test_one_that_memory_does_not_hold_is_left_out(self, wide, monkeypatch):
        monkeypatch.setattr(pytorch_ood_detectors, "available_memory_bytes", lambda: 0)
        (cost,) = pytorch_ood_detectors.time_detectors(wide, methods_named(["msp"]))
        assert cost.note.startswith("left out: takes")
        assert cost.ours_s > 0

    def test_ranks_agree_whatever_the_scale(self):
        draw = np.random.default_rng(0).normal(size=50)
        assert pytorch_ood_detectors.rank_correlation(draw, np.exp(draw)) == pytest.approx(1.0)
        assert pytorch_ood_detectors.rank_correlation(draw, -draw) == pytest.approx(-1.0)

    def test_the_detectors_of_the_package_score_as_we_do(self, wide):
        pytest.importorskip("pytorch_ood")
        for cost in pytorch_ood_detectors.time_detectors(wide, METHODS):
            # Its VRA has a threshold for each feature apart.
            assert cost.agreement > (0.5 if cost.method == "vra" else 0.999), cost


class TestBench:
    def test_all_parts_are_there_and_kept_as_json(self, result):
        workdir, found = result
        assert found.together.methods == tuple(name for name in METHOD_NAMES if name in PAPER_METHODS)
        assert found.together.refused == {}
        assert [cost.name for cost in found.alone] == ["msp", "nusa", "vim", "neco"]
        assert {cost.method for cost in found.authors} == {"head product", "softmax", "msp", "vim"}
        kept = json.loads((workdir / "bench_tiny_seed0_v1.json").read_text())
        assert kept["together"]["total_s"] == found.together.total_s
        assert kept["job"] == {"K": 2000, "V": 3000, "N": 64, "C": 10, "D": 32, "G": 8}
        (vim,) = (cost for cost in kept["authors"] if cost["method"] == "vim")
        assert vim["ratio"] == pytest.approx(vim["total_s"] / vim["ours_s"])

    def test_seconds_add_up_and_the_training_set_is_read_twice(self, result):
        cost = result[1].together
        assert len(cost.fit_readings) == 2
        parts = [*(reading.seconds for reading in cost.fit_readings), cost.solving_s, cost.scoring.seconds]
        assert cost.total_s == pytest.approx(sum(parts) + cost.metrics_s)
        assert cost.imports_mb < cost.peak_mb

    def test_ood_sets_are_told_apart(self, result):
        assert result[1].together.auroc["mahalanobis"]["texture"] > 0.7

    def test_table_says_what_was_extrapolated_and_what_was_not(self, result):
        _, found = result
        timed = PeerCost("vim", "somebody", 1.0, 2.0, 20, 3000, 10.0, 1e-5)
        failed = replace(timed, method="msp", n_timed=0, note="failed: ValueError: no such class")
        table = bench_table(replace(found, authors=(timed, failed)))
        (row,) = (line for line in table.splitlines() if line.startswith("vim") and "somebody" in line)
        # 1 s of fit and 2 s for 20 images, so 300 s for 3,000.
        assert row.split() == [
            "vim", "somebody", "1.00", "100", "301", "10.0", "30", "x", "1e-05",
            "20", "of", "3,000", "images,", "extrapolated",
        ]  # fmt: skip
        assert "  msp, somebody: failed: ValueError: no such class" in table.splitlines()
        assert "scores: all 3,000 images" in table

    def test_table_names_machine_refusals_and_what_to_install(self, result):
        table = bench_table(result[1])
        assert f"{torch.get_num_threads()} threads" in table
        assert "not timed: neco: expected 0 < dim < 64 features" in table
        assert "pip install 'openimage-o-toolkit[bench]'" in table

    def test_methods_that_multiply_nothing_have_no_bound(self, result):
        rows = [line.split() for line in bench_table(result[1]).splitlines()]
        (msp,) = (row for row in rows if row[:1] == ["msp"] and len(row) == 8)
        assert msp[5:] == ["-", "-", "-"]

    def test_a_folder_of_features_is_taken_as_it_is(self, tiny, tmp_path, monkeypatch):
        monkeypatch.setattr("scoring.bench.run.in_fresh_process", lambda function, *args: function(*args))
        found = bench_scoring(
            workdir=tmp_path, features_dir=tiny, device="cpu", methods=["max_logit"], peers=False
        )
        assert found.features == tiny.name
        assert found.authors == found.detectors == ()
        assert [path.name for path in tmp_path.iterdir()] == [f"bench_{tiny.name}.json"]

    def test_a_folder_without_ood_sets_is_refused(self, tiny, tmp_path):
        for name in ("head.safetensors", "train.parquet", "val.parquet"):
            (tmp_path / name).write_bytes((tiny / name).read_bytes())
        with pytest.raises(FeatureError, match="expected the sets train, val and at least one more, an OOD set"):
            in_fresh_process(BenchSets.open, tmp_path, CPU)

    def test_a_fresh_process_is_another(self):
        assert in_fresh_process(os.getpid) != os.getpid()
