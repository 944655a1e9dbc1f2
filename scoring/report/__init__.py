"""The report's chapters on scores: one a scored model, from what `score` and `extract-features` wrote."""

import re
from pathlib import Path

from manifests.errors import OpenImageOError, one_line
from manifests.report.parts import Section
from manifests.workspace import Workspace
from scoring.lineage import RECORD_FILE_NAME
from scoring.report.charts import chart_parts
from scoring.report.galleries import gallery_parts
from scoring.report.result_tables import result_parts
from scoring.report.scored_model import read_scored_model
from scoring.score import SCORES_FILE_NAME

_SCORE_COMMAND = "`python cli.py score --ood SET`"
_MOST_CHARS = 2000


def sections(workspace: Workspace) -> list[Section]:
    """Return one section a folder of ``scores/``, by name; one that says how to score where there is none.

    A folder that is damaged, or whose tables are not of one run, says so in its own section.
    """
    folders = sorted({path.parent for path in workspace.scores_dir.glob(f"*/{SCORES_FILE_NAME}")})
    if not folders:
        return [
            Section(
                "scores",
                "Scores",
                missing="No model has been scored here. `extract-features` writes the features of the sets; then "
                f"{_SCORE_COMMAND} scores them.",
            )
        ]
    return [_section(workspace, folder, key) for folder, key in zip(folders, _keys(folders), strict=True)]


def _section(workspace: Workspace, folder: Path, key: str) -> Section:
    title = f"Scores: {folder.name}"
    if not (folder / RECORD_FILE_NAME).is_file():
        # Written last: without it a run was killed before its end.
        missing = f"Scoring was not finished: {RECORD_FILE_NAME} is not there; {_SCORE_COMMAND} writes it."
        return Section(key, title, missing=missing)
    try:
        model = read_scored_model(folder, key)
        parts = [*result_parts(workspace, model), *chart_parts(model), *gallery_parts(workspace, model)]
    except OpenImageOError as error:
        return Section(key, title, problem=one_line(error, _MOST_CHARS))
    return Section(key, title, parts)


def _keys(folders: list[Path]) -> list[str]:
    """Return an anchor a folder, each unlike the others: small letters, digits and hyphens."""
    keys: list[str] = []
    for folder in folders:
        words = re.sub(r"[^a-z0-9]+", "-", folder.name.lower()).strip("-")
        key, number = f"scores-{words}", 2
        while key in keys:
            key, number = f"scores-{words}-{number}", number + 1
        keys.append(key)
    return keys
