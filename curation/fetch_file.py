"""One large file over HTTP into a partial file that a later attempt goes on with."""

import time
from pathlib import Path

import requests
import urllib3
from tqdm import tqdm

from manifests.durable import write_text
from manifests.errors import InputError, one_line

_BLOCK_BYTES = 1 << 20
_CONNECT_TIMEOUT_S = 15
_SILENCE_TIMEOUT_S = 60
_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
_MOST_PAUSE_S = 30.0


class _Transient(Exception):  # noqa: N818
    """One attempt failed; another may not."""


def fetch_file(url: str, partial_path: Path, *, n_attempts: int = 5, first_pause_s: float = 1.0) -> None:
    """Complete `partial_path` with the bytes at `url`.

    What is there already is kept where the server says, by its ETag, that the file is still the same one; else it
    is fetched from its beginning. Environment proxies and ``REQUESTS_CA_BUNDLE`` are honoured, redirects are not
    followed, and bytes are stored as served.

    Parameters
    ----------
    url : str
        An ``http`` or ``https`` address.
    partial_path : Path
        Grows while bytes arrive; nothing of it is believed before the caller has its digest.
    n_attempts : int
        How often to try, going on where the last attempt broke off.
    first_pause_s : float
        Pause before the second attempt; doubled before each other one.

    Raises
    ------
    InputError
        The server refuses, or cannot be reached; the message says what to do.
    """
    if not url.startswith(("https://", "http://")):
        raise InputError(f"{url}: expected an https:// or http:// address")
    partial_path.parent.mkdir(parents=True, exist_ok=True)
    reason = ""
    with requests.Session() as session:
        for attempt in range(n_attempts):
            if attempt:
                time.sleep(min(first_pause_s * 2 ** (attempt - 1), _MOST_PAUSE_S))
            try:
                _go_on(session, url, partial_path)
            except (_Transient, requests.RequestException, urllib3.exceptions.HTTPError) as error:
                reason = one_line(error)
            else:
                _etag_path(partial_path).unlink(missing_ok=True)
                return
    raise InputError(
        f"{url}: cannot be fetched after {n_attempts} attempts ({reason}); what came is kept: run the same "
        "command when the network is back, or download the file yourself and name it by its path"
    )


def _etag_path(partial_path: Path) -> Path:
    return partial_path.with_name(f"{partial_path.name}.etag")


def _go_on(session: requests.Session, url: str, partial_path: Path) -> None:
    """Make one attempt; return when the file is complete."""
    etag_path = _etag_path(partial_path)
    n_there = partial_path.stat().st_size if partial_path.exists() and etag_path.exists() else 0
    headers = {"Accept-Encoding": "identity", "User-Agent": "openimage-o-toolkit"}
    if n_there:
        # Without If-Range, the end of a new file would be appended to the beginning of an old one.
        headers |= {"Range": f"bytes={n_there}-", "If-Range": etag_path.read_text(encoding="utf-8")}
    with session.get(
        url, headers=headers, stream=True, allow_redirects=False, timeout=(_CONNECT_TIMEOUT_S, _SILENCE_TIMEOUT_S)
    ) as response:
        if response.status_code == 416:
            partial_path.unlink(missing_ok=True)
            raise _Transient("the part that is there does not fit the file; starting over")
        n_before = n_there if response.status_code == 206 else 0
        n_total = _checked_length(response, url, n_before)
        # An ETag that starts with W/ says "equivalent", not "the same bytes".
        etag = response.headers.get("ETag", "")
        if etag and not etag.startswith("W/"):
            write_text(etag_path, etag)
        else:
            etag_path.unlink(missing_ok=True)
        _store(response, partial_path, n_before, n_total)
    n_found = partial_path.stat().st_size
    if n_total is not None and n_found != n_total:
        raise _Transient(f"{n_found:,} of {n_total:,} bytes came")


def _checked_length(response: requests.Response, url: str, n_before: int) -> int | None:
    """Return how long the whole file will be, None where the server does not say."""
    status = response.status_code
    if status in _RETRIED:
        raise _Transient(f"the server answered {status}")
    if status not in (200, 206):
        raise InputError(
            f"{url}: the server answered {status} {response.reason}; check --base-url, or download the file "
            "yourself and name it by its path"
        )
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise InputError(f"{url}: the server encodes the file ({response.headers['Content-Encoding']})")
    if status == 206 and not response.headers.get("Content-Range", "").startswith(f"bytes {n_before}-"):
        raise InputError(f"{url}: asked for bytes {n_before}-, got {response.headers.get('Content-Range')!r}")
    length = response.headers.get("Content-Length")
    return n_before + int(length) if length and length.isdigit() else None


def _store(response: requests.Response, partial_path: Path, n_before: int, n_total: int | None) -> None:
    with (
        partial_path.open("ab" if n_before else "wb") as file,
        tqdm(
            total=n_total, initial=n_before, unit="B", unit_scale=True, desc=partial_path.stem, disable=None
        ) as bar,
    ):
        while block := response.raw.read(_BLOCK_BYTES, decode_content=False):
            file.write(block)
            bar.update(len(block))
