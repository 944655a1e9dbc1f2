"""The browse stage: a curator looks at all pictures of a workspace, and at all that is known of them."""

import contextlib
import importlib.util
import sys
import time
import webbrowser
from collections.abc import Iterator
from pathlib import Path

import filelock

from annotation.mongod import running_mongod
from annotation.picture_facts import read_facts
from annotation.serving import CURATOR_PLUGINS_DIR, Place, environment, fiftyone_settings, listening
from annotation.vectors import find_vectors
from manifests.errors import InputError, ToolMissingError, WorkspaceLockedError
from manifests.workspace import Workspace

MAP_METHODS = ("pca", "umap")

# Never an annotator's name, as those begin with a letter or a digit.
_CURATOR = ".curator"


def browse(
    workspace: Workspace,
    *,
    embeddings: str | None = None,
    map_method: str = "pca",
    place: Place | None = None,
    open_browser: bool = False,
) -> int:
    """Serve the grid to a curator until Ctrl-C and return how many pictures it holds.

    Nothing of the workspace is written but the database of the App, below ``fiftyone/.curator``.

    Parameters
    ----------
    workspace : Workspace
        Downloaded; what later stages have not written yet is empty.
    embeddings : str, optional
        Digest or model of the embeddings for similarity search and map; by default the only ones of CLIP.
    map_method : str
        ``pca`` or ``umap``.
    place : Place, optional
        Where to listen; by default the loopback.
    open_browser : bool
        Open the page in the user's browser.

    Raises
    ------
    InputError
        A wrong address, a port in use, or embeddings that are not there.
    WorkspaceLockedError
        Another process serves this workspace to a curator.
    ToolMissingError
        There is no MongoDB server to be had, or no umap-learn for ``umap``.
    """
    place = place or Place()
    place.check()
    _check_map(map_method)
    started = time.monotonic()
    store = find_vectors(workspace, embeddings)
    pictures, columns = read_facts(workspace)
    vectors = store.read(pictures) if store else {}
    with contextlib.ExitStack() as stack:
        folder = workspace.root / "fiftyone" / _CURATOR
        stack.enter_context(_held(folder))
        listener = stack.enter_context(listening(place, workspace, _CURATOR))
        database_uri = stack.enter_context(running_mongod(folder))
        stack.enter_context(environment(fiftyone_settings(database_uri, CURATOR_PLUGINS_DIR)))
        # Only now: FiftyOne reads its settings when it is imported, and takes seconds for that.
        from annotation.app import curator, policy, server
        from annotation.app.curator_policy import CuratorPolicy

        stack.enter_context(server.connection(database_uri, CURATOR_PLUGINS_DIR))
        content = curator.CuratorContent(pictures, columns, vectors, map_method)
        building = time.monotonic()
        dataset = curator.build_curator_dataset(workspace, content)
        _say(f"dataset of {len(pictures):,} pictures: {time.monotonic() - building:.1f} s")
        token = policy.new_token()
        rules = CuratorPolicy(
            hosts=place.hosts(listener),
            dataset_name=dataset.name,
            workspace_name="",
            media_roots=((workspace.root / "images").resolve(),),
            tokens={token: _CURATOR},
            dataset_id=str(dataset._doc.id),
        )
        link = f"http://{rules.hosts[0]}/login?token={token}"
        ready = f"{len(pictures):,} pictures, ready after {time.monotonic() - started:.1f} s"

        def announce() -> None:
            model = f"similarity and map by {store.model}" if vectors and store else "no embeddings: no map"
            _say(f"{ready}; {model}")
            _say(f"curator: open {link}")
            _say("The link is a secret: it shows who answered what. Ctrl-C ends.")
            if open_browser:
                webbrowser.open(link)

        server.run_server(listener, rules, when_ready=announce)
    return len(pictures)


def _check_map(map_method: str) -> None:
    if map_method not in MAP_METHODS:
        raise InputError(f"--map: expected one of {MAP_METHODS}, found {map_method!r}")
    if map_method == "umap" and importlib.util.find_spec("umap") is None:
        raise ToolMissingError("--map umap needs umap-learn: pip install umap-learn, or take --map pca")


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / ".lock")
        lock.acquire(blocking=False)
    except filelock.Timeout:
        raise WorkspaceLockedError(f"{folder}: another process serves this workspace to a curator") from None
    except OSError as error:
        raise InputError(f"{folder}: cannot be made or written ({error.strerror})") from error
    try:
        yield
    finally:
        lock.release()


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
