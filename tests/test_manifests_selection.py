from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests import schema
from manifests.build import build_manifest
from manifests.errors import InputError, StageMissingError, TableError
from manifests.parquet import read_parquet
from manifests.selection import BuildRules, grouped
from manifests.strata import main_labels, strata
from manifests.tombstones import active_records, read_tombstones, retire
from tests.manifest_world import image_name, world

BY = "https://creativecommons.org/licenses/by/2.0/"


def left_out(manifest):
    rows = read_parquet(manifest.folder / "left_out.parquet").to_pylist()
    return {int(row["image_id"], 16): row["reason"] for row in rows}


def numbers(manifest):
    return [int(image_id, 16) for image_id in manifest.records.column("image_id").to_pylist()]


@pytest.fixture
def space(tmp_path):
    return world(tmp_path / "ws", 12)


@pytest.mark.parametrize("licence", ["cc-by-2.0", BY, "http://creativecommons.org/licenses/BY/2.0"])
def test_only_allowed_licences_enter(space, licence):
    manifest = build_manifest(space, "x", "1.0.0", rules=BuildRules(licences=(licence,)))
    assert numbers(manifest) == [0, 3, 6, 9]
    assert manifest.header["left_out"] == {"licence": 4, "licence_unknown": 4}
    assert left_out(manifest) == {n: "licence" if n % 3 == 1 else "licence_unknown" for n in range(12) if n % 3}


def test_sides_decide_what_enters(space):
    # Pictures are (40 + n % 7) x 30: the ratio of numbers 5, 6 and of 12 modulo 7 is above 1.48.
    manifest = build_manifest(space, "x", "1.0.0", rules=BuildRules(max_aspect=44 / 30))
    assert left_out(manifest) == {5: "max_aspect", 6: "max_aspect"}
    with pytest.raises(InputError, match=r"no image is left for the manifest: \{'min_side': 12\}"):
        build_manifest(space, "y", "1.0.0", rules=BuildRules(min_side_px=31))


def test_quality_flags_name_the_one_that_kept_a_picture_out(space):
    rows = []
    for number in range(11):
        flags = {f"is_{check}": False for check in schema.QUALITY_CHECKS}
        flags |= {f"{check}_score": 0.0 for check in schema.QUALITY_CHECKS}
        rows.append({"image_id": image_name(number), "sha256": "0" * 64, **flags})
    rows[2] |= {"is_dark": True, "is_blur": True}
    rows[3] |= {"is_odd_size": True}
    rules = BuildRules(exclude_quality=("dark", "blur"))
    with pytest.raises(StageMissingError, match="run the stage 'quality'"):
        build_manifest(space, "x", "1.0.0", rules=rules)
    space.write(schema.QUALITY, rows)
    assert left_out(build_manifest(space, "x", "1.0.0", rules=rules)) == {2: "quality_blur", 11: "quality_unknown"}


def write_duplicates(space, pairs):
    alike = {"kind": "pixels", "bits": 1, "agreement": 1}
    rows = [{"image_id": image_name(a), "duplicate_of": image_name(b), **alike} for a, b in pairs.items()]
    space.write(schema.DUPLICATES, rows)


def test_a_group_of_duplicates_gives_its_representative_first(space):
    write_duplicates(space, {1: 5, 2: 5, 3: 5})
    manifest = build_manifest(space, "x", "1.0.0", rules=BuildRules(max_per_group=2))
    assert left_out(manifest) == {2: "duplicate_group", 3: "duplicate_group"}


@given(st.dictionaries(st.integers(0, 11), st.integers(0, 11), max_size=12), st.integers(0, 50))
@settings(max_examples=25, deadline=None)
def test_no_split_cuts_through_a_group_of_duplicates(tmp_path_factory, pairs, seed):
    space = world(tmp_path_factory.mktemp("groups"), 12, has_pictures=False)
    write_duplicates(space, pairs)
    rules = BuildRules(splits={"val": 0.4, "dev": 0.2}, seed=seed)
    manifest = build_manifest(space, "x", "1.0.0", rules=rules)
    split = {int(row["image_id"], 16): row["split"] for row in manifest.records.to_pylist()}
    assert all(split[one] == split[other] for one, other in pairs.items())


@given(st.dictionaries(st.integers(0, 9).map(str), st.integers(0, 9).map(str), max_size=10))
def test_groups_are_the_connected_parts(pairs):
    def reached(start):
        found = {start}
        while True:
            more = {a for pair in pairs.items() for a in pair if found & set(pair)} | found
            if more == found:
                return found
            found = more

    everyone = {one for pair in pairs.items() for one in pair}
    assert grouped(pairs) == {one: min(reached(one)) for one in everyone}


def test_the_draw_is_balanced_over_thirds_of_risk(space):
    manifest = build_manifest(space, "x", "1.0.0", rules=BuildRules(target=6, seed=3))
    assert sorted(manifest.records.column("strata").to_pylist()) == (
        ["risk=high"] * 2 + ["risk=low"] * 2 + ["risk=middle"] * 2
    )
    assert manifest.header["left_out"] == {"not_drawn": 6}
    with pytest.raises(InputError, match="--target: expected 1 to 12, all images that are left; found 13"):
        build_manifest(space, "y", "1.0.0", rules=BuildRules(target=13))


