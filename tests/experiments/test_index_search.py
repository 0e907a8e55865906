"""`index` and `search` as functions, from an empty folder to a gallery page."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest

from encoderlab.data.decode import ImageError
from encoderlab.errors import MissingError, UsageError
from encoderlab.experiments import index, search


@pytest.fixture(scope="module")
def db(world: Path, clip_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("index") / "db")
    result = index.run(source=str(world / "captions.csv"), db=folder, model=str(clip_folder))
    assert (result.added, result.total, result.skipped) == (20, 20, ())
    assert "20 added, 0 unchanged" in result.to_text()
    return folder


def test_a_second_run_adds_nothing(db: str, world: Path, clip_folder: Path) -> None:
    result = index.run(source=str(world / "captions.csv"), db=db, model=str(clip_folder))
    assert (result.added, result.unchanged) == (0, 20)


def test_a_sentence_and_an_image(db: str, world: Path) -> None:
    by_sentence = search.run(query="a chart", db=db, k=3)
    assert len(by_sentence.hits) == 3
    picture = world / "images/chart/00001.png"
    by_image = search.run(image=str(picture), db=db, k=1)
    assert by_image.hits[0].path == str(picture)
    assert "00001.png" in by_image.to_text()


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.images: list[dict[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.images.append(dict(attrs))


def test_the_gallery_is_one_file_with_everything_in_it(db: str, tmp_path: Path) -> None:
    page = tmp_path / "pages/g.html"
    result = search.run(query="<b>표</b> & chart", db=db, k=4, html=str(page))
    assert result.html == str(page)
    text = page.read_text(encoding="utf-8")
    parsed = _Page()
    parsed.feed(text)
    assert len(parsed.images) == 4
    assert all(str(image["src"]).startswith("data:image/jpeg;base64,") for image in parsed.images)
    assert all(image["alt"] for image in parsed.images)
    assert "&lt;b&gt;표&lt;/b&gt; &amp; chart" in text
    assert "http" not in text


@pytest.mark.parametrize(
    ("asked", "error", "says"),
    [
        ({}, UsageError, "a sentence or an image, and not both"),
        ({"query": "x", "image": "y"}, UsageError, "a sentence or an image, and not both"),
        ({"query": "x", "k": 0}, UsageError, "k must be at least 1"),
        ({"query": "x", "k": 999}, UsageError, "k is larger than the index"),
        ({"image": "none.png"}, ImageError, "there is no such file"),
        ({"query": "x", "where": "nope = 1"}, UsageError, "no condition"),
    ],
)
def test_search_says_what_is_wrong(db: str, asked: dict, error, says: str) -> None:
    with pytest.raises(error, match=says):
        search.run(db=db, **asked)


def test_search_without_an_index_and_with_another_model(
    db: str, tmp_path: Path, other_clip_folder: Path
) -> None:
    with pytest.raises(MissingError, match="no index there"):
        search.run(query="x", db=str(tmp_path / "none"))
    with pytest.raises(UsageError, match="made by another model"):
        search.run(query="x", db=db, model=str(other_clip_folder))
