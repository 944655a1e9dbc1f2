import math
import pickle
import zipfile

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from manifests.errors import InputError, ModelError
from scoring.classifier import Preprocessing, load_classifier
from scoring.extract import extract_features
from scoring.pictures import pictures_in_folder

SETTINGS = {"input_size_px": 32}


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return timm.create_model("test_resnet", num_classes=7).state_dict()


@pytest.fixture
def checkpoint(tmp_path, weights):
    save_file(weights, tmp_path / "tiny.safetensors")
    return tmp_path / "tiny.safetensors"


def load(checkpoint, **arguments):
    return load_classifier(
        "test_resnet", **({"checkpoint": checkpoint, "n_classes": 7, "preprocessing": SETTINGS} | arguments)
    )


@pytest.mark.parametrize(
    "wrap",
    [
        lambda weights: weights,
        lambda weights: {"state_dict": weights, "epoch": 3},
        lambda weights: {"model": {f"module.{name}": value for name, value in weights.items()}},
    ],
    ids=["plain", "wrapped", "data parallel"],
)
def test_the_same_weights_have_one_digest_whatever_file_holds_them(checkpoint, weights, tmp_path, wrap):
    torch.save(wrap(weights), tmp_path / "tiny.pt")
    one, other = load(checkpoint), load(tmp_path / "tiny.pt")
    assert one.weights_digest == other.weights_digest
    assert torch.equal(one.head.weight, weights["fc.weight"])


def test_other_weights_have_another_digest(checkpoint, weights, tmp_path):
    save_file(weights | {"fc.bias": weights["fc.bias"] + 1}, tmp_path / "other.safetensors")
    assert load(checkpoint).weights_digest != load(tmp_path / "other.safetensors").weights_digest


def test_head_and_features_give_the_output_of_the_network(checkpoint):
    classifier = load(checkpoint)
    pixels = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        output = classifier.network(pixels)
    torch.testing.assert_close(classifier.head.logits(classifier.features(pixels)), output, rtol=1e-4, atol=1e-5)
    assert not classifier.network.training


def test_head_written_as_a_convolution_is_a_linear_layer(tmp_path):
    torch.manual_seed(0)
    arguments = {"channels": (8, 16, 16, 32), "stem_chs": 8}
    network = timm.create_model("resnetv2_18", num_classes=5, **arguments)
    save_file(network.state_dict(), tmp_path / "preact.safetensors")
    classifier = load_classifier(
        "resnetv2_18",
        checkpoint=tmp_path / "preact.safetensors",
        n_classes=5,
        model_arguments=arguments,
        preprocessing={"input_size_px": 64},
    )
    assert classifier.head.weight.shape == (5, classifier.head.n_features)


def test_preprocessing_is_the_models_own_unless_overridden(checkpoint):
    own = load(checkpoint, preprocessing=None).preprocessing
    config = timm.get_pretrained_cfg("test_resnet")
    assert (own.mean, own.crop_fraction, own.input_size_px) == (
        config.mean,
        config.crop_pct,
        config.input_size[-1],
    )
    changed = load(checkpoint, preprocessing={"mean": [0.5, 0.5, 0.5], "input_size_px": 64}).preprocessing
    assert (changed.mean, changed.input_size_px, changed.std) == ((0.5, 0.5, 0.5), 64, own.std)


