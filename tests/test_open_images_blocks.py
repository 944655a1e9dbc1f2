"""The fast reader against the standard library's, and what happens with files that only one of them would take."""

import base64
import csv
import io
import tracemalloc

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.candidates import Choice, propose_candidates
from curation.metadata import bench, csv_tables, sorted_rows
from curation.metadata.bench import bench_metadata, bench_metadata_table
from curation.metadata.csv_tables import CsvForm, read_tables
from curation.metadata.id_keys import IdSet, KeyLedger, id_keys
from curation.open_images import read_metadata
from manifests import schema
from manifests.errors import InputError, OpenImageOError
from manifests.workspace import Workspace
from tests.open_images_world import V3, cells, images_csv, write_csv

PAIR = pa.schema([("a", pa.string()), ("b", pa.string())])
TWO_COLUMNS = CsvForm((("a", "b"),), PAIR, lambda table: table, dict)
FRAGMENTS = st.lists(
    st.sampled_from(['"', '""', ",", "\n", "\r\n", "\r", "x", "é", "\0", " ", 'y"', "\ufeff"]), max_size=40
).map("".join)


def rows_of(content):
    tables = read_tables(io.BytesIO(content), "t.csv", TWO_COLUMNS)
    return [(row["a"], row["b"]) for table in tables for row in table.to_pylist()]


def rows_by_the_standard_library(text):
    rows = [tuple(row) for row in csv.reader(io.StringIO(text, newline=""), strict=True)]
    if any(len(row) != 2 for row in rows) or "\0" in text:
        raise csv.Error
    return rows


@settings(max_examples=500, deadline=None)
@given(text=FRAGMENTS, block_bytes=st.integers(1, 50))
def test_any_text_is_read_as_the_strict_standard_reader_reads_it(text, block_bytes):
    try:
        expected = rows_by_the_standard_library(text)
    except csv.Error:
        expected = None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_tables, "_BLOCK_BYTES", block_bytes)
        if expected is None:
            with pytest.raises(InputError, match=r"t\.csv, line \d+: "):
                rows_of(b"a,b\n" + text.encode())
        else:
            assert rows_of(b"a,b\n" + text.encode()) == expected


@pytest.mark.parametrize("block_bytes", [1, 64, 1 << 20])
@pytest.mark.parametrize(
    ("rows", "line", "reason"),
    [
        (b"1,2\n3,\xe9\n", 3, "not CSV in UTF-8"),
        (b'"1\n1",2\n3,\0\n', 4, r"not CSV in UTF-8 \(a NUL byte"),
        (b'1,2\n"3,4\n5,6\n', 3, "not CSV in UTF-8"),
        (b'1,2\n"3"x,4\n', 3, "not CSV in UTF-8"),
        (b"1,2\n\n3,4\n", 3, "expected 2 cells, found 0"),
        (b'"1\r\n1",2\r\n3\r\n', 4, "expected 2 cells, found 1"),
        (b"1,2\n3,4,5\n", 3, "expected 2 cells, found 3"),
        (b"1,2\n" + b"x" * 200_000 + b",2\n", 3, "not CSV in UTF-8"),
    ],
)
def test_the_line_of_the_first_bad_record_is_named_whatever_the_blocks(
    monkeypatch, rows, line, reason, block_bytes
):
    monkeypatch.setattr(csv_tables, "_BLOCK_BYTES", block_bytes)
    with pytest.raises(InputError, match=rf"t\.csv, line {line}: {reason}"):
        rows_of(b"a,b\n" + rows)


def test_a_quote_that_never_closes_does_not_draw_the_file_into_memory(monkeypatch):
    monkeypatch.setattr(csv_tables, "_BLOCK_BYTES", 1 << 16)
    content = b'a,b\n"1,' + b"2\n3," * 500_000
    stream = io.BytesIO(content)
    tracemalloc.start()
    with pytest.raises(InputError, match=r"line 2: not CSV in UTF-8 \(field larger than field limit"):
        list(read_tables(stream, "t.csv", TWO_COLUMNS))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_500_000


