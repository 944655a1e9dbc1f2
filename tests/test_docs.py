"""The documentation: it builds, asks for nothing from elsewhere, and says what the code says."""

import ast
import contextlib
import io
import os
import re
import subprocess
import sys
import threading
from functools import cache, partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
import typer
from PIL import Image

import cli
from docs.hard_cases import CASES, FOLDER, draw_case
from scoring.methods.table import METHODS
from tests.annotation_app import CHROMIUM, launched_chromium
from tests.conftest import REPOSITORY
from tests.waiting import HANGS_S

DOCS = REPOSITORY / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
COMMANDS = sorted(typer.main.get_command(cli.app).commands)
LOADING = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "object": "data"}


class Links(HTMLParser):
    """What a page loads by itself, where it leads, and which places of it can be led to."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.leads: list[str] = []
        self.anchors: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if given.get("id"):
            self.anchors.add(given["id"])
        if tag in LOADING and given.get(LOADING[tag]):
            self.loads.append(given[LOADING[tag]])
        if tag == "link" and given.get("rel") not in ("prev", "next", "canonical"):
            self.loads.append(given["href"])
        if tag == "a" and given.get("href"):
            self.leads.append(given["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built pages, as `make docs` builds them but for the outputs of the notebook."""
    for needed in ("material", "mkdocstrings", "nbformat"):
        pytest.importorskip(needed, reason="the documentation's tools are absent: pip install '.[docs]'")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "DOCS_EXECUTE": "0"}
    finished = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, env=environment)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return folder


@pytest.fixture(scope="module")
def links(site):
    return {page: Links(page) for page in sorted(site.rglob("*.html"))}


def test_the_site_loads_nothing_from_another_host(site, links):
    assert len(links) > len(PAGES)
    for page, found in links.items():
        foreign = [one for one in found.loads if urlsplit(one).scheme not in ("", "data") or one.startswith("//")]
        assert not foreign, f"{page}: {foreign}"
    for sheet in site.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        assert not re.findall(r"url\(['\"]?(?:https?:)?//|@import\s", text), sheet


def test_every_link_within_the_site_leads_to_a_page_and_a_place_on_it(site, links):
    dead = []
    for page, found in links.items():
        for target in (*found.leads, *found.loads):
            parts = urlsplit(target)
            # The page for a missing address names the others from the root of wherever the site is served.
            if parts.scheme or page.name == "404.html":
                continue
            path = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            path = path / "index.html" if path.is_dir() else path
            is_page = path.suffix == ".html"
            if not path.is_file() or (
                is_page and parts.fragment and unquote(parts.fragment) not in links[path].anchors
            ):
                dead.append(f"{page.relative_to(site)}: {target}")
    assert not dead, dead


def test_every_mark_was_replaced(links):
    for page in links:
        assert "{{" not in page.read_text(encoding="utf-8"), page


@cache
def text_of_docs():
    return {page.relative_to(DOCS).as_posix(): page.read_text(encoding="utf-8") for page in PAGES}


def test_every_command_has_one_page():
    marked = [
        name for text in text_of_docs().values() for name in re.findall(r"\{\{ command ([a-z-]+) \}\}", text)
    ]
    assert sorted(marked) == COMMANDS


def test_the_list_of_stages_names_every_command():
    listed = re.findall(r"^\| \[`([a-z-]+)`\]", text_of_docs()["stages/index.md"], re.MULTILINE)
    assert sorted(listed) == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_the_page_of_a_command_shows_every_option_of_its_help(command, site, capsys):
    assert cli.run([command, "--help"]) == 0
    listing = capsys.readouterr().out.partition("Options:\n")[2]
    options = re.findall(r"^  (?:-\w, )?(--[a-z-]+)", listing, re.MULTILINE)
    (name,) = [name for name, text in text_of_docs().items() if f"{{{{ command {command} }}}}" in text]
    html = (site / name).with_suffix(".html").read_text(encoding="utf-8")
    assert len(options) > 1
    assert [one for one in options if one != "--help" and f"<code>{one}</code>" not in html] == []


def shown_commands():
    """Return page, command and options of each command line in the pages."""
    for name, text in text_of_docs().items():
        for command, rest in re.findall(r"python cli\.py ([a-z-]+)([^\n`#]*)", text.replace("\\\n", " ")):
            yield name, command, re.findall(r"--[a-z-]+", rest)


@cache
def options_of(command):
    return frozenset(re.findall(r"--[a-z-]+", help_of(command)))


def help_of(command):
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        assert cli.run([command, "--help"]) == 0, command
    return said.getvalue()


def test_the_pages_name_commands_and_options_that_exist():
    shown = [*shown_commands()]
    assert len(shown) > 50
    strange = [
        (name, command, option)
        for name, command, options in shown
        for option in options
        if option not in options_of(command)
    ]
    assert not strange


