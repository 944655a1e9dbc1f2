"""Training for DML+: epochs, resuming to the same bytes, features of trained networks."""

import csv
import itertools
import json
import pickle
import signal
import subprocess
import sys
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from curation.threads import one_thread
from manifests.errors import InputError, ModelError
from scoring.dml import train as train_module
from scoring.dml.augmentation import cropped_and_mirrored
from scoring.dml.convergence import measured_convergence
from scoring.dml.data import read_training_data
from scoring.dml.feature_folders import read_ood_sets, write_feature_folder
from scoring.dml.recipe import LOSSES
from scoring.dml.train import train
from scoring.dml.trained import trained_network
from scoring.dml.training_state import read_state
from scoring.heads import Head, read_head
from scoring.plots.training_curves import training_figure
from tests.conftest import REPOSITORY
from tests.dml_world import SHORT_RECIPE, SIDE_PX, pixels_of, rows_of, write_folder, write_pickled_cifar100


@pytest.fixture(autouse=True)
def _one_thread():
    # Layers this small are done before a second thread has woken.
    with one_thread():
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return read_training_data(write_folder(tmp_path_factory.mktemp("colours")))


class TestTraining:
    def test_small_network_learns_colours_and_says_so(self, data, tmp_path):
        lines = []
        recipe = replace(SHORT_RECIPE, n_epochs=6)
        result = train(data, recipe, tmp_path, device="cpu", announce=lines.append)
        assert result.history[-1].val_accuracy == 1.0
        assert result.history[-1].loss < result.history[0].loss
        assert len(lines) == 6
        assert lines[-1].startswith("epoch 6/6: loss ")
        assert "images/s" in lines[-1]
        with (tmp_path / "history.csv").open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        assert [float(row["loss"]) for row in rows] == [figures.loss for figures in result.history]
        assert [float(row["center_weight"]) for row in rows] == [0, 0, 0.001, 0.005, 0.005, 0.005]

    @pytest.mark.parametrize("loss", LOSSES)
    def test_interrupted_training_ends_in_the_bytes_of_an_undisturbed_one(self, data, tmp_path, loss, monkeypatch):
        recipe = replace(SHORT_RECIPE, loss=loss)
        train(data, recipe, tmp_path / "whole", device="cpu")

        def stop_in_third_epoch(*_):
            calls.append(1)
            if len(calls) > 2 * 3 + 1:
                raise KeyboardInterrupt
            return cropped_and_mirrored(*_)

        calls: list[int] = []
        with monkeypatch.context() as patched:
            patched.setattr(train_module, "cropped_and_mirrored", stop_in_third_epoch)
            with pytest.raises(KeyboardInterrupt):
                train(data, recipe, tmp_path / "stopped", device="cpu")
        assert len(read_state(tmp_path / "stopped" / "checkpoint.safetensors").history) == 2
        torch.manual_seed(12345)  # whatever the state of torch
        result = train(data, recipe, tmp_path / "stopped", device="cpu")
        assert result.n_done_before == 2
        for name in ("checkpoint.safetensors", "history.csv", "curves.png"):
            assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "stopped" / name).read_bytes(), name

    def test_killed_training_ends_in_the_bytes_of_an_undisturbed_one(self, tmp_path):
        write_folder(tmp_path / "data")
        # The eighth batch is in the third epoch.
        program = (
            "import os, signal, sys, torch; from pathlib import Path; torch.set_num_threads(1)\n"
            "from scoring.dml import train as module; from scoring.dml.data import read_training_data\n"
            "from tests.dml_world import SHORT_RECIPE\n"
            "calls, crop = [], module.cropped_and_mirrored\n"
            "def counted(*given):\n"
            "    calls.append(1)\n"
            "    if len(calls) == 8:\n"
            "        os.kill(os.getpid(), signal.SIGKILL)\n"
            "    return crop(*given)\n"
            "module.cropped_and_mirrored = counted\n"
            "module.train(read_training_data(Path(sys.argv[1])), SHORT_RECIPE, Path(sys.argv[2]), device='cpu')\n"
        )
        arguments = [sys.executable, "-c", program, str(tmp_path / "data"), str(tmp_path / "killed")]
        assert subprocess.run(arguments, cwd=REPOSITORY).returncode == -signal.SIGKILL
        data = read_training_data(tmp_path / "data")
        assert train(data, SHORT_RECIPE, tmp_path / "killed", device="cpu").n_done_before == 2
        train(data, SHORT_RECIPE, tmp_path / "whole", device="cpu")
        for name in ("checkpoint.safetensors", "history.csv", "curves.png"):
            assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes(), name

    def test_finished_training_is_not_repeated_and_leaves_torchs_generator_alone(self, data, tmp_path):
        first = train(data, SHORT_RECIPE, tmp_path, device="cpu")
        (tmp_path / "curves.png").unlink()
        torch.manual_seed(7)
        expected = torch.rand(1)
        torch.manual_seed(7)
        again = train(data, SHORT_RECIPE, tmp_path, device="cpu", announce=pytest.fail)
        assert torch.equal(torch.rand(1), expected)
        assert (again.n_done_before, again.history) == (4, first.history)
        assert (tmp_path / "curves.png").exists()

    def test_another_seed_gives_other_weights(self, data, tmp_path):
        digests = {
            train(
                data, replace(SHORT_RECIPE, seed=seed, n_epochs=2), tmp_path / str(seed), device="cpu"
            ).model.weights_digest
            for seed in (0, 1)
        }
        assert len(digests) == 2

    def test_training_of_other_settings_or_data_in_the_folder_is_refused(self, data, tmp_path):
        train(data, SHORT_RECIPE, tmp_path / "run", device="cpu")
        with pytest.raises(InputError, match=r"a training with another recipe learning_rate \(0.05, now 0.1\)"):
            train(data, replace(SHORT_RECIPE, learning_rate=0.1), tmp_path / "run", device="cpu")
        other = read_training_data(write_folder(tmp_path / "other", 9))
        with pytest.raises(InputError, match="a training with another data "):
            train(other, SHORT_RECIPE, tmp_path / "run", device="cpu")

    def test_bfloat16_changes_features_by_its_rounding_and_is_part_of_the_settings(self, data, tmp_path):
        # Steps too small to tell the epochs of the two apart by anything but rounding.
        recipe = replace(SHORT_RECIPE, loss="mcf", n_epochs=1, learning_rate=1e-6)
        losses = [
            train(data, recipe, tmp_path / str(amp), device="cpu", amp=amp).history[0].loss
            for amp in (False, True)
        ]
        assert losses[0] != losses[1]
        assert losses[0] == pytest.approx(losses[1], rel=0.05)
        with pytest.raises(InputError, match=r"a training with another amp \(True, now False\)"):
            train(data, recipe, tmp_path / "True", device="cpu", amp=False)

    @pytest.mark.parametrize("content", [b"", b"torn", b"\x10" + bytes(40)])
    def test_damaged_state_is_one_clear_error(self, data, tmp_path, content):
        (tmp_path / "checkpoint.safetensors").write_bytes(content)
        with pytest.raises(ModelError, match="not a state of train-dml"):
            train(data, SHORT_RECIPE, tmp_path, device="cpu")

    def test_diverged_training_says_so_and_keeps_the_last_good_epoch(self, data, tmp_path):
        with pytest.raises(ModelError, match="the training diverged; lower the learning rate"):
            train(data, replace(SHORT_RECIPE, learning_rate=1e30), tmp_path, device="cpu")

    def test_centers_move_only_while_the_center_loss_counts(self, data, tmp_path):
        # Scaled to 4 epochs, the center loss begins with the third.
        centers = {}
        for n_done in (1, 2, 3):
            calls = itertools.count(1)

            def stop(line, n_done=n_done, calls=calls):
                if next(calls) == n_done:
                    raise KeyboardInterrupt

            with pytest.raises(KeyboardInterrupt):
                train(data, SHORT_RECIPE, tmp_path / str(n_done), device="cpu", announce=stop)
            centers[n_done] = read_state(tmp_path / str(n_done) / "checkpoint.safetensors").centers
        assert torch.equal(centers[1], centers[2])
        assert (centers[2] != centers[3]).all()

    def test_convergence_of_a_network_that_sees_all_alike_is_not_defined(self):
        head = Head(torch.eye(3, 4), torch.zeros(3))
        assert measured_convergence(head, torch.ones(6, 4), torch.arange(6) % 3) is None

    def test_curves_show_every_epoch_and_where_the_center_loss_begins(self, data, tmp_path):
        history = train(data, SHORT_RECIPE, tmp_path, device="cpu").history
        axes = training_figure(history, title="mnc").axes
        assert [one.get_title() for one in axes] == [
            "loss", "accuracy, %", "WFC (0 at its best)", "CFC (0 at its best)",
        ]  # fmt: skip
        assert axes[0].lines[0].get_xydata().tolist() == [[one.epoch, one.loss] for one in history]
        assert axes[2].lines[0].get_ydata().tolist() == [one.wfc for one in history]
        # Scaled to 4 epochs: 0.001 would begin in 1.2, 0.005 in 1.6, so both with the third.
        assert [line.get_xdata()[0] for line in axes[0].lines[1:]] == [2.5]


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """A network, and the folder of its training."""
    folder = tmp_path_factory.mktemp("run")
    return train(data, SHORT_RECIPE, folder, device="cpu").model, folder


