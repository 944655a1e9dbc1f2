import os

import numpy as np
import pytest
from PIL import Image

from curation.duplicates.labelled_pairs import BoundFigures, bound_of_pairs, choose_bound, figures_of_bounds
from curation.duplicates.leaks import OtherSets, find_leaks, leaked_images
from curation.duplicates.rules import DuplicateRules
from manifests import schema
from manifests.errors import InputError, StageMissingError
from manifests.workspace import Workspace
from tests.photographs import jpeg, photograph
from tests.picture_workspace import add_pictures
from tests.screen_world import add_store

RULES = DuplicateRules()


def candidates():
    """Four photographs: the first two are ImageNet's as well, one of them cropped."""
    crop = photograph(1).crop((20, 20, 280, 215))
    return {
        "same": jpeg(photograph(0)),
        "crop": jpeg(crop),
        "new2": jpeg(photograph(2)),
        "new3": jpeg(photograph(3)),
    }


def imagenet(folder):
    for seed, name in ((0, "n01/a.JPEG"), (1, "n01/b.jpg"), (8, "n02/deep/c.png"), (9, "n02/d.jpg")):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".png":
            photograph(seed).save(path)
        else:
            path.write_bytes(jpeg(photograph(seed)))
    (folder / "n02" / "broken.jpg").write_bytes(b"broken")
    (folder / "labels.csv").write_text("no picture")
    return folder


def leaks_of(workspace):
    return [(row["image_id"], row["other"], row["kind"]) for row in workspace.read(schema.LEAKS).to_pylist()]


def test_leaks_against_a_folder_are_found_by_bytes_and_by_pixels(tmp_path):
    workspace = add_pictures(Workspace(tmp_path / "work"), candidates())
    folder = imagenet(tmp_path / "imagenet")
    said = []
    counts = find_leaks(workspace, OtherSets([folder]), RULES, announce=said.append)
    assert counts == {"bytes": 1, "pixels": 1, "id": 0, "leaked": 2}
    assert leaks_of(workspace) == [("crop", "n01/b.jpg", "pixels"), ("same", "n01/a.JPEG", "bytes")]
    assert leaked_images(workspace) == {"same", "crop"}
    assert said == [f"leaks: {folder}: 4 pictures read, 0 known, 1 unreadable; compared by hashes"]


def test_a_second_run_reads_only_what_has_changed_and_ends_in_the_same_bytes(tmp_path):
    workspace = add_pictures(Workspace(tmp_path / "work"), candidates())
    folder = imagenet(tmp_path / "imagenet")
    find_leaks(workspace, OtherSets([folder]), RULES)
    first = workspace.path_of(schema.LEAKS).read_bytes()
    said = []
    find_leaks(workspace, OtherSets([folder]), RULES, announce=said.append)
    assert "0 pictures read, 4 known" in said[0]
    assert workspace.path_of(schema.LEAKS).read_bytes() == first
    path = folder / "n01" / "a.JPEG"
    path.write_bytes(jpeg(photograph(50)))
    os.utime(path, ns=(1, 1))
    find_leaks(workspace, OtherSets([folder]), RULES, announce=said.append)
    assert "1 pictures read, 3 known" in said[1]
    assert leaked_images(workspace) == {"crop"}


def test_a_candidate_may_leak_from_several_sets_and_each_pair_is_kept(tmp_path):
    workspace = add_pictures(Workspace(tmp_path / "work"), candidates())
    folders = [imagenet(tmp_path / "one"), imagenet(tmp_path / "two")]
    (tmp_path / "list.txt").write_text("new2.jpg\nsame.jpg\nelsewhere.jpg\n")
    counts = find_leaks(workspace, OtherSets(folders, [tmp_path / "list.txt"]), RULES)
    assert counts == {"bytes": 2, "pixels": 2, "id": 2, "leaked": 3}
    rows = workspace.read(schema.LEAKS).to_pylist()
    assert sorted((row["image_id"], row["against"]) for row in rows if row["kind"] == "id") == [
        ("new2", str(tmp_path / "list.txt")),
        ("same", str(tmp_path / "list.txt")),
    ]


