"""The section of copies: groups of one photograph, and candidates that are in another data set too."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from manifests import schema
from manifests.report.own_pictures import own_pictures
from manifests.report.parts import Card, CardPicture, Gallery, Part, Section, Table, Text
from manifests.workspace import Workspace

KEY, TITLE = "copies", "Duplicates and leaks"

MOST_CARDS = 60
"""Groups, and leaks, that are shown."""

_MOST_PICTURES = 6
"""Of a group side by side."""

Row = Mapping[str, Any]


def copies_section(workspace: Workspace) -> Section:
    """Return the section: duplicates and leaks, counted and side by side."""
    if not (workspace.has(schema.DUPLICATES) or workspace.has(schema.LEAKS)):
        missing = (
            "Nothing has been compared: `python cli.py duplicates` finds copies, as `screen` does too, and "
            "`python cli.py leaks --against FOLDER` pictures that are in another data set."
        )
        return Section(KEY, TITLE, missing=missing)
    return Section(KEY, TITLE, [*_duplicates(workspace), *_leaks(workspace)])


def _duplicates(workspace: Workspace) -> list[Part]:
    if not workspace.has(schema.DUPLICATES):
        return [Text("Copies within the candidates have not been looked for: `python cli.py duplicates`.")]
    rows = workspace.read(schema.DUPLICATES).to_pylist()
    if not rows:
        return [Text("No candidate is a copy of another.")]
    groups: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["duplicate_of"]].append(row)
    kinds = Counter(row["kind"] for row in rows)
    sizes = Counter(len(copies) + 1 for copies in groups.values())
    by_size = [(f"{size} pictures", f"{n:,}") for size, n in sorted(sizes.items())]
    # Where the two agree least, the judgement was closest.
    ordered = sorted(groups.items(), key=lambda item: (min(copy["agreement"] for copy in item[1]), item[0]))
    cards = _group_cards(workspace, ordered[:MOST_CARDS])
    return [
        Text(
            f"{len(rows):,} candidates are copies of one of {len(groups):,} others, which stand for them: "
            f"{kinds['bytes']:,} are equal in bytes, {kinds['pixels']:,} show the same photograph otherwise."
        ),
        Table(("group of", "groups"), by_size, "Groups by size, the kept picture included.", frozenset({1})),
        Gallery(
            "Groups of duplicates",
            cards,
            f"{len(cards):,} of {len(groups):,} groups, those whose pictures agree least first. The first picture "
            "of each is the one that stands for the group.",
        ),
    ]


def _group_cards(workspace: Workspace, groups: Sequence[tuple[str, Sequence[Row]]]) -> list[Card]:
    shown_of = {
        kept: sorted(copies, key=lambda row: (row["agreement"], row["image_id"]))[: _MOST_PICTURES - 1]
        for kept, copies in groups
    }
    wanted = {kept: [kept, *(row["image_id"] for row in shown)] for kept, shown in shown_of.items()}
    pictures = own_pictures(workspace, [image_id for ids in wanted.values() for image_id in ids])
    cards = []
    for kept, copies in groups:
        lines = [f"kept {kept}", *(f"{row['image_id']}: {_alike(row)}" for row in shown_of[kept])]
        n_more = len(copies) - len(shown_of[kept])
        more = [f"and {n_more:,} more"] if n_more else []
        cards.append(Card([pictures[image_id] for image_id in wanted[kept]], [*lines, *more]))
    return cards


def _leaks(workspace: Workspace) -> list[Part]:
    if not workspace.has(schema.LEAKS):
        return [Text("Not compared with other data sets yet: `python cli.py leaks --against FOLDER`.")]
    rows = workspace.read(schema.LEAKS).to_pylist()
    named = workspace.read_record("leaks", "details").get("sets", ())
    by_set: defaultdict[str, list[Row]] = defaultdict(list, {name: [] for name in named})
    for row in rows:
        by_set[row["against"]].append(row)
    cells = [
        (name, f"{len({row['image_id'] for row in own}):,}", *_kind_cells(own))
        for name, own in sorted(by_set.items())
    ]
    header = ("compared with", "candidates", "equal bytes", "same photograph", "same id")
    parts: list[Part] = [Table(header, cells, "Candidates that are in another set.", frozenset({1, 2, 3, 4}))]
    if rows:
        ordered = sorted(
            rows, key=lambda row: (row["agreement"] or 0.0, row["image_id"], row["against"], row["other"])
        )
        shown = ordered[:MOST_CARDS]
        pictures = own_pictures(workspace, [row["image_id"] for row in shown])
        cards = [_leak_card(pictures[row["image_id"]], row) for row in shown]
        caption = (
            f"{len(cards):,} of {len(rows):,} pairs, those that agree least first: the candidate, and beside it "
            "the picture of the other set where its file is at hand."
        )
        parts.append(Gallery("Leaks", cards, caption))
    return parts


def _kind_cells(rows: Sequence[Row]) -> tuple[str, ...]:
    counts = Counter(row["kind"] for row in rows)
    return tuple(f"{counts[kind]:,}" for kind in (*schema.DUPLICATE_KINDS, "id"))


def _leak_card(own: CardPicture, row: Row) -> Card:
    other = _other_picture(row)
    pictures = [own] if other is None else [own, other]
    lines = [f"{row['image_id']} is in {Path(row['against']).name}", f"there: {row['other']}", _alike(row)]
    return Card(pictures, lines)


def _other_picture(row: Row) -> CardPicture | None:
    """Return the picture of the other set, None where its file is not at hand, or the set is a list of ids."""
    folder = Path(row["against"])
    if row["kind"] == "id" or not folder.is_dir():
        return None
    other = Workspace(folder)
    if other.has(schema.DOWNLOADS):
        return CardPicture(folder / other.relative_image_path(row["other"]), row["other"])
    path = folder / row["other"]
    return CardPicture(path, row["other"]) if path.is_file() else None


def _alike(row: Row) -> str:
    """Return in words what the two pictures of a row have in common."""
    if row["kind"] == "id":
        return "by its id"
    if row["kind"] == "bytes":
        return "equal bytes"
    cosine = "" if row["similarity"] is None else f", cosine {row['similarity']:.3f}"
    return f"the same photograph: agreement {row['agreement']:.3f}, {row['bits']} of 64 bits differ{cosine}"
