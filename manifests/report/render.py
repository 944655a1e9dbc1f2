"""A report as one HTML file that opens from a disk and asks nobody for anything."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from manifests.durable import write_text
from manifests.errors import InputError
from manifests.page import document, escaped
from manifests.report.galleries import is_long, long_gallery, short_gallery
from manifests.report.markup import parts_html, told
from manifests.report.parts import CardPicture, Gallery, Section
from manifests.report.pictures import (
    PictureCounts,
    Shown,
    Source,
    inline_pictures,
    n_due,
    n_inline_due,
    stored_pictures_beside,
)
from manifests.work_plan import WorkPlan

_ASSETS = Path(__file__).with_name("assets")


@dataclass(frozen=True)
class WrittenReport:
    """What was written.

    Attributes
    ----------
    path : Path
        The page.
    pictures_dir : Path or None
        The folder of thumbnails beside it, where there is a long gallery.
    n_sections, n_missing, n_cards : int
        Sections, those that have nothing yet, and cards of all galleries.
    pictures : PictureCounts
        Thumbnails that were made, reused, and could not be made.
    problems : tuple of str
        What was damaged, as the page says in its place.
    """

    path: Path
    pictures_dir: Path | None
    n_sections: int
    n_missing: int
    n_cards: int
    pictures: PictureCounts
    problems: tuple[str, ...]


def _pictures_dir_of(path: Path) -> Path:
    """Return the folder of thumbnails beside the page `path`."""
    return path.with_name(f"{path.stem}_pictures")


def check_page_path(path: Path) -> None:
    """Check that a page and its thumbnails can be written to `path`, before anything is made for them.

    Raises
    ------
    InputError
        It is a folder, lies below a file, or the name of its folder of thumbnails is that of a file.
    """
    if path.is_dir():
        raise InputError(f"{path}: expected a file for the page, found a folder; name {path / 'report.html'}")
    for folder in (_pictures_dir_of(path), *path.parents):
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{path}: cannot be written, as {folder} is a file and no folder")


def write_report(
    path: Path, title: str, sections: Sequence[Section], *, lead: str = "", has_long_galleries: bool = True
) -> WrittenReport:
    """Write a page, and the thumbnails of long galleries beside it; return what was done.

    Equal parts give equal bytes. A page that was there is replaced in one step, at the end.

    Parameters
    ----------
    path : Path
        The page; thumbnails lie in ``<stem>_pictures`` beside it.
    title, lead : str
        Its heading, and a sentence below it.
    sections : sequence of Section
        Its chapters, in order; their keys differ.
    has_long_galleries : bool, optional
        Without, long galleries are left out, and the page is the only file.

    Raises
    ------
    WorkspaceLockedError
        Another process is making thumbnails beside this page.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    galleries = [part for section in sections for part in section.parts if isinstance(part, Gallery)]
    counts = PictureCounts()
    pictures_dir = _pictures_dir_of(path)
    beside = _long_galleries(sections) if has_long_galleries else []
    stored = stored_pictures_beside(pictures_dir, _pictures(beside), counts) if beside else {}
    inline = inline_pictures(_pictures(_short_galleries(sections)), counts)
    maker = _Maker(path.parent, pictures_dir.name, inline, stored, has_long_galleries)
    body = "\n".join(
        [
            '<a class="skip" href="#report">Skip the contents</a>',
            '<div class="paper">',
            _contents(sections),
            f'<main id="report">\n<h1>{escaped(title)}</h1>\n<p class="lead">{told(lead)}</p>',
            *(maker.section(section) for section in sections),
            "</main>\n</div>",
        ]
    )
    style, script = ((_ASSETS / f"report.{ending}").read_text(encoding="utf-8") for ending in ("css", "js"))
    write_text(path, document(title, body, style=style, script=script, has_files=True))
    return WrittenReport(
        path,
        pictures_dir if beside else None,
        len(sections),
        sum(section.missing is not None for section in sections),
        sum(len(one.cards) for one in galleries),
        counts,
        _problems(sections),
    )


def plan_report(path: Path, sections: Sequence[Section], *, has_long_galleries: bool = True) -> WorkPlan:
    """Return what `write_report` would do; nothing is written.

    Parameters
    ----------
    path, sections, has_long_galleries
        As for `write_report`.
    """
    beside = _long_galleries(sections) if has_long_galleries else []
    pictures_dir = _pictures_dir_of(path)
    due, done = n_due(pictures_dir, _pictures(beside))
    n_inline = n_inline_due(_pictures(_short_galleries(sections)))
    writes = [str(path), *([str(pictures_dir)] if beside else [])]
    notes = [f"{n_inline:,} of them lie in the page itself, and are made in every run"] if n_inline else []
    return WorkPlan(due + n_inline, done, "thumbnails", writes=writes, notes=(*notes, *_problems(sections)))


