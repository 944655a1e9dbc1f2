"""The section of labels: in which candidates people have verified a class of ImageNet, before any is looked at."""

import csv
from collections import Counter

import pyarrow.compute as pc

from curation.label_map.read import MAP_PATH
from curation.labels import VerifiedClasses, verified_classes
from curation.report.charts import bars
from manifests import schema
from manifests.report.parts import Chart, Part, Section, Table, Text
from manifests.workspace import Workspace

KEY, TITLE = "labels", "Labels"
_MOST_CLASSES = 20


def labels_section(workspace: Workspace) -> Section:
    """Return the section: labels by source, and candidates with verified classes of ImageNet."""
    if not workspace.has(schema.LABELS):
        missing = "No labels have been read: `python cli.py labels --human FILE --class-names FILE` does it."
        return Section(KEY, TITLE, missing=missing)
    verified = verified_classes(workspace)
    present = {image_id for image_id, classes in verified.items() if classes.present}
    parts: list[Part] = [_summary(workspace, present, len(verified)), *_sources_tables(workspace)]
    if present:
        parts.append(_classes_chart(verified))
    return Section(KEY, TITLE, parts)


def _summary(workspace: Workspace, present: set[str], n_verified: int) -> Text:
    text = (
        f"In {len(present):,} candidates people have verified that an object of an ImageNet class is there: these "
        f"are known to be in-distribution. In {n_verified - len(present):,} more they have only verified that one "
        "or another class is not there."
    )
    if workspace.has(schema.SCREEN):
        screened = workspace.read(schema.SCREEN).select(["image_id", "status"])
        under_review = screened.filter(pc.equal(screened.column("status"), "review")).column("image_id")
        n_review = len(present.intersection(under_review.to_pylist()))
        text += f" Of the former, {n_review:,} are under review; annotators see the verified class first."
    return Text(text)


def _sources_tables(workspace: Workspace) -> list[Table]:
    counts = workspace.read_record("labels", "counts")
    kinds = (
        ("human", "labels verified by people"),
        ("machine", "labels by a classifier"),
        ("of_imagenet_classes", "labels that mean a class of ImageNet"),
        ("without_name", "labels without a name"),
        ("of_other_images", "labels of other images, passed over"),
    )
    rows = [(name, f"{counts[key]:,}") for key, name in kinds if key in counts]
    table = Table(("labels", "rows"), rows, "What the label files hold.", numeric=frozenset({1}))
    return [table] if rows else []


def _classes_chart(verified: dict[str, VerifiedClasses]) -> Chart:
    names = _class_names()
    counts = Counter(class_index for classes in verified.values() for class_index in classes.present)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = [(names[class_index], n) for class_index, n in ordered[:_MOST_CLASSES]]
    which = f"The {len(shown)} commonest of {len(ordered):,}" if len(shown) < len(ordered) else f"All {len(shown)}"
    return bars("labels-classes", shown, f"{which} classes that people verified, by candidates that show them.")


def _class_names() -> dict[int, str]:
    """Return the names of the classes that a label means, by class index: of these, the reviewed map has all."""
    with MAP_PATH.open(encoding="utf-8", newline="") as stream:
        return {int(row["class_index"]): row["class_name"] for row in csv.DictReader(stream, strict=True)}
