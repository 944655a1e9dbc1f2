"""Runs a database server as a child and stops it when standard input closes, that is, when the parent is gone.

Run by path, not imported: ``python mongod_keeper.py mongod --dbpath ...``. A parent that is killed with SIGKILL
cannot stop its children; the closing of the pipe tells this process, which can.
"""

import os
import subprocess
import sys
import threading

_STOP_TIMEOUT_S = 20


def main(command: list[str]) -> int:
    """Run `command` until it ends or standard input closes; return its exit status."""
    try:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    except OSError as error:
        print(f"{command[0]}: cannot be run ({error.strerror})", file=sys.stderr, flush=True)
        return 127
    threading.Thread(target=_stop_when_parent_is_gone, args=(server,), daemon=True).start()
    return server.wait()


def _stop_when_parent_is_gone(server: subprocess.Popen[bytes]) -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    server.terminate()
    try:
        server.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        server.kill()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