def test_picture_is_scaled_cut_and_normalised():
    # A grey picture of 200 / 255 with a frame that the cut takes off.
    image = Image.new("RGB", (100, 100), (0, 0, 0))
    image.paste((200, 200, 200), (20, 20, 80, 80))
    settings = Preprocessing(50, (0.5, 0.4, 0.3), (0.5, 0.25, 0.1), "bilinear", 0.5)
    pixels = settings.pixels(image)
    assert pixels.shape == (3, 50, 50)
    for channel, (mean, std) in enumerate(zip(settings.mean, settings.std, strict=True)):
        torch.testing.assert_close(pixels[channel], torch.full((50, 50), (200 / 255 - mean) / std))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mean": 1}, "preprocessing: mean cannot be 1"),
        ({"std": 0.5}, "preprocessing: std cannot be 0.5"),
        ({"crop_fraction": "abc"}, "preprocessing: crop_fraction cannot be 'abc'"),
        ({"crop": 1.0}, "preprocessing: 'crop' is not known, expected some of input_size_px, mean"),
        ({"crop_fraction": 0.0}, r"crop_fraction cannot be 0\.0"),
        ({"crop_fraction": 1.5}, r"crop_fraction cannot be 1\.5"),
        ({"std": (0.5, 0.0, 0.5)}, "std cannot be"),
        ({"mean": (0.5,)}, "mean cannot be"),
        ({"interpolation": "cubic"}, "interpolation cannot be 'cubic'"),
        ({"input_size_px": 0}, "input_size_px cannot be 0"),
    ],
)
def test_impossible_preprocessing_is_refused(checkpoint, changes, message):
    with pytest.raises(InputError, match=message):
        load(checkpoint, preprocessing=changes)


def test_unknown_model_is_refused_with_close_names():
    with pytest.raises(ModelError, match=r"'resnet5O': timm has none of that name; close: .*resnet50"):
        load_classifier("resnet5O")


def test_unknown_tag_is_refused_with_those_known():
    with pytest.raises(
        ModelError, match=r"'resnet18\.mine': no weights of that tag; known for resnet18: .*tv_in1k"
    ):
        load_classifier("resnet18.mine")


def test_model_without_pretrained_weights_asks_for_a_checkpoint():
    name = next(name for name in timm.list_models() if not timm.list_pretrained(f"{name}.*"))
    with pytest.raises(ModelError, match="timm has no pretrained weights of it; give a checkpoint"):
        load_classifier(name)


def test_pretrained_head_is_never_swapped_for_a_random_one():
    with pytest.raises(ModelError, match="its pretrained head has 1000 classes, asked for 7"):
        load_classifier("test_resnet", n_classes=7)


def test_hub_that_cannot_be_reached_is_one_line_that_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        ModelError, match=r"'test_resnet': its pretrained weights cannot be fetched \(.*\); go on"
    ) as told:
        load_classifier("test_resnet")
    assert "\n" not in str(told.value)


def test_unknown_model_argument_is_refused(checkpoint):
    with pytest.raises(ModelError, match=r"cannot be made with the arguments .*no_such"):
        load(checkpoint, model_arguments={"no_such": 1})


def test_picture_size_that_the_network_cannot_take_is_refused(tmp_path):
    save_file(timm.create_model("vit_tiny_patch16_224", num_classes=7).state_dict(), tmp_path / "vit.safetensors")
    with pytest.raises(ModelError, match="'vit_tiny_patch16_224': cannot take pictures of 32 px"):
        load_classifier(
            "vit_tiny_patch16_224",
            checkpoint=tmp_path / "vit.safetensors",
            n_classes=7,
            preprocessing={"input_size_px": 32},
        )


def test_model_without_a_linear_head_is_refused(weights, tmp_path):
    body = {name: value for name, value in weights.items() if not name.startswith("fc.")}
    save_file(body, tmp_path / "body.safetensors")
    with pytest.raises(ModelError, match="expected a linear layer as classifier, found Identity"):
        load(tmp_path / "body.safetensors", n_classes=0)


def test_checkpoint_that_does_not_fit_says_what_is_missing(weights, tmp_path):
    changed = {name: value for name, value in weights.items() if name != "conv1.0.weight"} | {
        "extra": torch.zeros(1),
        "fc.weight": torch.zeros(9, weights["fc.weight"].shape[1]),
    }
    save_file(changed, tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match=r"other\.safetensors: does not fit the model 'test_resnet'") as told:
        load(tmp_path / "other.safetensors")
    assert "1 missing (conv1.0.weight)" in str(told.value)
    assert "1 not known to the model (extra)" in str(told.value)
    assert "1 of another shape (fc.weight (9, " in str(told.value)


