import json
import re

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.torch import load_file
from torch.nn import functional

from curation.localize import scenes
from curation.localize.batches import BatchMaker
from curation.localize.letterbox import letterbox_of
from curation.localize.referring_set import examples_digest, read_examples
from curation.localize.scene_clip import make_scene_clip
from curation.localize.scene_phrases import Thing, phrases_of
from curation.localize.scenes import make_scene, write_scenes
from curation.sample.train_clip import WEIGHTS_PATH
from manifests.errors import InputError
from tests.localize_world import write_layout

PHRASE = re.compile(
    r"the (?:(small|large) )?(?:([a-z]+) )?([a-z]+)(?: (left of|right of|above|below) the (?:([a-z]+) )?([a-z]+))?"
)


# The layout.


@pytest.fixture
def layout(tmp_path):
    return write_layout(tmp_path / "data", {"train": 5, "val": 2})


def entries_of(layout):
    path = layout / "anns" / "refcoco" / "val.json"
    return path, json.loads(path.read_text())


def test_a_split_is_read_in_its_order_with_all_its_phrases(layout):
    examples = read_examples(layout, "refcoco", "val")
    assert [example.segment_id for example in examples] == ["6", "7"]
    assert examples[0].phrases == ("the big box", "the far box")
    picture, mask = examples[0].read()
    assert (picture.size, mask.mode, mask.getextrema()) == ((60, 40), "L", (0, 255))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda entry: entry.pop("img_name"), "entry 1: expected segment_id, img_name"),
        (lambda entry: entry.update(img_name="../../secret.png"), "expected a plain file name"),
        (lambda entry: entry.update(segment_id="6/7"), "expected a plain file name"),
        (lambda entry: entry.update(sentences=[]), "segment 7 has no phrase"),
        (lambda entry: entry.update(sentences=[{"sent": " "}]), "segment 7 has no phrase, or an empty one"),
        (lambda entry: entry.update(segment_id=6), "occurs twice"),
    ],
)
def test_a_damaged_entry_is_refused_by_its_place(layout, change, said):
    path, entries = entries_of(layout)
    change(entries[1])
    path.write_text(json.dumps(entries))
    with pytest.raises(InputError, match=said):
        read_examples(layout, "refcoco", "val")


def test_a_missing_or_broken_split_is_refused(layout):
    with pytest.raises(InputError, match=r"expected ROOT/anns/DATASET/SPLIT\.json"):
        read_examples(layout, "refcoco", "testA")
    path, _ = entries_of(layout)
    path.write_text("[")
    with pytest.raises(InputError, match="not JSON"):
        read_examples(layout, "refcoco", "val")
    path.write_text("[]")
    with pytest.raises(InputError, match="a list of entries"):
        read_examples(layout, "refcoco", "val")


def test_a_mask_of_another_size_or_none_is_refused(layout):
    example = read_examples(layout, "refcoco", "val")[0]
    Image.new("L", (40, 60)).save(example.mask.path)
    with pytest.raises(InputError, match=r"expected 60 x 40 px as picture_6\.png, found 40 x 60 px"):
        example.read()
    example.mask.path.unlink()
    with pytest.raises(InputError, match="segment 6: its picture or mask cannot be read"):
        example.read()


def test_the_digest_of_examples_knows_their_phrases_and_order(layout):
    examples = read_examples(layout, "refcoco", "train")
    assert examples_digest(examples) == examples_digest(read_examples(layout, "refcoco", "train"))
    assert examples_digest(examples) != examples_digest(examples[::-1])


# Pictures in a square.


@pytest.mark.parametrize(("width", "height"), [(60, 40), (40, 60), (50, 50), (300, 20), (5, 3)])
def test_a_picture_touches_two_sides_of_its_square_and_lies_in_the_middle(width, height):
    box = letterbox_of(width, height, 64)
    assert max(box.width, box.height) == 64
    assert abs(min(box.width, box.height) - 64 * min(width, height) / max(width, height)) <= 0.5
    assert abs(64 - box.width - 2 * box.left) <= 1
    assert abs(64 - box.height - 2 * box.top) <= 1


def test_pixels_and_mask_are_placed_alike_and_cut_out_again():
    picture, mask = Image.new("RGB", (60, 40)), Image.new("L", (60, 40))
    ImageDraw.Draw(picture).rectangle((10, 5, 24, 19), fill=(255, 255, 255))
    ImageDraw.Draw(mask).rectangle((10, 5, 24, 19), fill=255)
    box = letterbox_of(60, 40, 96)
    pixels, placed = box.place(picture, (7, 8, 9)), box.place_mask(mask)
    assert pixels[:, 0, 0].tolist() == [7, 8, 9]
    assert torch.equal(pixels[0] > 127, placed > 127)
    back = np.array(
        Image.fromarray(box.cut_out(placed.float()).numpy()).resize((60, 40), Image.Resampling.BILINEAR)
    )
    np.testing.assert_array_equal(back > 127, np.array(mask) > 127)


