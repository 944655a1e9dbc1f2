"""The annotate stage: one or more annotators answer a queue of pictures in the FiftyOne App."""

import contextlib
import hashlib
import sys
import time
import webbrowser
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from annotation.catalogue import Catalogue
from annotation.decision_log import DecisionLog, log_path, open_log
from annotation.decisions import checked_annotator_id
from annotation.evidence_masks import EvidenceMasks
from annotation.examples import find_examples
from annotation.judging import JudgingSession
from annotation.links import kept_token
from annotation.mongod import running_mongod
from annotation.queues import GOLD_SHARE, open_queue
from annotation.review import read_class_names
from annotation.serving import PLUGINS_DIR, Place, environment, fiftyone_settings, listening
from annotation.work_queue import WorkQueue
from manifests.errors import InputError
from manifests.workspace import Workspace

GUIDELINE_PATH = Path(__file__).parent / "guideline.md"
"""The instructions that ship with the toolkit."""


@dataclass(frozen=True)
class AnnotationSummary:
    """What one annotator's session at the App came to.

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


@dataclass(frozen=True)
class QueueChoice:
    """Which pictures annotators get, in which order; see `annotation.queues.open_queue`.

    Attributes
    ----------
    name : str
        One of `manifests.schema.QUEUES`.
    votes : int, optional
        How many annotators answer each picture; by default as many as for the last consensus, or 2.
    order : str
        ``risk`` or ``random``.
    seed : int
        Of the random order, of who gets which picture, and of where gold pictures come.
    team : tuple of str
        All annotators of the first round, where pictures are shared out among them.
    gold_share : float
        Share of pictures with a known answer mixed in.
    sample : int, optional
        Pictures of a new inspection round.
    own_disputes : bool
        Let adjudicators rule on disputes in which they have voted.
    """

    name: str = "first"
    votes: int | None = None
    order: str = "risk"
    seed: int = 0
    team: tuple[str, ...] = ()
    gold_share: float = GOLD_SHARE
    sample: int | None = None
    own_disputes: bool = False


def annotate(
    workspace: Workspace,
    annotator_ids: Sequence[str],
    queue: QueueChoice | None = None,
    *,
    examples_dir: Path | None = None,
    guideline_path: Path = GUIDELINE_PATH,
    place: Place | None = None,
    open_browser: bool = False,
) -> list[AnnotationSummary]:
    """Serve the App to annotators until Ctrl-C and return what each has done.

    Each gets a link of their own, printed to stderr; whoever has the link answers in that name.

    Parameters
    ----------
    workspace : Workspace
        Screened; answers go into its ``decisions/<annotator_id>.jsonl``.
    annotator_ids : sequence of str
        Who answers.
    queue : QueueChoice, optional
        Which pictures; by default every picture under review, twice, riskiest first.
    examples_dir : Path, optional
        One folder of pictures a class, named by class index or WordNet id.
    guideline_path : Path
        The instructions, in Markdown; name and digest are stored with every answer.
    place : Place, optional
        Where to listen; by default the loopback.
    open_browser : bool
        Open the first annotator's page in the user's browser.

    Raises
    ------
    InputError
        A wrong address, a port in use, an annotator named twice, or a folder without examples.
    WorkspaceLockedError
        An annotator is answering elsewhere.
    ToolMissingError
        There is no MongoDB server to be had.
    """
    names = [checked_annotator_id(annotator_id) for annotator_id in annotator_ids]
    if not names or len(set(names)) != len(names):
        raise InputError(f"annotators: expected different names, at least one, found {names}")
    place = place or Place()
    place.check()
    choice = queue or QueueChoice()
    guideline, guideline_text = read_guideline(guideline_path)
    class_names = read_class_names(workspace)
    with contextlib.ExitStack() as stack:
        # All logs before the first queue, which looks at what the others answered: none may be held elsewhere.
        logs = {name: stack.enter_context(_log_of(workspace, name)) for name in names}
        queues = _open_queues(workspace, names, choice)
        items = {image_id: item for opened in queues.values() for image_id, item in opened.plan.items.items()}
        # Also those without a name in a workspace whose screen wrote no label space.
        shown = {class_index for item in items.values() for class_index in item.shown_classes}
        wanted = shown.union(class_names)
        examples = find_examples(examples_dir, wanted, class_names) if examples_dir else {}
        catalogue = Catalogue(class_names, examples, guideline)
        masks = EvidenceMasks.of_queue(workspace, choice.name, items.values(), announce=_say)
        sessions = {name: JudgingSession(logs[name], queues[name], catalogue, masks) for name in names}
        listener = stack.enter_context(listening(place, workspace, names[0]))
        # The log's lock lets an annotator be in one place only, so the first one's name makes the folder ours.
        database_uri = stack.enter_context(running_mongod(workspace.root / "fiftyone" / names[0]))
        stack.enter_context(environment(fiftyone_settings(database_uri)))
        # Only now: FiftyOne reads its settings when it is imported, and takes seconds for that.
        from annotation.app import dataset, operators, policy, server

        stack.enter_context(server.connection(database_uri, PLUGINS_DIR))
        # What is sent in clear to another machine can be read on the way: it must not open a later run as well.
        tokens = {kept_token(workspace, name) if place.is_loopback else policy.new_token(): name for name in names}
        folders = (workspace.root / "images", *([examples_dir] if examples_dir else []))
        started = time.monotonic()
        dataset_name = dataset.build_dataset(workspace.root, items.values())
        _say(f"dataset of {len(items):,} pictures: {time.monotonic() - started:.1f} s")
        rules = policy.Policy(
            hosts=place.hosts(listener),
            dataset_name=dataset_name,
            workspace_name=dataset.WORKSPACE_NAME,
            media_roots=tuple(folder.resolve() for folder in folders),
            tokens=tokens,
        )
        operators.serve_sessions(sessions, guideline_text)

        links = {owner: f"http://{rules.hosts[0]}/login?token={token}" for token, owner in tokens.items()}

        def announce() -> None:
            _announce(workspace, sessions, links, place)
            _say(f"{len(examples)} of {len(wanted)} classes have an example picture")
            if open_browser:
                webbrowser.open(links[names[0]])

        server.run_server(listener, rules, when_ready=announce)
        return [AnnotationSummary(name, session.n_answered, session.n_left) for name, session in sessions.items()]


def read_guideline(path: Path) -> tuple[str, str]:
    """Return the name under which answers refer to a guideline, which changes with its text, and the text.

    Raises
    ------
    InputError
        The file cannot be read.
    """
    try:
        content = path.read_bytes()
        text = content.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a guideline ({error})") from error
    return f"{path.stem[:60]}-{hashlib.sha256(content).hexdigest()[:12]}", text


@contextlib.contextmanager
def _log_of(workspace: Workspace, annotator_id: str) -> Iterator[DecisionLog]:
    """Hold a log; one that was made here goes again where nothing comes of the session."""
    is_new = not log_path(workspace, annotator_id).exists()
    with open_log(workspace, annotator_id) as log:
        try:
            yield log
        except BaseException:
            if is_new and not log.decisions:
                log_path(workspace, annotator_id).unlink(missing_ok=True)
            raise


def _open_queues(workspace: Workspace, names: Sequence[str], choice: QueueChoice) -> dict[str, WorkQueue]:
    return {
        name: open_queue(
            workspace,
            name,
            choice.name,
            votes=choice.votes,
            order=choice.order,
            seed=choice.seed,
            annotators=choice.team,
            present=names,
            gold_share=choice.gold_share,
            sample=choice.sample,
            own_disputes=choice.own_disputes,
        )
        for name in names
    }


def _announce(
    workspace: Workspace, sessions: Mapping[str, JudgingSession], links: Mapping[str, str], place: Place
) -> None:
    if not place.is_loopback:
        _say(
            f"WARNING: {place.address} can be reached from elsewhere, and nothing is encrypted: links, answers and"
        )
        _say("pictures can be read on the way. An SSH tunnel to the loopback is safer.")
    for name, session in sessions.items():
        _say(f"{name}: {session.n_left} pictures left; answers go to {log_path(workspace, name)}")
        _say(f"{name}: open {links[name]}")
    lasting = "Links stay the same from run to run" if place.is_loopback else "The next run has other links"
    _say(f"The links are secrets: whoever opens one answers in that name. {lasting}. Ctrl-C ends.")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