def test_rows_that_the_fast_way_doubts_are_kept_between_those_it_takes(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_tables, "_BLOCK_BYTES", 700)
    rotations = ["90", "9e1", "nan", "+180", "", "270.00"]
    rows = [cells(f"a{number}", Rotation=text) for number, text in enumerate(rotations)]
    path = write_csv(tmp_path / "x-images-with-rotation.csv", rows, [*V3, "Rotation"])
    found = {row["image_id"]: row["rotation_deg"] for row in read_metadata(path)}
    assert found == {"a0": 90, "a1": 90, "a2": None, "a3": 180, "a4": None, "a5": 270}


def test_the_fast_way_decodes_as_the_exact_one(tmp_path):
    rng = np.random.default_rng(5)
    md5s = [rng.bytes(16) for _ in range(300)]
    rows = [
        cells(f"{number:016x}", OriginalMD5=base64.b64encode(md5).decode() if number % 7 else "", OriginalSize="")
        for number, md5 in enumerate(md5s)
    ]
    found = [row["original_md5"] for row in read_metadata(write_csv(tmp_path / "images.csv", rows))]
    assert found == [md5.hex() if number % 7 else None for number, md5 in enumerate(md5s)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text("0123456789abcdefA-_", min_size=1, max_size=17), max_size=30))
def test_keys_tell_ids_apart_and_sets_know_their_members(ids):
    keys = id_keys(pa.array(ids, pa.string()))
    ledger = KeyLedger()
    ledger.add(keys)
    assert len(set(keys.tolist())) == len(set(ids))
    assert len(ledger.repeated()) == len({one for one in ids if ids.count(one) > 1})
    half = ids[::2]
    known = IdSet([pa.array(half, pa.string())])
    assert len(known) == len(set(half))
    assert known.contains(pa.array(ids, pa.string())).tolist() == [one in set(half) for one in ids]


@pytest.mark.parametrize("most_part_bytes", [1, 200, 1 << 20])
def test_rows_come_out_sorted_however_small_the_parts(tmp_path, most_part_bytes):
    rng = np.random.default_rng(1)
    ids = [f"{number:x}" for number in rng.permutation(120)] + ["b", "bb", "_", "-", "Z"]
    ids = sorted(set(ids), key=lambda one: hash(one) % 97)
    rows = pa.table({"image_id": ids, "n": list(range(len(ids)))})
    with sorted_rows.SortedRows(rows.schema, tmp_path, most_part_bytes=most_part_bytes) as out:
        for begin in range(0, len(ids), 40):
            out.add(rows.slice(begin, 40))
        found = pa.concat_tables(out.tables())
    assert found.column("image_id").to_pylist() == sorted(ids)
    assert [ids[n] for n in found.column("n").to_pylist()] == sorted(ids)
    assert not list(tmp_path.iterdir())


def test_the_table_has_the_same_bytes_whatever_the_blocks_and_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(schema, "ROW_GROUP_ROWS", 64)
    path = write_csv(tmp_path / "images.csv", [cells(f"{number * 7 % 300:x}") for number in range(300)])
    workspace = Workspace(tmp_path / "ws")
    found = []
    for block_bytes in (1_000, 1 << 20):
        monkeypatch.setattr(csv_tables, "_BLOCK_BYTES", block_bytes)
        propose_candidates(workspace, path)
        found.append(workspace.path_of(schema.CANDIDATES).read_bytes())
    assert found[0] == found[1]
    ids = workspace.read(schema.CANDIDATES).column("image_id").to_pylist()
    assert ids == sorted(f"{number:x}" for number in range(300))


