"""Where in a picture the classes shown beside it might be: the masks of `localize`, as annotators see them."""

import base64
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from annotation.review import ReviewItem, review_pictures
from manifests import schema
from manifests.masks import MaskFacts, MaskStore, located_images
from manifests.wanted_masks import asked_names
from manifests.workspace import Workspace

_N_KEPT_SHARDS = 32
"""Of the masks of 15,000 pictures a shard holds 0.6 MB, and annotators share their pictures."""

_QUEUES_WITHOUT = frozenset({"audit"})
"""An audit is to find what screen and annotators have missed. An object that the localizer misses may have misled
them all; an auditor who looks where it points would miss it again, and the bound would be too low. An inspection
offers them: it is the team's own check of what was agreed, and no bound rests on it."""


class EvidenceMasks:
    """The masks that fit the pictures as they are stored now.

    Parameters
    ----------
    workspace : Workspace
        Its masks are read when they are asked for.
    localizer : str
        Digest of whose masks they are; empty where there are none.
    located : mapping of str to mapping of int to MaskFacts
        By image id and class index.
    """

    def __init__(
        self, workspace: Workspace, localizer: str, located: Mapping[str, Mapping[int, MaskFacts]]
    ) -> None:
        self._store = MaskStore(workspace, localizer)
        self._located = located
        self._read_shard = functools.lru_cache(_N_KEPT_SHARDS)(self._store.read_shard)

    @classmethod
    def none(cls, workspace: Workspace) -> "EvidenceMasks":
        """Return the masks of no picture."""
        return cls(workspace, "", {})

    @classmethod
    def of_queue(
        cls, workspace: Workspace, queue: str, items: Iterable[ReviewItem], *, announce: Callable[[str], None]
    ) -> "EvidenceMasks":
        """Return the masks that a queue offers, of its gold images as of the others: none at an audit.

        Errors as in `read`.
        """
        if queue in _QUEUES_WITHOUT:
            return cls.none(workspace)
        return cls.read(workspace, items, announce=announce)

    @classmethod
    def read(
        cls, workspace: Workspace, items: Iterable[ReviewItem], *, announce: Callable[[str], None]
    ) -> "EvidenceMasks":
        """Return the masks of some pictures, and tell where some of what is shown beside them have none.

        Raises
        ------
        TableError
            The table of `localize` is damaged.
        """
        if not workspace.has(schema.LOCALIZED):
            return cls.none(workspace)
        table = workspace.read(schema.LOCALIZED)
        shown = {item.image_id: set(item.shown_classes) for item in items if item.shown_classes}
        pictures, name_of = review_pictures(workspace), asked_names(workspace)
        located = {
            image_id: {
                class_index: facts
                for class_index, facts in image.facts.items()
                if class_index in shown[image_id] and facts.class_name == name_of(class_index)
            }
            for image_id, image in located_images(table).items()
            if image_id in shown and image.is_of(pictures[image_id])
        }
        n_lacking = sum(located.get(image_id, {}).keys() != classes for image_id, classes in shown.items())
        if n_lacking:
            announce(
                f"masks: {n_lacking:,} of {len(shown):,} pictures lack those of some classes that are shown, "
                "which tells them from the rest: run 'localize' again"
            )
        # All rows are by the last localizer that ran.
        localizer = table.column("localizer")[0].as_py() if table.num_rows else ""
        return cls(workspace, localizer, located)

    def has(self, image_id: str) -> bool:
        """Return whether there is a mask of this picture."""
        return bool(self._located.get(image_id))

    def of(self, item: ReviewItem) -> list[dict[str, Any]]:
        """Return, as JSON values and in the order of the classes shown, what there is of one picture."""
        located = self._located.get(item.image_id, {})
        found = []
        for class_index in item.shown_classes:
            known = located.get(class_index)
            if known is None:
                continue
            image = self._read_shard(MaskStore.shard_of(item.image_id)).get(item.image_id)
            if image is not None and class_index in image.masks:
                png = base64.b64encode(image.masks[class_index]).decode()
                found.append(
                    {"class_index": class_index, "png": png, "area_share": known.area_share, "peak": known.peak}
                )
        return found
