"""Which of the stored masks still are of what their pictures show, and which are missing, shard by shard."""

from collections.abc import Callable, Mapping, Sequence

from manifests.masks import LocatedImage, MaskStore
from manifests.stored_pictures import stored_pictures
from manifests.wanted_masks import Wanted, asked_names
from manifests.workspace import Workspace


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
        stored = store.read_facts(shard)
        missing[shard] = [one for one in of_shard if not one.is_met_by(stored.get(one.picture.image_id))]
    return missing


def currency(workspace: Workspace) -> Callable[[LocatedImage], bool]:
    """Return what says of stored masks whether they are still of their picture, and of classes called so.

    Wanted or not: what a run without ``--dropped`` does not ask for, the next may.
    """
    pictures, name_of = stored_pictures(workspace), asked_names(workspace)

    def is_current(image: LocatedImage) -> bool:
        picture = pictures.get(image.image_id)
        return (
            picture is not None
            and image.is_of(picture)
            and all(name_of(index) == name for index, name in image.names.items())
        )

    return is_current
