import copy
import math

import pytest
import torch
from torch.nn import functional

from curation.clip import load_encoder, untrained_model
from curation.localize.bridger import Bridger, BridgeSizes
from curation.localize.decoder import DecoderSizes, GlobalAlignment, Projector, grid_positions, line_positions
from curation.localize.interactors import GatedInteractor, Interactor
from curation.localize.loss import text_to_pixel_loss
from curation.localize.network import LocalizerNetwork, NetworkSizes
from curation.localize.text_tower import stage_bounds
from curation.localize.towers import attention_pool, frozen_towers
from curation.sample.train_clip import CONFIG_PATH, WEIGHTS_PATH
from manifests.errors import InputError, ModelError
from tests.localize_world import DEEP_VIT_CONFIG, RESNET_CONFIG, TINY_SIZES, untrained

TOKENS = torch.tensor([[49406, 320, 736, 49407, 0, 0, 0, 0], [49406, 1125, 49407, 0, 0, 0, 0, 0]])


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    return {
        "resnet": untrained(folder, RESNET_CONFIG, "tiny-resnet"),
        "vit": untrained(folder, DEEP_VIT_CONFIG, "tiny-vit"),
        "timm": load_encoder(str(CONFIG_PATH), str(WEIGHTS_PATH)).network,
    }


def pixels(n=2, seed=0):
    return torch.randn(n, 3, 64, 64, generator=torch.Generator().manual_seed(seed))


def network_of(clip, **changes):
    torch.manual_seed(0)
    sizes = NetworkSizes(
        **{"input_px": 64, "n_words": 8, "bridge": TINY_SIZES.bridge, "decoder": TINY_SIZES.decoder} | changes
    )
    return LocalizerNetwork(frozen_towers(clip), sizes)


# Counts: the paper's, and what the authors' code has.


def test_the_bridger_of_rn101_has_the_papers_number_of_weights():
    bridger = Bridger((512, 1024, 2048), 512, strides=(2, 1, 2), sizes=BridgeSizes())
    assert sum(weight.numel() for weight in bridger.parameters()) == 1_942_080


@pytest.mark.parametrize(
    ("is_gated", "strides", "n_weights"), [(True, (1, 1, 1), 598_592), (False, (2, 1, 2), 1_385_024)]
)
def test_the_bridger_of_vit_b_16_has_the_published_number_of_weights(is_gated, strides, n_weights):
    bridger = Bridger((768,) * 3, 512, strides=strides, sizes=BridgeSizes(n_heads=8), is_gated=is_gated)
    assert sum(weight.numel() for weight in bridger.parameters()) == n_weights


@pytest.mark.parametrize(("model", "percent"), [("RN101", "3.38"), ("ViT-B-16", "1.60")])
def test_the_trained_share_of_the_backbone_is_the_papers(model, percent):
    # The paper prints 1.61 % to 3.38 %; cut after two digits these are 1.6068 and 3.3887.
    counts = LocalizerNetwork(frozen_towers(untrained_model(model)), NetworkSizes()).parameter_counts()
    assert math.floor(counts.share_of_image_tower * 10_000) / 100 == float(percent)
    assert counts.n_bridger in (1_942_080, 1_385_024)


# The frozen towers, against open_clip's own forward passes.


def test_twelve_layers_meet_after_the_fourth_the_eighth_and_the_twelfth():
    assert stage_bounds(12) == (0, 4, 8, 12)
    assert stage_bounds(2) == (0, 1, 2, 2)


@pytest.mark.parametrize("kind", ["resnet", "vit", "timm"])
def test_the_text_tower_alone_is_open_clips_own(clips, kind):
    text = frozen_towers(clips[kind]).text
    tokens = functional.pad(TOKENS, (0, clips[kind].context_length - TOKENS.shape[1]))
    words = text.begin(tokens, text.initial_positions())
    for stage in range(3):
        words = text.run_stage(stage, words)
    torch.testing.assert_close(text.finish(words, tokens)[1], clips[kind].encode_text(tokens))