def test_a_cell_is_read_where_the_loss_took_its_target():
    # A map of 4 x 4 over an input of 64: nearest sampling takes the pixels 0, 16, 32 and 48 as targets.
    ramp = torch.tensor([0.5, 16.5, 32.5, 48.5]).expand(4, 4)
    cut = letterbox_of(64, 32, 64).cut_out(ramp)
    assert cut.shape == (32, 64)
    torch.testing.assert_close(cut[0, :49], torch.arange(0.5, 49.5))


def test_the_very_target_of_the_loss_read_back_lies_where_the_mask_lay():
    mask = Image.new("L", (160, 160))
    ImageDraw.Draw(mask).ellipse((61, 40, 100, 79), fill=255)
    box = letterbox_of(160, 160, 160)
    target = functional.interpolate(box.place_mask(mask)[None, None].float(), size=(40, 40), mode="nearest")[0, 0]
    rows, columns = np.nonzero(box.cut_out(target).numpy() > 127)
    assert (columns.mean(), rows.mean()) == pytest.approx((80.5, 59.5), abs=0.6)


# Batches.


def maker(layout, **changes):
    examples = read_examples(layout, "refcoco", "train")
    return BatchMaker(examples, **{"batch_size": 2, "side_px": 32, "colour": (1, 2, 3), "seed": 0} | changes)


def test_an_epoch_asks_each_example_once_with_one_of_its_phrases(layout):
    batches = list(maker(layout, batch_size=1).of_epoch(0))
    assert len(batches) == 5
    assert {batch.phrases[0] for batch in batches} <= {"the big box", "the far box"}
    assert len({batch.pixels.numpy().tobytes() for batch in batches}) == 5


def test_batches_depend_on_seed_and_epoch_and_not_on_reading_threads(layout):
    def content(batches):
        return [
            (batch.pixels.numpy().tobytes(), batch.masks.numpy().tobytes(), *batch.phrases) for batch in batches
        ]

    here = content(maker(layout).of_epoch(3))
    assert content(maker(layout, n_workers=2).of_epoch(3)) == here
    assert content(maker(layout).of_epoch(4)) != here
    assert content(maker(layout, seed=1).of_epoch(3)) != here


def test_a_batch_larger_than_the_examples_is_refused(layout):
    with pytest.raises(InputError, match="expected 1 to 5"):
        maker(layout, batch_size=6)


# Drawn scenes.


@pytest.fixture(scope="module")
def drawn():
    return [make_scene(3, split, number) for split in ("train", "val") for number in range(20)]


def named_by(phrase, things):
    """Read a phrase anew, word by word, and return the places of the things that it names."""
    size, colour, kind, relation, mark_colour, mark_kind = PHRASE.fullmatch(phrase).groups()

    def fits(thing, wanted):
        return all(
            word in (None, own) for word, own in zip(wanted, (thing.size, thing.colour, thing.kind), strict=True)
        )

    found = [i for i, thing in enumerate(things) if fits(thing, (size, colour, kind))]
    if relation is None:
        return found
    marks = [i for i, thing in enumerate(things) if fits(thing, (None, mark_colour, mark_kind))]
    assert len(marks) == 1, f"{phrase}: its landmark is not one thing"
    mark = things[marks[0]]

    def is_there(thing):
        dx, dy = thing.x - mark.x, thing.y - mark.y
        is_beside = abs(dx) > abs(dy)
        return {"left of": is_beside and dx < 0, "right of": is_beside and dx > 0}.get(
            relation, abs(dy) > abs(dx) and (dy < 0) == (relation == "above")
        )

    return [i for i in found if i != marks[0] and is_there(things[i])]


def test_every_phrase_names_the_target_and_nothing_else(drawn):
    for scene in drawn:
        for phrase in scene.phrases:
            assert named_by(phrase, scene.things) == [scene.target], f"{phrase}: {scene.things}"


def test_many_targets_can_only_be_told_by_their_place(drawn):
    scenes_by_relation = [scene for scene in drawn if all(PHRASE.fullmatch(p)[4] for p in scene.phrases)]
    assert len(scenes_by_relation) >= 3


def test_masks_are_where_the_picture_was_drawn_on(drawn):
    for scene in drawn:
        assert (scene.masks.sum(axis=0) <= 1).all()
        for mask, thing in zip(scene.masks, scene.things, strict=True):
            rows, columns = mask.nonzero()
            low, high = scenes.SIZES[thing.size]
            side_px = scene.picture.width
            assert 0.7 * low * side_px <= max(np.ptp(rows), np.ptp(columns)) <= high * side_px
            assert abs(columns.mean() / side_px - thing.x) < 0.06
            assert abs(rows.mean() / side_px - thing.y) < 0.06


