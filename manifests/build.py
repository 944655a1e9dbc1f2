"""The stage `build-manifest`: the agreed images, or official lists, as a frozen manifest.

The manifest is a pure function of its inputs: no time, no machine, no path goes into it.
"""

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from manifests import schema
from manifests.build_inputs import (
    FROM_CANDIDATES,
    FROM_DOWNLOADS,
    BuildInputs,
    Rows,
    check_verdicts_follow,
    decision_logs,
    log_heads,
)
from manifests.certified import certificate_for
from manifests.draws import split_of
from manifests.durable import sha256_of_file
from manifests.errors import InputError, StageMissingError
from manifests.frozen import Manifest, counts_of, freeze, ids_of_splits, manifest_folder, record_table
from manifests.image_ids import read_image_ids
from manifests.lineage import AUTO, versioned
from manifests.mirror import MIRROR_URL, picture_url
from manifests.official import official_lists, official_statement
from manifests.selection import BuildRules, Evidence, reason_counts, select
from manifests.tombstones import Tombstone, read_tombstones
from manifests.versions import parse_version
from manifests.workspace import Workspace, checked_name, tool_version

PUBLISHED_LIST = "published_list"
"""The verdict source of images that come from an official list: its authors decided, not this workspace."""

_VOTES = ("n_out", "n_in", "n_difficult")


@dataclass(frozen=True)
class ListSource:
    """Lists of image ids to take instead of verdicts.

    Attributes
    ----------
    lists : sequence of (split, path)
        Each list with the split that its images belong to; splits are told by the ids where `official` is given.
    official : str, optional
        The publication whose lists these must be, of `manifests.official.OFFICIAL`.
    """

    lists: Sequence[tuple[str, Path]] = ()
    official: str | None = None


@dataclass(frozen=True)
class _Chosen:
    """What was read: records by image id, the reasons of those that are none, their votes, and the digests."""

    records: Rows
    left_out: dict[str, str]
    evidence: Evidence
    votes: Rows = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)


def build_manifest(
    workspace: Workspace,
    name: str,
    version: str,
    *,
    lists: Sequence[tuple[str, Path]] = (),
    official: str | None = None,
    rules: BuildRules | None = None,
) -> Manifest:
    """Freeze the images whose verdict is `out`, or those of official lists.

    Parameters
    ----------
    workspace : Workspace
        With verdicts, candidates and downloads; with `lists`, what there is of candidates and downloads is joined.
    name, version : str
        The manifest's folder is ``<name>-<version>``; the version is X.Y.Z, or ``auto`` for the one that follows
        from what changed.
    lists : sequence of (split, path)
        Official lists of image ids, each with the split that its images belong to.
    official : str, optional
        ``vim`` or ``openood``: check that `lists` are theirs; the splits are told by the ids then.
    rules : BuildRules, optional
        Filters, draw and splits; with `lists`, each list gives its split.

    Raises
    ------
    StageMissingError
        Without lists: verdicts, candidates or downloads are missing.
    InputError
        No image is left, an id stands in two lists, the version says something else than what changed, or is
        frozen with other records.
    """
    rules = rules or BuildRules()
    checked_name(name, "--name")
    source = _checked_source(ListSource(lists, official), rules)
    if lists:
        # Each list says itself which split its images belong to.
        rules = replace(rules, splits={})
    shown = AUTO if version == AUTO else str(parse_version(version))
    from_list = [f"{split}={path}" for split, path in source.lists]
    arguments = {
        "name": name, "version": shown, "rules": rules.as_json(), "official": official, "from_list": from_list,
    }  # fmt: skip
    inputs = [] if lists else [workspace.path_of(schema.VERDICTS)]
    with workspace.stage(
        "build-manifest", arguments, inputs, record_as=f"build-manifest.{name}-{shown}"
    ) as record:
        tombstones = read_tombstones(workspace)
        chosen = (
            _from_lists(workspace, source, tombstones) if lists else _from_verdicts(workspace, rules, tombstones)
        )
        entering, reasons = select(chosen.records, rules, chosen.evidence)
        if official is not None and reasons:
            raise InputError(
                f"--official {official}: {len(reasons)} of its images are retired here ({min(reasons)}): without "
                "them it is not the published set; leave --official out"
            )
        if not entering:
            raise InputError(f"no image is left for the manifest: {reason_counts(reasons.values())}")
        records = record_table(_with_splits(entering, rules, chosen.evidence), name)
        left_out = _left_out_table(chosen.left_out | reasons, chosen.votes)
        header = _header(workspace, name, source, rules, chosen)
        header |= {"counts": counts_of(records), "left_out": reason_counts(left_out.column("reason").to_pylist())}
        header["certificate"] = certificate_for(workspace, records)
        header["tombstones"] = [vars(tombstones[one]) for one in sorted(tombstones)]
        if official is not None:
            header["official"] = official_statement(official, ids_of_splits(records))
        header = versioned(workspace.manifests_dir, header, shown, records)
        folder = manifest_folder(workspace.manifests_dir, name, header["version"])
        manifest = freeze(folder, header, records, left_out)
        record.counts = manifest.header["counts"]
        record.details = {"content_sha256": manifest.header["content_sha256"], "folder": folder.name}
        record.seed = rules.seed
    return manifest


