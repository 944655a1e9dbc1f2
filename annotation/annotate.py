"""The annotate stage: one annotator answers the review set in the FiftyOne App."""

import contextlib
import os
import socket
import sys
import webbrowser
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from annotation.decision_log import log_path, open_log
from annotation.decisions import checked_annotator_id
from annotation.examples import find_examples
from annotation.judging import GUIDELINE, JudgingSession
from annotation.mongod import URI_VARIABLE, running_mongod
from annotation.review import read_class_names, read_review
from manifests.errors import InputError
from manifests.workspace import Workspace

LOOPBACK_ADDRESS = "127.0.0.1"

PLUGINS_DIR = Path(__file__).parent / "plugins"


@dataclass(frozen=True)
class AnnotationSummary:
    """What one session at the App came to.

    Attributes
    ----------
    annotator_id : str
        Who answered.
    n_answered : int
        Pictures answered in this session, less those taken back.
    n_left : int
        Pictures that this annotator has not answered yet.
    """

    annotator_id: str
    n_answered: int
    n_left: int


def annotate(
    workspace: Workspace,
    annotator_id: str,
    *,
    examples_dir: Path | None = None,
    port: int = 0,
    address: str = LOOPBACK_ADDRESS,
    open_browser: bool = False,
    guideline: str = GUIDELINE,
) -> AnnotationSummary:
    """Serve the App to one annotator until Ctrl-C and return what was done.

    Parameters
    ----------
    workspace : Workspace
        Screened; answers go into its ``decisions/<annotator_id>.jsonl``.
    annotator_id : str
        Whose answers they are.
    examples_dir : Path, optional
        One folder of pictures a class, named by class index or WordNet id.
    port : int
        Where to listen; 0 takes a free one.
    address : str
        Must be `LOOPBACK_ADDRESS`: FiftyOne asks nobody for a password and gives any file of this machine to
        whoever can reach it.
    open_browser : bool
        Open the page in the user's browser.
    guideline : str
        Name and version of the instructions that the annotator follows; stored with every answer.

    Raises
    ------
    InputError
        Another address, a port in use, or a folder without examples.
    WorkspaceLockedError
        This annotator is answering elsewhere.
    ToolMissingError
        There is no MongoDB server to be had.
    """
    checked_annotator_id(annotator_id)
    if address != LOOPBACK_ADDRESS:
        raise InputError(
            f"address: expected {LOOPBACK_ADDRESS}, found {address!r}: the App has no login and gives any file of "
            "this machine to whoever can reach it; from elsewhere, use an SSH tunnel"
        )
    items = read_review(workspace)
    class_names = read_class_names(workspace)
    shown = {class_index for item in items for class_index in item.shown_classes}
    examples = find_examples(examples_dir, shown, class_names) if examples_dir else {}
    with (
        open_log(workspace, annotator_id) as log,
        _listening(address, port) as listener,
        # One database an annotator: nobody finds another's work in it, and all can work at once.
        running_mongod(workspace.root / "fiftyone" / annotator_id) as database_uri,
        _environment(_fiftyone_settings(database_uri)),
    ):
        session = JudgingSession(log, items, class_names, examples, guideline)
        # Only now: FiftyOne reads its settings when it is imported, and takes seconds for that.
        from annotation.app import dataset, operators, server

        def announce() -> None:
            url = server.page_url(address, listener.getsockname()[1], dataset_name)
            _say(f"answers of {annotator_id} go to {log_path(workspace, annotator_id)}")
            _say(f"{session.n_left} of {len(items)} pictures left")
            _say(f"{len(examples)} of the {len(shown)} classes shown have an example picture")
            _say(f"open {url}  (Ctrl-C ends)")
            if open_browser:
                webbrowser.open(url)

        with server.connection(database_uri, PLUGINS_DIR):
            dataset_name = dataset.build_dataset(workspace.root, annotator_id, items, class_names)
            operators.serve_session(session)
            server.run_server(listener, when_ready=announce)
        return AnnotationSummary(annotator_id, session.n_answered, session.n_left)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def _listening(address: str, port: int) -> Iterator[socket.socket]:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((address, port))
            listener.listen()
        except (OSError, OverflowError) as error:
            raise InputError(
                f"port {port}: cannot be listened on ({error}); give another, or 0 for a free one"
            ) from error
        yield listener


def _fiftyone_settings(database_uri: str) -> dict[str, str]:
    return {
        URI_VARIABLE: database_uri,
        "FIFTYONE_DO_NOT_TRACK": "1",
        "FIFTYONE_SERVER": "1",
        # Without an address FiftyOne binds 0.0.0.0 where it believes to be in a container.
        "FIFTYONE_DEFAULT_APP_ADDRESS": LOOPBACK_ADDRESS,
        "FIFTYONE_PLUGINS_DIR": str(PLUGINS_DIR),
        # Without the cache every plugin module is executed twice a request.
        "FIFTYONE_PLUGINS_CACHE_ENABLED": "true",
        # Two notices about a MongoDB that is as it should be: version 6, and no replica set.
        "FIFTYONE_DATABASE_VALIDATION": "false",
        "FIFTYONE_EXECUTION_STORE_NOTIFICATION_SERVICE_DISABLED": "true",
        "FIFTYONE_SHOW_PROGRESS_BARS": "false",
        "FIFTYONE_LOGGING_LEVEL": "ERROR",
    }


@contextlib.contextmanager
def _environment(settings: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
