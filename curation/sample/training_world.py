"""A drawn world to train classifiers on: labelled pictures of the in-classes, and a folder of pictures of none."""

import json
import shutil
from pathlib import Path
from typing import Any

from curation.sample.world import SUBSET, make_world
from curation.sample.world_plan import plan_candidates
from manifests.durable import write_json

_DRAWN_FILE_NAME = "drawn.json"


def draw_training_world(
    folder: Path, *, seed: int = 0, n_train: int = 100, n_val: int = 20, n_candidates: int = 600
) -> tuple[Path, Path]:
    """Return two folders after drawing them, or as an earlier call with these arguments drew them.

    Parameters
    ----------
    folder : Path
        Of the world; what is there is replaced where it was drawn otherwise or not to its end.
    seed : int
        Of the drawings; 0 is the demo's.
    n_train, n_val : int
        Pictures a class.
    n_candidates : int
        Of the world; 45 % of them plainly show no in-class object.

    Returns
    -------
    tuple of Path
        A folder with ``train/``, ``train_labels.csv``, ``val/`` and ``val_labels.csv``, and a folder of those
        candidates that plainly show no in-class object, stored upright.
    """
    arguments = {"seed": seed, "n_train": n_train, "n_val": n_val, "n_candidates": n_candidates}
    record_path, out_dir = folder / _DRAWN_FILE_NAME, folder / "out"
    if _drawn(record_path) != arguments:
        for old in (record_path, out_dir, folder / "imagenet", folder / "mirror"):
            shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)
        world = make_world(folder, **arguments)
        out_dir.mkdir()
        for plan in plan_candidates(seed, n_candidates):
            if plan.kind == "plain_out" and not plan.rotation_deg:
                name = f"{plan.image_id}.jpg"
                shutil.copyfile(world.mirror_dir / SUBSET / name, out_dir / name)
        write_json(record_path, arguments)
    return folder / "imagenet", out_dir


def _drawn(record_path: Path) -> Any:
    """Return what a finished drawing was told; None where there is none, or its record is damaged."""
    try:
        return json.loads(record_path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
