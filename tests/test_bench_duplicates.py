from collections import Counter

import pytest

from curation.bench.duplicates import COPIES, DuplicateBench, bench_duplicates, duplicates_table
from curation.duplicates.rules import DuplicateRules
from manifests.errors import InputError
from tests.photographs import jpeg, photograph


def test_copies_of_every_kind_are_planted_found_and_the_pictures_deleted(tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for seed in range(2 * len(COPIES)):
        (pictures / f"{seed:03}.jpg").write_bytes(jpeg(photograph(seed, (160, 120))))
    (pictures / "broken.jpg").write_bytes(b"broken")
    (result,) = bench_duplicates(pictures, tmp_path / "work", DuplicateRules()).values()
    assert result.planted == Counter(COPIES.keys())
    assert result.n_pictures == 2 * len(COPIES)
    assert result.found.total() >= 0.8 * len(COPIES)
    assert result.n_right == result.n_called == result.found.total()
    assert list((tmp_path / "work").iterdir()) == []


def test_the_table_gives_recall_precision_and_the_pairs_that_nobody_planted():
    result = DuplicateBench(9, Counter(a=4, b=2), Counter(a=3), 5, 4, [("x", "a")], [("one.jpg", "two.jpg")])
    lines = duplicates_table({"hashes alone": result}).splitlines()
    assert [line.split() for line in lines[2:5]] == [
        ["a", "4", "3", "0.750"], ["b", "2", "0", "0.000"], ["all", "6", "3", "0.500"],
    ]  # fmt: skip
    assert lines[5] == "precision 0.8000: 4 of 5 called a duplicate"
    assert lines[6] == "  of different sources: one.jpg and two.jpg"


def test_a_way_that_no_picture_was_left_for_has_no_recall():
    result = DuplicateBench(1, Counter(a=1, b=0), Counter(a=1), 0, 0, [], [])
    lines = duplicates_table({"hashes alone": result}).splitlines()
    assert [line.split() for line in lines[2:5]] == [
        ["a", "1", "1", "1.000"], ["b", "0", "0", "-"], ["all", "1", "1", "1.000"],
    ]  # fmt: skip
    assert lines[5] == "precision -: 0 of 0 called a duplicate"


def test_the_figures_as_data_are_those_of_the_table():
    result = DuplicateBench(9, Counter(a=4, b=0), Counter(a=3), 5, 4, [("x", "a")], [("one.jpg", "two.jpg")])
    assert result.as_json() == {
        "n_pictures": 9,
        "copies": [
            {"copy": "a", "n_planted": 4, "n_found": 3, "recall": 0.75},
            {"copy": "b", "n_planted": 0, "n_found": 0, "recall": None},
            {"copy": "all", "n_planted": 4, "n_found": 3, "recall": 0.75},
        ],
        "n_called": 5, "n_right": 4, "precision": 0.8,
        "missed": [{"path": "x", "copy": "a"}],
        "others": [("one.jpg", "two.jpg")],
    }  # fmt: skip


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no picture that can be read"):
        bench_duplicates(tmp_path, tmp_path / "work", DuplicateRules())
