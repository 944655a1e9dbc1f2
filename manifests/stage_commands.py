"""What all commands share: ``--json``, ``--dry-run``, the next step, errors in one line, exit codes.

A command is a function with its own options, registered by `StageApp.command`. What it needs of a package that its
own may not import it takes ahead of them; it is registered as a `functools.partial` that has this. What it prints,
and what its stage writes and records, is all that is needed here. No command knows of ``--json``; of ``--dry-run``
only those know that take long or fetch: they plan then (`manifests.work_plan`), and the others run in a shadow of
the workspace (`manifests.shadow`).
"""

import contextlib
import functools
import inspect
import io
import re
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TextIO, TypeVar

import typer

from manifests.errors import OpenImageOError, OutputError, one_line
from manifests.process_edge import captured_streams, ending_in_order, hand_over
from manifests.run_report import NextStep, RunReport, current_report, is_nested, reporting
from manifests.shadow import Shadow, shadow_of, watch_of
from manifests.writes import WriteWatch, watching

EXIT_OUR_ERROR = 1
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143

INTERRUPTED = "what was done is saved; run the same command again"
TAKES_AS_LONG = "dry run: the stage runs, and what it would write is thrown away: this takes as long as the run"

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be done; write and fetch nothing.")]

FunctionT = TypeVar("FunctionT", bound=Callable[..., None])


