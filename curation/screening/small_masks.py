"""Risk by masks: how sure a localizer is of some class on a small part of a picture, as `localize` wrote it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from manifests import schema
from manifests.errors import InputError
from manifests.label_space import ClassName, read_label_space
from manifests.masks import RISK_NUMBER, MaskStore, located_images
from manifests.stored_pictures import still_unreadable, stored_pictures
from manifests.wanted_masks import wanted_pictures
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
    unreadable : mapping of str to str
        By image id, why `localize` could make no masks of a picture as it is stored now, as of one whose file was
        damaged after `embed` had read it.
    """

    localizer: str
    evidence: Mapping[str, float]
    unreadable: Mapping[str, str]

    @property
    def number_name(self) -> str:
        """What a calibration calls the number, and is told apart by."""
        return f"{RISK_NUMBER} {self.localizer}: highest evidence of a small mask"

    def of(self, image_id: str) -> float:
        """Return the number of a picture; not a number where `localize` could not read it.

        Raises
        ------
        InputError
            It has no masks of the classes shown now, which is not the same as none that says something.
        """
        if image_id in self.unreadable:
            return math.nan
        if image_id not in self.evidence:
            raise InputError(
                f"--masks: {image_id} and maybe others have no masks as they are stored and shown now: run "
                "'screen' without --masks if they are new, then 'localize --dropped'"
            )
        return self.evidence[image_id]


def mask_files(workspace: Workspace) -> list[Path]:
    """Return the files that `read_small_masks` reads, for the record of a stage."""
    return [workspace.path_of(schema.LOCALIZED), *sorted(workspace.masks_dir.glob("*/unreadable.parquet"))]


def check_masks(workspace: Workspace, classes: Sequence[ClassName]) -> None:
    """Refuse what `read_small_masks` does, as far as that is seen without reading the masks.

    The commands call this before the prototypes are made.
    """
    for table in (schema.SCREEN, schema.LOCALIZED):
        workspace.path_to_read(table)
    shown = [known.name for known in read_label_space(workspace.classes_path)]
    if shown != [known.name for known in classes]:
        raise InputError(
            f"--masks: the masks are of the {len(shown):,} classes of the last 'screen', "
            f"{workspace.classes_path}, not of these {len(classes):,}: give those as --classes, or run 'screen' "
            "with these and without --masks, then 'localize --dropped'"
        )


def read_small_masks(workspace: Workspace, classes: Sequence[ClassName]) -> SmallMasks:
    """Return the numbers of the pictures whose masks are of them as they are stored and shown now.

    Parameters
    ----------
    workspace : Workspace
        Screened and localized.
    classes : sequence of ClassName
        What the pictures are compared with now.

    Raises
    ------
    StageMissingError
        `screen` or `localize` has not been run.
    InputError
        `localize` found nothing, or its masks are of other classes.
    """
    check_masks(workspace, classes)
    wanted = wanted_pictures(workspace, has_dropped=True)
    table = workspace.read(schema.LOCALIZED)
    if not table.num_rows:
        raise InputError("--masks: the last 'localize' left no mask: run 'localize --dropped'")
    evidence = {
        image_id: max(
            (facts.peak for facts in image.facts.values() if 0 < facts.area_share <= MOST_AREA_SHARE), default=0.0
        )
        for image_id, image in located_images(table).items()
        if image_id in wanted and wanted[image_id].is_met_by(image)
    }
    localizer = table.column("localizer")[0].as_py()
    found = still_unreadable(MaskStore(workspace, localizer).read_unreadable(), stored_pictures(workspace))
    return SmallMasks(localizer, evidence, {image_id: reason for image_id, (_, reason) in found.items()})
