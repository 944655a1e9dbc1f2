"""One large file over HTTP into a partial file that a later attempt goes on with."""

import re
import time
from dataclasses import dataclass
from pathlib import Path

from curation.fetch import FetchPolicy, user_agent
from curation.network.addresses import system_resolver
from curation.network.connections import Connections
from curation.network.failures import NetworkFailure, RefusedError
from curation.network.sockets import Patience
from curation.network.streaming import StreamedAnswer, streamed_answer
from curation.network.targets import Target, first_target
from manifests.durable import write_text
from manifests.errors import InputError
from manifests.stage_progress import BYTE, ProgressBar

_BLOCK_BYTES = 256 << 10
_SILENCE_S = 30.0
_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
_MOST_PAUSE_S = 30.0
_MOST_RETRY_AFTER_S = 600.0
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")


@dataclass(frozen=True)
class FileLimits:
    """How long and how often to try for one file.

    Attributes
    ----------
    n_attempts : int
        How often to ask, going on where the last attempt broke off.
    first_pause_s : float
        Pause before the second attempt, doubled before each other one; longer where the server asks for it.
    most_bytes : int
        Longest file; the default is 1.9 kB for each of Open Images' nine million images.
    block_s : float
        Longest time for an answer to begin, and then for each 256 KiB of it: the least rate, and with `most_bytes`
        a bound on all of it.
    """

    n_attempts: int = 5
    first_pause_s: float = 1.0
    most_bytes: int = 16 << 30
    block_s: float = 60.0