def test_a_shorter_row_of_tokens_changes_no_sentence(clips):
    text = frozen_towers(clips["resnet"]).text

    def sentences(tokens):
        words = text.begin(tokens, text.initial_positions())
        for stage in range(3):
            words = text.run_stage(stage, words)
        return text.finish(words, tokens)[1]

    torch.testing.assert_close(sentences(TOKENS), sentences(TOKENS[:, :5]))


@pytest.mark.parametrize("kind", ["resnet", "timm"])
def test_the_resnet_towers_alone_are_open_clips_own(clips, kind):
    visual, tower = clips[kind].visual, frozen_towers(clips[kind]).image
    found = tower.begin(pixels(), tower.initial_positions(64))
    expected = visual.forward_intermediates(pixels(), indices=[2, 3, 4], intermediates_only=True)
    for stage, stage_map in enumerate(expected["image_intermediates"]):
        found = tower.run_stage(stage, found)
        torch.testing.assert_close(found, stage_map)
        assert tower.widths[stage] == stage_map.shape[1]


def test_the_vision_transformer_alone_is_open_clips_own(clips):
    visual, tower = clips["vit"].visual, frozen_towers(clips["vit"]).image
    small = pixels()[:, :, :32, :32]
    state = tower.begin(small, tower.initial_positions(32))
    for stage in range(3):
        state = tower.run_stage(stage, state)
    torch.testing.assert_close(visual.ln_post(state[:, 0]) @ visual.proj, visual(small))
    torch.testing.assert_close(tower.finish(state, None)[:, :, 1, 0], visual.ln_post(state[:, 3]) @ visual.proj)


def test_attention_at_every_place_is_the_attention_pool_at_the_mean(clips):
    pool = clips["resnet"].visual.attnpool
    places = torch.randn(2, 4, 256, generator=torch.Generator().manual_seed(3))
    with_mean = torch.cat([places.mean(1, keepdim=True), places], dim=1) + pool.positional_embedding
    pooled = pool(places.transpose(1, 2).reshape(2, 256, 2, 2))
    torch.testing.assert_close(attention_pool(pool, with_mean)[:, 0], pooled)


def test_places_of_the_sample_clip_average_to_its_embedding(clips):
    tower = frozen_towers(clips["timm"]).image
    state = tower.begin(pixels(), None)
    for stage in range(3):
        state = tower.run_stage(stage, state)
    torch.testing.assert_close(tower.finish(state, None).mean((2, 3)), clips["timm"].encode_image(pixels()))


# Equations, against slow and plain ones.


def naive_attention(layer, queries, keys, values):
    """Multi-head attention of one example, place by place and head by head."""
    width, head_width = layer.embed_dim, layer.embed_dim // layer.num_heads
    weights, biases = layer.in_proj_weight.split(width), layer.in_proj_bias.split(width)
    q, k, v = (x @ w.T + b for x, w, b in zip((queries, keys, values), weights, biases, strict=True))
    joined = torch.zeros(len(queries), width)
    for head in range(layer.num_heads):
        part = slice(head * head_width, (head + 1) * head_width)
        for place in range(len(queries)):
            weight = torch.stack([q[place, part] @ key[part] for key in k]) / math.sqrt(head_width)
            joined[place, part] = torch.softmax(weight, 0) @ v[:, part]
    return joined @ layer.out_proj.weight.T + layer.out_proj.bias


def naive_norm(layer, x):
    return (x - x.mean(-1, keepdim=True)) / (
        x.var(-1, keepdim=True, unbiased=False) + layer.eps
    ).sqrt() * layer.weight + layer.bias


def shaken(module):
    """Give every weight a value of its own: zeros and ones would hide terms."""
    generator = torch.Generator().manual_seed(7)
    for weight in module.parameters():
        weight.data = torch.randn(weight.shape, generator=generator) * 0.3
    return module.eval()


