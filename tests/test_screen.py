import json

import numpy as np
import pytest
import torch

from curation.clip import load_encoder
from curation.duplicates.leaks import OtherSets, find_leaks
from curation.duplicates.rules import DuplicateRules
from curation.embedding_store import EmbeddingStore
from curation.label_map.read import read_label_map
from curation.prototypes import class_prototypes
from curation.screening.evidence import highest_classes
from curation.screening.screen import ScreenRules, screen_pictures
from curation.screening.sources import open_sources
from manifests import schema
from manifests.errors import InputError, StageMissingError
from manifests.label_space import ClassName, read_label_space
from manifests.parquet import write_parquet
from manifests.stored_pictures import stored_pictures
from manifests.workspace import Workspace
from tests.picture_workspace import add_pictures, jpeg, scene
from tests.screen_world import add_store, classes_csv, noise_jpeg, screened, sources_of
from tests.tiny_clip import embed_pictures, make_tiny_clip


@pytest.fixture(scope="module")
def tiny_clip(tmp_path_factory):
    return make_tiny_clip(tmp_path_factory.mktemp("clip"))


def world(folder, n_images=4):
    return add_pictures(Workspace(folder), {f"{number:04x}": noise_jpeg(number) for number in range(n_images)})


def screen(workspace, prototypes, rules=None, **options):
    return screen_pictures(workspace, *sources_of(workspace, prototypes), rules or ScreenRules(), **options)


def write_labels(workspace, rows):
    columns = ("image_id", "label_mid", "source", "confidence", "wnid")
    workspace.write(schema.LABELS, [dict(zip(columns, row, strict=True)) for row in rows])


def test_shown_classes_are_those_of_a_naive_loop(tmp_path, tiny_clip):
    names = [f"thing number {number}" for number in range(14)]
    workspace = world(tmp_path, 6)
    embed_pictures(workspace, *tiny_clip, grid=2, device="cpu")
    classes = classes_csv(tmp_path, names)
    sources = open_sources(workspace, prototypes_of=lambda store: class_prototypes(store, classes, "simple"))
    assert screen_pictures(workspace, *sources, ScreenRules()).counts == {"review": 6}
    prototypes = load_encoder(*tiny_clip).encode_class_names(names, "simple")
    store = EmbeddingStore.choose(workspace, None)
    images = {image_id: image for images in store.shards() for image_id, image in images.items()}
    for image_id, row in screened(workspace).items():
        image = images[image_id]
        best = {}
        for view, vector in zip(image.views, image.embeddings, strict=True):
            for index, prototype in enumerate(prototypes):
                similarity = float(np.dot(vector.astype(np.float32), prototype))
                best[index] = max((similarity, view), best.get(index, (-2, "")))
        expected = sorted(best, key=lambda index: -best[index][0])[:10]
        assert row["shown_classes"] == expected
        np.testing.assert_allclose(row["shown_similarities"], [best[index][0] for index in expected], atol=1e-5)
        assert row["shown_views"] == [best[index][1] for index in expected]
        assert row["shown_sources"] == ["clip"] * 10
        assert row["risk"] == pytest.approx((1 + best[expected[0]][0]) / 2, abs=1e-5)
    assert [known.name for known in read_label_space(tmp_path / "classes.csv")] == names


def test_each_class_carries_the_view_that_raised_it(tmp_path):
    workspace = world(tmp_path, 1)
    add_store(workspace, {"0000": [[1, 0, 0], [0, 1, 0.1]]})
    screen(workspace, np.eye(3))
    row = screened(workspace)["0000"]
    assert row["shown_classes"] == [0, 1, 2]
    assert row["shown_views"] == ["full", "tile_2_0_0", "tile_2_0_0"]
    np.testing.assert_allclose(row["shown_similarities"], [1, 0.995, 0.0995], atol=1e-3)