def test_people_come_before_classifiers_and_an_absent_thing_is_no_label():
    rows = [
        ("a", "/m/9", "machine", 0.99), ("a", "/m/2", "human", 1.0), ("a", "/m/1", "human", 1.0),
        ("b", "/m/3", "human", 0.0), ("b", "/m/5", "machine", 0.5), ("b", "/m/4", "machine", 0.7),
        ("c", "/m/6", "human", 0.0), ("d", "/m/7", "human", 1.0),
    ]  # fmt: skip
    columns = ("image_id", "label_mid", "source", "confidence")
    table = schema.LABELS.schema.empty_table().from_pylist(
        [dict(zip(columns, row, strict=True)) for row in rows], schema=schema.LABELS.schema
    )
    assert main_labels(table, ["a", "b", "c"]) == {"a": "/m/1", "b": "/m/4"}


def test_rare_labels_are_one_stratum():
    risks = dict.fromkeys((f"{number:03}" for number in range(300)), 0.5)
    labels = dict.fromkeys(list(risks)[:290], "/m/common") | {"290": "/m/rare", "291": "/m/rare"}
    found = strata(risks, labels)
    assert (found["000"], found["290"], found["295"]) == (
        "risk=low label=/m/common", "risk=high label=other", "risk=high label=unknown",
    )  # fmt: skip
    assert strata({"a": None, "b": 0.1}, None) == {"a": "risk=unknown", "b": "risk=low"}


def test_every_candidate_is_in_the_manifest_or_left_out_with_the_stage_that_lost_it(tmp_path):
    space = world(tmp_path / "ws", 12, words={1: "in", 2: "disputed"})
    verdicts = space.read(schema.VERDICTS).to_pylist()
    space.write(schema.VERDICTS, [row for row in verdicts if int(row["image_id"], 16) < 8])
    screen = space.read(schema.SCREEN).to_pylist()
    screen[9] |= {"status": "dropped", "reason": "leak"}
    space.write(schema.SCREEN, screen[:10])
    downloads = space.read(schema.DOWNLOADS).to_pylist()
    downloads[11] |= {"status": "missing", "path": None, "sha256": None}
    space.write(schema.DOWNLOADS, downloads)
    manifest = build_manifest(space, "x", "1.0.0")
    assert numbers(manifest) == [0, 3, 4, 5, 6, 7]
    assert left_out(manifest) == {
        1: "verdict_in", 2: "verdict_disputed", 8: "no_verdict", 9: "screen_leak", 10: "not_screened",
        11: "download_missing",
    }  # fmt: skip
    assert read_parquet(manifest.folder / "left_out.parquet").to_pylist()[0]["n_in"] == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"splits": {"test": 0.5}}, "--split: test is what the others leave"),
        ({"splits": {"val": 1.0}}, "--split val: expected a share from 0 to below 1, found 1.0"),
        ({"splits": {"val": 0.5, "dev": 0.5}}, "the shares sum to 1, which leaves nothing"),
        ({"splits": {"val": float("nan")}}, "expected a share"),
        ({"licences": ("cc",)}, "--licence: expected an address, or a name such as cc-by-2.0"),
        ({"max_aspect": float("nan")}, "--max-aspect: expected at least 1, found nan"),
        ({"min_side_px": 0}, "--min-side: expected at least 1, found 0"),
        ({"exclude_quality": ("ugly",)}, "--exclude-quality: expected some of blur, dark.* found 'ugly'"),
    ],
)
def test_rules_that_say_nothing_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        replace(BuildRules(), **change)


def test_a_retired_image_leaves_exports_at_once_and_every_later_version(space):
    first = build_manifest(space, "x", "1.0.0")
    stone = retire(space, image_name(4), "the author\n asked  for it")
    assert (stone.reason, stone.manifest) == ("the author asked for it", "x-1.0.0")
    active = active_records(first, read_tombstones(space))
    assert active.column("image_id").to_pylist() == [image_name(n) for n in range(12) if n != 4]
    with pytest.raises(InputError, match=r"make a major one: 1 removed"):
        build_manifest(space, "x", "1.1.0")
    second = build_manifest(space, "x", "auto")
    assert second.folder.name == "x-2.0.0"
    assert second.header["left_out"] == {"retired": 1}
    assert second.header["tombstones"] == [vars(stone)]
    assert second.header["logs"]["tombstones.jsonl"]["n_lines"] == 1


def test_retiring_twice_changes_nothing_and_other_reasons_are_refused(space):
    build_manifest(space, "x", "1.0.0")
    stone = retire(space, image_name(1), "gone")
    content = space.tombstones_path.read_bytes()
    assert retire(space, image_name(1), "gone") == stone
    with pytest.raises(InputError, match="is retired already: gone"):
        retire(space, image_name(1), "another")
    with pytest.raises(InputError, match=r"image 'zz' is not in any manifest"):
        retire(space, "zz", "gone")
    with pytest.raises(InputError, match=r"--manifest y-1\.0\.0: expected one of x-1\.0\.0"):
        retire(space, image_name(2), "gone", manifest="y-1.0.0")
    with pytest.raises(InputError, match="--reason: expected why"):
        retire(space, image_name(2), " \n")
    assert space.tombstones_path.read_bytes() == content


def test_a_torn_last_line_is_cut_and_a_changed_one_is_named(space):
    build_manifest(space, "x", "1.0.0")
    for number in (1, 2):
        retire(space, image_name(number), f"reason {number}")
    content = space.tombstones_path.read_bytes()
    space.tombstones_path.write_bytes(content + b'{"image_id": "half')
    retire(space, image_name(3), "reason 3")
    assert space.tombstones_path.read_bytes().startswith(content)
    assert sorted(read_tombstones(space)) == [image_name(n) for n in (1, 2, 3)]
    space.tombstones_path.write_bytes(space.tombstones_path.read_bytes().replace(b"reason 1", b"reason 9"))
    with pytest.raises(TableError, match=r"tombstones\.jsonl: line 2: the line before it was changed"):
        build_manifest(space, "x", "auto")
