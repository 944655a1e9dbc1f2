"""The process that checks and stores pictures for `curation.picture_processes`, which starts it.

It is told of each picture in a line on the socket that is its standard input, takes the bytes out of memory that
both share, and answers in a line. It ends where the other side does, by whatever cause.
"""

import contextlib
import json
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from curation.picture_check import check_picture, place_picture


def serve(requests: socket.socket, memory: int) -> None:
    """Check and store pictures until there are no more to come.

    Parameters
    ----------
    requests : socket.socket
        First brings the settings, then a line for each picture.
    memory : int
        Descriptor of the memory in which their bytes lie.
    """
    with requests.makefile("rb") as lines, contextlib.suppress(BrokenPipeError, ConnectionResetError):
        first = lines.readline()
        if not _is_whole(first):
            return
        settings = json.loads(first)
        root, known_digests = Path(settings["root"]), settings["known_digests"]
        for line in lines:
            # A lost parent is noticed before the next picture: what still lies in the socket is not done any more.
            if os.getppid() != settings["parent"] or not _is_whole(line):
                return
            answer = _answer(json.loads(line), memory, root, known_digests)
            requests.sendall(json.dumps(answer).encode() + b"\n")


def _is_whole(line: bytes) -> bool:
    """Tell whether the other side came to the end of the line: one killed before leaves nothing, or a part."""
    return line.endswith(b"\n")


def _answer(request: dict[str, Any], memory: int, root: Path, known_digests: Mapping[str, str]) -> dict[str, Any]:
    content = os.pread(memory, request["n_bytes"], request["offset"])
    found = check_picture(content, known_digests)
    if found["status"] == "ok":
        try:
            place_picture(root / request["path"], content)
        except OSError as error:
            return {"slot": request["slot"], "error": [error.errno, error.strerror, error.filename]}
        found["path"] = request["path"]
    return {"slot": request["slot"], "found": found}


if __name__ == "__main__":
    with socket.socket(fileno=0) as given:
        serve(given, int(sys.argv[1]))
