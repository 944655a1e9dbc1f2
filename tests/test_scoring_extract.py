import dataclasses
import json

import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from manifests.errors import FeatureError, InputError
from scoring.extract import extract_features
from scoring.heads import Head, read_head, write_head
from scoring.pictures import Picture, PictureSource, pictures_in_folder
from tests.extract_world import N_CLASSES, features_of, jpeg, tiny_classifier


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    return tiny_classifier(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def folder(tmp_path):
    """Six pictures, some in folders below, in an order that is not that of their ids."""
    for seed, name in enumerate(["f.jpg", "deep/a.jpg", "deep/er/c.JPEG", "b.jpg", "e.png", "d.webp"]):
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(seed))
    return tmp_path / "pictures"


def test_features_of_a_folder_are_sorted_and_equal_those_of_the_network(classifier, folder, tmp_path):
    result = extract_features(
        pictures_in_folder(folder), classifier, set_name="val", features_dir=tmp_path / "out", batch_size=4
    )
    assert (result.n_images, result.n_unreadable, result.n_labelled, result.top1) == (6, 0, 0, None)
    found = features_of(tmp_path / "out", "val")
    assert list(found) == ["a", "b", "c", "d", "e", "f"]
    image = Image.open(folder / "deep/a.jpg")
    with torch.inference_mode():
        output = classifier.network(classifier.preprocessing.pixels(image)[None])
    head = read_head(tmp_path / "out")
    torch.testing.assert_close(head.logits(found["a"][None]), output, rtol=1e-4, atol=1e-5)


def test_any_number_of_threads_ends_in_the_same_bytes(classifier, folder, tmp_path):
    contents = []
    for n_workers in (1, 4):
        out = tmp_path / f"by{n_workers}"
        extract_features(
            pictures_in_folder(folder), classifier, set_name="val", features_dir=out, n_workers=n_workers
        )
        contents.append({path.name: path.read_bytes() for path in out.iterdir()})
    assert contents[0] == contents[1]
    assert contents[0].keys() == {"head.safetensors", "val.json", "val.parquet", "val.unreadable.csv"}


def test_batch_size_changes_features_by_rounding_alone(classifier, folder, tmp_path):
    for batch_size in (1, 5):
        extract_features(
            pictures_in_folder(folder),
            classifier,
            set_name=f"by{batch_size}",
            features_dir=tmp_path / "out",
            batch_size=batch_size,
        )
    one, other = features_of(tmp_path / "out", "by1"), features_of(tmp_path / "out", "by5")
    for image_id, features in one.items():
        torch.testing.assert_close(features, other[image_id], rtol=1e-4, atol=1e-5)


def test_broken_pictures_among_good_ones_become_rows_with_a_reason(classifier, folder, tmp_path):
    (folder / "b.jpg").write_bytes(jpeg(3)[:300])
    (folder / "f.jpg").write_bytes(b"<html>not found</html>")
    (folder / "e.png").write_bytes(b"")
    result = extract_features(
        pictures_in_folder(folder), classifier, set_name="far", features_dir=tmp_path / "out", batch_size=2
    )
    assert (result.n_images, result.n_unreadable) == (3, 3)
    rows = result.unreadable_path.read_text().splitlines()
    assert rows[0] == "image_id,status,reason"
    assert rows[1].startswith("b,undecodable,cannot be decoded (")
    assert rows[2] == "e,not_an_image,the file is empty"
    assert rows[3].startswith("f,not_an_image,the file starts with <html>")
    assert list(features_of(tmp_path / "out", "far")) == ["a", "c", "d"]
    assert json.loads(result.record_path.read_text())["counts"]["unreadable"] == 3


def test_list_of_unreadable_pictures_of_an_earlier_run_does_not_stay(classifier, folder, tmp_path):
    good = (folder / "b.jpg").read_bytes()
    for content, n_rows in ((good[:100], 2), (good, 1)):
        (folder / "b.jpg").write_bytes(content)
        result = extract_features(
            pictures_in_folder(folder), classifier, set_name="far", features_dir=tmp_path / "out"
        )
        assert len(result.unreadable_path.read_text().splitlines()) == n_rows


