"""Certificates of audits as files, and which of them a set carries in its header.

A certificate bounds the share of defects of the very records that were audited. It says something of every set
that is a part of them too: let the audited set have N images, M of them defects, with M / N <= U. A part without r
of the images has at most M defects in N - r images, so a share of at most U * N / (N - r). Where the r that were
removed are defects, as those that an audit finds, it is at most (M - r) / (N - r) <= M / N <= U. Neither needs any
chance: both hold whenever the first bound does, so at the same confidence. Of images added it says nothing.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa

from manifests.audit_design import Goal, audit_design, audit_seed, bounds_of, confidence_of_all, rounded_up
from manifests.audit_history import Images, answers_digest, images_of, overlapping_audits
from manifests.errors import InputError, TableError, one_line
from manifests.frozen import read_manifest
from manifests.workspace import Workspace

_NEEDED = {
    "audit": str, "manifest": str, "content_sha256": str, "n_images": int, "goal": dict, "n_earlier": int,
    "seed": int, "confidence": float, "confidence_of_all": float, "bound": float, "looks": list,
    "n_looks_taken": int, "n_sample": int, "n_defects": int, "n_difficult": int, "defects": list,
    "difficult": list, "known_defects": list, "upper_bound": float, "upper_bound_with_difficult": float,
    "n_defects_possible": int, "is_certified": bool, "strata": dict, "other_audits": list,
    "answers_sha256": str,
}  # fmt: skip


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


def check_certificate(certificate: Mapping[str, Any], *, n_images_here: int | None = None) -> list[str]:
    """Return what is wrong with a certificate, in words: its looks and bounds are computed again.

    Parameters
    ----------
    certificate : mapping
        As a file of ``certificates/`` or the header of a manifest states it.
    n_images_here : int, optional
        Images of the manifest whose header states it. It has to say then what it bounds there.
    """
    missing = [key for key, kind in _NEEDED.items() if type(certificate.get(key)) is not kind]
    if missing:
        return [f"certificate: without {', '.join(missing)}, or of another type"]
    if not _is_in_range(certificate):
        return ["certificate: its counts are out of range, or are not those of its lists"]
    try:
        expected = _recomputed(certificate)
    except (InputError, KeyError, TypeError, ValueError) as error:
        return [f"certificate: cannot be computed again ({one_line(error)})"]
    if n_images_here is not None or "upper_bound_here" in certificate:
        n_removed = certificate["n_images"] - n_images_here if n_images_here is not None else None
        expected |= _here(certificate, n_removed)
    return [
        f"certificate: says {key} {_shortened(certificate.get(key))}, but its own numbers make that "
        f"{_shortened(value)}"
        for key, value in expected.items()
        if certificate.get(key) != value
    ]


def _is_in_range(certificate: Mapping[str, Any]) -> bool:
    n_images, n_sample, n_taken = (certificate[key] for key in ("n_images", "n_sample", "n_looks_taken"))
    defects, difficult = set(map(str, certificate["defects"])), set(map(str, certificate["difficult"]))
    counts = (certificate["n_defects"], certificate["n_difficult"])
    return (
        0 < n_sample <= n_images
        and 0 < n_taken <= len(certificate["looks"])
        and 0 <= certificate["n_earlier"] <= len(certificate["other_audits"])
        and counts
        == (len(certificate["defects"]), len(certificate["difficult"]))
        == (len(defects), len(difficult))
        and not defects & difficult
        and sum(counts) <= n_sample
    )


def _recomputed(certificate: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the goal, the set's size and what was found make of all other numbers."""
    goal = Goal(**certificate["goal"])
    if not (type(goal.max_defects) is type(goal.n_looks) is int and goal.max_defects < certificate["n_images"]):
        raise ValueError("its goal allows more defects than there are images")
    n_images, place = certificate["n_images"], certificate["n_looks_taken"] - 1
    design = audit_design(goal, n_images, certificate["n_earlier"])
    if certificate["looks"] != [asdict(look) for look in design.looks]:
        return {"looks": [asdict(look) for look in design.looks]}
    others = [one["confidence"] for one in certificate["other_audits"]]
    strata = {
        stratum: found | {"upper_bound": rounded_up(design.any_time_bound(found["n_defects"], found["n_sample"]))}
        for stratum, found in certificate["strata"].items()
    }
    return {
        "bound": design.bound,
        "confidence": design.confidence,
        "confidence_of_all": confidence_of_all([design.confidence, *others]),
        "seed": audit_seed(certificate["content_sha256"], certificate["n_earlier"]),
        "n_sample": design.looks[place].n_images,
        **bounds_of(design, place, n_images, certificate),
        "is_certified": design.is_certified(place, certificate["n_defects"]) and not certificate["known_defects"],
        "strata": strata,
    }


