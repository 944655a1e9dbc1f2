"""Builds the label map: ``python -m curation.label_map.build --help``.

An Open Images label means an ImageNet class where its name, normalised, is a name of the class's WordNet sense and
of no other noun sense, and no other label has this name; or where ``reviews.csv`` says so, with a reason. A plural
counts as its singular. A label whose only sense is a kind of one class (a hyponym) is ``narrower``: seeing it is
seeing the class, its absence says nothing. Everything else that shares a name with a class is written to
``refused.csv`` with the reason. Homonyms are thus out until a review lets them in.
"""

import argparse
import csv
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from curation.label_map.read import MAP_COLUMNS, MAP_PATH
from curation.label_map.wordnet import Nouns, normalised, read_nouns
from manifests.durable import replacing
from manifests.errors import InputError, OpenImageOError

REVIEWS_PATH = Path(__file__).parent / "reviews.csv"
REFUSED_PATH = Path(__file__).parent / "refused.csv"
REFUSED_COLUMNS = ("mid", "label_name", "wnids", "reason")

# In this order: the first ending that fits and gives a known name counts.
_PLURAL_ENDINGS = (("ies", "y"), ("ches", "ch"), ("shes", "sh"), ("xes", "x"), ("sses", "ss"), ("s", ""))


@dataclass(frozen=True)
class Review:
    """What a reviewer ruled: ``accept`` or ``refuse``, which class where there are several, and why."""

    decision: str
    wnid: str
    reason: str


@dataclass(frozen=True)
class Match:
    """The classes whose WordNet sense has the name of a label, or of something that the label is a kind of."""

    relation: str
    found_by: str
    senses: list[str]
    classes: list[str]


def match_label(name: str, nouns: Nouns, classes: Iterable[str]) -> Match | None:
    """Return the classes that a label's name leads to, None where there are none."""
    wanted = set(classes)
    found_by, senses = "name", nouns.senses(name)
    if not senses:
        found_by, senses = "plural of a name", _singular_senses(normalised(name), nouns)
    same = [wnid for wnid in senses if wnid in wanted]
    if same:
        return Match("same", found_by, senses, same)
    if len(senses) == 1 and (above := sorted(nouns.all_above(senses[0]) & wanted)):
        return Match("narrower", found_by, senses, above)
    return None


def _singular_senses(name: str, nouns: Nouns) -> list[str]:
    for plural, singular in _PLURAL_ENDINGS:
        if name.endswith(plural) and (senses := nouns.senses(name.removesuffix(plural) + singular)):
            return senses
    return []


def build_map(
    labels: Sequence[tuple[str, str]], nouns: Nouns, classes: Sequence[str], reviews: Mapping[str, Review]
) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
    """Return the rows of the map and the refused ones, both in the order of names, then MIDs.

    Parameters
    ----------
    labels : sequence of (MID, name)
        The labels of Open Images.
    nouns : Nouns
        WordNet 3.0.
    classes : sequence of str
        The WordNet ids of ImageNet's classes in torchvision's order.
    reviews : mapping of MID to Review
        Rulings; each must be on a label that shares a name with a class.

    Raises
    ------
    InputError
        A review is on another label, or names a class that the label's name does not lead to.
    """
    n_labels = Counter(normalised(name) for _, name in labels)
    kept: list[tuple[str, ...]] = []
    refused: list[tuple[str, ...]] = []
    unused = set(reviews)
    for mid, name in sorted(labels, key=lambda label: (normalised(label[1]), label[0])):
        match = match_label(name, nouns, classes)
        if match is None:
            continue
        unused.discard(mid)
        wnid, reason = _ruling(match, reviews.get(mid), n_labels[normalised(name)], f"{mid} {name}")
        if wnid is None:
            refused.append((mid, name.strip(), " ".join(match.classes), reason))
            continue
        class_name = nouns.synsets[wnid].names[0]
        evidence = f"{match.found_by} of {match.senses[0] if match.relation == 'narrower' else wnid}; {reason}"
        kept.append((mid, name.strip(), wnid, str(classes.index(wnid)), class_name, match.relation, evidence))
    if unused:
        raise InputError(f"reviews.csv: {min(unused)} is no label that shares a name with a class: delete its row")
    return kept, refused


def _ruling(match: Match, review: Review | None, n_labels: int, label: str) -> tuple[str | None, str]:
    """Return the class, None where the label is refused, and the reason."""
    if review is not None and review.decision == "refuse":
        return None, f"reviewed: {review.reason}"
    if review is not None:
        chosen = [wnid for wnid in match.classes if review.wnid in ("", wnid)]
        if len(chosen) != 1:
            raise InputError(
                f"reviews.csv: {label}: expected one of {', '.join(match.classes)} in the column wnid"
            )
        return chosen[0], f"reviewed: {review.reason}"
    if n_labels > 1:
        return None, f"the name of {n_labels} labels"
    if len(match.classes) > 1:
        return None, f"leads to {len(match.classes)} classes"
    if len(match.senses) > 1:
        return None, f"{len(match.senses)} senses in WordNet, and no ruling which of them the label means"
    if match.relation == "narrower":
        return match.classes[0], "its only sense, a kind of the class"
    return match.classes[0], "its only sense"


def read_reviews(path: Path) -> dict[str, Review]:
    """Return the rulings of a ``reviews.csv`` by MID.

    Raises
    ------
    InputError
        A row has no known decision or no reason, or a MID stands twice.
    """
    reviews: dict[str, Review] = {}
    for number, row in enumerate(_dicts(path), start=2):
        if row["decision"] not in ("accept", "refuse") or not row["reason"] or row["mid"] in reviews:
            raise InputError(f"{path}, line {number}: expected a MID once, accept or refuse, and a reason")
        reviews[row["mid"]] = Review(row["decision"], row["wnid"], row["reason"])
    return reviews


def _dicts(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        yield from csv.DictReader(stream, strict=True)


def _write(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the map from files on disk; return the exit code."""
    parser = argparse.ArgumentParser(description="Build the map from Open Images labels to ImageNet classes.")
    parser.add_argument("--class-descriptions", type=Path, required=True, help="Open Images' CSV of MID and name")
    parser.add_argument("--nouns", type=Path, required=True, help="WordNet 3.0's data.noun (Debian: wordnet-base)")
    parser.add_argument("--synsets", type=Path, required=True, help="timm's data/_info/imagenet_synsets.txt")
    parser.add_argument("--reviews", type=Path, default=REVIEWS_PATH)
    parser.add_argument("--out", type=Path, default=MAP_PATH)
    parser.add_argument("--refused", type=Path, default=REFUSED_PATH)
    options = parser.parse_args(arguments)
    try:
        with options.class_descriptions.open(encoding="utf-8-sig", newline="") as stream:
            labels = [(mid, name) for mid, name in csv.reader(stream, strict=True) if mid.startswith("/")]
        classes = options.synsets.read_text(encoding="utf-8").split()
        kept, refused = build_map(labels, read_nouns(options.nouns), classes, read_reviews(options.reviews))
    except (OpenImageOError, OSError, ValueError, csv.Error) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    _write(options.out, MAP_COLUMNS, kept)
    _write(options.refused, REFUSED_COLUMNS, refused)
    n_classes = len({row[2] for row in kept})
    print(f"label map: {len(kept)} labels of {n_classes} classes, {len(refused)} labels refused")
    return 0


if __name__ == "__main__":
    sys.exit(main())
