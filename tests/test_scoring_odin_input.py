import json

import pytest
import torch
from torch import nn

from manifests.errors import FeatureError, InputError
from scoring.extract import extract_features
from scoring.heads import Head
from scoring.odin_input import OdinInput, odin_input, perturbed_pixels
from scoring.pictures import pictures_in_folder
from tests.extract_world import features_of, jpeg, tiny_classifier

STD = (0.5, 0.25, 0.1)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    return tiny_classifier(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pictures").mkdir()
    for seed, name in enumerate("abcdef"):
        (tmp_path / "pictures" / f"{name}.jpg").write_bytes(jpeg(seed))
    return tmp_path / "pictures"


@pytest.fixture
def smooth():
    """A small network without kinks, its head, and inputs, in float64 for exact differences."""
    torch.manual_seed(3)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 9, 6), nn.Tanh()).double()
    head = Head(torch.randn(5, 6), torch.randn(5))
    return network, head, torch.randn(4, 3, 5, 5, dtype=torch.float64)


def log_probability(network, head, pixels, temperature):
    """Return log S_yhat(x; T) of each input, written out in float64."""
    logits = network(pixels) @ head.weight.double().T + head.bias.double()
    scaled = logits / temperature
    shifted = scaled - scaled.max(dim=1, keepdim=True).values
    predicted = logits.argmax(dim=1)
    return shifted[torch.arange(len(shifted)), predicted] - shifted.exp().sum(dim=1).log()


@pytest.mark.parametrize("temperature", [1.0, 1000.0])
def test_each_value_moves_by_epsilon_over_std_where_the_probability_grows_by_finite_differences(
    smooth, temperature
):
    network, head, pixels = smooth
    odin = OdinInput(0.01, temperature)
    network.float()
    moved = perturbed_pixels(pixels.float(), network, head, STD, odin) - pixels.float()
    network.double()
    step = 1e-5
    with torch.no_grad():
        for row in range(len(pixels)):
            for at in range(0, pixels[0].numel(), 7):
                up, down = pixels.clone(), pixels.clone()
                up[row].view(-1)[at] += step
                down[row].view(-1)[at] -= step
                slope = (
                    log_probability(network, head, up, temperature)
                    - log_probability(network, head, down, temperature)
                )[row]
                channel = at // 25
                expected = 0.01 / STD[channel] * torch.sign(slope)
                assert moved[row].view(-1)[at] == pytest.approx(float(expected), rel=1e-4)


def test_it_is_the_step_of_the_authors_code_on_the_loss_of_the_predicted_class(smooth):
    # x - epsilon sign(grad of the mean cross-entropy of l / T) / std: facebookresearch/odin, and OpenOOD after it.
    network, head, pixels = smooth
    network, inputs = network.float(), pixels.float().requires_grad_()
    logits = nn.functional.linear(network(inputs), head.weight, head.bias)
    nn.functional.cross_entropy(logits / 1000, logits.argmax(dim=1)).backward()
    expected = inputs.detach() - 0.0014 * inputs.grad.sign() / torch.tensor(STD).reshape(3, 1, 1)
    found = perturbed_pixels(pixels.float(), network, head, STD, OdinInput(0.0014))
    torch.testing.assert_close(found, expected)


def test_the_probability_of_the_predicted_class_grows(smooth):
    network, head, pixels = smooth
    moved = perturbed_pixels(pixels.float(), network.float(), head, STD, OdinInput(0.001, 1.0)).double()
    network.double()
    with torch.no_grad():
        assert (log_probability(network, head, moved, 1.0) > log_probability(network, head, pixels, 1.0)).all()


def test_a_value_that_the_network_does_not_see_stays(smooth):
    _, head, pixels = smooth

    def corner(inputs):
        return inputs[:, :, :2, :1].flatten(1)

    moved = perturbed_pixels(pixels.float(), corner, head, STD, OdinInput(0.01)) - pixels.float()
    assert (moved[:, :, :2, :1] != 0).all()
    assert (moved[:, :, :, 1:] == 0).all()


