"""The style of figures: colours, files, Korean fonts."""

import re
import zlib

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.font_manager import findSystemFonts
from PIL import Image

from encoderlab.plots import style
from encoderlab.plots.style import (
    BLUE,
    GREEN,
    KOREAN_FONTS,
    ORANGE,
    PURPLE,
    RED,
    FigureRecord,
    apply_style,
    colours,
    figure,
    fonts,
    get_data_type_color,
    get_model_color,
    markers,
    rules,
    save,
    short,
    style_axis,
)


def lightness(code: str) -> float:
    r, g, b = (int(code[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return 0.299 * r + 0.587 * g + 0.114 * b


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("clip", BLUE), ("tiny-siglip", ORANGE), ("facebook/dinov2-base", GREEN),
        ("OpenGVLab/InternViT-300M-448px", RED), ("paligemma", PURPLE),
    ],
)  # fmt: skip
def test_families_have_their_colours(name, expected):
    assert get_model_color(name) == expected


def test_other_names_have_a_stable_colour_and_controls_are_grey():
    own = get_model_color("my-encoder")
    assert own == get_model_color("my-encoder") and own not in (BLUE, "#8A8A8A")
    assert get_model_color("untrained:clip") == "#8A8A8A"


def test_two_of_a_family_differ_in_lightness_and_all_in_marker():
    found = colours(["clip", "clip-vit-large-patch14", "tiny-clip"])
    shades = sorted(map(lightness, found.values()))
    assert min(np.diff(shades)) > 0.05
    assert len(set(markers(list("abcdefgh")).values())) == 8


def line_plot(width, height):
    with rules():
        fig = figure(width, height)
        fig.subplots().plot([1, 2], [3, 4])
    return FigureRecord("test", fig, "What it shows.", {"y": np.array([3, 4])})


def test_a_figure_is_written_whole_with_its_numbers_and_again_to_the_same_bytes(tmp_path):
    for folder in ("a", "b"):
        written = save([line_plot(2, 2)], tmp_path / folder, svg=True)
        assert written == ({"file": "test.png", "caption": "What it shows."},)
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert names == {"test.npz", "test.png", "test.svg"}
    for name in ("test.png", "test.svg"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    with np.load(tmp_path / "a/test.npz") as arrays:
        assert arrays["y"].tolist() == [3, 4]


def test_korean_letters_have_a_font_where_one_is_installed(tmp_path, recwarn):
    if not any("nanum" in path.lower() or "CJK" in path for path in findSystemFonts()):
        pytest.skip("no Korean font is installed")
    assert fonts()[-1] in KOREAN_FONTS
    with rules():
        made = figure(3, 1)
        made.text(0.1, 0.5, "가장 높은 막대")
    save([FigureRecord("korean", made, "")], tmp_path)
    assert not [one for one in recwarn if "missing from" in str(one.message)]


def test_long_names_are_cut_and_of_a_path_the_end_is_kept():
    assert (
        short("openai/clip-vit-large-patch14-336-and-more") == "clip-vit-large-patch14-336-and-mo…"
    )
    assert short("tiny-clip") == "tiny-clip"


@pytest.mark.parametrize(("words", "told"), [("가장 높은 막대", 1), ("the highest bar", 0)])
def test_without_a_korean_font_one_line_says_so(
    tmp_path, monkeypatch, capsys, recwarn, words, told
):
    monkeypatch.setattr(style, "KOREAN_FONTS", ())
    monkeypatch.setattr(style, "KOREAN_FILES", ())
    fonts.cache_clear()
    style._warn_missing_glyphs.cache_clear()
    try:
        with rules():
            made = figure(3, 1)
            made.text(0.1, 0.5, words)
        save([FigureRecord("one", made, ""), FigureRecord("two", made, "")], tmp_path)
    finally:
        fonts.cache_clear()
        style._warn_missing_glyphs.cache_clear()
    assert capsys.readouterr().err.count("no installed font has Korean letters") == told
    assert not [one for one in recwarn if "missing from" in str(one.message)]


def test_data_types_have_their_colours_and_others_a_stable_one():
    known = [get_data_type_color(name) for name in ("chart", "table", "document", "math")]
    assert len(set(known)) == 4
    assert get_data_type_color("mine") == get_data_type_color("mine")


def test_a_users_own_figure_takes_the_style():
    with matplotlib.rc_context():
        apply_style()
        ax = Figure().subplots()
        assert not ax.spines["top"].get_visible() and matplotlib.rcParams["axes.grid"]
    plain = Figure().subplots()
    assert plain.spines["top"].get_visible()
    assert style_axis(plain) is plain and not plain.spines["top"].get_visible()


def test_paper_figures_are_pdf_and_png_at_print_size(tmp_path):
    for folder in ("a", "b"):
        save([line_plot(12, 4)], tmp_path / folder, paper=True)
    with Image.open(tmp_path / "a/test.png") as png:
        assert png.size == (2100, 700) and png.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    pdf = (tmp_path / "a/test.pdf").read_bytes()
    box = re.search(rb"/MediaBox \[ 0 0 (\S+) (\S+) \]", pdf)
    assert box is not None and list(map(float, box.groups())) == pytest.approx([504, 168])
    streams = [zlib.decompress(part.split(b"endstream")[0].strip(b"\r\n"))
               for part in pdf.split(b"stream\n")[1:] if part[:1] == b"x"]  # fmt: skip
    assert any(b"0.5833333333" in stream and b" cm" in stream for stream in streams)  # 7 / 12
    assert pdf == (tmp_path / "b/test.pdf").read_bytes()
