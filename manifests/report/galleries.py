"""Galleries as HTML: short ones whole, of long ones the first page and, for the page's script, a list of all."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from manifests.page import escaped, is_web_address, linked, visible
from manifests.report.parts import Card, CardPicture, Gallery
from manifests.report.pictures import Shown, Source, source_of

_MOST_INLINE = 60
"""Cards of a gallery whose pictures lie in the page: some 10 kB each."""

_CARDS_OPEN = 12
"""Of those, the ones that are seen without asking: a reader who scrolls by must come to the next chapter soon."""

_CARDS_ON_PAGE = 48
"""Fills rows of 2, 3, 4 and 6 cards."""

_TURNS = (("first", "First"), ("previous", "Previous"), ("next", "Next"), ("last", "Last"))

CardData = tuple[list[list[Any]], list[str], str]
"""Pictures (name, thumbnail, problem, whole picture, turn), lines, and the address of the source."""


def is_long(gallery: Gallery) -> bool:
    """Return whether the pictures of `gallery` lie beside the page."""
    return len(gallery.cards) > _MOST_INLINE


def short_gallery(gallery: Gallery, shown: Mapping[Source, Shown], page_folder: Path) -> str:
    """Return a gallery whose pictures lie in the page.

    Parameters
    ----------
    gallery : Gallery
        What is shown.
    shown : mapping
        The address of each picture, by its source.
    page_folder : Path
        Where the page will lie: pictures below it can be seen whole.
    """
    cards = [_card_html(_card_data(card, shown, page_folder), "") for card in gallery.cards]
    first, others = cards[:_CARDS_OPEN], cards[_CARDS_OPEN:]
    folded = (
        f'<details class="more"><summary>The other {len(others)}</summary>\n'
        f'<div class="cards" tabindex="-1">\n{"".join(others)}</div></details>'
    )
    return f'<div class="cards" tabindex="-1">\n{"".join(first)}</div>{folded if others else ""}'


def long_gallery(gallery: Gallery, shown: Mapping[Source, Shown], page_folder: Path, pictures_folder: str) -> str:
    """Return a gallery whose pictures lie beside the page: its tools, its first page, and the list of all cards.

    Parameters
    ----------
    gallery, shown, page_folder
        As for `short_gallery`.
    pictures_folder : str
        Name of the folder of thumbnails, beside the page.
    """
    folder = f"{quote(pictures_folder)}/"
    cards = [_card_data(card, shown, page_folder) for card in gallery.cards]
    first = "".join(_card_html(card, folder) for card in cards[:_CARDS_ON_PAGE])
    listed = json.dumps(
        {"folder": folder, "n_on_page": _CARDS_ON_PAGE, "cards": cards}, ensure_ascii=False, separators=(",", ":")
    )
    # A list must not end its own element, nor open a comment in which its end would not be seen.
    listed = listed.replace("<", "\\u003c")
    return (
        f'{_tools(gallery.name)}<p class="on-paper"></p>\n<div class="cards" tabindex="-1">\n{first}</div>\n'
        f'<script type="application/json">{listed}</script>\n'
        f'<noscript><p class="quiet">Without scripts only the first {_CARDS_ON_PAGE} are shown.</p></noscript>'
    )


def _tools(name: str) -> str:
    buttons = {to: f'<button type="button" data-to="{to}">{word}</button>' for to, word in _TURNS}
    what = escaped(name)
    return (
        f'<div class="tools" role="group" aria-label="Pages of: {what}" hidden>'
        f"{buttons['first']}{buttons['previous']}"
        f'<label>Page <input class="number" type="number" min="1" value="1" aria-label="Page of: {what}"></label>'
        f'<span class="pages"></span>{buttons["next"]}{buttons["last"]}'
        '<span class="place" aria-live="polite"></span>'
        f'<input class="filter" type="search" placeholder="Filter by words" aria-label="Filter: {what}"></div>\n'
    )


def _card_data(card: Card, shown: Mapping[Source, Shown], page_folder: Path) -> CardData:
    pictures = [_picture_data(picture, shown[source_of(picture)], page_folder) for picture in card.pictures]
    source = card.source_url if is_web_address(card.source_url) else None
    return pictures, [visible(line) for line in card.lines], source or ""


def _picture_data(picture: CardPicture, found: Shown, page_folder: Path) -> list[Any]:
    name = visible(picture.name)
    if found.problem:
        return [name, "", f"{name}: {found.problem}"]
    whole = _below(picture.path, page_folder)
    data = [name, found.address, "", whole, picture.rotation_deg or 0]
    # The list is as long as the set: nothing is written that says nothing.
    return data if data[-1] else data[:-1] if whole else data[:2]


def _below(path: Path, page_folder: Path) -> str:
    relative = Path(os.path.relpath(path, page_folder)).as_posix()
    return "" if relative.startswith("../") or Path(relative).is_absolute() else quote(relative)


def _card_html(card: CardData, folder: str) -> str:
    pictures, lines, source = card
    kind = "card wide" if len(pictures) > 1 else "card"
    shots = "".join(_shot_html(picture, folder) for picture in pictures)
    shots = f'<div class="shots">{shots}</div>' if pictures else ""
    told = "".join(
        f'<p class="first">{escaped(line)}</p>' if place == 0 else f"<p>{escaped(line)}</p>"
        for place, line in enumerate(lines)
    )
    link = f"<p>{linked('source', source)}</p>" if source else ""
    return f'<div class="{kind}">{shots}{told}{link}</div>\n'


def _shot_html(picture: Sequence[Any], folder: str) -> str:
    name, address, problem, whole, turn = list(picture) + ["", "", "", "", 0][len(picture) :]
    if problem:
        return f'<span class="blank">{escaped(problem)}</span>'
    data = f' data-whole="{escaped(whole)}"' if whole else ""
    data += f' data-turn="{turn}"' if turn else ""
    # What lies in the page is there already, and a printer must not find it missing.
    lazy = ' loading="lazy"' if folder else ""
    return (
        f'<button type="button" class="shot"{data}>'
        f'<img alt="{escaped(name)}" decoding="async"{lazy} src="{folder}{escaped(address)}"></button>'
    )
