"""Licences as users write them: the addresses of Creative Commons, and short names such as cc-by-2.0."""

import re
from collections.abc import Sequence

from manifests.errors import InputError

_SHORT_NAME = re.compile(r"cc-(by(?:-nc)?(?:-sa|-nd)?)-(\d\.\d)", re.ASCII)
_PUBLIC_DOMAIN = {"cc0-1.0": "publicdomain/zero/1.0", "pdm-1.0": "publicdomain/mark/1.0"}
_HOST = "creativecommons.org/"


def licence_key(url: str) -> str:
    """Return the address of a licence as it is compared: no scheme, ``www.`` or last slash, small letters."""
    return url.strip().lower().removeprefix("https://").removeprefix("http://").removeprefix("www.").rstrip("/")


def licence_keys(licences: Sequence[str]) -> frozenset[str]:
    """Return the comparable addresses of licences given by address or by short name.

    Raises
    ------
    InputError
        One is neither an address nor a short name.
    """
    return frozenset(_key(licence) for licence in licences)


def _key(licence: str) -> str:
    if licence.startswith(("http://", "https://")):
        return licence_key(licence)
    name = licence.strip().lower()
    if match := _SHORT_NAME.fullmatch(name):
        return f"{_HOST}licenses/{match[1]}/{match[2]}"
    if name in _PUBLIC_DOMAIN:
        return _HOST + _PUBLIC_DOMAIN[name]
    raise InputError(f"--licence: expected an address, or a name such as cc-by-2.0 or cc0-1.0, found {licence!r}")
