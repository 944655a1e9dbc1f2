"""The real App, with a real mongod and a real Chromium: what is pressed is what is in the log."""

import json
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from annotation.annotate import annotate, read_guideline
from annotation.decision_log import log_path, open_log
from annotation.serving import Place
from manifests.errors import InputError, WorkspaceLockedError
from manifests.workspace import Workspace
from tests.annotation_app import (
    RunningApp,
    Screen,
    give_sources,
    needs_app,
    own_screen,
    shared_app,
)
from tests.annotation_workspace import decision, image_id_of, make_workspace, shown_classes_of

sync_api = pytest.importorskip("playwright.sync_api", reason="no Playwright: pip install playwright")


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    """One App with two annotators for all tests that leave it usable."""
    with shared_app(tmp_path_factory.mktemp("shared")) as running:
        yield running


@pytest.fixture
def screen(opened: Screen) -> Screen:
    return opened.settle()


@pytest.fixture
def fresh_screen(browser: sync_api.Browser, app: RunningApp) -> Iterator[Screen]:
    with own_screen(browser, app) as screen:
        yield screen


class TestJudging:
    pytestmark = needs_app

    def test_keys_and_clicks_reach_the_log_as_pressed(self, screen: Screen) -> None:
        page, app = screen.page, screen.app
        actions = [
            (lambda: screen.press("o"), "out", None),
            (lambda: screen.press("1"), "in", 0),
            (lambda: screen.press("0"), "in", 9),
            (lambda: screen.press("d"), "difficult", None),
            (lambda: page.click("#oio-out"), "out", None),
            (lambda: page.locator(".oio-card").nth(6).click(), "in", 6),
            (lambda: page.dblclick("#oio-skip", delay=20), "skip", None),
        ]
        expected = []
        for number, (act, answer, place) in zip(app.order, actions, strict=False):
            screen.wait_for(number)
            # React keeps cards of the picture before on screen when their keys repeat.
            assert screen.classes() == shown_classes_of(number)
            assert page.locator(".oio-card img").count() == 10
            expected.append((number, answer, None if place is None else shown_classes_of(number)[place]))
            act()
        screen.wait_for(app.order[7])
        screen.wait_until_saved()
        assert app.answers() == expected
        assert page.inner_text("#oio-progress").startswith("7 of 24 done · 7 in this session · ")
        # The team's figures are renewed every ten answers: what one of them changes would tell gold from others.
        assert page.inner_text("#oio-team") == "team: 0 of 24 · 0 annotating"

        for number in reversed(app.order[5:7]):
            screen.press("u")
            screen.wait_for(number)
            expected.append((number, "undo", None))
        assert app.answers() == expected

    def test_three_answers_go_ahead_of_the_server_and_the_fourth_key_waits(self, screen: Screen) -> None:
        before, first = screen.app.answers(), screen.number()
        start = screen.app.order.index(first)
        held: list[sync_api.Route] = []
        screen.page.route("**/operators/execute", lambda route: route.continue_() if held else held.append(route))
        for number in screen.app.order[start : start + 3]:
            screen.wait_for(number)
            screen.press("o")
        screen.wait_for(screen.app.order[start + 3])
        screen.press("d")
        screen.page.wait_for_timeout(100)
        assert screen.number() == screen.app.order[start + 3]
        assert screen.page.inner_text("#oio-saving") == "3 being saved"
        assert screen.app.answers() == before
        held[0].continue_()
        screen.wait_until_saved()
        assert screen.app.answers() == before + [(n, "out", None) for n in screen.app.order[start : start + 3]]

    def test_answer_is_sent_again_until_it_is_acknowledged_and_stored_once(self, screen: Screen) -> None:
        before, number = screen.app.answers(), screen.number()
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

        screen.page.route("**/operators/execute", lose)
        screen.press("d")
        screen.page.wait_for_selector(".oio-message:has-text('does not answer')")
        screen.wait_until_saved()
        assert (len(sent), len(set(sent))) == (3, 1)
        assert screen.app.answers() == [*before, (number, "difficult", None)]

    def test_page_closed_in_the_middle_of_answers_sends_them_when_it_is_opened_again(
        self, browser: sync_api.Browser, app: RunningApp, tmp_path: Path
    ) -> None:
        context = browser.new_context()
        screen = Screen(context.new_page(), app).open()
        before, start = app.answers(), app.order.index(screen.number())
        screen.page.route("**/operators/execute", lambda route: route.abort())
        for number in app.order[start : start + 2]:
            screen.wait_for(number)
            screen.press("s")
        screen.wait_for(app.order[start + 2])
        context.storage_state(path=tmp_path / "profile.json")
        context.close()
        assert app.answers() == before

        context = browser.new_context(storage_state=tmp_path / "profile.json")
        screen = Screen(context.new_page(), app).open()
        screen.wait_until_saved()
        assert app.answers() == before + [(n, "skip", None) for n in app.order[start : start + 2]]
        screen.wait_for(app.order[start + 2])
        context.close()

    def test_answer_that_cannot_be_stored_is_said_on_screen_and_asked_again(self, screen: Screen) -> None:
        before, number = screen.app.answers(), screen.number()
        # As on a full disk, half a line can be written.
        screen.app.limit_file_size(log_path(screen.app.workspace, "ann").stat().st_size + 20)
        screen.press("o")
        screen.page.wait_for_selector(".oio-message:has-text('Not saved: '):has-text('could not be stored')")
        screen.wait_for(number)
        assert screen.app.answers() == before
        screen.app.limit_file_size(-1)
        screen.press("o")
        screen.page.wait_for_selector(".oio-message", state="detached")
        screen.wait_until_saved()
        assert screen.app.answers() == [*before, (number, "out", None)]

    def test_two_links_in_one_browser_answer_each_in_the_name_that_its_page_shows(
        self, fresh_screen: Screen
    ) -> None:
        screen, app = fresh_screen, fresh_screen.app
        before = [app.answers(name) for name in ("ann", "ben")]
        other = Screen(screen.page.context.new_page(), app).open("ben")
        for page_of, name, log in ((screen, "ann", before[0]), (other, "ben", before[1])):
            page_of.page.bring_to_front()
            assert page_of.page.inner_text(".oio-top strong") == name
            number = page_of.number()
            page_of.press("d")
            page_of.wait_until_saved()
            assert app.answers(name) == [*log, (number, "difficult", None)]
        # Also after a reload of a page whose address says nothing any more.
        screen.page.evaluate("history.replaceState(null, '', location.pathname + '?workspace=judge')")
        screen.page.reload()
        screen.page.wait_for_selector("#oio-judge[data-ready=true]")
        assert screen.page.inner_text(".oio-top strong") == "ann"
        other.page.close()

    def test_page_whose_link_this_browser_no_longer_has_says_so_and_keeps_its_answers(
        self, fresh_screen: Screen
    ) -> None:
        screen = fresh_screen
        page, app = screen.page, screen.app
        before, number = app.answers("ann"), screen.number()
        kept = page.context.cookies()
        page.context.clear_cookies()
        page.context.add_cookies([cookie | {"name": cookie["name"].replace("_ann", "_ben")} for cookie in kept])
        other = page.context.new_page()
        other.goto(app.links["ben"])
        screen.press("o")
        words = "Nothing is being saved: this page is of 'ann', but this browser opened only the link of ben"
        page.wait_for_selector(f".oio-message:has-text(\"{words}\"):has-text('1 answer waits')")
        assert app.answers("ann") == before
        other.goto(app.links["ann"])
        screen.wait_until_saved()
        assert app.answers("ann") == [*before, (number, "out", None)]
        assert page.locator(".oio-message").count() == 0

    def test_two_annotators_judge_at_once_each_into_their_own_log(
        self, browser: sync_api.Browser, app: RunningApp
    ) -> None:
        contexts = [browser.new_context(), browser.new_context()]
        names = ("ann", "ben")
        screens = [
            Screen(context.new_page(), app).open(name) for context, name in zip(contexts, names, strict=True)
        ]
        before = [app.answers(name) for name in names]
        shown: list[list[int]] = [[], []]
        for _ in range(3):
            for screen, numbers, key in zip(screens, shown, "od", strict=True):
                numbers.append(screen.number())
                screen.press(key)
            for screen, numbers in zip(screens, shown, strict=True):
                screen.page.wait_for_selector(f"#oio-judge:not([data-image-id='{image_id_of(numbers[-1])}'])")
                screen.wait_for(screen.number())
        for screen, name, log, numbers, word in zip(
            screens, names, before, shown, ("out", "difficult"), strict=True
        ):
            screen.wait_until_saved()
            assert app.answers(name) == log + [(number, word, None) for number in numbers]
        for context in contexts:
            context.close()


