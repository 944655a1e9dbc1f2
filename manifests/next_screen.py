"""The next step up to a screen: by the calibration that is there, after the masks that this takes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from manifests import schema
from manifests.masks import RISK_NUMBER
from manifests.next_command import localize_options, option_words, step_of
from manifests.parquet import read_parquet
from manifests.run_report import NextStep
from manifests.stage_state import changed_at, is_current, json_of, record_of
from manifests.workspace import Workspace

_N_IMAGENET_CLASSES = 1000
_SAME_CLASSES = ("classes", "templates", "exemplars", "prototypes", "embeddings")
_MASKS_FIRST = "'screen --masks' needs masks of the pictures dropped too"


def is_screened(workspace: Workspace) -> bool:
    """Return whether pictures were screened, and nothing that was read for it has changed since."""
    return workspace.has(schema.SCREEN) and is_current(workspace, "screen")


def to_screen(workspace: Workspace, given: Mapping[str, Any]) -> NextStep | None:
    """Return `screen`, or what it needs first; None where nothing is embedded, or the screen is as it should be.

    Parameters
    ----------
    workspace : Workspace
        Whose tables and records tell what there is.
    given : mapping
        Options of the command that was just run: after `calibrate`, `screen` gets its file and its classes.
    """
    if not any(workspace.embeddings_dir.glob("*/unreadable.parquet")):
        return None
    is_calibrated = "labelled" in given
    path = (given.get("out") if is_calibrated else None) or _last_calibration(workspace)
    localizer = _localizer_of(path)
    if is_screened(workspace) and not is_calibrated and (localizer is None or _took_a_calibration(workspace)):
        return None
    same = {name: given[name] for name in _SAME_CLASSES if given.get(name) and is_calibrated}
    if not same.get("classes") and _has_other_classes(workspace):
        same["classes"] = workspace.classes_path
    of_classes = option_words(same)
    if localizer is not None:
        step = _to_masks(workspace, localizer, path, of_classes)
        if step is not None:
            return step
    words = ["screen", *(["--calibration", str(path)] if path.exists() else []), *of_classes]
    is_there = workspace.has(schema.SCREEN)
    why = "what was screened has changed since" if is_there else "nothing is screened"
    if is_there and is_screened(workspace):
        why = "the last screen was not by this calibration"
    return step_of(workspace, [*words, *["--masks"] * (localizer is not None)], why)


def _last_calibration(workspace: Workspace) -> Path:
    """Return the newest of the calibration of the last screen and that at its usual place, there or not."""
    usual = workspace.root / "calibration.json"
    name = record_of(workspace, "screen").get("arguments", {}).get("calibration")
    # Records name a file outside the workspace by the path that was given.
    places = [workspace.root / name, Path(name)] if name else []
    return max([usual, *places], key=changed_at)


def _took_a_calibration(workspace: Workspace) -> bool:
    return bool(record_of(workspace, "screen").get("arguments", {}).get("calibration"))


def _localizer_of(calibration_path: Path) -> str | None:
    """Return the digest of the localizer whose masks a calibration takes; None where it takes none."""
    model = json_of(calibration_path).get("model")
    names = model.get("names") if isinstance(model, dict) else None
    for name in names if isinstance(names, list) else []:
        word, _, rest = str(name).partition(" ")
        if word == RISK_NUMBER:
            return rest.partition(":")[0]
    return None


def _to_masks(
    workspace: Workspace, localizer: str, calibration_path: Path, of_classes: list[str]
) -> NextStep | None:
    """Return what `screen --masks` needs first: each picture shown, each one shown localized, one localizer."""
    if _has_unscreened(workspace):
        # Without a calibration, as this one takes masks, which are of the classes shown.
        return step_of(
            workspace, ["screen", *of_classes], "new pictures are shown beside no class yet, as masks need"
        )
    run = record_of(workspace, "localize")
    arguments = run.get("arguments", {})
    is_whole = arguments.get("has_dropped") and not run.get("counts", {}).get("left")
    if not (workspace.has(schema.LOCALIZED) and is_whole and is_current(workspace, "localize")):
        return step_of(workspace, ["localize", "--dropped", *localize_options(arguments)], _MASKS_FIRST)
    if run.get("details", {}).get("digest") != localizer:
        usual = workspace.root / "calibration.json"
        out = [] if calibration_path == usual else ["--out", str(calibration_path)]
        words = ["calibrate", "--labelled", "truth.csv", "--masks", *out, *of_classes]
        return step_of(workspace, words, "the calibration is of another localizer's masks")
    return None


def _has_unscreened(workspace: Workspace) -> bool:
    """Return whether a stored picture has no row in the last screen."""
    if not workspace.has(schema.SCREEN):
        return True
    known = read_parquet(workspace.path_to_read(schema.SCREEN), ["image_id"])["image_id"]
    rows = read_parquet(workspace.path_to_read(schema.DOWNLOADS), ["image_id", "status"])
    stored = rows.filter(pc.equal(rows["status"], "ok"))["image_id"]
    return not pc.all(pc.is_in(stored, value_set=known), min_count=0).as_py()


def _has_other_classes(workspace: Workspace) -> bool:
    """Return whether the last screen compared with other classes than the 1,000 of ImageNet."""
    path = workspace.classes_path
    return path.exists() and path.read_bytes().count(b"\n") != _N_IMAGENET_CLASSES + 1
