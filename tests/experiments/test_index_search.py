"""`index` and `search` as functions, from an empty folder to a gallery page."""

from __future__ import annotations

import json
import os
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from encoderlab.data.decode import ImageError
from encoderlab.errors import MissingError, UsageError
from encoderlab.experiments import index, search
from encoderlab.search.approximate import Recall


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


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three hundred small pictures with captions: enough for an approximate index."""
    folder = tmp_path_factory.mktemp("many")
    rng = np.random.default_rng(0)
    lines = ["image_path,caption"]
    for i in range(300):
        pixels = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((32, 32)).save(folder / f"{i}.png")
        lines.append(f"{i}.png,noise number {i}")
    (folder / "captions.csv").write_text("\n".join(lines))
    return folder


def test_recall_is_measured_told_and_asked_around(
    many: Path, clip_folder: Path, tmp_path: Path, monkeypatch
) -> None:
    source, db = str(many / "captions.csv"), str(tmp_path / "db")
    made = index.run(source=source, db=db, model=str(clip_folder), ann=True, recall=0.9)
    stored = json.loads((tmp_path / "db/index.json").read_text())["ann"]
    assert made.to_json()["approximate"] == stored
    assert stored["target"] == 0.9
    assert stored["recall"]["images"]["queries"] == stored["recall"]["sentences"]["queries"] == 150
    assert f"recall@10 (95 % interval) {stored['recall']['images']['value']:.3f}" in made.to_text()
    assert "not used yet: up to 100,000 images" in made.to_text()

    exact = search.run(query="noise", db=db, k=3)
    assert (exact.approximate, exact.to_json()["approximate"]) == (None, None)
    assert "approximate" not in exact.to_text()
    monkeypatch.setattr("encoderlab.search.index.EXACT_LIMIT", 100)
    found = search.run(query="noise", db=db, k=3)
    assert found.to_json()["approximate"] == stored
    assert "approximate search: recall@10 (95 % interval)" in found.to_text()
    assert "150 stored captions; --exact compares with all 300" in found.to_text()
    forced = search.run(query="noise", db=db, k=3, exact=True)
    assert forced.approximate is None
    assert forced.hits == exact.hits


def test_a_target_that_is_not_reached_is_a_warning(
    many: Path, clip_folder: Path, tmp_path: Path, monkeypatch
) -> None:
    poor = Recall(0.5, 0.4, 0.6, 150)
    monkeypatch.setattr("encoderlab.search.recall.recall", lambda truth, found: poor)
    made = index.run(
        source=str(many / "captions.csv"), db=str(tmp_path / "db"), model=str(clip_folder), ann=True
    )
    (warning,) = made.warnings
    assert "does not reach a recall of 0.95" in warning and "0.500 [0.400, 0.600]" in warning


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"ann": True, "recall": 1.5}, "recall is a share: got 1.5"),
        ({"ann": True}, "too few images for an approximate index: got 20"),
        ({"db": "s3://me:pw@bucket/i"}, "must hold no credentials"),
    ],
)
def test_index_says_what_is_wrong(world, clip_folder, tmp_path, asked: dict, says: str) -> None:
    given = {"db": str(tmp_path / "db"), "model": str(clip_folder), **asked}
    with pytest.raises(UsageError, match=says):
        index.run(source=str(world / "captions.csv"), **given)


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A folder with a large JPEG that lies on its side, strips, and what cannot be read."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (1600, 1200), "red").save(folder / "a.jpg", exif=exif)
    Image.new("RGB", (1_000_000, 1), "blue").save(folder / "b.png")
    Image.new("RGB", (1, 1_000_000), "lime").save(folder / "c.png")
    (folder / "d.svg").write_text("<svg/>")
    (folder / os.fsdecode(b"caf\xe9.png")).write_bytes((folder / "c.png").read_bytes())
    (folder / "e.png").write_bytes((folder / "b.png").read_bytes()[:60])
    return folder


def test_the_index_holds_the_size_of_the_whole_image_and_lists_the_rest(
    mixed: Path, clip_folder: Path, tmp_path: Path
) -> None:
    db = str(tmp_path / "db")
    result = index.run(source=str(mixed), db=db, model=str(clip_folder))
    assert [name for name, _ in result.skipped] == ["d.svg", r"caf\xe9.png", "e.png"]
    assert json.dumps(result.to_json()["skipped"]).encode()
    assert result.to_text().encode()
    hits = search.run(query="a", db=db, k=3).hits
    sizes = {Path(hit.path).name: (hit.width, hit.height) for hit in hits}
    assert sizes == {"a.jpg": (1200, 1600), "b.png": (1_000_000, 1), "c.png": (1, 1_000_000)}
    tall = search.run(query="a", db=db, k=1, where="width > 1000 AND height > 1000").hits
    assert [Path(hit.path).name for hit in tall] == ["a.jpg"]