def test_sources_take_turns_and_a_class_is_shown_once(tmp_path):
    workspace = world(tmp_path, 1)
    add_store(workspace, {"0000": [[4, 3, 2, 1]]}, name="clip")
    add_store(
        workspace, {"0000": [[1, 2, 3, 4]]}, source="classifier", head=(np.eye(4), np.zeros(4)), name="classifier"
    )
    screen(workspace, np.eye(4))
    row = screened(workspace)["0000"]
    assert row["shown_classes"] == [0, 3, 1, 2]
    assert row["shown_sources"] == ["clip", "classifier", "clip", "classifier"]
    np.testing.assert_allclose(row["shown_similarities"], np.array([4, 4, 3, 3]) / np.sqrt(30), atol=1e-3)
    assert row["risk"] == pytest.approx((1 + 4 / np.sqrt(30)) / 2, abs=1e-3)


def test_pictures_of_many_and_of_few_views_keep_their_own_rows(tmp_path):
    workspace = world(tmp_path, 3)
    vectors = {"0000": [[1, 0, 0]], "0001": [[0, 0, 1], [0, 1, 0]], "0002": [[0, 1, 0]]}
    add_store(workspace, vectors)
    screen(workspace, np.eye(3))
    assert {k: row["shown_classes"][0] for k, row in screened(workspace).items()} == {
        "0000": 0, "0001": 1, "0002": 1
    }  # fmt: skip


def test_a_verified_class_is_always_shown_first_and_an_absent_one_is_known(tmp_path):
    workspace = world(tmp_path, 2)
    vectors = {image_id: [np.arange(1000, 0, -1)] for image_id in ("0000", "0001")}
    add_store(workspace, vectors)
    # The reviewed map has Goldfish as n01443537, class 1, and Tench is not in it; Toilet paper is class 999.
    write_labels(
        workspace,
        [
            ("0000", "/m/09gtd", "human", 1.0, "n15075141"),
            ("0000", "/m/03fj2", "human", 0.0, "n01443537"),
            ("0000", "/m/09gtd", "machine", 0.4, "n15075141"),
        ],
    )
    sources = open_sources(workspace, prototypes_of=lambda store: (imagenet(), np.eye(1000, dtype=np.float32)))
    screen_pictures(workspace, *sources, ScreenRules())
    rows = screened(workspace)
    assert rows["0000"]["shown_classes"] == [999, 0, 1, 2, 3, 4, 5, 6, 7, 8]
    assert rows["0000"]["shown_sources"] == ["human"] + ["clip"] * 9
    assert rows["0000"]["shown_views"][0] == "full"
    assert rows["0000"]["shown_similarities"][0] == pytest.approx(
        1 / np.sqrt(sum(n * n for n in range(1001))), abs=1e-5
    )
    assert rows["0000"]["absent_classes"] == [1]
    assert rows["0001"]["shown_classes"] == list(range(10))
    assert rows["0001"]["absent_classes"] == []


def test_a_verified_class_carries_the_view_of_its_highest_cosine(tmp_path):
    workspace = world(tmp_path, 1)
    whole, tile = np.eye(1000)[[0, 999]]
    add_store(workspace, {"0000": [whole, tile]})
    write_labels(workspace, [("0000", "/m/09gtd", "human", 1.0, "n15075141")])
    sources = open_sources(workspace, prototypes_of=lambda store: (imagenet(), np.eye(1000, dtype=np.float32)))
    screen_pictures(workspace, *sources, ScreenRules())
    row = screened(workspace)["0000"]
    shown = zip(
        row["shown_classes"], row["shown_sources"], row["shown_similarities"], row["shown_views"], strict=True
    )
    assert list(shown)[:2] == [(999, "human", 1.0, "tile_2_0_0"), (0, "clip", 1.0, "full")]


def test_more_verified_classes_than_are_shown_are_cut_and_that_is_said(tmp_path):
    workspace = world(tmp_path, 1)
    add_store(workspace, {"0000": [np.eye(1000)[500]]})
    mid_of = {mapped.class_index: (mid, mapped.wnid) for mid, mapped in read_label_map().items()}
    present = sorted(mid_of)[:11]
    write_labels(workspace, [("0000", mid_of[index][0], "human", 1.0, mid_of[index][1]) for index in present])
    sources = open_sources(workspace, prototypes_of=lambda store: (imagenet(), np.eye(1000, dtype=np.float32)))
    said = []
    screen_pictures(workspace, *sources, ScreenRules(), announce=said.append)
    assert screened(workspace)["0000"]["shown_classes"] == present[:10]
    assert said == [
        "labels.parquet: in 1 images people verified more than 10 classes; those of the lowest indices are shown"
    ]


