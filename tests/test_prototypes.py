import csv

import numpy as np
import pytest
import timm.data

from curation.clip import load_encoder
from curation.embedding_store import EmbeddingStore
from curation.exemplars import find_exemplars
from curation.imagenet_classes import imagenet_classes, imagenet_wnids
from curation.prototypes import class_prototypes
from manifests.errors import InputError
from manifests.images import read_image
from manifests.label_space import ClassName, write_label_space
from manifests.workspace import Workspace
from tests.conftest import REPOSITORY
from tests.picture_workspace import add_pictures, jpeg, pictures, scene
from tests.tiny_clip import embed_pictures, make_tiny_clip

CLASSES = [ClassName(0, "cat", "n02121808"), ClassName(1, "dog", "n02084071"), ClassName(2, "sea")]


@pytest.fixture(scope="module")
def tiny_clip(tmp_path_factory):
    return make_tiny_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture
def store(tmp_path, tiny_clip):
    workspace = add_pictures(Workspace(tmp_path / "workspace"), pictures(1))
    embed_pictures(workspace, *tiny_clip, grid=0, device="cpu")
    return EmbeddingStore.choose(workspace, None)


@pytest.fixture
def classes_path(tmp_path):
    write_label_space(tmp_path / "classes.csv", CLASSES)
    return tmp_path / "classes.csv"


@pytest.fixture
def exemplars_dir(tmp_path):
    """Two cats by WordNet id, one of them unreadable, two dogs by class index, and a folder of no class."""
    folder = tmp_path / "exemplars"
    for name, content in {
        "n02121808/a.jpg": jpeg(scene(1)), "n02121808/b.jpg": b"<html>", "1/x.jpg": jpeg(scene(2)),
        "1/deeper/y.JPEG": jpeg(scene(3)), "n99999999/z.jpg": jpeg(scene(4)), "1/notes.txt": b"no picture",
    }.items():  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def unit(vector):
    return vector / np.linalg.norm(vector)


def test_wordnet_ids_stand_in_the_order_of_timm_and_of_the_label_map():
    info = timm.data.ImageNetInfo("imagenet1k")
    assert imagenet_wnids() == [info.index_to_label_name(index) for index in range(1000)]
    with (REPOSITORY / "curation" / "label_map" / "open_images_to_imagenet.csv").open() as stream:
        for row in csv.DictReader(stream):
            assert imagenet_wnids()[int(row["class_index"])] == row["wnid"]


def test_imagenets_classes_carry_name_and_id_of_the_same_thing():
    classes = imagenet_classes()
    assert classes[0] == ClassName(0, "tench", "n01440764")
    assert classes[999] == ClassName(999, "toilet paper", "n15075141")


def test_exemplars_are_the_mean_direction_of_what_can_be_read(
    store, classes_path, exemplars_dir, tiny_clip
):  # fmt: skip
    said = []
    classes, prototypes = class_prototypes(
        store, classes_path, "simple", exemplars_dir, device="cpu", announce=said.append
    )
    assert classes == CLASSES
    encoder = load_encoder(*tiny_clip)
    names = encoder.encode_class_names([known.name for known in CLASSES], "simple")

    def vectors(*paths):
        return encoder.encode_images([read_image(exemplars_dir / path) for path in paths])

    cat, dog = vectors("n02121808/a.jpg")[0], unit(vectors("1/x.jpg", "1/deeper/y.JPEG").sum(axis=0))
    expected = [unit(names[0] + cat), unit(names[1] + dog), names[2]]
    np.testing.assert_allclose(prototypes, expected, atol=1e-3)
    assert said == [
        "exemplars: 3 pictures of 2 of 3 classes, 1 unreadable; "
        "first: n02121808/b.jpg: the file starts with <html>"
    ]


def test_exemplars_alone_need_a_picture_of_every_class(store, classes_path, exemplars_dir):
    with pytest.raises(InputError, match=r"1 classes have no picture \(sea\)"):
        class_prototypes(store, classes_path, "simple", exemplars_dir, kind="exemplars", device="cpu")


def test_a_second_call_encodes_nothing_and_a_changed_picture_is_seen(store, classes_path, exemplars_dir):
    def prototypes():
        return class_prototypes(store, classes_path, "simple", exemplars_dir, device="cpu", load=load)[1]

    loaded = []

    def load(key, device):
        loaded.append(key.model)
        return load_encoder(key.model, key.pretrained, device)

    first = prototypes()
    assert len(loaded) == 1
    np.testing.assert_array_equal(prototypes(), first)
    assert len(loaded) == 1
    (exemplars_dir / "1" / "x.jpg").write_bytes(jpeg(scene(9)))
    changed = prototypes()
    assert len(loaded) == 2
    np.testing.assert_array_equal(changed[[0, 2]], first[[0, 2]])
    assert not np.allclose(changed[1], first[1])


def test_of_many_pictures_a_fixed_choice_is_taken(exemplars_dir):
    for number in range(20):
        (exemplars_dir / "1" / f"{number}.jpg").write_bytes(b"")
    chosen = find_exemplars(exemplars_dir, CLASSES, 5)
    assert [e.class_index for e in chosen] == [0, 0, 1, 1, 1, 1, 1]
    (exemplars_dir / "1").rename(exemplars_dir / "n02084071")
    again = find_exemplars(exemplars_dir, CLASSES, 5)
    assert [e.path.name for e in again] == [e.path.name for e in chosen]


@pytest.mark.parametrize(
    ("name", "message"), [("none", "there is no such folder"), ("empty", "holds no picture of a class")]
)
def test_a_folder_without_exemplars_is_refused(tmp_path, name, message):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=message):
        find_exemplars(tmp_path / name, CLASSES, 5)


@pytest.mark.parametrize(("kind", "has_exemplars"), [("names", True), ("fused", False), ("middle", True)])
def test_a_kind_that_does_not_go_with_the_exemplars_is_refused(
    store, classes_path, exemplars_dir, kind, has_exemplars
):  # fmt: skip
    with pytest.raises(InputError, match=f"--prototypes: expected .* found {kind}"):
        class_prototypes(store, classes_path, "simple", exemplars_dir if has_exemplars else None, kind=kind)
