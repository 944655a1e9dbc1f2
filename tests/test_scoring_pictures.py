from pathlib import Path

import pyarrow as pa
import pytest

from manifests.build import build_manifest
from manifests.errors import InputError
from manifests.frozen import find_manifest
from manifests.schema import CANDIDATES, DOWNLOADS
from manifests.workspace import Workspace
from scoring.pictures import (
    Picture,
    PictureSource,
    pictures_in_folder,
    pictures_of_workspace,
    pictures_to_extract,
)
from tests.extract_world import N_CLASSES, jpeg


@pytest.fixture
def folder(tmp_path):
    """Six pictures, two of them in folders below."""
    for seed, name in enumerate(["f.jpg", "deep/a.jpg", "deep/er/c.JPEG", "b.jpg", "e.png", "d.webp"]):
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(seed))
    return tmp_path / "pictures"


def test_two_pictures_of_one_id_are_refused(folder):
    (folder / "deep/b.png").write_bytes(jpeg(1))
    with pytest.raises(InputError, match=r"deep/b\.png: the image id b is taken by .*b\.jpg|b\.jpg: .* taken by"):
        pictures_in_folder(folder)


def test_picture_whose_name_is_no_image_id_is_refused(folder):
    (folder / "my cat.jpg").write_bytes(jpeg(1))
    told = r"my cat\.jpg: the name of a picture is its image id: .* found 'my cat'; rename it"
    with pytest.raises(InputError, match=f"{told}$"):
        pictures_in_folder(folder)
    for name in ("n.a.jpg", "\N{LATIN SMALL LETTER O WITH DIAERESIS}0.jpg"):
        (folder / name).write_bytes(jpeg(1))
    with pytest.raises(InputError, match=f"{told}, and 2 more$"):
        pictures_in_folder(folder)


def test_other_and_hidden_files_are_no_pictures(folder):
    (folder / "labels.csv").write_text("file,class_index\n")
    (folder / ".hidden.jpg").write_bytes(jpeg(1))
    assert len(pictures_in_folder(folder).pictures) == 6


