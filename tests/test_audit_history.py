"""A certificate cannot be had by trying again: seeds, answers, defects and other audits."""

import json
import math
import shutil

import pytest

from annotation.audit.plan import plan_audit, plan_path, read_plan
from annotation.audit.report import report_audit
from annotation.queues import open_queue
from cli import run
from manifests import schema
from manifests.audit_design import Goal
from manifests.build import build_manifest
from manifests.certified import check_certificate
from manifests.errors import InputError, TableError
from manifests.tombstones import retire
from manifests.workspace import Workspace
from tests.audit_world import certificate, drawn, frozen_world, listed, say
from tests.manifest_world import bytes_of, image_name

FIXED = Goal(0.02, 0.95, 1)  # 236 images


@pytest.fixture(scope="module")
def frozen_root(tmp_path_factory):
    return frozen_world(tmp_path_factory.mktemp("audit") / "ws").root


@pytest.fixture
def space(frozen_root, tmp_path):
    return Workspace(shutil.copytree(frozen_root, tmp_path / "ws"))


def audited(space, name="a", answers=None, manifest="set-1.0.0", by=None):
    """Plan an audit, let a new auditor answer all of it, and return its sample."""
    plan_audit(space, manifest, FIXED, audit=name)
    sample = drawn(space, name)
    say(space, by or f"ann-{name}", sample, {sample[place]: word for place, word in (answers or {}).items()})
    report_audit(space, name)
    return sample


def test_the_seed_follows_from_the_set_and_nobody_can_choose_it(space, capsys):
    assert run(["audit", "plan", "--seed", "16", "--workspace", str(space.root)]) == 2
    assert "No such option" in capsys.readouterr().err
    first = plan_audit(space, None, FIXED, audit="a")
    plan_path(space, "a").unlink()
    space.path_of(schema.audit_table("a")).unlink()
    # A plan under another name instead of the first draws what the first drew.
    assert plan_audit(space, None, FIXED, audit="b").seed == first.seed
    assert plan_audit(space, None, FIXED, audit="c").seed != first.seed


def test_a_second_audit_of_the_same_images_has_half_the_error_left(space):
    audited(space, "a", {0: "in", 1: "in"})
    second = plan_audit(space, None, FIXED, audit="b")
    assert (second.earlier, second.design.confidence) == (("a",), 0.975)
    # The smallest n with at most one defect in n at 2 % in less than 2.5 % of samples, by hand.
    n = second.looks[0].n_images
    at_most_one = [0.98**m + m * 0.02 * 0.98 ** (m - 1) for m in (n - 1, n)]
    assert at_most_one[1] <= 0.025 < at_most_one[0]
    say(space, "ben", drawn(space, "b"))
    found = report_audit(space, "b").certificate
    assert math.isclose(found["confidence_of_all"], 1 - 0.05 - 0.025)


def test_answers_of_an_earlier_audit_are_not_fresh_and_others_are_asked(space):
    first = set(audited(space, "a", by="ann"))
    plan_audit(space, None, FIXED, audit="b")
    second = set(drawn(space, "b"))
    both = first & second
    assert both
    report = report_audit(space, "b")
    assert (report.answers.n_not_fresh, report.words) == (len(both), {})
    assert {item.image_id for item in open_queue(space, "ann", "audit").upcoming(1000)} == second - first
    assert {item.image_id for item in open_queue(space, "ben", "audit").upcoming(1000)} == first | second
    say(space, "ben", sorted(second))
    assert report_audit(space, "b").certificate["n_not_fresh"] == len(both)


