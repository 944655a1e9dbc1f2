"""Options that commands of several packages take, and checks of what was given."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from manifests.completion import words
from manifests.errors import InputError

WorkspaceOption = Annotated[Path, typer.Option(help="Folder of tables, pictures and logs.")]
DeviceOption = Annotated[
    str, typer.Option(help="auto, cpu, cuda or cuda:N.", autocompletion=words("auto", "cpu", "cuda"))
]
AllowPrivateOption = Annotated[
    bool, typer.Option("--allow-private", help="Let private and loopback addresses pass.")
]
ProxyOption = Annotated[str | None, typer.Option(help="http://HOST:PORT; the environment's are not used.")]

DEFAULT_WORKSPACE = Path("workspace")


def pairs(values: Sequence[str], flag: str) -> dict[str, str]:
    """Return ``KEY=VALUE`` arguments as a dict; InputError where one has no ``=``."""
    split = dict(value.partition("=")[::2] for value in values)
    if any("=" not in value for value in values):
        raise InputError(f"{flag}: expected KEY=VALUE, found {next(v for v in values if '=' not in v)!r}")
    return split


def refuse_without_effect(context: typer.Context, reason: str, names: Iterable[str]) -> None:
    """Refuse options that were given and would do nothing: whoever gives one expects that it does.

    Parameters
    ----------
    context : typer.Context
        Of the command.
    reason : str
        Why they do nothing, to follow "it has no effect".
    names : iterable of str
        Of the command's parameters.

    Raises
    ------
    typer.BadParameter
        One of them was given on the command line.
    """
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            hint = f"--{name.replace('_', '-')}"
            raise typer.BadParameter(f"it has no effect {reason}: leave it out", context, param_hint=hint)
