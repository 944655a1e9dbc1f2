"""What a shell offers for the values of options: known words, and names of what is in the workspace.

A shell asks at every press of a key, so nothing here loads a library.
"""

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import typer
from typer.models import ParameterInfo

Completer = Callable[[typer.Context], Sequence[str]]


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


def with_completions(
    parameter: inspect.Parameter, completions: Mapping[str, Sequence[str] | Completer], command: str
) -> inspect.Parameter:
    """Return a parameter of a command with what `completions` has for it.

    Parameters
    ----------
    parameter : inspect.Parameter
        With an annotation as typer reads it.
    completions : mapping
        By the parameter's name, or ``command.name`` where one name means something else there: words, or what
        returns them.
    command : str
        Whose parameter.
    """
    offered = completions.get(f"{command}.{parameter.name}", completions.get(parameter.name))
    if offered is None or get_origin(parameter.annotation) is not Annotated:
        return parameter
    kind, *details = get_args(parameter.annotation)
    told = [_completed(one, offered) if isinstance(one, ParameterInfo) else one for one in details]
    return parameter.replace(annotation=Annotated[kind, *told])


def _completed(info: ParameterInfo, offered: Sequence[str] | Completer) -> ParameterInfo:
    def complete(ctx: typer.Context) -> list[Any]:
        return list(offered(ctx) if callable(offered) else offered)

    completed = copy.copy(info)
    completed.autocompletion = complete
    return completed
