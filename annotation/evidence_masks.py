"""Where in a picture the classes shown beside it might be: the masks of `localize`, as annotators see them."""

import base64
import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from annotation.review import ReviewItem, review_pictures
from manifests import schema
from manifests.masks import MaskedImage, MaskStore
from manifests.wanted_masks import asked_names
from manifests.workspace import Workspace

_N_KEPT_SHARDS = 32
"""Of the masks of 15,000 pictures a shard holds 0.6 MB, and annotators share their pictures."""

_QUEUES_WITHOUT = frozenset({"audit"})
"""An audit is to find what screen and annotators have missed. An object that the localizer misses may have misled
them all; an auditor who looks where it points would miss it again, and the bound would be too low. An inspection
offers them: it is the team's own check of what was agreed, and no bound rests on it."""


@dataclass(frozen=True)
class _Located:
    """One row of `schema.LOCALIZED`, as far as annotators see it."""

    localizer: str
    area_share: float
    peak: float


class EvidenceMasks:
    """The masks that fit the pictures as they are stored now.

    Parameters
    ----------
    workspace : Workspace
        Its masks are read when they are asked for.
    located : mapping of str to mapping of int to _Located
        By image id and class index.
    """

    def __init__(self, workspace: Workspace, located: Mapping[str, Mapping[int, _Located]]) -> None:
        self._workspace = workspace
        self._located = located
        self._read_shard = functools.lru_cache(_N_KEPT_SHARDS)(self._shard)

    @classmethod
    def of_queue(
        cls, workspace: Workspace, queue: str, items: Iterable[ReviewItem], *, announce: Callable[[str], None]
    ) -> "EvidenceMasks":
        """Return the masks that a queue offers, of its gold images as of the others: none at an audit.

        Errors as in `read`.
        """
        return cls(workspace, {}) if queue in _QUEUES_WITHOUT else cls.read(workspace, items, announce=announce)

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
            return cls(workspace, {})
        shown = {item.image_id: set(item.shown_classes) for item in items if item.shown_classes}
        pictures, name_of = review_pictures(workspace), asked_names(workspace)
        located: dict[str, dict[int, _Located]] = {}
        for row in workspace.read(schema.LOCALIZED).to_pylist():
            image_id, class_index = row["image_id"], row["class_index"]
            if class_index not in shown.get(image_id, ()) or row["class_name"] != name_of(class_index):
                continue
            picture = pictures[image_id]
            if (row["sha256"], row["rotation_deg"]) == (picture.sha256, picture.rotation_deg or 0):
                found = _Located(row["localizer"], row["area_share"], row["peak"])
                located.setdefault(image_id, {})[class_index] = found
        n_lacking = sum(located.get(image_id, {}).keys() != classes for image_id, classes in shown.items())
        if n_lacking:
            announce(
                f"masks: {n_lacking:,} of {len(shown):,} pictures lack those of some classes that are shown, "
                "which tells them from the rest: run 'localize' again"
            )
        return cls(workspace, located)

    def has(self, image_id: str) -> bool:
        """Return whether there is a mask of this picture."""
        return image_id in self._located

    def of(self, item: ReviewItem) -> list[dict[str, Any]]:
        """Return, as JSON values and in the order of the classes shown, what there is of one picture."""
        located = self._located.get(item.image_id, {})
        found = []
        for class_index in item.shown_classes:
            known = located.get(class_index)
            if known is None:
                continue
            image = self._read_shard(known.localizer, MaskStore.shard_of(item.image_id)).get(item.image_id)
            if image is not None and class_index in image.masks:
                png = base64.b64encode(image.masks[class_index]).decode()
                found.append(
                    {"class_index": class_index, "png": png, "area_share": known.area_share, "peak": known.peak}
                )
        return found

    def _shard(self, localizer: str, shard: int) -> dict[str, MaskedImage]:
        return MaskStore(self._workspace, localizer).read_shard(shard)
