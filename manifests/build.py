"""The stage `build-manifest`: the agreed images, or an official list, as a frozen manifest.

The manifest is a pure function of its inputs: no time, no machine, no path goes into it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from manifests import schema
from manifests.durable import sha256_of_file
from manifests.errors import InputError, StageMissingError
from manifests.frozen import Manifest, freeze, manifest_folder
from manifests.image_ids import read_image_ids
from manifests.mirror import MIRROR_URL, picture_url
from manifests.stored_pictures import stored_pictures
from manifests.workspace import Workspace, checked_name, tool_version

DEFAULT_SPLIT = "test"
PUBLISHED_LIST = "published_list"
"""The verdict source of images that come from an official list: its authors decided, not this workspace."""

_FROM_CANDIDATES = ("url", "license_url", "author", "title", "landing_url")
_FROM_DOWNLOADS = ("sha256", "width_px", "height_px")


def build_manifest(
    workspace: Workspace, name: str, version: str, *, lists: Sequence[tuple[str, Path]] = ()
) -> Manifest:
    """Freeze the images whose verdict is `out`, or those of official lists.

    Parameters
    ----------
    workspace : Workspace
        With verdicts, candidates and downloads; with `lists`, what there is of candidates and downloads is joined.
    name, version : str
        The manifest's folder is ``<name>-<version>``; the version is X.Y.Z.
    lists : sequence of (split, path)
        Official lists of image ids, each with the split that its images belong to.

    Raises
    ------
    StageMissingError
        Without lists: verdicts, candidates or downloads are missing.
    InputError
        No image is left, an id stands in two lists, or the version is frozen with other records.
    """
    folder = manifest_folder(workspace.manifests_dir, name, version)
    arguments = {"name": name, "version": version, "from_list": [f"{split}={path}" for split, path in lists]}
    with workspace.stage("build-manifest", arguments, record_as=f"build-manifest.{folder.name}") as record:
        chosen = _from_lists(lists) if lists else _from_verdicts(workspace)
        records = [
            _joined(workspace_row, chosen[image_id])
            for image_id, workspace_row in _known(workspace, chosen).items()
        ]
        counts = _counts(records)
        header = {
            "name": name,
            "version": version,
            "counts": counts,
            "inputs": _input_digests(workspace, lists),
            "certificate": None,
            "tool_version": tool_version(),
            "rebuild": _rebuild_command(name, version, lists),
        }
        manifest = freeze(folder, header, records)
        record.counts = counts
        record.details = {"content_sha256": manifest.header["content_sha256"]}
    return manifest


def _from_verdicts(workspace: Workspace) -> dict[str, dict[str, Any]]:
    verdicts = workspace.read(schema.VERDICTS).to_pylist()
    _check_verdicts_follow(workspace)
    arrived = stored_pictures(workspace)
    chosen = {
        row["image_id"]: {"verdict_source": row["source"], "n_out": row["n_out"], "split": DEFAULT_SPLIT}
        for row in verdicts
        if row["verdict"] == "out"
    }
    lost = chosen.keys() - arrived.keys()
    if lost:
        raise InputError(
            f"{len(lost)} images with the verdict out have no picture ({min(lost)}): run 'download' again"
        )
    if not chosen:
        words = Counter(row["verdict"] for row in verdicts)
        raise InputError(f"no image has the verdict out; of {len(verdicts)}: {dict(words)}")
    return chosen


def _check_verdicts_follow(workspace: Workspace) -> None:
    """Refuse verdicts that no longer follow from the screen, the decisions and the rounds of inspection here."""
    recorded = workspace.read_record("consensus", "inputs")
    rounds = sorted(workspace.inspections_dir.glob("*.json"))
    found = workspace.input_digests([workspace.path_of(schema.SCREEN), *_decision_logs(workspace), *rounds])
    if recorded and recorded != found:
        changed = sorted(name for name in {*recorded, *found} if recorded.get(name) != found.get(name))
        raise StageMissingError(
            f"{', '.join(changed)} changed since the verdicts: run the stage 'consensus' again"
        )


def _from_lists(lists: Sequence[tuple[str, Path]]) -> dict[str, dict[str, Any]]:
    chosen: dict[str, dict[str, Any]] = {}
    for split, path in lists:
        checked_name(split, "--from-list split")
        for image_id in read_image_ids(path):
            if image_id in chosen:
                raise InputError(
                    f"{path}: image {image_id} stands already in the list of split {chosen[image_id]['split']}"
                )
            chosen[image_id] = {"verdict_source": PUBLISHED_LIST, "split": split}
    return chosen


def _known(workspace: Workspace, chosen: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what candidates and downloads say of the chosen images; an unknown one gets the mirror's URL."""
    known: dict[str, dict[str, Any]] = {
        image_id: {"image_id": image_id, "url": picture_url(MIRROR_URL, "test", image_id)} for image_id in chosen
    }
    for table, columns in ((schema.CANDIDATES, _FROM_CANDIDATES), (schema.DOWNLOADS, _FROM_DOWNLOADS)):
        if workspace.has(table):
            for row in workspace.read(table).select(["image_id", *columns]).to_pylist():
                if row["image_id"] in known:
                    known[row["image_id"]].update(row)
    return known


def _joined(workspace_row: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    nothing = dict.fromkeys(schema.MANIFEST.schema.names)
    return {**nothing, **workspace_row, **chosen}


def _counts(records: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    counts = {
        "images": len(records),
        "with_licence": sum(record["license_url"] is not None for record in records),
        "with_sha256": sum(record["sha256"] is not None for record in records),
    }
    return counts | {f"split_{split}": n for split, n in sorted(Counter(r["split"] for r in records).items())}


def _input_digests(workspace: Workspace, lists: Sequence[tuple[str, Path]]) -> dict[str, str]:
    """Return the SHA-256 of every file that the manifest follows from, under names free of machine paths."""
    tables = [workspace.path_of(table) for table in (schema.CANDIDATES, schema.DOWNLOADS)]
    if not lists:
        return workspace.input_digests([*tables, workspace.path_of(schema.VERDICTS), *_decision_logs(workspace)])
    numbered = enumerate(lists, start=1)
    of_lists = {f"list {n} {split}={path.name}": sha256_of_file(path) for n, (split, path) in numbered}
    return workspace.input_digests(tables) | of_lists


def _decision_logs(workspace: Workspace) -> list[Path]:
    return sorted(workspace.decisions_dir.glob("*.jsonl"))


def _rebuild_command(name: str, version: str, lists: Sequence[tuple[str, Path]]) -> str:
    sources = "".join(f" --from-list {split}={path.name}" for split, path in lists)
    return f"python cli.py build-manifest --name {name} --version {version}{sources}"
