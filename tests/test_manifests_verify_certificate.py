"""A certificate is computed again wherever it is read: by a build that carries it, and by `verify-manifest`."""

import json
import shutil

import pytest

from annotation.audit.plan import plan_audit
from annotation.audit.report import report_audit
from manifests.audit_design import Goal
from manifests.build import build_manifest
from manifests.durable import write_json
from manifests.errors import TableError
from manifests.frozen import header_digest
from manifests.tombstones import retire
from manifests.verify import Against, verify_manifest
from manifests.workspace import Workspace
from tests.audit_world import certificate, drawn, frozen_world, say

GOAL = Goal(0.02, 0.95, 1)


@pytest.fixture(scope="module")
def audited_root(tmp_path_factory):
    """Return a workspace whose set of 800 was audited, the defect found was retired: 2.0.0 is certified too."""
    space = frozen_world(tmp_path_factory.mktemp("audited") / "ws")
    plan_audit(space, None, GOAL)
    sample = drawn(space)
    say(space, "ann", sample, {sample[5]: "in"})
    report_audit(space)
    retire(space, sample[5], "the audit found a class in it")
    build_manifest(space, "set", "2.0.0")
    return space.root


@pytest.fixture
def space(audited_root, tmp_path):
    return Workspace(shutil.copytree(audited_root, tmp_path / "ws"))


@pytest.fixture
def folder(space):
    return space.manifests_dir / "set-2.0.0"


def problems(folder, space=None):
    report = verify_manifest(folder, Against(workspace=space))
    return report.problems["certificate"]


def forged(folder, **changes):
    """Change the certificate in a header, and give the header the digest that fits."""
    header = json.loads((folder / "manifest.json").read_text())
    header["certificate"] |= changes
    header["header_sha256"] = header_digest(header)
    (folder / "manifest.json").write_text(json.dumps(header))


def test_an_untouched_certificate_has_no_problem(space, folder):
    assert problems(folder) == []
    assert problems(folder, space) == []


@pytest.mark.parametrize("name", ["upper_bound", "upper_bound_here", "upper_bound_with_difficult"])
def test_a_bound_that_does_not_follow_is_reported(folder, name):
    forged(folder, **{name: 1e-6})
    assert any(f"says {name} 1e-06" in text for text in problems(folder))


def test_a_larger_sample_is_reported(folder):
    forged(folder, n_sample=799)
    assert any("n_sample 799" in text for text in problems(folder))


def test_removed_images_and_defects_are_counted_again(folder):
    forged(folder, n_defects_removed_since=0)
    assert problems(folder) == ["says another number of defects removed since than 1"]
    forged(folder, n_defects_removed_since=1, n_removed_since=0)
    assert any("n_removed_since" in text for text in problems(folder))


def test_the_audited_version_is_compared_where_it_lies_beside(folder):
    (folder.parent / "set-1.0.0").rename(folder.parent / "elsewhere")
    report = verify_manifest(folder)
    assert "set-1.0.0, the audited version, does not lie beside it: its images were not compared" in report.notes
    assert report.problems["certificate"] == []


def test_the_file_of_the_audit_is_compared(space, folder):
    forged(folder, n_auditors=7)
    assert problems(folder) == []
    assert problems(folder, space) == ["set-1.0.0.json in the workspace says otherwise: n_auditors"]
    (space.certificates_dir / "set-1.0.0.json").unlink()
    assert problems(folder, space) == ["the workspace holds none of the audit set-1.0.0"]


def test_a_certificate_of_other_answers_is_told(space, folder):
    forged(folder, answers_sha256="0" * 64)
    report = verify_manifest(folder, Against(workspace=space))
    assert any("does not follow from what auditors have answered by now" in note for note in report.notes)


def test_a_build_carries_no_certificate_that_was_edited(space):
    path = space.certificates_dir / "set-1.0.0.json"
    write_json(path, certificate(space) | {"n_sample": 800, "upper_bound": 1e-6})
    with pytest.raises(TableError, match=r"set-1\.0\.0\.json: .*n_sample 800, but its own numbers make that 236"):
        build_manifest(space, "set", "auto")