def _here(certificate: Mapping[str, Any], n_removed: int | None) -> dict[str, Any]:
    """Return what a certificate has to say of the set that carries it."""
    stated = certificate.get("n_removed_since")
    n_removed = n_removed if n_removed is not None else stated
    if type(n_removed) is not int or not 0 <= n_removed < certificate["n_images"]:
        return {"n_removed_since": "a number from 0 to below that of the images audited"}
    return {"n_removed_since": n_removed, "upper_bound_here": _bound_here(certificate, n_removed)}


def _bound_here(certificate: Mapping[str, Any], n_removed: int) -> float:
    n_images = certificate["n_images"]
    return rounded_up(certificate["upper_bound"] * n_images / (n_images - n_removed))


def _shortened(value: object) -> str:
    return str(value)[:80]


def certificate_for(workspace: Workspace, records: pa.Table) -> dict[str, Any] | None:
    """Return the certificate that a set with these records carries; None where no audit says anything of it.

    Of several it is the one of the audit nearest to these records: fewest images removed since, then the largest
    sample, then the first by name.

    Raises
    ------
    TableError
        A file is no certificate, its numbers do not follow from each other, its audited set has changed since, or
        audits of its images or answers in them came after it.
    """
    images = images_of(records)
    fitting = []
    for path in sorted(workspace.certificates_dir.glob("*.json")):
        certificate = read_certificate(path)
        folder = workspace.manifests_dir / certificate["manifest"]
        if not folder.is_dir():
            continue
        audited = read_manifest(folder)
        if audited.header["content_sha256"] != certificate["content_sha256"]:
            raise TableError(f"{path}: {certificate['manifest']} has changed since it was audited")
        problems = check_certificate(certificate)
        if problems:
            raise TableError(f"{path}: was changed by hand: {problems[0]}; write it again with audit report")
        known = images_of(audited.records)
        _check_up_to_date(workspace, path, certificate, known)
        if images.items() <= known.items():
            fitting.append(_carried(certificate, sorted(known.keys() - images.keys())))
    order = {"n_removed_since": 1, "n_sample": -1}
    return min(fitting, key=lambda one: [sign * one[key] for key, sign in order.items()], default=None)


def _check_up_to_date(workspace: Workspace, path: Path, certificate: Mapping[str, Any], known: Images) -> None:
    """Raise where audits of its images, or answers in them, came after a certificate was written."""
    again = f"run audit report --name {certificate['audit']} again"
    stated = {str(one.get("audit")) for one in certificate["other_audits"]} | {certificate["audit"]}
    planned = overlapping_audits(workspace, known)
    if stated != set(planned):
        raise TableError(
            f"{path}: names the audits {', '.join(sorted(stated))}, but those of its images are "
            f"{', '.join(planned)}: {again}"
        )
    if certificate["answers_sha256"] != answers_digest(workspace, known.keys()):
        raise TableError(f"{path}: does not follow from what was answered in audits by now: {again}")


def _carried(certificate: dict[str, Any], removed: list[str]) -> dict[str, Any]:
    """Return a certificate with what it says of the audited set without `removed`."""
    return certificate | {
        "n_removed_since": len(removed),
        "n_defects_removed_since": len(set(removed) & set(certificate["defects"])),
        "upper_bound_here": _bound_here(certificate, len(removed)),
    }
