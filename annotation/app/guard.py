"""The guard before FiftyOne's server: who is asking, from where, and whether an annotator may ask that.

FiftyOne's own server knows no login, gives every file of the machine to whoever asks for it, runs any operator for
any page of the web, and makes objects of any Python class that a view names. So nothing passes that is not listed
here. `annotation.app.policy` says what may pass; this file only speaks HTTP.
"""

import http
import json
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from annotation.app.policy import MAX_BODY_BYTES, Policy, Refusal

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

SECURITY_HEADERS = {
    # The App's index page asks for fonts of another host; it makes styles and workers at run time.
    "content-security-policy": "default-src 'self'; script-src 'self' 'unsafe-inline' 'wasm-unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self' blob:; worker-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}

# Pictures of the workspace never change under their name, and are shown again by undo.
_PICTURE_CACHING = (b"cache-control", b"private, max-age=86400")


class Guard:
    """An ASGI application that lets through to `app` what `policy` allows, and answers everything else itself.

    Parameters
    ----------
    app : ASGI application
        FiftyOne's server.
    policy : Policy
        The rules.
    """

    def __init__(self, app: Application, policy: Policy) -> None:
        self._app = app
        self._policy = policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, _with_headers(send, scope["path"]))
        else:
            # The App opens no websocket.
            await receive()
            await send({"type": "websocket.close", "code": 1008})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            headers = _single_headers(scope)
            self._policy.check_host(headers.get("host"))
            if scope["path"] == "/login":
                await self._log_in(scope, send)
                return
            logged_in = self._policy.logged_in(headers.get("cookie"))
            scope = dict(scope) | self._policy.checked_target(
                scope["method"], scope["path"], scope["query_string"]
            )
            if scope["method"] == "POST":
                self._policy.check_post(scope["path"], headers.get("origin"), headers.get("content-type"))
                await self._post(scope, receive, send, logged_in)
            else:
                await self._app(scope, receive, send)
        except Refusal as refusal:
            await _reply(send, refusal.status, {"error": refusal.reason})

    async def _post(self, scope: Scope, receive: Receive, send: Send, logged_in: Sequence[str]) -> None:
        body = self._policy.checked_body(scope["path"], await _read_body(receive), logged_in)
        if body.answer is not None:
            await _reply(send, 200, body.answer)
            return
        content = json.dumps(body.forwarded).encode()
        kept = [(name, value) for name, value in scope["headers"] if name not in (b"content-length", b"cookie")]
        headers = [*kept, (b"content-length", str(len(content)).encode())]
        await self._app(dict(scope) | {"headers": headers}, _replayed(content, receive), send)

    async def _log_in(self, scope: Scope, send: Send) -> None:
        login = self._policy.login(scope["method"], scope["query_string"])
        headers = [(b"location", login.page.encode()), (b"set-cookie", login.cookie.encode())]
        await send({"type": "http.response.start", "status": http.HTTPStatus.SEE_OTHER, "headers": headers})
        await send({"type": "http.response.body", "body": b""})


def _single_headers(scope: Scope) -> dict[str, str]:
    """Return the headers by name; one given twice, of which others may read another, is refused."""
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        text = name.decode("latin-1").lower()
        if text in ("host", "origin", "content-type") and text in headers:
            raise Refusal(400, f"the header {text} is given twice")
        # HTTP/2 may give the parts of a cookie one by one.
        joined = f"{headers[text]}; " if text == "cookie" and text in headers else ""
        headers[text] = joined + value.decode("latin-1")
    return headers


async def _read_body(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refusal(400, "the request was broken off")
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise Refusal(413, f"at most {MAX_BODY_BYTES} bytes are taken")
        if not message.get("more_body"):
            return body


def _replayed(content: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives `content` first and then what comes, such as the end of the connection."""
    waiting: list[Message] = [{"type": "http.request", "body": content, "more_body": False}]

    async def next_message() -> Message:
        return waiting.pop() if waiting else await receive()

    return next_message


def _with_headers(send: Send, path: str) -> Send:
    own = [(name.encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", []))
            if path == "/media" and message["status"] in (200, 206):
                headers.append(_PICTURE_CACHING)
            message = dict(message) | {"headers": [*headers, *own]}
        await send(message)

    return send_with_headers


async def _reply(send: Send, status: int, content: Any) -> None:
    body = json.dumps(content).encode()
    headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
