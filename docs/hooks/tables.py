"""Write what the code knows in the place of marks.

``{{ methods }}``, ``{{ sources of methods }}``: the scorers. ``{{ table FILE }}``: the columns of a table of a
workspace. ``{{ fields of json }}``: what ``--json`` prints.
"""

import inspect
import re
from collections.abc import Iterator

from mkdocs.exceptions import PluginError

from manifests import run_report, schema

_TABLE_MARK = re.compile(r"^\{\{ table ([a-z_./<>]+) \}\}$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: object) -> str:
    """Return the page with each mark replaced by its table."""
    markdown = _TABLE_MARK.sub(lambda mark: columns_table(mark[1]), markdown)
    for mark, written in (
        ("{{ methods }}", methods_table),
        ("{{ sources of methods }}", sources_of_methods),
        ("{{ fields of json }}", fields_of_json),
    ):
        if mark in markdown:
            markdown = markdown.replace(mark, written())
    return markdown


def tables_of_a_workspace() -> dict[str, schema.TableSpec]:
    """Return every declared table by its file, in the order of their declaration."""
    specs = [value for value in vars(schema).values() if isinstance(value, schema.TableSpec)]
    return {spec.file_name: spec for spec in (*specs, schema.audit_table("<audit>"))}


def columns_table(file_name: str) -> str:
    """Return the columns of one table: type, whether a cell may be empty, and the words that it may hold.

    Raises
    ------
    PluginError
        There is no such table.
    """
    spec = tables_of_a_workspace().get(file_name)
    if spec is None:
        raise PluginError(f"there is no table {file_name!r} in manifests/schema.py")
    lines = ["| column | type | may be empty | words |", "|---|---|---|---|"]
    for field in spec.schema:
        words = " ".join(f"`{word}`" for word in spec.words.get(field.name, ()))
        shown_type = str(field.type).replace("<", "\\<")
        lines.append(f"| `{field.name}` | {shown_type} | {'yes' if field.nullable else ''} | {words} |")
    return "\n".join(lines)


def methods_table() -> str:
    """Return one row a scorer: what it computes, what it reads, what it is fitted on, whose it is."""
    # Here, as it loads torch, which no other page needs.
    from scoring.methods.table import METHODS

    lines = ["| `--method` | name | reads | fitted on | `ood_score` | source |", "|---|---|---|---|---|---|"]
    lines += [
        f"| `{one.name}` | {one.title} | {one.family} | {one.needs} | `{_cell(one.equation)}` | {one.paper} |"
        for one in METHODS
    ]
    return "\n".join(lines)


def sources_of_methods() -> str:
    """Return the references and the departures from the authors' code of each scorer, out of its docstring."""
    from scoring.methods.table import METHODS

    parts = []
    for method in METHODS:
        sections = dict(_sections(inspect.getdoc(method.scorer) or ""))
        options = ", ".join(f"`{name}={value}`" for name, value in method.openood.items())
        parts += [f"### {method.title}", "", sections["References"], ""]
        if "Notes" in sections:
            parts += [sections["Notes"], ""]
        if options:
            parts += [f"In mode `openood`: {options}.", ""]
    return "\n".join(parts)


def fields_of_json() -> str:
    """Return the fields of what ``--json`` prints, out of the docstring that declares them."""
    fields = re.findall(r"^(``.*)\n((?:    .*\n)+)", inspect.getdoc(run_report) or "", re.MULTILINE)
    rows = [f"| {names} | {' '.join(text.split())} |" for names, text in fields]
    return "\n".join(["| field | holds |", "|---|---|", *rows]).replace("``", "`")


def _sections(docstring: str) -> Iterator[tuple[str, str]]:
    """Yield title and text of each section of a NumPy docstring."""
    pieces = re.split(r"^(\w+)\n-{3,}\n", docstring, flags=re.MULTILINE)
    for title, text in zip(pieces[1::2], pieces[2::2], strict=True):
        yield title, _simple_tables_fenced(text.strip()).replace("``", "`")


def _simple_tables_fenced(text: str) -> str:
    """Return `text` with tables between lines of ``=`` shown as they stand: Markdown has no such tables."""
    return re.sub(r"(^={3,}[= ]*$.*^={3,}[= ]*$)", r"```text\n\1\n```", text, flags=re.MULTILINE | re.DOTALL)


def _cell(text: str) -> str:
    return text.replace("|", r"\|")
