"""Results in a notebook: as HTML, as a pandas table, as a figure."""

from __future__ import annotations

from dataclasses import dataclass
from html.parser import HTMLParser
from typing import ClassVar

import pytest
from matplotlib.figure import Figure

import encoderlab
from encoderlab.core.results import Result, Table
from encoderlab.errors import UsageError


@pytest.fixture(scope="module")
def compared():
    return encoderlab.compare(
        encoders=["tiny-clip", "tiny-dinov2"], llms=["tiny-llama"], n_samples=9
    )


class _Cells(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.cells: list[str] = []
        self.tag = ""

    def handle_starttag(self, tag, attrs):
        self.tag = tag
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_data(self, data):
        if self.tag in ("td", "th"):
            self.cells[-1] += data


def test_html_has_the_cells_of_the_tables(compared):
    parser = _Cells()
    parser.feed(compared._repr_html_())
    (table,) = (block for block in compared.blocks() if isinstance(block, Table))
    assert parser.cells == [*table.columns, *(cell for row in table.rows for cell in row)]


def test_html_shows_text_as_text():
    @dataclass(frozen=True)
    class Named(Result):
        name: str

        def blocks(self):
            return [self.name, Table(("<b>",), ((self.name,),))]

    shown = Named("<script>")._repr_html_()
    assert "<script>" not in shown and "<b>" not in shown


def test_pandas_has_one_row_per_pair_and_the_numbers_of_the_result(compared):
    frame = compared.to_pandas()
    assert len(frame) == len(compared.rows)
    for (_, line), row in zip(frame.iterrows(), compared.rows, strict=True):
        assert (line["encoder"], line["llm"]) == (row.encoder, row.llm)
        assert line["scores.cka_linear.value"] == row.scores["cka_linear"].value


def test_a_text_that_looks_like_a_formula_stays_as_it_is_in_pandas():
    @dataclass(frozen=True)
    class Named(Result):
        name: str

    assert Named("=1+1").to_pandas()["name"].tolist() == ["=1+1"]


def test_plot_is_the_figure_of_the_run_folder(compared):
    assert isinstance(compared.plot(), Figure)
    titles = [axis.get_title() for axis in compared.plot("compare_cka").axes]
    assert "with tiny-llama" in titles


def test_a_figure_that_is_not_there(compared):
    with pytest.raises(UsageError) as error:
        compared.plot("ckaa")
    assert "compare_cka" in str(error.value)


def test_a_result_without_figures():
    @dataclass(frozen=True)
    class Named(Result):
        name: str
        records: ClassVar = None

    with pytest.raises(UsageError):
        Named("a").plot()
