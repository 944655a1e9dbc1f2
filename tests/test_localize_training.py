import csv
import dataclasses
import json

import pytest
import torch

import cli
from curation.clip import load_encoder
from curation.localize import train as training
from curation.localize import training_run
from curation.localize.authors import authors_sizes, convert_checkpoint, our_name, split_weights
from curation.localize.checkpoints import load_localizer, load_state, sizes_from
from curation.localize.evaluate import evaluate, fitted_threshold
from curation.localize.network import LocalizerNetwork
from curation.localize.referring_set import read_examples
from curation.localize.towers import frozen_towers
from curation.localize.train import TrainingData, TrainingPlan, train_localizer
from manifests.errors import InputError, ModelError
from tests.localize_world import RESNET_CONFIG, TINY_SIZES, tiny_encoder, untrained, write_layout
from tests.tiny_clip import make_tiny_clip

PLAN = TrainingPlan(n_epochs=3, milestone=2, batch_size=4, learning_rate=3e-3)
FILES = ("localizer.safetensors", "training.pt", "history.csv")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return tiny_encoder(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    return write_layout(tmp_path_factory.mktemp("data"), {"train": 9, "val": 3, "testA": 2})


@pytest.fixture(scope="module")
def data(layout):
    return TrainingData(read_examples(layout, "refcoco", "train"), read_examples(layout, "refcoco", "val"))


def run(encoder, data, out_dir, plan=PLAN, sizes=TINY_SIZES):
    return train_localizer(encoder, sizes, plan, data, out_dir=out_dir, announce=lambda line: None)


def history_of(folder):
    return list(csv.DictReader((folder / "history.csv").read_text().splitlines()))


def contents(folder):
    return {name: (folder / name).read_bytes() for name in FILES}


@pytest.fixture(scope="module")
def whole(encoder, data, tmp_path_factory):
    out_dir = tmp_path_factory.mktemp("whole")
    run(encoder, data, out_dir)
    return out_dir


def test_a_resumed_training_ends_in_the_same_bytes(encoder, data, whole, tmp_path):
    run(encoder, data, tmp_path, dataclasses.replace(PLAN, n_epochs=1))
    run(encoder, data, tmp_path, dataclasses.replace(PLAN, n_epochs=2))
    run(encoder, data, tmp_path)
    assert contents(tmp_path) == contents(whole)


@pytest.mark.parametrize("file", ["localizer.safetensors", "training.pt"])
def test_a_training_killed_after_any_file_ends_in_the_same_bytes(
    encoder, data, whole, tmp_path, monkeypatch, file
):
    name = {"localizer.safetensors": "save_localizer", "training.pt": "save_state"}[file]
    save, calls = getattr(training, name), []

    def killed(path, *others):
        save(path, *others)
        calls.append(path)
        # Other draws than the epoch's own must not matter to the one that follows.
        torch.rand(3)
        raise KeyboardInterrupt

    monkeypatch.setattr(training, name, killed)
    with pytest.raises(KeyboardInterrupt):
        run(encoder, data, tmp_path)
    assert [path.name for path in calls] == [file]
    monkeypatch.undo()
    run(encoder, data, tmp_path)
    assert contents(tmp_path) == contents(whole)


def test_a_training_that_is_done_runs_no_epoch_again(encoder, data, whole, monkeypatch):
    before = contents(whole)
    monkeypatch.setattr(training, "save_state", None)
    assert len(run(encoder, data, whole)) == 3
    assert contents(whole) == before


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"plan": dataclasses.replace(PLAN, seed=1)}, "another plan"),
        ({"sizes": dataclasses.replace(TINY_SIZES, n_words=9)}, "another network"),
    ],
)
def test_a_training_of_another_recipe_is_not_gone_on_with(encoder, data, whole, changed, said):
    with pytest.raises(InputError, match=said):
        run(encoder, data, whole, **changed)


def test_a_training_on_other_examples_is_not_gone_on_with(encoder, data, whole):
    with pytest.raises(InputError, match="another examples"):
        run(encoder, TrainingData(data.train[1:], data.val), whole)


def test_a_damaged_state_is_refused(encoder, data, tmp_path):
    (tmp_path / "training.pt").write_bytes(b"not a state")
    with pytest.raises(ModelError, match="not a state of train-localizer"):
        run(encoder, data, tmp_path)


def test_the_rate_falls_to_a_tenth_after_the_milestone(whole):
    rows = history_of(whole)
    assert [float(row["learning_rate"]) for row in rows] == pytest.approx([3e-3, 3e-3, 3e-4])
    assert [float(TrainingPlan().learning_rate_at(epoch)) for epoch in (0, 34, 35, 49)] == pytest.approx(
        [1e-4, 1e-4, 1e-5, 1e-5]
    )


