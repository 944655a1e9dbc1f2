"""What a shell offers for the values of options: known words, and names of what is in the workspace.

A shell asks at every press of a key, so nothing here loads a library.
"""

from collections.abc import Callable
from pathlib import Path

import typer

Completer = Callable[..., list[str]]
"""What `typer.Option` takes as ``autocompletion``: a function of the command's context, or of nothing."""


def words(*known: str) -> Completer:
    """Return what offers these words.

    They are said at the option again, as to import them from the stage that knows them may take seconds.
    """
    return lambda: list(known)


def names_below(folder_name: str, pattern: str = "*") -> Completer:
    """Return what offers the names of the files or folders below a folder of the command's workspace.

    Parameters
    ----------
    folder_name : str
        Of the workspace.
    pattern : str
        A glob; of ``*/FILE`` the names of the folders with such a file are offered, of ``*.json`` those of the
        files without ending.
    """

    def names(context: typer.Context) -> list[str]:
        folder = Path(str(context.params.get("workspace") or "workspace")) / folder_name
        found = folder.glob(pattern)
        return sorted({path.parent.name if "/" in pattern else path.stem for path in found})

    return names


manifest_names = names_below("manifests", "*/manifest.json")
features_names = names_below("features", "*/head.safetensors")
embeddings_names = names_below("embeddings", "*/model.json")
quality_checks = words("blur", "dark", "low_information", "odd_size", "extreme_aspect", "near_empty")
