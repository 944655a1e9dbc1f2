"""Cells of strangers' texts: none is run, none breaks a row, whatever reads the table."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.inert_csv import csv_text, inert


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(1)", "  =1", "＝1"])
def test_a_cell_that_a_spreadsheet_would_run_begins_with_an_apostrophe(cell):
    assert inert(cell) == "'" + cell


@pytest.mark.parametrize("cell", ["\t=1", "\r=1", "\n=1"])
def test_white_space_before_a_formula_is_a_blank(cell):
    assert inert(cell) == "' =1"


def test_other_cells_stay_as_they_are():
    assert [inert(cell) for cell in ("", "a=b", "1-2", "'=1", "日本")] == ["", "a=b", "1-2", "'=1", "日本"]


def test_controls_are_shown_and_line_ends_are_blanks():
    assert inert("a\r=1\nb\x00\x1b[2J\x85") == "a =1 b\ufffd\ufffd[2J "


def rows_at_every_line_end(text):
    """Part a table as a program does that takes a carriage return for the end of a row."""
    return list(csv.reader(io.StringIO(text.replace("\r", "\n"), newline="")))


@given(st.lists(st.text(st.characters() | st.sampled_from('\r\n\t\x00\x1b\x85\u2028=+-@", '))))
def test_every_row_read_back_begins_with_its_own_id(titles):
    rows = [[f"id{number}", inert(title)] for number, title in enumerate(titles)]
    text = csv_text(["image_id", "title"], rows)
    assert rows_at_every_line_end(text) == [["image_id", "title"], *rows]
    assert len(text.splitlines()) == len(titles) + 1
    assert not any(row[1].lstrip().startswith(("=", "+", "-", "@")) for row in rows)
