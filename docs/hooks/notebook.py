"""Show each notebook as a page: its text, its code and, where ``DOCS_EXECUTE=1``, what running it gives."""

import base64
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add a page and its pictures for each notebook, which itself stays to be downloaded."""
    for file in [one for one in files if one.src_uri.endswith(".ipynb")]:
        notebook = nbformat.read(Path(str(file.abs_src_path)), as_version=4)
        if os.environ.get("DOCS_EXECUTE") == "1":
            run_notebook(notebook, Path(config.config_file_path).parent)
        stem = file.src_uri.removesuffix(".ipynb")
        text, pictures = notebook_page(notebook, stem.rpartition("/")[2])
        files.append(File.generated(config, f"{stem}.md", content=text))
        folder = stem.rpartition("/")[0]
        for name, content in pictures.items():
            files.append(File.generated(config, f"{folder}/{name}".lstrip("/"), content=content))
    return files


def run_notebook(notebook: nbformat.NotebookNode, folder: Path) -> None:
    """Run the cells of a notebook in `folder`, in place; a cell that fails ends the build."""
    from nbclient import NotebookClient

    NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": folder}}
    ).execute()


def notebook_page(notebook: nbformat.NotebookNode, name: str) -> tuple[str, dict[str, bytes]]:
    """Return a notebook as Markdown, and its pictures by the name under which the page shows them."""
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        for place, output in enumerate(cell.outputs):
            for kind, content in _shown(output):
                if kind == "text":
                    parts.append(f"``` {{ .text .output }}\n{content}\n```")
                else:
                    picture = f"{name}-{number}-{place}.{kind}"
                    pictures[picture] = base64.b64decode(content)
                    parts.append(f"![What the cell above shows]({picture})")
    download = f"[Download this page as a notebook]({name}.ipynb)"
    return "\n\n".join([parts[0], download, *parts[1:]]) + "\n", pictures


def _shown(output: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what one output shows: ``text``, or ``png`` or ``jpg`` in base64; progress on stderr is left out."""
    if output["output_type"] == "stream":
        if output["name"] == "stdout":
            yield "text", _COLOURS.sub("", output["text"]).rstrip()
        return
    data = output.get("data", {})
    for mime, ending in (("image/png", "png"), ("image/jpeg", "jpg")):
        if mime in data:
            yield ending, data[mime]
            return
    if "text/plain" in data:
        yield "text", data["text/plain"]
