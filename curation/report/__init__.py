"""What the report shows of curation: which pictures arrived, what was known of them, what was dropped, and why."""

from curation.report import calibration, copies, downloads, labels, quality, screening
from manifests.report.gathered import gathered
from manifests.report.parts import Section
from manifests.workspace import Workspace

_CHAPTERS = (
    (downloads.KEY, downloads.TITLE, downloads.downloads_section),
    (labels.KEY, labels.TITLE, labels.labels_section),
    (quality.KEY, quality.TITLE, quality.quality_section),
    (calibration.KEY, calibration.TITLE, calibration.calibration_section),
    (screening.KEY, screening.TITLE, screening.screening_section),
    (copies.KEY, copies.TITLE, copies.copies_section),
)


def sections(workspace: Workspace) -> list[Section]:
    """Return the sections of curation, in the order of its stages; those not run yet say what is missing.

    One whose table is damaged says that in its place. Nothing of the workspace is written.
    """
    return gathered(workspace, _CHAPTERS)
