import numpy as np
import pytest
import torch
from PIL import Image

from curation.embed import EmbedRules, ModelChoice, embed_with
from curation.embedding_store import EmbeddingStore
from curation.prototypes import class_prototypes
from curation.views import cut_views
from manifests.images import read_image
from manifests.workspace import Workspace
from scoring.classifier import load_classifier
from scoring.classifier_encoder import ClassifierEncoder, load_classifier_encoder
from scoring.sample.train_classifier import MODEL, PREPROCESSING, WEIGHTS_PATH
from tests.picture_workspace import add_pictures, classes_csv, images_of, pictures

SETTINGS = {
    "n_classes": 24,
    "model_arguments": {},
    "preprocess": ["input_size_px=96", "crop_fraction=1.0", "crop_mode=squash"],
}


@pytest.fixture(scope="module")
def classifier():
    return load_classifier(MODEL, checkpoint=WEIGHTS_PATH, n_classes=24, preprocessing=vars(PREPROCESSING))


def embedded(folder, **rules):
    workspace = add_pictures(Workspace(folder), pictures(3))
    choice = ModelChoice(
        MODEL, str(WEIGHTS_PATH), lambda: load_classifier_encoder(MODEL, WEIGHTS_PATH, SETTINGS, "cpu"), SETTINGS
    )
    embed_with(workspace, choice, EmbedRules(grid=2, **rules))
    return workspace, EmbeddingStore.choose(workspace, None)


def test_a_store_gives_back_the_logits_of_every_view(tmp_path, classifier):
    workspace, store = embedded(tmp_path)
    weight, bias = store.read_head()
    for image_id, stored in images_of(store).items():
        image = read_image(workspace.root / workspace.relative_image_path(image_id))
        views = [view for _, view in cut_views(image, 2)]
        with torch.inference_mode():
            expected = classifier.network(torch.stack([classifier.pixels(view) for view in views])).numpy()
        found = stored.norms[:, None] * (stored.embeddings.astype(np.float32) @ weight.T) + bias
        assert found.shape == (len(views), 24)
        np.testing.assert_allclose(found, expected, atol=2e-3 * np.abs(expected).max())
        np.testing.assert_allclose(np.linalg.norm(stored.embeddings.astype(np.float64), axis=1), 1, atol=1e-3)


def test_the_rows_of_the_head_are_the_prototypes(tmp_path, classifier):
    _, store = embedded(tmp_path)
    classes = classes_csv(tmp_path, [f"class {number}" for number in range(24)])
    weight = classifier.head.weight.numpy()
    expected = weight / np.sqrt((weight**2).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(class_prototypes(store, classes)[1], expected, rtol=1e-6)


def test_bytes_normalised_in_a_batch_are_the_networks_own_input(classifier):
    image = image_of_noise()
    pixels = classifier.preprocessing.pixel_bytes(image)
    assert pixels.dtype == torch.uint8
    encoder = ClassifierEncoder(classifier)
    vectors, norms = encoder.encode(pixels[None])
    with torch.inference_mode():
        features = classifier.features(classifier.pixels(image)[None]).numpy()
    np.testing.assert_array_equal(norms[:, None] * vectors, (features / norms[:, None]) * norms[:, None])


def image_of_noise():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (120, 90, 3), dtype=np.uint8))


def test_other_preprocessing_is_another_encoder():
    settings = SETTINGS | {"preprocess": [*SETTINGS["preprocess"], "mean=0.4,0.4,0.4"]}
    digests = {
        load_classifier_encoder(MODEL, WEIGHTS_PATH, s, "cpu").digest for s in (SETTINGS, settings, SETTINGS)
    }
    assert len(digests) == 2


def test_many_workers_are_processes_and_end_in_the_same_bytes(tmp_path, monkeypatch):
    _, in_threads = embedded(tmp_path / "threads", n_workers=2)
    monkeypatch.setattr("curation.reading.MOST_THREADS", 1)
    _, in_processes = embedded(tmp_path / "processes", n_workers=2)
    assert len(in_threads.paths()) == 3
    for path in in_threads.paths():
        assert (in_processes.folder / path.name).read_bytes() == path.read_bytes()
