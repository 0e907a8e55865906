"""The data generator draws what it is given, in the promised order, or says why it cannot."""

import numpy as np
import pytest

from encoderlab.data.generator import DataGenerator
from encoderlab.data.synthetic import KINDS
from encoderlab.data.synthetic.canvas import has_glyph
from encoderlab.data.synthetic.words import COLOURS
from encoderlab.errors import MissingError, UsageError


def test_everything_it_draws_has_the_size_that_was_asked_for():
    draw = DataGenerator(size=128, seed=3)
    chart = draw.generate_bar_chart(["a", "b", "c"], [3, 1, 2], "Sales")
    table = draw.generate_table_image({"x": [1, 3], "y": [2, 4]}, "Points")
    page = draw.generate_document_image("Title", ["A paragraph of words. " * 9] * 9)
    assert chart.size == table.size == page.size == (128, 128)


def test_bars_are_as_high_as_their_values():
    pixels = np.asarray(DataGenerator(size=240).generate_bar_chart(list("abc"), [4, 1, 2])).astype(
        int
    )
    heights = [
        (np.abs(pixels - np.array(colour.rgb)).max(axis=2) < 12).any(axis=1).sum()
        for colour in COLOURS[:3]
    ]
    assert heights[0] / heights[1] == pytest.approx(4, rel=0.1)
    assert heights[2] / heights[1] == pytest.approx(2, rel=0.1)


def test_a_cell_with_a_line_break_is_one_line():
    draw = DataGenerator(size=96)
    broken, whole = (
        draw.generate_table_image({"words": [words], "n": [1]}) for words in ("a\nb", "a b")
    )
    assert np.array_equal(np.asarray(broken), np.asarray(whole))


def test_a_data_frame_draws_the_same_table_as_its_columns():
    pandas = pytest.importorskip("pandas")
    columns = {"city": ["Seoul", "Busan"], "n": [3, 1]}
    draw = DataGenerator(size=96)
    frame = pandas.DataFrame(columns, index=[7, 9])
    pictures = [draw.generate_table_image(data, "Shops") for data in (columns, frame)]
    assert np.array_equal(*map(np.asarray, pictures))
    assert not np.array_equal(np.asarray(pictures[0]), np.asarray(draw.generate_table_image(frame)))


def test_a_page_without_paragraphs_has_text_of_its_own():
    draw = DataGenerator(size=200)
    page = np.asarray(draw.generate_document_image("Title").convert("L"))
    empty = np.asarray(draw.generate_document_image("Title", []).convert("L"))
    assert (page[50:] < 128).sum() > 200 and not (empty[50:] < 128).any()


def test_simple_images_take_a_size_of_their_own():
    pictures = DataGenerator(size=64).generate_simple_images(2, 48)
    assert [picture.size for picture, _ in pictures] == [(48, 48)] * 2


def test_a_page_keeps_its_words_inside_its_margins():
    page = DataGenerator(size=200).generate_document_image("W" * 60, ["WWWW " * 60, "W" * 90])
    dark = np.asarray(page.convert("L")) < 128
    columns = np.flatnonzero(dark.any(axis=0))
    assert columns.min() >= 0.06 * 200 and columns.max() <= 0.94 * 200


def test_scenes_have_captions_of_their_own():
    scenes = DataGenerator(size=64, seed=3).generate_simple_images(4)
    assert len({caption for _, caption in scenes}) == 4


def test_every_category_has_pictures_with_captions():
    kinds = DataGenerator(size=64).generate_categorized_images(2)
    assert set(kinds) == set(KINDS)
    assert all(
        len(pictures) == 2 and all(words for _, words in pictures) for pictures in kinds.values()
    )


def test_the_seed_decides_the_pictures():
    first, again, other = (
        DataGenerator(size=64, seed=seed).generate_categorized_images(1) for seed in (1, 1, 2)
    )
    assert all(first[kind][0][1] == again[kind][0][1] for kind in KINDS)
    assert any(first[kind][0][1] != other[kind][0][1] for kind in KINDS)


@pytest.mark.parametrize(("letter", "known"), [("A", True), (" ", True), ("표", False)])
def test_the_built_in_font_knows_what_it_lacks(letter, known):
    assert has_glyph(letter) is known


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda d: d.generate_bar_chart([], []), "needs values from 0 up"),
        (lambda d: d.generate_bar_chart(["a", "b"], [1, -1]), "needs values from 0 up"),
        (lambda d: d.generate_bar_chart(["a", "b"], [1, float("nan")]), "needs values from 0 up"),
        (lambda d: d.generate_bar_chart(["a", "b"], [1, float("inf")]), "needs values from 0 up"),
        (lambda d: d.generate_bar_chart(["a", "b"], ["many", 1]), "needs values from 0 up"),
        (lambda d: d.generate_bar_chart(["a"], [1, 2]), "categories and values do not match"),
        (lambda d: d.generate_bar_chart(["서울"], [1]), "no glyph .* got '서울'"),
        (lambda d: d.generate_table_image({"a": [1], "b": [1, 2]}), "columns of one length"),
        (lambda d: d.generate_table_image([[1, 2]]), "from columns"),
        (lambda d: d.generate_table_image({}), "needs a column"),
        (lambda d: d.generate_table_image({"표": [1]}), "no glyph"),
        (lambda d: d.generate_document_image("제목", []), "no glyph"),
        (lambda d: d.generate_categorized_images(1, ["chrt"]), "Did you mean 'chart'"),
    ],
)
def test_it_says_what_it_cannot_draw(make, says):
    with pytest.raises(UsageError, match=says):
        make(DataGenerator())


def test_a_picture_too_small_and_a_font_that_is_none_are_refused(tmp_path):
    with pytest.raises(UsageError, match="too small"):
        DataGenerator(size=4)
    (tmp_path / "font.ttf").write_text("no font")
    for name in ("font.ttf", "missing.ttf"):
        with pytest.raises(MissingError, match=name):
            DataGenerator(typeface=tmp_path / name)
