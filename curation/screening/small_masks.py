"""Risk by masks: how sure a localizer is of some class on a small part of a picture, as `localize` wrote it."""

from collections.abc import Mapping
from dataclasses import dataclass

from manifests import schema
from manifests.errors import InputError
from manifests.stored_pictures import StoredPicture
from manifests.workspace import Workspace

MOST_AREA_SHARE = 0.25
"""Of a small mask: what fills more of a picture is the subject, which the other numbers see as well."""


@dataclass(frozen=True)
class SmallMasks:
    """One more number for the risk of each picture.

    Attributes
    ----------
    localizer : str
        Digest of the localizer; the numbers of two are not comparable.
    evidence : mapping of str to float
        By image id, the highest evidence among the masks that cover something, but at most `MOST_AREA_SHARE` of
        the picture; 0 where there is none.
    """

    localizer: str
    evidence: Mapping[str, float]

    @property
    def number_name(self) -> str:
        """What a calibration calls the number, and is told apart by."""
        return f"localizer {self.localizer}: highest evidence of a small mask"

    def of(self, image_id: str) -> float:
        """Return the number of a picture.

        Raises
        ------
        InputError
            It has no masks, which is not the same as none that says something.
        """
        if image_id not in self.evidence:
            raise InputError(
                f"--masks: {image_id} and maybe others have no masks as they are stored now: run 'screen' without "
                "--masks if they are new, then 'localize --dropped'"
            )
        return self.evidence[image_id]


def read_small_masks(workspace: Workspace, pictures: Mapping[str, StoredPicture]) -> SmallMasks:
    """Return the numbers of the pictures that have masks as they are stored now.

    Raises
    ------
    StageMissingError
        `localize` has not been run.
    InputError
        It found nothing.
    """
    rows = workspace.read(schema.LOCALIZED).to_pylist()
    if not rows:
        raise InputError("--masks: the last 'localize' left no mask: run 'localize --dropped'")
    evidence: dict[str, float] = {}
    for row in rows:
        picture = pictures.get(row["image_id"])
        if picture is None or (row["sha256"], row["rotation_deg"]) != (picture.sha256, picture.rotation_deg or 0):
            continue
        is_small = 0 < row["area_share"] <= MOST_AREA_SHARE
        so_far = evidence.get(picture.image_id, 0.0)
        evidence[picture.image_id] = max(so_far, row["peak"] if is_small else 0.0)
    return SmallMasks(rows[0]["localizer"], evidence)
