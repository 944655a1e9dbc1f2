"""An HTTP/1.1 server on the loopback that plays faults, one script a path."""

import contextlib
import gzip
import socket
import socketserver
import struct
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler


class FaultServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, scripts, default=None, tls=None, address=("127.0.0.1", 0), held=None):
        super().__init__(address, Handler, bind_and_activate=held is None)
        if held is not None:
            self.socket.close()
            self.socket, self.server_address = held, held.getsockname()
            self.server_activate()
        self.tls = tls
        self.scripts = scripts
        self.default = default
        self.requests = Counter()
        self.user_agents = set()
        self.n_connections = 0
        self.lock = threading.Lock()

    def finish_request(self, request, client_address):
        """Wrap under TLS in the connection's own thread, so that a broken handshake holds up nobody."""
        if self.tls is not None:
            request = self.tls.wrap_socket(request, server_side=True)
        super().finish_request(request, client_address)
        if self.tls is not None:
            request.close()

    def handle_error(self, request, client_address):
        """Say nothing: clients that are killed in mid-answer are what these tests are for."""

    @property
    def base_url(self):
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def port(self):
        return self.server_address[1]


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


def reset(handler, nth):
    """Hang up without a word, by a RST."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.close_connection = True


def hang_up_after(content):
    """Answer, say that the connection stays, and close it."""

    def script(handler, nth):
        handler.answer(200, content)
        handler.close_connection = True

    return script


def redirect(location, code=302):
    return lambda handler, nth: handler.answer(code, b"", Location=location)


def stalled(handler, nth):
    """Take the request and say nothing."""
    time.sleep(2)
    handler.close_connection = True


def dripped_headers(handler, nth):
    """Send a header that never ends, each byte well within any socket timeout."""
    with contextlib.suppress(OSError):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        for _ in range(400):
            handler.wfile.write(b"x")
            time.sleep(0.02)
    handler.close_connection = True


def announced(n_bytes):
    def script(handler, nth):
        handler.send_response(200)
        handler.send_header("Content-Length", str(n_bytes))
        handler.end_headers()
        handler.close_connection = True

    return script


def encoded(content, encoding="gzip"):
    return lambda handler, nth: handler.answer(200, content, Content_Encoding=encoding)


def gzip_bomb(n_bytes):
    return encoded(gzip.compress(bytes(n_bytes)))


def chunked(content, chunk_bytes=100, ends=True):
    def script(handler, nth):
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for start in range(0, len(content), chunk_bytes):
            chunk = content[start : start + chunk_bytes]
            handler.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        if ends:
            handler.wfile.write(b"0\r\n\r\n")
        handler.close_connection = not ends

    return script


def endless_chunks(handler, nth):
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    with contextlib.suppress(OSError):
        while True:
            handler.wfile.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
    handler.close_connection = True


def not_http(handler, nth):
    handler.wfile.write(b"220 mail.example ESMTP\r\n")
    handler.close_connection = True


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
def silent_port():
    """A port that is ours and refuses connections, until it is given as `held` to a server."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held


@contextlib.contextmanager
def serving(scripts, default=None, **options):
    server = FaultServer(scripts, default, **options)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