def test_the_bridgers_factor_reaches_its_weights_alone(encoder, data, tmp_path):
    one_step = TrainingPlan(n_epochs=1, milestone=1, batch_size=9, learning_rate=1e-3, bridger_factor=10)
    torch.manual_seed(one_step.seed)
    start = LocalizerNetwork(frozen_towers(encoder.network), TINY_SIZES).state_dict()
    run(encoder, data, tmp_path, one_step)
    end = load_state(tmp_path / "training.pt")["network"]
    # Adam's first step is its rate for every weight that has a gradient well above its epsilon.
    moved = {
        part: max(
            float((end[name] - start[name]).abs().max())
            for name in start
            if name.startswith(part) and "weight" in name
        )
        for part in ("bridger.words_in", "alignment.layers")
    }
    assert moved["bridger.words_in"] == pytest.approx(1e-2, rel=0.05)
    assert moved["alignment.layers"] == pytest.approx(1e-3, rel=0.05)


def test_the_localiser_kept_is_that_of_the_best_epoch(encoder, whole, data):
    best = max(float(row["mean_iou"]) for row in history_of(whole))
    kept = load_localizer(whole / "localizer.safetensors", encoder)
    assert evaluate(kept, data.val, n_phrases=1).figures().mean_iou == best


def test_training_lowers_the_loss_to_less_than_a_third(encoder, data, tmp_path):
    plan = TrainingPlan(n_epochs=20, milestone=18, batch_size=9, learning_rate=1e-2)
    history = run(encoder, TrainingData(data.train, data.val[:1]), tmp_path, plan)
    assert history[-1].loss < history[0].loss / 3


def test_the_threshold_of_a_baseline_is_fitted_on_examples_given(data):
    class Half:
        name = digest = "half"

        def evidence(self, picture, names):
            # The left third, where the boxes are, has 0.3, the rest 0.1.
            values = torch.full((len(names), 4, 6), 0.1)
            values[:, :, :2] = 0.3
            return values.numpy()

    class Blind(Half):
        def evidence(self, picture, names):
            return torch.zeros(len(names), 4, 6).numpy()

    left = [example for example in data.train if example.segment_id in ("1", "5")]
    assert 0.1 < fitted_threshold(Half(), left) < 0.3
    assert evaluate(Blind(), left).figures().mean_iou == 0


# The authors' checkpoints.


def interactor_names(prefix):
    return {
        f"{prefix}.{layer}": shape
        for layer, shape in {
            "self_attn.in_proj_weight": (192, 64), "self_attn.in_proj_bias": (192,),
            "self_attn.out_proj.weight": (64, 64), "self_attn.out_proj.bias": (64,),
            "multihead_attn.in_proj_weight": (192, 64), "multihead_attn.in_proj_bias": (192,),
            "multihead_attn.out_proj.weight": (64, 64), "multihead_attn.out_proj.bias": (64,),
            "linear1.weight": (128, 64), "linear1.bias": (128,),
            "linear2.weight": (64, 128), "linear2.bias": (64,),
            "norm1.weight": (64,), "norm1.bias": (64,), "norm2.weight": (64,), "norm2.bias": (64,),
            "norm3.weight": (64,), "norm3.bias": (64,),
        }.items()
    }  # fmt: skip


def attention_names(prefix, width):
    return {
        f"{prefix}.in_proj_weight": (3 * width, width), f"{prefix}.in_proj_bias": (3 * width,),
        f"{prefix}.out_proj.weight": (width, width), f"{prefix}.out_proj.bias": (width,),
    }  # fmt: skip


def norm_names(prefix, width, *, is_batch=False):
    names = {f"{prefix}.weight": (width,), f"{prefix}.bias": (width,)}
    if is_batch:
        names |= {
            f"{prefix}.running_mean": (width,),
            f"{prefix}.running_var": (width,),
            f"{prefix}.num_batches_tracked": (),
        }
    return names


