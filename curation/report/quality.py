"""The section of quality: what each check flags."""

import pyarrow.compute as pc

from curation.screening.checks import CHECKS
from manifests import schema
from manifests.report.parts import Section, Table
from manifests.workspace import Workspace

KEY, TITLE = "quality", "Quality"


def quality_section(workspace: Workspace) -> Section:
    """Return the section: a row a check, with its threshold and what it flags."""
    if not workspace.has(schema.QUALITY):
        missing = "No picture has been measured: `python cli.py quality` does it."
        return Section(KEY, TITLE, missing=missing)
    measured = workspace.read(schema.QUALITY)
    dropped_by = workspace.read_record("screen", "arguments").get("drop_quality", ())
    rows = []
    for name, check in CHECKS.items():
        n_flagged = pc.sum(measured.column(f"is_{name}")).as_py() or 0
        scores = measured.column(f"{name}_score")
        middle = pc.quantile(scores, 0.5)[0].as_py()
        side = "above" if check.is_high_bad else "below"
        rows.append((
            name.replace("_", " "), check.meaning, f"{side} {check.threshold:g}",
            "-" if middle is None else f"{middle:.3g}", f"{n_flagged:,}",
            f"{n_flagged / measured.num_rows:.2%}" if measured.num_rows else "-",
            "drops" if name in dropped_by else "",
        ))  # fmt: skip
    header = ("check", "score", "flagged", "median", "pictures", "share", "in the screen")
    caption = (
        f"Checks of {measured.num_rows:,} pictures. A flag alone drops nothing; the screen drops what was named "
        "with --drop-quality."
    )
    return Section(KEY, TITLE, [Table(header, rows, caption, numeric=frozenset({3, 4, 5}))])
