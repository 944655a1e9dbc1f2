import json
import shutil

import numpy as np
import pytest
from scipy.stats import beta, hypergeom

from annotation.audit.plan import Goal, plan_audit, plan_path, read_plan
from annotation.audit.report import report_audit
from annotation.decision_log import log_path, open_log
from annotation.queues import open_queue
from cli import run
from manifests import schema
from manifests.build import build_manifest
from manifests.certificate import Look
from manifests.durable import write_json
from manifests.errors import InputError, TableError
from manifests.frozen import read_manifest
from manifests.tombstones import retire
from manifests.workspace import Workspace
from scoring.contamination import Contamination, parse_contamination
from tests.annotation_workspace import decision
from tests.manifest_world import bytes_of, image_name, shuffled, world

N_IMAGES = 800
FIXED = Goal(0.02, 0.95, 1)  # 236 images
LOOKS = Goal(0.02, 0.95, 2, 3)


@pytest.fixture(scope="module")
def frozen_world(tmp_path_factory):
    space = world(tmp_path_factory.mktemp("audit") / "ws", N_IMAGES, has_pictures=False)
    # A log of the manifests' tests, which no annotator could have written.
    (space.decisions_dir / "ana.jsonl").unlink()
    build_manifest(space, "set", "1.0.0")
    return space


@pytest.fixture
def space(frozen_world, tmp_path):
    return Workspace(shutil.copytree(frozen_world.root, tmp_path / "ws"))


def drawn(space, audit="set-1.0.0"):
    return space.read(schema.audit_table(audit)).column("image_id").to_pylist()


def say(space, name, image_ids, answers=None, queue="audit"):
    """Let one annotator answer with a real log: ``out`` but where `answers` says otherwise."""
    with open_log(space, name) as log:
        start = len(log.decisions)
        log.append_all([
            decision(f"{name}-{start + number}", one, (answers or {}).get(one, "out"), queue=queue)
            for number, one in enumerate(image_ids)
        ])  # fmt: skip


def certificate(space, audit="set-1.0.0"):
    return json.loads((space.root / "certificates" / f"{audit}.json").read_text())


def test_the_sample_depends_on_the_set_and_the_seed_alone(space, tmp_path):
    plan_audit(space, None, FIXED, seed=7)
    other = world(tmp_path / "other", N_IMAGES, has_pictures=False)
    (other.decisions_dir / "ana.jsonl").unlink()
    for table in (schema.CANDIDATES, schema.VERDICTS, schema.SCREEN):
        shuffled(other, table, np.random.default_rng(3).permutation(N_IMAGES))
    build_manifest(other, "set", "1.0.0")
    plan_audit(other, "set-1.0.0", FIXED, seed=7)
    assert bytes_of(other.audits_dir) == bytes_of(space.audits_dir)
    assert len(drawn(space)) == 236
    plan_audit(space, None, FIXED, seed=8, audit="again")
    n_common = len(set(drawn(space)) & set(drawn(space, "again")))
    # Two independent draws of 236 out of 800 have 69.6 in common; SciPy's central 99.9 % of that distribution.
    low, high = hypergeom.interval(0.999, N_IMAGES, 236, 236)
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
    plan_audit(space, None, FIXED, seed=1)
    before = bytes_of(space.audits_dir)
    plan_audit(space, None, FIXED, seed=1)
    assert bytes_of(space.audits_dir) == before
    with pytest.raises(InputError, match="planned with other arguments"):
        plan_audit(space, None, FIXED, seed=2)
    # Killed between plan and sample: the same command ends in the same bytes.
    space.path_of(schema.audit_table("set-1.0.0")).unlink()
    plan_audit(space, None, FIXED, seed=1)
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
    space = world(tmp_path / "ws", 100, has_pictures=False)
    (space.decisions_dir / "ana.jsonl").unlink()
    build_manifest(space, "set", "1.0.0")
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
    with pytest.raises(TableError, match="not those drawn by seed 0"):
        report_audit(space)
    space.write(schema.audit_table("set-1.0.0"), rows[1:])
    with pytest.raises(TableError, match="holds 235 images that are not those drawn"):
        report_audit(space)
    table.write_bytes(kept[0])

    for old, new, message in (
        ('"seed": 0', '"seed": 5', "not those drawn by seed 5"),
        ('"bound": 0.02', '"bound": 0.01', "its looks or its name are not those of its goal"),
        ('"n_images": 236', '"n_images": 100', "its looks or its name are not those of its goal"),
        ('"seed"', '"sed"', "not the plan of an audit"),
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

    other = world(space.root.parent / "other", N_IMAGES, has_pictures=False, words={3: "in"})
    build_manifest(other, "set", "1.0.0")
    shutil.rmtree(space.manifests_dir / "set-1.0.0")
    shutil.copytree(other.manifests_dir / "set-1.0.0", space.manifests_dir / "set-1.0.0")
    with pytest.raises(InputError, match="the set has changed since"):
        report_audit(space)


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


def listed(space, numbers):
    path = space.root / "ids.txt"
    path.write_text("".join(f"{image_name(number)}\n" for number in numbers))
    return path


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


def test_several_audits_of_one_set_name_each_other(space):
    for name, seed in (("a", 0), ("b", 1)):
        plan_audit(space, None, FIXED, seed=seed, audit=name)
        say(space, f"ann-{name}", drawn(space, name))
    with pytest.raises(InputError, match="expected an audit that was planned; here: a, b"):
        read_plan(space, None)
    assert report_audit(space, "b").certificate["other_audits"] == ["a"]


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
    assert run(["audit", "report", "--seed", "2", *workspace]) == 2
    assert run(["audit", "again", *workspace]) == 1
    assert "expected either 'plan' or 'report'" in capsys.readouterr().err
