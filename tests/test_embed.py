import json
from pathlib import Path

import numpy as np
import open_clip
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import save_file

from curation.clip import load_encoder
from curation.embed import EmbedRules, ModelChoice, embed_from_features, embed_with
from curation.embedding_store import EmbeddingStore
from curation.encoding import chosen_precision
from curation.store_run import embed_summary
from curation.views import cut_views
from manifests import schema
from manifests.errors import InputError, ModelError, TableError
from manifests.images import read_image
from manifests.parquet import write_parquet
from manifests.stored_pictures import stored_pictures
from manifests.workspace import Workspace
from tests.picture_workspace import add_pictures, images_of, jpeg, pictures, scene, tables_of
from tests.tiny_clip import embed_pictures, make_tiny_clip


@pytest.fixture(scope="module")
def tiny_clip(tmp_path_factory):
    return make_tiny_clip(tmp_path_factory.mktemp("clip"))


def test_embeddings_are_those_of_open_clip_itself(tmp_path, tiny_clip):
    workspace = add_pictures(Workspace(tmp_path), pictures(5))
    summary = embed_pictures(workspace, *tiny_clip, grid=1, device="cpu")
    store = EmbeddingStore.choose(workspace, summary.digest[:6])
    images = images_of(store)
    network, _, preprocess = open_clip.create_model_and_transforms("tiny-test", pretrained=tiny_clip[1])
    network.eval()
    for image_id, stored in images.items():
        image = read_image(workspace.root / workspace.relative_image_path(image_id))
        names, views = zip(*cut_views(image, 1), strict=True)
        assert stored.views == names == ("full", "tile_1_0_0", "tile_1_0_1")
        for view, vector in zip(views, stored.embeddings, strict=True):
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


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("garbage.safetensors", b"garbage" * 99),
        ("garbage.pt", b"garbage" * 99),
        ("empty.pt", b""),
        # A key a million tuples deep, which would end the process.
        ("deep.pt", b"\x80\x02})" + b"\x85" * 1_000_000 + b"K\x01s."),
    ],
)
def test_damaged_weights_are_one_clear_error(tmp_path, tiny_clip, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=rf"{name}: cannot be loaded"):
        load_encoder(tiny_clip[0], str(tmp_path / name))


def test_a_checkpoint_without_weights_is_one_clear_error(tmp_path, tiny_clip):
    torch.save({}, tmp_path / "none.pt")
    with pytest.raises(ModelError, match=r"none\.pt: cannot be loaded"):
        load_encoder(tiny_clip[0], str(tmp_path / "none.pt"))


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
    head = {"weight": np.eye(2, dtype=np.float32), "bias": np.zeros(2, np.float32)}
    save_file(head, folder / "head.safetensors")
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
        ({"precision": "fp8"}, "--precision: expected auto or fp32, bf16, fp16, found 'fp8'"),
        ({"device": "tpu"}, "--device: expected auto, cpu, cuda or cuda:N, found 'tpu'"),
    ],
)
def test_a_bad_option_is_refused(tmp_path, tiny_clip, options, message):
    workspace = add_pictures(Workspace(tmp_path), pictures(1))
    with pytest.raises(InputError, match=message):
        embed_pictures(workspace, *tiny_clip, **options)


def test_pixels_as_bytes_become_the_very_input_of_open_clip(tiny_clip):
    encoder = load_encoder(*tiny_clip)
    images = [scene(number) for number in range(3)]
    vectors, norms = encoder.encode(torch.stack([encoder.pixels(image) for image in images]))
    np.testing.assert_array_equal(vectors, encoder.encode_images(images))
    assert norms is None


@pytest.mark.parametrize(("precision", "least_cosine"), [("bf16", 0.999), ("fp16", 0.9999)])
def test_half_precision_is_another_store_of_nearly_the_same_vectors(tmp_path, tiny_clip, precision, least_cosine):
    workspace = add_pictures(Workspace(tmp_path), pictures(6))
    exact = embed_pictures(workspace, *tiny_clip, device="cpu", precision="fp32")
    half = embed_pictures(workspace, *tiny_clip, device="cpu", precision=precision)
    assert (half.n_new, half.n_kept) == (6, 0)
    cosines = cosines_between(workspace, exact.digest, half.digest)
    assert least_cosine < cosines.min() < 1 - 1e-9


def test_fast_decoding_is_another_store_of_nearly_the_same_vectors(tmp_path, tiny_clip):
    # Half of 320 x 240 px still has the 32 px of this model in every tile, and so has an eighth of the whole.
    contents = {f"{number:04x}": jpeg(scene(number).resize((640, 480))) for number in range(4)}
    workspace = add_pictures(Workspace(tmp_path), contents)
    exact = embed_pictures(workspace, *tiny_clip, device="cpu")
    fast = embed_pictures(workspace, *tiny_clip, device="cpu", is_fast=True)
    assert fast.n_new == 4
    cosines = cosines_between(workspace, exact.digest, fast.digest)
    assert cosines.min() > 0.97
    assert cosines.min() < 1 - 1e-9


def cosines_between(workspace, first, second):
    one, other = (vectors_of(EmbeddingStore.choose(workspace, digest)) for digest in (first, second))
    return (one * other).sum(axis=1)


def vectors_of(store):
    images = images_of(store)
    vectors = np.concatenate([images[image_id].embeddings for image_id in sorted(images)]).astype(np.float64)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_a_store_of_an_earlier_version_is_refused_by_name(tmp_path, tiny_clip):
    workspace = add_pictures(Workspace(tmp_path), pictures(1))
    summary = embed_pictures(workspace, *tiny_clip, device="cpu", grid=0)
    path = workspace.embeddings_dir / summary.digest / "model.json"
    content = json.loads(path.read_text())
    del content["precision"]
    path.write_text(json.dumps(content))
    with pytest.raises(TableError, match=r"precision missing.*delete .*embeddings/\w{16} and run 'embed' again"):
        EmbeddingStore.choose(workspace, None)


