import hashlib
import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import open_clip
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file

from curation.clip import load_encoder
from curation.embed import embed_from_features, embed_pictures
from curation.embedding_store import EmbeddingStore
from curation.screen import ScreenRules, screen_pictures
from curation.views import cut_views, view_names
from manifests import schema
from manifests.errors import InputError, ModelError, StageMissingError
from manifests.images import read_image
from manifests.label_space import ClassName, read_label_space, write_label_space
from manifests.workspace import Workspace, write_parquet
from tests.conftest import REPOSITORY
from tests.test_duplicates import scene
from tests.tiny_clip import make_tiny_clip


@pytest.fixture(scope="module")
def tiny_clip(tmp_path_factory):
    return make_tiny_clip(tmp_path_factory.mktemp("clip"))


def add_pictures(workspace, contents):
    """Fill candidates and downloads with pictures given as bytes by id."""
    candidates, downloads = [], []
    for image_id, content in contents.items():
        path = workspace.root / workspace.relative_image_path(image_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        width, height = Image.open(io.BytesIO(content)).size
        candidates.append(
            {"image_id": image_id, "subset": "test", "url": f"https://mirror.invalid/{image_id}.jpg"}
        )
        downloads.append({
            "image_id": image_id, "status": "ok", "attempts": 1, "sha256": hashlib.sha256(content).hexdigest(),
            "size_bytes": len(content), "width_px": width, "height_px": height,
            "path": workspace.relative_image_path(image_id),
        })  # fmt: skip
    workspace.write(schema.CANDIDATES, candidates)
    workspace.write(schema.DOWNLOADS, downloads)
    return workspace


def jpeg(image, quality=90):
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def pictures(n_images):
    return {f"{number:04x}": jpeg(scene(number)) for number in range(n_images)}


def images_of(store):
    return {image_id: image for images in store.shards() for image_id, image in images.items()}


def classes_csv(folder, names=("cat", "dog", "sea", "tree")):
    write_label_space(folder / "names.csv", [ClassName(index, name) for index, name in enumerate(names)])
    return folder / "names.csv"


def tables_of(workspace):
    files = [
        p for p in workspace.root.rglob("*") if p.is_file() and p.parts[len(workspace.root.parts)] == "embeddings"
    ]
    files += [workspace.path_of(schema.SCREEN), workspace.root / "classes.csv"]
    return {str(p.relative_to(workspace.root)): p.read_bytes() for p in files if p.exists()}


def test_tiles_cover_the_picture_and_overlap_by_half():
    image = Image.new("RGB", (90, 60))
    assert view_names(2) == ["full", "tile_2_0_0", "tile_2_0_1", "tile_2_1_0", "tile_2_1_1"]
    assert [view.size for view in cut_views(image, 2)] == [(90, 60), *[(60, 40)] * 4]
    assert [view.size for view in cut_views(Image.new("RGB", (1, 1)), 3)] == [(1, 1)] * 10


def test_embeddings_are_those_of_open_clip_itself(tmp_path, tiny_clip):
    workspace = add_pictures(Workspace(tmp_path), pictures(5))
    summary = embed_pictures(workspace, *tiny_clip, grid=1, device="cpu")
    store = EmbeddingStore.choose(workspace, summary.digest[:6])
    images = images_of(store)
    network, _, preprocess = open_clip.create_model_and_transforms("tiny-test", pretrained=tiny_clip[1])
    network.eval()
    for image_id, stored in images.items():
        image = read_image(workspace.root / workspace.relative_image_path(image_id))
        assert stored.views == ("full", "tile_1_0_0")
        for view, vector in zip(cut_views(image, 1), stored.embeddings, strict=True):
            with torch.inference_mode():
                raw = network.encode_image(preprocess(view)[None])[0]
            np.testing.assert_allclose(vector, raw / raw.norm(), atol=1e-3)


def test_the_table_holds_id_digest_view_and_unit_float16(tmp_path, tiny_clip):
    workspace = add_pictures(Workspace(tmp_path), pictures(3))
    summary = embed_pictures(workspace, *tiny_clip, grid=0, device="cpu")
    paths = (workspace.embeddings_dir / summary.digest).glob("shard-*.parquet")
    table = pa.concat_tables([pq.read_table(path).replace_schema_metadata() for path in paths]).sort_by("image_id")
    assert table.schema.equals(schema.embeddings_schema(16))
    assert table.column("image_id").to_pylist() == ["0000", "0001", "0002"]
    assert table.column("sha256").to_pylist() == workspace.read(schema.DOWNLOADS).column("sha256").to_pylist()
    lengths = np.linalg.norm(np.array(table.column("embedding").to_pylist()), axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-3)


def test_a_second_run_embeds_nothing_and_new_and_changed_pictures_are_added(tmp_path, tiny_clip):
    contents = pictures(6)
    workspace = add_pictures(Workspace(tmp_path), {k: contents[k] for k in list(contents)[:4]})
    assert embed_pictures(workspace, *tiny_clip, device="cpu").n_new == 4
    first = tables_of(workspace)
    assert embed_pictures(workspace, *tiny_clip, device="cpu").n_new == 0
    assert tables_of(workspace) == first
    contents["0001"] = jpeg(scene(99))
    summary = embed_pictures(add_pictures(workspace, contents), *tiny_clip, device="cpu")
    assert (summary.n_new, summary.n_kept) == (3, 3)


def test_a_pilot_and_the_rest_later_end_in_the_bytes_of_one_run(tmp_path, tiny_clip):
    contents = pictures(30)
    at_once = add_pictures(Workspace(tmp_path / "at_once"), contents)
    embed_pictures(at_once, *tiny_clip, device="cpu", grid=0)
    later = add_pictures(Workspace(tmp_path / "later"), dict(list(contents.items())[:4]))
    embed_pictures(later, *tiny_clip, device="cpu", grid=0)
    embed_pictures(add_pictures(later, contents), *tiny_clip, device="cpu", grid=0)
    assert tables_of(later) == tables_of(at_once)


def test_a_rotation_learnt_later_makes_an_embedding_outdated(tmp_path, tiny_clip):
    workspace = add_pictures(Workspace(tmp_path), pictures(3))
    embed_pictures(workspace, *tiny_clip, device="cpu", grid=0)
    rows = workspace.read(schema.CANDIDATES).to_pylist()
    workspace.write(schema.CANDIDATES, [row | {"rotation_deg": 90 * (row["image_id"] == "0001")} for row in rows])
    assert embed_pictures(workspace, *tiny_clip, device="cpu", grid=0).n_new == 1
    assert embed_pictures(workspace, *tiny_clip, device="cpu", grid=0).n_new == 0


def test_another_architecture_with_the_same_weights_is_another_encoder(tmp_path, tiny_clip):
    config = json.loads(Path(tiny_clip[0]).read_text())
    (tmp_path / "tiny-quick.json").write_text(json.dumps(config | {"quick_gelu": True}))
    quick = load_encoder(str(tmp_path / "tiny-quick.json"), tiny_clip[1])
    assert quick.digest != load_encoder(*tiny_clip).digest


def test_a_picture_that_vanishes_before_the_screen_is_named(tmp_path, tiny_clip):
    contents = pictures(2) | {"twin": jpeg(scene(1), 80)}
    workspace = add_pictures(Workspace(tmp_path), contents)
    embed_pictures(workspace, *tiny_clip, device="cpu", grid=0)
    (tmp_path / "images" / "00" / "0001.jpg").unlink()
    with pytest.raises(InputError, match=r"0001\.jpg: cannot be read .* run 'download' and 'embed' again"):
        screen_pictures(workspace, ScreenRules(), classes_path=classes_csv(tmp_path), template_set="simple")


@pytest.mark.parametrize("bound", [32.0, float("nan"), -1.5])
def test_a_bound_that_is_no_cosine_is_refused(tmp_path, bound):
    with pytest.raises(InputError, match="--in-class-above: expected -1 to 1"):
        screen_pictures(Workspace(tmp_path), ScreenRules(in_class_above=bound))


def test_a_picture_that_became_unreadable_is_dropped_with_its_reason(tmp_path, tiny_clip):
    workspace = add_pictures(Workspace(tmp_path), pictures(4))
    (tmp_path / "images" / "00" / "0002.jpg").write_bytes(b"<html>")
    summary = embed_pictures(workspace, *tiny_clip, device="cpu")
    assert (summary.n_new, summary.n_unreadable) == (3, 1)
    store = EmbeddingStore.choose(workspace, None)
    assert store.read_unreadable() == {"0002": "the file starts with <html>"}
    counts = screen_pictures(workspace, ScreenRules(), classes_path=classes_csv(tmp_path), template_set="simple")
    assert counts == {"review": 3, "unreadable": 1}


def test_shown_classes_are_those_of_a_naive_loop(tmp_path, tiny_clip):
    names = [f"thing number {number}" for number in range(14)]
    workspace = add_pictures(Workspace(tmp_path), pictures(6))
    embed_pictures(workspace, *tiny_clip, grid=2, device="cpu")
    screen_pictures(workspace, ScreenRules(), classes_path=classes_csv(tmp_path, names), template_set="simple")
    encoder = load_encoder(*tiny_clip)
    prototypes = []
    for name in names:
        texts = [encoder.encode_class_names([name], "simple")]
        prototypes.append(texts[0][0])
    images = images_of(EmbeddingStore.choose(workspace, None))
    for row in workspace.read(schema.SCREEN).to_pylist():
        best = {}
        for vector in images[row["image_id"]].embeddings:
            for index, prototype in enumerate(prototypes):
                similarity = float(np.dot(vector.astype(np.float32), prototype))
                best[index] = max(similarity, best.get(index, -2))
        expected = sorted(best, key=lambda index: -best[index])[:10]
        assert row["shown_classes"] == expected
        np.testing.assert_allclose(row["shown_similarities"], [best[index] for index in expected], atol=1e-5)
        assert row["risk"] == pytest.approx((1 + best[expected[0]]) / 2, abs=1e-5)
    assert [known.name for known in read_label_space(tmp_path / "classes.csv")] == names


def test_by_default_the_classes_are_the_1000_of_imagenet(tmp_path, tiny_clip):
    workspace = add_pictures(Workspace(tmp_path), pictures(3))
    embed_pictures(workspace, *tiny_clip, grid=0, device="cpu")
    assert screen_pictures(workspace, ScreenRules(), template_set="simple") == {"review": 3}
    classes = read_label_space(tmp_path / "classes.csv")
    assert len(classes) == 1000
    assert (classes[0].name, classes[999].name) == ("tench", "toilet paper")
    assert all(len(row["shown_classes"]) == 10 for row in workspace.read(schema.SCREEN).to_pylist())


def test_duplicates_go_with_a_reason_and_their_representative(tmp_path, tiny_clip):
    contents = pictures(5)
    contents["dup_bytes"] = contents["0001"]
    contents["dup_small"] = jpeg(scene(2).resize((160, 120)), 70)
    workspace = add_pictures(Workspace(tmp_path), contents)
    embed_pictures(workspace, *tiny_clip, device="cpu")
    counts = screen_pictures(workspace, ScreenRules(), classes_path=classes_csv(tmp_path), template_set="simple")
    rows = {row["image_id"]: row for row in workspace.read(schema.SCREEN).to_pylist()}
    assert counts == {"review": 5, "duplicate": 2}
    assert {k: r["duplicate_of"] for k, r in rows.items() if r["reason"] == "duplicate"} == {
        "dup_bytes": "0001", "dup_small": "0002",
    }  # fmt: skip


def test_what_is_over_the_bound_is_dropped_but_for_an_unmarked_control_share(tmp_path, tiny_clip):
    workspace = add_pictures(Workspace(tmp_path), pictures(40))
    embed_pictures(workspace, *tiny_clip, grid=0, device="cpu")
    classes = classes_csv(tmp_path)
    rules = ScreenRules(in_class_above=-1.0, control_share=0.25, most_bits=0)
    counts = screen_pictures(workspace, rules, classes_path=classes, template_set="simple")
    rows = workspace.read(schema.SCREEN).to_pylist()
    controls = [row for row in rows if row["is_control"]]
    assert counts["control"] == len(controls)
    assert 3 <= len(controls) <= 18
    assert all(row["status"] == "review" and row["reason"] == "in_class" for row in controls)
    assert counts["in_class"] == 40 - len(controls)
    none_dropped = screen_pictures(
        workspace, ScreenRules(most_bits=0), classes_path=classes, template_set="simple"
    )
    assert none_dropped == {"review": 40}


def test_a_classifiers_features_and_head_stand_in_for_clip(tmp_path):
    workspace = add_pictures(Workspace(tmp_path), pictures(3))
    folder = tmp_path / "features" / "net"
    features = np.array([[3, 4], [0, 2], [0, 0]], np.float32)
    columns = {
        "image_id": ["0000", "0001", "0002"],
        "class_index": pa.nulls(3, pa.int32()),
        "features": pa.FixedSizeListArray.from_arrays(pa.array(features.ravel()), 2),
    }
    write_parquet(folder / "candidates.parquet", pa.table(columns, schema=schema.features_schema(2)))
    save_file(
        {"weight": np.array([[2, 0], [0, 5]], np.float32), "bias": np.zeros(2, np.float32)},
        folder / "head.safetensors",
    )
    summary = embed_from_features(workspace, folder, "candidates")
    assert (summary.n_new, summary.n_unreadable) == (2, 1)
    counts = screen_pictures(workspace, ScreenRules(), classes_path=classes_csv(tmp_path, ("x", "y")))
    assert counts == {"review": 2, "unreadable": 1}
    rows = {row["image_id"]: row for row in workspace.read(schema.SCREEN).to_pylist()}
    assert rows["0000"]["shown_classes"] == [1, 0]
    np.testing.assert_allclose(rows["0000"]["shown_similarities"], [0.8, 0.6], atol=1e-3)
    assert rows["0001"]["risk"] == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize(
    ("model", "pretrained", "message"),
    [
        ("ViT-B-33", "openai", r"--model ViT-B-33: open_clip knows no such model; near: .*ViT-B-32"),
        ("ViT-B-32", None, "--pretrained: ViT-B-32 needs weights; its tags: openai"),
        ("ViT-B-32", "nope", "--pretrained nope: neither a file nor a weights tag of ViT-B-32"),
        ("none.json", "openai", r"--model none\.json: there is no such config file"),
    ],
)
def test_an_unknown_model_is_one_clear_error(model, pretrained, message):
    with pytest.raises(ModelError, match=message):
        load_encoder(model, pretrained)


def test_a_checkpoint_of_another_model_is_refused(tmp_path, tiny_clip):
    save_file({"weight": np.zeros(3, np.float32)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match=r"other\.safetensors: cannot be loaded"):
        load_encoder(tiny_clip[0], str(tmp_path / "other.safetensors"))


@pytest.mark.parametrize("name", ["garbage.safetensors", "garbage.pt", "empty.pt"])
def test_damaged_weights_are_one_clear_error(tmp_path, tiny_clip, name):
    (tmp_path / name).write_bytes(b"" if name == "empty.pt" else b"garbage" * 99)
    with pytest.raises(ModelError, match=rf"{name}: cannot be loaded"):
        load_encoder(tiny_clip[0], str(tmp_path / name))


def test_a_config_that_is_no_json_is_refused(tmp_path):
    (tmp_path / "garbage.json").write_text("{")
    with pytest.raises(ModelError, match="not an open_clip config"):
        load_encoder(str(tmp_path / "garbage.json"), "x")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[1.0, float("nan")], [1, 1]], "image 0000 has a NaN or infinite feature"),
        ([[1.0, 1.0], [1, 1], [2, 2]], "an image stands in more than one row"),
        ([[1.0, 1.0, 1.0], [1, 1, 1]], "expected 2 float32 features an image"),
    ],
)
def test_features_that_are_not_what_they_should_be_are_refused(tmp_path, values, message):
    workspace = add_pictures(Workspace(tmp_path), pictures(2))
    folder = tmp_path / "features" / "net"
    rows = np.array(values, np.float32)
    columns = {
        "image_id": ["0000", "0001", "0001"][: len(rows)],
        "class_index": pa.nulls(len(rows), pa.int32()),
        "features": pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1]),
    }
    write_parquet(folder / "x.parquet", pa.table(columns, schema=schema.features_schema(rows.shape[1])))
    save_file({"weight": np.eye(2, dtype=np.float32)}, folder / "head.safetensors")
    with pytest.raises(InputError, match=message):
        embed_from_features(workspace, folder, "x")


