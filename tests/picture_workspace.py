"""A workspace of drawn pictures, as `candidates` and `download` would leave it."""

import hashlib
import io

import numpy as np
from PIL import Image

from manifests import schema
from manifests.label_space import ClassName, write_label_space


def scene(seed):
    """A smooth random picture: photographs are smooth too."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return Image.fromarray(coarse).resize((320, 240), Image.Resampling.BICUBIC)


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
