import dataclasses
import zipfile

import pytest
import torch

import cli
from curation.clip import load_encoder
from curation.localize.authors import CLIP_FILE, authors_sizes, convert_checkpoint, our_name, split_weights
from curation.localize.checkpoints import load_localizer
from curation.localize.network import LocalizerNetwork
from manifests.errors import ModelError
from tests.localize_world import RESNET_CONFIG, untrained


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


def test_the_authors_clip_and_localizer_are_told_apart(their_checkpoint):
    _, _, state = their_checkpoint
    clip, localizer = split_weights({f"module.{name}": tensor for name, tensor in state.items()})
    assert torch.equal(
        clip["visual.layer3.0.bn1.running_mean"], state["backbone.visual.layer3.0.bn1.running_mean"]
    )
    assert torch.equal(localizer["word_positions"], state["backbone.positional_embedding"])
    assert torch.equal(localizer["hierarchical.projections.2.0.weight"], state["neck.f5_proj.0.weight"])
    assert not any("connect" in name for name in clip)


def test_a_checkpoint_of_the_authors_becomes_a_localizer(their_checkpoint, tmp_path, capsys):
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
    kept = tmp_path / "out" / CLIP_FILE
    kept.parent.mkdir()
    kept.write_bytes(b"of a conversion before")
    with pytest.raises(ModelError, match="does not fit"):
        convert_checkpoint(tmp_path / "less.pth", model, tmp_path / "out", n_words=16)
    assert [(path, path.read_bytes()) for path in kept.parent.iterdir()] == [(kept, b"of a conversion before")]
    torch.save({"epoch": 1}, tmp_path / "none.pth")
    with pytest.raises(ModelError, match="with a state_dict"):
        convert_checkpoint(tmp_path / "none.pth", model, tmp_path / "out")


def test_the_whole_of_a_training_state_is_read_and_hostile_programs_are_not(their_checkpoint, tmp_path):
    checkpoint, model, state = their_checkpoint
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.ones(2))])
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [35])
    whole = {
        "epoch": 50, "cur_iou": 0.7, "best_iou": 0.71, "prec": {"Pr@50": 0.8},
        "state_dict": {f"module.{name}": tensor for name, tensor in state.items()},
        "optimizer": optimizer.state_dict(), "scheduler": schedule.state_dict(),
    }  # fmt: skip
    torch.save(whole, tmp_path / "whole.pth")
    convert_checkpoint(tmp_path / "whole.pth", model, tmp_path / "out", n_words=16)
    assert (tmp_path / "out" / "localizer.safetensors").exists()
    with zipfile.ZipFile(checkpoint) as before, zipfile.ZipFile(tmp_path / "deep.pth", "w") as after:
        for name in before.namelist():
            nested = b"\x80\x02})" + b"\x85" * 1_000_000 + b"K\x01s."
            after.writestr(name, nested if name.endswith("data.pkl") else before.read(name))
    with pytest.raises(ModelError, match=r"deep\.pth: not a checkpoint of the authors .*more than 64 deep"):
        convert_checkpoint(tmp_path / "deep.pth", model, tmp_path / "none")
    with pytest.raises(ModelError, match=r"--convert .*absent\.pth: no such file"):
        convert_checkpoint(tmp_path / "absent.pth", model, tmp_path / "none")


@pytest.mark.filterwarnings("ignore:Validating sparse")
@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"state_dict": {3: torch.ones(1)}}, "expected named tensors, found int and Tensor"),
        ({"state_dict": {"module.proj.txt.bias": 3}}, "expected named tensors, found str and int"),
        (
            {"state_dict": {"module.backbone.x": torch.eye(2).to_sparse()}},
            "backbone.x: expected a tensor with a real",
        ),
        ({"state_dict": {"backbone.x": torch.ones(1).expand(10**9)}}, "backbone.x: expected a tensor with a real"),
        ([("state_dict", {})], "expected one of the authors' checkpoints, with a state_dict"),
        ({"state_dict": {}}, "expected weights of CLIP and of the authors' network"),
        ({"state_dict": {"proj.txt.bias": torch.ones(1)}}, "expected weights of CLIP and of the authors' network"),
    ],
)
def test_a_checkpoint_of_something_else_is_one_clear_error(their_checkpoint, tmp_path, content, said):
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(ModelError, match=rf"x\.pth: .*{said}"):
        convert_checkpoint(tmp_path / "x.pth", their_checkpoint[1], tmp_path / "out")
    assert not (tmp_path / "out").exists()
