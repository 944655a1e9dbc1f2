"""Which of the agreed images enter a manifest, and for what reason each of the others does not."""

import functools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from manifests import schema
from manifests.draws import DEFAULT_SPLITS, check_splits, stratified_draw
from manifests.errors import InputError
from manifests.licences import licence_key, licence_keys

Records = dict[str, dict[str, Any]]
"""Image id to what is known of it, by the columns of `schema.MANIFEST`."""


@dataclass(frozen=True)
class BuildRules:
    """How a manifest is chosen from the agreed images; the defaults take all of them.

    Attributes
    ----------
    licences : tuple of str
        Take only images under these, by address or short name; empty: all.
    min_side_px : int, optional
        Least length of the shorter side.
    max_aspect : float, optional
        Largest ratio of the longer to the shorter side, inclusive.
    exclude_quality : tuple of str
        Leave out what has these flags, of `schema.QUALITY_CHECKS`.
    max_per_group : int, optional
        Most images of one group of duplicates; its representative first, then by id.
    target : int, optional
        Draw so many, each stratum's share as in all.
    splits : mapping
        Share of each split but ``test``, which is the rest.
    seed : int
        Of the draw and the splits.

    Raises
    ------
    InputError
        A value is out of range, or a word is not known.
    """

    licences: tuple[str, ...] = ()
    min_side_px: int | None = None
    max_aspect: float | None = None
    exclude_quality: tuple[str, ...] = ()
    max_per_group: int | None = None
    target: int | None = None
    splits: Mapping[str, float] = field(default_factory=lambda: dict(DEFAULT_SPLITS))
    seed: int = 0

    def __post_init__(self) -> None:
        licence_keys(self.licences)
        check_splits(self.splits)
        strange = sorted(set(self.exclude_quality) - set(schema.QUALITY_CHECKS))
        if strange:
            raise InputError(
                f"--exclude-quality: expected some of {', '.join(schema.QUALITY_CHECKS)}, found {strange[0]!r}"
            )
        for flag, value, least in (
            ("--min-side", self.min_side_px, 1),
            ("--max-aspect", self.max_aspect, 1),
            ("--max-per-duplicate-group", self.max_per_group, 1),
            ("--target", self.target, 1),
        ):
            # A NaN is not at least anything.
            if value is not None and not value >= least:
                raise InputError(f"{flag}: expected at least {least}, found {value}")

    @property
    def selects(self) -> bool:
        """Whether any image can be left out."""
        return bool(
            self.licences or self.min_side_px or self.max_aspect or self.exclude_quality or self.max_per_group
            or self.target
        )  # fmt: skip

    def as_json(self) -> dict[str, Any]:
        """Return the rules as the header states them: what does not depend on the order of flags."""
        return {
            "licences": sorted(licence_keys(self.licences)),
            "min_side_px": self.min_side_px,
            "max_aspect": self.max_aspect,
            "exclude_quality": sorted(set(self.exclude_quality)),
            "max_per_group": self.max_per_group,
            "target": self.target,
            "splits": dict(sorted(self.splits.items())),
            "seed": self.seed,
        }


@dataclass(frozen=True)
class Evidence:
    """What the filters ask besides the records.

    Attributes
    ----------
    retired : mapping
        Image id to tombstone, or whatever stands for it.
    flags : mapping, optional
        Image id to quality flags; None where quality was not looked at.
    duplicate_of : mapping
        Image id of a copy to that of the picture that it shows again.
    stratum_of : mapping
        Image id to stratum, where there are strata.
    """

    retired: Mapping[str, Any] = field(default_factory=dict)
    flags: Mapping[str, frozenset[str]] | None = None
    duplicate_of: Mapping[str, str] = field(default_factory=dict)
    stratum_of: Mapping[str, str] = field(default_factory=dict)

    @functools.cached_property
    def group_of(self) -> dict[str, str]:
        """Image id to the smallest id of its group of duplicates, for all pictures of a group."""
        return grouped(self.duplicate_of)


