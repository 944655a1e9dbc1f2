"""Which audits looked at the images of a set: whoever audits until a sample is clean has several.

An audit is known by its plan in ``audits/``. Certificates, headers and later plans name audits too: where a plan
that they name is gone, so is what it found, and that is an error.
"""

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from manifests.chained_log import chain_of
from manifests.errors import TableError
from manifests.frozen import frozen_folders, read_header, read_manifest
from manifests.workspace import Workspace

Images = Mapping[str, str | None]
"""Image id to digest: what auditors looked at. Splits and votes may change."""


def images_of(records: pa.Table) -> dict[str, str | None]:
    """Return image id to digest of the records of a manifest."""
    ids, digests = (records.column(name).to_pylist() for name in ("image_id", "sha256"))
    return dict(zip(ids, digests, strict=True))


def overlapping_audits(workspace: Workspace, images: Images) -> list[str]:
    """Return the names of the audits of sets that share an image with `images`, sorted.

    An audit whose set is no longer there, or is another one by now, counts too: nothing shows that it shared none.

    Raises
    ------
    TableError
        A plan is damaged, or one that a certificate, a header or a later plan names is gone.
    """
    plans = {path.stem: _object(path) for path in sorted(workspace.audits_dir.glob("*.json"))}
    for audit, where in _named(workspace, plans):
        if audit not in plans:
            raise TableError(
                f"{where}: names the audit {audit}, but {workspace.audits_dir / audit}.json is gone: an audit "
                "that was planned counts, whatever it found; bring its plan back"
            )
    shared: dict[Any, bool] = {}
    for plan in plans.values():
        manifest = plan.get("manifest")
        if manifest not in shared:
            shared[manifest] = _shares_an_image(workspace, plan, images)
    return [audit for audit, plan in plans.items() if shared[plan.get("manifest")]]


def answers_digest(workspace: Workspace, image_ids: Collection[str]) -> str:
    """Return the SHA-256 over all that was ever said of these images in audits, taken back or not.

    Raises
    ------
    TableError
        A log is damaged.
    """
    rows = []
    for path in sorted(workspace.decisions_dir.glob("*.jsonl")):
        chain = chain_of(path)
        if chain.problem is not None:
            raise TableError(f"{path}: {chain.problem}")
        rows += [
            [path.stem, *(row.get(key) for key in ("decision_id", "image_id", "answer", "class_index"))]
            for row in chain.rows
            if row.get("queue") == "audit" and row.get("image_id") in image_ids
        ]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _shares_an_image(workspace: Workspace, plan: Mapping[str, Any], images: Images) -> bool:
    folder = workspace.manifests_dir / str(plan.get("manifest"))
    if not folder.is_dir():
        return True
    frozen = read_manifest(folder)
    if frozen.header["content_sha256"] != plan.get("content_sha256"):
        return True
    return not images.items().isdisjoint(images_of(frozen.records).items())


def _named(workspace: Workspace, plans: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, Path]]:
    """Yield every audit that something names, and where."""
    for audit, plan in plans.items():
        path = workspace.audits_dir / f"{audit}.json"
        earlier = plan.get("earlier")
        if not isinstance(earlier, list):
            raise TableError(f"{path}: not the plan of an audit: without 'earlier'")
        yield from ((str(one), path) for one in earlier)
    stated = [(path, _object(path)) for path in sorted(workspace.certificates_dir.glob("*.json"))]
    for folder in frozen_folders(workspace.manifests_dir):
        stated.append((folder / "manifest.json", read_header(folder).get("certificate") or {}))
    for path, certificate in stated:
        others = certificate.get("other_audits", [])
        if not isinstance(others, list) or not all(isinstance(one, dict) for one in others):
            raise TableError(f"{path}: expected a list of other audits, found {str(others)[:80]}")
        named = [certificate.get("audit"), *(one.get("audit") for one in others)]
        yield from ((str(one), path) for one in named if one is not None)


def _object(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise TableError(f"{path}: no JSON ({error})") from error
    if not isinstance(found, dict):
        raise TableError(f"{path}: expected an object, found {str(found)[:80]}")
    return found
