"""Which pictures are to have masks of which classes, and which stored masks still are of what they show."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from manifests import schema
from manifests.label_space import read_label_space
from manifests.masks import MaskedImage, MaskStore
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

    def is_met_by(self, stored: MaskedImage | None) -> bool:
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
    pictures, names = stored_pictures(workspace), _class_names(workspace)

    def named(shown: Sequence[int]) -> dict[int, str]:
        return {class_index: names.get(class_index, _unnamed(class_index)) for class_index in shown}

    return {
        row["image_id"]: Wanted(pictures[row["image_id"]], named(row["shown_classes"]))
        for row in rows
        if row["shown_classes"] and row["image_id"] in pictures
        if has_dropped or row["status"] == "review" or row["image_id"] in gold
    }


def in_shards(wanted: Mapping[str, Wanted]) -> dict[int, list[Wanted]]:
    """Return pictures by the number of their shard, in the order of their ids."""
    shards: dict[int, list[Wanted]] = {}
    for image_id in sorted(wanted):
        shards.setdefault(MaskStore.shard_of(image_id), []).append(wanted[image_id])
    return shards


def missing_by_shard(store: MaskStore, shards: Mapping[int, Sequence[Wanted]]) -> dict[int, list[Wanted]]:
    """Return those of `in_shards` whose masks are not there or of something else, shard by shard in order."""
    missing = {}
    for shard, of_shard in sorted(shards.items()):
        stored = store.read_shard(shard, has_masks=False)
        missing[shard] = [one for one in of_shard if not one.is_met_by(stored.get(one.picture.image_id))]
    return missing


def currency(workspace: Workspace) -> Callable[[MaskedImage], bool]:
    """Return what says of stored masks whether they are still of their picture, and of classes called so.

    Wanted or not: what a run without ``--dropped`` does not ask for, the next may.
    """
    pictures, names = stored_pictures(workspace), _class_names(workspace)

    def is_current(image: MaskedImage) -> bool:
        picture = pictures.get(image.image_id)
        return (
            picture is not None
            and image.is_of(picture)
            and all(names.get(index, _unnamed(index)) == name for index, name in image.names.items())
        )

    return is_current


def _class_names(workspace: Workspace) -> dict[int, str]:
    return {known.class_index: known.name for known in read_label_space(workspace.classes_path)}


def _unnamed(class_index: int) -> str:
    return f"class {class_index}"
