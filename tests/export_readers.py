"""Each export through the library that it is for: ``python -m tests.export_readers LIBRARY FOLDER``.

Prints, for the splits `test` and `val`, the rows ``[image id, label, pixel digest]`` as JSON. In a process of its
own, as these libraries read their settings on import, start servers, and warn of each other's news.
"""

import json
import sys
import tempfile
from pathlib import Path

from PIL import Image

from manifests.exporters.exported_set import records_table
from tests.export_world import pixel_digest

SPLITS = ("test", "val")


def read_huggingface(folder):
    import datasets

    with tempfile.TemporaryDirectory() as cache:
        loaded = datasets.load_dataset(str(folder), cache_dir=cache)
        return {
            split: [[row["image_id"], row["label"], pixel_digest(row["image"])] for row in loaded[split]]
            for split in SPLITS
        }


def read_webdataset(folder):
    import webdataset

    rows = {}
    for split in SPLITS:
        shards = [str(path) for path in sorted((folder / split).glob("*.tar"))]
        samples = webdataset.WebDataset(shards, shardshuffle=False).decode("pil").to_tuple("json", "jpg", "cls")
        rows[split] = [[described["image_id"], label, pixel_digest(image)] for described, image, label in samples]
    return rows


def read_mlcroissant(folder):
    import mlcroissant

    loaded = mlcroissant.Dataset(jsonld=str(folder / "croissant.json"))
    issues = loaded.metadata.ctx.issues
    if issues.errors or issues.warnings:
        raise SystemExit(issues.report())
    rows = {split: [] for split in SPLITS}
    for record in loaded.records("images"):
        image = record.get("images/image")
        row = [record["images/image_id"].decode(), record["images/label"]]
        rows[record["images/split"].decode()].append([*row, None if image is None else pixel_digest(image)])
    return rows


def read_fiftyone(folder):
    import fiftyone

    loaded = fiftyone.Dataset.from_dir(str(folder), dataset_type=fiftyone.types.FiftyOneDataset)
    loaded.compute_metadata()
    rows = {split: [] for split in SPLITS}
    lacking = set(records_table([]).column_names) - set(loaded.get_field_schema())
    if lacking:
        raise SystemExit(f"no field {min(lacking)}")
    for sample in loaded:
        if (sample.metadata.width, sample.metadata.height) != (sample.width_px, sample.height_px):
            raise SystemExit(f"{sample.image_id}: the size is not that of the manifest")
        rows[sample.tags[0]].append([sample.image_id, sample.label, pixel_digest(Image.open(sample.filepath))])
    return rows


if __name__ == "__main__":
    print(json.dumps(globals()[f"read_{sys.argv[1]}"](Path(sys.argv[2]))))
