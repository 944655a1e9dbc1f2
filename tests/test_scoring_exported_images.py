"""Our torch data set over an export: hooks, batches, upright pictures, one clear error."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from manifests import schema
from manifests.build import build_manifest
from manifests.errors import InputError
from manifests.exporters.export import export_manifest, exported_set
from manifests.workspace import Workspace
from scoring.exported_images import ExportedImages, exported_loader
from tests.export_world import TEST, frozen_set
from tests.picture_workspace import add_pictures, jpeg, scene


@pytest.fixture
def folder(tmp_path):
    return export_manifest(frozen_set(tmp_path / "ws"), "torch", tmp_path / "out")


def to_tensor(image):
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def test_batches_hold_images_labels_and_ids_in_order(folder):
    batches = list(exported_loader(folder, to_tensor, split="test", batch_size=2))
    assert [len(batch.label) for batch in batches] == [2, 2, 1]
    assert [image_id for batch in batches for image_id in batch.image_id] == list(TEST)
    assert batches[0].image.shape == (2, 3, 240, 320)
    assert torch.cat([batch.label for batch in batches]).tolist() == [-1] * 5


def test_a_folder_may_be_named_by_its_text(folder):
    assert ExportedImages(str(folder), split="test")[0].image_id == TEST[0]
    assert len(exported_loader(str(folder), to_tensor, split="test").dataset) == len(TEST)


def test_workers_give_the_same_batches(folder):
    alone = list(exported_loader(folder, to_tensor, batch_size=3))
    helped = list(exported_loader(folder, to_tensor, batch_size=3, n_workers=1))
    for one, other in zip(alone, helped, strict=True):
        assert torch.equal(one.image, other.image)
        assert one.image_id == other.image_id


def test_without_a_split_all_images_come_sorted(folder):
    assert ExportedImages(folder).image_ids == tuple(f"000{number}" for number in range(7))


def test_hooks_see_the_picture_and_the_label(folder):
    images = ExportedImages(folder, transform=lambda image: image.size, target_transform=lambda label: label == -1)
    assert images[3] == ((320, 240), True, "0003")


def test_pictures_are_upright_by_open_images_rotation_or_else_by_exif(tmp_path):
    wide = scene(1)
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    wide.save(stream, "JPEG", exif=exif)
    workspace = add_pictures(Workspace(tmp_path / "ws"), {"a": stream.getvalue(), "b": jpeg(wide)})
    rows = workspace.read(schema.CANDIDATES).to_pylist()
    rows[1]["rotation_deg"] = 90
    workspace.write(schema.CANDIDATES, rows)
    (tmp_path / "list.txt").write_text("a.jpg\nb.jpg\n")
    manifest = build_manifest(workspace, "turned", "1.0.0", lists=[("test", tmp_path / "list.txt")])
    images = ExportedImages(export_manifest(exported_set(workspace, manifest), "torch", tmp_path / "out"))
    # EXIF 6 says that the picture was turned counterclockwise; Open Images' 90 that it is to be turned so.
    as_stored = [Image.open(images.folder / "images" / one / f"{one}.jpg") for one in "ab"]
    assert np.array_equal(images[0].image, as_stored[0].transpose(Image.Transpose.ROTATE_270))
    assert np.array_equal(images[1].image, as_stored[1].transpose(Image.Transpose.ROTATE_90))


def test_another_folder_or_split_is_refused(folder, tmp_path):
    with pytest.raises(InputError, match=r"expected a folder written by 'export --format torch'"):
        ExportedImages(tmp_path)
    with pytest.raises(InputError, match="no image of the split 'train'; there are test, val"):
        ExportedImages(folder, split="train")


def test_a_damaged_picture_is_named(folder):
    path = folder / "images" / "00" / "0002.jpg"
    path.unlink()
    path.write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"0002\.jpg: not_an_image: the file starts with"):
        ExportedImages(folder)[2]
