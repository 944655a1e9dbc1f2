"""An HTTP/1.1 server on the loopback that plays faults, one script a path."""

import contextlib
import socketserver
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler


class FaultServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, scripts, default=None):
        super().__init__(("127.0.0.1", 0), Handler)
        self.scripts = scripts
        self.default = default
        self.requests = Counter()
        self.user_agents = set()
        self.n_connections = 0
        self.lock = threading.Lock()

    def handle_error(self, request, client_address):
        """Say nothing: clients that are killed in mid-answer are what these tests are for."""

    @property
    def base_url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self):
        super().setup()
        with self.server.lock:
            self.server.n_connections += 1

    def do_GET(self):
        with self.server.lock:
            self.server.requests[self.path] += 1
            nth = self.server.requests[self.path]
            self.server.user_agents.add(self.headers["User-Agent"])
        script = self.server.scripts.get(self.path, self.server.default)
        if script is None:
            self.answer(404)
        else:
            script(self, nth)

    def answer(self, status, content=b"", **headers):
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments):
        pass


def body(content):
    return lambda handler, nth: handler.answer(200, content)


def status(code, **headers):
    return lambda handler, nth: handler.answer(code, b"an error page", **headers)


def first_then(first, then, times=1):
    return lambda handler, nth: (first if nth <= times else then)(handler, nth)


def reset_in_body(content):
    def script(handler, nth):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content[: len(content) // 2])
        handler.wfile.flush()
        handler.close_connection = True

    return script


def slow(content, seconds_a_byte):
    def script(handler, nth):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        with contextlib.suppress(OSError):
            for byte in content:
                handler.wfile.write(bytes([byte]))
                handler.wfile.flush()
                time.sleep(seconds_a_byte)

    return script


def endless(handler, nth):
    handler.send_response(200)
    handler.end_headers()
    with contextlib.suppress(OSError):
        while True:
            handler.wfile.write(b"\xff\xd8\xff" + b"x" * 65536)
    handler.close_connection = True


@contextlib.contextmanager
def serving(scripts, default=None):
    server = FaultServer(scripts, default)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
