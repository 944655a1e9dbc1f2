import csv

import numpy as np
import pytest
import safetensors
import torch
from PIL import Image

from curation.clip import ClipEncoder, load_encoder
from curation.sample.clip_check import ClipFigures, clip_figures
from curation.sample.clip_views import HELD_OUT_KINDS, VIEW_NAMES, draw_view
from curation.sample.pictures import IN_CLASSES, OUT_KINDS, draw_in_picture
from curation.sample.train_clip import CONFIG_PATH, IN_CLASS_ABOVE, WEIGHTS_PATH, Captions
from curation.sample.world import World, make_world
from manifests.images import read_image
from scoring.classifier import Classifier, load_classifier
from scoring.sample.train_classifier import MODEL, PREPROCESSING
from scoring.sample.train_classifier import WEIGHTS_PATH as CLASSIFIER_PATH

FRESH_SEED = 4711


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("fresh"), seed=FRESH_SEED, n_candidates=240, n_train=0, n_val=6)


@pytest.fixture(scope="module")
def encoder() -> ClipEncoder:
    return load_encoder(str(CONFIG_PATH), str(WEIGHTS_PATH))


@pytest.fixture(scope="module")
def figures(encoder: ClipEncoder, world: World) -> ClipFigures:
    return clip_figures(encoder, world, HELD_OUT_KINDS, above=IN_CLASS_ABOVE, grids=(0, 3))


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return load_classifier(
        MODEL, checkpoint=CLASSIFIER_PATH, n_classes=len(IN_CLASSES), preprocessing=vars(PREPROCESSING)
    )


def test_committed_weights_are_small():
    assert WEIGHTS_PATH.stat().st_size < 5_000_000
    assert CLASSIFIER_PATH.stat().st_size < 2_000_000


def test_names_tell_the_classes_of_new_pictures(figures: ClipFigures):
    # 1 of 24 by chance.
    assert figures.top1 > 0.75


def test_similarity_tells_in_from_out_for_known_and_for_unseen_kinds(figures: ClipFigures):
    # One half by chance.
    assert figures.auroc > 0.85
    assert figures.unseen_auroc > 0.75


def test_tiles_find_more_of_what_stands_in_a_corner_than_the_whole_picture(figures: ClipFigures):
    assert figures.corner_top1[3] > figures.corner_top1[0] + 0.1


def test_a_class_is_found_among_all_names_of_imagenet(encoder: ClipEncoder):
    from curation.clip import imagenet_class_names

    prototypes = encoder.encode_class_names(imagenet_class_names(), "simple")
    images = [draw_in_picture(np.random.default_rng([99, k]), k, (128, 128)) for k in range(len(IN_CLASSES))]
    nearest = np.argsort(-encoder.encode_images(images) @ prototypes.T, axis=1)[:, :10]
    found = [c.imagenet_index in near for c, near in zip(IN_CLASSES, nearest, strict=True)]
    # 1 of 100 by chance.
    assert np.mean(found) > 0.6


def test_held_out_kinds_are_kinds_and_no_view_shows_one():
    assert set(HELD_OUT_KINDS) < set(OUT_KINDS)
    assert not set(HELD_OUT_KINDS) & set(VIEW_NAMES)


def test_views_are_a_function_of_their_seed_alone():
    first, again, other = draw_view((3, 5)), draw_view((3, 5)), draw_view((3, 6))
    assert first[1] == again[1]
    assert np.array_equal(first[0], again[0])
    assert not np.array_equal(first[0], other[0])


def test_a_steps_captions_begin_with_the_names_of_views_and_never_repeat_one_as_negative():
    captions = Captions(np.random.default_rng(0))
    tokens = captions.tokens()
    assert len(tokens) == len(VIEW_NAMES) + 64
    assert len(torch.unique(tokens, dim=0)) == len(tokens)


def test_the_classifier_knows_the_validation_pictures_of_a_fresh_world(classifier: Classifier, world: World):
    with world.val_labels_path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    images = [read_image(world.imagenet_val_dir / row["file"]) for row in rows]
    logits = classifier.head.logits(
        classifier.features(torch.stack([PREPROCESSING.pixels(image) for image in images]))
    )
    right = logits.argmax(dim=1).numpy() == np.array([int(row["class_index"]) for row in rows])
    assert right.mean() > 0.8


def test_the_classifiers_file_says_what_it_expects(classifier: Classifier):
    with safetensors.safe_open(CLASSIFIER_PATH, "pt") as file:
        metadata = file.metadata()
    assert metadata["architecture"] == classifier.name
    assert int(metadata["input_size_px"]) == classifier.preprocessing.input_size_px
    assert metadata["mean"] == str(classifier.preprocessing.mean)
    assert metadata["crop_mode"] == "squash"


def test_a_grey_picture_is_less_sure_than_a_class(classifier: Classifier):
    grey = Image.new("RGB", (128, 128), (128, 128, 128))
    clear = [draw_in_picture(np.random.default_rng([98, k]), k, (128, 128)) for k in range(len(IN_CLASSES))]
    probabilities = [
        classifier.head.logits(classifier.features(PREPROCESSING.pixels(image)[None])).softmax(dim=1).max().item()
        for image in (grey, *clear)
    ]
    assert probabilities[0] < np.median(probabilities[1:])