def test_equal_originals_are_told_before_a_byte_is_fetched(tmp_path):
    other = "1B2M2Y8AsgTpgAmY7PhCfg=="
    rows = [
        cells("d"), cells("b"), cells("c", OriginalSize="99"), cells("a", OriginalMD5=other),
        cells("e", OriginalMD5=other), cells("f", OriginalMD5=""), cells("g", OriginalMD5=""),
    ]  # fmt: skip
    workspace = Workspace(tmp_path / "ws")
    path = write_csv(tmp_path / "images.csv", rows)
    assert propose_candidates(workspace, path) == {"test": 7, "original_duplicates": 2}
    assert workspace.read(schema.ORIGINAL_DUPLICATES).to_pylist() == [
        {"image_id": "d", "duplicate_of": "b", "is_dropped": False},
        {"image_id": "e", "duplicate_of": "a", "is_dropped": False},
    ]
    counts = propose_candidates(workspace, path, Choice(drop_original_duplicates=True))
    assert counts == {"test": 5, "original_duplicates_dropped": 2}
    assert workspace.read(schema.CANDIDATES).column("image_id").to_pylist() == ["a", "b", "c", "f", "g"]
    assert workspace.read(schema.ORIGINAL_DUPLICATES).column("is_dropped").to_pylist() == [True, True]


def test_withdrawn_originals_are_kept_apart_from_unknown_rotation(tmp_path):
    rows = [cells("a", Rotation="nan"), cells("b", Rotation=""), cells("c", Rotation="90.0")]
    path = write_csv(tmp_path / "test-images-with-rotation.csv", rows, [*V3, "Rotation"])
    workspace = Workspace(tmp_path / "ws")
    assert propose_candidates(workspace, path) == {"test": 3, "withdrawn": 1, "original_duplicates": 2}
    assert workspace.read(schema.CANDIDATES).column("rotation_deg").to_pylist() == [None, None, 90]
    assert workspace.read(schema.WITHDRAWN).column("image_id").to_pylist() == ["a"]


def test_an_id_that_stands_twice_far_apart_is_refused_also_where_it_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_tables, "_BLOCK_BYTES", 500)
    rows = [cells(f"{number:016x}", "train", Title="x") for number in range(40)] + [
        cells("0" * 16, "train", Title="x")
    ]
    (tmp_path / "images.csv").write_text(images_csv(rows))
    with pytest.raises(InputError, match=r"line 42: names image 0000000000000000 twice, first in .*line 2:"):
        propose_candidates(Workspace(tmp_path / "ws"), tmp_path / "images.csv", Choice(subset="test"))


def test_the_bench_reads_every_row_it_made_and_leaves_nothing(tmp_path, capfd):
    result = bench_metadata(tmp_path / "bench", 3_000)
    # Above all not what the stage says to run next, on a workspace that is gone.
    assert capfd.readouterr() == ("", "")
    assert [each.n_rows for each in result.passes] == [3_000] * 3
    assert all(each.peak_bytes > 20_000_000 and each.seconds > 0 for each in result.passes)
    told = result.as_json()["passes"][1]
    assert (told["n_rows"], told["rows_per_s"]) == (3_000, pytest.approx(3_000 / told["seconds"]))
    text = bench_metadata_table(result)
    assert text.splitlines()[0].startswith("metadata: 3,000 made-up rows, 1 MB")
    assert [line.split()[0] for line in text.splitlines()[2:]] == ["candidates", "csv.reader", "pyarrow.csv"]
    assert not list((tmp_path / "bench").iterdir())
    with pytest.raises(InputError, match="--rows: expected at least 1, found 0"):
        bench_metadata(tmp_path / "bench", 0)


def test_a_pass_of_the_bench_that_fails_says_why_in_the_error_alone(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(bench, "_READER_MODULE", "curation.metadata.gone")
    with pytest.raises(OpenImageOError, match=r"csv.reader .* exit code 1: .*No module named curation"):
        bench_metadata(tmp_path, 10)
    assert capfd.readouterr() == ("", "")
