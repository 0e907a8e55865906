"""Nested records as a table for spreadsheets."""

import csv
import io

from encoderlab.core.flat_table import csv_text


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_nested_values_become_columns_with_dotted_names():
    rows = read(csv_text([{"llm": "a", "scores": {"cka": {"value": 0.5, "n": 3}}}, {"llm": "b"}]))
    assert rows == [
        {"llm": "a", "scores.cka.value": "0.5", "scores.cka.n": "3"},
        {"llm": "b", "scores.cka.value": "", "scores.cka.n": ""},
    ]


def test_lists_are_numbered_and_maps_left_out():
    assert read(csv_text([{"top": [{"p": 1}, {"p": 2}], "map": [[1, 2], [3, 4]]}])) == [
        {"top.1.p": "1", "top.2.p": "2"}
    ]


def test_text_with_commas_lines_and_korean_survives():
    said = '빨간 원, "크다"\n둘째 줄'
    assert read(csv_text([{"caption": said}])) == [{"caption": said}]


def test_a_text_that_looks_like_a_formula_is_made_harmless():
    assert read(csv_text([{"caption": "=1+2", "value": -0.5}])) == [
        {"caption": "'=1+2", "value": "-0.5"}
    ]


def test_nothing_is_an_empty_table():
    assert csv_text([]).strip() == ""