def _checked_source(source: ListSource, rules: BuildRules) -> ListSource:
    if source.official is None:
        return source
    if rules.selects:
        raise InputError(f"--official {source.official}: a published set takes no filters and no --target")
    return ListSource(official_lists(source.official, [path for _, path in source.lists]), source.official)


def _from_verdicts(workspace: Workspace, rules: BuildRules, tombstones: Mapping[str, Tombstone]) -> _Chosen:
    inputs = BuildInputs(workspace, {})
    verdicts = inputs.rows(schema.VERDICTS, is_needed=True)
    check_verdicts_follow(workspace)
    candidates = inputs.rows(schema.CANDIDATES, is_needed=True)
    downloads = inputs.rows(schema.DOWNLOADS, is_needed=True)
    agreed = {one: row for one, row in verdicts.items() if row["verdict"] == "out"}
    _check_arrived(agreed, candidates, downloads)
    if not agreed:
        words = Counter(row["verdict"] for row in verdicts.values())
        raise InputError(f"no image has the verdict out; of {len(verdicts)}: {dict(words)}")
    screen = inputs.rows(schema.SCREEN)
    said = {one: {"verdict_source": row["source"], "n_out": row["n_out"]} for one, row in agreed.items()}
    evidence = Evidence(
        retired=tombstones,
        flags=inputs.flags() if rules.exclude_quality else None,
        duplicate_of=inputs.duplicates(screen),
        stratum_of=inputs.strata(screen) if screen else {},
    )
    left_out = {one: _reason_before(one, verdicts, screen, downloads) for one in candidates.keys() - agreed.keys()}
    return _Chosen(_joined(said, candidates, downloads), left_out, evidence, verdicts, inputs.digests)


def _check_arrived(agreed: Rows, candidates: Rows, downloads: Rows) -> None:
    unknown = agreed.keys() - candidates.keys()
    if unknown:
        raise StageMissingError(
            f"verdicts are there for images that are no longer candidates ({min(unknown)}): "
            "run the stage 'download' again"
        )
    lost = [one for one in agreed if one not in downloads or downloads[one]["status"] != "ok"]
    if lost:
        raise InputError(
            f"{len(lost)} images with the verdict out have no picture ({min(lost)}): run 'download' again"
        )


def _from_lists(workspace: Workspace, source: ListSource, tombstones: Mapping[str, Tombstone]) -> _Chosen:
    inputs = BuildInputs(workspace, {})
    said: Rows = {}
    for number, (split, path) in enumerate(source.lists, start=1):
        checked_name(split, "--from-list split")
        for image_id in read_image_ids(path):
            if image_id in said:
                raise InputError(
                    f"{path}: image {image_id} stands already in the list of split {said[image_id]['split']}"
                )
            said[image_id] = {"verdict_source": PUBLISHED_LIST, "split": split}
        inputs.digests[f"list {number} {split}={path.name}"] = sha256_of_file(path)
    joined = _joined(said, inputs.rows(schema.CANDIDATES), inputs.rows(schema.DOWNLOADS))
    return _Chosen(joined, {}, Evidence(retired=tombstones), digests=inputs.digests)