def texts_of_the_code():
    """Every text that stands in the code, f-strings with a gap for what they put in."""
    for folder in ("annotation", "curation", "manifests", "scoring"):
        for path in (REPOSITORY / folder).rglob("*.py"):
            yield from _texts(path)
    yield from _texts(REPOSITORY / "cli.py")


def _texts(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "\0" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_the_messages_of_failures_are_messages_of_the_code():
    said = "\1".join(texts_of_the_code())
    quoted = {
        (name, message)
        for name, text in text_of_docs().items()
        for table in re.findall(r"^\| message \|.*\n\|[-| ]+\n((?:\|.*\n?)+)", text, re.MULTILINE)
        for message in re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)
    }
    assert len(quoted) > 60
    assert sorted(one for one in quoted if one[1] not in said) == []


def test_every_table_of_a_workspace_has_its_columns_on_the_page(site):
    from manifests import schema

    declared = {one.file_name for one in vars(schema).values() if isinstance(one, schema.TableSpec)}
    marked = re.findall(r"\{\{ table (.*?) \}\}", text_of_docs()["workspace.md"])
    assert set(marked) == declared | {"audits/<audit>.parquet"}
    html = (site / "workspace.html").read_text(encoding="utf-8")
    for word in ("shown_similarities", "bits", "verdict_source", "low_quality", "placeholder"):
        assert f"<code>{word}</code>" in html


def test_the_table_of_scorers_shows_formula_and_source_of_each(site):
    html = (site / "scorers.html").read_text(encoding="utf-8")
    rows = re.findall(r"<tr>\n<td><code>(\w+)</code></td>\n<td>(.*?)</td>", html)
    assert rows == [(method.name, method.title) for method in METHODS]
    assert "<code>alpha norm((x - o) R) - log sum_c exp(l_c)</code>" in html
    # Out of the docstrings: a reference in full, and a departure from the authors' code.
    assert "ViM: Out-Of-Distribution with Virtual-logit Matching, section 4" in html
    assert "without the cancellation" in html


def test_the_reference_is_written_out_of_the_docstrings(site):
    html = (site / "api" / "manifests.html").read_text(encoding="utf-8")
    assert "Hold the workspace for one stage and record how it was run." in html
    assert "Another process is at work here, or in" in html


def test_the_guideline_is_the_one_that_the_app_shows(site):
    html = (site / "guideline.html").read_text(encoding="utf-8")
    text = (REPOSITORY / "annotation" / "guideline.md").read_text(encoding="utf-8")
    assert text.partition("\n")[0].removeprefix("# ") in html
    for heading in re.findall(r"^## (.*)$", text, re.MULTILINE):
        assert f">{heading}<" in html


@pytest.mark.parametrize("name", CASES)
def test_a_hard_case_is_the_picture_that_the_script_draws(name):
    stored = np.asarray(Image.open(FOLDER / f"{name}.jpg"), dtype=np.int16)
    drawn = np.asarray(draw_case(name), dtype=np.int16)
    assert stored.shape == drawn.shape == (270, 360, 3)
    # The stored one has gone through JPEG.
    assert np.abs(stored - drawn).mean() < 4


def test_every_hard_case_is_shown_once_with_a_description():
    shown = re.findall(r'<img src="hard_cases/(\w+)\.jpg" alt="([^"]{6,})"', text_of_docs()["hard-cases.md"])
    assert sorted(name for name, _ in shown) == sorted(CASES) == sorted(path.stem for path in FOLDER.glob("*"))


@pytest.fixture(scope="module")
def served(site):
    """The site behind a server of the loopback, as its search needs one."""
    handler = partial(Quiet, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        """Say nothing."""


@pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="no Chromium: make browser")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_pages_open_in_a_browser_without_an_error_and_the_search_finds(scheme, served, tmp_path):
    pytest.importorskip("playwright")
    wrong = []
    with launched_chromium() as browser:
        page = browser.new_context(color_scheme=scheme, viewport={"width": 1280, "height": 900}).new_page()
        page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("requestfailed", lambda request: wrong.append(f"failed: {request.url}"))
        page.on(
            "request", lambda asked: None if asked.url.startswith((served, "data:")) else wrong.append(asked.url)
        )
        for name in ("index", "stages/score", "hard-cases", "quickstart", "api/scoring.methods"):
            page.goto(f"{served}/{name}.html")
            page.wait_for_load_state("networkidle")
            page.screenshot(path=tmp_path / f"{name.replace('/', '_')}.png")
            # Wide tables and code scroll in themselves.
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
        page.goto(f"{served}/index.html")
        page.fill("input[name=query]", "contamination")
        page.wait_for_selector(".md-search-result__link", state="attached", timeout=HANGS_S * 1000)
        # Pages come before the reference.
        assert "/api/" not in page.get_attribute(".md-search-result__link >> nth=0", "href")
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.context.close()
    assert wrong == []
    brightness = sum(int(part) for part in re.findall(r"\d+", background)[:3])
    assert (brightness > 600) == (scheme == "light")
