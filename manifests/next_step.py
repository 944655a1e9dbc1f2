"""What follows in a workspace: the first stage of the main job that is missing, or older than what it reads."""

import ipaddress
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow.compute as pc

from manifests import schema
from manifests.durable import image_ids_in_log
from manifests.errors import TableError
from manifests.frozen import HEADER_FILE, frozen_folders
from manifests.next_command import (
    EXAMPLE_CLIP,
    EXAMPLE_SETS,
    classifier_options,
    embed_options,
    step_of,
)
from manifests.next_screen import is_screened, to_screen
from manifests.parquet import read_parquet
from manifests.run_report import NextStep
from manifests.stage_state import changed_at, is_current, json_of, record_of
from manifests.workspace import DEMO_MARKER_NAME, Workspace

_AUDIT_BOUND = "0.01"
_VOTES = 2
"""Answers an image needs where no consensus has said how many: as `annotate` and `consensus` have it."""

_STAGES_WITHOUT_CANDIDATES = {"train-dml", "train-localizer", "extract-features", "score"}

_ANNOTATE = ("annotate", "--annotator", "NAME")


def next_step(workspace: Workspace, given: Mapping[str, Any] | None = None) -> NextStep | None:
    """Return the command that follows, None where the workspace is done, or damaged, or only a person can say.

    Parameters
    ----------
    workspace : Workspace
        Whose tables, records and folders tell what there is.
    given : mapping, optional
        Options of the command that was just run: those that the next one needs alike are taken over.
    """
    try:
        return _first_step(workspace, given or {})
    except TableError:
        # This is asked after a command that did its work: whoever reads the table says what is wrong with it.
        return None


def _first_step(workspace: Workspace, given: Mapping[str, Any]) -> NextStep | None:
    steps: Sequence[Callable[[Workspace], NextStep | None]] = (
        _to_fetch, _to_embed, lambda space: to_screen(space, given), _to_judge,
    )  # fmt: skip
    has_frozen = bool(frozen_folders(workspace.manifests_dir))
    if not (workspace.has(schema.CANDIDATES) or has_frozen) and _is_of_another_kind(workspace):
        return None
    if workspace.has(schema.CANDIDATES) or not has_frozen:
        for step in steps:
            found = step(workspace)
            if found is not None:
                return found
    return _after_manifest(workspace) if has_frozen else None


def _is_of_another_kind(workspace: Workspace) -> bool:
    """Return whether a training, features of others or a demo is here: no image is to be proposed."""
    if any((workspace.root / name).exists() for name in ("features", "training", "localizer", DEMO_MARKER_NAME)):
        return True
    # What a training writes may lie in another folder.
    stages = {json_of(path).get("stage") for path in (workspace.root / "provenance").glob("*.json")}
    return bool(stages) and stages <= _STAGES_WITHOUT_CANDIDATES


def _to_fetch(workspace: Workspace) -> NextStep | None:
    if not workspace.has(schema.CANDIDATES):
        return step_of(workspace, ("candidates", "--release", "v7", "--subset", "test"), "there are no candidates")
    if workspace.has(schema.DOWNLOADS) and is_current(workspace, "download"):
        return None
    words = ["download"]
    arguments = record_of(workspace, "download").get("arguments", {})
    # A mirror on this machine, as a test or the demo has one, is gone by now.
    if arguments.get("base_url") and not _is_loopback(arguments["base_url"]):
        words += ["--base-url", arguments["base_url"], *["--allow-private"] * bool(arguments.get("allow_private"))]
    if workspace.has(schema.DOWNLOADS) and arguments:
        return step_of(workspace, words, "the candidates have changed since the last download")
    is_begun = workspace.has(schema.DOWNLOADS) or workspace.downloads_log_path.exists()
    return step_of(workspace, words, "the download has not come to its end" if is_begun else "no picture is here")