def imagenet():
    from curation.imagenet_classes import imagenet_classes

    return imagenet_classes()


def test_labels_are_not_used_for_other_classes_and_that_is_said(tmp_path):
    workspace = world(tmp_path, 1)
    add_store(workspace, {"0000": [[1, 0]]})
    write_labels(workspace, [("0000", "/m/03fj2", "human", 1.0, "n01443537")])
    said = []
    screen(workspace, np.eye(2), announce=said.append)
    assert any("labels.parquet is not used" in line for line in said)
    assert screened(workspace)["0000"]["shown_sources"] == ["clip", "clip"]


def test_without_a_calibration_nothing_is_dropped_as_in_class(tmp_path):
    workspace = world(tmp_path, 3)
    add_store(workspace, {f"{number:04x}": [[1, 0]] for number in range(3)})
    summary = screen(workspace, np.eye(2))
    assert summary.operating_point is None
    assert summary.counts == {"review": 3}


def test_a_picture_without_embedding_is_named(tmp_path):
    workspace = world(tmp_path, 2)
    add_store(workspace, {"0000": [[1, 0]]})
    with pytest.raises(InputError, match="0001 and maybe others have no embedding there: run 'embed' again"):
        screen(workspace, np.eye(2))


def test_an_unreadable_picture_is_dropped_with_its_reason(tmp_path):
    workspace = world(tmp_path, 2)
    add_store(workspace, {"0000": [[1, 0]]}, unreadable=["0001"])
    assert screen(workspace, np.eye(2)).counts == {"review": 1, "unreadable": 1}
    row = screened(workspace)["0001"]
    assert (row["status"], row["reason"], row["risk"], row["shown_classes"]) == (
        "dropped",
        "unreadable",
        None,
        None,
    )


def test_a_store_that_is_not_complete_names_the_stage(tmp_path):
    workspace = world(tmp_path, 1)
    with pytest.raises(StageMissingError, match="run the stage 'embed' first"):
        sources_of(workspace, np.eye(2))
    store = add_store(workspace, {"0000": [[1, 0]]})
    (store.folder / "unreadable.parquet").unlink()
    with pytest.raises(StageMissingError, match="run the stage 'embed' again"):
        screen(workspace, np.eye(2))


def test_equal_bytes_go_with_their_representative(tmp_path):
    contents = {f"{number:04x}": noise_jpeg(number) for number in range(3)}
    contents["twin"] = contents["0001"]
    workspace = add_pictures(Workspace(tmp_path), contents)
    directions = {"0000": [1, 0, 0], "0001": [0, 1, 0], "0002": [0, 0, 1], "twin": [0, 1, 0]}
    add_store(workspace, {image_id: [vector] for image_id, vector in directions.items()})
    assert screen(workspace, np.eye(3)).counts == {"review": 3, "duplicate": 1}
    row = screened(workspace)["twin"]
    assert (row["reason"], row["duplicate_of"], row["status"]) == ("duplicate", "0001", "dropped")


def test_quality_flags_drop_only_what_is_asked_for(tmp_path):
    workspace = world(tmp_path, 2)
    add_store(workspace, {"0000": [[1, 0]], "0001": [[0, 1]]})
    write_quality(workspace, blurred=["0001"])
    assert screen(workspace, np.eye(2)).counts == {"review": 2}
    assert screen(workspace, np.eye(2), ScreenRules(drop_quality=("dark",))).counts == {"review": 2}
    assert screen(workspace, np.eye(2), ScreenRules(drop_quality=("blur",))).counts == {
        "review": 1,
        "low_quality": 1,
    }
    with pytest.raises(InputError, match="--drop-quality: expected some of blur, dark"):
        screen(workspace, np.eye(2), ScreenRules(drop_quality=("ugly",)))


def write_quality(workspace, blurred, but=()):
    rows = [
        {"image_id": image_id, "sha256": picture.sha256}
        | {f"{check}_score": 1.0 for check in schema.QUALITY_CHECKS}
        | {f"is_{check}": check == "blur" and image_id in blurred for check in schema.QUALITY_CHECKS}
        for image_id, picture in stored_pictures(workspace).items()
        if image_id not in but
    ]
    workspace.write(schema.QUALITY, rows)