class TestServer:
    pytestmark = needs_app

    def test_server_listens_on_the_loopback_only_and_serves_nothing_without_a_login(self, app: RunningApp) -> None:
        listening = [line.split()[1].split(":") for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        assert {host for host, port in listening if int(port, 16) == app.port} == {"0100007F"}
        for path in ("/", "/media?filepath=/etc/passwd", "/plugins", "/fiftyone"):
            with pytest.raises(urllib.error.HTTPError, match="401"):
                urllib.request.urlopen(app.base + path)

    def test_nothing_is_asked_of_any_other_host(self, browser: sync_api.Browser, app: RunningApp) -> None:
        context = browser.new_context()
        page = context.new_page()
        foreign: list[sync_api.Request] = []
        page.on(
            "request",
            lambda request: (
                None if request.url.startswith((app.base, "data:", "blob:")) else foreign.append(request)
            ),
        )
        Screen(page, app).open()
        # The App's own style sheets name fonts elsewhere: the page's policy stops the browser from asking.
        assert {request.failure for request in foreign} <= {"csp"}
        context.close()

    def test_what_an_annotator_may_not_do_the_real_server_does_not_do(self, screen: Screen) -> None:
        dataset = screen.page.evaluate("location.pathname").rpartition("/")[2]
        mutation = (
            f'mutation {{ setDataset(subscription: "1", session: null, name: "{dataset}", viewName: null) }}'
        )
        view = [{"_cls": "fiftyone.core.stages.Mongo", "kwargs": [["pipeline", [{"$out": "stolen"}]]]}]
        query = "query ($n: String!, $v: BSONArray!) { dataset(name: $n, view: $v) { name } }"
        log = log_path(screen.app.workspace, "ann")
        asked = [
            ("GET", f"/media?filepath={log}", None, 404),
            ("GET", "/media?filepath=/etc/passwd", None, 404),
            (
                "POST",
                "/operators/execute",
                {"operator_uri": "@voxel51/operators/list_files", "params": {"path": "/"}},
                403,
            ),
            ("POST", "/graphql", {"query": mutation, "variables": {}}, 403),
            ("POST", "/graphql", {"query": query, "variables": {"n": dataset, "v": view}}, 403),
            ("POST", "/graphql", {"query": query, "variables": {"n": dataset, "v": []}}, 200),
            ("PATCH", "/dataset/a/sample/b", {}, 405),
        ]
        for method, path, body, status in asked:
            found = screen.page.evaluate(
                """([method, path, body]) => fetch(path, { method, body: body && JSON.stringify(body),
                     headers: { "content-type": "application/json" } }).then((reply) => reply.status)""",
                [method, path, body],
            )
            assert (method, path, found) == (method, path, status)

    def test_another_annotators_name_in_a_request_is_refused(self, screen: Screen) -> None:
        found = screen.page.evaluate(
            """(body) => fetch("/operators/execute", { method: "POST", body: JSON.stringify(body),
                 headers: { "content-type": "application/json" } }).then((reply) => reply.status)""",
            {"operator_uri": "@openimage-o/judge/show_candidate", "params": {"annotator_id": "ben"}},
        )
        assert found == 409


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "localhost", "", "127.0.0.1:80", "example.org"])
def test_address_that_is_not_of_one_interface_is_refused(tmp_path: Path, address: str) -> None:
    with pytest.raises(InputError, match="expected the IP address of one interface"):
        annotate(Workspace(tmp_path), ["ann"], place=Place(address))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("names", [[], ["ann", "ann"]])
