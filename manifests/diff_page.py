"""The differences of two versions as one HTML page, with a thumbnail of every picture that is at hand."""

from collections.abc import Mapping, Sequence
from typing import Any

from manifests import schema
from manifests.diff import Difference, change_counts
from manifests.frozen import Manifest
from manifests.page import escaped, page
from manifests.thumbnails import NO_PICTURE, data_address, thumbnail
from manifests.workspace import Workspace

_MOST_CARDS = 300
"""Of each kind; a page of thousands of pictures opens in no browser. The table has all."""

_HEADINGS = {"entered": "Entered", "left": "Left", "moved": "Moved to another split", "changed": "Changed"}


def diff_page(
    before: Manifest, after: Manifest, differences: Sequence[Difference], pictures_of: Workspace | None
) -> str:
    """Return the page: counts, then a card an image with its thumbnail, title, author and reason.

    Parameters
    ----------
    before, after : Manifest
        The versions.
    differences : sequence of Difference
        From `manifest_diff`.
    pictures_of : Workspace, optional
        Where the pictures lie.
    """
    rotations = _rotations(pictures_of)
    records = {row["image_id"]: row for manifest in (before, after) for row in manifest.records.to_pylist()}
    body = [_summary(before, after, differences)]
    for change, heading in _HEADINGS.items():
        those = [one for one in differences if one.change == change]
        if those:
            body.append(f"<h2>{heading}: {len(those):,}</h2>")
            body.append('<div class="cards">')
            body += [
                _card(one, records[one.image_id], _thumbnail(one.image_id, pictures_of, rotations))
                for one in those[:_MOST_CARDS]
            ]
            body.append("</div>")
        if len(those) > _MOST_CARDS:
            body.append(f'<p class="quiet">and {len(those) - _MOST_CARDS:,} more; the table has all</p>')
    return page(f"{_name(before)} to {_name(after)}", "\n".join(body))


def _summary(before: Manifest, after: Manifest, differences: Sequence[Difference]) -> str:
    rows = [
        f'<tr><th>{escaped(_name(one))}</th><td class="number">{one.records.num_rows:,} images</td>'
        f"<td><code>{escaped(str(one.header['content_sha256']))}</code></td></tr>"
        for one in (before, after)
    ]
    counts = ", ".join(f"{n:,} {word}" for word, n in change_counts(differences).items())
    return f"<table>{''.join(rows)}</table>\n<p>{counts}</p>"


def _rotations(pictures_of: Workspace | None) -> dict[str, int | None]:
    if pictures_of is None or not pictures_of.has(schema.CANDIDATES):
        return {}
    columns = pictures_of.read(schema.CANDIDATES).select(["image_id", "rotation_deg"]).to_pydict()
    return dict(zip(columns["image_id"], columns["rotation_deg"], strict=True))


def _card(one: Difference, record: Mapping[str, Any], thumbnail: str) -> str:
    splits = " &rarr; ".join(escaped(split) for split in (one.split_before, one.split_after) if split is not None)
    credit = " by ".join(escaped(record[word]) for word in ("title", "author") if record[word])
    return (
        f'<div class="card">{thumbnail}'
        f'<code>{escaped(one.image_id)}</code> <span class="quiet">{splits}</span><br>'
        f'{escaped(one.why)}<br><span class="quiet">{credit}</span></div>'
    )


def _thumbnail(image_id: str, pictures_of: Workspace | None, rotations: Mapping[str, int | None]) -> str:
    found: bytes | str = NO_PICTURE
    if pictures_of is not None:
        path = pictures_of.root / pictures_of.relative_image_path(image_id)
        found = thumbnail(path, rotations.get(image_id))
    if isinstance(found, str):
        return f'<span class="blank">{escaped(found)}</span>'
    return f'<img alt="{escaped(image_id)}" loading="lazy" src="{data_address(found)}">'


def _name(manifest: Manifest) -> str:
    return f"{manifest.name}-{manifest.header['version']}"
