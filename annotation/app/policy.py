"""What an annotator's browser may ask of FiftyOne's server: pure rules, without a server and without FiftyOne.

A request passes only where a rule here names it, and what is passed on is made anew from the parts that were
checked, so that nothing rides along.
"""

import hmac
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlencode

from annotation.app.graphql_rules import ANNOTATOR_RULES, GraphqlRules, checked_graphql

MAX_BODY_BYTES = 1 << 20
"""An answer takes less than 4 kB, the App's longest query about 20 kB."""

PLUGIN = "@openimage-o/judge"
OPERATORS = ("show_candidate", "show_catalogue", "show_masks", "store_answer", "undo_answer")
"""The operators of ours that an annotator may run."""

# The App runs these when it opens a page and shows an error where they are refused; both only read.
_READING_OPERATORS = ("@voxel51/operators/get_label_schemas", "@voxel51/operators/list_workspaces")

_GET_PATHS = ("/", "/index.html", "/favicon.ico", "/fiftyone", "/features", "/plugins")


class Refusal(Exception):  # noqa: N818 - an answer that is sent, not a fault of the program
    """A request that is answered with `status` and `reason` and goes no further."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass(frozen=True)
class Login:
    """Where a browser that showed its token goes, and the cookie that it gets."""

    page: str
    cookie: str


@dataclass(frozen=True)
class CheckedBody:
    """What becomes of the body of a POST: passed on in the form `forwarded`, or answered here with `answer`."""

    forwarded: Any = None
    answer: Any = None


PostRule = Callable[[Any, dict[str, Any], Sequence[str]], CheckedBody]
"""Takes policy, body and who is logged in with the browser that asks."""


def new_token() -> str:
    """Return a secret that cannot be guessed."""
    return secrets.token_urlsafe(32)


@dataclass(frozen=True)
class Policy:
    """The rules of one server.

    Attributes
    ----------
    hosts : tuple of str
        ``address:port`` as browsers may name this server; any other name is another site's that points here.
    dataset_name : str
        The only dataset that is served.
    workspace_name : str
        FiftyOne's word for a saved layout: the one with nothing but the panel.
    media_roots : tuple of Path
        Folders, resolved, whose files are served.
    tokens : mapping of str to str
        Login token to annotator. What a browser keeps in its place follows from it, so that a page that is open
        goes on where a later run has the same tokens.
    """

    hosts: tuple[str, ...]
    dataset_name: str
    workspace_name: str
    media_roots: tuple[Path, ...]
    tokens: Mapping[str, str] = field(repr=False)
    _cookies: dict[str, str] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        # Not the token itself: whoever sees a cookie cannot make the link of it.
        self._cookies.update(
            {owner: hmac.digest(token.encode(), b"cookie", "sha256").hex() for token, owner in self.tokens.items()}
        )

    def cookie_name(self, annotator_id: str) -> str:
        """Return the name of an annotator's cookie: one browser may hold several, and cookies know no ports."""
        return f"openimage_o_{self.hosts[0].rpartition(':')[2]}_{annotator_id}"

    def page(self, annotator_id: str) -> str:
        """Return path and query of the page that a login leads to; the panel reads from it whose page it is."""
        return f"/datasets/{self.dataset_name}?workspace={self.workspace_name}&annotator={annotator_id}"

    def check_host(self, host: str | None) -> None:
        """Refuse a request that was made for a host of another name: DNS rebinding."""
        if host is None or host.lower() not in self.hosts:
            raise Refusal(421, "this server does not serve that host")

    def login(self, method: str, query: bytes) -> Login:
        """Return where the owner of the token in `query` goes."""
        values = _query_values(query)
        given = values[0][1] if len(values) == 1 and values[0][0] == "token" else ""
        owner = _owner(self.tokens, given)
        if method != "GET" or owner is None:
            raise Refusal(
                401, "open the link that `annotate` printed: this one is of no use, or of an earlier run"
            )
        cookie = f"{self.cookie_name(owner)}={self._cookies[owner]}; HttpOnly; SameSite=Strict; Path=/"
        return Login(self.page(owner), cookie)

    def logged_in(self, cookie_header: str | None) -> list[str]:
        """Return who is logged in with this browser, at least one."""
        try:
            cookies = SimpleCookie(cookie_header or "")
        except CookieError:
            cookies = SimpleCookie()
        found = []
        for annotator_id, secret in self._cookies.items():
            morsel = cookies.get(self.cookie_name(annotator_id))
            if morsel and _owner({secret: annotator_id}, morsel.value):
                found.append(annotator_id)
        if not found:
            raise Refusal(401, "not logged in: open the link that `annotate` printed")
        return found

    def checked_target(self, method: str, path: str, query: bytes) -> dict[str, Any]:
        """Return the changes to the request's target, or refuse it."""
        if method not in ("GET", "HEAD", "POST"):
            raise Refusal(405, f"{self.graphql_rules.who} may not {method}")
        if method == "POST":
            if path not in self.post_rules:
                raise Refusal(403, f"{self.graphql_rules.who} may not POST to {path}")
            return {"query_string": b""}
        if path == "/media":
            return {"query_string": urlencode({"filepath": str(self._media_path(query))}).encode()}
        is_page = path in (f"/datasets/{self.dataset_name}", "/datasets/favicon.ico")
        is_asset = path.startswith(("/assets/", "/datasets/assets/")) and ".." not in path
        if not (is_page or is_asset or path in (*_GET_PATHS, self.bundle_path)):
            raise Refusal(404, f"no such page for {self.graphql_rules.who}")
        return {}

    def check_post(self, path: str, origin: str | None, content_type: str | None) -> None:
        """Refuse a POST that another site's page could have made the browser send."""
        if origin is None or origin.lower() not in {f"http://{host}" for host in self.hosts}:
            raise Refusal(403, "the request does not come from this server's own page")
        # The App asks for its stream of events, which changes nothing here, without saying that it sends JSON.
        is_json = (content_type or "").partition(";")[0].strip().lower() == "application/json"
        if not is_json and path != "/events":
            raise Refusal(415, "expected application/json")

    def checked_body(self, path: str, content: bytes, logged_in: Sequence[str]) -> CheckedBody:
        """Return what becomes of the body of a POST to `path`, or refuse it."""
        try:
            body = json.loads(content)
        except ValueError:
            raise Refusal(400, "the body is not JSON") from None
        except RecursionError:
            raise Refusal(400, "the body is nested too deeply") from None
        if not isinstance(body, dict):
            raise Refusal(400, "expected a JSON object")
        return self.post_rules[path](self, body, logged_in)

    def _media_path(self, query: bytes) -> Path:
        values = _query_values(query)
        if len(values) != 1 or values[0][0] != "filepath" or "\0" in values[0][1]:
            raise Refusal(404, "no such picture")
        asked = Path(values[0][1])
        try:
            path = asked.resolve(strict=True)
        except (OSError, RuntimeError):
            raise Refusal(404, "no such picture") from None
        inside = asked.is_absolute() and any(path.is_relative_to(root) for root in self.media_roots)
        if not inside or not path.is_file():
            raise Refusal(404, "no such picture")
        return path

    def _graphql(self, body: dict[str, Any], logged_in: Sequence[str]) -> CheckedBody:
        forwarded, objection = checked_graphql(body, self.dataset_name, self.graphql_rules)
        if objection:
            raise Refusal(403, objection)
        return CheckedBody(forwarded)

    def _execute(self, body: dict[str, Any], logged_in: Sequence[str]) -> CheckedBody:
        params = body.get("params")
        uri = body.get("operator_uri")
        if uri in _READING_OPERATORS:
            return CheckedBody({"operator_uri": uri, "dataset_name": self.dataset_name, "params": {}})
        if uri not in [f"{PLUGIN}/{name}" for name in OPERATORS] or not isinstance(params, dict):
            raise Refusal(403, f"annotators may not run {uri!r}")
        # View and filters, of which FiftyOne makes objects, stay behind.
        own = params | {"annotator_id": _speaker(params, logged_in)}
        return CheckedBody({"operator_uri": uri, "dataset_name": self.dataset_name, "params": own})

    def _list_operators(self, body: dict[str, Any], logged_in: Sequence[str]) -> CheckedBody:
        return CheckedBody({"dataset_name": self.dataset_name})

    def _no_placements(self, body: dict[str, Any], logged_in: Sequence[str]) -> CheckedBody:
        # Buttons of other operators, which annotators may not run.
        return CheckedBody(answer={"placements": []})

    def _events(self, body: dict[str, Any], logged_in: Sequence[str]) -> CheckedBody:
        events, subscription = body.get("events"), body.get("subscription")
        if not isinstance(subscription, str) or not _are_strings(events):
            raise Refusal(400, "expected events and subscription")
        # The one page there is, whatever the browser says: the server has one state for all who are logged in.
        initializer = {"dataset": self.dataset_name, "workspace": self.workspace_name}
        forwarded = {"initializer": initializer, "events": events, "subscription": subscription}
        return CheckedBody(forwarded | {"polling": body.get("polling") is True})

    bundle_path: ClassVar[str] = "/plugins/judge/dist/index.umd.js"
    graphql_rules: ClassVar[GraphqlRules] = ANNOTATOR_RULES
    post_rules: ClassVar[Mapping[str, PostRule]] = {
        "/graphql": _graphql,
        "/operators": _list_operators,
        "/operators/execute": _execute,
        "/operators/resolve-placements": _no_placements,
        "/events": _events,
    }


def _owner(secret_owners: Mapping[str, str], given: str) -> str | None:
    """Return whose secret `given` is, in a time that does not tell how much of it is right."""
    found = None
    for secret, owner in secret_owners.items():
        if hmac.compare_digest(secret.encode(), given.encode("utf-8", "surrogatepass")):
            found = owner
    return found


def _speaker(params: Mapping[str, Any], logged_in: Sequence[str]) -> str:
    """Return in whose name a page asks: whom it names, provided that this browser opened that link."""
    named = params.get("annotator_id")
    if named is None and len(logged_in) == 1:
        return logged_in[0]
    names = ", ".join(logged_in)
    if named is None:
        raise Refusal(409, f"the links of {names} are open in this browser: open yours once more")
    if named not in logged_in:
        raise Refusal(409, f"this page is of {named!r}, but this browser opened only the link of {names}")
    return str(named)


def _query_values(query: bytes) -> Sequence[tuple[str, str]]:
    return parse_qsl(query.decode("latin-1"), keep_blank_values=True)


def _are_strings(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(part, str) for part in value)
