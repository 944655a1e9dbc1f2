"""Which pictures are to have masks, and of which classes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from manifests import schema
from manifests.label_space import read_label_space
from manifests.masks import LocatedImage
from manifests.stored_pictures import StoredPicture, stored_pictures
from manifests.workspace import Workspace


@dataclass(frozen=True)
class Wanted:
    """A picture to localize.

    Attributes
    ----------
    picture : StoredPicture
        Where it lies.
    names : mapping of int to str
        Of the classes shown beside it, by class index.
    """

    picture: StoredPicture
    names: Mapping[int, str]

    def is_met_by(self, stored: LocatedImage | None) -> bool:
        """Return whether masks are of this picture, and of these classes by these names."""
        return stored is not None and stored.is_of(self.picture) and stored.names == self.names


def wanted_pictures(workspace: Workspace, *, has_dropped: bool) -> dict[str, Wanted]:
    """Return the pictures to localize by id, those apart that are shown beside no class.

    Parameters
    ----------
    workspace : Workspace
        Screened.
    has_dropped : bool
        Those too that `screen` dropped; of them, gold pictures are always among them.

    Raises
    ------
    StageMissingError
        `screen` or a stage before it has not been run.
    """
    rows = workspace.read(schema.SCREEN).select(["image_id", "status", "shown_classes"]).to_pylist()
    gold = set(workspace.read(schema.GOLD).column("image_id").to_pylist()) if workspace.has(schema.GOLD) else set()
    pictures, name_of = stored_pictures(workspace), asked_names(workspace)

    def named(shown: Sequence[int]) -> dict[int, str]:
        return {class_index: name_of(class_index) for class_index in shown}

    return {
        row["image_id"]: Wanted(pictures[row["image_id"]], named(row["shown_classes"]))
        for row in rows
        if row["shown_classes"] and row["image_id"] in pictures
        if has_dropped or row["status"] == "review" or row["image_id"] in gold
    }


def asked_names(workspace: Workspace) -> Callable[[int], str]:
    """Return what says, by class index, the name that a localizer is asked for in the label space of `screen`.

    Masks asked for by another name, as of an earlier label space, are of something else.
    """
    names = {known.class_index: known.name for known in read_label_space(workspace.classes_path)}
    return lambda class_index: names.get(class_index, f"class {class_index}")
