"""The demo's audits: a blind sample, its defects withdrawn, and the next version, until one is certified."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation.sample.commands import Commands
from manifests.frozen import Manifest, find_manifest, frozen_folders
from manifests.workspace import Workspace

BOUND, MAX_DEFECTS = "0.05", "4"
"""The sample's goal: some 180 pictures of 250, of which four may be defects."""

MOST_AUDITS = 4
"""Each audit of the same pictures has half the error of the one before, and asks for more of them."""

REASON = "an auditor found an ImageNet class in it"

AUDITOR = "all-knowing"


@dataclass(frozen=True)
class Audited:
    """What the audits led to.

    Attributes
    ----------
    code : int
        Exit code of the last command.
    certificate_path : Path or None
        The certificate of the newest version, None where no audit certified.
    """

    code: int
    certificate_path: Path | None


def audit_until_certified(
    workspace: Workspace, truth_path: Path, run_commands: Callable[[Commands], int]
) -> Audited:
    """Audit the newest version, withdraw its defects and freeze the next one, until one is certified.

    Parameters
    ----------
    workspace : Workspace
        Of the demo, with one frozen set.
    truth_path : Path
        What the simulated auditors know.
    run_commands : callable
        Runs command lines that lack ``--workspace``, and returns the first exit code that is not 0.
    """
    audits: list[str] = []
    for _ in range(MOST_AUDITS):
        audit = newest_manifest(workspace).folder.name
        earlier, audits = audits, [*audits, audit]
        # An auditor who has seen a picture is not asked again: every audit needs one more.
        auditors = ",".join([AUDITOR] * len(audits))
        code = run_commands([
            ("audit", "plan", "--manifest", audit, "--bound", BOUND, "--max-defects", MAX_DEFECTS),
            ("simulate-annotators", "--truth", str(truth_path), "--queue", "audit", "--annotators", auditors),
            ("audit", "report", "--name", audit),
            # A certificate names all audits of the same images, the later ones too.
            *(("audit", "report", "--name", one) for one in earlier),
        ])  # fmt: skip
        if code:
            return Audited(code, None)
        path = workspace.certificates_dir / f"{audit}.json"
        certificate: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        retired = [("retire", image_id, "--reason", REASON) for image_id in certificate["defects"]]
        code = run_commands([*retired, ("consensus",), ("build-manifest", "--version", "auto")])
        if code or certificate["is_certified"]:
            return Audited(code, path if certificate["is_certified"] else None)
    return Audited(0, None)


def newest_manifest(workspace: Workspace) -> Manifest:
    """Return the newest version of the workspace's only set.

    Raises
    ------
    InputError
        There is none.
    """
    names = [folder.name for folder in frozen_folders(workspace.manifests_dir)]
    newest = max(names, key=lambda name: [int(part) for part in name.rpartition("-")[2].split(".")], default=None)
    return find_manifest(workspace.manifests_dir, newest)
