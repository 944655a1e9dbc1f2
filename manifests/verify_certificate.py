"""The certificate in a manifest's header: computed again, and compared with the audit that it comes from."""

from collections.abc import Mapping
from typing import Any

from manifests.audit_history import answers_digest, images_of
from manifests.certified import check_certificate, read_certificate
from manifests.errors import OpenImageOError, one_line
from manifests.frozen import Manifest, read_manifest
from manifests.verify_report import Report
from manifests.workspace import Workspace

_MAY_CHANGE_LATER = ("other_audits", "confidence_of_all", "known_defects", "is_certified")
"""What changes in the audit's own file when the same images are audited once more, or a defect is retired."""


def verify_certificate(manifest: Manifest, workspace: Workspace | None, report: Report) -> None:
    """Add what is wrong with the certificate of a manifest: its numbers, what was audited, the audit's own file.

    Parameters
    ----------
    manifest : Manifest
        One without a certificate has no problem.
    workspace : Workspace, optional
        Where the audit was done.
    report : Report
        Gets the problems, and notes what could not be looked at.
    """
    certificate = manifest.header.get("certificate")
    if certificate is None:
        return
    if not isinstance(certificate, dict):
        report.add("certificate", f"expected an object, found {str(certificate)[:80]}")
        return
    problems = check_certificate(certificate, n_images_here=manifest.records.num_rows)
    report.add("certificate", *problems)
    if problems:
        return
    audited = _audited(manifest, certificate, report)
    if audited is not None:
        _against_audited(manifest, audited, certificate, report)
        if workspace is not None:
            _against_audit(audited, certificate, workspace, report)


def _audited(manifest: Manifest, certificate: Mapping[str, Any], report: Report) -> Manifest | None:
    """Return the audited version, where it lies beside this one and is what was audited."""
    manifests_dir = manifest.folder.resolve().parent
    beside = {path.name: path for path in manifests_dir.iterdir() if path.is_dir()}
    folder = beside.get(certificate["manifest"])
    if folder is None:
        report.notes.append(
            f"{certificate['manifest']}, the audited version, does not lie beside it: its images were not compared"
        )
        return None
    try:
        audited = read_manifest(folder)
    except OpenImageOError as error:
        report.add("certificate", f"the audited version cannot be read: {one_line(error)}")
        return None
    if audited.header["content_sha256"] != certificate["content_sha256"]:
        report.add("certificate", f"{folder.name} has other records than those that were audited")
        return None
    return audited


def _against_audited(
    manifest: Manifest, audited: Manifest, certificate: Mapping[str, Any], report: Report
) -> None:
    """Compare the images: a certificate says nothing of one that was not audited."""
    here, there = images_of(manifest.records), images_of(audited.records)
    if not here.items() <= there.items():
        report.add(
            "certificate", f"the manifest has images that are not in {audited.folder.name}, which was audited"
        )
    n_removed = len((there.keys() - here.keys()) & set(certificate["defects"]))
    if certificate.get("n_defects_removed_since") != n_removed:
        report.add("certificate", f"says another number of defects removed since than {n_removed}")


def _against_audit(
    audited: Manifest, certificate: Mapping[str, Any], workspace: Workspace, report: Report
) -> None:
    """Compare with the answers and with the audit's own file; both may say more where auditors went on."""
    paths = {path.stem: path for path in workspace.certificates_dir.glob("*.json")}
    path = paths.get(certificate["audit"])
    if path is None:
        report.add("certificate", f"the workspace holds none of the audit {certificate['audit']}")
        return
    try:
        own = read_certificate(path)
        digest = answers_digest(workspace, audited.image_ids)
    except OpenImageOError as error:
        report.add("certificate", f"the audit's own cannot be read: {one_line(error)}")
        return
    if certificate.get("answers_sha256") != digest:
        report.notes.append(
            "the certificate does not follow from what auditors have answered by now: they answered more since "
            "the manifest was frozen, or the header was changed; 'audit report' computes it from their answers"
        )
        return
    differing = sorted(
        key for key, value in own.items() if key not in _MAY_CHANGE_LATER and certificate.get(key) != value
    )
    if differing:
        report.add("certificate", f"{path.name} in the workspace says otherwise: {', '.join(differing)}")
