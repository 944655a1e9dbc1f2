import json
import shutil

import pytest

from annotation.audit.plan import plan_audit
from annotation.audit.report import report_audit
from cli import run
from manifests.audit_design import Goal
from manifests.build import build_manifest
from manifests.errors import InputError, TableError
from manifests.tombstones import retire
from manifests.workspace import Workspace
from scoring.contamination import Contamination, parse_contamination
from tests.audit_world import certificate, drawn, frozen_world, listed, say

FIXED = Goal(0.02, 0.95, 1)  # 236 images


@pytest.fixture(scope="module")
def frozen_root(tmp_path_factory):
    return frozen_world(tmp_path_factory.mktemp("audit") / "ws").root


@pytest.fixture
def space(frozen_root, tmp_path):
    return Workspace(shutil.copytree(frozen_root, tmp_path / "ws"))


def test_the_next_version_carries_the_certificate_and_what_it_says_without_the_defects(space):
    plan_audit(space, None, FIXED)
    sample = drawn(space)
    say(space, "ann", sample, {sample[5]: "in"})
    report_audit(space)
    stated = certificate(space)

    same = build_manifest(space, "set", "auto")
    assert same.folder.name == "set-1.0.1"
    here = same.header["certificate"]
    assert {key: here[key] for key in stated} == stated
    assert (here["n_removed_since"], here["upper_bound_here"]) == (0, stated["upper_bound"])

    retire(space, sample[5], "the audit found a class in it")
    retire(space, sample[6], "its author asked for it")
    less = build_manifest(space, "set", "auto")
    here = less.header["certificate"]
    assert (less.folder.name, here["n_removed_since"], here["n_defects_removed_since"]) == ("set-2.0.0", 2, 1)
    assert here["upper_bound_here"] == pytest.approx(stated["upper_bound"] * 800 / 798, abs=1.1e-6)
    assert here["upper_bound_here"] >= stated["upper_bound"] * 800 / 798
    assert build_manifest(space, "set", "auto").folder.name == "set-2.0.0"


def test_a_set_with_an_image_that_was_never_audited_carries_no_certificate(space):
    part = build_manifest(space, "part", "1.0.0", lists=[("test", listed(space, range(400)))])
    plan_audit(space, part.folder.name, FIXED)
    say(space, "ann", drawn(space, "part-1.0.0"))
    report_audit(space, "part-1.0.0")
    more = build_manifest(space, "more", "1.0.0", lists=[("test", listed(space, range(401)))])
    less = build_manifest(space, "less", "1.0.0", lists=[("test", listed(space, range(1, 400)))])
    assert more.header["certificate"] is None
    assert less.header["certificate"]["n_removed_since"] == 1


def test_score_takes_the_contamination_from_a_certificate_or_from_the_set_that_carries_it(space):
    plan_audit(space, None, FIXED)
    sample = drawn(space)
    say(space, "ann", sample, {sample[5]: "in", sample[6]: "in"})
    report_audit(space)
    upper = certificate(space)["upper_bound"]
    path = space.root / "certificates" / "set-1.0.0.json"
    assert parse_contamination(str(path)) == Contamination(2 / 236, 0.0, upper)

    header = space.manifests_dir / "set-1.0.0" / "manifest.json"
    with pytest.raises(InputError, match="this set carries no certificate"):
        parse_contamination(str(header))
    retire(space, sample[5], "the audit found a class in it")
    here = build_manifest(space, "set", "auto").folder / "manifest.json"
    assert parse_contamination(str(here)).rate == 1 / 235
    assert parse_contamination(str(here)).high == pytest.approx(upper * 800 / 799, abs=1.1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"upper_bound": 1.5}, "counts or its bound are out of range"),
        ({"n_defects": 400}, "counts or its bound are out of range"),
        ({"n_sample": "236"}, "not a certificate; expected audit, manifest"),
    ],
)
def test_what_is_no_certificate_is_refused(space, change, message):
    plan_audit(space, None, FIXED)
    say(space, "ann", drawn(space))
    report_audit(space)
    path = space.root / "certificates" / "set-1.0.0.json"
    path.write_text(json.dumps(certificate(space) | change))
    with pytest.raises(TableError, match=message):
        parse_contamination(str(path))
    with pytest.raises(TableError, match=message):
        build_manifest(space, "set", "auto")
    path.write_text("{")
    with pytest.raises(TableError, match="not a certificate"):
        parse_contamination(str(path))
    path.unlink()
    with pytest.raises(InputError, match="cannot be read"):
        parse_contamination(str(path))


def test_the_command_plans_and_reports_and_refuses_flags_without_effect(space, capsys):
    workspace = ["--workspace", str(space.root)]
    assert run(["audit", "plan", "--bound", "0.02", "--sequential", "--looks", "2", *workspace]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "audit set-1.0.0: 183 of 800 images of set-1.0.0 drawn"
    assert any(line.split()[:3] == ["0.00%", "183", "100.0%"] for line in lines)
    say(space, "ann", drawn(space))
    assert run(["audit", "report", *workspace]) == 0
    assert "  certified: at most 2.00% at 95%" in capsys.readouterr().out.splitlines()
    assert run(["audit", "plan", "--looks", "2", *workspace]) == 2
    assert run(["audit", "report", "--bound", "0.02", *workspace]) == 2
    assert run(["audit", "again", *workspace]) == 1
    assert "expected either 'plan' or 'report'" in capsys.readouterr().err
