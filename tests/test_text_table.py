"""Tables on a terminal."""

import pytest

from manifests.text_table import aligned, stacked

ROWS = [["method", "far", "nearer"], ["one", "1.00", "20.00"], ["the other", "30.00", ""]]


def test_words_stand_to_the_left_and_figures_to_the_right():
    assert aligned(ROWS) == ["method       far  nearer", "one         1.00   20.00", "the other  30.00"]


@pytest.mark.parametrize("most_columns", [24, 100])
def test_a_table_that_has_room_is_one(most_columns):
    assert stacked(ROWS, most_columns=most_columns) == aligned(ROWS)


@pytest.mark.parametrize("most_columns", [23, 5])
def test_what_has_no_room_goes_on_in_a_table_below_with_the_words_again(most_columns):
    assert stacked(ROWS, most_columns=most_columns) == [
        "method       far", "one         1.00", "the other  30.00",
        "",
        "method     nearer", "one         20.00", "the other",
    ]  # fmt: skip


def test_each_table_takes_as_many_columns_as_it_has_room_for():
    rows = [["a", "b", *"12345"], ["c", "d", *"67890"]]
    # Two words take 4 columns, and each figure 3.
    assert stacked(rows, n_words=2, most_columns=10) == [
        "a  b  1  2", "c  d  6  7",
        "",
        "a  b  3  4", "c  d  8  9",
        "",
        "a  b  5", "c  d  0",
    ]  # fmt: skip


def test_a_table_of_words_alone_is_whole():
    assert stacked([["a"], ["b"]]) == ["a", "b"]