def authors_names(first, second, third, embed):
    """Return names and shapes of all that the authors train on a ResNet, written down from their code."""
    names = {}
    for stage, (width, kernel) in enumerate(((first, 2), (second, 1), (third, 2))):
        # A transposed convolution has its inputs first: zoom_in of the last stage, zoom_out of the others.
        down, up = (64, width, kernel, kernel), (64, width, kernel, kernel)
        names[f"bridger.zoom_in.{stage}.weight"] = (width, 64, kernel, kernel) if stage == 2 else down
        names[f"bridger.zoom_out.{stage}.weight"] = (width, 64, kernel, kernel) if stage == 2 else up
        names |= {f"bridger.linear1.{stage}.weight": (64, 512), f"bridger.linear1.{stage}.bias": (64,)}
        names |= {f"bridger.linear2.{stage}.weight": (512, 64), f"bridger.linear2.{stage}.bias": (512,)}
        names |= interactor_names(f"bridger.fusion_v.{stage}") | interactor_names(f"bridger.fusion_t.{stage}")
        if stage < 2:
            names |= norm_names(f"bridger.ln_v.{stage}", 64) | norm_names(f"bridger.ln_t.{stage}", 64)
    for level in (3, 4, 5):
        names |= attention_names(f"neck.fusion{level}.multihead_attn", 512)
        names |= norm_names(f"neck.f{level}_proj.1", 512, is_batch=True)
    names |= {"neck.txt_proj.weight": (512, embed), "neck.txt_proj.bias": (512,)}
    names |= {
        "neck.f3_proj.0.weight": (512, first, 2, 2), "neck.f4_proj.0.weight": (512, second, 1, 1),
        "neck.f5_proj.0.weight": (embed, 512, 2, 2), "neck.aggr.0.weight": (512, 1536, 1, 1),
        "neck.coordconv.0.conv1.0.weight": (512, 514, 3, 3), "neck.coordconv.1.0.weight": (512, 512, 3, 3),
        "proj.vis.1.0.weight": (512, 512, 3, 3), "proj.vis.3.0.weight": (256, 512, 3, 3),
        "proj.vis.4.weight": (256, 256, 1, 1), "proj.vis.4.bias": (256,),
        "proj.txt.weight": (2305, embed), "proj.txt.bias": (2305,),
        "backbone.visual.attnpool.connect.0.weight": (embed, third, 1, 1),
        "backbone.positional_embedding": (77, 512), "backbone.visual.attnpool.positional_embedding": (50, third),
    }  # fmt: skip
    for prefix, width in (
        ("neck.aggr.1", 512), ("neck.coordconv.0.conv1.1", 512), ("neck.coordconv.1.1", 512),
        ("proj.vis.1.1", 512), ("proj.vis.3.1", 256), ("backbone.visual.attnpool.connect.1", embed),
    ):  # fmt: skip
        names |= norm_names(prefix, width, is_batch=True)
    for layer in range(3):
        prefix = f"decoder.layers.{layer}"
        names |= attention_names(f"{prefix}.self_attn", 512) | attention_names(f"{prefix}.multihead_attn", 512)
        for norm in ("self_attn_norm", "cross_attn_norm", "norm1", "norm2", "norm3", "ffn.3"):
            names |= norm_names(f"{prefix}.{norm}", 512)
        for place in (0, 4):
            names |= {f"{prefix}.ffn.{place}.weight": (512, 512), f"{prefix}.ffn.{place}.bias": (512,)}
    return names | norm_names("decoder.norm", 512)


class Rn101Tower:
    """What a network is built for: the widths of RN101, without its 56 million weights."""

    widths, embed_dim, strides, multiple_px, has_shortcut = (512, 1024, 2048), 512, (2, 1, 2), 32, True

    def initial_positions(self, input_px):
        return torch.zeros(50, 2048)


class Rn101Text:
    width, embed_dim = 512, 512

    def initial_positions(self):
        return torch.zeros(77, 512)


