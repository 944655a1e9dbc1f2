import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.duplicates import cosine, hamming
from curation.duplicates.cosine import close_blocks, close_pairs
from curation.duplicates.groups import Groups, representatives
from curation.duplicates.hamming import hamming_pairs, near_pairs
from manifests.errors import InputError


def unit_rows(seed, n, d):
    rows = np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def as_tuples(pairs):
    return [tuple(pair) for pair in pairs.tolist()]


def random_hashes(seed, n):
    """Hashes of which many are near: each a few bits from one of a few."""
    rng = np.random.default_rng(seed)
    centres = rng.integers(0, 2**64, 5, dtype=np.uint64)
    turned = np.uint64(1) << rng.integers(0, 64, (n, 4), dtype=np.uint64)
    return centres[rng.integers(0, 5, n)] ^ np.bitwise_xor.reduce(turned, axis=1)


@pytest.mark.parametrize("block_rows", [1, 7, 64, 1000])
def test_close_pairs_are_those_of_a_double_loop(monkeypatch, block_rows):
    monkeypatch.setattr(cosine, "_BLOCK_ROWS", block_rows)
    rows = unit_rows(0, 64, 4)
    expected = [(i, j) for i, j in itertools.combinations(range(64), 2) if float(rows[i] @ rows[j]) >= 0.8]
    assert as_tuples(close_pairs(rows, 0.8, device="cpu")) == expected
    assert len(expected) > 20


@pytest.mark.parametrize("block_rows", [1, 5, 1000])
def test_pairs_of_two_sets_are_those_of_a_double_loop(monkeypatch, block_rows):
    monkeypatch.setattr(cosine, "_BLOCK_ROWS", block_rows)
    rows, columns = unit_rows(1, 9, 3), unit_rows(2, 23, 3)
    expected = {(i, j) for i in range(9) for j in range(23) if float(rows[i] @ columns[j]) >= 0.6}
    found = [pair for block in close_blocks(rows, columns, 0.6, device="cpu") for pair in as_tuples(block)]
    assert len(found) == len(set(found))
    assert set(found) == expected


def test_a_cosine_equal_to_the_bound_is_a_pair():
    # 3-4-5 vectors: the product 0.6 * 0.8 + 0.8 * 0.6 is 0.96 in float32 too.
    rows = np.array([[0.6, 0.8], [0.8, 0.6], [-0.8, 0.6]], np.float32)
    product = float(rows[0] @ rows[1])
    assert as_tuples(close_pairs(rows, product, device="cpu")) == [(0, 1)]
    assert (
        as_tuples(close_pairs(rows, np.nextafter(np.float32(product), np.float32(1)).item(), device="cpu")) == []
    )


def test_vectors_that_went_through_float16_are_taken_and_others_refused():
    rows = unit_rows(3, 50, 512)
    assert len(close_pairs(rows.astype(np.float16).astype(np.float32), 0.9, device="cpu")) == 0
    for bad, found in ((np.nan, "nan"), (0.0, "0"), (np.inf, "inf")):
        broken = rows.copy()
        broken[7] = bad
        with pytest.raises(InputError, match=f"row 7 has the length {found}, not 1"):
            close_pairs(broken, 0.9, device="cpu")


def test_a_bound_that_is_no_cosine_is_refused():
    with pytest.raises(InputError, match=r"expected -1 to 1, found 1\.5"):
        close_pairs(unit_rows(0, 3, 2), 1.5, device="cpu")


@pytest.mark.parametrize(("rows_a_part", "tile"), [(1, (1, 1)), (10, (3, 7)), (2048, (32, 4096))])
@pytest.mark.parametrize("most_bits", [0, 1, 5, 31, 64])
def test_hamming_pairs_are_those_of_a_double_loop(monkeypatch, rows_a_part, tile, most_bits):
    monkeypatch.setattr(hamming, "_ROWS_A_PART", rows_a_part)
    monkeypatch.setattr(hamming, "_TILE_ROWS", tile[0])
    monkeypatch.setattr(hamming, "_TILE_COLUMNS", tile[1])
    hashes = random_hashes(0, 60)
    listed = hashes.tolist()
    expected = [
        (i, j) for i, j in itertools.combinations(range(60), 2) if (listed[i] ^ listed[j]).bit_count() <= most_bits
    ]
    assert as_tuples(hamming_pairs(hashes, most_bits)) == expected


def test_near_pairs_look_at_every_window_and_at_the_mirror(monkeypatch):
    monkeypatch.setattr(hamming, "_ROWS_A_PART", 4)
    windows = random_hashes(1, 30).reshape(10, 3)
    hashes = random_hashes(2, 25) ^ np.uint64(0)
    mirror = hamming.MIRROR_BITS
    expected = {
        (i, j)
        for i, own in enumerate(windows.tolist())
        for j, other in enumerate(hashes.tolist())
        if min(min((one ^ other).bit_count(), (one ^ other ^ mirror).bit_count()) for one in own) <= 24
    }
    found = [p for part in near_pairs(windows, hashes, 24, is_mirrored=True) for p in as_tuples(part)]
    assert len(found) == len(set(found))
    assert set(found) == expected
    assert 0 < len(expected) < 250


def test_hashes_that_are_not_64_bit_numbers_are_refused():
    with pytest.raises(InputError, match="expected uint64, found int64"):
        hamming_pairs(np.arange(3), 4)
    with pytest.raises(InputError, match="expected 0 to 64, found 65"):
        hamming_pairs(np.arange(3, dtype=np.uint64), 65)


def test_a_chain_is_one_group_though_its_ends_are_not_linked():
    groups = Groups(5)
    groups.join(np.array([[3, 1], [1, 4]]))
    assert groups.members() == [[1, 3, 4]]
    assert groups.are_apart(np.array([[3, 4], [0, 1]])).tolist() == [False, True]


def test_equal_words_are_one_group():
    groups = Groups(6)
    groups.join_equal(["a", "b", "a", "c", "b", "a"])
    assert groups.members() == [[0, 2, 5], [1, 4]]


def test_no_links_are_no_groups():
    groups = Groups(3)
    groups.join_equal(["a", "b", "c"])
    assert groups.members() == []
    assert Groups(0).members() == []


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=15), st.randoms(use_true_random=False))
def test_groups_are_those_that_spreading_along_links_reaches_in_any_order(links, random):
    reached = {place: {place} for place in range(10)}
    for _ in range(10):
        for first, second in links:
            reached[first] |= reached[second]
            reached[second] |= reached[first]
    shuffled = [pair if random.random() < 0.5 else pair[::-1] for pair in random.sample(links, len(links))]
    groups = Groups(10)
    groups.join(np.array(shuffled, np.int64).reshape(-1, 2))
    assert {tuple(group) for group in groups.members()} == {
        tuple(sorted(group)) for group in reached.values() if len(group) > 1
    }


def test_the_representative_has_most_pixels_then_most_bytes_then_the_smallest_id():
    groups = [[0, 1, 2], [3, 4], [5, 6]]
    image_ids = ["c", "b", "a", "d", "e", "g", "f"]
    n_pixels = [1, 5, 5, 2, 2, 7, 7]
    n_bytes = [9, 8, 7, 3, 4, 6, 6]
    assert representatives(groups, image_ids, n_pixels, n_bytes) == {0: 1, 2: 1, 3: 4, 5: 6}
