import json
import re

import numpy as np
import pytest
import torch

import cli
from curation.bench.machine import Machine
from curation.bench.screen import run
from curation.bench.screen.classes import class_section
from curation.bench.screen.embedding import embed_section
from curation.bench.screen.hashes import hash_section, planted_hashes
from curation.bench.screen.near_duplicates import LEAST_SIMILARITY, near_duplicate_section, plan_section
from curation.bench.screen.programs import is_installed, run_program
from curation.bench.screen.report import Row, ScreenBench, Section, screen_table
from curation.bench.screen.vectors import N_DIMENSIONS, planted_vectors, product_rate
from manifests.errors import InputError, OpenImageOError
from tests.tiny_clip import make_tiny_clip

CPU = torch.device("cpu")


def every_close_pair(vectors, least_similarity):
    """Return the close pairs as one product in float64 finds them."""
    exact = vectors.astype(np.float64)
    firsts, seconds = np.nonzero(np.triu(exact @ exact.T >= least_similarity, k=1))
    return np.stack([firsts, seconds], axis=1)


def test_planted_pairs_are_all_that_is_close_and_half_of_them_are_not():
    planted = planted_vectors(3000, 0.9, seed=0)
    assert planted.vectors.dtype == np.float16
    np.testing.assert_allclose(np.linalg.norm(planted.vectors.astype(np.float64), axis=1), 1, atol=2e-3)
    np.testing.assert_array_equal(planted.pairs, every_close_pair(planted.vectors, 0.9))
    assert len(planted.pairs) == 15, "one row in a hundred is in a pair, and every other pair is over the bound"
    below = every_close_pair(planted.vectors, 0.8)
    assert len(below) == 30
    again = planted_vectors(3000, 0.9, seed=0)
    np.testing.assert_array_equal(planted.vectors, again.vectors)


def test_planted_hashes_differ_in_one_bit():
    hashes = planted_hashes(1001, seed=0)
    distances = np.bitwise_count(hashes[:-1:100] ^ hashes[1::100])
    assert distances.tolist() == [1] * 10
    assert len(set(hashes.tolist())) == 1001


def test_the_rate_of_products_is_one_that_a_machine_can_have():
    assert 1e8 < product_rate(CPU, 256) < 1e14


def test_every_vector_is_compared_and_the_limit_is_the_product_alone(tmp_path):
    vectors = planted_vectors(600, LEAST_SIMILARITY, seed=0).vectors
    ours, reading, limit = class_section(vectors, tmp_path, seed=0).rows
    assert ours.n_done == reading.n_done == 600
    assert 0 < limit.seconds < ours.seconds


def test_ours_finds_every_planted_pair_in_a_process_of_its_own(tmp_path):
    planted = planted_vectors(2000, LEAST_SIMILARITY, seed=1)
    section, ours = near_duplicate_section(planted, tmp_path, CPU, None, seed=1)
    assert section.notes[0] == "Of 10 planted pairs 100.0000% were found, and 0 others"
    assert [row.what.partition(":")[0] for row in section.rows] == ["ours", "limit"]
    assert 50 < ours.peak_mb < 5000


@pytest.mark.skipif(not is_installed("imagededup"), reason="the extra 'bench' is not installed: no imagededup")
def test_imagededup_finds_as_many_pairs_among_the_same_hashes(tmp_path):
    section = hash_section(4, 300, tmp_path, 200, seed=0)
    found = re.search(r"it found ([\d,]+) pairs, ours ([\d,]+);", section.notes[1])
    assert found.groups() == ("2", "2"), "those that are planted"
    extrapolated, measured = section.rows[-1], section.rows[-2]
    assert extrapolated.seconds == pytest.approx(measured.seconds * 1.5**2)


def test_pictures_are_embedded_by_the_stage_itself(tmp_path, monkeypatch):
    monkeypatch.setattr("curation.bench.screen.embedding._MODEL", make_tiny_clip(tmp_path.parent)[0])
    section = embed_section(2, tmp_path, "cpu")
    assert [row.n_done for row in section.rows] == [2, 2, 2, 2]
    assert section.title.endswith("tiny-test.json, whole pictures and tiles, fp32 on cpu")


def test_the_plan_is_the_square_of_the_rows():
    section = plan_section(Row("ours", "", 2.0), 9_011_219 // 1000, "a processor")
    (measured, sheet, with_memory) = section.rows
    assert measured.seconds == pytest.approx(2.0e6, rel=1e-3)
    assert sheet.seconds == pytest.approx(9_011_219**2 * 512 / 989e12)
    # 81.2e12 similarities are half of n x n twice over, of 4 bytes each, over 4.8 TB a second.
    assert with_memory.seconds - sheet.seconds == pytest.approx(9_011_219**2 * 4 / 4.8e12)


def test_a_program_that_fails_is_one_error_with_its_last_words(tmp_path):
    with pytest.raises(OpenImageOError, match=r"near_duplicates ended with exit code 1: .*none\.npy"):
        run_program("curation.bench.screen.near_duplicates", [tmp_path / "none.npy", "pairs", "cpu"], tmp_path)


def test_the_table_has_a_block_a_figure_and_only_columns_with_something_in_them():
    machine = Machine("a processor", 2, 4.0, "3.11")
    sections = (
        Section("First", (Row("ours", "10 x 2", 0.5, 10), Row("limit", "10 x 2", 0.25, 10)), ("Read so",)),
        Section("Second", (Row("ours", "3", 1234.5, peak_mb=99.6),)),
    )
    assert screen_table(ScreenBench(machine, "cpu", 2, sections)).splitlines() == [
        "a processor, 2 cores, 4.0 GiB; Python 3.11; products on cpu, 2 threads",
        "",
        "First",
        "         size     s  a second",
        "ours   10 x 2  0.50      20.0",
        "limit  10 x 2  0.25      40.0",
        "Read so",
        "",
        "Second",
        "      size         s  peak MB",
        "ours     3  1,234.50      100",
    ]


def test_counts_that_cannot_be_are_refused_before_anything_runs(tmp_path):
    with pytest.raises(InputError, match="--rows, --images: expected 100 and 10 or more, found 99, 400"):
        run.bench_screen(workdir=tmp_path / "new", n_rows=99)
    assert not (tmp_path / "new").exists()


def test_the_command_prints_every_figure_and_leaves_nothing_but_its_result(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("curation.bench.screen.embedding._MODEL", make_tiny_clip(tmp_path.parent)[0])
    arguments = ["bench", "screen", "--rows", "1000", "--images", "10", "--no-peers", "--workspace", str(tmp_path)]
    assert cli.run(arguments) == 0
    blocks = capsys.readouterr().out.strip().split("\n\n")
    titles = [re.match(r"[\w -]+", block)[0] for block in blocks[1:]]
    assert titles == ["Classes", "Near-duplicates", "Perceptual hashes", "Embedding", "Plan"]
    assert [path.name for path in tmp_path.iterdir()] == ["bench_screen.json"]
    kept = json.loads((tmp_path / "bench_screen.json").read_text())
    assert [len(section["rows"]) for section in kept["sections"]] == [3, 2, 4, 4, 3]
    assert kept["sections"][0]["rows"][0]["size"] == f"1,000 x {N_DIMENSIONS}"
