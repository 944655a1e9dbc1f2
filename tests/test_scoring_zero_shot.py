import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import cli
from curation.clip import imagenet_class_names, load_encoder
from manifests.errors import FeatureError
from manifests.label_space import ClassName, write_label_space
from scoring.extract import extract_features
from scoring.heads import read_head
from scoring.odin_input import OdinInput, perturbed_pixels
from scoring.pictures import pictures_in_folder
from scoring.zero_shot import zero_shot_model
from tests.extract_world import features_of, jpeg
from tests.tiny_clip import make_tiny_clip

NAMES = ("tench", "goldfish", "great white shark", "sea", "tree")


@pytest.fixture(scope="module")
def tiny_clip(tmp_path_factory):
    return make_tiny_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def encoder(tiny_clip):
    return load_encoder(*tiny_clip)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pictures").mkdir()
    for seed, name in enumerate("abc"):
        (tmp_path / "pictures" / f"{name}.jpg").write_bytes(jpeg(seed, (64, 48)))
    return tmp_path / "pictures"


def own_zero_shot_logits(tiny_clip, path, templates):
    """Return the zero-shot logits of one picture as open_clip's README computes them, one class at a time."""
    network, _, preprocess = open_clip.create_model_and_transforms("tiny-test", pretrained=tiny_clip[1])
    network.eval()
    tokenizer = open_clip.get_tokenizer("tiny-test")
    with torch.no_grad():
        image_features = network.encode_image(preprocess(Image.open(path))[None])
        image_features /= image_features.norm(dim=-1, keepdim=True)
        columns = []
        for name in NAMES:
            text_features = network.encode_text(tokenizer([template(name) for template in templates]))
            text_features /= text_features.norm(dim=-1, keepdim=True)
            mean = text_features.mean(dim=0)
            columns.append(mean / mean.norm())
        return (network.logit_scale.exp() * image_features @ torch.stack(columns).T)[0]


@pytest.mark.parametrize(
    ("template_set", "templates"),
    [("simple", open_clip.SIMPLE_IMAGENET_TEMPLATES), ("openai", open_clip.OPENAI_IMAGENET_TEMPLATES)],
)
def test_features_and_head_give_the_models_own_zero_shot_logits(
    tiny_clip, encoder, folder, tmp_path, template_set, templates
):
    out = tmp_path / "out"
    model = zero_shot_model(encoder, NAMES, template_set, features_dir=out)
    extract_features(pictures_in_folder(folder), model, set_name="val", features_dir=out)
    found = features_of(out, "val")
    head = read_head(out)
    assert torch.equal(head.bias, torch.zeros(len(NAMES)))
    for image_id, features in found.items():
        assert float(features.norm()) == pytest.approx(1, abs=1e-6)
        expected = own_zero_shot_logits(tiny_clip, folder / f"{image_id}.jpg", templates)
        torch.testing.assert_close(head.logits(features[None])[0], expected, rtol=1e-4, atol=1e-5)


def test_a_bias_of_the_model_is_the_bias_of_the_head(tiny_clip, tmp_path):
    # SigLIP: logits = scale * cosine + bias.
    config = json.loads(Path(tiny_clip[0]).read_text()) | {"init_logit_bias": -10.0}
    (tmp_path / "tiny-biased.json").write_text(json.dumps(config))
    weights = load_file(tiny_clip[1]) | {"logit_bias": torch.tensor(-3.5)}
    save_file(weights, tmp_path / "tiny-biased.safetensors")
    encoder = load_encoder(str(tmp_path / "tiny-biased.json"), str(tmp_path / "tiny-biased.safetensors"))
    model = zero_shot_model(encoder, NAMES, "simple", features_dir=tmp_path / "out")
    assert model.head.bias.tolist() == [-3.5] * len(NAMES)


def test_gradients_reach_the_pixels_and_no_weight(encoder, tmp_path):
    model = zero_shot_model(encoder, NAMES, "simple", features_dir=tmp_path / "out")
    pixels = model.pixels(Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)))
    odin = OdinInput(1e-4, 1.0)
    moved = perturbed_pixels(pixels[None], model.features, model.head, model.pixel_std, odin)
    before, after = (
        model.head.logits(model.features(inputs)).softmax(dim=1).max() for inputs in (pixels[None], moved)
    )
    assert after > before
    std = torch.tensor(open_clip.OPENAI_DATASET_STD).reshape(3, 1, 1)
    torch.testing.assert_close((moved[0] - pixels).abs(), (1e-4 / std).expand(3, 32, 32), rtol=1e-2, atol=0)
    assert all(weight.grad is None for weight in encoder._model.parameters())


class SilentEncoder:
    """Another encoder that encodes no class name."""

    def __init__(self, encoder):
        self._encoder = encoder

    def __getattr__(self, name):
        return getattr(self._encoder, name)

    def encode_class_names(self, names, template_set):
        raise AssertionError("the head is there already")


def test_a_head_is_made_once_and_noted_with_the_classes_in_their_order(encoder, tmp_path):
    told = []
    first = zero_shot_model(encoder, NAMES, "simple", features_dir=tmp_path, announce=told.append)
    assert told == ["extract-features: encoding 5 class names with the templates simple"]
    note = json.loads((tmp_path / "zero_shot.json").read_text())
    assert note == {"encoder_digest": encoder.digest, "templates": "simple", "class_names": list(NAMES)}
    again = zero_shot_model(SilentEncoder(encoder), NAMES, "simple", features_dir=tmp_path)
    assert torch.equal(again.head.weight, first.head.weight)