def test_folder_without_pictures_or_without_those_wanted_is_refused(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: holds no picture"):
        pictures_in_folder(tmp_path / "empty")
    with pytest.raises(InputError, match="nowhere: no such folder"):
        pictures_in_folder(tmp_path / "nowhere")
    with pytest.raises(InputError, match="none of the 1 images asked for has a picture there"):
        pictures_in_folder(folder, image_ids=["zz"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a.jpg,1\n", "line 1: expected the header file,class_index, found 'a.jpg,1'"),
        ("", "line 1: expected the header file,class_index, found ''"),
        ("file,class_index\na.jpg,1\nzz.jpg,2\n", r"line 3: no picture 'zz\.jpg'"),
        (
            "file,class_index\na.jpg,one\n",
            "line 2: expected a class index, a whole number from 0 to 6, found 'one'",
        ),
        ("file,class_index\na.jpg,1.0\n", r"line 2: .* found '1\.0'"),
        ("file,class_index\na.jpg,7\n", "line 2: .* found '7'"),
        ("file,class_index\na.jpg,-1\n", "line 2: .* found '-1'"),
        ("file,class_index\na.jpg,\n", "line 2: .* found ''"),
        ("file,class_index\na.jpg\n", "line 2: expected 2 cells, found 1"),
        ("file,class_index\na.jpg,1\ndeep/a.jpg,2\n", r"line 3: deep/a\.jpg has a class already"),
    ],
)
def test_wrong_labels_are_refused_with_file_and_line(folder, tmp_path, content, message):
    labels = tmp_path / "labels.csv"
    labels.write_text(content)
    with pytest.raises(InputError, match=rf"labels\.csv, {message}"):
        pictures_in_folder(folder, labels_path=labels, n_classes=N_CLASSES)


def test_missing_labels_file_is_refused(folder, tmp_path):
    with pytest.raises(InputError, match=r"none\.csv: cannot be read as CSV"):
        pictures_in_folder(folder, labels_path=tmp_path / "none.csv")


@pytest.fixture
def workspace(tmp_path):
    """Three candidates: one turned, one that could not be fetched, one plain."""
    workspace = Workspace(tmp_path / "workspace")
    rows = (("aa1", 90, "ok"), ("bb2", None, "missing"), ("cc3", None, "ok"))
    candidates = [{"image_id": name, "subset": "test", "url": "u", "rotation_deg": turn} for name, turn, _ in rows]
    workspace.write(CANDIDATES, pa.Table.from_pylist(candidates, schema=CANDIDATES.schema))
    downloads = []
    for seed, (name, _, status) in enumerate(rows):
        path = workspace.relative_image_path(name) if status == "ok" else None
        downloads.append({"image_id": name, "status": status, "attempts": 1, "path": path})
        if path:
            (workspace.root / path).parent.mkdir(parents=True)
            (workspace.root / path).write_bytes(jpeg(seed, (64, 32)))
    workspace.write(DOWNLOADS, pa.Table.from_pylist(downloads, schema=DOWNLOADS.schema))
    return workspace


def test_pictures_of_a_workspace_are_those_downloaded_with_their_rotation(workspace):
    assert pictures_of_workspace(workspace) == PictureSource(
        (
            Picture("aa1", workspace.root / "images/aa/aa1.jpg", 90),
            Picture("cc3", workspace.root / "images/cc/cc3.jpg"),
        )
    )


def test_wanted_images_that_were_not_downloaded_are_named_with_their_status(workspace):
    source = pictures_of_workspace(workspace, image_ids=["cc3", "bb2", "dd4"])
    assert [picture.image_id for picture in source.pictures] == ["cc3"]
    assert source.absent == {"bb2": "download status missing", "dd4": "never downloaded"}


def test_images_of_a_manifest_are_kept_and_the_manifest_is_named(workspace, tmp_path):
    (tmp_path / "ids.txt").write_text("aa1\nbb2\n")
    build_manifest(workspace, "near", "1.0.0", lists=[("test", tmp_path / "ids.txt")])
    source = pictures_to_extract(workspace, n_classes=N_CLASSES, manifest_name="near-1.0.0")
    assert [picture.image_id for picture in source.pictures] == ["aa1"]
    assert source.absent == {"bb2": "download status missing"}
    digest = find_manifest(workspace.manifests_dir, "near-1.0.0").header["content_sha256"]
    assert source.manifest == {"name": "near-1.0.0", "content_sha256": digest}
    (tmp_path / "more.txt").write_text("aa1\ncc3\n")
    both = pictures_to_extract(
        workspace, n_classes=N_CLASSES, manifest_name="near-1.0.0", image_ids_path=tmp_path / "more.txt"
    )
    assert ([picture.image_id for picture in both.pictures], both.absent) == (["aa1"], {})


def test_pictures_of_a_folder_are_asked_for_as_on_the_command_line(folder, tmp_path):
    (tmp_path / "labels.csv").write_text("file,class_index\nb.jpg,3\n")
    (tmp_path / "ids.txt").write_text("b\nc\n")
    source = pictures_to_extract(
        Workspace(tmp_path / "none"), n_classes=N_CLASSES, images_dir=folder, labels_path=tmp_path / "labels.csv",
        image_ids_path=tmp_path / "ids.txt",
    )  # fmt: skip
    assert [(picture.image_id, picture.class_index) for picture in source.pictures] == [("b", 3), ("c", None)]
    assert source.manifest is None


def test_labels_without_a_folder_of_pictures_are_refused(workspace, tmp_path):
    with pytest.raises(InputError, match=r"--labels labels\.csv: expected --images"):
        pictures_to_extract(workspace, n_classes=N_CLASSES, labels_path=Path("labels.csv"))