def _is_loopback(address: str) -> bool:
    host = urlsplit(address).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _to_embed(workspace: Workspace) -> NextStep | None:
    if is_screened(workspace):
        return None
    if not record_of(workspace, "download").get("counts", {}).get("ok"):
        return None
    stores = sorted(workspace.embeddings_dir.glob("*/model.json"))
    if not stores:
        return step_of(workspace, ("embed", *EXAMPLE_CLIP), "no picture is embedded")
    for path in stores:
        if not (path.parent / "unreadable.parquet").exists():
            return step_of(
                workspace, ("embed", *embed_options(json_of(path))), "embedding has not come to its end"
            )
        if not is_current(workspace, f"embed.{path.parent.name}"):
            words = ("embed", *embed_options(json_of(path)))
            return step_of(workspace, words, "the pictures have changed since they were embedded")
    return None


def _to_judge(workspace: Workspace) -> NextStep | None:
    """Return what the annotators' part still needs, up to the manifest."""
    if not workspace.has(schema.SCREEN):
        return None
    logs, rounds = _answer_files(workspace)
    counts = record_of(workspace, "screen").get("counts", {})
    if not logs:
        n_review = counts.get("review", 0) + counts.get("control", 0)
        return step_of(workspace, _ANNOTATE, f"{n_review:,} images wait for annotators") if n_review else None
    read = record_of(workspace, "consensus").get("inputs", {})
    if not (workspace.has(schema.VERDICTS) and is_current(workspace, "consensus") and logs <= read.keys()):
        return _to_answer_all(workspace, logs) or step_of(workspace, ("consensus",), "answers are not counted yet")
    if rounds - read.keys():
        return step_of(workspace, (*_ANNOTATE, "--queue", "inspection"), "a round of inspection is drawn")
    if _is_frozen(workspace):
        return None
    verdicts = record_of(workspace, "consensus").get("counts", {})
    if verdicts.get("verdict_open"):
        return step_of(workspace, _ANNOTATE, f"{verdicts['verdict_open']:,} images lack answers")
    if verdicts.get("verdict_disputed"):
        why = f"{verdicts['verdict_disputed']:,} images are in dispute"
        return step_of(workspace, (*_ANNOTATE, "--queue", "dispute"), why)
    if not verdicts.get("verdict_out"):
        return None
    version = ("--version", "auto") if frozen_folders(workspace.manifests_dir) else ()
    return step_of(workspace, ("build-manifest", *version), "what was agreed on is not frozen")


def _to_answer_all(workspace: Workspace, logs: Iterable[str]) -> NextStep | None:
    """Return the step back to the annotators where the first round is not answered; once a set is frozen, None."""
    if frozen_folders(workspace.manifests_dir):
        return None
    screen = read_parquet(workspace.path_to_read(schema.SCREEN), ["image_id", "status", "is_control"])
    is_asked = pc.or_kleene(pc.equal(screen["status"], "review"), screen["is_control"])
    # Known answers are asked now and then, and need none.
    known = set(workspace.read(schema.GOLD)["image_id"].to_pylist()) if workspace.has(schema.GOLD) else set()
    asked = set(screen.filter(is_asked)["image_id"].to_pylist()) - known
    n_votes = int(record_of(workspace, "consensus").get("arguments", {}).get("n_votes", _VOTES))
    n_answers = Counter(chain.from_iterable(image_ids_in_log(workspace.root / log) & asked for log in logs))
    n_done = sum(n >= n_votes for n in n_answers.values())
    if n_done >= len(asked):
        return None
    return step_of(workspace, _ANNOTATE, f"{n_done:,} of {len(asked):,} images have {n_votes} answers")


def _answer_files(workspace: Workspace) -> tuple[set[str], set[str]]:
    """Return the names, as records have them, of logs with answers, and of rounds of inspection."""
    logs = [path for path in workspace.decisions_dir.glob("*.jsonl") if path.stat().st_size]
    rounds = workspace.inspections_dir.glob("round-*.json")
    return _names_below(workspace, logs), _names_below(workspace, rounds)


def _names_below(workspace: Workspace, paths: Iterable[Path]) -> set[str]:
    return {path.relative_to(workspace.root).as_posix() for path in paths}


def _newest_manifest(workspace: Workspace) -> Path:
    return max(frozen_folders(workspace.manifests_dir), key=lambda folder: changed_at(folder / HEADER_FILE))


