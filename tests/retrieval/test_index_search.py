"""`index` and `search` as functions, from an empty folder to a gallery page."""

import json
import os
import shlex
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from encoderlab.data import read_samples
from encoderlab.data.decode import ImageError
from encoderlab.data.synthetic import generate
from encoderlab.data.unrelated import SENTENCES
from encoderlab.encoders.dual import load_dual
from encoderlab.encoders.vision import load_vision
from encoderlab.errors import MissingError, UsageError
from encoderlab.retrieval import index, search
from encoderlab.retrieval.approximate import Recall
from encoderlab.retrieval.image_index import Index
from encoderlab.retrieval.unrelated import Unrelated


@pytest.fixture(scope="module")
def db(world: Path, clip_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("index") / "db")
    result = index.run(source=str(world / "captions.csv"), db=folder, model=str(clip_folder))
    assert (result.added, result.total, result.skipped) == (20, 20, ())
    assert "20 added, 0 updated, 0 unchanged" in result.to_text()
    return folder


def test_a_second_run_adds_nothing(db, world, clip_folder):
    result = index.run(source=str(world / "captions.csv"), db=db, model=str(clip_folder))
    assert (result.added, result.unchanged) == (0, 20)


def test_a_sentence_and_an_image(db, world):
    by_sentence = search.run(query="a chart", db=db, k=3)
    assert len(by_sentence.hits) == 3
    picture = world / "images/chart/00001.png"
    by_image = search.run(image=str(picture), db=db, k=1)
    assert by_image.hits[0].path == str(picture)
    assert "00001.png" in by_image.to_text()


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An index of drawn pictures by a trained model."""
    folder = tmp_path_factory.mktemp("drawn")
    (folder / "images").mkdir()
    for number in range(30):
        generate(number, split="test").image.save(folder / f"images/{number}.png")
    index.run(source=str(folder / "images"), db=str(folder / "db"), device="cpu", dtype="float32")
    return str(folder / "db")


def test_a_query_that_fits_nothing_is_told(drawn):
    encoder = load_dual("tiny-clip", "cpu", "float32")
    images = encoder.embed_images([generate(i, split="test").image for i in range(30)])
    cosines = encoder.embed_texts(list(SENTENCES)) @ images.T
    nearest = cosines.argmax(axis=1)
    z = (cosines.max(axis=1) - cosines.mean(axis=0)[nearest]) / cosines.std(axis=0)[nearest]
    measured = Index.open(drawn).unrelated
    np.testing.assert_allclose(measured.cosines, cosines.max(axis=1), atol=1e-3)
    np.testing.assert_allclose(measured.zs, z, atol=1e-2)

    caption = generate(3, split="test").to_sample(("en",)).texts[0]
    for query, fits in ((caption, True), ("asdf qwer zxcv", False), ("patience", False)):
        result = search.run(query=query, db=drawn, k=1, device="cpu", dtype="float32")
        assert result.fits_nothing != fits
        to_images = images @ encoder.embed_texts([query])[0]
        best = to_images.argmax()
        above = (to_images[best] - cosines[:, best].mean()) / cosines[:, best].std()
        # "patience" is one of the sentences: whether it reaches itself is a matter of rounding.
        near = pytest.approx((cosines.max(axis=1) >= to_images[best]).mean(), abs=0.009)
        assert result.unrelated_as_near == near
        assert result.unrelated_as_distinct == pytest.approx((z >= above).mean(), abs=0.009)
        assert ("unrelated pairs" in result.to_text()) != fits


def test_new_images_are_not_judged_by_those_before(drawn, tmp_path):
    folder = tmp_path / "images"
    shutil.copytree(Path(drawn).parent / "images", folder)
    db = str(tmp_path / "db")
    index.run(source=str(folder), db=db, device="cpu", dtype="float32")
    opened = Index.open(db)
    generate(77, split="test").image.save(folder / "3.png")
    assert opened.sync(read_samples(folder), folder).updated == 1
    assert opened.unrelated is None and Index.open(db).unrelated is None
    index.run(source=str(folder), db=db, device="cpu", dtype="float32")
    assert Index.open(db).unrelated is not None


def test_an_image_near_to_every_sentence_hides_no_query_that_fits():
    rng = np.random.default_rng(0)
    sentences = rng.standard_normal((120, 16)) + 3 * np.eye(16)[0]
    sentences /= np.linalg.norm(sentences, axis=1, keepdims=True)
    images = np.eye(16)[:2].astype(np.float32)  # the first is near to all of them
    cosines = sentences @ images.T
    nearest = cosines.argmax(axis=1)
    unrelated = Unrelated.measured(2, sentences, cosines.max(axis=1), images[nearest])
    near, distinct = unrelated.shares(0.6, images[1])  # with the second image
    assert near > 0.3 and distinct == 0
    assert unrelated.shares(0.0, images[1])[1] > 0.5
    again = Unrelated.from_json(json.loads(json.dumps(unrelated.to_json())), 16)
    assert again.z(0.6, images[1]) == pytest.approx(unrelated.z(0.6, images[1]), rel=1e-2)
    np.testing.assert_allclose(again.cosines, unrelated.cosines, atol=1e-4)
    np.testing.assert_allclose(again.zs, unrelated.zs, atol=1e-4)


def test_what_the_null_does_not_hold_for_is_not_judged(drawn, tmp_path):
    image = tmp_path / "image.png"
    generate(3, split="test").image.save(image)
    for asked in ({"image": str(image)}, {"query": "asdf", "where": "width > 1"}):
        result = search.run(db=drawn, device="cpu", dtype="float32", **asked)
        assert result.unrelated_as_near is None and not result.fits_nothing
    opened = Index.open(drawn)
    opened.about["unrelated_sentences"]["images"] += 1  # measured before an image was removed
    assert opened.unrelated is None


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.images: list[dict[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.images.append(dict(attrs))


@pytest.mark.parametrize("family", ["dinov2", "convnext"])
def test_an_encoder_without_a_text_side_finds_images_by_images(
    family, world, vision_folder, tmp_path
):
    model, db = str(vision_folder(family)), str(tmp_path / "db")
    indexed = index.run(
        source=str(world / "captions.csv"), db=db, model=model, device="cpu", dtype="float32"
    )
    assert indexed.to_text().splitlines()[-1].startswith("next: encoderlab search --image FILE")
    picture = world / "images/chart/00001.png"
    hits = search.run(image=str(picture), db=db, k=20, device="cpu", dtype="float32").hits
    assert hits[0].path == str(picture)
    encoder = load_vision(model, "cpu", "float32")
    pooled = encoder.encode([hit.path for hit in hits]).pooled
    cosines = torch.nn.functional.cosine_similarity(pooled, pooled[:1])
    assert [hit.score for hit in hits] == pytest.approx(cosines.tolist(), abs=1e-5)
    with pytest.raises(UsageError, match=r"no text side.*search --image FILE"):
        search.run(query="a chart", db=db, device="cpu")
    with pytest.raises(UsageError, match="without a text side"):
        load_dual(model, "cpu")


def test_the_gallery_is_one_file_with_everything_in_it(db, tmp_path):
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
        ({"query": "x", "k": 0}, UsageError, "-k is too small: got 0"),
        ({"query": ""}, UsageError, "the query is blank"),
        ({"query": "caf\udce9"}, UsageError, "the query is not UTF-8"),
        ({"image": "none.png"}, ImageError, "there is no such file"),
        ({"query": "x", "where": "nope = 1"}, UsageError, "no condition"),
    ],
)
def test_search_says_what_is_wrong(db, asked, error, says):
    with pytest.raises(error, match=says):
        search.run(db=db, **asked)


def test_search_without_an_index_and_with_another_model(db, tmp_path, other_clip_folder):
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


def test_recall_is_measured_told_and_asked_around(many, clip_folder, tmp_path, monkeypatch):
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
    monkeypatch.setattr("encoderlab.retrieval.image_index.EXACT_LIMIT", 100)
    found = search.run(query="noise", db=db, k=3)
    assert found.to_json()["approximate"] == stored
    assert "approximate search: recall@10 (95 % interval)" in found.to_text()
    assert "150 stored captions; --exact compares with all 300" in found.to_text()
    forced = search.run(query="noise", db=db, k=3, exact=True)
    assert forced.approximate is None
    assert forced.hits == exact.hits


def test_a_target_that_is_not_reached_is_a_warning(many, clip_folder, tmp_path, monkeypatch):
    poor = Recall(0.5, 0.4, 0.6, 150)
    monkeypatch.setattr("encoderlab.retrieval.recall.recall", lambda truth, found: poor)
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
        ({"db": "caf\udce9"}, "must be UTF-8"),
    ],
)
def test_index_says_what_is_wrong(world, clip_folder, tmp_path, asked, says):
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
    mixed, clip_folder, tmp_path
):
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


def _photos(folder: Path, count: int = 3) -> Path:
    folder.mkdir(parents=True)
    for i in range(count):
        Image.new("RGB", (32, 32), (80 * i, 9, 99)).save(folder / f"{i}.png")
    return folder


def test_an_emptied_folder_is_in_sync_and_one_that_is_gone_is_an_error(clip_folder, tmp_path):
    source, db = str(_photos(tmp_path / "my 사진")), str(tmp_path / "my index")
    with pytest.raises(MissingError, match="no such data"):
        index.run(source=str(tmp_path / "none"), db=db, model=str(clip_folder))
    assert not Path(db).exists()
    assert index.run(source=source, db=db, model=str(clip_folder)).added == 3
    Path(source).rename(tmp_path / "elsewhere")
    with pytest.raises(MissingError, match="3 images that came from it stay in the index") as gone:
        index.run(source=source, db=db, model=str(clip_folder))
    assert f"encoderlab index --remove '{source}' --db '{db}'" in str(gone.value)
    Path(source).mkdir()
    result = index.run(source=source, db=db, model=str(clip_folder))
    assert (result.removed, result.total) == (3, 0)
    assert any("has no images now" in warning for warning in result.warnings)
    assert (len(search.run(query="x", db=db).hits), Path(db).is_dir()) == (0, True)
    assert "the index has no images" in search.run(query="x", db=db).to_text()
    with pytest.raises(UsageError, match="the query is blank"):
        search.run(query=" ", db=db)
    with pytest.raises(UsageError, match="the folder has no images"):
        index.run(source=source, db=db, model=str(clip_folder))


def test_the_rows_of_a_moved_folder_are_named_and_removed(clip_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    index.run(source=str(_photos(Path("it's"))), db="my db", model=str(clip_folder))
    Path("it's").rename("moved")
    result = index.run(source="moved", db="my db", model=str(clip_folder))
    assert (result.total, result.missing_sources) == (6, {str(tmp_path / "it's"): 3})
    (line,) = (line for line in result.to_text().splitlines() if "--remove" in line)
    words = shlex.split(line[line.index("encoderlab index") :])
    assert words == ["encoderlab", "index", "--remove", str(tmp_path / "it's"), "--db", "my db"]
    following = result.to_text().splitlines()[-1]
    assert shlex.split(following)[-2:] == ["--db", "my db"]
    removed = index.run(source="it's", db="my db", remove=True)
    assert (removed.removed, removed.total, removed.missing_sources) == (3, 3, {})
    assert removed.fingerprint == result.fingerprint
    with pytest.raises(UsageError, match="no images of this source"):
        index.run(source="it's", db="my db", remove=True)
    hits = search.run(query="x", db="my db").hits
    assert {Path(hit.path).parent for hit in hits} == {tmp_path / "moved"}


def test_fewer_images_than_asked_for_are_all_and_said(clip_folder, tmp_path):
    db = str(tmp_path / "db")
    index.run(source=str(_photos(tmp_path / "photos", 2)), db=db, model=str(clip_folder))
    result = search.run(query="x", db=db)
    assert (len(result.hits), result.k, result.images) == (2, 5, 2)
    assert "5 asked, 2 in the index" in result.to_text()
    assert "2 asked" not in search.run(query="x", db=db, k=2).to_text()
    one = search.run(query="x", db=db, k=2, where="path LIKE '%0.png'")
    assert "2 asked, 1 fit the condition" in one.to_text()
    (tmp_path / "photos/0.png").unlink()
    assert search.run(query="x", db=db, k=2).warnings[0].startswith("of these images 1 cannot")
