"""One HTML page that needs nothing else: no script, no request, readable on light and dark screens."""

import html
import unicodedata

# `img-src data:` and nothing else may be loaded: what strangers wrote is text here, whatever it says.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_STYLE = """
:root { color-scheme: light dark; --text: #1c1e21; --quiet: #5d636b; --ground: #ffffff; --panel: #f3f4f6;
  --line: #d9dce1; --accent: #1f5fbf; }
@media (prefers-color-scheme: dark) {
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
    shown = text or ""
    # Printable text holds nothing of the kind, and is most of what a page of 17,632 rows holds.
    if not shown.isprintable():
        shown = "".join(map(_visible, shown))
    return html.escape(shown, quote=True)


def page(title: str, body: str) -> str:
    """Return a whole HTML document; `title` is text, `body` is HTML whose texts have passed `escaped`."""
    return (
        "<!DOCTYPE html>\n"
        '<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escaped(title)}</title>\n<style>\n{_STYLE}\n</style>\n</head>\n"
        f"<body>\n<h1>{escaped(title)}</h1>\n{body.rstrip()}\n</body>\n</html>\n"
    )


def _visible(character: str) -> str:
    # Cc: controls; Cf: bidi marks, zero-width characters; Cs: halves of surrogate pairs, which UTF-8 cannot hold.
    if unicodedata.category(character) in ("Cc", "Cf", "Cs") and character not in "\n\t":
        return f"\\u{{{ord(character):x}}}"
    return character