def _is_frozen(workspace: Workspace) -> bool:
    """Return whether the last manifest built follows from the verdicts, withdrawals and certificates of now."""
    if not frozen_folders(workspace.manifests_dir):
        return False
    builds = [workspace.root / "provenance" / f"{name}.json" for name in workspace.record_names("build-manifest.")]
    if not builds:
        return False
    last = max(builds, key=changed_at)
    follows = [workspace.tombstones_path, *workspace.certificates_dir.glob("*.json")]
    return is_current(workspace, last.stem) and changed_at(last) >= max(map(changed_at, follows))


def _after_manifest(workspace: Workspace) -> NextStep | None:
    folder = _newest_manifest(workspace)
    header = json_of(folder / HEADER_FILE)
    for step in (_to_answer_audit(workspace), _to_export(workspace, folder, header)):
        if step is not None:
            return step
    if header.get("logs") and not any(workspace.audits_dir.glob("*.json")):
        words = ("audit", "plan", "--manifest", folder.name, "--bound", _AUDIT_BOUND)
        return step_of(workspace, words, "nothing is certified")
    return _to_score(workspace, folder, header) or _to_report(workspace)


def _to_answer_audit(workspace: Workspace) -> NextStep | None:
    logs_at = max(map(changed_at, workspace.decisions_dir.glob("*.jsonl")), default=0)
    for path in sorted(workspace.audits_dir.glob("*.json")):
        if (workspace.certificates_dir / path.name).exists():
            continue
        read_at = changed_at(workspace.root / "provenance" / f"audit.{path.stem}.report.json")
        if logs_at > max(changed_at(path), read_at):
            return step_of(workspace, ("audit", "report", "--name", path.stem), "the audit has new answers")
        return step_of(workspace, (*_ANNOTATE, "--queue", "audit"), f"the audit {path.stem} waits for answers")
    return None


def _to_export(workspace: Workspace, folder: Path, header: Mapping[str, Any]) -> NextStep | None:
    if (workspace.root / "exports" / folder.name).is_dir():
        return None
    counts = header.get("counts", {})
    has_pictures = workspace.has(schema.DOWNLOADS) and counts.get("with_sha256") == counts.get("images")
    words = ("export", "--format", "openood", *(["--pictures"] if has_pictures else []), "--manifest", folder.name)
    return step_of(workspace, words, f"{folder.name} is not exported")


def _to_score(workspace: Workspace, folder: Path, header: Mapping[str, Any]) -> NextStep | None:
    """Return the set of features that a classifier lacks, or `score`, or `plot`; None where all are there."""
    name = str(header.get("name", folder.name))
    heads = sorted(workspace.features_dir.glob("*/head.safetensors"), key=changed_at)
    features_dir = heads[-1].parent if heads else None
    sets = {} if features_dir is None else {path.stem: path for path in features_dir.glob("*.parquet")}
    out_sets = [one for one in sorted(sets) if one not in EXAMPLE_SETS]
    wanted = [*EXAMPLE_SETS, *([] if out_sets else [name])]
    for missing in [one for one in wanted if one not in sets][:1]:
        of_set = EXAMPLE_SETS.get(missing, ("--manifest", folder.name))
        words = ("extract-features", *classifier_options(workspace, features_dir), "--set", missing, *of_set)
        return step_of(workspace, words, f"there are no features of {missing}")
    if features_dir is None:
        return None
    scores_path = workspace.scores_dir / features_dir.name / "scores.parquet"
    if changed_at(scores_path) < max(map(changed_at, sets.values())):
        oods = [word for one in out_sets for word in ("--ood", one)]
        words = ("score", "--features", features_dir.name, "--train", "train", "--val", "val", *oods)
        return step_of(workspace, words, "features are not scored")
    if not (scores_path.parent / "plots").is_dir():
        return step_of(workspace, ("plot", "--scores", features_dir.name), "scores are not plotted")
    return None


def _to_report(workspace: Workspace) -> NextStep | None:
    newest = max(map(changed_at, (workspace.root / "provenance").glob("*.json")), default=0)
    if changed_at(workspace.root / "report.html") >= newest:
        return None
    return step_of(workspace, ("report",), "the report is not as new as what it tells")
