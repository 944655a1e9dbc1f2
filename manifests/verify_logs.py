"""Comparing the logs of a workspace with how far they went, and what they said, when a manifest was frozen."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pyarrow as pa

from manifests.build_inputs import head_of
from manifests.chained_log import chain_of
from manifests.errors import OpenImageOError, one_line
from manifests.frozen import HEADER_FILE
from manifests.tombstones import read_tombstones, stated_tombstones
from manifests.verify_report import Report
from manifests.workspace import Workspace

_LOG_NAME = re.compile(r"tombstones\.jsonl|decisions/[A-Za-z0-9][A-Za-z0-9_.-]*\.jsonl", re.ASCII)

CheckLogs = Callable[[Workspace], Iterable[str]]
"""Returns what is wrong with a workspace's decision logs, a line a problem."""


def verify_logs(
    workspace: Workspace,
    header: Mapping[str, Any] | None,
    records: pa.Table | None,
    check_logs: CheckLogs | None,
    report: Report,
) -> None:
    """Compare the logs with how far they went when the manifest was frozen; later lines may have come."""
    if check_logs is not None:
        report.add("log", *check_logs(workspace))
    heads = {} if header is None else header.get("logs")
    if not isinstance(heads, dict):
        report.add("header", f"expected the heads of logs, found {str(heads)[:200]}")
        heads = {}
    for name, stated in sorted(heads.items()):
        if _LOG_NAME.fullmatch(name):
            # The logs' own reader has named the bad line of a decision log already.
            has_reader = check_logs is not None and name != workspace.tombstones_path.name
            _log(workspace, name, stated, report, is_read=has_reader)
        else:
            report.add("header", f"{name!r} is no log of a workspace")
    _tombstones(workspace, header, records, report)


def _log(workspace: Workspace, name: str, stated: Any, report: Report, *, is_read: bool) -> None:
    chain = chain_of(workspace.root / name)
    try:
        departed = chain.departs_from(head_of(stated, f"{HEADER_FILE}, logs, {name}"))
    except OpenImageOError as error:
        report.add("header", one_line(error))
        return
    if chain.problem and not is_read:
        report.add("log", f"{name}: {chain.problem}")
    if departed:
        report.add("log", f"{name}: since the manifest was frozen, it has changed: {departed}")
    if chain.n_torn_bytes:
        report.notes.append(
            f"{name}: {chain.n_torn_bytes:,} bytes after its last line count as nothing; "
            "a process was killed there, or they are no line, and the next one that writes cuts them off"
        )


def _tombstones(
    workspace: Workspace, header: Mapping[str, Any] | None, records: pa.Table | None, report: Report
) -> None:
    try:
        tombstones = read_tombstones(workspace)
        stated = {} if header is None else stated_tombstones(header, HEADER_FILE)
    except OpenImageOError as error:
        report.add("log", one_line(error))
        return
    if records is not None:
        report.n_retired = len(tombstones.keys() & records.column("image_id").to_pylist())
    for image_id, stone in sorted(stated.items()):
        if tombstones.get(image_id) != stone:
            report.add("tombstone", f"{image_id}: manifest.json states one that tombstones.jsonl does not hold")
    if header is not None:
        logs = header.get("logs")
        head = logs.get(workspace.tombstones_path.name) if isinstance(logs, dict) else None
        n_lines = head.get("n_lines") if isinstance(head, dict) else 0
        if n_lines != len(stated):
            text = f"manifest.json states {len(stated)}; the log had {n_lines} when it was frozen"
            report.add("tombstone", text)
