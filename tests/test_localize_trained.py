import math

import numpy as np
import pytest
import torch
from PIL import Image

from curation.clip import load_encoder
from curation.localize.checkpoints import LocalizerFacts, load_localizer, save_localizer, trained_localizer
from curation.localize.network import LocalizerNetwork
from curation.localize.towers import frozen_towers
from curation.sample.train_clip import CONFIG_PATH, WEIGHTS_PATH
from manifests.errors import ModelError
from tests.localize_world import TINY_SIZES, tiny_encoder


@pytest.fixture
def localizer(tmp_path):
    encoder = tiny_encoder(tmp_path)
    torch.manual_seed(0)
    network = LocalizerNetwork(frozen_towers(encoder.network), TINY_SIZES)
    facts = LocalizerFacts("tiny", encoder.digest, encoder.name, TINY_SIZES)
    save_localizer(tmp_path / "localizer.safetensors", network, facts)
    return trained_localizer(network, encoder, facts)


def test_a_saved_localizer_answers_as_before_and_has_its_digest(localizer, tmp_path):
    picture = Image.fromarray(np.arange(40 * 60 * 3, dtype=np.uint32).astype(np.uint8).reshape(40, 60, 3))
    loaded = load_localizer(tmp_path / "localizer.safetensors", localizer.encoder)
    assert loaded.digest == localizer.digest
    np.testing.assert_array_equal(loaded.evidence(picture, ["a fox"]), localizer.evidence(picture, ["a fox"]))


def test_a_mask_is_the_same_whichever_others_are_asked_for(localizer):
    picture = Image.new("RGB", (60, 40), (200, 10, 30))
    together = localizer.evidence(picture, ["a fox", "a cup", "a ring"])
    assert together.shape == (3, 43, 64)
    assert together.min() >= 0
    assert together.max() <= 1
    np.testing.assert_array_equal(together[1], localizer.evidence(picture, ["a cup"])[0])
    assert localizer.evidence(picture, []).shape == (0, 43, 64)


def test_the_authors_threshold_is_evidence_of_a_half(localizer):
    picture = Image.new("RGB", (64, 64), (200, 10, 30))
    network = localizer.network
    for weight in network.projector.kernel.parameters():
        torch.nn.init.zeros_(weight)
    network.projector.kernel.bias.data[-1] = math.log(0.35 / 0.65)
    np.testing.assert_allclose(localizer.evidence(picture, ["a fox"]), 0.5, atol=1e-6)


def test_a_localizer_of_another_clip_model_is_refused(localizer, tmp_path):
    other = load_encoder(str(CONFIG_PATH), str(WEIGHTS_PATH))
    with pytest.raises(ModelError, match=r"it belongs to tiny-test\.json with tiny-test\.safetensors"):
        load_localizer(tmp_path / "localizer.safetensors", other)


def test_a_file_that_is_no_localizer_is_refused(localizer, tmp_path):
    with pytest.raises(ModelError, match="this is no localizer"):
        load_localizer(WEIGHTS_PATH, localizer.encoder)
    (tmp_path / "text.safetensors").write_text("not weights")
    with pytest.raises(ModelError, match="cannot be read"):
        load_localizer(tmp_path / "text.safetensors", localizer.encoder)
