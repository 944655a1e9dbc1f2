import shutil

import numpy as np
import pytest
from scipy.stats import beta, hypergeom

from annotation.audit.plan import plan_audit, plan_path
from annotation.audit.report import report_audit
from annotation.decision_log import log_path
from annotation.queues import open_queue
from cli import run
from manifests import schema
from manifests.audit_design import Goal
from manifests.build import build_manifest
from manifests.certificate import Look
from manifests.durable import write_json
from manifests.errors import InputError, TableError
from manifests.frozen import read_manifest
from manifests.workspace import Workspace
from tests.audit_world import N_IMAGES, certificate, drawn, frozen_world, say
from tests.manifest_world import bytes_of, image_name, shuffled, world

FIXED = Goal(0.02, 0.95, 1)  # 236 images
LOOKS = Goal(0.02, 0.95, 2, 3)


@pytest.fixture(scope="module")
def frozen_root(tmp_path_factory):
    return frozen_world(tmp_path_factory.mktemp("audit") / "ws").root


@pytest.fixture
def space(frozen_root, tmp_path):
    return Workspace(shutil.copytree(frozen_root, tmp_path / "ws"))


def test_the_sample_depends_on_the_set_and_the_number_of_its_audits_alone(space, tmp_path):
    plan_audit(space, None, FIXED)
    other = world(tmp_path / "other", N_IMAGES, has_pictures=False)
    (other.decisions_dir / "ana.jsonl").unlink()
    for table in (schema.CANDIDATES, schema.VERDICTS, schema.SCREEN):
        shuffled(other, table, np.random.default_rng(3).permutation(N_IMAGES))
    build_manifest(other, "set", "1.0.0")
    plan_audit(other, "set-1.0.0", FIXED)
    assert bytes_of(other.audits_dir) == bytes_of(space.audits_dir)
    assert len(drawn(space)) == 236
    second = plan_audit(space, None, FIXED, audit="again")
    n_common = len(set(drawn(space)) & set(drawn(space, "again")))
    # Independent draws of 236 and n out of 800; SciPy's central 99.9 % of what they have in common.
    low, high = hypergeom.interval(0.999, N_IMAGES, 236, second.looks[0].n_images)
    assert low <= n_common <= high


def test_every_image_is_as_likely_to_be_drawn(space):
    plan = plan_audit(space, None, FIXED)
    ids = [image_name(number) for number in range(N_IMAGES)]
    counts = dict.fromkeys(ids, 0)
    for seed in range(200):
        again = type(plan)(**{**vars(plan), "seed": seed})
        for one in again.sample(ids):
            counts[one] += 1
    # Chi-squared over 800 images of a draw without replacement: its mean is N - 1, its deviation about sqrt(2 N).
    share = 236 / N_IMAGES
    statistic = sum((n - 200 * share) ** 2 for n in counts.values()) / (200 * share * (1 - share))
    assert abs(statistic - (N_IMAGES - 1)) < 4 * (2 * N_IMAGES) ** 0.5


def test_a_plan_that_is_repeated_changes_nothing_and_another_under_its_name_is_refused(space):
    plan_audit(space, None, FIXED)
    before = bytes_of(space.audits_dir)
    plan_audit(space, None, FIXED)
    assert bytes_of(space.audits_dir) == before
    with pytest.raises(InputError, match="planned with other arguments"):
        plan_audit(space, None, LOOKS)
    # Killed between plan and sample: the same command ends in the same bytes.
    space.path_of(schema.audit_table("set-1.0.0")).unlink()
    plan_audit(space, None, FIXED)
    assert bytes_of(space.audits_dir) == before


def test_auditors_get_the_sample_among_gold_and_only_what_they_never_saw(space):
    plan_audit(space, None, FIXED)
    sample = drawn(space)
    say(space, "ann", sample[:10], queue="first")
    queue = open_queue(space, "ann", "audit")
    assert {item.image_id for item in queue.upcoming(1000)} == set(sample[10:])
    fresh = open_queue(space, "cem", "audit")
    assert {item.image_id for item in fresh.upcoming(1000)} == set(sample)


