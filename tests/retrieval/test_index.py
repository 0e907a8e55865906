"""The index: exact answers, only what is new is embedded, nothing is lost or mixed up."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoderlab.data import Sample, read_samples
from encoderlab.encoders.dual import DualEncoder, load_dual
from encoderlab.errors import MissingError, UsageError
from encoderlab.retrieval import image_index as index_module
from encoderlab.retrieval.exact import top_k
from encoderlab.retrieval.image_index import Index
from encoderlab.retrieval.sync import caption_of, plan_sync, schema


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 5), m=st.integers(1, 60), k=st.integers(1, 60), seed=st.integers(0, 99))
def test_top_k_equals_sorting_with_the_first_of_equals_first(n, m, k, seed):
    rng = np.random.default_rng(seed)
    queries, vectors = (rng.integers(-2, 3, (rows, 4)).astype(np.float32) for rows in (n, m))
    k = min(k, m)
    scores, places = top_k(queries, vectors, k)
    for row in range(n):
        exact = vectors @ queries[row]
        order = sorted(range(m), key=lambda j: (-exact[j], j))[:k]
        assert scores[row].tolist() == [exact[j] for j in order]
        assert sorted(exact[places[row]].tolist()) == sorted(exact[order].tolist())


def test_blocks_change_no_answer(monkeypatch):
    rng = np.random.default_rng(0)
    queries, vectors = rng.normal(size=(7, 8)), rng.normal(size=(500, 8))
    whole = top_k(queries, vectors, 10)
    monkeypatch.setattr("encoderlab.retrieval.exact.BLOCK", 70)
    for first, second in zip(whole, top_k(queries, vectors, 10), strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-6)


@pytest.fixture(scope="module")
def encoder(clip_folder: Path) -> DualEncoder:
    return load_dual(str(clip_folder), "cpu", "float32")


@pytest.fixture
def photos(world: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(world, tmp_path / "photos"))


@pytest.fixture
def filled(photos: Path, tmp_path: Path, encoder: DualEncoder) -> Index:
    index = Index.create(tmp_path / "index", encoder)
    changes = index.sync(read_samples(photos / "captions.csv"), "photos")
    assert (changes.added, changes.unchanged, changes.removed) == (20, 0, 0)
    return index


def test_an_image_finds_itself_first(filled, photos):
    samples = read_samples(photos / "captions.csv")
    for sample in samples[:5]:
        assert isinstance(sample.image, Path)
        (hit,) = filled.search(sample.image, 1)
        assert hit.path == str(sample.image)
        assert hit.score == pytest.approx(1, abs=1e-5)
        assert hit.caption == sample.texts[0]
        assert (hit.width, hit.height) == (96, 96)


def test_a_sentence_an_image_and_a_vector_are_the_same_search(filled, encoder):
    vector = encoder.embed_texts(["a red circle"])[0]
    hits = filled.search("a red circle", 20)
    by_vector = filled.search(vector, 20)
    assert [hit.path for hit in hits] == [hit.path for hit in by_vector]
    np.testing.assert_allclose([h.score for h in hits], [h.score for h in by_vector], atol=1e-6)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert len({hit.path for hit in hits}) == 20


def test_only_what_is_new_is_embedded_and_what_is_gone_goes(filled, photos, encoder, monkeypatch):
    embedded = []
    embed = encoder.encode_pixels
    monkeypatch.setattr(encoder, "encode_pixels", lambda p: embedded.append(len(p)) or embed(p))
    samples = read_samples(photos / "captions.csv")
    again = filled.sync(samples, "photos")
    assert (again.added, again.unchanged, again.removed) == (0, 20, 0)
    assert not embedded
    changed = samples[0].image
    assert isinstance(changed, Path) and isinstance(samples[1].image, Path)
    shutil.copy(samples[1].image, changed)
    third = filled.sync(samples[:-2], "photos")
    assert (third.added, third.updated, third.unchanged, third.removed) == (0, 1, 17, 2)
    assert sum(embedded) == 1
    assert len(filled) == 18
    first, second = filled.search(samples[1].image, 2)
    assert {first.path, second.path} == {str(changed), str(samples[1].image)}


def test_another_source_leaves_the_first_alone(filled, world):
    changes = filled.sync(read_samples(world / "images")[:3], "others")
    assert (changes.added, changes.removed, len(filled)) == (3, 0, 23)


def test_it_is_found_again_on_disk(filled, encoder):
    again = Index.open(filled.folder)
    again.use(encoder)
    assert again.search("a table", 3) == filled.search("a table", 3)
    assert again.encoder is encoder


def test_a_condition_keeps_only_its_rows(filled):
    hits = filled.search("anything", 20, where="caption LIKE '%chart%'")
    assert 0 < len(hits) < 20
    assert all("chart" in hit.caption for hit in hits)
    assert filled.search("anything", 5, where="width > 5000") == []


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda i: i.search("x", 0), "k must be at least 1"),
        (lambda i: i.search("  "), "the query is blank"),
        (lambda i: i.search(np.zeros(3)), "the vector does not fit the index"),
        (lambda i: i.search(np.full(i.about["dim"], np.nan)), "is not finite"),
        (lambda i: i.remove("nowhere"), "no images of this source: got 'nowhere'.*photos"),
        (lambda i: i.search("x", 2, "capton LIKE 'a'"), "no condition on the index's columns"),
        (lambda i: i.search("x", 2, "caption LIKE 'a"), "no condition on the index's columns"),
        (lambda i: i.build_ann(), "too few images for an approximate index"),
    ],
)
def test_what_cannot_be_asked_is_said(filled, ask, says):
    with pytest.raises(UsageError, match=says):
        ask(filled)


def test_another_model_is_refused_with_both_names(filled, other_clip_folder):
    other = load_dual(str(other_clip_folder), "cpu", "float32")
    with pytest.raises(UsageError, match=r"other-clip.*small-clip"):
        Index.open(filled.folder).use(other)
    with pytest.raises(UsageError, match="made by another model"):
        Index.create(filled.folder, other)


def test_no_index_and_a_damaged_one(filled, tmp_path):
    with pytest.raises(MissingError, match=r"no index there.*encoderlab index"):
        Index.open(tmp_path / "none")
    for version in (filled.folder / "images.lance" / "_versions").iterdir():
        version.write_bytes(b"junk")
    with pytest.raises(UsageError, match="the index is damaged"):
        Index.open(filled.folder)
    (filled.folder / "index.json").write_text("{")
    with pytest.raises(UsageError, match="the index is damaged"):
        Index.open(filled.folder)


def test_an_interrupted_run_keeps_what_it_has_done(photos, tmp_path, encoder, monkeypatch):
    index = Index.create(tmp_path / "part", encoder)
    embed = index_module.embed_batches

    def interrupted(*args):
        for number, part in enumerate(embed(*args)):
            if number == 2:
                raise KeyboardInterrupt
            yield part

    monkeypatch.setattr(index_module, "embed_batches", interrupted)
    with pytest.raises(KeyboardInterrupt):
        index.sync(read_samples(photos / "captions.csv"), "photos", batch_size=4)
    monkeypatch.undo()
    again = Index.open(tmp_path / "part")
    again.use(encoder)
    assert len(again) == 8
    changes = again.sync(read_samples(photos / "captions.csv"), "photos", batch_size=4)
    assert (changes.added, changes.unchanged, len(again)) == (12, 8, 20)


def test_names_with_quotes_and_korean_are_normal(photos, encoder, tmp_path):
    folder = tmp_path / "it's 사진"
    folder.mkdir()
    source = read_samples(photos / "images")[0].image
    assert isinstance(source, Path)
    shutil.copy(source, folder / '개\'s "dog".png')
    index = Index.create(tmp_path / "i", encoder)
    index.sync(read_samples(folder), "a")
    assert index.search(source, 1)[0].path.endswith('개\'s "dog".png')
    (folder / '개\'s "dog".png').write_bytes((photos / "images/scene/00000.png").read_bytes())
    assert index.sync(read_samples(folder), "a").updated == 1
    assert len(index) == 1


def test_the_approximate_index_agrees_with_the_exact_one(encoder, tmp_path, monkeypatch):
    import pyarrow as pa

    index = Index.create(tmp_path / "ann", encoder)
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(600, encoder.dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    names = [f"{i}.png" for i in range(600)]
    same = {"caption": names, "label": names, "hash": names, "source": names}
    numbers = {"width": [1] * 600, "height": [1] * 600}
    flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), encoder.dim)
    index._table.inner.add(
        pa.table({"path": names, **same, **numbers, "vector": flat}, schema=schema(encoder.dim))
    )
    exact = {hit.path for hit in index.search(vectors[7], 10)}
    index.build_ann()
    assert index.has_ann
    monkeypatch.setattr(index_module, "EXACT_LIMIT", 100)
    result = index.search(vectors[7], 10)
    assert result[0].path == "7.png"
    assert result[0].score == pytest.approx(1, abs=1e-3)
    assert len(exact & {hit.path for hit in result}) >= 7


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "[]",
        '{"format": 1, "model": 3, "fingerprint": "x", "dim": 16}',
        '{"format": 1, "model": "m", "fingerprint": null, "dim": 16}',
        '{"format": 1, "model": "m", "fingerprint": "x", "dim": 16, "ann": [1]}',
        '{"format": 1, "model": "m", "fingerprint": "x", "dim": 16, "ann": {"recall": 3}}',
    ],
)
def test_an_index_json_of_nonsense_is_damage(filled, text):
    (filled.folder / "index.json").write_text(text)
    with pytest.raises(UsageError, match="the index is damaged"):
        Index.open(filled.folder)


def test_what_a_killed_writer_left_in_the_table_goes(filled, photos):
    left = Path(filled.folder) / "images.lance" / "data" / ".tmpXyZ123"
    left.write_bytes(b"half")
    filled.sync(read_samples(photos / "captions.csv"), "photos")
    assert not left.exists() and len(filled) == 20


def test_records_of_one_image_are_one_row_with_the_texts_of_all(tmp_path):
    place = tmp_path / "a.png"
    place.write_bytes(b"x")
    samples = [Sample(f"t/{i}", place, (text,)) for i, text in enumerate(("one", "two", "one"))]
    expected = plan_sync([*samples, Sample("t/4", tmp_path / "b.png"), Sample("t/5", place)])
    assert [caption_of(sample) for sample in expected.samples] == ["one | two", ""]
    assert len(expected.hashes) == 2


def test_a_file_that_became_unreadable_loses_its_row(photos, tmp_path, encoder):
    index = Index.create(tmp_path / "i", encoder)
    samples = read_samples(photos / "images")
    index.sync(samples, photos / "images")
    first, second, third = (sample.image for sample in samples[:3])
    Path(str(first)).write_text("hello")
    Path(str(second)).write_bytes(Path(str(second)).read_bytes()[:60])
    changes = index.sync(read_samples(photos / "images"), photos / "images")
    assert (changes.added, changes.updated, changes.unchanged, changes.removed) == (0, 0, 18, 2)
    assert [skipped.id for skipped in changes.skipped] == [sample.id for sample in samples[:2]]
    assert {str(first), str(second)}.isdisjoint(hit.path for hit in index.search(third, 18))
    Path(str(third)).write_text("hello")
    assert index.add([samples[2]]).removed == 1
    assert len(index) == 17


def test_all_spellings_of_a_folder_are_one_source(photos, tmp_path, encoder, monkeypatch):
    index = Index.create(tmp_path / "i", encoder)
    (tmp_path / "link").symlink_to(photos, target_is_directory=True)
    monkeypatch.chdir(photos)
    spellings = ("images", "images/", "./images", "../photos/images", str(photos / "images"),
                 str(tmp_path / "link/images"), f"{tmp_path}/link/../photos/images")  # fmt: skip
    for number, name in enumerate(spellings):
        changes = index.sync(read_samples(name), name)
        assert (changes.added, changes.unchanged) == ((0, 20) if number else (20, 0)), name
    assert index.sources() == {str(photos / "images"): 20}
    assert {Path(hit.path).parents[1] for hit in index.search("x", 20)} == {photos / "images"}


def test_rows_of_version_0_1_are_those_of_their_source(photos, tmp_path, encoder):
    index = Index.create(tmp_path / "i", encoder)
    (tmp_path / "link").symlink_to(photos, target_is_directory=True)
    source = photos / "images"
    index.sync(read_samples(source), source)
    # What version 0.1 stored for `../photos/images`, for a link, and for a URL.
    old = f"{tmp_path}/elsewhere/../photos/images"
    (tmp_path / "elsewhere").mkdir()
    table = index._table.inner
    table.update(where="label = 'chart'", values={"source": old})
    table.update(where="label = 'table'", values={"source": str(tmp_path / "link/images")})
    table.update(
        where="label = 'table'",
        values_sql={"path": f"concat('{tmp_path}/link/', substr(path, {len(str(photos)) + 2}))"},
    )
    shutil.rmtree(source / "chart")
    changes = index.sync(read_samples(source), source)
    rows = {str(sample.image) for sample in read_samples(source)}
    assert {hit.path for hit in index.search("x", 20)} == rows
    assert (changes.updated, changes.skipped) == (0, [])
    assert index.sources() == {str(source): 16}
    table.update(values={"source": f"{tmp_path}/s3:/bucket/train.tar"})
    assert index.sync([], "s3://bucket/train.tar").removed == 16


def test_a_source_that_is_gone_is_listed_and_removed(photos, tmp_path, encoder):
    index = Index.create(tmp_path / "i", encoder)
    index.sync(read_samples(photos / "images"), photos / "images")
    stored = read_samples(shutil.copytree(photos / "images/chart", tmp_path / "it's kept"))
    index.sync(stored, tmp_path / "it's kept")
    shutil.move(photos, tmp_path / "moved")
    assert index.sources() == {str(photos / "images"): 20, str(tmp_path / "it's kept"): 4}
    assert index.remove(photos / "images").removed == 20
    assert {hit.path for hit in index.search("x", 30)} == {str(sample.image) for sample in stored}
    assert index.remove(tmp_path / "it's kept").removed == 4
    assert (len(index), index.search("x", 3), index.sources()) == (0, [], {})


def test_a_folder_speaks_for_the_files_under_it(photos, tmp_path, encoder):
    index = Index.create(tmp_path / "i", encoder)
    index.sync(read_samples(photos / "images/chart"), photos / "images/chart")
    index.sync(read_samples(photos / "images"), photos / "images")
    shutil.rmtree(photos / "images/chart")
    index.sync(read_samples(photos / "images"), photos / "images")
    assert all(Path(hit.path).is_file() for hit in index.search("x", 20))
    assert len(index) == 16


def test_an_answer_has_as_many_images_as_there_are(filled, tmp_path, encoder):
    assert len(filled.search("x", 999)) == 20
    assert [len(hits) for hits in filled.search_many(np.eye(2, encoder.dim), 21)] == [20, 20]
    filled.prepare_search()
    copied = Index.open(filled.folder)
    copied.use(encoder)
    assert len(copied.search("x", 999)) == 20
    empty = Index.create(tmp_path / "empty", encoder)
    assert empty.search("x") == []
    empty.prepare_search()
    copied = Index.open(empty.folder)
    copied.use(encoder)
    assert (copied.search("x"), copied.search_many(np.eye(2, encoder.dim))) == ([], [[], []])


def test_what_utf_8_cannot_hold_stops_nothing(photos, tmp_path, encoder):
    index = Index.create(tmp_path / "i", encoder)
    picture = photos / "images/chart/00001.png"
    bad = tmp_path / "caf\udce9.png"
    shutil.copy(picture, bad)
    samples = [
        Sample("bad\udce9", bad),
        Sample("lone", picture, ("half a smile \ud83d",), label="\ud83d"),
    ]
    changes = index.sync(samples, "a")
    assert changes.added == 1
    assert [skipped.id.encode() for skipped in changes.skipped] == [rb"bad\udce9"]
    assert index.search("x")[0].caption == r"half a smile \ud83d"
    assert index.sync(samples, "a").unchanged == 1


def test_all_captions_of_an_image_are_kept(photos, tmp_path, encoder):
    index = Index.create(tmp_path / "i", encoder)
    picture = photos / "images/chart/00001.png"
    index.sync([Sample("1", picture, ("a",)), Sample("2", picture, ("b", "a"))], "a")
    assert [hit.caption for hit in index.search("x")] == ["a | b"]


def test_another_preparation_of_images_is_refused(filled, encoder, monkeypatch):
    monkeypatch.setattr(encoder, "preprocess", replace(encoder.preprocess, mean=(0, 0, 0)))
    with pytest.raises(UsageError, match=r"prepared in another way.*mean \[0, 0, 0\]"):
        Index.open(filled.folder).use(encoder)
    # Version 0.1 did not store the preparation.
    about = json.loads((filled.folder / "index.json").read_text())
    del about["preprocess"]
    (filled.folder / "index.json").write_text(json.dumps(about))
    Index.open(filled.folder).use(encoder)


def test_a_checkpoint_with_other_weights_of_the_same_name_is_refused(
    photos, tmp_path, clip_folder, other_clip_folder
):
    model = tmp_path / "model"
    shutil.copytree(clip_folder, model)
    index = Index.create(tmp_path / "i", load_dual(str(model), "cpu", "float32"))
    index.sync(read_samples(photos / "images"), photos / "images")
    shutil.rmtree(model)
    shutil.copytree(other_clip_folder, model)
    with pytest.raises(UsageError, match="Its files have changed since"):
        Index.open(tmp_path / "i").search("x")