def test_a_known_defect_blocks_every_certificate_until_it_is_retired(space, capsys):
    sample = audited(space, "a", {0: "in", 1: "in", 2: "in"})
    again = audited(space, "b")
    found = certificate(space, "b")
    assert (found["n_defects"], found["is_certified"]) == (0, False)
    assert found["known_defects"] == sorted(sample[:3])
    assert run(["audit", "report", "--name", "b", "--workspace", str(space.root)]) == 0
    text = capsys.readouterr().out
    assert f"not certified while this known defect is in the set: {sample[0]}" in text
    assert "not certified" in text
    for one in sample[:3]:
        retire(space, one, "the audit found a class in it")
    assert report_audit(space, "b").certificate["is_certified"]
    assert len(again) > len(sample)


def test_a_failed_audit_is_named_with_its_defects_after_a_harmless_image_is_retired(space, capsys):
    sample = audited(space, "a", {0: "in", 1: "in"})
    retire(space, sample[7], "its author asked for it")
    assert build_manifest(space, "set", "auto").folder.name == "set-2.0.0"
    audited(space, "b", manifest="set-2.0.0")
    (other,) = certificate(space, "b")["other_audits"]
    assert (other["audit"], other["manifest"], other["n_drawn"]) == ("a", "set-1.0.0", 236)
    assert other["defects"] == sorted(sample[:2])
    assert run(["audit", "report", "--name", "b", "--workspace", str(space.root)]) == 0
    text = capsys.readouterr().out
    assert "another audit of these images: a of set-1.0.0, 2 defects in 236" in text
    assert "all of them hold together at 92.5% confidence" in text


def test_audits_of_sets_without_a_common_image_have_nothing_to_do_with_each_other(space):
    for name, numbers in (("left", range(300)), ("right", range(300, 600))):
        build_manifest(space, name, "1.0.0", lists=[("test", listed(space, numbers))])
        audited(space, name, manifest=f"{name}-1.0.0")
    assert certificate(space, "right")["other_audits"] == []
    assert read_plan(space, "right").earlier == ()


@pytest.mark.parametrize("kept", ["certificate", "header", "later plan"])
def test_a_plan_that_is_gone_and_still_named_is_an_error(space, kept):
    audited(space, "a", {0: "in"})
    if kept == "header":
        build_manifest(space, "set", "auto")
    elif kept == "later plan":
        plan_audit(space, "set-1.0.0", FIXED, audit="b")
    if kept != "certificate":
        (space.certificates_dir / "a.json").unlink()
    plan_path(space, "a").unlink()
    with pytest.raises(TableError, match=r"names the audit a, but .*a\.json is gone"):
        plan_audit(space, "set-1.0.0", FIXED, audit="c")
    if kept == "certificate":
        with pytest.raises(TableError, match=r"names the audit a, but .*a\.json is gone"):
            build_manifest(space, "set", "auto")


def test_answers_to_an_audit_of_which_nothing_else_is_left_are_an_error(space):
    audited(space, "a", {0: "in", 1: "in"})
    for path in (plan_path(space, "a"), space.path_of(schema.audit_table("a")), space.certificates_dir / "a.json"):
        path.unlink()
    only = build_manifest(space, "few", "1.0.0", lists=[("test", listed(space, range(300)))])
    plan_audit(space, only.folder.name, FIXED, audit="b")
    with pytest.raises(TableError, match=r"no audit in .* drew it: a plan or its sample is gone"):
        report_audit(space, "b")


def test_build_asks_for_a_new_report_where_another_audit_came_since(space):
    audited(space, "a")
    audited(space, "b")
    with pytest.raises(TableError, match=r"run audit report --name a again"):
        build_manifest(space, "set", "auto")
    report_audit(space, "a")
    carried = build_manifest(space, "set", "auto").header["certificate"]
    assert carried["audit"] == "b"
    assert [one["audit"] for one in carried["other_audits"]] == ["a"]


def test_build_asks_for_a_new_report_where_answers_came_since(space):
    sample = audited(space, "a")
    say(space, "ben", sample[:1], {sample[0]: "in"})
    with pytest.raises(TableError, match=r"answered in audits by now: run audit report --name a again"):
        build_manifest(space, "set", "auto")
    report_audit(space, "a")
    assert build_manifest(space, "set", "auto").header["certificate"]["defects"] == [sample[0]]