def test_the_interactor_is_attention_to_itself_to_the_other_and_a_feed_forward_layer():
    interactor = shaken(Interactor(8, 2, feed_forward=12, dropout=0.1))
    own, other = torch.randn(1, 5, 8, generator=torch.Generator().manual_seed(1)), torch.randn(1, 3, 8)
    x, y = own[0], other[0]
    x = naive_norm(interactor.norm_self, x + naive_attention(interactor.self_attention, x, x, x))
    x = naive_norm(interactor.norm_cross, x + naive_attention(interactor.cross_attention, x, y, y))
    hidden = torch.clamp(x @ interactor.expand.weight.T + interactor.expand.bias, min=0)
    x = naive_norm(interactor.norm_feed, x + hidden @ interactor.contract.weight.T + interactor.contract.bias)
    torch.testing.assert_close(interactor(own, other)[0], x)


def test_the_published_interactor_multiplies_its_attention_in():
    interactor = shaken(GatedInteractor(8, 2))
    own, other = torch.randn(1, 5, 8), torch.randn(1, 3, 8)
    expected = own[0] * naive_attention(interactor.cross_attention, own[0], other[0], other[0])
    torch.testing.assert_close(interactor(own, other)[0], expected)


def test_positions_are_sines_and_cosines_of_places():
    line = line_positions(6, 4)
    for place in range(4):
        for pair in range(3):
            angle = place / 10_000 ** (2 * pair / 6)
            assert line[place, 2 * pair].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert line[place, 2 * pair + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)
    grid = grid_positions(8, 3, 5)  # place 13 is row 2, column 3
    assert grid.shape == (15, 8)
    torch.testing.assert_close(grid[13], torch.cat([line_positions(4, 5)[3], line_positions(4, 3)[2]]))


def test_the_global_alignment_is_what_its_layers_say_of_places_and_words():
    alignment = shaken(GlobalAlignment(8, DecoderSizes(width=8, n_heads=2, n_layers=1, feed_forward=12)))
    image, words = torch.randn(1, 8, 2, 2), torch.randn(1, 4, 8)
    layer = alignment.layers[0]
    at, word_at = grid_positions(8, 2, 2), line_positions(8, 4)
    x, seen = image[0].flatten(1).T, words[0, :3]
    normed = naive_norm(layer.norm_before_self, x)
    x = x + naive_norm(
        layer.norm_after_self, naive_attention(layer.self_attention, normed + at, normed + at, normed)
    )
    asking = naive_norm(layer.norm_before_cross, x) + at
    attended = naive_attention(layer.cross_attention, asking, seen + word_at[:3], seen)
    x = x + naive_norm(layer.norm_after_cross, attended)
    first, norm, last = layer.feed_forward[0], layer.feed_forward[3], layer.feed_forward[4]
    hidden = torch.clamp(naive_norm(layer.norm_before_feed, x) @ first.weight.T + first.bias, min=0)
    x = x + naive_norm(norm, hidden) @ last.weight.T + last.bias
    is_padding = torch.tensor([[False, False, False, True]])
    found = alignment(image, words, is_padding)[0].flatten(1).T
    torch.testing.assert_close(found, naive_norm(alignment.norm, x))


def test_the_projector_convolves_each_picture_with_its_own_sentences_kernel():
    projector = shaken(Projector(6, 8))
    image, sentences = torch.randn(3, 8, 4, 4), torch.randn(3, 6)
    found = projector(image, sentences)
    for place in range(3):
        made = projector.kernel.weight @ sentences[place] + projector.kernel.bias
        finer = functional.pad(projector.finer(image)[place], (1, 1, 1, 1))  # (4, 18, 18)
        kernel = made[:-1].reshape(4, 3, 3)
        y, x = 5 + place, 11
        expected = (finer[:, y : y + 3, x : x + 3] * kernel).sum() + made[-1]
        assert found[place, y, x].item() == pytest.approx(expected.item(), abs=1e-4)