def test_neither_the_network_nor_the_inputs_are_changed_or_collect_gradients(classifier):
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    before = pixels.clone()
    moved = perturbed_pixels(pixels, classifier.features, classifier.head, STD, OdinInput(0.01))
    assert all(not weight.requires_grad and weight.grad is None for weight in classifier.network.parameters())
    assert torch.equal(pixels, before)
    assert [pixels.requires_grad, moved.requires_grad] == [False, False]


def test_extracted_features_are_those_of_pictures_perturbed_one_by_one(classifier, folder, tmp_path):
    odin = OdinInput(0.02, 10.0)
    for batch_size in (1, 5):
        extract_features(
            pictures_in_folder(folder), classifier, set_name=f"by{batch_size}", features_dir=tmp_path / "out",
            odin=odin, batch_size=batch_size,
        )  # fmt: skip
    one, other = features_of(tmp_path / "out", "by1"), features_of(tmp_path / "out", "by5")
    extract_features(pictures_in_folder(folder), classifier, set_name="plain", features_dir=tmp_path / "plain")
    plain = features_of(tmp_path / "plain", "plain")
    for image_id, features in one.items():
        # A gradient within rounding of 0 may change its sign, and one value of 3,072 with it.
        torch.testing.assert_close(features, other[image_id], rtol=1e-3, atol=1e-3)
        assert (features - plain[image_id]).abs().max() > 1e-2


def test_sets_of_one_folder_are_perturbed_alike(classifier, folder, tmp_path):
    source = pictures_in_folder(folder)
    result = extract_features(
        source, classifier, set_name="train", features_dir=tmp_path / "f", odin=OdinInput(0.01)
    )
    assert json.loads(result.record_path.read_text())["odin"] == {"temperature": 1000.0, "epsilon": 0.01}
    for other in (None, OdinInput(0.02), OdinInput(0.01, 1.0)):
        with pytest.raises(
            FeatureError, match=r"train\.json: this set was made with another odin \({'epsilon': 0\.01"
        ):
            extract_features(source, classifier, set_name="ood", features_dir=tmp_path / "f", odin=other)
    extract_features(source, classifier, set_name="ood", features_dir=tmp_path / "f", odin=OdinInput(0.01))


def test_a_record_without_a_word_on_odin_is_of_plain_pictures(classifier, folder, tmp_path):
    source = pictures_in_folder(folder)
    result = extract_features(source, classifier, set_name="train", features_dir=tmp_path / "f")
    record = json.loads(result.record_path.read_text())
    assert record.pop("odin") is None
    result.record_path.write_text(json.dumps(record))
    with pytest.raises(FeatureError, match=r"made with another odin \(None, now {'temperature': 1000"):
        extract_features(source, classifier, set_name="ood", features_dir=tmp_path / "f", odin=OdinInput(0.01))
    extract_features(source, classifier, set_name="ood", features_dir=tmp_path / "f")


def test_epsilon_0_is_no_perturbation_and_the_folder_is_named_after_it():
    assert odin_input(0.0, None) is None
    assert odin_input(0.0014, None) == OdinInput(0.0014, 1000.0)
    assert odin_input(0.0014, None).suffix == "odin-T1000-eps0.0014"
    assert OdinInput(0.05, 0.5).suffix == "odin-T0.5-eps0.05"


@pytest.mark.parametrize(
    ("epsilon", "temperature", "message"),
    [
        (-0.1, None, r"an epsilon over 0 and at most 1 \(pixel values are 0 to 1\), found -0\.1"),
        (14, None, "found 14"),
        (float("nan"), None, "found nan"),
        (0.1, 0.0, r"a temperature over 0, found 0\.0"),
        (0.1, float("inf"), "found inf"),
        (0.0, 10.0, "--odin-temperature: expected --odin-epsilon over 0 beside it"),
    ],
)
def test_impossible_settings_are_refused(epsilon, temperature, message):
    with pytest.raises(InputError, match=message):
        odin_input(epsilon, temperature)
