import io
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from curation.duplicates import close_pairs, duplicate_groups, duplicates_of, hamming_distance, perceptual_hash


def unit_rows(seed, n, d):
    rows = np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("block_rows", [1, 7, 64, 1000])
def test_close_pairs_are_those_of_a_double_loop(monkeypatch, block_rows):
    monkeypatch.setattr("curation.duplicates._BLOCK_ROWS", block_rows)
    rows = unit_rows(0, 64, 4)
    expected = {(i, j) for i, j in itertools.combinations(range(64), 2) if float(rows[i] @ rows[j]) >= 0.8}
    found = close_pairs(rows, 0.8)
    assert len(found) == len(set(found))
    assert set(found) == expected
    assert len(expected) > 20


def scene(seed):
    """A smooth random picture: photographs are smooth too."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return Image.fromarray(coarse).resize((320, 240), Image.Resampling.BICUBIC)


def re_encoded(image, quality):
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(io.BytesIO(stream.getvalue()))


def test_the_hash_is_close_for_the_same_picture_and_far_for_others():
    hashes = [perceptual_hash(scene(seed)) for seed in range(40)]
    for seed, own in enumerate(hashes):
        for changed in (re_encoded(scene(seed), 30), scene(seed).resize((160, 120)),
                        ImageEnhance.Brightness(scene(seed)).enhance(1.1)):  # fmt: skip
            assert hamming_distance(own, perceptual_hash(changed)) <= 4
    assert min(hamming_distance(a, b) for a, b in itertools.combinations(hashes, 2)) >= 12


def test_hamming_distance_counts_bits():
    assert hamming_distance(0b1011, 0b0010) == 2


def test_a_pair_must_be_close_in_both_spaces_or_equal_in_bytes():
    vectors = np.array([[1, 0], [1, 0], [1, 0], [0, 1], [0, 1]], np.float32)
    hashes = {"a": 0, "b": 0b11, "c": (1 << 64) - 1, "d": 0, "e": (1 << 64) - 1}
    groups = duplicate_groups(
        list("abcde"), ["1", "2", "3", "4", "4"], vectors, hashes.__getitem__, least_similarity=0.9, most_bits=8
    )
    # a and b agree in both; c agrees with them in vector only; a and d in hash only; d and e in bytes.
    assert groups == [["a", "b"], ["d", "e"]]


def test_a_chain_is_one_group():
    vectors = np.ones((3, 1), np.float32)
    hashes = {"a": 0, "b": 0b1111, "c": 0b11111111}
    groups = duplicate_groups(
        list("abc"), list("123"), vectors, hashes.__getitem__, least_similarity=0.9, most_bits=4
    )
    assert groups == [["a", "b", "c"]]


@settings(max_examples=40, deadline=None)
@given(st.permutations(range(12)))
def test_groups_do_not_depend_on_the_order(order):
    image_ids = [f"{place:02d}" for place in range(12)]
    vectors, digests = unit_rows(1, 12, 2), [str(place // 2 if place < 4 else place) for place in range(12)]
    hashes = {image_id: place % 3 for place, image_id in enumerate(image_ids)}

    def groups_in(places):
        return duplicate_groups(
            [image_ids[p] for p in places], [digests[p] for p in places], vectors[list(places)],
            hashes.__getitem__, least_similarity=0.97, most_bits=1,
        )  # fmt: skip

    assert sorted(groups_in(order)) == sorted(groups_in(range(12)))


def test_the_largest_picture_represents_its_group_and_of_equals_the_smallest_id():
    assert duplicates_of([["a", "b", "c"], ["d", "e"]], {"a": 1, "b": 5, "c": 5, "d": 2, "e": 2}) == {
        "a": "b", "c": "b", "e": "d",
    }  # fmt: skip