def test_a_workspace_embedded_with_the_same_model_is_compared_by_embedding_too(tmp_path):
    own = add_pictures(Workspace(tmp_path / "own"), candidates())
    turned = photograph(2).resize((200, 200), Image.Resampling.BICUBIC).crop((0, 40, 200, 170))
    other = add_pictures(Workspace(tmp_path / "other"), {"x": jpeg(turned), "y": jpeg(photograph(30))})
    rules = DuplicateRules(most_bits=0, has_crops=False)
    assert find_leaks(own, OtherSets([other.root]), rules)["leaked"] == 0
    add_store(own, {name: [[1.0, 0.0] if name == "new2" else [0.0, 1.0]] for name in candidates()})
    add_store(other, {"x": [[1.0, 0.0]], "y": [[0.6, 0.8]]})
    said = []
    assert find_leaks(own, OtherSets([other.root]), rules, announce=said.append)["leaked"] == 1
    assert said[0].endswith("compared by hashes and net")
    (row,) = own.read(schema.LEAKS).to_pylist()
    assert (row["image_id"], row["other"], row["kind"], row["similarity"]) == ("new2", "x", "pixels", 1.0)


def test_a_second_set_keeps_what_was_found_in_the_first(tmp_path):
    workspace = add_pictures(Workspace(tmp_path / "work"), candidates())
    folder = imagenet(tmp_path / "imagenet")
    (tmp_path / "list.txt").write_text("new2\n")
    find_leaks(workspace, OtherSets([folder]), RULES)
    assert find_leaks(workspace, OtherSets(lists=[tmp_path / "list.txt"]), RULES)["leaked"] == 3
    apart = workspace.path_of(schema.LEAKS).read_bytes()
    assert leaked_images(workspace) == {"same", "crop", "new2"}
    find_leaks(workspace, OtherSets([folder], [tmp_path / "list.txt"]), RULES)
    assert workspace.path_of(schema.LEAKS).read_bytes() == apart
    # A set that is named again is compared anew: what is no longer in it leaks no more.
    (tmp_path / "list.txt").write_text("elsewhere\n")
    find_leaks(workspace, OtherSets(lists=[tmp_path / "list.txt"]), RULES)
    assert leaked_images(workspace) == {"same", "crop"}


def test_what_was_found_before_the_pictures_changed_is_neither_used_nor_kept(tmp_path):
    workspace = add_pictures(Workspace(tmp_path / "work"), candidates())
    folder = imagenet(tmp_path / "imagenet")
    find_leaks(workspace, OtherSets([folder]), RULES)
    add_pictures(workspace, candidates() | {"new9": jpeg(photograph(9))})
    with pytest.raises(StageMissingError, match="made before the pictures changed: run the stage 'leaks' again"):
        leaked_images(workspace)
    (tmp_path / "list.txt").write_text("new2\n")
    with pytest.raises(InputError, match="imagenet was compared before the pictures changed: name it again too"):
        find_leaks(workspace, OtherSets(lists=[tmp_path / "list.txt"]), RULES)
    find_leaks(workspace, OtherSets([folder], [tmp_path / "list.txt"]), RULES)
    assert leaked_images(workspace) == {"same", "crop", "new2", "new9"}


def test_a_folder_in_the_workspace_or_around_it_is_refused(tmp_path):
    workspace = add_pictures(Workspace(tmp_path / "work"), candidates())
    with pytest.raises(InputError, match="lies in the workspace, whose own pictures would be found"):
        find_leaks(workspace, OtherSets([workspace.root / "images"]), RULES)
    with pytest.raises(InputError, match="holds the workspace, whose own pictures would be found"):
        find_leaks(workspace, OtherSets([tmp_path]), RULES)


@pytest.mark.parametrize("what", ["nothing", "missing", "itself", "no picture"])
def test_what_is_no_other_set_is_refused(tmp_path, what):
    workspace = add_pictures(Workspace(tmp_path / "work"), candidates())
    (tmp_path / "empty").mkdir()
    others, message = {
        "nothing": (OtherSets(), "expected --against FOLDER or --against-list FILE"),
        "missing": (OtherSets([tmp_path / "gone"]), "gone: expected a folder of pictures"),
        "itself": (OtherSets([workspace.root]), "is the workspace itself"),
        "no picture": (OtherSets([tmp_path / "empty"]), "holds no picture that can be read"),
    }[what]
    with pytest.raises(InputError, match=message):
        find_leaks(workspace, others, RULES)
    assert leaked_images(workspace) == set()