class StageApp(typer.Typer):
    """A command line whose commands share what this file gives them.

    Parameters
    ----------
    next_step : callable
        Takes the name of a command that is done, its workspace and its arguments; returns what follows, or None.
    settings
        As `typer.Typer` takes them.
    """

    def __init__(
        self,
        *,
        next_step: Callable[[str, Path, Mapping[str, Any]], NextStep | None],
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self._next_step = next_step

    def command(
        self, name: str | None = None, *, dry_run: bool = False, is_long: bool = False, **settings: Any
    ) -> Callable[[FunctionT], FunctionT]:
        """Return the decorator that registers a command.

        Parameters
        ----------
        name : str, optional
            By default that of the function.
        dry_run : bool
            Whether the command takes ``--dry-run``: all that it writes is in its workspace or goes through
            `manifests.writes`, and where it fetches, or can plan, it asks its report and plans.
        is_long : bool
            Whether it takes long and does not plan: a dry run says so first.
        settings
            As `typer.Typer.command` takes them.
        """
        register = super().command(name, **settings)

        def decorate(function: FunctionT) -> FunctionT:
            command = name or _whole(function).__name__.replace("_", "-")
            register(self._staged(function, command, has_dry_run=dry_run, is_long=is_long))
            return function

        return decorate

    def _staged(
        self, function: Callable[..., None], command: str, *, has_dry_run: bool, is_long: bool
    ) -> Callable[..., None]:
        """Return `function` with the shared options, and with what they do around it."""

        @functools.wraps(_whole(function))
        def staged(**given: Any) -> None:
            given.pop("has_json")
            report = current_report()
            report.command, report.workspace = command, given.get("workspace")
            report.is_dry_run = given.pop("is_dry_run", False)
            if report.is_dry_run:
                if is_long:
                    print(TAKES_AS_LONG, file=sys.stderr)
                _rehearse(function, given, report)
                words = [word for word in report.arguments if word not in ("--dry-run", "--json")]
                report.next_step = NextStep(shlex.join(["python", "cli.py", *words]), "does what was tried here")
                return
            with _watched(report):
                function(**given)
            report.take_records()
            if report.workspace is not None and report.next_step is None:
                report.next_step = self._next_step(command, report.workspace, given)

        parameters = [
            *inspect.signature(function, eval_str=True).parameters.values(),
            _flag("has_json", JsonOption),
            *([_flag("is_dry_run", DryRunOption)] if has_dry_run else []),
        ]
        # What typer reads instead of the function.
        staged.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        staged.__annotations__ = {one.name: one.annotation for one in parameters}
        return staged


def _whole(function: Callable[..., None]) -> Callable[..., None]:
    """Return the function that has the name and the docstring: a partial has none of its own."""
    return function.func if isinstance(function, functools.partial) else function


def _flag(name: str, option: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=option)


@contextlib.contextmanager
def _watched(report: RunReport) -> Iterator[None]:
    """Note what is written; a command that ends by `typer.Exit` with 0 is done as one that returns."""
    with watching(WriteWatch()) as watch:
        try:
            yield
        except typer.Exit as finished:
            if finished.exit_code:
                raise
        finally:
            report.written += watch.paths


def _rehearse(function: Callable[..., None], given: Mapping[str, Any], report: RunReport) -> None:
    """Run a command in a shadow of its workspace, and say what it would have written."""
    with shadow_of(given["workspace"]) as shadow:
        moved = {name: _moved(value, shadow) for name, value in given.items()}
        with _telling(shadow), watching(watch_of(shadow)):
            function(**moved)
        if report.plan is not None:
            report.plan = report.plan.told(shadow.told)
            report.counts |= {"to_do": report.plan.n_due, "done_already": report.plan.n_done}
        else:
            report.changes = shadow.changes()
            report.written = [shadow.place_of(change.path) for change in report.changes if change.size_bytes]
            report.take_records()
    print("\n".join(report.dry_run_lines()))


def _moved(value: Any, shadow: Shadow) -> Any:
    """Return an argument with the paths of the workspace in its shadow."""
    if isinstance(value, list):
        return [_moved(one, shadow) for one in value]
    return shadow.place_of(value) if isinstance(value, Path) else value


@contextlib.contextmanager
def _telling(shadow: Shadow) -> Iterator[None]:
    """Name the workspace, not its shadow, in all that is printed and raised."""
    out, err = _Told(sys.stdout, shadow), _Told(sys.stderr, shadow)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            yield
        except OpenImageOError as error:
            error.args = (shadow.told(str(error)),)
            raise
        except OSError as error:
            error.filename = shadow.told(str(error.filename)) if error.filename else None
            raise


class _Told:
    """A stream that names the workspace where its shadow is meant; print gives a path in one piece."""

    def __init__(self, stream: TextIO, shadow: Shadow) -> None:
        self._stream, self._shadow = stream, shadow

    def write(self, text: str) -> int:
        return self._stream.write(self._shadow.told(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def run_app(app: typer.Typer, arguments: Sequence[str], prog_name: str) -> int:
    """Run one command line and return its exit code: 0 done, 1 our error, 2 usage, 130 or 143 interrupted.

    With ``--json`` among the arguments, standard output gets one JSON object, however the command ends:
    `manifests.run_report` says what is in it. Nothing else is printed there.
    """
    with reporting(RunReport(arguments=tuple(arguments))) as report:
        if any(word.partition("=")[0] == "--json" for word in arguments):
            return _run_to_object(app, report, prog_name)
        code = _run(app, report, prog_name)
        try:
            hand_over()
        except OutputError as error:
            code = code or _failed(report, error)
        _tell_end(report, has_next=not (code or is_nested()))
        return code


def _run_to_object(app: typer.Typer, report: RunReport, prog_name: str) -> int:
    out, err = io.StringIO(), io.StringIO()
    code = EXIT_OUR_ERROR
    try:
        with captured_streams(out, err):
            code = _run(app, report, prog_name)
    except BaseException as error:
        # A fault of this program: its traceback follows, as for people.
        report.error = ("internal", f"{type(error).__name__}: {one_line(error, 2000)}")
        raise
    finally:
        code = _hand_over_object(report, code, text=out.getvalue(), notices=err.getvalue())
    return code


def _hand_over_object(report: RunReport, code: int, *, text: str, notices: str) -> int:
    if code and report.error is None:
        report.error = _usage_error(notices)
    # --help was asked for too where no command was run and all is well.
    is_help = report.command is None and code == 0
    try:
        hand_over(text if is_help else report.as_json(code, text=text, notices=notices) + "\n")
    except OutputError as error:
        code = _failed(report, error)
        _tell_end(report, has_next=False)
    return code


def _failed(report: RunReport, error: OpenImageOError) -> int:
    # One line, whatever a library put into its message.
    report.error = (type(error).__name__, one_line(error, 2000))
    return EXIT_OUR_ERROR


def _tell_end(report: RunReport, *, has_next: bool) -> None:
    """Print the error, or the next step: on standard error, as what a command finds may go to a file."""
    if report.error is not None:
        kind, message = report.error
        print(f"{kind if kind == 'interrupted' else 'error'}: {message}", file=sys.stderr)
    elif has_next and report.next_step is not None:
        print(f"next: {report.next_step}", file=sys.stderr)


def _usage_error(notices: str) -> tuple[str, str]:
    """Return kind and message of what typer says of a command line that it does not take."""
    said = re.search(r"^Error: (.*)", notices, re.MULTILINE | re.DOTALL)
    return "usage", " ".join((said.group(1) if said else notices).split())


def _run(app: typer.Typer, report: RunReport, prog_name: str) -> int:
    with ending_in_order() as ending:
        try:
            with ending.raising():
                code = _exit_code(app, report, prog_name)
        except BaseException:
            # Whatever a library, or Python itself, makes of a signal that comes in the middle of it.
            if ending.number is None:
                raise
            code = EXIT_INTERRUPTED
    if code and ending.number is not None:
        report.error = ("interrupted", INTERRUPTED)
        return EXIT_TERMINATED if ending.number == signal.SIGTERM else EXIT_INTERRUPTED
    return code


def _exit_code(app: typer.Typer, report: RunReport, prog_name: str) -> int:
    try:
        app(args=list(report.arguments), prog_name=prog_name)
    except SystemExit as finished:
        code = finished.code if isinstance(finished.code, int) else int(finished.code is not None)
        if code == EXIT_INTERRUPTED:
            report.error = ("interrupted", INTERRUPTED)
        return code
    except OpenImageOError as error:
        return _failed(report, error)
    except OSError as error:
        try:
            hand_over()
        except OutputError as of_output:
            return _failed(report, of_output)
        # A full disk, a folder that may not be written: what is on disk is whole, as every write is a rename.
        # Whether anything new is there is the stage's to know.
        where = f"{error.filename}: " if error.filename else ""
        report.error = (type(error).__name__, f"{where}{error.strerror or error}; no file is left half-written")
        return EXIT_OUR_ERROR
    return 0