def test_a_json_that_is_no_config_is_refused(tmp_path):
    (tmp_path / "odd.json").write_text(json.dumps({"a": 1}))
    with pytest.raises(ModelError, match="not an open_clip config"):
        load_encoder(str(tmp_path / "odd.json"), "x")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"grid": -1}, "--tiles: expected 0 or more, found -1"),
        ({"batch_size": 0}, "--batch-size: expected 1 or more"),
        ({"device": "tpu"}, "--device: expected auto, cpu, cuda or cuda:N, found 'tpu'"),
    ],
)
def test_a_bad_option_is_refused(tmp_path, tiny_clip, options, message):
    workspace = add_pictures(Workspace(tmp_path), pictures(1))
    with pytest.raises(InputError, match=message):
        embed_pictures(workspace, *tiny_clip, **options)


def test_screening_without_complete_embeddings_names_the_stage(tmp_path, tiny_clip):
    workspace = add_pictures(Workspace(tmp_path), pictures(2))
    with pytest.raises(StageMissingError, match="run the stage 'embed' first"):
        screen_pictures(workspace, ScreenRules())
    summary = embed_pictures(workspace, *tiny_clip, device="cpu")
    (workspace.embeddings_dir / summary.digest / "unreadable.parquet").unlink()
    with pytest.raises(StageMissingError, match="run the stage 'embed' again"):
        screen_pictures(workspace, ScreenRules(), classes_path=classes_csv(tmp_path))