def grouped(pairs: Mapping[str, str]) -> dict[str, str]:
    """Return for each image of `pairs` the smallest id among all that pairs link it with, however far."""
    parent: dict[str, str] = {}

    def root(image_id: str) -> str:
        path = []
        while (above := parent.setdefault(image_id, image_id)) != image_id:
            path.append(image_id)
            image_id = above
        parent.update(dict.fromkeys(path, image_id))
        return image_id

    for pair in pairs.items():
        low, high = sorted(map(root, pair))
        parent[high] = low
    return {image_id: root(image_id) for image_id in list(parent)}


def select(records: Records, rules: BuildRules, evidence: Evidence) -> tuple[Records, dict[str, str]]:
    """Return the records that enter, and the reason of each that does not: the first filter that it fails.

    Raises
    ------
    InputError
        Fewer images are left than are to be drawn.
    """
    reasons: dict[str, str] = {}
    allowed = licence_keys(rules.licences)
    for image_id, record in records.items():
        reason = _reason(image_id, record, rules, evidence, allowed)
        if reason is not None:
            reasons[image_id] = reason
    if rules.max_per_group is not None:
        for image_id in _over_the_cap(records.keys() - reasons.keys(), evidence, rules.max_per_group):
            reasons[image_id] = "duplicate_group"
    if rules.target is not None:
        stratum_of = {
            image_id: evidence.stratum_of.get(image_id, "") for image_id in records if image_id not in reasons
        }
        drawn = stratified_draw(stratum_of, rules.target, rules.seed)
        reasons |= dict.fromkeys(stratum_of.keys() - drawn, "not_drawn")
    return {one: record for one, record in records.items() if one not in reasons}, reasons


def reason_counts(reasons: Iterable[str]) -> dict[str, int]:
    """Return how many images were left out for each reason, by its name."""
    return dict(sorted(Counter(reasons).items()))


def _reason(
    image_id: str, record: Mapping[str, Any], rules: BuildRules, evidence: Evidence, allowed: frozenset[str]
) -> str | None:
    if image_id in evidence.retired:
        return "retired"
    return (
        _licence_reason(record["license_url"], allowed)
        or _size_reason(record, rules)
        or _quality_reason(image_id, rules, evidence)
    )


def _licence_reason(license_url: str | None, allowed: frozenset[str]) -> str | None:
    if not allowed:
        return None
    if license_url is None:
        return "licence_unknown"
    return None if licence_key(license_url) in allowed else "licence"


def _size_reason(record: Mapping[str, Any], rules: BuildRules) -> str | None:
    if rules.min_side_px is None and rules.max_aspect is None:
        return None
    width_px, height_px = record["width_px"], record["height_px"]
    if not width_px or not height_px:
        return "size_unknown"
    short, long = sorted((width_px, height_px))
    if rules.min_side_px is not None and short < rules.min_side_px:
        return "min_side"
    return "max_aspect" if rules.max_aspect is not None and long > rules.max_aspect * short else None


def _quality_reason(image_id: str, rules: BuildRules, evidence: Evidence) -> str | None:
    if not rules.exclude_quality or evidence.flags is None:
        return None
    if image_id not in evidence.flags:
        return "quality_unknown"
    found = evidence.flags[image_id]
    return next((f"quality_{check}" for check in schema.QUALITY_CHECKS
                 if check in rules.exclude_quality and check in found), None)  # fmt: skip


def _over_the_cap(image_ids: Iterable[str], evidence: Evidence, most: int) -> list[str]:
    groups: defaultdict[str, list[str]] = defaultdict(list)
    group_of = evidence.group_of
    for image_id in image_ids:
        groups[group_of.get(image_id, image_id)].append(image_id)
    return [
        image_id
        for members in groups.values()
        for image_id in sorted(members, key=lambda one: (one in evidence.duplicate_of, one))[most:]
    ]