def test_one_defect_in_236_certifies_two_percent_with_scipys_bound(space):
    plan_audit(space, None, FIXED)
    sample = drawn(space)
    say(space, "ann", sample, {sample[5]: "in", sample[9]: "difficult"})
    say(space, "ben", sample[:50], {sample[9]: "out", sample[20]: "difficult"})
    report_audit(space)
    found = certificate(space)
    assert (found["n_sample"], found["n_defects"], found["n_difficult"], found["is_certified"]) == (
        236,
        1,
        2,
        True,
    )
    assert found["upper_bound"] == pytest.approx(beta.ppf(0.95, 2, 235), abs=1e-6)
    assert found["upper_bound"] >= beta.ppf(0.95, 2, 235)
    assert found["upper_bound_with_difficult"] == pytest.approx(beta.ppf(0.95, 4, 233), abs=1e-6)
    possible = [m for m in range(1, 100) if hypergeom.cdf(1, N_IMAGES, m, 236) > 0.05]
    assert found["n_defects_possible"] == max(possible)
    assert (found["defects"], found["n_auditors"], found["n_answers"]) == ([sample[5]], 2, 286)
    assert found["difficult"] == sorted([sample[9], sample[20]])


def test_two_defects_are_not_certified_and_strata_stand_with_their_numbers(space):
    plan_audit(space, None, FIXED)
    sample = drawn(space)
    say(space, "ann", sample, {sample[5]: "in", sample[200]: "in"})
    report_audit(space)
    found = certificate(space)
    assert not found["is_certified"]
    assert found["upper_bound"] > 0.02
    records = {row["image_id"]: row["strata"] for row in strata_rows(space)}
    for stratum, part in found["strata"].items():
        inside = [one for one in sample if records[one] == stratum]
        n_defects = sum(one in (sample[5], sample[200]) for one in inside)
        assert (part["n_sample"], part["n_defects"]) == (len(inside), n_defects)
        assert part["upper_bound"] == pytest.approx(
            beta.ppf(0.95, n_defects + 1, len(inside) - n_defects), abs=1e-6
        )
    assert set(found["strata"]) == {"risk=low", "risk=middle", "risk=high"}


def strata_rows(space):
    return read_manifest(space.manifests_dir / "set-1.0.0").records.to_pylist()


def test_an_unfinished_sample_gives_an_interim_figure_and_no_certificate(space, capsys):
    plan_audit(space, None, FIXED)
    sample = drawn(space)
    say(space, "ann", sample[:-1], {sample[0]: "in"})
    assert run(["audit", "report", "--workspace", str(space.root)]) == 0
    assert "interim: 1 defects so far; no certificate while 1 images wait" in capsys.readouterr().out
    assert not list((space.root / "certificates").glob("*"))
    say(space, "ann", sample[-1:], {sample[-1]: "skip"})
    assert report_audit(space).waiting == (sample[-1],)


def test_answers_by_eyes_that_are_not_fresh_or_set_aside_do_not_count(space):
    plan_audit(space, None, FIXED)
    sample = drawn(space)
    say(space, "old", sample[:3], queue="first")
    say(space, "old", sample[:3], {sample[0]: "in"})
    report = report_audit(space)
    assert (report.words, report.answers.n_not_fresh, report.n_without_fresh_eyes) == ({}, 3, 3)
    say(space, "ann", sample)
    assert report_audit(space).certificate["n_defects"] == 0
    say(space, "ben", sample[:1], {sample[0]: "in"})
    assert report_audit(space).certificate["n_defects"] == 1
    write_json(
        space.root / "provenance" / "consensus.json",
        {"arguments": {"n_votes": 2, "majority": 1.0, "set_aside": ["ben"]}},
    )
    found = report_audit(space).certificate
    assert (found["n_defects"], found["set_aside"]) == (0, ["ben"])


def test_an_answer_taken_back_removes_the_certificate_and_the_next_report_writes_the_same_bytes(space):
    plan_audit(space, None, FIXED)
    sample = drawn(space)
    say(space, "ann", sample)
    report_audit(space)
    before = bytes_of(space.root / "certificates")
    say(space, "ben", ["elsewhere"], queue="first")
    report_audit(space)
    assert bytes_of(space.root / "certificates") == before
    say(space, "ann", sample[:1], {sample[0]: "undo"})
    assert report_audit(space).certificate is None
    assert bytes_of(space.root / "certificates") == {}


def test_auditors_are_measured_on_gold_and_against_each_other(space):
    plan_audit(space, None, FIXED)
    sample = drawn(space)
    gold = [image_name(number) for number in range(N_IMAGES) if image_name(number) not in sample][:4]
    entries = zip(gold, ["in", "in", "in", "out"], strict=True)
    space.write(schema.GOLD, [{"image_id": one, "answer": answer} for one, answer in entries])
    say(space, "ann", sample, {sample[0]: "in"})
    say(space, "ann", gold, {gold[0]: "in", gold[1]: "in"}, queue="gold")
    say(space, "ben", sample)
    report = report_audit(space)
    assert (report.certificate["n_gold_in"], report.certificate["n_gold_in_found"]) == (3, 2)
    assert report.agreement["agreement"].value == pytest.approx(235 / 236)
    assert (report.certificate["n_answered_by_several"], report.certificate["n_disagreed"]) == (236, 1)