def test_a_defect_that_is_taken_back_after_another_answer_stays_one_and_a_slip_is_stated(space):
    plan_audit(space, None, FIXED)
    sample = drawn(space)
    say(space, "ann", [sample[0]], {sample[0]: "in"})
    say(space, "ann", [sample[0]], {sample[0]: "undo"})
    say(space, "ann", sample[:2], {sample[1]: "in"})
    say(space, "ann", sample[2:])
    say(space, "ann", [sample[1]], {sample[1]: "undo"})
    say(space, "ann", [sample[1]])
    report_audit(space)
    found = certificate(space)
    assert found["defects"] == [sample[1]]
    assert (found["n_undone"], found["undone"]) == (2, sorted(sample[:2]))


def test_a_log_that_was_cut_since_the_plan_is_refused(space):
    say(space, "ann", [image_name(number) for number in range(5)], queue="first")
    plan_audit(space, None, FIXED)
    log = space.decisions_dir / "ann.jsonl"
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:3]))
    with pytest.raises(TableError, match="does not go on from the 5 lines"):
        report_audit(space)


def test_a_plan_made_again_after_answers_changes_nothing(space):
    audited(space, "a", {0: "in"})
    before = bytes_of(space.audits_dir)
    assert plan_audit(space, "set-1.0.0", FIXED, audit="a").logs == {}
    assert bytes_of(space.audits_dir) == before
    with pytest.raises(InputError, match="planned with other arguments"):
        plan_audit(space, "set-1.0.0", Goal(0.01), audit="a")


def test_a_certificate_is_computed_again(space):
    audited(space, "a", {0: "in", 1: "difficult"})
    whole = certificate(space, "a")
    assert check_certificate(whole) == []
    here = build_manifest(space, "set", "auto").header["certificate"]
    assert check_certificate(here, n_images_here=800) == []
    assert (
        "says n_removed_since 0, but its own numbers make that 1" in check_certificate(here, n_images_here=799)[0]
    )
    for change, word in (
        ({"upper_bound": 1e-6}, "upper_bound"),
        ({"upper_bound_with_difficult": 0.001}, "upper_bound_with_difficult"),
        ({"n_defects_possible": 1}, "n_defects_possible"),
        ({"n_sample": 800}, "n_sample"),
        ({"confidence": 0.99}, "confidence"),
        ({"bound": 0.0001}, "bound"),
        ({"seed": 1}, "seed"),
        ({"is_certified": False}, "is_certified"),
        ({"looks": [{"n_images": 236, "max_defects": 9}]}, "looks"),
        ({"goal": whole["goal"] | {"max_defects": 2}}, "looks"),
        ({"goal": {}, "looks": []}, "range"),
        ({"goal": {"confidence": "high"}}, "cannot be computed again"),
        ({"defects": []}, "not those of its lists"),
        ({"n_defects": 0}, "not those of its lists"),
        ({"known_defects": ["x"]}, "is_certified"),
        ({"other_audits": [{"audit": "b"}]}, "cannot be computed again"),
        ({"strata": {"all": 3}}, "cannot be computed again"),
        ({"confidence_of_all": 0.99}, "confidence_of_all"),
        ({"n_images": "800"}, "of another type"),
    ):
        problems = check_certificate(json.loads(json.dumps(whole | change)))
        assert word in " ".join(problems), change
    assert "upper_bound_here" in check_certificate(here | {"upper_bound_here": 0.001}, n_images_here=800)[0]


def test_build_refuses_a_certificate_that_was_edited(space):
    audited(space, "a", {0: "in"})
    path = space.certificates_dir / "a.json"
    path.write_text(json.dumps(certificate(space, "a") | {"upper_bound": 0.000001}))
    with pytest.raises(TableError, match="was changed by hand: certificate: says upper_bound 1e-06"):
        build_manifest(space, "set", "auto")
