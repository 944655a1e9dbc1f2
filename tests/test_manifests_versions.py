import hashlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests import schema
from manifests.build import build_manifest
from manifests.draws import largest_remainders, split_of, stratified_draw
from manifests.errors import InputError
from manifests.frozen import record_table
from manifests.merkle import inclusion_proof, merkle_root
from manifests.versions import Version, check_bump, parse_version, record_changes, versions_in
from tests.manifest_world import bytes_of, image_name, set_verdicts, shuffled, world

IDS = st.sets(st.integers(0, 30), max_size=12)


def records_of(splits):
    """Return a manifest's records from image number to (split, votes)."""
    nothing = dict.fromkeys(schema.MANIFEST.schema.names)
    rows = [
        nothing | {"image_id": image_name(number), "split": split, "n_out": n_out}
        for number, (split, n_out) in splits.items()
    ]
    return record_table(rows, "test")


RECORDS = st.dictionaries(
    st.integers(0, 20), st.tuples(st.sampled_from(["val", "test"]), st.integers(2, 3)), max_size=8
)


@given(RECORDS, RECORDS)
@settings(max_examples=200, deadline=None)
def test_the_kind_of_a_version_is_what_the_rule_says(before, after):
    changes = record_changes(records_of(before), records_of(after))
    if before == after:
        expected = "patch"
    elif before.items() <= after.items():
        expected = "minor"
    else:
        expected = "major"
    assert changes.kind == expected
    parts = (changes.added, changes.removed, changes.moved, changes.changed)
    touched = {number for number in {*before, *after} if before.get(number) != after.get(number)}
    # Each touched image stands in one part, and in no other.
    assert sorted(one for part in parts for one in part) == sorted(map(image_name, touched))


@given(RECORDS, RECORDS, st.tuples(*[st.integers(0, 3)] * 3), st.tuples(*[st.integers(0, 3)] * 3))
@settings(max_examples=200, deadline=None)
def test_every_wrong_bump_is_refused_and_the_right_one_is_not(before, after, one, other):
    lower, higher = sorted((Version(*one), Version(*other)))
    if lower == higher:
        return
    changes = record_changes(records_of(before), records_of(after))
    place = next(i for i in range(3) if lower[i] != higher[i])
    if ("major", "minor", "patch")[place] == changes.kind:
        check_bump("x", higher, lower, changes)
    else:
        with pytest.raises(InputError, match=f"its changes make a {changes.kind} one"):
            check_bump("x", higher, lower, changes)
    check_bump("x", lower.raised(changes.kind), lower, changes)


def test_raising_a_part_sets_those_after_it_to_zero():
    assert [str(Version(1, 2, 3).raised(kind)) for kind in ("patch", "minor", "major")] == [
        "1.2.4",
        "1.3.0",
        "2.0.0",
    ]


@pytest.mark.parametrize("text", ["1.0", "01.0.0", "1.0.0-rc1", "١.0.0", "1.0.0\n", "9999999999.0.0"])
def test_what_is_no_version_is_refused(text):
    with pytest.raises(InputError, match=r"expected X\.Y\.Z"):
        parse_version(text)


def test_versions_are_ordered_as_numbers_and_of_one_name(tmp_path):
    for name in ("x-1.10.0", "x-1.9.0", "x-y-2.0.0", "x-1.0", "x-3.0.0"):
        (tmp_path / name).mkdir()
        if name != "x-3.0.0":
            (tmp_path / name / "manifest.json").write_text("{}")
    assert list(map(str, versions_in(tmp_path, "x"))) == ["1.9.0", "1.10.0"]
    assert list(map(str, versions_in(tmp_path, "x-y"))) == ["2.0.0"]


def test_a_wrong_bump_is_refused_with_what_changed(tmp_path):
    space = world(tmp_path / "ws", 8, words={6: "open", 7: "open"})
    build_manifest(space, "x", "1.0.0")
    set_verdicts(space, {7: "open"}, 8)
    with pytest.raises(
        InputError, match=rf"1\.0\.1 is a patch.*minor one: 1 added \({image_name(6)}\); give.*1\.1\.0"
    ):
        build_manifest(space, "x", "1.0.1")
    with pytest.raises(
        InputError, match=r"2\.0\.0 is a major version after x-1\.0\.0, but its changes make a minor"
    ):
        build_manifest(space, "x", "2.0.0")
    build_manifest(space, "x", "1.1.0")
    set_verdicts(space, {0: "in", 7: "open"}, 8)
    with pytest.raises(
        InputError, match=rf"major one: 1 removed \({image_name(0)}\); give --version 2\.0\.0, or auto"
    ):
        build_manifest(space, "x", "1.2.0")
    assert [one.name for one in sorted(space.manifests_dir.iterdir())] == ["x-1.0.0", "x-1.1.0"]


def test_auto_takes_the_version_that_follows_and_none_where_nothing_changed(tmp_path):
    space = world(tmp_path / "ws", 8, words={7: "open"})
    found = []
    for words in ({7: "open"}, {7: "open"}, {}, {7: "difficult", 6: "in"}):
        set_verdicts(space, words, 8)
        manifest = build_manifest(space, "x", "auto")
        found.append((manifest.header["version"], (manifest.header["previous"] or {}).get("version")))
    assert found == [("1.0.0", None), ("1.0.0", None), ("1.1.0", "1.0.0"), ("2.0.0", "1.1.0")]
    assert manifest.header["previous"]["changes"] == {"added": 0, "removed": 2, "moved": 0, "changed": 0}


