"""Write what a command takes in the place of ``{{ command NAME }}``: what its ``--help`` prints, as a table."""

import contextlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass

from mkdocs.exceptions import PluginError
from mkdocs.structure.pages import Page

import cli

_MARK = re.compile(r"^\{\{ command ([a-z-]+) \}\}$", re.MULTILINE)
# The names of an option or argument, what it takes, and its meaning two blanks or a line later.
_ENTRY = re.compile(r"^  (?P<names>\S+(?: / \S+|, \S+)*)(?: (?P<takes>[A-Z<].*?))?(?:  +(?P<meaning>.*))?$")
_FACTS = re.compile(r"\s*\[((?:default: [^;\]]*|required|[^;\]]*x[<>=][^;\]]*)(?:; [^;\]]*)*)\]$")
_KINDS = {
    "str": "text", "path": "path", "int": "whole number", "float": "number", "list[str]": "text",
    "list[path]": "path", "int range": "whole number", "float range": "number",
    "TEXT": "text", "PATH": "path", "INTEGER": "whole number", "FLOAT": "number",
}  # fmt: skip


@dataclass
class Entry:
    """One option or argument: names, kind of value (empty for a flag), meaning, default or ``required``."""

    names: str
    takes: str
    meaning: str
    default: str = ""


def on_page_markdown(markdown: str, *, page: Page, **_: object) -> str:
    """Return the page with each mark replaced by the sentence, the example and the options of its command."""
    return _MARK.sub(lambda mark: command_section(mark[1], page.file.src_uri), markdown)


def command_section(name: str, where: str = "") -> str:
    """Return the sentence, the example and the table of options of one command, as Markdown.

    Raises
    ------
    PluginError
        There is no such command.
    """
    head, *_ = text = help_of(name, where).split("\n\n")
    said = re.fullmatch(r"(.*?) ?Example: (.*)", " ".join(" ".join(text[1:3]).split()))
    if said is None:
        raise PluginError(f"{where}: the help of {name} is not a sentence and an example: {head}")
    rows = [
        f"| {_names(one.names)} | {one.takes} | {_default(one.default)} | {_text(one.meaning)} |"
        for one in entries("\n\n".join(text))
    ]
    parts = [
        f"**`{name}`**: {_text(said[1])}", "", "```sh", said[2], "```", "",
        "| option | takes | default | meaning |", "|---|---|---|---|", *rows, "",
    ]  # fmt: skip
    return "\n".join(parts)


def help_of(name: str, where: str = "") -> str:
    """Return what ``python cli.py NAME --help`` prints; PluginError where there is no such command."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
        code = cli.run([name, "--help"])
    if code:
        raise PluginError(f"{where}: there is no command {name!r}")
    return printed.getvalue()


def entries(text: str) -> Iterator[Entry]:
    """Yield the arguments and options of a help text, ``--help`` itself left out."""
    found: list[Entry] = []
    is_listing = False
    for line in text.splitlines():
        is_listing = line in ("Options:", "Arguments:") or (is_listing and bool(line))
        if line.startswith("   ") and found:
            found[-1].meaning = f"{found[-1].meaning} {line.strip()}".strip()
        elif is_listing and (entry := _ENTRY.match(line)):
            takes = (entry["takes"] or "").strip("<>")
            found.append(
                Entry(entry["names"], _KINDS.get(takes.lower(), _KINDS.get(takes, takes)), entry["meaning"] or "")
            )
    for one in found:
        if facts := _FACTS.search(one.meaning):
            one.meaning = one.meaning[: facts.start()]
            one.default = _default_of(facts[1].split("; "))
        if one.names != "--help":
            yield one


def _default_of(facts: list[str]) -> str:
    """Return what ``[default: 4; x>=0]`` says of the default: 4, or ``required``, or nothing."""
    if "required" in facts:
        return "required"
    return next((fact.removeprefix("default: ") for fact in facts if fact.startswith("default: ")), "")


def _names(names: str) -> str:
    return " ".join(f"`{one}`" if one != "/" else "or" for one in names.replace(",", "").split())


def _default(default: str) -> str:
    return default if default in ("", "required") else f"`{default}`"


def _text(text: str) -> str:
    """Return plain text as Markdown that shows it, in a cell too; what stands in backticks stays code."""
    parts = text.split("`")
    for place in range(0, len(parts), 2):
        parts[place] = re.sub(r"([*_\[\]<>|\\])", r"\\\1", parts[place])
    return "`".join(parts)
