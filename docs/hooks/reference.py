"""Add the API reference: a page a package, whose docstrings mkdocstrings writes out, and its place in the menu."""

import ast
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

PACKAGES = ("curation", "annotation", "scoring", "manifests")
_NOT_SHOWN = {"bench", "commands", "plugins", "curator_plugins", "sample", "label_map"}
"""What measures, draws, is loaded by the App or is the command line: nobody imports it."""

_FOUND_LAST = "---\nsearch:\n  boost: 0.001\n---\n"
"""The search shows what people wrote for people first."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages into the menu, below their packages."""
    root = Path(config.config_file_path).parent
    entries: list[dict[str, str]] = [{name: _page(name)} for name in packages_of(root)]
    (config.nav or []).append({"API": ["api/index.md", *entries]})
    return config


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages."""
    root = Path(config.config_file_path).parent
    found = packages_of(root)
    for name, modules in found.items():
        files.append(File.generated(config, _page(name), content=_package_page(root, name, modules)))
    lines = [
        f"| [`{name}`]({name}.md) | {_first_line(root, name)} | {len(modules)} |"
        for name, modules in found.items()
    ]
    head = [
        _FOUND_LAST, "# API reference", "",
        "Written out of the docstrings: one page a package, its modules below each other.",
        "Imports point down only; see [Architecture](../architecture.md).", "",
        "| package | holds | modules |", "|---|---|---|",
    ]  # fmt: skip
    files.append(File.generated(config, "api/index.md", content="\n".join([*head, *lines, ""])))
    return files


def packages_of(root: Path) -> dict[str, list[str]]:
    """Return the modules of every package that is shown, by its dotted name."""
    found: dict[str, list[str]] = {}
    for top in PACKAGES:
        for path in sorted((root / top).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            if path.name != "__init__.py" and not _NOT_SHOWN & set(parts):
                found.setdefault(".".join(parts[:-1]), []).append(".".join(parts))
    return dict(sorted(found.items(), key=lambda item: (PACKAGES.index(item[0].split(".")[0]), item[0])))


def _package_page(root: Path, name: str, modules: list[str]) -> str:
    parts = [_FOUND_LAST, f"# {name}", "", _first_line(root, name), ""]
    for module in modules:
        parts += [f"## {module.rpartition('.')[2]}", "", f"::: {module}", ""]
    return "\n".join(parts)


def _first_line(root: Path, package: str) -> str:
    """Return the first line of a package's docstring, read without importing it."""
    path = root.joinpath(*package.split("."), "__init__.py")
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) if path.is_file() else None
    return (docstring or "").partition("\n")[0]


def _page(package: str) -> str:
    return f"api/{package}.md"
