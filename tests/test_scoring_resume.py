import dataclasses
import json
import os
import random
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from manifests.errors import FeatureError
from scoring.extract import extract_features
from scoring.partial_sets import Part, PartRows, PartStore, parts_of
from scoring.pictures import Picture, pictures_in_folder
from tests.extract_world import N_CLASSES, features_of, jpeg, tiny_classifier

BATCH_SIZE = 4


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    return tiny_classifier(tmp_path_factory.mktemp("weights"))


@pytest.fixture(autouse=True)
def _short_parts(monkeypatch):
    monkeypatch.setattr("scoring.extract._LEAST_PART", 8)
    monkeypatch.setattr("scoring.extract._BATCHES_A_PART", 2)


@pytest.fixture(autouse=True)
def _one_thread():
    """Small tensors gain nothing from two threads, which wait for each other where the cores are busy."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


def fill(folder, names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / f"{name}.jpg").write_bytes(jpeg(int(name, 16)))
    return folder


@pytest.fixture
def folder(tmp_path):
    """Eighty pictures: about ten parts."""
    return fill(tmp_path / "pictures", [f"{number:04x}" for number in range(0, 160, 2)])


def extract(folder, classifier, out, **arguments):
    source = pictures_in_folder(folder, labels_path=arguments.pop("labels_path", None), n_classes=N_CLASSES)
    arguments = {"set_name": "val", "batch_size": BATCH_SIZE} | arguments
    return extract_features(source, classifier, features_dir=out, **arguments)


def files_in(out):
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


class StoppedNetwork(torch.nn.Module):
    """Another network that is interrupted after some batches."""

    def __init__(self, network, n_batches):
        super().__init__()
        self.network, self.n_left = network, n_batches

    def forward_features(self, pixels):
        self.n_left -= 1
        if self.n_left < 0:
            raise KeyboardInterrupt
        return self.network.forward_features(pixels)

    def forward_head(self, features, pre_logits):
        return self.network.forward_head(features, pre_logits=pre_logits)


def stopped(classifier, n_batches):
    return dataclasses.replace(classifier, network=StoppedNetwork(classifier.network, n_batches))


def test_parts_are_the_pictures_in_order_and_as_long_as_asked_on_average():
    pictures = [Picture(f"{number:08x}", Path(f"{number}.jpg")) for number in range(40_000)]
    parts = parts_of(pictures, 100)
    assert [picture for part in parts for picture in part.pictures] == pictures
    # Lengths are geometric: the mean of 400 has a standard error of 5.
    assert 40_000 / len(parts) == pytest.approx(100, abs=20)


def test_a_picture_more_or_less_changes_the_part_around_it_alone():
    pictures = [Picture(f"{number:08x}", Path(f"{number}.jpg")) for number in range(5_000)]
    names = {part.name for part in parts_of(pictures, 50)}
    for seed in range(20):
        without = list(pictures)
        del without[random.Random(seed).randrange(1, 5_000)]
        assert len(names - {part.name for part in parts_of(without, 50)}) <= 2


def test_a_stopped_run_goes_on_and_ends_in_the_bytes_of_an_undisturbed_one(classifier, folder, tmp_path):
    extract(folder, classifier, tmp_path / "undisturbed")
    for n_batches in (9, 5):
        with pytest.raises(KeyboardInterrupt):
            extract(folder, stopped(classifier, n_batches), tmp_path / "out")
    assert len(list((tmp_path / "out/val.parts").iterdir())) > 1
    assert not (tmp_path / "out/val.parquet").exists()
    result = extract(folder, classifier, tmp_path / "out")
    assert 0 < result.speed.n_images < 80
    assert result.n_done_before == 80 - result.speed.n_images
    assert files_in(tmp_path / "out") == files_in(tmp_path / "undisturbed")


def test_an_unreadable_picture_leaves_the_bits_of_other_parts_alone(classifier, folder, tmp_path):
    extract(folder, classifier, tmp_path / "whole")
    (folder / "0002.jpg").write_bytes(b"<html>")
    result = extract(folder, classifier, tmp_path / "broken")
    assert (result.n_images, result.n_unreadable) == (79, 1)
    whole, broken = features_of(tmp_path / "whole", "val"), features_of(tmp_path / "broken", "val")
    parts = parts_of(pictures_in_folder(folder).pictures, 8)
    others = [picture.image_id for part in parts[1:] for picture in part.pictures]
    assert len(others) > 40
    assert all(torch.equal(whole[image_id], broken[image_id]) for image_id in others)


def test_a_second_run_reads_writes_and_computes_nothing_anew(classifier, folder, tmp_path):
    extract(folder, classifier, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    result = extract(folder, stopped(classifier, 0), tmp_path / "out")
    assert (result.n_images, result.n_done_before, result.speed.n_images) == (80, 80, 0)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before


def test_pictures_moved_and_touched_are_the_same_pictures(classifier, folder, tmp_path):
    extract(folder, classifier, tmp_path / "out")
    moved = Path(shutil.move(folder, tmp_path / "moved"))
    for path in moved.iterdir():
        os.utime(path, (1, 1))
    assert extract(moved, stopped(classifier, 0), tmp_path / "out").speed.n_images == 0


def add_picture(folder):
    fill(folder, ["0033"])


def remove_picture(folder):
    (folder / "0044.jpg").unlink()


def change_picture(folder):
    content = jpeg(1)
    time_ns = (folder / "0044.jpg").stat().st_mtime_ns
    (folder / "0044.jpg").write_bytes(content)
    os.utime(folder / "0044.jpg", ns=(time_ns, time_ns))


def break_picture(folder):
    (folder / "0044.jpg").write_bytes(b"")


@pytest.mark.parametrize("change", [add_picture, remove_picture, change_picture, break_picture])
def test_after_a_change_only_its_part_is_made_and_the_bytes_are_those_of_a_new_run(
    classifier, folder, tmp_path, change
):
    (folder / "0012.jpg").write_bytes(b"never readable")
    extract(folder, classifier, tmp_path / "out")
    change(folder)
    result = extract(folder, classifier, tmp_path / "out")
    assert 0 < result.speed.n_images < 40
    extract(folder, classifier, tmp_path / "anew")
    assert files_in(tmp_path / "out") == files_in(tmp_path / "anew")


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\n", b"image_id,status,reason\n0012,failed\n"])
def test_a_damaged_list_of_what_was_unreadable_says_to_delete_the_set(classifier, folder, tmp_path, content):
    (folder / "0012.jpg").write_bytes(b"never readable")
    extract(folder, classifier, tmp_path / "out")
    (list_path,) = (tmp_path / "out").glob("*.unreadable.csv")
    list_path.write_bytes(content)
    add_picture(folder)
    with pytest.raises(FeatureError, match=r"unreadable\.csv: expected image_id,status,reason .*delete the set"):
        extract(folder, classifier, tmp_path / "out")


def test_a_change_while_a_run_was_stopped_is_seen(classifier, folder, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        extract(folder, stopped(classifier, 12), tmp_path / "out")
    (folder / "0000.jpg").write_bytes(jpeg(7))
    extract(folder, classifier, tmp_path / "out")
    extract(folder, classifier, tmp_path / "anew")
    assert files_in(tmp_path / "out") == files_in(tmp_path / "anew")


def test_a_stopped_run_over_a_finished_set_loses_neither(classifier, folder, tmp_path):
    extract(folder, classifier, tmp_path / "out")
    finished = files_in(tmp_path / "out")
    for name in ("0011", "0055", "0091"):
        fill(folder, [name])
    with pytest.raises(KeyboardInterrupt):
        extract(folder, stopped(classifier, 3), tmp_path / "out")
    assert finished.items() <= files_in(tmp_path / "out").items()
    assert extract(folder, classifier, tmp_path / "out").n_done_before > 40
    extract(folder, classifier, tmp_path / "anew")
    assert files_in(tmp_path / "out") == files_in(tmp_path / "anew")


def test_new_labels_reach_the_set_without_the_network(classifier, folder, tmp_path):
    extract(folder, classifier, tmp_path / "out")
    labels = tmp_path / "labels.csv"
    labels.write_text("file,class_index\n0004.jpg,3\n")
    result = extract(folder, stopped(classifier, 0), tmp_path / "out", labels_path=labels)
    assert (result.n_labelled, result.speed.n_images) == (1, 0)
    assert pq.read_table(result.features_path)["class_index"].to_pylist()[:4] == [None, None, 3, None]


def test_another_manifest_of_the_same_pictures_reaches_the_record_without_the_network(
    classifier, folder, tmp_path
):
    source = pictures_in_folder(folder)
    for manifest in (
        None,
        {"name": "a-1.0.0", "content_sha256": "abc"},
        {"name": "a-1.0.1", "content_sha256": "d"},
    ):
        result = extract_features(
            dataclasses.replace(source, manifest=manifest),
            classifier if manifest is None else stopped(classifier, 0),
            set_name="val",
            features_dir=tmp_path / "out",
            batch_size=BATCH_SIZE,
        )
        assert json.loads(result.record_path.read_text())["manifest"] == manifest


@pytest.mark.parametrize("other", [{"batch_size": 2}, {"set_name": "far"}])
def test_parts_of_other_settings_or_another_set_are_not_taken(classifier, folder, tmp_path, other):
    with pytest.raises(KeyboardInterrupt):
        extract(folder, stopped(classifier, 12), tmp_path / "out", **other)
    assert extract(folder, classifier, tmp_path / "out").n_done_before == 0


def test_a_record_from_before_parts_were_recorded_does_not_pass_for_finished(classifier, folder, tmp_path):
    result = extract(folder, classifier, tmp_path / "out")
    record = json.loads(result.record_path.read_text())
    result.record_path.write_text(json.dumps({k: v for k, v in record.items() if k not in ("parts", "odin")}))
    assert extract(folder, classifier, tmp_path / "out").speed.n_images == 80
    assert json.loads(result.record_path.read_text()) == record


def test_a_damaged_set_does_not_pass_for_finished(classifier, folder, tmp_path):
    result = extract(folder, classifier, tmp_path / "out")
    content = result.features_path.read_bytes()
    result.features_path.write_bytes(content[:-100])
    assert extract(folder, classifier, tmp_path / "out").speed.n_images == 80
    assert result.features_path.read_bytes() == content


@pytest.fixture
def part():
    return Part((Picture("a", Path("a.jpg")), Picture("b", Path("b.jpg"), 90), Picture("c", Path("c.jpg"))))


def test_a_stored_part_is_read_as_it_was_written(part, tmp_path):
    rows = PartRows("abc", {"b": ("undecodable", "cannot be decoded")}, torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    store = PartStore(tmp_path / "parts", "settings")
    assert store.pictures_sha256(part) is None
    store.write(part, rows)
    assert store.pictures_sha256(part) == "abc"
    found = store.read(part)
    assert (found.pictures_sha256, found.unreadable) == (rows.pictures_sha256, rows.unreadable)
    assert torch.equal(found.features, rows.features)
    store.delete()
    assert not (tmp_path / "parts").exists()


def test_a_stored_part_without_a_readable_picture_is_one(part, tmp_path):
    rows = PartRows("abc", dict.fromkeys("abc", ("not_an_image", "the file is empty")), torch.empty(0, 5))
    store = PartStore(tmp_path / "parts", "settings")
    store.write(part, rows)
    assert store.read(part).features.shape == (0, 5)


def test_a_part_of_other_settings_rotation_or_half_a_file_is_none(part, tmp_path):
    store = PartStore(tmp_path / "parts", "settings")
    store.write(part, PartRows("abc", {}, torch.ones(3, 2)))
    assert PartStore(tmp_path / "parts", "others").pictures_sha256(part) is None
    turned = Part((*part.pictures[:2], dataclasses.replace(part.pictures[2], rotation_deg=180)))
    assert store.pictures_sha256(turned) is None
    (path,) = (tmp_path / "parts").iterdir()
    for n_bytes in (0, 5, 60, path.stat().st_size - 1):
        path.write_bytes(path.read_bytes()[:n_bytes] if n_bytes < path.stat().st_size else path.read_bytes())
        assert store.pictures_sha256(part) is None
