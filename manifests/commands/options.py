"""Options that commands of several packages take, and checks of what was given."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

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

_OF_EVERY_COMMAND = {"has_json", "is_dry_run"}
"""How to run and what to print, which `manifests.stage_commands` adds: no argument of what is recorded."""


def pairs(values: Sequence[str], flag: str, expected: str = "expected KEY=VALUE") -> dict[str, str]:
    """Return ``KEY=VALUE`` arguments as a dict.

    Parameters
    ----------
    values : sequence of str
        As they were given.
    flag, expected : str
        The option, and what its help calls an argument: for messages.

    Raises
    ------
    InputError
        One has no ``=``, no key or no value, or a key is given twice.
    """
    split: dict[str, str] = {}
    for given in values:
        key, _, value = given.partition("=")
        # An empty folder would be the current one.
        if not (key and value):
            raise InputError(f"{flag}: {expected}, found {given!r}")
        if key in split:
            raise InputError(f"{flag}: expected each name once, found {' '.join(values)}")
        split[key] = value
    return split


def recorded_arguments(context: typer.Context) -> dict[str, Any]:
    """Return what a command was given, and its defaults, as texts and lists of texts for the stage's record."""
    return {
        name: [str(one) for one in value] if isinstance(value, list | tuple) else str(value)
        for name, value in context.params.items()
        if name not in _OF_EVERY_COMMAND and value not in (None, (), [])
    }


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