@pytest.mark.parametrize("change", ["changed", "new"])
def test_quality_of_other_pictures_than_those_that_are_here_is_refused(tmp_path, change):
    contents = {f"{number:04x}": noise_jpeg(number) for number in range(3)}
    workspace = add_pictures(
        Workspace(tmp_path), {k: contents[k] for k in list(contents)[: 3 if change == "changed" else 2]}
    )
    write_quality(workspace, blurred=[])
    add_pictures(workspace, contents | ({"0002": noise_jpeg(99)} if change == "changed" else {}))
    add_store(workspace, {image_id: [[1, 0]] for image_id in contents})
    with pytest.raises(
        StageMissingError, match="does not have 0002 as it is stored now: run the stage 'quality' again"
    ):
        screen(workspace, np.eye(2), ScreenRules(drop_quality=("blur",)))
    assert screen(workspace, np.eye(2)).counts == {"review": 3}


def test_a_picture_that_no_stage_could_read_needs_no_quality(tmp_path):
    workspace = world(tmp_path, 2)
    add_store(workspace, {"0000": [[1, 0]]}, unreadable=["0001"])
    write_quality(workspace, blurred=[], but=["0001"])
    assert screen(workspace, np.eye(2), ScreenRules(drop_quality=("blur",))).counts == {
        "review": 1,
        "unreadable": 1,
    }


def test_a_picture_fetched_anew_is_not_called_unreadable_for_its_earlier_bytes(tmp_path):
    workspace = world(tmp_path, 2)
    add_store(workspace, {"0000": [[1, 0]]}, unreadable=["0001"])
    add_pictures(workspace, {"0000": noise_jpeg(0), "0001": noise_jpeg(7)})
    with pytest.raises(InputError, match="0001 and maybe others have no embedding there: run 'embed' again"):
        screen(workspace, np.eye(2))


def test_leaks_of_other_pictures_than_those_that_are_here_are_refused(tmp_path):
    workspace = world(tmp_path / "work", 2)
    add_store(workspace, {"0000": [[1, 0]], "0001": [[0, 1]]})
    (tmp_path / "imagenet").mkdir()
    (tmp_path / "imagenet" / "a.jpg").write_bytes(noise_jpeg(1))
    find_leaks(workspace, OtherSets([tmp_path / "imagenet"]), DuplicateRules())
    assert screen(workspace, np.eye(2)).counts == {"review": 1, "leak": 1}
    add_pictures(workspace, {f"{number:04x}": noise_jpeg(number) for number in range(3)})
    add_store(workspace, {f"{number:04x}": [[0, 1]] for number in range(3)})
    with pytest.raises(StageMissingError, match="made before the pictures changed: run the stage 'leaks' again"):
        screen(workspace, np.eye(2))


def world_of_copies(folder, **more):
    """A photograph, a smaller copy of it, and another photograph."""
    contents = {"big": jpeg(scene(1).resize((640, 480))), "small": jpeg(scene(1)), "zzzz": jpeg(scene(7))}
    workspace = add_pictures(Workspace(folder), contents)
    unreadable = more.get("unreadable", ())
    add_store(workspace, {k: [[1, 0]] for k in contents if k not in unreadable}, unreadable=unreadable)
    return workspace


def reasons_of(workspace):
    return {k: (row["reason"], row["duplicate_of"]) for k, row in screened(workspace).items()}


def test_a_copy_stays_where_its_larger_one_has_no_embedding(tmp_path):
    workspace = world_of_copies(tmp_path, unreadable=["big"])
    screen(workspace, np.eye(2))
    assert reasons_of(workspace) == {"big": ("unreadable", None), "small": (None, None), "zzzz": (None, None)}


def test_a_copy_stays_where_its_larger_one_is_flagged(tmp_path):
    workspace = world_of_copies(tmp_path)
    screen(workspace, np.eye(2))
    assert reasons_of(workspace)["small"] == ("duplicate", "big")
    write_quality(workspace, blurred=["big"])
    screen(workspace, np.eye(2), ScreenRules(drop_quality=("blur",)))
    assert reasons_of(workspace) == {"big": ("low_quality", None), "small": (None, None), "zzzz": (None, None)}


