"""Heat maps without training: every place against slow computations of its own, and how maps are put together."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.nn import functional

import cli
from curation.bench.localize import LocalizeFigures, bench_localize, corner_pictures, found_in_box, localize_table
from curation.clip import ClipEncoder, load_encoder, untrained_model
from curation.localize.heat_map import HeatMap
from curation.sample.commands import WEIGHTS_DIR
from curation.sample.pictures import IN_CLASSES, Corner, draw_out_picture
from curation.sample.world_plan import CORNER_WIDTH_SHARE, plan_candidates
from manifests.errors import InputError, ModelError
from manifests.masks import cells_of, mask_facts, mask_of, mask_size
from manifests.proportions import counted_share
from tests.tiny_clip import CONFIG

RESNET = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 32, "patch_size": None}
TWO_BLOCKS = {**CONFIG["vision_cfg"], "layers": 2}
COCA_LIKE = {**CONFIG["vision_cfg"], "attentional_pool": True}
N_CLASSES = 5


def load_random(folder: Path, vision: dict, name: str) -> ClipEncoder:
    config_path, weights_path = folder / f"{name}.json", folder / f"{name}.safetensors"
    config_path.write_text(json.dumps({**CONFIG, "vision_cfg": vision}))
    torch.manual_seed(1)
    network = untrained_model(config_path)
    with torch.no_grad():
        # As they are made, the last layer of each block of a ResNet gives nothing.
        for parameter in network.parameters():
            if parameter.ndim == 1 and not parameter.any():
                parameter.normal_(std=0.3)
    save_file(network.state_dict(), weights_path)
    return load_encoder(str(config_path), str(weights_path))


def inputs_of(encoder: ClipEncoder, n_pictures: int = 3) -> torch.Tensor:
    return torch.from_numpy(
        np.random.default_rng(5).normal(size=(n_pictures, 3, encoder.input_px, encoder.input_px))
    ).float()


def scene(width_px: int, height_px: int) -> Image.Image:
    pixels = np.random.default_rng(7).integers(0, 256, (height_px, width_px, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def heat_map_of(encoder: ClipEncoder, **changes: object) -> HeatMap:
    names = [f"class {number}" for number in range(N_CLASSES)]

    def encode(asked: list[str]) -> np.ndarray:
        drawn = [np.random.default_rng([*name.encode()]).normal(size=encoder.n_dimensions) for name in asked]
        return np.stack([vector / np.linalg.norm(vector) for vector in drawn]).astype(np.float32)

    made = HeatMap.of_label_space(encoder, encode, names, encode(names))
    for name, value in changes.items():
        object.__setattr__(made, name, value)
    return made


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> ClipEncoder:
    return load_random(tmp_path_factory.mktemp("vit"), TWO_BLOCKS, "tiny-vit-dense")


@pytest.fixture(scope="module")
def sample() -> ClipEncoder:
    return load_encoder(str(WEIGHTS_DIR / "tiny_clip.json"), str(WEIGHTS_DIR / "tiny_clip.safetensors"))


def test_a_place_of_a_transformer_is_its_value_projection_through_the_rest_of_the_block(vit: ClipEncoder) -> None:
    inputs, tower = inputs_of(vit), vit._model.visual
    found = vit.dense_embeddings(inputs)
    tokens = tower.transformer.resblocks[0](tower._embeds(inputs))
    last, width = tower.transformer.resblocks[1], tokens.shape[2]
    for picture in range(len(inputs)):
        for place in range(4):
            token = tokens[picture, 1 + place]
            value = last.attn.in_proj_weight[2 * width :] @ last.ln_1(token) + last.attn.in_proj_bias[2 * width :]
            token = token + last.attn.out_proj.weight @ value + last.attn.out_proj.bias
            token = token + last.mlp(last.ln_2(token))
            vector = tower.ln_post(token) @ tower.proj
            own = found[picture, :, place // 2, place % 2]
            torch.testing.assert_close(own, vector / vector.norm(), atol=1e-5, rtol=1e-4)


def test_a_place_of_a_resnet_is_its_value_and_output_projection_without_pooling(tmp_path: Path) -> None:
    encoder = load_random(tmp_path, RESNET, "tiny-resnet-dense")
    inputs, tower = inputs_of(encoder), encoder._model.visual
    found = encoder.dense_embeddings(inputs)
    assert found.shape == (3, 16, 2, 2)
    caught: list[torch.Tensor] = []
    tower.attnpool.register_forward_pre_hook(lambda _, given: caught.append(given[0]))
    encoder.image_embeddings(inputs)
    pool = tower.attnpool
    for row, column in ((0, 0), (0, 1), (1, 1)):
        alone = caught[0][:, :, row, column] + pool.positional_embedding[1 + 2 * row + column]
        vector = functional.normalize(pool.c_proj(pool.v_proj(alone)), dim=1)
        torch.testing.assert_close(found[:, :, row, column], vector, atol=1e-5, rtol=1e-4)


def test_places_of_a_tower_that_ends_in_an_average_have_the_pictures_embedding_as_their_mean(
    sample: ClipEncoder,
) -> None:
    from curation.localize.dense import dense_features

    inputs = inputs_of(sample)
    places = dense_features(sample._model.visual, inputs)
    mean = functional.normalize(places.mean(dim=(2, 3)), dim=1)
    torch.testing.assert_close(mean, sample.image_embeddings(inputs), atol=1e-5, rtol=1e-4)


def test_a_tower_that_pools_in_another_way_is_refused_by_name(tmp_path: Path) -> None:
    encoder = load_random(tmp_path, COCA_LIKE, "tiny-coca")
    with pytest.raises(ModelError, match="convolutional with an average at its end, found VisionTransformer"):
        encoder.dense_embeddings(inputs_of(encoder))


def test_evidence_of_one_square_is_the_models_softmax_over_label_space_and_nothing(vit: ClipEncoder) -> None:
    heat_map, picture = heat_map_of(vit, grids=(1,)), scene(40, 40)
    places = vit.dense_embeddings(vit.preprocess(picture)[None])[0].numpy()  # (d, 2, 2)
    logits = vit.logit_scale * np.einsum("dhw,rd->rhw", places, heat_map.rivals)
    shares = np.exp(logits) / np.exp(logits).sum(axis=0)
    found = heat_map.evidence(picture, ["class 3", "class 0"])
    assert found.shape == (2, 64, 64)
    # The corners of the map lie in one place each.
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        corner = found[:, -row, -column]
        np.testing.assert_allclose(corner, shares[[3, 0], row, column], rtol=1e-4)


def test_a_class_outside_the_label_space_is_one_more_rival_of_its_own_alone(vit: ClipEncoder) -> None:
    heat_map, picture = heat_map_of(vit, grids=(1,)), scene(40, 40)
    within = heat_map.evidence(picture, ["class 3"])
    beside = heat_map.evidence(picture, ["stranger", "class 3"])
    np.testing.assert_allclose(beside[1], within[0], atol=1e-6)
    wider = HeatMap(
        vit, heat_map.encode_names, (*heat_map.rival_names, "stranger"),
        np.concatenate([heat_map.rivals, heat_map.encode_names(["stranger"])]), grids=(1,),
    )  # fmt: skip
    np.testing.assert_allclose(beside[0], wider.evidence(picture, ["stranger"])[0], atol=1e-6)


@pytest.mark.parametrize("size", [(90, 60), (50, 110), (64, 64), (700, 40)])
def test_a_map_covers_the_whole_picture_and_is_the_mean_over_the_squares_there(
    vit: ClipEncoder, size: tuple[int, int]
) -> None:
    from manifests.tiles import tile_boxes

    heat_map, picture = heat_map_of(vit, grids=(1, 3)), scene(*size)
    # A place's value is known by the square that it lies in: the number of the square.
    numbers = iter(range(1000))
    object.__setattr__(
        heat_map, "_shares",
        lambda places, names: torch.stack([torch.full((1, 2, 2), next(numbers) / 1000) for _ in places]),
    )  # fmt: skip
    found = heat_map.evidence(picture, ["class 0"])[0]
    assert found.shape == mask_size(size)[::-1]
    height, width = found.shape
    squares = [[box for row in tile_boxes(*size, grid) for box in row] for grid in (1, 3)]
    number_of = {grid: sum(map(len, squares[:grid])) for grid in (0, 1)}
    for row, column in ((0, 0), (height - 1, width - 1), (height // 2, width // 3)):
        means = []
        for grid, boxes in enumerate(squares):
            covering = [
                number_of[grid] + place
                for place, (left, top, right, bottom) in enumerate(boxes)
                if round(left * width / size[0]) <= column < round(right * width / size[0])
                and round(top * height / size[1]) <= row < round(bottom * height / size[1])
            ]
            means += [np.mean(covering)] if covering else []
        # Squares of any size leave gaps in so long a panorama: no evidence there.
        assert means or size == (700, 40)
        assert found[row, column] == pytest.approx(np.mean(means or [0]) / 1000, abs=1e-6)


def test_digest_changes_with_label_space_prompts_and_squares_and_with_nothing_else(vit: ClipEncoder) -> None:
    digest = heat_map_of(vit).digest
    assert heat_map_of(vit).digest == digest
    assert heat_map_of(vit, grids=(1, 4)).digest != digest
    assert heat_map_of(vit, templates=("a photo of a {}.",)).digest != digest
    assert heat_map_of(vit, rival_names=("class 0",)).digest != digest
    # Prototypes of the same names and prompts, as another machine rounds them.
    assert heat_map_of(vit, rivals=np.nextafter(heat_map_of(vit).rivals, np.float32(1))).digest == digest


def test_the_samples_clip_points_at_the_corner_object(sample: ClipEncoder) -> None:
    names = [known.name for known in IN_CLASSES]
    prototypes = sample.encode_class_names(names, "simple")
    heat_map = HeatMap.of_label_space(
        sample, lambda asked: sample.encode_class_names(asked, "simple"), names, prototypes
    )
    ball = names.index("soccer ball")
    picture = draw_out_picture(np.random.default_rng(3), "house", (240, 180), Corner(ball, 0.28))
    own, other = heat_map.evidence(picture, ["soccer ball", "banana"])
    rows, columns = np.nonzero(own >= 0.5)
    # Whichever corner it was pasted into: the evidence is nearer to one than to the picture's middle.
    assert len(rows) > 0
    assert abs(rows.mean() / own.shape[0] - 0.5) > 0.2
    assert abs(columns.mean() / own.shape[1] - 0.5) > 0.2
    assert own.max() > 0.8 > 0.5 > other.max()


def test_a_mask_keeps_its_values_and_its_facts_are_those_of_its_cells() -> None:
    evidence = np.zeros((48, 64), np.float32)
    evidence[:12, :16] = 0.75
    evidence[40, 60] = 1.0
    mask = mask_of(evidence, (400, 300))
    np.testing.assert_array_equal(cells_of(mask), np.rint(evidence * 255).astype(np.uint8))
    assert mask_facts(mask) == ((12 * 16 + 1) / (48 * 64), 1.0)


def test_a_finer_mask_is_made_smaller_by_the_mean_of_its_cells() -> None:
    evidence = np.kron(np.array([[1.0, 0.0], [0.0, 0.5]], np.float32), np.ones((128, 128), np.float32))
    cells = cells_of(mask_of(evidence, (500, 500)))
    assert cells.shape == (64, 64)
    assert [cells[0, 0], cells[0, -1], cells[-1, 0], cells[-1, -1]] == [255, 0, 0, 128]
    assert cells.mean() / 255 == pytest.approx(1.5 / 4, abs=0.01)


def test_a_mask_in_a_box_is_measured_as_by_hand() -> None:
    cells = np.zeros((10, 20), np.uint8)
    cells[2:6, 4:12] = 200
    # Cells of two pixels. The box holds rows 4 to 9 and columns 4 to 6, 18 cells, of which 6 are evidence.
    box = (8, 8, 14, 20)
    points, covers, iou = found_in_box(cells, box, (40, 20))
    assert (points, covers) == (False, False)
    assert iou == pytest.approx(6 / (18 + 32 - 6))
    assert found_in_box(cells, (8, 4, 24, 12), (40, 20)) == (True, True, 1.0)
    assert found_in_box(np.zeros_like(cells), box, (40, 20)) == (False, False, 0.0)


@pytest.mark.parametrize("n_pictures", [0, -3])
def test_a_bench_of_no_pictures_is_refused(n_pictures: int) -> None:
    with pytest.raises(InputError, match=rf"^--images: expected at least 1, found {n_pictures}$"):
        bench_localize(None, n_pictures=n_pictures)


def test_a_folder_without_pictures_to_paste_is_refused_before_any_is_localized(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curation.bench.localize.load_encoder", lambda *given: pytest.fail("it measures"))
    with pytest.raises(InputError, match=r"^--data: .*labels\.csv cannot be read as CSV \(.*\)$"):
        bench_localize(tmp_path / "nope")


def test_more_corner_pictures_than_a_world_has_are_those_of_the_next_and_all_differ() -> None:
    of_one = list(corner_pictures(0))
    more = list(corner_pictures(0, len(of_one) + 3))
    assert len(more) == len(of_one) + 3
    contents = [one.image.tobytes() for one in more]
    assert contents[: len(of_one)] == [one.image.tobytes() for one in of_one]
    assert len(set(contents)) == len(contents)


def test_corner_pictures_are_the_samples_own_and_their_box_holds_the_object() -> None:
    planted = next(corner_pictures(0, 1))
    plan = next(plan for plan in plan_candidates(90_001, 600) if plan.kind == "corner")
    rng = np.random.default_rng(plan.seed)
    corner = Corner(plan.class_index, rng.uniform(*CORNER_WIDTH_SHARE))
    assert draw_out_picture(rng, plan.out_kind, plan.size, corner).tobytes() == planted.image.tobytes()
    left, top, right, bottom = planted.box
    assert right - left == bottom - top == max(8, round(corner.width_share * plan.size[0]))
    assert min(left, plan.size[0] - right) == min(top, plan.size[1] - bottom) == round(0.02 * plan.size[0])


def test_the_table_gives_each_figure_with_its_interval() -> None:
    all_three, none = counted_share(3, 3), counted_share(0, 3)
    figures = LocalizeFigures("corner", (0.2, 0.5, 0.8), all_three, none, none, none, none, counted_share(2, 3))
    lines = localize_table([figures]).splitlines()
    # Clopper and Pearson, 3 of 3: the lower bound p has p ** 3 = 0.025.
    expected = ["1.000", "(0.292", "to", "1.000)"]
    assert lines[3].split() == ["highest", "evidence", "lies", "in", "the", "object's", "box", *expected]
    # 0.5 and 1.96 standard errors, of sqrt(0.06) / sqrt(3).
    assert lines[8].split()[-4:] == ["0.500", "(0.223", "to", "0.777)"]
    assert lines[9] == "  shown by one of the two alone: 2 by evidence, 1 by cosine"
    assert max(map(len, lines)) <= 100


def test_the_bench_tells_its_figures_as_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    half, nothing = counted_share(1, 2), counted_share(0, 0)
    figures = LocalizeFigures("corner", (0.2, 0.4), half, half, half, half, half, nothing)
    monkeypatch.setattr("curation.bench.localize.bench_localize", lambda *_, **__: [figures])
    assert cli.run(["bench", "localize", "--workspace", str(tmp_path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    (found,) = told["data"]["figures"]
    assert (found["population"], found["n_pictures"]) == ("corner", 2)
    # Standard deviation 0.1, of two.
    assert found["mean_iou"] == pytest.approx(
        {"value": 0.3, "low": 0.3 - 0.196 / 2**0.5, "high": 0.3 + 0.196 / 2**0.5}
    )
    assert found["pointed"].keys() == {"n_hits", "n_all", "low", "high", "value"}
    assert (found["missed"]["n_hits"], found["missed"]["value"]) == (1, 0.5)
    assert found["better_with_masks"] == {"n_hits": 0, "n_all": 0, "low": 0, "high": 1, "value": None}
    assert told["text"][2] == "corner, 2 pictures"