def test_folder_without_a_readable_picture_is_refused_and_writes_no_set(classifier, folder, tmp_path):
    for path in folder.rglob("*.*"):
        path.write_bytes(b"nothing")
    with pytest.raises(
        FeatureError, match="far: none of 6 pictures can be read; the first, a: not_an_image: the file"
    ):
        extract_features(pictures_in_folder(folder), classifier, set_name="far", features_dir=tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"head.safetensors", "far.parts"}


def test_labels_reach_the_features_and_the_accuracy(classifier, folder, tmp_path):
    extract_features(pictures_in_folder(folder), classifier, set_name="plain", features_dir=tmp_path / "out")
    head = read_head(tmp_path / "out")
    predicted = {
        name: int(head.logits(row[None]).argmax()) for name, row in features_of(tmp_path / "out", "plain").items()
    }
    wrong = (predicted["b"] + 1) % N_CLASSES
    labels = tmp_path / "labels.csv"
    labels.write_text(
        f"file,class_index\ndeep/a.jpg,{predicted['a']}\nb.jpg,{wrong}\nc.JPEG,{predicted['c']}\n",
        encoding="utf-8",
    )
    source = pictures_in_folder(folder, labels_path=labels, n_classes=N_CLASSES)
    result = extract_features(source, classifier, set_name="val", features_dir=tmp_path / "out")
    assert (result.n_labelled, result.top1) == (3, 2 / 3)
    column = pq.read_table(result.features_path)["class_index"].to_pylist()
    assert column == [predicted["a"], wrong, predicted["c"], None, None, None]


def test_sets_of_another_preprocessing_do_not_enter_the_folder(classifier, folder, tmp_path):
    source = pictures_in_folder(folder)
    extract_features(source, classifier, set_name="train", features_dir=tmp_path / "f")
    changed = classifier.preprocessing.overridden({"mean": (0.1, 0.1, 0.1)})
    other = dataclasses.replace(classifier, preprocessing=changed)
    with pytest.raises(FeatureError, match=r"train\.json: this set was made with another preprocessing"):
        extract_features(source, other, set_name="ood", features_dir=tmp_path / "f")
    assert not (tmp_path / "f" / "ood.parquet").exists()
    # The only set of a folder may be made anew in another way.
    extract_features(source, other, set_name="train", features_dir=tmp_path / "f")


def test_features_of_another_model_do_not_enter_the_folder(classifier, folder, tmp_path):
    write_head(tmp_path / "out", Head(torch.zeros(2, 3), torch.zeros(2)))
    with pytest.raises(FeatureError, match="holds the head of another model"):
        extract_features(pictures_in_folder(folder), classifier, set_name="val", features_dir=tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["head.safetensors"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"set_name": "../val"}, "feature set: expected letters"),
        ({"set_name": "val", "batch_size": 0}, "at least 1, found 0 and 2"),
        ({"set_name": "val", "n_workers": 0}, "at least 1, found 64 and 0"),
    ],
)
def test_wrong_arguments_are_refused(classifier, folder, tmp_path, arguments, message):
    with pytest.raises(InputError, match=message):
        extract_features(pictures_in_folder(folder), classifier, features_dir=tmp_path / "out", **arguments)


def test_wanted_images_are_kept_and_absent_ones_are_rows_with_a_reason(classifier, folder, tmp_path):
    source = pictures_in_folder(folder, image_ids=["f", "zz", "b"])
    assert [picture.image_id for picture in source.pictures] == ["b", "f"]
    result = extract_features(source, classifier, set_name="far", features_dir=tmp_path / "out")
    assert result.unreadable_path.read_text().splitlines()[1:] == [
        "zz,missing,no picture of this id in the folder"
    ]


def test_rotation_is_applied_before_the_network_sees_a_picture(classifier, folder, tmp_path):
    turned = Picture("f", folder / "f.jpg", 90)
    upright = Image.open(turned.path).rotate(90, expand=True)
    extract_features(PictureSource((turned,)), classifier, set_name="far", features_dir=tmp_path / "out")
    expected = classifier.features(classifier.preprocessing.pixels(upright)[None])[0]
    torch.testing.assert_close(features_of(tmp_path / "out", "far")["f"], expected, rtol=1e-4, atol=1e-5)