class _TransientError(Exception):
    """One attempt failed; another may not."""

    def __init__(self, reason: str, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


def fetch_file(url: str, partial_path: Path, policy: FetchPolicy, limits: FileLimits = FileLimits()) -> None:
    """Complete `partial_path` with the bytes at `url`.

    What is there already is kept where the server says, by its ETag, that the file is still the same one; else it
    is fetched from its beginning. Redirects are not followed, and bytes are stored as served.

    Parameters
    ----------
    url : str
        An ``http`` or ``https`` address at a host that `policy` allows.
    partial_path : Path
        Grows while bytes arrive; nothing of it is believed before the caller has its digest.
    policy : FetchPolicy
        Which hosts and addresses may be asked, by what proxy, and which certificates are trusted.
    limits : FileLimits
        How long and how often to try.

    Raises
    ------
    InputError
        The address may not be asked, or the server refuses or cannot be reached; the message says what to do.
    """
    try:
        target = first_target(url, policy)
    except RefusedError as refusal:
        raise InputError(f"the file at --base-url cannot be asked for: {refusal.reason}") from refusal
    # A query may be a secret, and is in no message.
    shown_url = url.partition("?")[0]
    partial_path.parent.mkdir(parents=True, exist_ok=True)
    connections = Connections(policy, system_resolver)
    pause_s, reason = 0.0, ""
    for attempt in range(limits.n_attempts):
        time.sleep(pause_s)
        try:
            _go_on(connections, target, shown_url, partial_path, limits)
        except _TransientError as failure:
            pause_s = max(min(limits.first_pause_s * 2**attempt, _MOST_PAUSE_S), failure.retry_after_s)
            reason = str(failure)
        else:
            _etag_path(partial_path).unlink(missing_ok=True)
            return
    raise InputError(
        f"{shown_url}: cannot be fetched after {limits.n_attempts} attempts ({reason}); what came is kept: run "
        "the same command when the network is back, or download the file yourself and name it by its path"
    )


def _etag_path(partial_path: Path) -> Path:
    return partial_path.with_name(f"{partial_path.name}.etag")


def _go_on(connections: Connections, target: Target, url: str, partial_path: Path, limits: FileLimits) -> None:
    """Make one attempt; return when the file is complete."""
    etag_path = _etag_path(partial_path)
    etag_before = etag_path.read_text("ascii", "replace") if etag_path.exists() else ""
    # A damaged one cannot be sent: then the file is asked for from its beginning.
    is_sound = etag_before.isascii() and etag_before.isprintable() and etag_before != ""
    n_there = partial_path.stat().st_size if partial_path.exists() and is_sound else 0
    headers = {"Accept-Encoding": "identity", "User-Agent": user_agent()}
    if n_there:
        # Without If-Range, the end of a new file would be appended to the beginning of an old one.
        headers |= {"Range": f"bytes={n_there}-", "If-Range": etag_before}
    patience = Patience(min(_SILENCE_S, limits.block_s), limits.block_s)
    try:
        with streamed_answer(connections, target, headers, patience) as answer:
            if answer.http_status == 416:
                partial_path.unlink(missing_ok=True)
                raise _TransientError("the part that is there does not fit the file; starting over")
            n_before = n_there if answer.http_status == 206 else 0
            n_total = _checked_length(answer, url, n_before, limits)
            # An ETag that starts with W/ says "equivalent", not "the same bytes".
            etag = answer.headers.get("ETag", "")
            if etag and not etag.startswith("W/"):
                write_text(etag_path, etag)
            else:
                etag_path.unlink(missing_ok=True)
            n_found = _store(answer, partial_path, n_before, n_total, most_bytes=limits.most_bytes)
    except RefusedError as refusal:
        raise InputError(f"{url}: {refusal.reason}") from refusal
    except NetworkFailure as failure:
        raise _TransientError(
            failure.reason or f"over {limits.block_s:g} s for {_BLOCK_BYTES >> 10} KiB"
        ) from failure
    if n_found > limits.most_bytes:
        partial_path.unlink()
        raise _too_long(url, limits)
    if n_total is not None and n_found != n_total:
        raise _TransientError(f"{n_found:,} of {n_total:,} bytes came")


def _checked_length(answer: StreamedAnswer, url: str, n_before: int, limits: FileLimits) -> int | None:
    """Return how long the whole file will be; None where only its last chunk will show that."""
    _check_status(answer, url)
    if answer.headers.get("Content-Encoding", "identity") != "identity":
        raise InputError(f"{url}: the server encodes the file ({answer.headers['Content-Encoding'][:40]!r})")
    n_total = None if answer.n_announced is None else n_before + answer.n_announced
    if answer.http_status == 206:
        found = answer.headers.get("Content-Range", "")
        match = _CONTENT_RANGE.fullmatch(found)
        if match is None or int(match[1]) != n_before:
            raise InputError(f"{url}: asked for bytes {n_before}-, got {found[:80]!r}")
        # A server may send less than the whole rest.
        n_total = int(match[2]) + 1 if match[3] == "*" else int(match[3])
    elif n_total is None and not answer.is_chunked:
        raise InputError(
            f"{url}: the server does not say how long the file is, so that one cut off would pass for whole: "
            "download the file yourself and name it by its path"
        )
    if n_total is not None and n_total > limits.most_bytes:
        raise _too_long(url, limits)
    return n_total


def _check_status(answer: StreamedAnswer, url: str) -> None:
    status = answer.http_status
    if status in _RETRIED:
        if answer.retry_after_s > _MOST_RETRY_AFTER_S:
            raise InputError(
                f"{url}: the server answered {status} and asks to come back in {answer.retry_after_s:,.0f} s: run "
                "the same command then"
            )
        raise _TransientError(f"the server answered {status}", answer.retry_after_s)
    if status not in (200, 206):
        raise InputError(
            f"{url}: the server answered {status}; check --base-url, or download the file yourself and name it by "
            "its path"
        )


def _too_long(url: str, limits: FileLimits) -> InputError:
    return InputError(
        f"{url}: over {limits.most_bytes:,} bytes, more than any file of Open Images: check --base-url"
    )


def _store(
    answer: StreamedAnswer, partial_path: Path, n_before: int, n_total: int | None, *, most_bytes: int
) -> int:
    """Append the body to what is there, up to a block over the cap, and return how long the file is now."""
    n_found = n_before
    with (
        partial_path.open("ab" if n_before else "wb") as file,
        ProgressBar(n_total, partial_path.stem, unit=BYTE, initial=n_before) as bar,
    ):
        for block in answer.blocks(_BLOCK_BYTES):
            file.write(block)
            bar.update(len(block))
            n_found += len(block)
            if n_found > most_bytes:
                break
    return n_found
