"""Runs a database server as a child and stops it when standard input closes, that is, when the parent is gone.

Run by path, not imported: ``python mongod_keeper.py mongod --dbpath ...``. A parent that is killed with SIGKILL
cannot stop its children; the closing of the pipe tells this process, which can. A server that is killed is started
again: its journal keeps what it had acknowledged, and it finds its port and its clients again.
"""

import os
import signal
import subprocess
import sys
import threading

_STOP_TIMEOUT_S = 20
# A server that is killed again and again is killed for a reason, such as its memory.
_MOST_RESTARTS = 20


class _Keeper:
    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._lock = threading.Lock()
        self._is_stopping = False
        self._server: subprocess.Popen[bytes] | None = None

    def run(self) -> int:
        """Return the exit status of the server when it has ended for good."""
        threading.Thread(target=self._stop_when_parent_is_gone, daemon=True).start()
        for _ in range(_MOST_RESTARTS):
            with self._lock:
                if self._is_stopping:
                    return 0
                try:
                    server = self._server = subprocess.Popen(self._command, stdin=subprocess.DEVNULL)
                except OSError as error:
                    print(f"{self._command[0]}: cannot be run ({error.strerror})", file=sys.stderr, flush=True)
                    return 127
            status = server.wait()
            if self._is_stopping or status != -signal.SIGKILL:
                break
        return status

    def _stop_when_parent_is_gone(self) -> None:
        while os.read(sys.stdin.fileno(), 1024):
            pass
        with self._lock:
            self._is_stopping = True
        if self._server is None:
            return
        self._server.terminate()
        try:
            self._server.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._server.kill()


if __name__ == "__main__":
    sys.exit(_Keeper(sys.argv[1:]).run())
