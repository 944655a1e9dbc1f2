"""A review set with known truth, without any pictures, for simulated annotators."""

import random
from dataclasses import dataclass
from pathlib import Path

from annotation.error_models import simulated_team
from annotation.simulated import simulate_team
from manifests import schema
from manifests.workspace import Workspace
from tests.annotation_workspace import shown_classes_of


@dataclass(frozen=True)
class SimulatedWorld:
    workspace: Workspace
    truth_path: Path
    truth_of: dict[str, str]

    def answer(self, kinds: str, *, seed: int = 0, with_gold: bool = True) -> None:
        simulate_team(
            self.workspace, self.truth_path, simulated_team(kinds.split(",")), seed=seed, with_gold=with_gold
        )


def make_world(
    root: Path, *, n_images: int, share_in: float, n_gold: int = 0, share_corner: float = 0.0, seed: int = 0
) -> SimulatedWorld:
    """`n_images` under review, and beside them `n_gold` gold images, drawn from the same shares."""
    draws = random.Random(seed)
    workspace, truths, screen, downloads, gold = Workspace(root), {}, [], [], []
    lines = ["image_id,truth,class_index,kind"]
    for number in range(n_images + n_gold):
        image_id = f"{number:016x}"
        truth = "in" if draws.random() < share_in else "out"
        shown = shown_classes_of(number)
        class_index = shown[0] if truth == "in" else None
        kind = "corner" if truth == "in" and draws.random() < share_corner else "plain"
        lines.append(f"{image_id},{truth},{'' if class_index is None else class_index},{kind}")
        truths[image_id] = truth
        if number >= n_images:
            gold.append({"image_id": image_id, "answer": truth, "class_index": class_index, "note": None})
        screen.append(
            dict.fromkeys(schema.SCREEN.schema.names)
            | {"image_id": image_id, "status": "review" if number < n_images else "dropped", "risk": 0.5}
            | {"shown_classes": shown, "shown_similarities": [0.2] * len(shown), "is_control": False}
            | {"reason": None if number < n_images else "low_quality"}
        )
        downloads.append(
            dict.fromkeys(schema.DOWNLOADS.schema.names)
            | {"image_id": image_id, "status": "ok", "attempts": 1, "width_px": 400, "height_px": 300}
            | {"path": workspace.relative_image_path(image_id)}
        )
    workspace.write(
        schema.CANDIDATES,
        [{"image_id": image_id, "subset": "test", "url": "http://mirror.invalid"} for image_id in truths],
    )
    workspace.write(schema.DOWNLOADS, downloads)
    workspace.write(schema.SCREEN, screen)
    if gold:
        workspace.write(schema.GOLD, gold)
    truth_path = root / "truth.csv"
    truth_path.write_text("\n".join(lines) + "\n")
    return SimulatedWorld(workspace, truth_path, truths)