def test_annotators_are_named_once_each(tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(InputError, match="different names"):
        annotate(Workspace(tmp_path), names)


def test_annotator_who_is_answering_elsewhere_is_refused(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, n_review=1)
    with open_log(workspace, "ann"), pytest.raises(WorkspaceLockedError, match="'ann'"):
        annotate(workspace, ["ben", "ann"])


def test_port_in_use_is_refused_before_anything_starts(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, n_review=1)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(InputError, match="cannot be listened on"):
            annotate(workspace, ["ann"], place=Place(port=taken.getsockname()[1]))
    assert not (tmp_path / "fiftyone").exists()


def test_name_of_a_guideline_changes_with_its_text(tmp_path: Path) -> None:
    path = tmp_path / "rules.md"
    path.write_text("# A")
    # printf '# A' | sha256sum
    assert read_guideline(path) == ("rules-327f031b25e0", "# A")
    path.write_text("# B")
    assert read_guideline(path)[0] != "rules-327f031b25e0"
    with pytest.raises(InputError, match="cannot be read as a guideline"):
        read_guideline(tmp_path / "absent.md")


class TestDispute:
    pytestmark = needs_app

    def test_adjudicator_sees_all_answers_and_notes(self, browser: sync_api.Browser, tmp_path: Path) -> None:
        workspace = make_workspace(tmp_path, n_review=2)
        give_sources(workspace)
        for name, word, note in (("ben", "out", "nothing <i>here</i>"), ("cem", "in", "")):
            with open_log(workspace, name) as log:
                log.append(decision(f"{name}-0", image_id_of(1), word, note=note))
        with RunningApp(workspace, "--queue", "dispute") as app:
            context = browser.new_context()
            screen = Screen(context.new_page(), app).open()
            rows = [
                row.locator("td").all_inner_texts() for row in screen.page.locator(".oio-opinions tbody tr").all()
            ]
            assert rows == [["ben", "out", "", "nothing <i>here</i>", "1.5"], ["cem", "in", "rooster", "", "1.5"]]
            screen.page.set_viewport_size({"width": 1024, "height": 700})
            cut = """(parts) => parts.filter(({ scrollHeight, clientHeight, scrollWidth, clientWidth }) =>
                       scrollHeight > clientHeight + 1 || scrollWidth > clientWidth + 1).length"""
            assert screen.page.locator(".oio-caption").count() == 10
            assert screen.page.locator(".oio-caption, .oio-marks").evaluate_all(cut) == 0
            screen.press("2")
            screen.wait_for(None)
            row = json.loads(log_path(workspace, "ann").read_text())
            assert (row["queue"], row["class_index"]) == ("dispute", shown_classes_of(1)[1])
            context.close()
            assert app.end(signal.SIGINT) == (0, "annotate: ann answered 1, 0 left\n")
