"""The workspace's own pictures as parts of a report."""

from collections.abc import Collection

import pyarrow as pa
import pyarrow.compute as pc

from manifests import schema
from manifests.report.parts import CardPicture
from manifests.workspace import Workspace


def own_pictures(workspace: Workspace, image_ids: Collection[str]) -> dict[str, CardPicture]:
    """Return candidates as pictures, by id: where each lies if it arrived, and how it is turned.

    Raises
    ------
    StageMissingError
        `candidates` has not been run.
    TableError
        Its table is damaged.
    """
    candidates = workspace.read(schema.CANDIDATES).select(["image_id", "rotation_deg"])
    wanted = pc.is_in(candidates.column("image_id"), pa.array(sorted(set(image_ids)), pa.string()))
    rotations = dict(zip(*candidates.filter(wanted).to_pydict().values(), strict=True))
    return {
        image_id: CardPicture(
            workspace.root / workspace.relative_image_path(image_id), image_id, rotations.get(image_id)
        )
        for image_id in image_ids
    }