def test_the_loss_is_the_mean_log_loss_of_pixels_at_the_logits_size():
    logits = torch.tensor([[[0.0, 2.0], [-1.0, 0.5]]])
    mask = torch.tensor([[[1.0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]])
    expected = (
        math.log(1 + math.exp(-0.0)) + math.log(1 + math.exp(2.0)) + math.log(1 + math.exp(-1.0))
        + math.log(1 + math.exp(-0.5))
    ) / 4  # fmt: skip
    assert text_to_pixel_loss(logits, mask).item() == pytest.approx(expected)


# The whole network.


@pytest.mark.parametrize("interactor", ["paper", "published"])
@pytest.mark.parametrize("kind", ["resnet", "vit", "timm"])
def test_every_weight_that_is_trained_has_a_gradient_and_the_clip_model_does_not_change(clips, kind, interactor):
    clip = clips[kind]
    before = {name: tensor.clone() for name, tensor in clip.state_dict().items()}
    network = network_of(clip, interactor=interactor).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for step in range(2):
        optimizer.zero_grad()
        text_to_pixel_loss(network(pixels(seed=step), TOKENS), torch.ones(2, 64, 64)).backward()
        optimizer.step()
    silent = {name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()}
    # timm's ResNets have no position embeddings.
    assert silent == ({"image_positions"} if kind == "timm" else set())
    assert all(weight.grad is None for weight in clip.parameters())
    assert all(
        tensor.numpy().tobytes() == before[name].numpy().tobytes() for name, tensor in clip.state_dict().items()
    )
    assert not any(name.startswith("_towers") for name in network.state_dict())


@pytest.mark.parametrize("kind", ["resnet", "vit", "timm"])
def test_mixed_precision_gives_nearly_the_same_logits_and_full_precision_gradients(clips, kind):
    # On the CPU in bfloat16: no type of a layer may depend on float32 coming in, as on a GPU it does not.
    network = network_of(clips[kind]).eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = network(pixels(), TOKENS)
    text_to_pixel_loss(mixed.float(), torch.ones(2, 64, 64)).backward()
    assert mixed.dtype == torch.bfloat16
    assert {weight.grad.dtype for weight in network.parameters() if weight.grad is not None} == {torch.float32}
    full = network(pixels(), TOKENS)
    assert (mixed.float() - full).abs().max() < 0.05 * full.abs().max() + 0.05


@pytest.mark.parametrize(("kind", "side"), [("resnet", 16), ("timm", 16), ("vit", 16)])
def test_logits_are_a_map_over_the_input(clips, kind, side):
    network = network_of(clips[kind]).eval()
    assert network(pixels(), TOKENS).shape == (2, side, side)


def test_the_words_change_the_image_stream_and_the_image_the_sentence(clips):
    network = network_of(clips["resnet"]).eval()
    maps, _, sentences = network.encode(pixels(), TOKENS)
    other_maps, _, _ = network.encode(pixels(), TOKENS.flip(0))
    _, _, other_sentences = network.encode(pixels().flip(0), TOKENS)
    assert not torch.allclose(maps[0], other_maps[0])
    assert not torch.allclose(sentences, other_sentences)


def test_without_its_bridger_the_network_sees_what_clip_sees(clips):
    network = network_of(clips["resnet"]).eval()
    for layer in (*network.bridger.zoom_out, *network.bridger.words_out):
        for weight in layer.parameters():
            torch.nn.init.zeros_(weight)
    _, _, sentences = network.encode(pixels(), TOKENS)
    tokens = functional.pad(TOKENS, (0, 8))
    torch.testing.assert_close(sentences, clips["resnet"].encode_text(tokens))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"input_px": 48}, "multiple of 32"),
        ({"interactor": "mine"}, "paper or published"),
        ({"n_words": 2}, "two marks and a word"),
        ({"n_words": 17}, "text tower takes at most 16"),
        ({"decoder": DecoderSizes(width=18, n_heads=2)}, "4 and its 2 heads divide"),
        ({"bridge": BridgeSizes(width=9, n_heads=2)}, "do not divide its width 9"),
    ],
)
def test_a_size_that_cannot_be_is_refused(clips, changes, said):
    with pytest.raises(InputError, match=said):
        network_of(clips["resnet"], **changes)


def test_a_text_tower_that_is_not_clips_is_refused(clips):
    other = copy.deepcopy(clips["resnet"])
    other.text_pool_type = "last"
    with pytest.raises(ModelError, match="own text transformer"):
        frozen_towers(other)
