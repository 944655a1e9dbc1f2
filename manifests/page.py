"""One HTML page that needs nothing else: no request, readable on light and dark screens."""

import base64
import hashlib
import html
import unicodedata

# Nothing may be loaded but pictures in the page: what strangers wrote is text here, whatever it says.
_POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; style-src 'unsafe-inline'; img-src data:"
_STYLE = """
:root { color-scheme: light dark; --text: #1c1e21; --quiet: #5d636b; --ground: #ffffff; --panel: #f3f4f6;
  --line: #d9dce1; --accent: #1f5fbf; }
@media screen and (prefers-color-scheme: dark) {
  :root { --text: #e6e8eb; --quiet: #9aa1ab; --ground: #16181b; --panel: #202327;
    --line: #363a40; --accent: #7fb0ff; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1.5rem; background: var(--ground); color: var(--text);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .5rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
a { color: var(--accent); } .quiet { color: var(--quiet); } code { font-size: .9em; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; vertical-align: top; padding: .35rem .6rem;
  border-bottom: 1px solid var(--line); overflow-wrap: anywhere; } th { color: var(--quiet); font-weight: 600; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
.cards { display: grid; gap: .8rem; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); }
.card { background: var(--panel); border: 1px solid var(--line); border-radius: .4rem; padding: .6rem;
  overflow-wrap: anywhere; font-size: .87rem; }
.card img, .card .blank { display: flex; width: 100%; height: 9rem; object-fit: contain; align-items: center;
  justify-content: center; color: var(--quiet); background: var(--ground); border-radius: .25rem;
  margin-bottom: .4rem; }
""".strip()


def escaped(text: str | None) -> str:
    """Return `text` as it may stand in HTML, in an element or a quoted attribute; nothing for None.

    Characters that turn the direction of the text, or that nobody sees, are shown by their number: a title must
    not make the line around it read as something else.
    """
    return html.escape(visible(text or ""), quote=True)


def visible(text: str) -> str:
    """Return `text` with the number of each character that turns its direction or that nobody sees."""
    # Printable text holds nothing of the kind, and is most of what a page of 17,632 rows holds.
    return text if text.isprintable() else "".join(map(_visible, text))


def linked(text: str, url: str | None) -> str:
    """Return `text` as a link where `url` is one of the web: a ``javascript:`` URL stays text."""
    if not is_web_address(url):
        return escaped(text)
    return f'<a href="{escaped(url)}" rel="nofollow noopener noreferrer">{escaped(text)}</a>'


def is_web_address(url: str | None) -> bool:
    """Return whether a link may lead to `url`."""
    return url is not None and url.lower().startswith(("https://", "http://"))


def page(title: str, body: str) -> str:
    """Return a whole HTML document; `title` is text, `body` is HTML whose texts have passed `escaped`."""
    return document(title, f"<h1>{escaped(title)}</h1>\n{body.rstrip()}")


def document(title: str, body: str, *, style: str = "", script: str = "", has_files: bool = False) -> str:
    """Return a whole HTML document that brings all it needs with it.

    Parameters
    ----------
    title : str
        Text.
    body : str
        HTML whose texts have passed `escaped`.
    style : str, optional
        CSS that follows that of every page.
    script : str, optional
        The one script that may run, known by its digest.
    has_files : bool, optional
        Whether pictures lie beside the page.
    """
    policy = _POLICY
    if has_files:
        # A page that is opened from a disk has no origin in some browsers: `file:` says it to them.
        policy += " 'self' file:"
    if script:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        policy += f"; script-src 'sha256-{digest}'"
        body += f"\n<script>{script}</script>"
    return (
        "<!DOCTYPE html>\n"
        '<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{escaped(title)}</title>\n<style>\n{_STYLE}\n{style}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def _visible(character: str) -> str:
    # Cc: controls; Cf: bidi marks, zero-width characters; Cs: halves of surrogate pairs, which UTF-8 cannot hold.
    if unicodedata.category(character) in ("Cc", "Cf", "Cs") and character not in "\n\t":
        return f"\\u{{{ord(character):x}}}"
    return character