def test_every_weight_of_the_authors_rn101_has_its_place_and_shape():
    towers = dataclasses.make_dataclass("Towers", ["image", "text"])(Rn101Tower(), Rn101Text())
    with torch.device("meta"):
        network = LocalizerNetwork(towers, authors_sizes(is_vit=False))
    theirs = authors_names(512, 1024, 2048, 512)
    ours = {our_name(name): tuple(shape) for name, shape in theirs.items()}
    assert ours == {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    assert our_name("backbone.transformer.resblocks.0.attn.in_proj_weight") is None


def test_a_name_that_is_none_of_the_authors_is_refused():
    with pytest.raises(ModelError, match=r"'bridger\.fusion_v\.0\.other\.weight' is no weight"):
        our_name("bridger.fusion_v.0.other.weight")


@pytest.fixture(scope="module")
def their_checkpoint(tmp_path_factory):
    """A checkpoint as the authors' training writes it, with the widths of a very small ResNet."""
    folder = tmp_path_factory.mktemp("theirs")
    clip = untrained(
        folder, RESNET_CONFIG | {"text_cfg": RESNET_CONFIG["text_cfg"] | {"width": 512, "layers": 1}}, "theirs"
    )
    generator = torch.Generator().manual_seed(5)
    names = authors_names(64, 128, 256, 16) | {
        "backbone.visual.attnpool.positional_embedding": (5, 256), "backbone.positional_embedding": (16, 512),
    }  # fmt: skip
    drawn = {
        name: torch.rand(shape, generator=generator) if shape else torch.tensor(3) for name, shape in names.items()
    }
    state = {f"backbone.{name}": tensor for name, tensor in clip.state_dict().items()} | drawn
    checkpoint = folder / "best_model.pth"
    torch.save(
        {
            "epoch": 50,
            "state_dict": {f"module.{name}": tensor for name, tensor in state.items()},
            "prec": {"Pr@50": 0.8},
        },
        checkpoint,
    )
    return checkpoint, str(folder / "theirs.json"), state


def test_the_authors_clip_and_localiser_are_told_apart(their_checkpoint):
    _, _, state = their_checkpoint
    clip, localizer = split_weights({f"module.{name}": tensor for name, tensor in state.items()})
    assert torch.equal(
        clip["visual.layer3.0.bn1.running_mean"], state["backbone.visual.layer3.0.bn1.running_mean"]
    )
    assert torch.equal(localizer["word_positions"], state["backbone.positional_embedding"])
    assert torch.equal(localizer["hierarchical.projections.2.0.weight"], state["neck.f5_proj.0.weight"])
    assert not any("connect" in name for name in clip)


def test_a_checkpoint_of_the_authors_becomes_a_localiser(their_checkpoint, tmp_path, capsys):
    checkpoint, model, state = their_checkpoint
    arguments = ["train-localizer", "--convert", str(checkpoint), "--model", model, "--words", "16"]
    assert cli.run([*arguments, "--out", str(tmp_path), "--workspace", str(tmp_path)]) == 0
    assert "clip.safetensors" in capsys.readouterr().out
    encoder = load_encoder(model, str(tmp_path / "clip.safetensors"))
    localizer = load_localizer(tmp_path / "localizer.safetensors", encoder)
    weights = localizer.network.state_dict()
    assert torch.equal(weights["projector.kernel.weight"], state["proj.txt.weight"])
    assert torch.equal(weights["shortcut.0.weight"], state["backbone.visual.attnpool.connect.0.weight"])
    assert (localizer.network.sizes.input_px, localizer.threshold) == (416, 0.35)


def test_a_checkpoint_of_another_architecture_is_refused(their_checkpoint, tmp_path):
    _, model, state = their_checkpoint
    less = {name: tensor for name, tensor in state.items() if name != "proj.txt.bias"}
    torch.save({"state_dict": less}, tmp_path / "less.pth")
    with pytest.raises(ModelError, match="does not fit"):
        convert_checkpoint(tmp_path / "less.pth", model, tmp_path / "out", n_words=16)
    torch.save({"epoch": 1}, tmp_path / "none.pth")
    with pytest.raises(ModelError, match="with a state_dict"):
        convert_checkpoint(tmp_path / "none.pth", model, tmp_path / "out")


# The command.


def test_the_command_trains_on_a_layout_and_prints_the_test_splits(layout, tmp_path, capsys):
    folder = tmp_path / "clip"
    folder.mkdir()
    config, weights = make_tiny_clip(folder)
    arguments = [
        "train-localizer", "--data", str(layout), "--test-split", "testA", "--model", config,
        "--pretrained", weights, "--input-px", "32", "--words", "8", "--epochs", "1", "--batch-size", "3",
        "--readers", "0", "--device", "cpu", "--workspace", str(tmp_path),
    ]  # fmt: skip
    assert cli.run(arguments) == 0
    said = capsys.readouterr()
    assert "testA, 2 masks, 4 phrases: mean iou " in said.out
    assert "trained: Bridger " in said.err
    assert (tmp_path / "localizer" / "contact_sheet.png").exists()


def test_the_command_trains_on_drawn_scenes_beside_the_heat_map(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(training_run, "N_HELD_OUT_SCENES", 2)
    arguments = ["train-localizer", "--scenes", "4", "--epochs", "1", "--batch-size", "2", "--input-px", "64"]
    assert cli.run([*arguments, "--device", "cpu", "--workspace", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("trained, 2 masks, ")
    assert lines[1].startswith("heat map, from 0.")
    assert {path.name for path in (tmp_path / "localizer").iterdir()} == {
        *FILES, "scenes", "contact_sheet.png", "scene_clip.json", "scene_clip.safetensors",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "expected one of --data, --scenes and --convert"),
        (["--scenes", "9", "--data", "x"], "expected one of --data, --scenes and --convert"),
        (["--data", "x"], "--data needs --model and --pretrained"),
        (["--convert", "x"], "--convert needs --model"),
    ],
)
def test_the_command_refuses_what_does_not_go_together(arguments, said, tmp_path, capsys):
    assert cli.run(["train-localizer", *arguments, "--workspace", str(tmp_path)]) == 1
    assert said in capsys.readouterr().err


def test_sizes_are_read_back_as_they_were_written():
    assert sizes_from(json.loads(json.dumps(dataclasses.asdict(TINY_SIZES)))) == TINY_SIZES
