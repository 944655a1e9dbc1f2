"""The figures of `bench annotate`: what was measured at one size, and its goal."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from manifests.text_table import aligned

GOALS_S = {
    "next_item": 0.005, "dataset_s": 120, "panel_s": 5, "key_to_picture": 0.05, "key_to_picture_closed": 0.05,
    "key_to_picture_opened": 0.05, "key_to_durable": 0.15, "curator_dataset_s": 120, "first_grid_s": 5,
}  # fmt: skip
"""Seconds at most, by the name of the figure: of what was timed again and again, its 95th percentile."""

_ROWS = {
    "queue_s": "queue opened, s",
    "next_item": "next item, ms",
    "dataset_s": "annotators' dataset, s",
    "panel_s": "link to first picture, s",
    "key_to_picture": "key to next picture, ms",
    "key_to_picture_closed": "  masks there, not opened",
    "key_to_picture_opened": "  masks opened every time",
    "key_to_mask": "key to mask, ms",
    "key_to_durable": "key to durable, ms",
    "fsync": "floor: fsync of a line, ms",
    "floor": "floor: operator that stores nothing, ms",
    "curator_dataset_s": "curator's dataset, s",
    "first_grid_s": "link to first grid, s",
}
"""What the table calls each figure, in its order."""

_MASKS_NOTE = (
    "with masks, opened or not, each picture is on screen for half a second; without, for as little as may be"
)


@dataclass(frozen=True)
class Times:
    """How long something took, again and again: median and 95th percentile, in seconds."""

    median_s: float
    p95_s: float

    @classmethod
    def of(cls, durations_s: Sequence[float]) -> "Times":
        """Return the figures of at least two durations."""
        return cls(statistics.median(durations_s), statistics.quantiles(durations_s, n=20, method="inclusive")[-1])


@dataclass(frozen=True)
class BrowserFigures:
    """What a user in Chromium waits for.

    Attributes
    ----------
    dataset_s : float
        The annotators' dataset, built from nothing.
    panel_s : float
        From the link to the first picture in the panel.
    key_to_picture, key_to_durable : Times
        From a key press to the frame that shows the next picture, decoded; to the answer acknowledged.
    floor : Times
        An operator of ours that stores nothing, asked by the page.
    curator_dataset_s : float
        The curator's, with all fields, similarity and map.
    first_grid_s : float
        From the link to the first picture of the curator's grid.
    """

    dataset_s: float
    panel_s: float
    key_to_picture: Times
    key_to_durable: Times
    floor: Times
    curator_dataset_s: float
    first_grid_s: float


@dataclass(frozen=True)
class MaskTimes:
    """What an annotator waits for where pictures have evidence masks.

    Attributes
    ----------
    key_to_picture_closed : Times
        As `BrowserFigures.key_to_picture`, with masks there that nobody opens. To be compared with
        `key_to_picture_opened`: each picture is on screen longer than where nothing is measured of masks, and
        the browser has more time to get the next one ready.
    key_to_mask : Times
        From the key that opens the masks of a picture to the frame that shows one, asked of the server anew.
    key_to_picture_opened : Times
        With the masks of every picture opened before it is answered.
    """

    key_to_picture_closed: Times
    key_to_mask: Times
    key_to_picture_opened: Times


@dataclass(frozen=True)
class SizeFigures:
    """All that was measured with one number of candidates.

    Attributes
    ----------
    n_rows : int
        Candidates under review.
    queue_s : float
        To open a queue, with another annotator's log for half of them.
    next_item : Times
        To take an answer off the queue and find the next pictures, without the disk.
    fsync : Times
        One line of a log written and on disk: the floor of any durable answer.
    browser : BrowserFigures
        In Chromium.
    masks : MaskTimes, optional
        Where they were asked for.
    """

    n_rows: int
    queue_s: float
    next_item: Times
    fsync: Times
    browser: BrowserFigures
    masks: MaskTimes | None = None

    @property
    def by_name(self) -> dict[str, float | Times]:
        """Its figures by the names of their attributes."""
        of_masks = {} if self.masks is None else vars(self.masks)
        own = {"queue_s": self.queue_s, "next_item": self.next_item, "fsync": self.fsync}
        return {**own, **vars(self.browser), **of_masks}


def annotate_table(results: Sequence[SizeFigures]) -> str:
    """Return the figures as text, one column a size, each row with its goal."""
    found = [one.by_name for one in results]
    rows = [["", *(f"{one.n_rows:,}" for one in results), "goal"]]
    rows += [
        [title, *(_cell(of_size[name]) for of_size in found), _goal(name, found[0][name])]
        for name, title in _ROWS.items()
        # What was measured of masks, if it was: for all sizes or for none.
        if name in found[0]
    ]
    notes = ["", _MASKS_NOTE] if results[0].masks is not None else []
    heading = "candidates under review; median / p95 where two figures stand"
    return "\n".join([heading, "", *aligned(rows), *notes])


def annotate_data(results: Sequence[SizeFigures]) -> dict[str, Any]:
    """Return the figures and the goals as JSON values."""
    sizes = [
        {"n_rows": one.n_rows, **{name: _json(value) for name, value in one.by_name.items()}} for one in results
    ]
    return {"sizes": sizes, "goals_s": GOALS_S}


def _json(figure: float | Times) -> Any:
    return asdict(figure) if isinstance(figure, Times) else figure


def _cell(figure: float | Times) -> str:
    if isinstance(figure, Times):
        return f"{1000 * figure.median_s:.2f} / {1000 * figure.p95_s:.2f}"
    return f"{figure:.2f}"


def _goal(name: str, figure: float | Times) -> str:
    if name not in GOALS_S:
        return ""
    return f"p95 under {1000 * GOALS_S[name]:g}" if isinstance(figure, Times) else f"{GOALS_S[name]:g}"
