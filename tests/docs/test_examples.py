"""Every block of the documentation that claims an output is run, page by page, and prints that."""

import re

import pytest
from tests.docs import console, drawn, pages
from tests.docs.drawn import is_right

from encoderlab.data.synthetic import generate

RUN = ("console", "pycon")
SEARCH = re.compile('encoderlab search "([^"]+)"')
FIRST = re.compile(r"^1 +-?[0-9.]+ +(\S+)", re.M)
PAGES = [
    path
    for path in [*sorted(pages.ENGLISH.glob("*.md")), pages.ROOT / "README.md"]
    if any(block.language in RUN for block in pages.blocks(path.read_text(encoding="utf-8")))
]


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_shows_what_is_printed(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    space: dict[str, object] = {}
    for block in pages.blocks(page.read_text(encoding="utf-8")):
        if block.language == "pycon":
            wrong = console.run_python(block, space, page.name)
            assert not wrong, wrong
        elif block.language == "console":
            for example in console.examples(block):
                printed = console.run(example, tmp_path)
                assert console.same(example.output, printed), (
                    f"{page.name}, block at line {example.line}: {example.command}\n"
                    f"--- shown\n{example.output}--- printed\n{printed}"
                )
                if search := SEARCH.match(example.command):
                    first = next(tmp_path.glob(f"photos/**/{FIRST.search(printed)[1]}"))
                    fits = "perhaps no image fits" not in printed
                    assert is_right(search[1], drawn.item_of(first)) == fits, example.command


def test_the_first_pages_have_examples():
    names = {page.stem for page in PAGES}
    assert {
        "index",
        "how-to-align",
        "how-to-look-inside",
        "how-to-compress",
        "how-to-train",
    } <= names


def test_a_picture_is_right_for_its_captions_and_the_names_of_its_objects(tmp_path):
    item = generate(10, split="test")
    assert item.captions[0].startswith("a large red star")
    item.image.save(tmp_path / "a.png")
    assert drawn.item_of(tmp_path / "a.png").id == item.id
    right = ["a large red star", "large red star", "star", "빨간 별", item.captions_ko[0]]
    assert all(is_right(query, item) for query in right)
    assert not any(is_right(query, item) for query in ["a large blue star", "파란색 별", "arrow"])


@pytest.mark.parametrize(
    ("shown", "printed", "is_same"),
    [
        ("cosine 0.483", "cosine 0.481", True),
        ("cosine 0.483", "cosine 0.383", False),
        ("a ... c", "a b c", True),
        ("a\n...\nd", "a\nb\nc\nd", True),
        ("a ... c", "a b", False),
        ("chart 97 %", "chart 99 %", True),
        ("chart 97 %", "chart 50 %", False),
        ("30 images", "31 images", False),
        ("two  columns\n-----  ---", "two columns\n----  -----", True),
        ("one", "one\ntwo", False),
        ("value -0.02", "value 0.005", True),
    ],
)
def test_what_counts_as_the_same(shown, printed, is_same):
    assert console.same(shown, printed) is is_same


def test_a_wrong_output_is_noticed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = "```console\n$ encoderlab --version\nencoderlab ...\n$ encoderlab nonsense\n"
    page += "encoderlab: error: unknown command\n  got: 'nonsense'\n...\n```\n"
    version, nonsense = console.examples(pages.blocks(page)[0])
    assert console.same(version.output, console.run(version, tmp_path))
    assert console.same(nonsense.output, console.run(nonsense, tmp_path))
    assert not console.same("encoderlab 99\n", console.run(version, tmp_path))
    with pytest.raises(AssertionError, match="exit code 2"):
        console.run(console.Example("encoderlab nonsense", "all is well", 1), tmp_path)


def test_wrong_python_is_noticed():
    right, wrong = pages.blocks("```pycon\n>>> 1 / 3\n0.333\n```\n```pycon\n>>> 1 / 3\n0.5\n```\n")
    assert console.run_python(right, {}, "page") == ""
    assert "0.5" in console.run_python(wrong, {}, "page")


def test_python_goes_on_in_the_next_block():
    space: dict[str, object] = {}
    for block in pages.blocks("```pycon\n>>> a = 2\n```\n```pycon\n>>> a + 1\n3\n```\n"):
        assert console.run_python(block, space, "page") == ""