def test_figures_of_bounds_are_those_counted_by_hand():
    agreement = np.array([0.9, 0.8, 0.8, 0.5, 0.3, -1], np.float32)
    is_same = np.array([True, True, False, True, False, True])
    figures = figures_of_bounds(agreement, is_same)
    assert [(round(one.least_agreement, 2), one.n_linked, one.n_right) for one in figures] == [
        (0.3, 5, 3), (0.5, 4, 3), (0.8, 3, 2), (0.9, 1, 1),
    ]  # fmt: skip
    assert {one.n_same for one in figures} == {4}
    assert [one.recall for one in figures] == [0.75, 0.75, 0.5, 0.25]


def test_the_lowest_bound_is_chosen_above_which_the_precision_holds():
    figures = [BoundFigures(0.2, 10, 10, 20), BoundFigures(0.4, 8, 6, 20), BoundFigures(0.6, 5, 5, 20)]
    # In the middle to the next lower pair, where there is one.
    assert choose_bound(figures, 0.9).least_agreement == 0.5
    assert choose_bound(figures, 0.75).least_agreement == 0.2
    with pytest.raises(InputError, match="no bound on the agreement reaches it"):
        choose_bound([BoundFigures(0.5, 2, 1, 3)], 0.9)


def write_pairs(path, rows):
    path.write_text("image_id,other,is_same\n" + "\n".join(",".join(row) for row in rows) + "\n")
    return path


def test_a_bound_between_the_pairs_finds_most_of_further_ones():
    draws = np.random.default_rng(0)
    recalls = []
    for _ in range(500):
        agreement = np.concatenate([draws.beta(8, 2, 15), draws.beta(2, 8, 15)]).astype(np.float32)
        bound = choose_bound(figures_of_bounds(agreement, np.arange(30) < 15), 0.99).least_agreement
        recalls.append((draws.beta(8, 2, 1000) >= bound).mean())
    # At the lowest of fifteen itself, a sixteenth would be missed on average.
    assert np.mean(recalls) > 1 - 2 / 3 / 16


@pytest.mark.parametrize("least_precision", [float("nan"), 0.0, 1.01])
def test_a_precision_that_is_none_is_refused(least_precision):
    with pytest.raises(InputError, match="--least-precision: expected more than 0 to 1"):
        choose_bound([BoundFigures(0.5, 2, 2, 3)], least_precision)


def test_a_bound_is_chosen_on_labelled_pairs_of_candidates_and_files(tmp_path):
    workspace = add_pictures(Workspace(tmp_path / "work"), candidates())
    imagenet(tmp_path / "imagenet")
    rows = [
        ("same", "imagenet/n01/a.JPEG", "1"), ("crop", "imagenet/n01/b.jpg", "1"), ("new2", "new3", "0"),
        ("new2", "imagenet/n02/d.jpg", "0"),
    ]  # fmt: skip
    bound, table = bound_of_pairs(workspace, write_pairs(tmp_path / "pairs.csv", rows), 0.99)
    assert 0.7 < bound < 1
    assert table.splitlines()[-3].endswith("; on the pairs that it was chosen on")
    # Of 2 of 2 the exact interval begins at the square root of 2.5 %.
    assert table.splitlines()[-1] == "  recall: 2 of 2 = 100.00% (95 % interval 15.81% to 100.00%)"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("gone", "new3", "0")], "line 2: 'gone' is no downloaded picture"),
        ([("new2", "new3", "0"), ("new2", "gone.jpg", "1")], "line 3: .*gone.jpg: cannot be read"),
        ([("new2", "new3", "maybe")], "line 2: is_same: expected 0 or 1, found 'maybe'"),
        ([("new2", "new3", "0")], "expected pairs that are the same and pairs that are not"),
    ],
)
def test_a_pair_that_cannot_be_compared_is_named(tmp_path, rows, message):
    workspace = add_pictures(Workspace(tmp_path / "work"), candidates())
    with pytest.raises(InputError, match=message):
        bound_of_pairs(workspace, write_pairs(tmp_path / "pairs.csv", rows), 0.99)


def test_a_list_with_other_columns_is_refused(tmp_path):
    workspace = add_pictures(Workspace(tmp_path / "work"), candidates())
    path = tmp_path / "pairs.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="expected the columns image_id,other,is_same"):
        bound_of_pairs(workspace, path, 0.99)