class TestFeatures:
    def test_the_head_of_a_linear_network_has_its_weights_and_bias_as_score_reads_them(self, data, tmp_path):
        model = train(data, replace(SHORT_RECIPE, loss="linear", n_epochs=2), tmp_path / "run", device="cpu").model
        write_feature_folder(model, data, {}, tmp_path / "f", batch_size=4)
        head = read_head(tmp_path / "f")
        learnt = read_state(tmp_path / "run" / "checkpoint.safetensors").network
        assert torch.equal(head.weight, learnt["weight"])
        assert torch.equal(head.bias, learnt["bias"])
        assert head.bias.any()
        table = pq.read_table(tmp_path / "f" / "val.parquet").to_pydict()
        assert tuple(table["image_id"]) == data.val.image_ids
        with torch.no_grad():
            logits = model.network((data.val.pixels / 255 - 0.5) / 0.5) @ learnt["weight"].T + learnt["bias"]
        torch.testing.assert_close(head.logits(torch.tensor(table["features"])), logits, rtol=1e-4, atol=1e-4)

    def test_loaded_network_is_the_trained_one(self, trained):
        model, folder = trained
        path = folder / "checkpoint.safetensors"
        loaded = trained_network(read_state(path), path)
        assert loaded.weights_digest == model.weights_digest
        assert loaded.preprocessing == model.preprocessing
        torch.testing.assert_close(loaded.head.weight.norm(dim=1), torch.ones(3))
        assert not loaded.head.bias.any()

    def test_state_of_another_network_is_refused(self, trained):
        _, folder = trained
        found = read_state(folder / "checkpoint.safetensors")
        settings = json.loads(json.dumps(found.settings))
        settings["recipe"]["network"] = "wrn-10-1"
        with pytest.raises(ModelError, match="does not hold the network that it names"):
            trained_network(replace(found, settings=settings), folder)

    def test_folder_of_features_holds_what_the_network_makes_of_each_picture(self, data, trained, tmp_path):
        model, _ = trained
        write_folder(tmp_path / "strange", 0, 2)
        ood = read_ood_sets({"strange": tmp_path / "strange"})
        assert write_feature_folder(model, data, ood, tmp_path / "f", batch_size=4) == ("train", "val", "strange")
        table = pq.read_table(tmp_path / "f" / "val.parquet").to_pydict()
        row = table["image_id"].index("val_1_2")
        assert table["class_index"][row] == 1
        pixels = torch.from_numpy(pixels_of(1, 102)).permute(2, 0, 1)[None] / 255
        with torch.no_grad():
            expected = model.network((pixels - 0.5) / 0.5)[0]
        assert table["features"][row] == pytest.approx(expected.tolist(), abs=1e-5)
        assert pq.read_table(tmp_path / "f" / "strange.parquet").column("class_index").null_count == 6

    def test_features_of_cifar_are_written_once_and_without_the_classes_of_an_ood_set(self, trained, tmp_path):
        data = read_training_data(write_pickled_cifar100(tmp_path / "cifar"))
        model = train(data, SHORT_RECIPE, tmp_path / "run", device="cpu").model
        pixels, labels = rows_of(1, 500)
        other = tmp_path / "other"
        other.mkdir()
        for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
            (other / name).write_bytes(pickle.dumps({b"data": pixels, b"labels": labels}))
        ood = read_ood_sets({"cifar10": other})
        for _ in range(2):
            write_feature_folder(model, data, ood, tmp_path / "f", batch_size=5)
            written = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "f").iterdir()}
            first = locals().get("first") or written
            assert written == first
        table = pq.read_table(tmp_path / "f" / "cifar10.parquet")
        assert table.column("image_id").to_pylist() == [f"cifar10_test_0000{number}" for number in range(3)]
        assert table.column("class_index").null_count == 3
        with torch.no_grad():
            mean, std = (torch.tensor(values)[:, None, None] for values in (
                (0.492, 0.482, 0.446), (0.247, 0.244, 0.262)))  # fmt: skip
            expected = model.network(
                (torch.from_numpy(pixels).reshape(-1, 3, SIDE_PX, SIDE_PX) / 255 - mean) / std
            )
        found = torch.tensor(table.column("features").to_pylist())
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)

    def test_ood_set_without_a_readable_picture_is_refused_before_training(self, tmp_path):
        (tmp_path / "a.jpg").write_bytes(b"no picture")
        (tmp_path / "b.png").write_bytes(b"")
        with pytest.raises(InputError, match="none of its 2 pictures can be read"):
            read_ood_sets({"torn": tmp_path})
        Image.new("RGB", (4, 4)).save(tmp_path / "c.png")
        assert len(read_ood_sets({"torn": tmp_path})["torn"].pictures) == 3

    def test_ood_set_called_as_an_id_set_is_refused(self, tmp_path):
        with pytest.raises(InputError, match="--ood val: this is the name of an in-distribution set"):
            read_ood_sets({"val": tmp_path})
