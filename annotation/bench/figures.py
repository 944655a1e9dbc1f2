"""The figures of `bench annotate`: what was measured at one size, and its goal."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

_KEY_TO_PICTURE = "key to next picture, ms"
_PICTURE_GOAL = "p95 under 50"
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


def annotate_table(results: Sequence[SizeFigures]) -> str:
    """Return the figures as text, one column a size, each row with its goal."""
    head = ["", *(f"{one.n_rows:,}" for one in results), "goal"]
    rows = [
        [name, *(figure(one) for one in results), goal]
        for name, figure, goal in (
            ("queue opened, s", lambda one: f"{one.queue_s:.2f}", ""),
            ("next item, ms", lambda one: _ms(one.next_item), "under 5"),
            ("annotators' dataset, s", lambda one: f"{one.browser.dataset_s:.1f}", "120"),
            ("link to first picture, s", lambda one: f"{one.browser.panel_s:.1f}", "5"),
            (_KEY_TO_PICTURE, lambda one: _ms(one.browser.key_to_picture), _PICTURE_GOAL),
            ("key to durable, ms", lambda one: _ms(one.browser.key_to_durable), "p95 under 150"),
            ("floor: fsync of a line, ms", lambda one: _ms(one.fsync), ""),
            ("floor: operator that stores nothing, ms", lambda one: _ms(one.browser.floor), ""),
            ("curator's dataset, s", lambda one: f"{one.browser.curator_dataset_s:.1f}", "120"),
            ("link to first grid, s", lambda one: f"{one.browser.first_grid_s:.1f}", "5"),
        )
    ]
    place = 1 + next(place for place, row in enumerate(rows) if row[0] == _KEY_TO_PICTURE)
    mask_rows = _mask_rows(results)
    rows[place:place] = mask_rows
    widths = [max(len(row[place]) for row in [head, *rows]) for place in range(len(head))]
    lines = [
        "  ".join(
            [
                row[0].ljust(widths[0]),
                *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
            ]
        )
        for row in [head, *rows]
    ]
    notes = ["", _MASKS_NOTE] if mask_rows else []
    return "\n".join(["candidates under review; median / p95 where two figures stand", "", *lines, *notes])


def _mask_rows(results: Sequence[SizeFigures]) -> list[list[str]]:
    """Return what was measured with masks, if it was: for all sizes or for none."""
    found = [one.masks for one in results if one.masks is not None]
    if not found:
        return []
    return [
        ["  masks there, not opened", *(_ms(one.key_to_picture_closed) for one in found), _PICTURE_GOAL],
        ["  masks opened every time", *(_ms(one.key_to_picture_opened) for one in found), _PICTURE_GOAL],
        ["key to mask, ms", *(_ms(one.key_to_mask) for one in found), ""],
    ]


def _ms(times: Times) -> str:
    return f"{1000 * times.median_s:.2f} / {1000 * times.p95_s:.2f}"
