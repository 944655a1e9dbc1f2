"""The funnel: how many images stand at which stage of a workspace, and why the others left."""

import json
from collections import Counter
from dataclasses import dataclass, field

from manifests import schema
from manifests.durable import read_json_lines
from manifests.errors import TableError
from manifests.frozen import read_manifest
from manifests.workspace import Workspace


@dataclass(frozen=True)
class FunnelStep:
    """One stage: images that went on, and those that left by reason. `is_done` is False where it has not run."""

    stage: str
    n_images: int
    left: dict[str, int] = field(default_factory=dict)
    is_done: bool = True


def funnel(workspace: Workspace) -> list[FunnelStep]:
    """Return the steps from proposal to manifest, as far as the workspace's tables tell."""
    steps = [
        _candidates_step(workspace),
        _downloads_step(workspace),
        *_embed_steps(workspace),
        _screen_step(workspace),
        _decisions_step(workspace),
        _verdicts_step(workspace),
    ]
    for path in sorted(workspace.manifests_dir.glob("*/manifest.json")):
        steps.append(FunnelStep(f"manifest {path.parent.name}", read_manifest(path.parent).records.num_rows))
    return steps


def format_funnel(steps: list[FunnelStep]) -> str:
    """Return the funnel as a table for the terminal."""
    width = max(len(step.stage) for step in steps)
    lines = [f"{'stage':<{width}}  {'images':>8}  left here, and why"]
    for step in steps:
        reasons = ", ".join(
            f"{word} {n:,}" for word, n in sorted(step.left.items(), key=lambda item: (-item[1], item[0]))
        )
        images = f"{step.n_images:,}" if step.is_done else "-"
        lines.append(f"{step.stage:<{width}}  {images:>8}  {reasons if step.is_done else 'not run yet'}".rstrip())
    return "\n".join(lines)


def _candidates_step(workspace: Workspace) -> FunnelStep:
    if not workspace.has(schema.CANDIDATES):
        return FunnelStep("candidates", 0, is_done=False)
    return FunnelStep("candidates", workspace.read(schema.CANDIDATES).num_rows)


def _downloads_step(workspace: Workspace) -> FunnelStep:
    if not workspace.has(schema.DOWNLOADS):
        return FunnelStep("downloaded", 0, is_done=False)
    counts = Counter(workspace.read(schema.DOWNLOADS).column("status").to_pylist())
    n_ok = counts.pop("ok", 0)
    return FunnelStep("downloaded", n_ok, dict(counts))


def _embed_steps(workspace: Workspace) -> list[FunnelStep]:
    """One step a model, from its record: the embeddings' layout belongs to `curation`."""
    steps = []
    records = (workspace.root / "provenance").glob("embed.*.json")
    # A failed run's record has one more part in its name.
    for path in sorted(path for path in records if len(path.suffixes) == 2):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            counts = dict(record["counts"])
        except (ValueError, KeyError, TypeError) as error:
            raise TableError(f"{path}: not the record of a stage ({error})") from error
        name = f"embedded {path.suffixes[-2][1:9]}"
        left = {word: n for word, n in counts.items() if word != "embedded" and n}
        steps.append(FunnelStep(name, counts.get("embedded", 0), left))
    return steps or [FunnelStep("embedded", 0, is_done=False)]


def _screen_step(workspace: Workspace) -> FunnelStep:
    if not workspace.has(schema.SCREEN):
        return FunnelStep("to review", 0, is_done=False)
    rows = workspace.read(schema.SCREEN).select(["status", "reason"]).to_pylist()
    left = Counter(row["reason"] for row in rows if row["status"] == "dropped")
    return FunnelStep("to review", len(rows) - left.total(), dict(left))


def _decisions_step(workspace: Workspace) -> FunnelStep:
    logs = sorted(workspace.decisions_dir.glob("*.jsonl"))
    if not logs:
        return FunnelStep("answered", 0, is_done=False)
    answered = {row.get("image_id") for log in logs for row in read_json_lines(log)}
    return FunnelStep(f"answered ({', '.join(log.stem for log in logs)})", len(answered))


def _verdicts_step(workspace: Workspace) -> FunnelStep:
    if not workspace.has(schema.VERDICTS):
        return FunnelStep("agreed out", 0, is_done=False)
    counts = Counter(workspace.read(schema.VERDICTS).column("verdict").to_pylist())
    n_out = counts.pop("out", 0)
    return FunnelStep("agreed out", n_out, dict(counts))