def test_no_target_is_alone_in_its_scene(drawn):
    assert {len(scene.things) for scene in drawn} == {2, 3, 4}


def test_a_masks_pixels_have_the_colour_of_its_thing():
    hue = {"red": 0, "yellow": 55, "green": 122, "blue": 225, "purple": 285}
    for number in range(12):
        scene = make_scene(5, "train", number)
        hues = np.array(scene.picture.convert("HSV"))[..., 0] * (360 / 255)
        for mask, thing in zip(scene.masks, scene.things, strict=True):
            if thing.colour in hue:
                off = np.abs((hues[mask] - hue[thing.colour] + 180) % 360 - 180)
                assert np.median(off) < 25, f"{thing}"


def test_a_scene_depends_on_its_number_alone_and_no_split_repeats_another(drawn):
    again = make_scene(3, "val", 4)
    assert again.picture.tobytes() == drawn[24].picture.tobytes()
    assert again.phrases == drawn[24].phrases
    assert len({scene.picture.tobytes() for scene in drawn}) == len(drawn)


def test_a_thing_with_a_twin_beside_it_has_no_phrase():
    twins = [Thing("ring", "red", "small", x, 0.5) for x in (0.3, 0.7)]
    assert phrases_of(np.random.default_rng(0), twins, 0, 3) == []


def test_phrases_are_with_and_without_a_relation_where_both_name_it():
    things = [Thing("ring", "red", "small", 0.2, 0.5), Thing("cup", "blue", "large", 0.8, 0.5)]
    phrases = phrases_of(np.random.default_rng(0), things, 0, 3)
    assert phrases[:2] == ["the ring", "the ring left of the cup"]
    assert len(set(phrases)) == 3


def test_scenes_are_written_in_the_layout_and_a_second_run_changes_nothing(tmp_path):
    counts = {"train": 3, "val": 1, "test": 1}
    write_scenes(tmp_path, counts, seed=0)
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    example = read_examples(tmp_path, "scenes", "train")[2]
    scene = make_scene(0, "train", 2)
    picture, mask = example.read()
    assert picture.tobytes() == scene.picture.tobytes()
    np.testing.assert_array_equal(np.array(mask) == 255, scene.masks[0])
    assert example.phrases == scene.phrases
    times = {path: path.stat().st_mtime_ns for path in files}
    write_scenes(tmp_path, counts, seed=0)
    assert {path: path.stat().st_mtime_ns for path in files} == times
    write_scenes(tmp_path / "again", counts, seed=0)
    assert {path.name: path.read_bytes() for path in (tmp_path / "again").rglob("*.*")} == {
        path.name: content for path, content in files.items()
    }


def test_the_scenes_clip_sees_as_the_samples_and_tells_every_word_apart(tmp_path):
    encoder = make_scene_clip(tmp_path, "cpu")
    sample = load_file(WEIGHTS_PATH)
    weights = encoder.network.state_dict()
    assert all(torch.equal(weights[name], sample[name].float()) for name in sample if "visual.trunk.layer" in name)
    phrases = ["the red ring", "the red cup", "the blue ring", "the small star", "the large star"]
    with torch.no_grad():
        sentences = torch.nn.functional.normalize(encoder.network.encode_text(encoder.tokens(phrases, 16)), dim=1)
    alike = (sentences @ sentences.T).fill_diagonal_(-1)
    assert alike.max() < 0.97
    assert make_scene_clip(tmp_path, "cpu").digest == encoder.digest
    (tmp_path / "again").mkdir()
    assert make_scene_clip(tmp_path / "again", "cpu").digest == encoder.digest


def test_scenes_of_other_settings_are_refused_and_stay(tmp_path):
    write_scenes(tmp_path, {"train": 2, "val": 1, "test": 1}, seed=0)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match=r"counts: the scenes there were drawn with .*'train': 2.* now it is .*1"):
        write_scenes(tmp_path, {"train": 1, "val": 1, "test": 1}, seed=0)
    with pytest.raises(
        InputError, match="seed: the scenes there were drawn with 0, and now it is 1; give the same"
    ):
        write_scenes(tmp_path, {"train": 2, "val": 1, "test": 1}, seed=1)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    for damaged in ("{", "3"):
        (tmp_path / "scenes.json").write_text(damaged)
        with pytest.raises(
            InputError, match=r"scenes\.json: not the settings of drawn scenes .*; delete the folder"
        ):
            write_scenes(tmp_path, {"train": 2, "val": 1, "test": 1}, seed=0)
