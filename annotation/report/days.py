"""Answers by day, or by a longer unit where there would be too many days to draw."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import numpy as np
import numpy.typing as npt

MOST_BINS = 45


@dataclass(frozen=True, eq=False)
class Bins:
    """Counts by unit of time.

    Attributes
    ----------
    unit : str
        ``day``, ``week``, ``month`` or ``year``.
    names : list of str
        Every unit from the first to the last with an answer: its first day, or its month, or its year.
    counts : dict of str to ndarray of int64
        By annotator, one a unit.
    """

    unit: str
    names: list[str]
    counts: dict[str, npt.NDArray[np.int64]]


def binned_days(times_by_name: Mapping[str, Sequence[str]]) -> Bins:
    """Return the counts of times, ISO 8601 in UTC, by the shortest unit of which there are at most `MOST_BINS`.

    Years may be more. There must be at least one time.
    """
    days_by_name = {
        name: Counter(datetime.fromisoformat(time).date() for time in times)
        for name, times in times_by_name.items()
    }
    days = set().union(*days_by_name.values())
    first, last = min(days), max(days)
    for unit in ("day", "week", "month", "year"):
        starts = _starts(unit, first, last)
        if len(starts) <= MOST_BINS or unit == "year":
            break
    place_of = {start: place for place, start in enumerate(starts)}
    counts = {name: np.zeros(len(starts), np.int64) for name in times_by_name}
    for name, n_by_day in days_by_name.items():
        for day, n in n_by_day.items():
            counts[name][place_of[_start(unit, day)]] += n
    ends_at = {"year": 4, "month": 7}.get(unit, 10)
    return Bins(unit, [start.isoformat()[:ends_at] for start in starts], counts)


def _starts(unit: str, first: date, last: date) -> list[date]:
    """Return the first day of every unit from that of `first` to that of `last`."""
    starts = [_start(unit, first)]
    longest = {"day": 1, "week": 7, "month": 31, "year": 366}[unit]
    while (following := _start(unit, starts[-1] + timedelta(days=longest))) <= last:
        starts.append(following)
    return starts


def _start(unit: str, day: date) -> date:
    if unit == "week":
        return day - timedelta(days=day.weekday())
    if unit == "month":
        return day.replace(day=1)
    return day.replace(month=1, day=1) if unit == "year" else day
