"""Certificates of audits as files, and which of them a set carries in its header.

A certificate bounds the share of defects of the very records that were audited. It says something of every set
that is a part of them too: let the audited set have N images, M of them defects, with M / N <= U. A part without r
of the images has at most M defects in N - r images, so a share of at most U * N / (N - r). Where the r that were
removed are defects, as those that an audit finds, it is at most (M - r) / (N - r) <= M / N <= U. Neither needs any
chance: both hold whenever the first bound does, so at the same confidence. Of images added it says nothing.
"""

import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa

from manifests.errors import InputError, TableError
from manifests.frozen import read_manifest
from manifests.workspace import Workspace

_PLACES = 1_000_000
_NEEDED = {
    "audit": str, "manifest": str, "content_sha256": str, "n_images": int, "n_sample": int, "n_defects": int,
    "defects": list, "upper_bound": float, "confidence": float,
}  # fmt: skip


def rounded_up(share: float) -> float:
    """Return a share with six decimals, rounded up: a bound stays one, and is the same number on every machine."""
    return min(1.0, math.ceil(share * _PLACES) / _PLACES)


def read_certificate(path: Path) -> dict[str, Any]:
    """Return the certificate in a file, or that in the header of a manifest.

    Raises
    ------
    InputError
        There is no such file, or it is a manifest without a certificate.
    TableError
        It is no certificate.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise TableError(f"{path}: not a certificate ({error})") from error
    if isinstance(found, dict) and "certificate" in found:
        found = found["certificate"]
        if found is None:
            raise InputError(f"{path}: this set carries no certificate: no audit of its records was finished")
    if not isinstance(found, dict) or any(type(found.get(key)) is not kind for key, kind in _NEEDED.items()):
        raise TableError(f"{path}: not a certificate; expected {', '.join(_NEEDED)}")
    if not (0 <= found["n_defects"] <= found["n_sample"] <= found["n_images"] and 0 <= found["upper_bound"] <= 1):
        raise TableError(f"{path}: not a certificate: its counts or its bound are out of range")
    return dict(found)


def certificate_for(workspace: Workspace, records: pa.Table) -> dict[str, Any] | None:
    """Return the certificate that a set with these records carries; None where no audit says anything of it.

    Of several it is the one of the audit nearest to these records: fewest images removed since, then the largest
    sample, then the first by name.

    Raises
    ------
    TableError
        A file is no certificate, or its audited set has changed since.
    """
    images = _images(records)
    fitting = []
    for path in sorted(workspace.certificates_dir.glob("*.json")):
        certificate = read_certificate(path)
        folder = workspace.manifests_dir / certificate["manifest"]
        if not folder.is_dir():
            continue
        audited = read_manifest(folder)
        if audited.header["content_sha256"] != certificate["content_sha256"]:
            raise TableError(f"{path}: {certificate['manifest']} has changed since it was audited")
        known = _images(audited.records)
        if images.items() <= known.items():
            fitting.append(_carried(certificate, sorted(known.keys() - images.keys())))
    order = {"n_removed_since": 1, "n_sample": -1}
    return min(fitting, key=lambda one: [sign * one[key] for key, sign in order.items()], default=None)


def _carried(certificate: dict[str, Any], removed: list[str]) -> dict[str, Any]:
    """Return a certificate with what it says of the audited set without `removed`."""
    n_images, n_left = certificate["n_images"], certificate["n_images"] - len(removed)
    return certificate | {
        "n_removed_since": len(removed),
        "n_defects_removed_since": len(set(removed) & set(certificate["defects"])),
        "upper_bound_here": rounded_up(certificate["upper_bound"] * n_images / n_left),
    }


def _images(records: pa.Table) -> dict[str, str | None]:
    """Return image id to digest: what auditors looked at. Splits and votes may have changed."""
    ids, digests = (records.column(name).to_pylist() for name in ("image_id", "sha256"))
    return dict(zip(ids, digests, strict=True))
