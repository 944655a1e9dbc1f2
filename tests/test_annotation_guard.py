"""The guard before FiftyOne's server: whatever is not listed is refused. Neither FiftyOne nor mongod runs here."""

import asyncio
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote

import pytest

from annotation.app.guard import Guard
from annotation.app.policy import MAX_BODY_BYTES, Policy, new_token

HOST = "127.0.0.1:5151"
ORIGIN = f"http://{HOST}"
DATASET = "openimage-o-0123456789ab"
PAGE_QUERY = (
    "query DatasetPageQuery($name: String!, $view: BSONArray!, $search: String = \"\") {"
    " config { colorBy } dataset(name: $name, view: $view) { name } ...Names }"
    " fragment Names on Query { datasets(search: $search) { total } savedViews(datasetName: $name) { name } }"
)  # fmt: skip


class Answer:
    def __init__(
        self, status: int, headers: dict[str, str], body: bytes, forwarded: dict[str, Any] | None
    ) -> None:
        self.status, self.headers, self.body, self.forwarded = status, headers, body, forwarded

    @property
    def reason(self) -> str:
        return json.loads(self.body)["error"]


class Site:
    """A guard with an application behind it that remembers what reached it."""

    def __init__(self, root: Path) -> None:
        self.images, self.examples = root / "ws" / "images", root / "examples"
        for folder in (self.images, self.examples, root / "ws" / "images-of-others"):
            folder.mkdir(parents=True)
            (folder / "a.jpg").write_bytes(b"picture")
        (root / "secret.txt").write_text("secret")
        self.root = root
        self.tokens = {new_token(): "ann", new_token(): "ben"}
        self.policy = Policy(
            hosts=(HOST, "localhost:5151"),
            dataset_name=DATASET,
            workspace_name="judge",
            media_roots=(self.images.resolve(), self.examples.resolve()),
            tokens=self.tokens,
        )
        self.reached: list[dict[str, Any]] = []

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"] if scope["method"] == "POST" else b""
        self.reached.append({"scope": scope, "body": json.loads(body) if body else None})
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b"served"})

    def ask(
        self,
        method: str,
        path: str,
        *,
        query: str = "",
        body: Any = None,
        headers: Mapping[str, str | None] | None = None,
        user: str | None = "ann",
        chunks: int = 1,
    ) -> Answer:
        given = {"host": HOST, "origin": ORIGIN, "content-type": "application/json"}
        if user is not None:
            given["cookie"] = self.cookie(user)
        merged = {name: value for name, value in (given | dict(headers or {})).items() if value is not None}
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        scope = {
            "type": "http", "method": method, "path": path, "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in merged.items()],
        }  # fmt: skip
        return self.run(scope, content, chunks)

    def run(self, scope: dict[str, Any], content: bytes = b"", chunks: int = 1) -> Answer:
        size = -(-len(content) // chunks) or 1
        parts = [content[start : start + size] for start in range(0, len(content), size)] or [b""]
        messages = [
            {"type": "http.request", "body": part, "more_body": number < len(parts) - 1}
            for number, part in enumerate(parts)
        ]
        sent: list[Any] = []
        self.reached.clear()

        async def receive() -> Any:
            return messages.pop(0) if messages else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        asyncio.run(Guard(self._app, self.policy)(scope, receive, send))
        headers = {name.decode(): value.decode() for name, value in sent[0].get("headers", [])}
        reached = self.reached[0] if self.reached else None
        return Answer(sent[0].get("status", 0), headers, sent[-1].get("body", b""), reached)

    def cookie(self, user: str) -> str:
        token = next(token for token, owner in self.tokens.items() if owner == user)
        scope_headers = {"host": HOST}
        answer = self.ask("GET", "/login", query=f"token={token}", user=None, headers=scope_headers)
        return answer.headers["set-cookie"].partition(";")[0]

    def media(self, path: object) -> Answer:
        return self.ask("GET", "/media", query=f"filepath={quote(str(path), safe='')}")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def execute(uri: str, params: Any = None, **rest: Any) -> dict[str, Any]:
    return {"operator_uri": uri, "dataset_name": "theirs", "params": {} if params is None else params} | rest


class TestLogin:
    def test_token_becomes_a_cookie_that_scripts_and_other_sites_cannot_use(self, site: Site) -> None:
        token = next(iter(site.tokens))
        answer = site.ask("GET", "/login", query=f"token={token}", user=None)
        page = f"/datasets/{DATASET}?workspace=judge&annotator=ann"
        assert (answer.status, answer.headers["location"]) == (303, page)
        value, *attributes = answer.headers["set-cookie"].split("; ")
        assert set(attributes) == {"HttpOnly", "SameSite=Strict", "Path=/"}
        assert token not in value

    @pytest.mark.parametrize(
        "query", ["", "token=", "token=wrong", "token={0}&token={0}", "tokens={0}", "token={0}x"]
    )
    def test_any_other_token_is_refused(self, site: Site, query: str) -> None:
        answer = site.ask("GET", "/login", query=query.format(next(iter(site.tokens))), user=None)
        assert (answer.status, "set-cookie" in answer.headers) == (401, False)

    def test_secrets_stand_in_no_text_that_might_be_logged(self, site: Site) -> None:
        assert not [token for token in site.tokens if token in repr(site.policy)]
        assert site.cookie("ann").partition("=")[2] not in repr(site.policy)

    @pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
    @pytest.mark.parametrize("path", ["/", "/media", "/graphql", "/operators/execute", "/events", "/assets/a.js"])
    def test_without_a_cookie_nothing_is_served(self, site: Site, method: str, path: str) -> None:
        answer = site.ask(method, path, body={}, user=None)
        assert (answer.status, answer.forwarded) == (401, None)

    @pytest.mark.parametrize(
        "cookie",
        [
            "openimage_o_5151_ann=", "openimage_o_5151_ann=x", "other={0}", "openimage_o_1_ann={0}",
            "openimage_o_5151_ben={0}", "openimage_o_5151={0}",
        ],
    )  # fmt: skip
    def test_a_wrong_cookie_is_none(self, site: Site, cookie: str) -> None:
        value = site.cookie("ann").partition("=")[2]
        assert site.ask("GET", "/", headers={"cookie": cookie.format(value)}).status == 401

    def test_cookie_holds_in_a_later_run_with_the_same_tokens_and_in_no_other(self, site: Site) -> None:
        cookie = site.cookie("ann")
        site.policy = replace(site.policy)
        assert site.ask("GET", "/", user=None, headers={"cookie": cookie}).status == 200
        site.policy = replace(site.policy, tokens={new_token(): "ann"})
        assert site.ask("GET", "/", user=None, headers={"cookie": cookie}).status == 401

    def test_websockets_are_closed_with_and_without_a_login(self, site: Site) -> None:
        for cookie in ("", site.cookie("ann")):
            headers = [(b"host", HOST.encode()), (b"cookie", cookie.encode())]
            answer = site.run({"type": "websocket", "path": "/", "query_string": b"", "headers": headers})
            assert (answer.status, answer.forwarded) == (0, None)


class TestOrigin:
    @pytest.mark.parametrize(
        "host", [None, "evil.example", "127.0.0.1", "127.0.0.1:5152", "evil.example:5151", ""]
    )
    def test_foreign_host_is_refused_before_anything_else(self, site: Site, host: str | None) -> None:
        assert site.ask("GET", "/", headers={"host": host}).status == 421
        assert site.ask("GET", "/login", query="token=x", user=None, headers={"host": host}).status == 421

    @pytest.mark.parametrize(
        "origin", [None, "null", "http://evil.example", "https://127.0.0.1:5151", "http://127.0.0.1"]
    )
    @pytest.mark.parametrize("path", ["/operators/execute", "/graphql", "/events"])
    def test_foreign_or_missing_origin_is_refused_for_whatever_is_sent(
        self, site: Site, path: str, origin: str | None
    ) -> None:
        answer = site.ask("POST", path, body={}, headers={"origin": origin})
        assert (answer.status, answer.forwarded) == (403, None)

    @pytest.mark.parametrize(
        "kind", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
    )
    def test_what_a_form_of_another_site_can_send_is_refused(self, site: Site, kind: str | None) -> None:
        body = execute("@openimage-o/judge/store_answer")
        assert site.ask("POST", "/operators/execute", body=body, headers={"content-type": kind}).status == 415

    def test_header_given_twice_is_refused(self, site: Site) -> None:
        headers = [(b"host", HOST.encode()), (b"host", b"evil.example"), (b"cookie", site.cookie("ann").encode())]
        scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": headers}
        assert site.run(scope).status == 400

    def test_every_answer_forbids_frames_foreign_scripts_and_guessed_types(self, site: Site) -> None:
        for answer in (site.ask("GET", "/"), site.ask("GET", "/", user=None), site.ask("GET", "/nowhere")):
            policy = dict(
                part.strip().partition(" ")[::2] for part in answer.headers["content-security-policy"].split(";")
            )
            assert policy["frame-ancestors"] == policy["object-src"] == "'none'"
            assert not [source for source in policy.values() if "http" in source or "*" in source]
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "no-referrer"


class TestMedia:
    def test_pictures_of_the_workspace_and_examples_are_served(self, site: Site) -> None:
        for folder in (site.images, site.examples):
            answer = site.media(folder / "a.jpg")
            assert answer.status == 200
            served = parse_qs(answer.forwarded["scope"]["query_string"].decode())["filepath"]
            assert served == [str((folder / "a.jpg").resolve())]

    @pytest.mark.parametrize(
        "path",
        [
            "/etc/passwd", "{images}/../../secret.txt", "{images}/../images-of-others/a.jpg", "{images}", "{root}",
            "{images}/missing.jpg", "a.jpg", "", "{images}/a.jpg\0", "file://{images}/a.jpg", "~/x",
            "{images}/link.jpg",
            "{images}/linked/secret.txt", "{images}/%2e%2e/%2e%2e/secret.txt", "{images}/" + "x" * 5000,
        ],
    )  # fmt: skip
    def test_everything_else_is_not_found(self, site: Site, path: str) -> None:
        (site.images / "link.jpg").symlink_to(site.root / "secret.txt")
        (site.images / "linked").symlink_to(site.root)
        answer = site.media(path.format(images=site.images, root=site.root))
        assert (answer.status, answer.forwarded) == (404, None)

    def test_pipe_is_not_opened(self, site: Site) -> None:
        os.mkfifo(site.images / "pipe.jpg")
        assert site.media(site.images / "pipe.jpg").status == 404

    @pytest.mark.parametrize("more", ["filepath=/etc/passwd", "other=1", "filepath="])
    def test_query_read_in_two_ways_is_not_found(self, site: Site, more: str) -> None:
        good = f"filepath={quote(str(site.images / 'a.jpg'))}"
        for query in (f"{good}&{more}", f"{more}&{good}"):
            assert site.ask("GET", "/media", query=query).status == 404


class TestTargets:
    @pytest.mark.parametrize(
        "path",
        [
            "/", "/favicon.ico", "/assets/index.js", "/datasets/assets/index.js", f"/datasets/{DATASET}",
            "/plugins", "/plugins/judge/dist/index.umd.js", "/fiftyone", "/features",
        ],
    )  # fmt: skip
    def test_page_and_its_parts_are_served(self, site: Site, path: str) -> None:
        assert site.ask("GET", path).status == 200

    @pytest.mark.parametrize(
        "path",
        [
            "/graphql", "/plugins/judge/__init__.py", "/plugins/judge/fiftyone.yml", "/plugins/../x",
            "/datasets/other",
            "/assets/../../secret", "/embeddings/plot", "/screenshot/x", "/dataset/a/sample/b", "/ontologies",
            "/login/x",
        ],
    )  # fmt: skip
    def test_other_pages_are_not_found(self, site: Site, path: str) -> None:
        answer = site.ask("GET", path)
        assert (answer.status, answer.forwarded) == (404, None)

    @pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"])
    def test_methods_that_write_are_refused(self, site: Site, method: str) -> None:
        assert site.ask(method, "/dataset/a/sample/b", body={}).status == 405

    @pytest.mark.parametrize(
        "path",
        [
            "/operators/execute/generator", "/operators/resolve-type", "/operators/resolve-execution-options",
            "/operators/subscribe-execution-store", "/event", "/tag", "/tagging", "/sort", "/aggregate",
            "/samples",
            "/login", "/media",
        ],
    )  # fmt: skip
    def test_other_addresses_take_nothing(self, site: Site, path: str) -> None:
        answer = site.ask("POST", path, body=execute("@openimage-o/judge/store_answer"))
        assert answer.forwarded is None
        assert answer.status in (401, 403)


class TestOperators:
    @pytest.mark.parametrize("named", [{}, {"annotator_id": "ann"}])
    def test_answer_is_of_who_is_logged_in(self, site: Site, named: dict[str, str]) -> None:
        body = execute("@openimage-o/judge/store_answer", {"image_id": "a"} | named, view=[{"_cls": "x"}])
        answer = site.ask("POST", "/operators/execute", body=body, chunks=3)
        assert answer.forwarded["body"] == {
            "operator_uri": "@openimage-o/judge/store_answer",
            "dataset_name": DATASET,
            "params": {"image_id": "a", "annotator_id": "ann"},
        }

    @pytest.mark.parametrize("named", ["ben", "", "eva", 1, ["ann"], {}])
    def test_name_of_another_is_refused_in_words(self, site: Site, named: Any) -> None:
        body = execute("@openimage-o/judge/store_answer", {"image_id": "a", "annotator_id": named})
        answer = site.ask("POST", "/operators/execute", body=body)
        assert (answer.status, answer.forwarded) == (409, None)
        assert answer.reason == f"this page is of {named!r}, but this browser opened only the link of ann"

    def test_browser_that_opened_two_links_answers_in_the_name_that_each_page_gives(self, site: Site) -> None:
        both = {"cookie": f"{site.cookie('ann')}; {site.cookie('ben')}"}
        uri = "@openimage-o/judge/store_answer"
        for name in ("ann", "ben"):
            body = execute(uri, {"image_id": "a", "annotator_id": name})
            answer = site.ask("POST", "/operators/execute", body=body, headers=both)
            assert answer.forwarded["body"]["params"]["annotator_id"] == name
        answer = site.ask("POST", "/operators/execute", body=execute(uri, {"image_id": "a"}), headers=both)
        assert (answer.status, answer.forwarded) == (409, None)
        assert "links of ann, ben are open" in answer.reason
        assert site.ask("GET", "/", headers=both).status == 200

    @pytest.mark.parametrize(
        "uri", ["@voxel51/operators/list_files", "@openimage-o/judge/other", "store_answer", None, ["a"], {}]
    )
    def test_unlisted_operator_is_refused(self, site: Site, uri: Any) -> None:
        assert site.ask("POST", "/operators/execute", body=execute(uri)).status == 403

    def test_reading_operators_of_the_app_get_no_parameters(self, site: Site) -> None:
        body = execute("@voxel51/operators/list_workspaces", {"x": 1}, view=[{"_cls": "subprocess.Popen"}])
        forwarded = site.ask("POST", "/operators/execute", body=body).forwarded["body"]
        assert (forwarded["params"], forwarded["dataset_name"], "view" in forwarded) == ({}, DATASET, False)

    def test_buttons_of_other_operators_are_none(self, site: Site) -> None:
        answer = site.ask("POST", "/operators/resolve-placements", body={"view": [{"_cls": "subprocess.Popen"}]})
        assert (answer.forwarded, json.loads(answer.body)) == (None, {"placements": []})

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            (b"", 400),
            (b"{", 400),
            (b"[]", 400),
            (b"\xff", 400),
            (b"[" * 100_000, 400),
            (b" " * (MAX_BODY_BYTES + 1), 413),
        ],
    )
    def test_body_that_is_no_object_or_too_large_is_refused(self, site: Site, body: bytes, status: int) -> None:
        assert site.ask("POST", "/operators/execute", body=body, chunks=4).status == status

    def test_events_are_of_the_one_page_there_is(self, site: Site) -> None:
        state = {
            "initializer": {"_CLS": "fiftyone.core.state.StateDescription"},
            "events": ["refresh"],
            "subscription": "1",
        }
        forwarded = site.ask("POST", "/events", body=state).forwarded["body"]
        assert forwarded["initializer"] == {"dataset": DATASET, "workspace": "judge"}