def _reason_before(image_id: str, verdicts: Rows, screen: Rows, downloads: Rows) -> str:
    """Return at which stage an image without the verdict `out` left, and why: the last stage that knows it."""
    if image_id in verdicts:
        return f"verdict_{verdicts[image_id]['verdict']}"
    if image_id in screen:
        row = screen[image_id]
        return f"screen_{row['reason']}" if row["status"] == "dropped" else "no_verdict"
    if image_id in downloads:
        status = downloads[image_id]["status"]
        return "not_screened" if status == "ok" else f"download_{status}"
    return "not_downloaded"


def _joined(said: Rows, candidates: Rows, downloads: Rows) -> Rows:
    """Return records of what candidates and downloads say of images; an unknown one gets the mirror's URL."""
    nothing = dict.fromkeys(schema.MANIFEST.schema.names)
    records = {}
    for image_id, own in said.items():
        record = nothing | {"image_id": image_id, "url": picture_url(MIRROR_URL, "test", image_id)}
        for rows, columns in ((candidates, FROM_CANDIDATES), (downloads, FROM_DOWNLOADS)):
            if image_id in rows:
                record |= {column: rows[image_id][column] for column in columns}
        records[image_id] = record | own
    return records


def _with_splits(records: Rows, rules: BuildRules, evidence: Evidence) -> list[dict[str, Any]]:
    """Return the records with stratum and split; a list has given the split already."""
    group_of = evidence.group_of
    return [
        record
        | {
            "strata": evidence.stratum_of.get(image_id),
            "split": record["split"] or split_of(group_of.get(image_id, image_id), rules.splits, rules.seed),
        }
        for image_id, record in records.items()
    ]


def _left_out_table(reasons: Mapping[str, str], votes: Rows) -> pa.Table:
    rows = [
        {"image_id": image_id, "reason": reason} | {word: votes.get(image_id, {}).get(word) for word in _VOTES}
        for image_id, reason in sorted(reasons.items())
    ]
    table = pa.Table.from_pylist(rows, schema=schema.LEFT_OUT.schema)
    return schema.LEFT_OUT.check(table, schema.LEFT_OUT.file_name)


def _header(
    workspace: Workspace, name: str, source: ListSource, rules: BuildRules, chosen: _Chosen
) -> dict[str, Any]:
    logs = [] if source.lists else decision_logs(workspace)
    if workspace.tombstones_path.exists():
        logs.append(workspace.tombstones_path)
    return {
        "name": name,
        "inputs": chosen.digests,
        "rules": rules.as_json(),
        "logs": log_heads(workspace, logs),
        "tool_version": tool_version(),
        "rebuild": _rebuild_command(name, source, rules),
    }


def _rebuild_command(name: str, source: ListSource, rules: BuildRules) -> str:
    """Return the command that builds these records again; paths of lists are given without their folders."""
    words = ["python", "cli.py", "build-manifest", "--name", name, "--version", AUTO]
    if source.official is not None:
        words += ["--official", source.official]
    for split, path in source.lists:
        words += ["--from-list", path.name if source.official else f"{split}={path.name}"]
    if not source.lists:
        words += [f"--split={split}={share!r}" for split, share in sorted(rules.splits.items())]
    values: Iterable[tuple[str, Any]] = (
        *(("--licence", licence) for licence in sorted(rules.licences)),
        ("--min-side", rules.min_side_px),
        ("--max-aspect", rules.max_aspect),
        ("--exclude-quality", ",".join(sorted(rules.exclude_quality)) or None),
        ("--max-per-duplicate-group", rules.max_per_group),
        ("--target", rules.target),
        ("--seed", rules.seed or None),
    )
    words += [word for flag, value in values if value is not None for word in (flag, str(value))]
    return shlex.join(words)
