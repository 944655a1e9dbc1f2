"""Published lists of image ids by their address, fetched once."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from curation.fetch import FetchPolicy
from curation.fetch_file import FileLimits, fetch_file
from curation.network.connections import ignored_proxy_notice
from curation.releases import default_cache_folder
from manifests.errors import InputError
from manifests.image_ids import read_image_ids

_LIMITS = FileLimits(most_bytes=1 << 30)
"""Ids of all nine million images, with folders and labels, are 0.4 GB."""


def fetch_list(
    url: str,
    folder: Path | None,
    announce: Callable[[str], None],
    *,
    allow_private: bool = False,
    proxy: str | None = None,
) -> Path:
    """Return where the list at `url` lies, fetching it unless it is there.

    Parameters
    ----------
    url : str
        An ``http`` or ``https`` address; its host is asked, and no other.
    folder : Path, optional
        Where fetched files lie; default: the user's cache folder.
    announce : callable
        Told what is fetched.
    allow_private : bool
        Let private and loopback addresses pass.
    proxy : str, optional
        ``http://HOST:PORT``.

    Raises
    ------
    InputError
        The list cannot be fetched, or what is there is no list of image ids.
    """
    path = list_path(url, folder)
    if path.exists():
        return path
    policy = FetchPolicy(allow_private=allow_private, proxy=proxy).allowing(url)
    announce(f"fetching {url}")
    if notice := ignored_proxy_notice(policy):
        announce(notice)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    fetch_file(url, partial, policy, _LIMITS)
    try:
        read_image_ids(partial)
    except InputError:
        # A sign-in page, say: it must not be taken for the list's beginning next time.
        partial.unlink()
        raise
    partial.replace(path)
    return path


def list_path(url: str, folder: Path | None) -> Path:
    """Return where `fetch_list` puts the list at `url`.

    Raises
    ------
    InputError
        `url` names no file.
    """
    name = Path(urlsplit(url).path).name
    if not name:
        raise InputError(f"--from-list {url}: expected the address of a file")
    # Many lists are called test.txt: each address has its own folder.
    return (folder or default_cache_folder()) / "lists" / hashlib.sha256(url.encode()).hexdigest()[:16] / name