class Trap:
    """Runs code when unpickled as pickle would."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('code in a checkpoint ran')",))


def test_checkpoint_never_runs_code(tmp_path):
    (tmp_path / "trap.pt").write_bytes(pickle.dumps({"state_dict": Trap()}, protocol=2))
    with pytest.raises(ModelError, match=r"trap\.pt: cannot be read as weights"):
        load(tmp_path / "trap.pt")
    torch.save({"state_dict": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(ModelError, match=r"trap\.pth: cannot be read as weights"):
        load(tmp_path / "trap.pth")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("none.safetensors", None),
        ("bad.safetensors", b"x"),
        ("bad.pt", b"x"),
        # A key a million tuples deep, which would end the process.
        ("deep.pt", b"\x80\x02})" + b"\x85" * 1_000_000 + b"K\x01s."),
    ],
)
def test_missing_or_damaged_checkpoint_is_refused(tmp_path, name, content):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=rf"{name}: (no such file|cannot be read as weights)"):
        load(tmp_path / name)


def test_checkpoint_that_holds_something_else_is_refused(tmp_path):
    torch.save({"state_dict": {"epoch": 3}}, tmp_path / "numbers.pt")
    with pytest.raises(ModelError, match=r"numbers\.pt: expected named tensors"):
        load(tmp_path / "numbers.pt")


@pytest.mark.filterwarnings("ignore:Validating sparse")
@pytest.mark.parametrize(
    "content",
    [
        {3: torch.ones(1)},
        {"a": torch.eye(2).to_sparse()},
        {"a": torch.ones(1, device="meta")},
        {"a": torch.ones(1).expand(10**9)},
    ],
)
def test_weights_without_name_or_values_are_refused(tmp_path, content):
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(ModelError, match=r"x\.pt: expected named tensors"):
        load(tmp_path / "x.pt")


@pytest.mark.parametrize(
    "program",
    [
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.",
        b"\x80\x02ctorch\nSize\nK\x01\x85R.",
        b"\x80\x02ccollections\nOrderedDict\nK\x01\x85R.",
        b"\x80\x02K\x01Q.",
        b"\x80\x02K\x01.",
    ],
)
def test_program_that_calls_a_function_wrongly_is_one_clear_error(tmp_path, program):
    torch.save({}, tmp_path / "whole.pt")
    with zipfile.ZipFile(tmp_path / "whole.pt") as before, zipfile.ZipFile(tmp_path / "x.pt", "w") as after:
        for name in before.namelist():
            after.writestr(name, program if name.endswith("data.pkl") else before.read(name))
    with pytest.raises(ModelError, match=r"x\.pt: (cannot be read as weights|expected named tensors, found int)"):
        load(tmp_path / "x.pt")


@pytest.fixture(scope="module")
def mobilenet(shared):
    return load_classifier(
        "mobilenetv2_100",
        checkpoint=shared / "data/classifier/mobilenetv2_100.safetensors",
        n_classes=1000,
        model_arguments={"pad_type": "same"},
        preprocessing={"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "interpolation": "bilinear"},
    )


def test_real_classifier_is_as_good_as_documented(shared, mobilenet, tmp_path):
    # Every fourth picture, as all 663 take half a minute; 0.787 on all of them.
    data = shared / "data/imagenet_val"
    pictures = sorted(path.stem for path in data.glob("*.JPEG"))[::4]
    source = pictures_in_folder(data, labels_path=data / "labels.csv", n_classes=1000, image_ids=pictures)
    result = extract_features(source, mobilenet, set_name="val", features_dir=tmp_path)
    standard_error = math.sqrt(0.78 * 0.22 / result.n_labelled)
    assert result.n_labelled == len(pictures)
    assert result.top1 == pytest.approx(0.78, abs=3 * standard_error)


def test_real_classifier_is_split_at_its_head(shared, mobilenet):
    weights = load_file(shared / "data/classifier/mobilenetv2_100.safetensors")
    assert torch.equal(mobilenet.head.weight, weights["classifier.weight"])
    pixels = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        output = mobilenet.network(pixels)
    features = mobilenet.features(pixels)
    assert features.shape == (2, 1280)
    torch.testing.assert_close(mobilenet.head.logits(features), output, rtol=1e-4, atol=1e-4)