def report_lines(written: WrittenReport) -> list[str]:
    """Return what was written, for the terminal."""
    pictures = written.pictures
    missing = f", {written.n_missing} of them with nothing yet" if written.n_missing else ""
    lines = [
        f"report: {written.n_sections} sections{missing}, {written.n_cards:,} cards",
        f"  {written.path} ({written.path.stat().st_size / 1e6:.1f} MB)",
    ]
    if written.pictures_dir is not None:
        lines.append(f"  {written.pictures_dir}: thumbnails of long galleries; keep it beside the page")
    if pictures.made or pictures.reused or pictures.without:
        lines.append(
            f"  thumbnails: made {pictures.made:,}, reused {pictures.reused:,}, without {pictures.without:,}"
        )
    return lines


@dataclass(frozen=True)
class _Maker:
    """Makes sections: what it takes to show pictures."""

    page_folder: Path
    pictures_folder: str
    inline: dict[Source, Shown]
    stored: dict[Source, Shown]
    has_long_galleries: bool

    def section(self, section: Section) -> str:
        galleries = [part for part in section.parts if isinstance(part, Gallery)]
        made = [self._gallery(one, _anchor(section, place)) for place, one in enumerate(galleries)]
        key = escaped(section.key)
        pieces = [f'<section id="{key}">', f'<h2><a href="#{key}">{escaped(section.title)}</a></h2>']
        if section.problem is not None:
            pieces.append(f'<p class="problem">This part could not be made: {escaped(section.problem)}</p>')
        if section.missing is not None:
            pieces.append(f'<p class="missing">{told(section.missing)}</p>')
        return "\n".join([*pieces, parts_html(section.parts, made), "</section>"])

    def _gallery(self, gallery: Gallery, anchor: str) -> str:
        head = f'<h3><a href="#{anchor}">{escaped(gallery.name)}</a></h3>'
        if gallery.caption:
            head += f'\n<p class="quiet">{told(gallery.caption)}</p>'
        if not is_long(gallery):
            inner = short_gallery(gallery, self.inline, self.page_folder)
            return f'<section class="gallery" id="{anchor}">\n{head}\n{inner}\n</section>'
        if not self.has_long_galleries:
            inner = (
                f'<p class="missing">{len(gallery.cards):,} cards are left out, so that this page is one file; '
                "<code>report</code> without <code>--no-gallery</code> shows them.</p>"
            )
            return f'<section class="gallery" id="{anchor}">\n{head}\n{inner}\n</section>'
        inner = long_gallery(gallery, self.stored, self.page_folder, self.pictures_folder)
        return f'<section class="gallery long" id="{anchor}">\n{head}\n{inner}\n</section>'


def _contents(sections: Sequence[Section]) -> str:
    items = []
    for section in sections:
        state = ' class="broken"' if section.problem is not None else ""
        state = ' class="absent"' if section.missing is not None else state
        names = [part.name for part in section.parts if isinstance(part, Gallery)]
        inner = "".join(
            f'<li><a href="#{_anchor(section, place)}">{escaped(name)}</a></li>'
            for place, name in enumerate(names)
        )
        items.append(
            f'<li><a href="#{escaped(section.key)}"{state}>'
            f"{escaped(section.title)}</a>{f'<ol>{inner}</ol>' if inner else ''}</li>"
        )
    listed = "\n".join(items)
    return f'<nav aria-label="Contents">\n<p>Contents</p>\n<ol>\n{listed}\n</ol>\n</nav>'


def _anchor(section: Section, place: int) -> str:
    return escaped(f"{section.key}-gallery-{place + 1}")


def _problems(sections: Sequence[Section]) -> tuple[str, ...]:
    return tuple(f"{section.title}: {section.problem}" for section in sections if section.problem is not None)


def _long_galleries(sections: Sequence[Section]) -> list[Gallery]:
    return [part for section in sections for part in section.parts if isinstance(part, Gallery) and is_long(part)]


def _short_galleries(sections: Sequence[Section]) -> list[Gallery]:
    galleries = [part for section in sections for part in section.parts if isinstance(part, Gallery)]
    return [gallery for gallery in galleries if not is_long(gallery)]


def _pictures(galleries: Iterable[Gallery]) -> list[CardPicture]:
    return [picture for gallery in galleries for card in gallery.cards for picture in card.pictures]
