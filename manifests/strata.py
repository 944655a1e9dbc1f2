"""Strata of a set: how risky the screen found a picture, and what Open Images says it shows."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

_THIRDS = ("low", "middle", "high")
_LEAST_SHARE = 0.01
"""Labels of fewer screened images than this are one stratum: a draw cannot be balanced over single images."""

_UNKNOWN, _OTHER = "unknown", "other"


def risk_thirds(risks: Mapping[str, float | None]) -> dict[str, str]:
    """Return for each image the third that its risk lies in, or ``unknown``; equal risks go by image id.

    The thirds are those of all images given. For a manifest these are all that were to be reviewed, so that a
    picture keeps its stratum while verdicts come in.
    """
    known = sorted((risk, image_id) for image_id, risk in risks.items() if risk is not None)
    thirds = {image_id: _THIRDS[3 * place // len(known)] for place, (_, image_id) in enumerate(known)}
    return {image_id: thirds.get(image_id, _UNKNOWN) for image_id in risks}


def main_labels(labels: pa.Table, image_ids: Sequence[str]) -> dict[str, str]:
    """Return for each image that has labels the first: people's before classifiers', the surest, then by MID.

    A confidence of 0 says that the thing is not there.

    Parameters
    ----------
    labels : pyarrow.Table
        By `schema.LABELS`.
    image_ids : sequence of str
        The images asked for.
    """
    wanted = pc.is_in(labels.column("image_id"), value_set=pa.array(image_ids, pa.string()))
    present = labels.filter(pc.and_(wanted, pc.greater(labels.column("confidence"), 0)))
    # "human" sorts before "machine".
    directions = {
        "image_id": "ascending",
        "source": "ascending",
        "confidence": "descending",
        "label_mid": "ascending",
    }
    ordered = present.sort_by(list(directions.items())).select(["image_id", "label_mid"]).to_pydict()
    first: dict[str, str] = {}
    for image_id, label in zip(ordered["image_id"], ordered["label_mid"], strict=True):
        first.setdefault(image_id, label)
    return first


def strata(risks: Mapping[str, float | None], labels: Mapping[str, str] | None) -> dict[str, str]:
    """Return the stratum of each image of `risks`, such as ``risk=low`` or ``risk=low label=/m/0c9ph5``.

    Parameters
    ----------
    risks : mapping
        Image id to risk, of all screened images.
    labels : mapping, optional
        Image id to label, where labels are known.
    """
    thirds = risk_thirds(risks)
    if labels is None:
        return {image_id: f"risk={third}" for image_id, third in thirds.items()}
    common = _common_labels(labels.get(image_id) for image_id in risks)
    shown = {image_id: _shown(labels.get(image_id), common) for image_id in risks}
    return {image_id: f"risk={third} label={shown[image_id]}" for image_id, third in thirds.items()}


def _common_labels(labels: Iterable[str | None]) -> frozenset[str]:
    counts = Counter(labels)
    return frozenset(one for one, n in counts.items() if one is not None and n >= _LEAST_SHARE * counts.total())


def _shown(label: str | None, common: frozenset[str]) -> str:
    if label is None:
        return _UNKNOWN
    return label if label in common else _OTHER