def test_a_sequential_audit_goes_on_until_a_look_decides(space, capsys):
    plan = plan_audit(space, None, LOOKS)
    sizes = [look.n_images for look in plan.looks]
    first = drawn(space)
    assert len(first) == sizes[0]
    say(space, "ann", first, {first[3]: "in"})
    assert run(["audit", "report", "--workspace", str(space.root)]) == 0
    assert f"leaves it open with 1 defects: {sizes[1] - sizes[0]} more images drawn" in capsys.readouterr().out
    second = [one for one in drawn(space) if one not in first]
    assert len(second) == sizes[1] - sizes[0]
    after = bytes_of(space.audits_dir)
    assert report_audit(space).waiting == tuple(second)
    assert bytes_of(space.audits_dir) == after
    say(space, "ann", second)
    report_audit(space)
    found = certificate(space)
    assert (found["n_looks_taken"], found["n_sample"], found["n_defects"]) == (2, sizes[1], 1)
    assert found["is_certified"]
    assert beta.ppf(0.95, 2, sizes[1] - 1) <= found["upper_bound"] <= 0.02


def test_a_sequential_audit_stops_where_no_look_can_certify(space):
    plan_audit(space, None, LOOKS)
    sample = drawn(space)
    say(space, "ann", sample, dict.fromkeys(sample[:3], "in"))
    report_audit(space)
    found = certificate(space)
    assert (found["n_looks_taken"], found["is_certified"]) == (1, False)
    assert found["upper_bound"] > beta.ppf(0.95, 4, len(sample) - 3) - 1e-6


def test_a_set_smaller_than_its_sample_is_audited_whole_and_its_share_is_known(tmp_path):
    space = frozen_world(tmp_path / "ws", 100)
    plan = plan_audit(space, None, Goal(0.29, 0.99999, 60))
    assert plan.looks == (Look(100, 29),)
    sample = drawn(space)
    say(space, "ann", sample, dict.fromkeys(sample[:29], "in"))
    report_audit(space)
    found = certificate(space)
    assert (found["upper_bound"], found["n_defects_possible"], found["is_certified"]) == (0.29, 29, True)


def test_a_changed_sample_plan_set_or_log_is_refused(space):
    plan_audit(space, None, FIXED)
    say(space, "ann", drawn(space))
    table, path = space.path_of(schema.audit_table("set-1.0.0")), plan_path(space, "set-1.0.0")
    rows = space.read(schema.audit_table("set-1.0.0")).to_pylist()
    kept = (table.read_bytes(), path.read_text())

    stranger = next(image_name(n) for n in range(N_IMAGES) if image_name(n) not in drawn(space))
    space.write(schema.audit_table("set-1.0.0"), [*rows[1:], rows[0] | {"image_id": stranger}])
    with pytest.raises(TableError, match="not those drawn by seed"):
        report_audit(space)
    space.write(schema.audit_table("set-1.0.0"), rows[1:])
    with pytest.raises(TableError, match="holds 235 images that are not those drawn"):
        report_audit(space)
    table.write_bytes(kept[0])

    for old, new, message in (
        ('"seed": ', '"seed": 1', "its looks, its seed or its name"),
        ('"bound": 0.02', '"bound": 0.01', "its looks, its seed or its name are not those"),
        ('"n_images": 236', '"n_images": 100', "its looks, its seed or its name are not those"),
        ('"seed"', '"sed"', "not the plan of an audit"),
        ('"earlier": []', '"earlier": ["a"]', "its looks, its seed or its name are not those"),
    ):
        path.write_text(kept[1].replace(old, new, 1))
        with pytest.raises(TableError, match=message):
            report_audit(space)
    path.write_text(kept[1])

    log = log_path(space, "ann")
    lines = log.read_bytes()
    log.write_bytes(lines.replace(b'"answer": "out"', b'"answer": "difficult"', 1))
    with pytest.raises(TableError, match="line 2"):
        report_audit(space)
    log.write_bytes(lines)

    other = frozen_world(space.root.parent / "other", words={3: "in"})
    shutil.rmtree(space.manifests_dir / "set-1.0.0")
    shutil.copytree(other.manifests_dir / "set-1.0.0", space.manifests_dir / "set-1.0.0")
    with pytest.raises(InputError, match="the set has changed since"):
        report_audit(space)
