"""Paragraphs and tables as the terminal shows them."""

import unicodedata
from dataclasses import dataclass

import pytest

from encoderlab.core.results import LONGEST_RULE, Result, Table, as_text, shown


def test_cells_stand_under_one_another_between_title_and_remarks():
    table = Table(
        ("encoder", "R²"),
        (("tiny-clip", "0.5 [0.4, 0.6]"), ("b", "-")),
        title="ridge",
        said=("95 % intervals", "R² undefined: too few samples"),
    )
    assert table.to_text().splitlines() == [
        "ridge",
        "encoder    R²",
        "---------  --------------",
        "tiny-clip  0.5 [0.4, 0.6]",
        "b          -",
        "95 % intervals",
        "R² undefined: too few samples",
    ]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_korean_syllable_takes_two_places(form):
    cat, e = unicodedata.normalize(form, "고양이.png"), unicodedata.normalize(form, "é.png")
    lines = Table(("file", "n"), ((cat, "1"), (e, "2"))).to_text().splitlines()
    assert lines == ["file        n", "----------  -", f"{cat}  1", f"{e}       2"]


def test_a_table_without_rows_has_its_heads():
    assert Table(("file", "caption"), ()).to_text() == "file  caption\n----  -------"


def test_the_rule_above_a_long_cell_ends_before_the_cell_does():
    text = Table(("caption", "n"), (("x" * 200, "1"),)).to_text()
    head, rule, row = text.splitlines()
    assert rule.split() == ["-" * LONGEST_RULE, "-"]
    assert head.index("n", 7) == rule.rindex("-") == row.index("1")


def test_rows_of_another_length_than_the_heads_are_refused():
    with pytest.raises(ValueError):
        Table(("a", "b"), (("1",),)).to_text()


def test_blocks_are_parted_by_an_empty_line():
    table = Table(("n",), (("1",),))
    assert as_text(["two\nlines", table, "end"]) == "two\nlines\n\nn\n-\n1\n\nend"


@dataclass(frozen=True)
class TwoModels(Result):
    fingerprints: dict[str, str]

    def blocks(self):
        names = [*self.fingerprints, "shuffled:runs/a/vit", "another/vit"]
        text = "runs/a/vit, not my/runs/a/vit or runs/a/vit.png, is ahead of owner/dinov2-small."
        return [text, Table(("encoder",), tuple((name,) for name in names))]


def test_people_read_the_last_part_of_a_models_path():
    prints = {
        "runs/a/vit": "aaaaaaaa", "/data/runs/b/vit/": "bbbbbbbb", "owner/dinov2-small": "cccccccc",
        "tiny-clip": "dddddddd", "untrained:runs/a/vit": "untrained-0-aaaaaaaa",
        "untrained:x/siglip": "untrained-0-eeeeeeee",
    }  # fmt: skip
    result = TwoModels(prints)
    text, table, alike = shown(result)
    assert alike == "vit (aaaaaa): runs/a/vit\nvit (bbbbbb): /data/runs/b/vit/"
    assert text == ("vit (aaaaaa), not my/runs/a/vit or runs/a/vit.png, is ahead of dinov2-small.")
    assert [cell for (cell,) in table.rows] == [
        "vit (aaaaaa)", "vit (bbbbbb)", "dinov2-small", "tiny-clip", "untrained:vit (aaaaaa)",
        "untrained:siglip", "shuffled:vit (aaaaaa)", "another/vit",
    ]  # fmt: skip
    assert "dinov2-small" in result.to_text() and "owner" not in result.to_text()
    assert result.to_json() == {"fingerprints": prints}