def test_with_two_models_the_choice_must_be_named(tmp_path, tiny_clip):
    workspace = add_pictures(Workspace(tmp_path), pictures(2))
    for grid in (0, 1):
        embed_pictures(workspace, *tiny_clip, grid=grid, device="cpu")
    with pytest.raises(InputError, match="--embeddings: expected the digest of one of"):
        screen_pictures(workspace, ScreenRules(), classes_path=classes_csv(tmp_path))


def start_stage(workspace, command):
    return subprocess.Popen(
        [sys.executable, "cli.py", *command, "--workspace", str(workspace.root)],
        cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip


def kill_in_the_middle(workspace, command, sign_of_work, n_signs):
    """Kill a stage as soon as its files show that it is at work; return whether it was still running."""
    with start_stage(workspace, command) as process:
        deadline = time.monotonic() + 120
        while process.poll() is None and len(list(workspace.root.glob(sign_of_work))) < n_signs:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        process.kill()
        process.communicate()
    return process.returncode == -signal.SIGKILL


def finish(workspace, command):
    with start_stage(workspace, command) as process:
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors.decode()


def test_killed_in_the_middle_and_run_again_it_ends_in_the_same_bytes(tmp_path, tiny_clip):
    contents = pictures(600)  # three shards
    embed = ["embed", "--model", tiny_clip[0], "--pretrained", tiny_clip[1], "--device", "cpu", "--tiles", "1"]
    screen = ["screen", "--classes", str(classes_csv(tmp_path)), "--templates", "simple", "--device", "cpu"]
    undisturbed = add_pictures(Workspace(tmp_path / "undisturbed"), contents)
    killed = add_pictures(Workspace(tmp_path / "killed"), contents)
    embed_pictures(undisturbed, *tiny_clip, device="cpu", grid=1)
    screen_pictures(
        undisturbed, ScreenRules(), classes_path=classes_csv(tmp_path), template_set="simple", device="cpu"
    )
    was_killed = [
        kill_in_the_middle(killed, embed, "embeddings/*/model.json", 1),
        kill_in_the_middle(killed, embed, "embeddings/*/shard-*.parquet", 2),
    ]
    finish(killed, embed)
    was_killed.append(kill_in_the_middle(killed, screen, ".lock-holder.json", 1))
    was_killed.append(kill_in_the_middle(killed, screen, "embeddings/*/prototypes-*", 1))
    assert not killed.has(schema.SCREEN) or not all(was_killed)
    finish(killed, screen)
    assert sum(was_killed) >= 2, "the stages ended before they could be killed"
    assert tables_of(killed) == tables_of(undisturbed)


def test_shown_classes_with_true_clip_vectors_name_what_is_in_the_picture(tmp_path, shared):
    """Real ViT-B/32 vectors of real pictures, put into a store: the screen's arithmetic on true cosines."""
    vectors = np.load(shared / "data" / "clip" / "vit_b32_openai.npz", allow_pickle=False)
    names = [str(name) for name in vectors["class_name"]]
    folder = tmp_path / "features" / "clip"
    columns = {
        "image_id": [str(name) for name in vectors["image_name"]],
        "class_index": pa.nulls(7, pa.int32()),
        "features": pa.FixedSizeListArray.from_arrays(
            pa.array(vectors["image_embedding"].astype(np.float32).ravel()), 512
        ),
    }
    write_parquet(folder / "pictures.parquet", pa.table(columns, schema=schema.features_schema(512)))
    head = {"weight": vectors["text_embedding"].astype(np.float32), "bias": np.zeros(500, np.float32)}
    save_file(head, folder / "head.safetensors")
    contents = {path.stem: path.read_bytes() for path in (shared / "data" / "clip" / "images").glob("*.jpg")}
    workspace = add_pictures(Workspace(tmp_path), contents)
    embed_from_features(workspace, folder, "pictures")
    screen_pictures(workspace, ScreenRules(), classes_path=classes_csv(tmp_path, names))
    shown = {
        row["image_id"]: [names[index].lower() for index in row["shown_classes"]]
        for row in workspace.read(schema.SCREEN).to_pylist()
    }
    assert shown["123_456"][0] == shown["456_123"][0] == "cat"