class TestGraphQL:
    def ask(self, site: Site, query: Any, **variables: Any) -> Answer:
        return site.ask("POST", "/graphql", body={"query": query, "variables": variables})

    def test_query_of_the_page_passes_with_the_variables_that_it_declares(self, site: Site) -> None:
        answer = self.ask(site, PAGE_QUERY, name=DATASET, view=[], search="", workspace={"_cls": "Space"})
        assert answer.forwarded["body"]["variables"] == {"name": DATASET, "view": [], "search": DATASET}

    @pytest.mark.parametrize(
        "query",
        [
            'mutation { setView(subscription: "1", datasetName: "x", form: {}) { dataset { name } } }',
            'mutation { deleteSavedView(datasetName: "x", viewName: "y", subscription: "1") }',
            "query A { uid } mutation B { setDataset(subscription: \"1\") }",
            "query A { uid } query B { version }",
            "subscription { events }",
            "fragment F on Query { uid }",
            "{ uid",
            "",
            "{ " + "uid " * 6000 + "}",
            "{ " + "a { " * 2000 + "}" * 2000,
        ],
    )  # fmt: skip
    def test_mutations_and_whatever_is_not_one_query_are_refused(self, site: Site, query: str) -> None:
        answer = self.ask(site, query)
        assert (answer.status, answer.forwarded) == (403, None)

    @pytest.mark.parametrize(
        "query",
        [
            '{ samples(dataset: "x", view: []) { __typename } }',
            "{ ...F } fragment F on Query { aggregations(form: {}) { __typename } }",
            "{ ... on Query { lightning(input: {}) { __typename } } }",
            "{ uid: sample(dataset: \"x\", view: [], filter: {}) { __typename } }",
            "{ __schema { types { name } } }",
        ],
    )  # fmt: skip
    def test_only_what_the_page_reads_can_be_read(self, site: Site, query: str) -> None:
        assert "annotators may not read" in self.ask(site, query).reason

    @pytest.mark.parametrize(
        ("query", "variables"),
        [
            ('{ dataset(name: "theirs") { name } }', {}),
            ("query ($n: String!) { dataset(name: $n) { name } }", {"n": "theirs"}),
            ('query ($n: String! = "theirs") { dataset(name: $n) { name } }', {}),
            ("query { dataset { name } }", {}),
            ('{ datasets(search: "") { total } }', {}),
            ('{ savedViews(datasetName: "theirs") { name } }', {}),
            (f'{{ dataset(name: "{DATASET}") {{ name }} other: dataset(name: "theirs") {{ name }} }}', {}),
        ],
    )
    def test_only_the_dataset_judged_can_be_read(self, site: Site, query: str, variables: dict[str, Any]) -> None:
        assert "only the dataset" in self.ask(site, query, **variables).reason

    @pytest.mark.parametrize(
        ("query", "variables"),
        [
            (PAGE_QUERY, {"name": DATASET, "view": [{"_cls": "subprocess.Popen", "kwargs": [["args", "id"]]}]}),
            (PAGE_QUERY, {"name": DATASET, "view": [{"a": [{"_cls": "fiftyone.core.stages.Mongo"}]}]}),
            (f'{{ dataset(name: "{DATASET}", view: [{{_cls: "os.system"}}]) {{ name }} }}', {}),
            ('query ($v: BSONArray = [{_cls: "os.system"}]) { schemaForViewStages(viewStages: $v) { x } }', {}),
        ],
    )
    def test_view_that_names_a_class_of_python_is_refused(
        self, site: Site, query: str, variables: dict[str, Any]
    ) -> None:
        assert "views of their own making" in self.ask(site, query, **variables).reason

    @pytest.mark.parametrize(
        "body", [{"id": "stored"}, {"query": "{ uid }", "variables": []}, {"query": ["{ uid }"]}]
    )
    def test_stored_queries_and_odd_variables_are_refused(self, site: Site, body: dict[str, Any]) -> None:
        answer = site.ask("POST", "/graphql", body=body)
        assert answer.status == 403 or answer.forwarded["body"]["variables"] == {}
