"""What is in a set, as Open Images' people and classifiers say it."""

from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc

from manifests import schema
from manifests.report.parts import Folded, Part, Table, Text, Words

_MOST_WORDS = 120
_MOST_ROWS = 1000


def contents_parts(labels: pa.Table | None, records: pa.Table) -> list[Part]:
    """Return the cloud of the labels of a set's images, and a folded table of all of them.

    A label counts once an image, by whomever it was given; one of confidence 0 says that the thing is not there.

    Parameters
    ----------
    labels : pyarrow.Table or None
        By `schema.LABELS`; None where `labels` has not been run.
    records : pyarrow.Table
        By `schema.MANIFEST`.
    """
    if labels is None:
        text = "What the pictures show is not known here: `python cli.py labels` collects Open Images' labels."
        return [Text(text, is_quiet=True)]
    of_set = pc.is_in(labels.column("image_id"), value_set=records.column("image_id").combine_chunks())
    present = labels.filter(pc.and_(of_set, pc.greater(labels.column("confidence"), 0)))
    if present.num_rows == 0:
        return [Text("None of its images has a label of Open Images.", is_quiet=True)]
    names = label_names(present)
    by_any = _n_images(present)
    by_source = {
        source: _n_images(present.filter(pc.equal(present.column("source"), source)))
        for source in schema.LABEL_SOURCES
    }
    ordered = sorted(by_any, key=lambda mid: (-by_any[mid], names[mid], mid))
    n_labelled = len(pc.unique(present.column("image_id")))
    shown = ordered[:_MOST_WORDS]
    caption = (
        f"What is in it: labels of Open Images on {n_labelled:,} of {records.num_rows:,} images, by the number "
        "of images"
        + (f"; the {len(shown):,} most frequent of {len(ordered):,}." if len(shown) < len(ordered) else ".")
    )
    rows = [
        (names[mid], mid, f"{by_any[mid]:,}", *(f"{by_source[source][mid]:,}" for source in schema.LABEL_SOURCES))
        for mid in ordered[:_MOST_ROWS]
    ]
    table = Table(
        ("Label", "MID", "Images", "by people", "by a classifier"), rows,
        "Images a label" if len(rows) == len(ordered) else f"The first {len(rows):,} of {len(ordered):,} labels",
        frozenset({2, 3, 4}),
    )  # fmt: skip
    words = Words([(names[mid], by_any[mid]) for mid in shown], caption)
    return [words, Folded(f"All of these labels as a table: {len(ordered):,}", [table])]


def label_names(labels: pa.Table) -> dict[str, str]:
    """Return the name of each label by its MID; the MID itself where it has none."""
    pairs = labels.select(["label_mid", "label_name"]).group_by(["label_mid", "label_name"]).aggregate([])
    columns = pairs.to_pydict()
    named = zip(columns["label_mid"], columns["label_name"], strict=True)
    return {mid: name or mid for mid, name in sorted(named, key=lambda pair: (pair[0], pair[1] or ""))}


def _n_images(labels: pa.Table) -> Counter[str]:
    pairs = labels.select(["label_mid", "image_id"]).group_by(["label_mid", "image_id"]).aggregate([])
    found = pc.value_counts(pairs.column("label_mid").combine_chunks())
    return Counter({one["values"]: one["counts"] for one in found.to_pylist()})
