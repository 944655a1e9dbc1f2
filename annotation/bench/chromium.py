"""The App in a real Chromium, with real key presses, timed by the page's own clock."""

import contextlib
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from annotation.bench.figures import BrowserFigures, MaskTimes, Times
from manifests.errors import ToolMissingError
from manifests.workspace import Workspace

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_SERVE = "annotation.bench.serve"
_VIEWPORT: Any = {"width": 1280, "height": 800}
_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
_TIMEOUT_MS = 60_000
# The panel takes no key before the picture has been looked at for 150 ms.
_LOOK_MS = 170
# With masks each picture stays as long, opened or not: meanwhile the browser gets the next ones ready.
_MASKS_LOOK_MS = 500
_N_FLOOR = 50
_BUILT = re.compile(r"dataset of [\d,]+ pictures: ([\d.]+) s")
_READY = "#oio-judge[data-ready=true]"
_LINK = re.compile(r"\S+: open (\S+)")

# Registered before the panel's own listener, which lets nobody hear of the key after it. The frame that is asked
# for when the picture is decoded is the one that shows it.
_PROBE = """
(() => {
  const probe = window.oioProbe = { shown: [], durable: [], masked: [], start: null };
  let before = null, isShown = true, isDurable = true, isMasked = true;
  window.addEventListener("keydown", (event) => {
    before = document.getElementById("oio-judge").dataset.imageId;
    probe.start = event.timeStamp;
    isShown = isDurable = false;
    isMasked = event.key !== "m";
  }, true);
  new MutationObserver(() => {
    const panel = document.getElementById("oio-judge");
    // The class stands on the canvas as soon as its mask is painted there.
    if (!isMasked && document.querySelector("#oio-mask[data-class-index]")) {
      isMasked = true;
      const { start } = probe;
      requestAnimationFrame(() => probe.masked.push(performance.now() - start));
    }
    if (probe.start === null || !panel || panel.dataset.imageId === before) return;
    const picture = document.getElementById("oio-picture");
    if (!isShown && picture && picture.dataset.imageId === panel.dataset.imageId) {
      isShown = true;
      const { start } = probe;
      picture.decode().then(() => requestAnimationFrame(() => probe.shown.push(performance.now() - start)));
    }
    if (!isDurable && document.getElementById("oio-saving").dataset.unsaved === "0") {
      isDurable = true;
      probe.durable.push(performance.now() - probe.start);
    }
  }).observe(document, { subtree: true, childList: true, attributes: true });
})()
"""

_ASK_FOR_NOTHING = """
async ([dataset, n]) => {
  const durations = [];
  for (let number = 0; number < n; number++) {
    const start = performance.now();
    const body = { operator_uri: "@openimage-o/judge/show_candidate", dataset_name: dataset, params: {} };
    const reply = await fetch("/operators/execute", {
      method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
    await reply.json();
    durations.push(performance.now() - start);
  }
  return durations;
}
"""


def measure_in_chromium(workspace: Workspace, n_answers: int) -> BrowserFigures:
    """Return what a user waits for, in a session of `n_answers` answers and in a curator's grid.

    Raises
    ------
    ToolMissingError
        Playwright or Chromium is not installed, or the App does not start.
    """
    with _chromium() as browser:
        with _served("annotator", workspace) as (link, dataset_s):
            page = _page(browser)
            page.add_init_script(_PROBE)
            panel_s = _open(page, link, _READY)
            floor_ms = page.evaluate(_ASK_FOR_NOTHING, ["", _N_FLOOR])
            _answer(page, n_answers)
            probe = page.evaluate("window.oioProbe")
        with _served("curator", workspace) as (link, curator_dataset_s):
            first_grid_s = _open(_page(browser), link, "[data-cy=looker] canvas, [data-cy=looker] img")
    return BrowserFigures(
        dataset_s=dataset_s,
        panel_s=panel_s,
        key_to_picture=_times(probe["shown"]),
        key_to_durable=_times(probe["durable"]),
        floor=_times(floor_ms),
        curator_dataset_s=curator_dataset_s,
        first_grid_s=first_grid_s,
    )


def measure_masks_in_chromium(workspace: Workspace, n_answers: int) -> MaskTimes:
    """Return what an annotator waits for where pictures have evidence masks, in two sessions of `n_answers`.

    In both, each picture is on screen for half a second, so that they can be compared.

    Raises
    ------
    ToolMissingError
        As `measure_in_chromium`.
    """
    probes = []
    with _chromium() as browser, _served("annotator", workspace) as (link, _):
        for opens_masks in (False, True):
            page = _page(browser)
            page.add_init_script(_PROBE)
            _open(page, link, _READY)
            _answer(page, n_answers, look_ms=_MASKS_LOOK_MS, opens_masks=opens_masks)
            probes.append(page.evaluate("window.oioProbe"))
    closed, opened = probes
    return MaskTimes(
        key_to_picture_closed=_times(closed["shown"]),
        key_to_mask=_times(opened["masked"]),
        key_to_picture_opened=_times(opened["shown"]),
    )


@contextlib.contextmanager
def _chromium() -> Iterator["Browser"]:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise ToolMissingError("bench annotate drives a browser: pip install '.[test]'") from error
    binary = shutil.which("chromium") or shutil.which("google-chrome")
    if binary is None:
        raise ToolMissingError("bench annotate needs Chromium on PATH: make browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=_FLAGS)
        yield browser
        browser.close()


@contextlib.contextmanager
def _served(role: str, workspace: Workspace) -> Iterator[tuple[str, float]]:
    """Yield the link that a role gets, and how long its dataset took to build, while the App is served."""
    command = [sys.executable, "-m", _SERVE, role, str(workspace.root)]
    repository = Path(__file__).resolve().parents[2]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=repository)
    try:
        said = link = ""
        built_s = 0.0
        for line in process.stderr or ():
            said += line
            built_s = float(match[1]) if (match := _BUILT.match(line)) else built_s
            link = match[1] if (match := _LINK.match(line)) else link
            if "Ctrl-C ends" in line:
                break
        else:
            raise ToolMissingError(f"the App did not start: {said[-2000:]}")
        yield link, built_s
    finally:
        process.terminate()
        process.communicate()


def _page(browser: "Browser") -> "Page":
    page = browser.new_context(viewport=_VIEWPORT).new_page()
    page.set_default_timeout(_TIMEOUT_MS)
    return page


def _open(page: "Page", link: str, selector: str) -> float:
    started = time.perf_counter()
    page.goto(link)
    page.wait_for_selector(selector)
    return time.perf_counter() - started


def _answer(page: "Page", n_answers: int, *, look_ms: float = _LOOK_MS, opens_masks: bool = False) -> None:
    for number in range(1, n_answers + 1):
        page.wait_for_selector(_READY)
        started = time.perf_counter()
        if opens_masks:
            page.keyboard.press("m")
            page.wait_for_function("n => window.oioProbe.masked.length === n", arg=number)
        page.wait_for_timeout(max(0.0, look_ms - 1000 * (time.perf_counter() - started)))
        page.keyboard.press("o")
        page.wait_for_function(
            "n => window.oioProbe.shown.length === n && window.oioProbe.durable.length === n", arg=number
        )


def _times(durations_ms: list[float]) -> Times:
    return Times.of([duration / 1000 for duration in durations_ms])
