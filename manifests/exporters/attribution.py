"""Who made each picture, and under which licence: title, author, source, licence, as CSV and as a page."""

import re
from collections import Counter
from functools import lru_cache
from pathlib import Path

from manifests.durable import write_text
from manifests.exporters.exported_set import ExportedSet, Record
from manifests.inert_csv import csv_text, inert
from manifests.licences import licence_key
from manifests.page import escaped, linked, page

CSV_NAME = "ATTRIBUTION.csv"
HTML_NAME = "ATTRIBUTION.html"
_HEADS = ("Image", "Title", "Author", "Licence")
_COLUMNS = ("image_id", "title", "author", "source", "license", "license_url", "picture_url")

_LICENSE = re.compile(
    r"creativecommons\.org/(?:licenses/(?P<kind>by(?:-nc)?(?:-sa|-nd)?)|publicdomain/(?P<public>zero|mark))"
    r"/(?P<version>\d\.\d)(?:/(?P<port>[a-z]{2,8}))?(?:/(?:deed(?:\.\w+)?|legalcode))?"
)
_PUBLIC_DOMAIN = {"zero": "CC0", "mark": "Public Domain Mark"}


@lru_cache(maxsize=256)
def license_name(url: str | None) -> str:
    """Return the short name of a Creative Commons licence, such as ``CC BY 2.0``; of another, its URL; else ''."""
    match = _LICENSE.fullmatch(licence_key(url or ""))
    if match is None:
        return url or ""
    name = _PUBLIC_DOMAIN[match["public"]] if match["public"] else f"CC {match['kind'].upper()}"
    return " ".join([name, match["version"], *([match["port"].upper()] if match["port"] else [])])


def write_attribution(export: ExportedSet, folder: Path) -> None:
    """Write ``ATTRIBUTION.csv`` and ``ATTRIBUTION.html`` into `folder`."""
    write_text(folder / CSV_NAME, csv_text(_COLUMNS, (_row(record) for record in export.records)))
    write_text(folder / HTML_NAME, page(f"Attribution of {export.name} {export.version}", _body(export)))


def _row(record: Record) -> list[str]:
    texts = (
        record["title"], record["author"], record["landing_url"], license_name(record["license_url"]),
        record["license_url"], record["url"],
    )  # fmt: skip
    return [record["image_id"], *(inert(text or "") for text in texts)]


def _body(export: ExportedSet) -> str:
    licenses = Counter(license_name(record["license_url"]) or "licence not known" for record in export.records)
    counts = " · ".join(f"{escaped(name)}: {n:,}" for name, n in sorted(licenses.items()))
    rows = "\n".join(map(_html_row, export.records))
    # On a narrow screen a column is no narrower than its head.
    heads = "".join(f'<th style="white-space: nowrap">{head}</th>' for head in _HEADS)
    return (
        f'<p class="quiet">{len(export.records):,} images · {counts}</p>\n'
        "<p>As the metadata of Open Images lists them; verify a licence yourself before you redistribute.</p>\n"
        f"<table>\n<thead><tr>{heads}</tr></thead>\n"
        f"<tbody>\n{rows}\n</tbody>\n</table>\n"
    )


def _html_row(record: Record) -> str:
    title = record["title"] or "(untitled)"
    author = record["author"] or "(not known)"
    name = license_name(record["license_url"]) or "(not known)"
    cells = (
        linked(record["image_id"], record["url"]), linked(title, record["landing_url"]), escaped(author),
        linked(name, record["license_url"]),
    )  # fmt: skip
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