def test_stores_are_found_by_digest_or_model_and_all_by_default(tmp_path, tiny_clip):
    workspace = add_pictures(Workspace(tmp_path), pictures(1))
    digests = [embed_pictures(workspace, *tiny_clip, device="cpu", grid=grid).digest for grid in (0, 1)]
    assert [store.key.digest for store in EmbeddingStore.find(workspace)] == sorted(digests)
    assert [store.key.digest for store in EmbeddingStore.find(workspace, digests[::-1])] == digests[::-1]
    for wanted in (["tiny-test"], [digests[0], digests[0]], ["zz"]):
        with pytest.raises(InputError, match=f"expected the digest of one of .*; found {wanted[-1]}"):
            EmbeddingStore.find(workspace, wanted)


def test_a_vector_without_direction_is_a_reason_and_not_a_row(tmp_path, tiny_clip):
    workspace = add_pictures(Workspace(tmp_path), pictures(3))
    encoder = load_encoder(*tiny_clip)

    class NoDirectionForTheFirst:
        name, source, digest, n_dimensions = "broken", "clip", "0" * 16, encoder.n_dimensions
        device, input_px, pixels, save_head = encoder.device, encoder.input_px, encoder.pixels, encoder.save_head

        def encode(self, pixels):
            vectors, norms = encoder.encode(pixels)
            is_first = pixels.float().mean(dim=(1, 2, 3)) == self.of_the_first
            vectors[is_first.numpy()] = np.nan
            return vectors, norms

    broken = NoDirectionForTheFirst()
    broken.of_the_first = (
        encoder.pixels(read_image(tmp_path / workspace.relative_image_path("0000"))).float().mean()
    )
    summary = embed_with(workspace, ModelChoice("broken", "", lambda: broken), EmbedRules(grid=0))
    assert (summary.n_new, summary.n_unreadable) == (2, 1)
    store = EmbeddingStore.choose(workspace, None)
    sha256 = stored_pictures(workspace)["0000"].sha256
    assert store.read_unreadable() == {"0000": (sha256, "the model gives a NaN, infinite or zero vector")}


def test_a_file_that_is_not_the_one_downloaded_is_not_embedded_under_its_digest(tmp_path, tiny_clip):
    workspace = add_pictures(Workspace(tmp_path), pictures(3))
    (tmp_path / workspace.relative_image_path("0000")).write_bytes(jpeg(scene(77)))
    (tmp_path / workspace.relative_image_path("0001")).unlink()
    summary = embed_pictures(workspace, *tiny_clip, device="cpu", grid=0)
    assert (summary.n_new, summary.n_unreadable) == (1, 2)
    reasons = {k: reason for k, (_, reason) in EmbeddingStore.choose(workspace, None).read_unreadable().items()}
    assert reasons == {
        "0000": "the file is not the one downloaded: run 'download --verify'",
        "0001": "cannot be read (No such file or directory)",
    }


def test_features_without_a_direction_or_a_length_that_logits_bear_are_a_reason_and_not_a_row(tmp_path):
    workspace = add_pictures(Workspace(tmp_path), pictures(5))
    folder = tmp_path / "features" / "net"
    # The squares of the first are more, those of the third less than float32 holds.
    rows = np.array([[3e38, 3e38], [0, 0], [3e-30, 4e-30], [3e-38, 0]], np.float32)
    columns = {
        "image_id": ["0000", "0001", "0002", "0003"],
        "class_index": pa.nulls(4, pa.int32()),
        "features": pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), 2),
    }
    write_parquet(folder / "x.parquet", pa.table(columns, schema=schema.features_schema(2)))
    save_file(
        {"weight": np.eye(2, dtype=np.float32), "bias": np.zeros(2, np.float32)}, folder / "head.safetensors"
    )
    embed_from_features(workspace, folder, "x")
    store = EmbeddingStore.choose(workspace, None)
    assert {k: reason for k, (_, reason) in store.read_unreadable().items()} == {
        "0000": "the length of the features, 4.24e+38, is out of what logits can be computed of",
        "0001": "all features are zero",
        "0003": "the length of the features, 3e-38, is out of what logits can be computed of",
        "0004": "no features in the set",
    }
    (image,) = images_of(store).values()
    np.testing.assert_allclose(image.embeddings, [[0.6, 0.8]], atol=1e-3)
    assert image.norms == pytest.approx([5e-30], rel=1e-6)


def test_what_was_waited_for_is_told(tmp_path, tiny_clip):
    workspace = add_pictures(Workspace(tmp_path), pictures(3))
    summary = embed_pictures(workspace, *tiny_clip, device="cpu", grid=0)
    assert 0 < summary.waits.decoding_s + summary.waits.model_s <= summary.seconds
    told = embed_summary(summary)
    assert told.startswith("embed: 3 new at ")
    assert "waiting for decoding and" in told
    assert embed_summary(embed_pictures(workspace, *tiny_clip, device="cpu", grid=0)) == (
        f"embed: 0 new, 3 there already, 0 unreadable; store {summary.digest}"
    )


def test_a_gpu_computes_in_fp16_and_a_processor_in_fp32_unless_told():
    assert chosen_precision("auto", torch.device("cuda")) == "fp16"
    assert chosen_precision("auto", torch.device("cpu")) == "fp32"
    assert chosen_precision("bf16", torch.device("cpu")) == "bf16"
