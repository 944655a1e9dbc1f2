"""How much of what each stage kept is truly out of distribution: the sample's truth is known."""

import csv
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from manifests import schema
from manifests.frozen import Manifest
from manifests.workspace import Workspace


@dataclass(frozen=True)
class Grade:
    """One population: how many images, how many truly out, and the kinds of those that are not."""

    population: str
    n_images: int
    n_out: int
    kinds_of_in: dict[str, int]


def grade(workspace: Workspace, manifest: Manifest, truth_path: Path) -> list[Grade]:
    """Return grades of what was downloaded, what went to the annotators, and what was frozen."""
    with truth_path.open(encoding="utf-8", newline="") as stream:
        truths = {row["image_id"]: row for row in csv.DictReader(stream)}
    downloads = workspace.read(schema.DOWNLOADS).to_pylist()
    screened = workspace.read(schema.SCREEN).to_pylist()
    populations = {
        "downloaded": [row["image_id"] for row in downloads if row["status"] == "ok"],
        "to review": [row["image_id"] for row in screened if row["status"] == "review"],
        "frozen": manifest.records.column("image_id").to_pylist(),
    }
    return [_grade(name, image_ids, truths) for name, image_ids in populations.items()]


def format_grades(grades: list[Grade]) -> str:
    """Return the grades as a table for the terminal."""
    lines = [f"{'kept':<12} {'images':>7} {'truly OOD':>10}  the others"]
    for one in grades:
        share = f"{one.n_out / one.n_images:.1%}" if one.n_images else "-"
        kinds = ", ".join(f"{kind} {n}" for kind, n in sorted(one.kinds_of_in.items()))
        lines.append(f"{one.population:<12} {one.n_images:>7} {share:>10}  {kinds}".rstrip())
    return "\n".join(lines)


def _grade(population: str, image_ids: Collection[str], truths: dict[str, dict[str, str]]) -> Grade:
    of_in = Counter(truths[image_id]["kind"] for image_id in image_ids if truths[image_id]["truth"] == "in")
    return Grade(population, len(image_ids), len(image_ids) - of_in.total(), dict(of_in))
