import signal
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from safetensors.numpy import save_file

from curation.embed import embed_from_features
from curation.prototypes import class_prototypes
from curation.screening.screen import ScreenRules, screen_pictures
from curation.screening.sources import open_sources
from manifests import schema
from manifests.label_space import ClassName
from manifests.parquet import write_parquet
from manifests.workspace import Workspace
from tests.conftest import REPOSITORY
from tests.picture_workspace import add_pictures, jpeg, pictures, scene, tables_of
from tests.screen_world import add_store, classes_csv, screened, sources_of
from tests.tiny_clip import embed_pictures, make_tiny_clip
from tests.waiting import HANGS_S, wait_until


@pytest.fixture(scope="module")
def tiny_clip(tmp_path_factory):
    return make_tiny_clip(tmp_path_factory.mktemp("clip"))


def screen(workspace, classes_path=None, rules=None):
    sources = open_sources(workspace, prototypes_of=lambda store: class_prototypes(store, classes_path, "simple"))
    return screen_pictures(workspace, *sources, rules or ScreenRules()).counts


def test_by_default_the_classes_are_the_1000_of_imagenet(tmp_path, tiny_clip):
    workspace = add_pictures(Workspace(tmp_path), pictures(3))
    embed_pictures(workspace, *tiny_clip, grid=0, device="cpu")
    assert screen(workspace) == {"review": 3}
    lines = (tmp_path / "classes.csv").read_text().splitlines()
    assert len(lines) == 1001
    assert (lines[1], lines[1000]) == ("0,tench,n01440764", "999,toilet paper,n15075141")
    assert all(len(row["shown_classes"]) == 10 for row in screened(workspace).values())


def test_a_picture_that_became_unreadable_is_dropped_with_its_reason(tmp_path, tiny_clip):
    workspace = add_pictures(Workspace(tmp_path), pictures(4))
    (tmp_path / "images" / "00" / "0002.jpg").write_bytes(b"<html>")
    embed_pictures(workspace, *tiny_clip, device="cpu")
    assert screen(workspace, classes_csv(tmp_path)) == {"review": 3, "unreadable": 1}


def test_duplicates_go_with_a_reason_and_their_representative(tmp_path, tiny_clip):
    contents = pictures(5)
    contents["dup_bytes"] = contents["0001"]
    contents["dup_small"] = jpeg(scene(2).resize((160, 120)), 70)
    workspace = add_pictures(Workspace(tmp_path), contents)
    embed_pictures(workspace, *tiny_clip, device="cpu")
    assert screen(workspace, classes_csv(tmp_path)) == {"review": 5, "duplicate": 2}
    duplicates = {k: row["duplicate_of"] for k, row in screened(workspace).items() if row["reason"] == "duplicate"}
    assert duplicates == {"dup_bytes": "0001", "dup_small": "0002"}


def test_a_classifiers_features_and_head_give_classes_and_logits(tmp_path):
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
    embed_from_features(workspace, folder, "candidates")
    assert screen(workspace, classes_csv(tmp_path, ("x", "y"))) == {"review": 2, "unreadable": 1}
    rows = screened(workspace)
    assert rows["0000"]["shown_classes"] == [1, 0]
    assert rows["0000"]["shown_sources"] == ["classifier", "classifier"]
    np.testing.assert_allclose(rows["0000"]["shown_similarities"], [0.8, 0.6], atol=1e-3)
    assert rows["0001"]["risk"] == pytest.approx(1.0, abs=1e-3)


def start_stage(workspace, command):
    return subprocess.Popen(
        [sys.executable, "cli.py", *command, "--workspace", str(workspace.root)],
        cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip


def kill_in_the_middle(workspace, command, sign_of_work, n_signs):
    """Kill a stage as soon as its files show that it is at work; return whether it was still running."""
    with start_stage(workspace, command) as process:

        def is_time() -> bool:
            return len(list(workspace.root.glob(sign_of_work))) >= n_signs or process.poll() is not None

        wait_until(is_time, gap_s=0.002)
        process.kill()
        process.communicate()
    return process.returncode == -signal.SIGKILL


def finish(workspace, command):
    with start_stage(workspace, command) as process:
        _, errors = process.communicate(timeout=HANGS_S)
    assert process.returncode == 0, errors.decode()


def test_killed_in_the_middle_and_run_again_it_ends_in_the_same_bytes(tmp_path, tiny_clip):
    contents = pictures(120)
    embed = ["embed", "--model", tiny_clip[0], "--pretrained", tiny_clip[1], "--device", "cpu", "--tiles", "1"]
    of_screen = ["screen", "--classes", str(classes_csv(tmp_path)), "--templates", "simple", "--device", "cpu"]
    undisturbed = add_pictures(Workspace(tmp_path / "undisturbed"), contents)
    killed = add_pictures(Workspace(tmp_path / "killed"), contents)
    finish(undisturbed, embed)
    finish(undisturbed, of_screen)
    was_killed = [
        kill_in_the_middle(killed, embed, "embeddings/*/model.json", 1),
        kill_in_the_middle(killed, embed, "embeddings/*/shard-*.parquet", 2),
    ]
    finish(killed, embed)
    was_killed.append(kill_in_the_middle(killed, of_screen, "embeddings/*/prototypes-*", 1))
    was_killed.append(kill_in_the_middle(killed, of_screen, ".lock-holder.json", 1))
    assert not killed.has(schema.SCREEN) or not all(was_killed)
    finish(killed, of_screen)
    assert sum(was_killed) >= 2, "the stages ended before they could be killed"
    assert tables_of(killed) == tables_of(undisturbed)


def test_shown_classes_with_true_clip_vectors_name_what_is_in_the_picture(tmp_path, shared):
    """Real ViT-B/32 vectors of real pictures, put into a store: the screen's arithmetic on true cosines."""
    vectors = np.load(shared / "data" / "clip" / "vit_b32_openai.npz", allow_pickle=False)
    names = [str(name) for name in vectors["class_name"]]
    contents = {path.stem: path.read_bytes() for path in (shared / "data" / "clip" / "images").glob("*.jpg")}
    workspace = add_pictures(Workspace(tmp_path), contents)
    embeddings = {
        str(name): vector[None]
        for name, vector in zip(vectors["image_name"], vectors["image_embedding"], strict=True)
    }
    add_store(workspace, embeddings)
    known = [ClassName(index, name) for index, name in enumerate(names)]
    screen_pictures(workspace, *sources_of(workspace, vectors["text_embedding"], known), ScreenRules())
    shown = {k: [names[index].lower() for index in row["shown_classes"]] for k, row in screened(workspace).items()}
    assert shown["123_456"][0] == shown["456_123"][0] == "cat"
