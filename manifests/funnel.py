"""The funnel: how many images stand at which stage of a workspace, and why the others left."""

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from manifests import schema
from manifests.durable import image_ids_in_log, images_in_log
from manifests.frozen import read_manifest
from manifests.masks import MaskStore, located_images
from manifests.wanted_masks import wanted_pictures
from manifests.workspace import Workspace

VERIFIED_IMAGES = "images_verified_in_class"
"""The count of the stage `labels` of candidates in which people verified an ImageNet class."""

_FIRST = re.compile(rb'"queue": ?"first"')
_FIRST_OR_GOLD = re.compile(rb'"queue": ?"(first|gold)"')
"""A gold image under review is answered as gold alone."""


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
        *_verified_steps(workspace),
        _kept_step(workspace, schema.DOWNLOADS, "downloaded", column="status", kept="ok"),
        *_embed_steps(workspace),
        _screen_step(workspace),
        *_mask_steps(workspace),
        _decisions_step(workspace),
        _kept_step(workspace, schema.VERDICTS, "agreed out", column="verdict", kept="out"),
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


def _verified_steps(workspace: Workspace) -> list[FunnelStep]:
    """One step where `labels` has run: candidates that are known to be in-distribution before any is fetched."""
    n_verified = workspace.read_record("labels", "counts").get(VERIFIED_IMAGES)
    return [] if n_verified is None else [FunnelStep("  verified in-class", n_verified)]


def _kept_step(workspace: Workspace, table: schema.TableSpec, stage: str, *, column: str, kept: str) -> FunnelStep:
    """Return the step of a table whose `column` says `kept` of the images that went on."""
    if not workspace.has(table):
        return FunnelStep(stage, 0, is_done=False)
    counts = Counter(workspace.read(table).column(column).to_pylist())
    n_kept = counts.pop(kept, 0)
    return FunnelStep(stage, n_kept, dict(counts))


def _embed_steps(workspace: Workspace) -> list[FunnelStep]:
    """One step a model, from its record: the embeddings' layout belongs to `curation`."""
    steps = []
    for record_name in workspace.record_names("embed."):
        counts = workspace.read_record(record_name, "counts")
        name = f"embedded {record_name.removeprefix('embed.')[:8]}"
        left = {word: n for word, n in counts.items() if word != "embedded" and n}
        steps.append(FunnelStep(name, counts.get("embedded", 0), left))
    return steps or [FunnelStep("embedded", 0, is_done=False)]


def _screen_step(workspace: Workspace) -> FunnelStep:
    if not workspace.has(schema.SCREEN):
        return FunnelStep("to review", 0, is_done=False)
    rows = workspace.read(schema.SCREEN).select(["status", "reason"]).to_pylist()
    left = Counter(row["reason"] for row in rows if row["status"] == "dropped")
    return FunnelStep("to review", len(rows) - left.total(), dict(left))


def _mask_steps(workspace: Workspace) -> list[FunnelStep]:
    """One step where `localize` has run: of the images to review, those with masks of all that is shown now."""
    if not (workspace.has(schema.LOCALIZED) and workspace.has(schema.SCREEN)):
        return []
    table = workspace.read(schema.LOCALIZED)
    localized = located_images(table)
    wanted = wanted_pictures(workspace, has_dropped=True)
    masked = {image_id for image_id, one in wanted.items() if one.is_met_by(localized.get(image_id))}
    rows = workspace.read(schema.SCREEN).select(["image_id", "status"]).to_pylist()
    to_review = {row["image_id"] for row in rows if row["status"] == "review"}
    stores = [MaskStore(workspace, digest) for digest in table.column("localizer").unique().to_pylist()]
    damaged = _in_damaged_shards(stores, masked)
    masked -= damaged
    left = {"without": len(to_review - masked - damaged), "damaged": len(to_review & damaged)}
    return [FunnelStep("  with masks", len(to_review & masked), {word: n for word, n in left.items() if n})]


def _in_damaged_shards(stores: Sequence[MaskStore], image_ids: Collection[str]) -> set[str]:
    """Return the images whose shard of masks is gone, or cannot be read, in one of the stores."""
    by_shard: dict[int, set[str]] = {}
    for image_id in image_ids:
        by_shard.setdefault(MaskStore.shard_of(image_id), set()).add(image_id)
    damaged = [of_shard for shard, of_shard in by_shard.items() if not all(one.is_whole(shard) for one in stores)]
    return set[str]().union(*damaged)


def _decisions_step(workspace: Workspace) -> FunnelStep:
    """Return the step of the annotators: who rules, inspects or audits looks at what others answered before."""
    logs = sorted(workspace.decisions_dir.glob("*.jsonl"))
    annotators = [log for log in logs if any(images_in_log(log, _FIRST))]
    if not annotators:
        return FunnelStep("answered", 0, is_done=False)
    answered = set[str]().union(*(image_ids_in_log(log, _FIRST_OR_GOLD) for log in annotators))
    return FunnelStep(f"answered ({', '.join(log.stem for log in annotators)})", len(answered))