def test_a_photograph_that_leaks_leaks_with_all_its_copies(tmp_path):
    workspace = world_of_copies(tmp_path)
    workspace.write(
        schema.LEAKS, [{"image_id": "small", "against": "imagenet", "other": "x.jpg", "kind": "pixels"}]
    )
    screen(workspace, np.eye(2))
    assert reasons_of(workspace) == {"big": ("leak", None), "small": ("leak", None), "zzzz": (None, None)}
    record = json.loads((tmp_path / "provenance" / "screen.json").read_text())
    assert "leaks.parquet" in record["inputs"]


def test_a_quality_check_without_the_stage_names_it(tmp_path):
    workspace = world(tmp_path, 1)
    add_store(workspace, {"0000": [[1, 0]]})
    with pytest.raises(StageMissingError, match="run the stage 'quality'"):
        screen(workspace, np.eye(2), ScreenRules(drop_quality=("blur",)))


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_control_share_that_is_none_is_refused(tmp_path, share):
    with pytest.raises(InputError, match="--control-share: expected 0 to 1"):
        screen_pictures(Workspace(tmp_path), [], [], ScreenRules(control_share=share))


def test_two_stores_of_other_label_spaces_are_refused(tmp_path):
    workspace = world(tmp_path, 1)
    for name in ("a", "b"):
        add_store(workspace, {"0000": [[1, 0]]}, name=name)
    spaces = iter([[ClassName(0, "x"), ClassName(1, "y")], [ClassName(0, "x"), ClassName(1, "z")]])
    with pytest.raises(InputError, match="name the stores of one label space"):
        open_sources(workspace, prototypes_of=lambda store: (next(spaces), np.eye(2, dtype=np.float32)))


def test_features_without_their_length_give_no_logits(tmp_path):
    workspace = world(tmp_path, 1)
    store = add_store(workspace, {"0000": [[1, 0]]}, source="classifier", head=(np.eye(2), np.zeros(2)))
    (path,) = store.paths()
    table = store.read_shard(store.shard_of("0000"))
    bare = {image_id: image.__class__(**{**vars(image), "norms": None}) for image_id, image in table.items()}
    store.write_shard(store.shard_of("0000"), bare)
    assert path.exists()
    with pytest.raises(InputError, match="features without their length"):
        screen(workspace, np.eye(2))


def test_of_equal_similarities_the_smaller_class_stands_first():
    scores = torch.zeros(2, 30)
    scores[1, 25] = 1
    assert highest_classes(scores).tolist() == [list(range(10)), [25, *range(9)]]


def test_the_highest_classes_are_those_of_a_full_sort():
    scores = torch.from_numpy(np.random.default_rng(0).integers(0, 12, (500, 40)).astype(np.float32))
    expected = np.argsort(-scores.numpy(), axis=1, kind="stable")[:, :10]
    assert np.array_equal(highest_classes(scores).numpy(), expected)


def test_a_second_run_and_a_shuffled_input_give_the_same_bytes(tmp_path):
    contents = {f"{number:04x}": noise_jpeg(number) for number in range(40)}
    draws = np.random.default_rng(0)
    vectors = {image_id: draws.normal(size=(1 + index % 3, 12)) for index, image_id in enumerate(contents)}
    outputs = []
    for name, order in (("one", list(contents)), ("other", list(contents)[::-1])):
        workspace = add_pictures(Workspace(tmp_path / name), {k: contents[k] for k in order})
        add_store(workspace, {k: vectors[k] for k in order})
        for _ in range(2):
            screen(workspace, draws_of_prototypes())
            outputs.append(workspace.path_of(schema.SCREEN).read_bytes())
    assert len(set(outputs)) == 1


def draws_of_prototypes():
    return np.random.default_rng(1).normal(size=(15, 12))


def test_a_table_of_an_earlier_schema_is_refused_and_not_guessed(tmp_path):
    workspace = world(tmp_path, 1)
    add_store(workspace, {"0000": [[1, 0]]})
    screen(workspace, np.eye(2))
    table = workspace.read(schema.SCREEN)
    write_parquet(workspace.path_of(schema.SCREEN), table.drop_columns(["shown_views"]))
    with pytest.raises(InputError, match=r"lacks the column shown_views\): .* run the stage 'screen' again"):
        workspace.read(schema.SCREEN)