def test_the_same_records_of_another_verdict_table_are_a_patch(tmp_path):
    space = world(tmp_path / "ws", 8, words={7: "open"})
    build_manifest(space, "x", "1.0.0")
    set_verdicts(space, {7: "in"}, 8)
    assert build_manifest(space, "x", "auto").header["version"] == "1.0.1"


def test_images_that_come_later_move_none_to_another_split(tmp_path):
    few = build_manifest(world(tmp_path / "few", 100, has_pictures=False), "x", "1.0.0")
    many = build_manifest(world(tmp_path / "many", 300, has_pictures=False), "x", "1.0.0")
    split_of_many = {row["image_id"]: row["split"] for row in many.records.to_pylist()}
    assert all(split_of_many[row["image_id"]] == row["split"] for row in few.records.to_pylist())


@given(st.randoms(use_true_random=False))
@settings(max_examples=8, deadline=None)
def test_any_order_of_rows_gives_the_same_bytes(tmp_path_factory, random):
    n_images = 25
    root = tmp_path_factory.mktemp("order")
    first = build_manifest(world(root / "a", n_images), "x", "1.0.0")
    space = world(root / "b", n_images)
    for table in (schema.CANDIDATES, schema.DOWNLOADS, schema.SCREEN, schema.VERDICTS):
        shuffled(space, table, random.sample(range(n_images), n_images))
    assert bytes_of(build_manifest(space, "x", "1.0.0").folder) == bytes_of(first.folder)


def naive_root(entries):
    """RFC 6962, section 2.1, word for word."""
    if not entries:
        return hashlib.sha256(b"").digest()
    if len(entries) == 1:
        return hashlib.sha256(b"\x00" + entries[0]).digest()
    k = 1
    while 2 * k < len(entries):
        k *= 2
    return hashlib.sha256(b"\x01" + naive_root(entries[:k]) + naive_root(entries[k:])).digest()


@given(st.lists(st.binary(max_size=4), max_size=40))
def test_the_merkle_root_is_that_of_rfc_6962(entries):
    assert merkle_root(entries) == naive_root(entries).hex()


def naive_included(entry, proof, root):
    """Return whether a proof holds, by the steps of RFC 9162, section 2.1.3.2, for who has the root alone."""
    joined, position, last = hashlib.sha256(b"\x00" + entry).digest(), proof.index, proof.n_records - 1
    for step in map(bytes.fromhex, proof.path):
        if last == 0:
            return False
        if position & 1 or position == last:
            joined = hashlib.sha256(b"\x01" + step + joined).digest()
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            joined = hashlib.sha256(b"\x01" + joined + step).digest()
        position, last = position >> 1, last >> 1
    return last == 0 and joined.hex() == root


@given(st.lists(st.binary(max_size=4), min_size=1, max_size=40, unique=True), st.data())
def test_a_proof_holds_for_its_record_alone(entries, data):
    index = data.draw(st.integers(0, len(entries) - 1))
    proof, root = inclusion_proof(entries, index), merkle_root(entries)
    assert (proof.index, proof.n_records) == (index, len(entries))
    assert [naive_included(entry, proof, root) for entry in entries] == [i == index for i in range(len(entries))]


def test_a_node_cannot_be_passed_off_as_a_record():
    entries = [b"a", b"b", b"c", b"d"]
    leaves = [hashlib.sha256(b"\x00" + entry).digest() for entry in entries]
    assert merkle_root([leaves[0] + leaves[1], leaves[2] + leaves[3]]) != merkle_root(entries)


@given(st.dictionaries(st.text(max_size=3), st.integers(1, 50), min_size=1, max_size=8), st.data())
def test_each_stratum_gets_its_quota_or_one_beside_it(sizes, data):
    n_wanted = data.draw(st.integers(1, sum(sizes.values())))
    found = largest_remainders(sizes, n_wanted)
    assert sum(found.values()) == n_wanted
    for name, size in sizes.items():
        assert found[name] <= size
        assert abs(found[name] - n_wanted * size / sum(sizes.values())) < 1


def test_largest_remainders_of_a_case_worked_out_by_hand():
    # Quotas of 10: 4.7, 1.6, 1.58, 0.8, 0.72, 0.6 (the usual textbook case, times 1,000).
    sizes = {"a": 47_000, "b": 16_000, "c": 15_800, "d": 12_000, "e": 6_100, "f": 3_100}
    assert largest_remainders(sizes, 10) == {"a": 5, "b": 2, "c": 1, "d": 1, "e": 1, "f": 0}


def test_the_draw_depends_on_seed_and_ids_alone():
    stratum_of = {image_name(number): f"s{number % 3}" for number in range(90)}
    drawn = stratified_draw(stratum_of, 30, 7)
    assert drawn == stratified_draw(dict(reversed(stratum_of.items())), 30, 7)
    assert drawn != stratified_draw(stratum_of, 30, 8)
    assert sorted(stratum_of[one] for one in drawn) == ["s0"] * 10 + ["s1"] * 10 + ["s2"] * 10


def test_a_tenth_of_many_groups_is_in_val():
    n_val = sum(split_of(image_name(number), {"val": 0.1}, 0) == "val" for number in range(17_632))
    # Four standard deviations of a binomial with p = 0.1: sqrt(17632 * 0.09) = 39.8.
    assert abs(n_val - 1_763.2) < 160


def test_the_header_states_the_command_that_builds_the_set_again(tmp_path):
    manifest = build_manifest(world(tmp_path / "ws", 8), "x", "1.0.0")
    header = json.loads((manifest.folder / "manifest.json").read_text())
    assert header["rebuild"] == "python cli.py build-manifest --name x --version auto --split=val=0.1"