@pytest.mark.parametrize(
    ("names", "templates", "differs"),
    [(NAMES[::-1], "simple", "class names"), (NAMES, "openai", "templates")],
)
def test_another_head_does_not_enter_the_folder(encoder, tmp_path, names, templates, differs):
    zero_shot_model(encoder, NAMES, "simple", features_dir=tmp_path)
    before = (tmp_path / "head.safetensors").read_bytes()
    with pytest.raises(FeatureError, match=rf"zero_shot\.json: .* made of another {differs}; use another folder"):
        zero_shot_model(encoder, names, templates, features_dir=tmp_path)
    assert (tmp_path / "head.safetensors").read_bytes() == before


def test_a_damaged_note_is_refused(encoder, tmp_path):
    zero_shot_model(encoder, NAMES, "simple", features_dir=tmp_path)
    (tmp_path / "zero_shot.json").write_text("{")
    with pytest.raises(FeatureError, match=r"zero_shot\.json: not the note of a zero-shot head"):
        zero_shot_model(encoder, NAMES, "simple", features_dir=tmp_path)


def clip_command(tiny_clip, tmp_path, folder, *further):
    write_label_space(tmp_path / "names.csv", [ClassName(index, name) for index, name in enumerate(NAMES)])
    return [
        "extract-features", "--clip", tiny_clip[0], "--pretrained", tiny_clip[1], "--templates", "simple",
        "--classes", str(tmp_path / "names.csv"), "--set", "val", "--images", str(folder), "--device", "cpu",
        "--workspace", str(tmp_path / "ws"), *further,
    ]  # fmt: skip


def test_the_command_writes_what_the_functions_write(tiny_clip, encoder, folder, tmp_path, capsys):
    labels = tmp_path / "labels.csv"
    labels.write_text("file,class_index\na.jpg,4\n")
    assert cli.run(clip_command(tiny_clip, tmp_path, folder, "--labels", str(labels))) == 0
    assert capsys.readouterr().out.startswith("extract-features: 3 of val, 0 unreadable, top-1 ")
    out = tmp_path / "ws/features/tiny-test.tiny-test"
    model = zero_shot_model(encoder, NAMES, "simple", features_dir=tmp_path / "own")
    source = pictures_in_folder(folder, labels_path=labels)
    extract_features(source, model, set_name="val", features_dir=tmp_path / "own")
    assert {p.name: p.read_bytes() for p in out.iterdir()} == {
        p.name: p.read_bytes() for p in (tmp_path / "own").iterdir()
    }
    assert cli.run(clip_command(tiny_clip, tmp_path, folder, "--odin-epsilon", "0.002")) == 0
    record = tmp_path / "ws/features/tiny-test.tiny-test.odin-T1000-eps0.002/val.json"
    assert json.loads(record.read_text())["odin"] == {"epsilon": 0.002, "temperature": 1000.0}


def test_without_a_class_list_the_classes_are_imagenets(tiny_clip, folder, tmp_path, capsys):
    command = clip_command(tiny_clip, tmp_path, folder)
    position = command.index("--classes")
    assert cli.run(command[:position] + command[position + 2 :]) == 0
    head = read_head(tmp_path / "ws/features/tiny-test.tiny-test")
    assert head.n_classes == 1000
    note = json.loads((tmp_path / "ws/features/tiny-test.tiny-test/zero_shot.json").read_text())
    assert note["class_names"] == imagenet_class_names()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "test_resnet"], "expected either --model (timm) or --clip (open_clip)"),
        (["--checkpoint", "x.pt"], "--checkpoint: does not go with --clip"),
        (["--n-classes", "5"], "--n-classes: does not go with --clip"),
        (["--preprocess", "vim"], "--preprocess: does not go with --clip"),
        (["--templates", "none"], "--templates: expected openai or simple, found 'none'"),
        (
            ["--odin-epsilon", "-0.1"],
            "expected an epsilon over 0 and at most 1 (pixel values are 0 to 1), found -0.1",
        ),
        (["--odin-temperature", "10"], "--odin-temperature: expected --odin-epsilon over 0 beside it"),
        (["--pretrained", "nothing"], "--pretrained nothing: neither a file nor a weights tag"),
        (["--name", "../x"], "--name: expected letters"),
    ],
)
def test_options_that_do_not_go_together_are_one_clear_error(
    tiny_clip, folder, tmp_path, capsys, arguments, message
):
    assert cli.run(clip_command(tiny_clip, tmp_path, folder, *arguments)) == 1
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected either --model (timm) or --clip (open_clip)"),
        (["--model", "test_resnet", "--pretrained", "x"], "--pretrained: does not go with --model"),
        (["--model", "test_resnet", "--classes", "x.csv"], "--classes: does not go with --model"),
        (["--model", "test_resnet", "--preprocess", "vmi"], "expected the name vim or KEY=VALUE, found 'vmi'"),
        (["--model", "test_resnet", "--model-arg", "x"], "--model-arg: expected KEY=VALUE, found 'x'"),
        (["--model", "test_resnet", "--odin-epsilon", "3"], "at most 1 (pixel values are 0 to 1), found 3.0"),
    ],
)
def test_options_of_the_other_library_are_one_clear_error(tmp_path, capsys, arguments, message):
    assert cli.run(["extract-features", "--set", "val", "--workspace", str(tmp_path), *arguments]) == 1
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1
