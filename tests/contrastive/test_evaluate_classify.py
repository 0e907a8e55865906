"""`evaluate` and `classify` as functions: their numbers, their tables, their mistakes."""

from __future__ import annotations

import csv
import json
import shutil
import unicodedata
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from encoderlab.contrastive import classify, evaluate
from encoderlab.data import read_samples
from encoderlab.data.folder import read_folder
from encoderlab.data.synthetic import generate
from encoderlab.data.unrelated import NAMES
from encoderlab.data.zero_shot_templates import TEMPLATES
from encoderlab.encoders.dual import DualEncoder, load_dual
from encoderlab.errors import MissingError, UsageError
from encoderlab.metrics.classification import class_vector

KINDS = "scene,chart,table,document,math"


def test_evaluate_gives_the_recall_of_sorted_similarities(world: Path, clip_folder: Path) -> None:
    result = evaluate.run(csv=str(world / "captions.csv"), model=str(clip_folder), dtype="float32")
    encoder = load_dual(str(clip_folder), "cpu", "float32")
    samples = read_samples(world / "captions.csv")
    image = encoder.embed_images([sample.load() for sample in samples])
    text = encoder.embed_texts([sample.texts[0] for sample in samples])
    scores = image @ text.T
    # Long captions are cut to the same tokens by this small model: their ties count against it.
    hit = ((scores >= scores.diagonal()[:, None]).sum(axis=1) <= 5).mean()
    assert result.retrieval.image_to_text.recall[5].value == pytest.approx(hit)
    assert result.retrieval.text_to_image.recall[1].chance == pytest.approx(1 / 20)
    assert "Recall@10" in result.to_text()
    assert json.loads(json.dumps(result.to_json()))["image_to_text"]["R@5"]["n"] == 20


def test_images_that_cannot_be_read_are_left_out_and_listed(
    world: Path, clip_folder: Path, tmp_path: Path
) -> None:
    rows = (world / "captions.csv").read_text(encoding="utf-8")
    table = tmp_path / "t.csv"
    table.write_text(rows + "images/chart/none.png,a picture that is gone\n", encoding="utf-8")
    result = evaluate.run(csv=str(table), img_root=str(world), model=str(clip_folder))
    assert result.retrieval.images == 20
    assert result.skipped == (("images/chart/none.png", "there is no such file"),)
    assert any("1 image that could not be used" in warning for warning in result.warnings)
    assert "1 image left out" in result.to_text()


def test_what_evaluate_has_stored_classify_does_not_compute(
    world: Path, clip_folder: Path, tmp_path: Path, monkeypatch
) -> None:
    model, store = str(clip_folder), str(tmp_path / "store")
    pairs = {"csv": str(world / "captions.csv"), "model": model, "dtype": "float32"}
    plain = evaluate.run(**pairs)
    assert evaluate.run(**pairs, features_dir=store).retrieval == plain.retrieval
    images = {"image_dir": str(world / "images"), "model": model, "dtype": "float32"}
    expected = classify.run(**images).predictions
    monkeypatch.setattr(DualEncoder, "encode_pixels", None)
    for stored, computed in zip(
        classify.run(**images, features_dir=store).predictions, expected, strict=True
    ):
        assert stored.image == computed.image
        assert dict(stored.top) == pytest.approx(dict(computed.top), abs=1e-5)
    assert evaluate.run(**pairs, features_dir=store).retrieval == plain.retrieval


def test_captions_that_repeat_are_said(world: Path, clip_folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    names = [sample.id for sample in read_samples(world / "captions.csv")]
    table.write_text("image_path,caption\n" + "".join(f"{name},the same\n" for name in names))
    result = evaluate.run(csv=str(table), img_root=str(world), model=str(clip_folder))
    assert result.retrieval.distinct_captions == 1
    recall = result.retrieval.image_to_text.recall[1]
    assert recall.value is None and "every order of 1 candidates" in str(recall.undefined)
    assert any("95.0% of the captions repeat" in warning for warning in result.warnings)


def test_a_copy_of_an_image_is_no_other_image_to_evaluate(
    world: Path, clip_folder: Path, tmp_path: Path
) -> None:
    samples = read_samples(world / "captions.csv")[:12]
    lines = ["image_path,caption"]
    for number, sample in enumerate(samples):
        content = Path(str(sample.image)).read_bytes()
        for copy, caption in (("a", f"first {number}"), ("b", f"second {number}")):
            (tmp_path / f"{number}{copy}.png").write_bytes(content)
            lines.append(f"{number}{copy}.png,{caption}")
    (tmp_path / "copies.csv").write_text("\n".join(lines))
    (tmp_path / "once.csv").write_text("\n".join(lines).replace("b.png", "a.png"))
    found, once = (
        evaluate.run(csv=str(tmp_path / name), model=str(clip_folder), dtype="float32")
        for name in ("copies.csv", "once.csv")
    )
    assert found.retrieval.to_json() == once.retrieval.to_json()
    assert (found.retrieval.images, found.retrieval.captions) == (12, 24)
    assert any("24 images are copies of 12" in one for one in found.warnings)
    assert not any("copies" in one for one in once.warnings)


def test_copies_count_in_the_accuracy_and_not_in_its_interval(
    world: Path, clip_folder: Path, tmp_path: Path
) -> None:
    for sample in read_folder(world / "images"):
        content = Path(str(sample.image)).read_bytes()
        for copy in range(4):
            path = tmp_path / str(sample.label) / f"{copy}-{Path(sample.id).name}"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
    once, found = (
        classify.run(image_dir=str(folder), classes=KINDS, model=str(clip_folder), dtype="float32")
        for folder in (world / "images", tmp_path)
    )
    assert found.accuracy.top1.n == len(found.predictions) == 80
    # Four copies of each: the value and the interval of the twenty images.
    for of_copies, of_images in ((found.accuracy.top1, once.accuracy.top1),
                                 (found.accuracy.recall[0], once.accuracy.recall[0])):  # fmt: skip
        assert of_copies.value == of_images.value
        assert (of_copies.ci_low, of_copies.ci_high) == pytest.approx(
            (of_images.ci_low, of_images.ci_high)
        )
    assert any("over 80 images, 20 of them different" in one for one in found.warnings)


@pytest.mark.parametrize(("images", "moved"), [(1, "100"), (4, "25"), (9, "11"), (10, None)])
def test_a_recall_of_few_images_is_doubted(
    world: Path, clip_folder: Path, tmp_path: Path, images: int, moved: str | None
) -> None:
    table = tmp_path / "few.csv"
    names = [sample.id for sample in read_samples(world / "captions.csv")][:images]
    rows = [f"{name},picture {i}" for i, name in enumerate(names)]
    table.write_text("\n".join(["image_path,caption", *rows]))
    result = evaluate.run(csv=str(table), img_root=str(world), model=str(clip_folder))
    said = [one for one in result.warnings if "fewer than 10" in one]
    assert bool(said) == (moved is not None) and all(f"by {moved} points" in one for one in said)
    assert all(f"! {one}" in result.to_text() for one in result.warnings)
    # One right answer each: chance of Recall@K is K / images, and undefined where that reaches 1.
    easy = [k for k in (1, 5, 10) if 0.5 < k / images < 1]
    assert any("Recall@5" in one for one in result.warnings) == (5 in easy)
    assert (result.retrieval.image_to_text.recall[1].value is None) == (images == 1)


def test_an_accuracy_of_few_images_or_of_one_class_is_doubted(
    world: Path, clip_folder: Path, tmp_path: Path
) -> None:
    kind = KINDS.split(",")[0]
    for number in range(3):
        source = sorted((world / "images" / kind).iterdir())[number]
        (tmp_path / kind).mkdir(exist_ok=True)
        (tmp_path / kind / source.name).write_bytes(source.read_bytes())
    result = classify.run(image_dir=str(tmp_path), classes=KINDS, model=str(clip_folder))
    few, alone, *_ = result.warnings  # the model is random: no class fits
    assert "on 3 images, fewer than 10" in few and f"all answers are {kind!r}" in alone
    assert f"! {alone}" in result.to_text()


def test_evaluate_without_captions_or_images(world: Path, clip_folder: Path, tmp_path) -> None:
    with pytest.raises(UsageError, match="no image has a caption"):
        evaluate.run(csv=str(world / "images"), model=str(clip_folder))
    with pytest.raises(MissingError, match="no such data"):
        evaluate.run(csv="none.csv", model=str(clip_folder))


def test_classify_takes_the_nearest_averaged_prompt(world: Path, clip_folder: Path) -> None:
    result = classify.run(
        image_dir=str(world / "images"), classes=KINDS, model=str(clip_folder), dtype="float32",
        templates=["{}", "a drawing of {}"], top_k=2,
    )  # fmt: skip
    encoder = load_dual(str(clip_folder), "cpu", "float32")
    names = KINDS.split(",")
    classes = np.stack([class_vector(encoder.embed_texts([n, f"a drawing of {n}"])) for n in names])
    samples = read_folder(world / "images")
    scores = encoder.embed_images([sample.load() for sample in samples]) @ classes.T
    assert [p.top[0][0] for p in result.predictions] == [names[i] for i in scores.argmax(axis=1)]
    assert all(len(p.top) == 2 for p in result.predictions)
    right = np.mean([names[i] == s.label for i, s in zip(scores.argmax(1), samples, strict=True)])
    assert result.accuracy is not None
    assert result.accuracy.top1.value == pytest.approx(right)
    assert result.accuracy.confusion.sum() == 20
    assert "confusion" in result.to_text()


@pytest.mark.parametrize(
    ("classes", "fit"),
    [("scene of shapes,chart,table,document,math problem", True), ("elephant,dog", False)],
)
def test_classes_that_fit_no_image_are_told(classes: str, fit: bool, tmp_path: Path) -> None:
    for number in range(20):
        generate(number, split="test").image.save(tmp_path / f"{number}.png")
    result = classify.run(
        image_dir=str(tmp_path), classes=classes, model="tiny-clip", device="cpu", dtype="float32"
    )
    encoder = load_dual("tiny-clip", "cpu", "float32")
    images = encoder.embed_images([generate(i, split="test").image for i in range(20)])

    def cosines(names: Iterable[str]) -> np.ndarray:
        of_names = []
        for name in names:
            prompts = encoder.embed_texts([t.replace("{}", name) for t in TEMPLATES]).mean(axis=0)
            of_names.append(prompts / np.linalg.norm(prompts))
        return images @ np.stack(of_names).T

    best = cosines(classes.split(",")).max(axis=1)
    nearer = [(row >= cosine).sum() for row, cosine in zip(cosines(NAMES), best, strict=True)]
    assert result.unfit == sum(number > 0.05 * len(NAMES) for number in nearer)
    assert (result.unfit > 2) != fit
    assert any("none of the classes" in warning for warning in result.warnings) != fit


def test_probabilities_of_all_classes_sum_to_one(world: Path, clip_folder: Path) -> None:
    result = classify.run(image_dir=str(world / "images"), model=str(clip_folder), top_k=99)
    assert result.classes == tuple(sorted(KINDS.split(",")))
    for prediction in result.predictions:
        assert sum(value for _, value in prediction.top) == pytest.approx(1)


def test_answers_from_a_csv_and_predictions_to_one(
    world: Path, clip_folder: Path, tmp_path: Path
) -> None:
    result = classify.run(
        image_dir=str(world / "images"), classes=KINDS, model=str(clip_folder),
        labels_csv=str(world / "labels.csv"), save_csv=str(tmp_path / "deep/out.csv"),
    )  # fmt: skip
    assert all(p.answer == p.image.split("/")[0] for p in result.predictions)
    with (tmp_path / "deep/out.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 20
    assert rows[0]["class_1"] == result.predictions[0].top[0][0]


def test_korean_names_get_korean_templates(world: Path, clip_folder: Path) -> None:
    result = classify.run(
        image_dir=str(world / "images"), classes="표,차트", model=str(clip_folder)
    )
    assert "{} 사진" in result.templates
    assert result.accuracy is None


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"classes": "cat,,dog"}, UsageError, "a class name is blank"),
        ({"classes": "cat, dog ,cat"}, UsageError, "a class is listed twice.*'cat'"),
        ({"classes": "cat"}, UsageError, "classification needs two classes"),
        ({"templates": ["a photo"]}, UsageError, "no place for the class.*'a photo'"),
        ({"image_dir": "nowhere"}, MissingError, "no such folder"),
        ({"top_k": 0}, UsageError, "--top-k is too small: got 0"),
        ({"model": "tiny-clp"}, MissingError, "unknown model"),
    ],
)
def test_classify_says_what_is_wrong(
    world: Path, clip_folder: Path, changes: dict, error, says: str
) -> None:
    given = {"image_dir": str(world / "images"), "classes": KINDS, "model": str(clip_folder)}
    with pytest.raises(error, match=says):
        classify.run(**{**given, **changes})


def test_labels_that_are_no_classes_are_met_with_a_suggestion(
    world: Path, clip_folder: Path
) -> None:
    with pytest.raises(UsageError, match=r"none of the classes.*'chart'"):
        classify.run(image_dir=str(world / "images"), classes="charts,table,scene,document,math",
                     model=str(clip_folder), labels_csv=str(world / "labels.csv"))  # fmt: skip


def _coloured(folder: Path, *names: str) -> Path:
    """One folder of three images for each name."""
    for number, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for i in range(3):
            Image.new("RGB", (32, 32), (80 * number, 60 * i, 9)).save(folder / name / f"{i}.png")
    return folder


@pytest.mark.parametrize(
    ("folders", "classes"),
    [
        (("Red", "blue"), "red,blue"),
        ((" red", "blue "), ""),
        ((unicodedata.normalize("NFD", "빨강"), "파랑"), "빨강,파랑"),
        (("été", "blue"), [unicodedata.normalize("NFD", "été"), "blue"]),
        (("animals/red", "animals/blue"), "red,blue"),
        (("train/red", "val/blue"), "red,blue"),
    ],
)
def test_every_image_of_a_class_is_counted(
    tmp_path: Path, clip_folder: Path, folders: tuple[str, ...], classes
) -> None:
    folder = _coloured(tmp_path / "images", *folders)
    result = classify.run(image_dir=f"{folder}/", classes=classes, model=str(clip_folder))
    assert result.accuracy is not None
    assert (result.accuracy.top1.n, len(result.predictions)) == (6, 6)
    assert result.accuracy.confusion.sum(axis=1).tolist() == [3, 3]
    assert {p.answer for p in result.predictions} == set(result.classes)
    assert (result.strays, result.unmatched) == ({}, ())
    assert "over 6 of 6 images" in result.to_text()


def test_folders_that_are_no_class_are_counted_and_named(tmp_path: Path, clip_folder: Path) -> None:
    folder = _coloured(tmp_path / "images", "red", "Bluee", "sky")
    result = classify.run(image_dir=str(folder), classes="red,blue", model=str(clip_folder))
    assert result.accuracy is not None and result.accuracy.top1.n == 3
    assert result.to_json()["labels_without_class"] == {"Bluee": 3, "sky": 3}
    says = "3 images of label 'Bluee' are in none of the classes: did you mean 'blue'?"
    assert says in result.warnings and says in result.to_text()
    assert "over 3 of 9 images" in result.to_text()
    none = classify.run(image_dir=str(folder), classes="cat,dog", model=str(clip_folder))
    assert none.accuracy is None and sum(none.strays.values()) == 9
    assert "no accuracy" in none.to_text()


@pytest.mark.parametrize(
    ("folders", "classes", "says"),
    [
        (("Red", "red "), "", "is listed twice.*Red and red|is listed twice.*red and Red"),
        (("red", "blue"), "red,Red,blue", "is listed twice.*red and Red"),
        (("train", "val"), "", "the sub-folders are splits"),
    ],
)
def test_names_that_make_no_accuracy_are_refused(
    tmp_path: Path, clip_folder: Path, folders: tuple[str, ...], classes: str, says: str
) -> None:
    folder = _coloured(tmp_path / "images", *folders)
    with pytest.raises(UsageError, match=says):
        classify.run(image_dir=str(folder), classes=classes, model=str(clip_folder))


def test_a_row_of_a_label_csv_labels_one_image(tmp_path: Path, clip_folder: Path) -> None:
    folder = _coloured(tmp_path / "images", "sub", "other")
    shutil.copy(folder / "other/0.png", folder / "0.png")

    def answers(text: str, table: Path):
        table.parent.mkdir(exist_ok=True)
        table.write_text(f"image_path,label\n{text}")
        return classify.run(image_dir=str(folder), classes="red,blue", labels_csv=str(table),
                            model=str(clip_folder))  # fmt: skip

    result = answers("0.png,Red\n9.png,blue\n", folder / "sub/labels.csv")
    assert {p.image: p.answer for p in result.predictions if p.answer} == {"sub/0.png": "red"}
    assert result.unmatched == (("9.png", "blue"),)
    assert result.to_json()["rows_without_image"] == [{"image_path": "9.png", "label": "blue"}]
    assert any("1 rows of the label CSV" in warning for warning in result.warnings)
    # Beside no image of that name the paths start from the image folder.
    result = answers("0.png,red\nother/1.png,blue\n", tmp_path / "tables/labels.csv")
    named = {p.image: p.answer for p in result.predictions if p.answer}
    assert named == {"0.png": "red", "other/1.png": "blue"}
    with pytest.raises(UsageError, match="gives an image two labels"):
        answers(f"0.png,red\n{folder / '0.png'},blue\n", tmp_path / "tables/labels.csv")
    with pytest.raises(UsageError, match=r"none of the classes: got 'rede'.*did you mean 'red'"):
        answers("0.png,rede\n", tmp_path / "tables/labels.csv")


def test_a_tie_is_not_marked_as_right(tmp_path: Path, clip_folder: Path, monkeypatch) -> None:
    folder = _coloured(tmp_path / "images", "red", "blue")
    monkeypatch.setattr(
        "encoderlab.encoders.dual.DualEncoder.embed_texts",
        lambda self, texts: np.ones((len(texts), self.dim), dtype=np.float32),
    )
    for classes in ("red,blue", "blue,red"):
        result = classify.run(image_dir=str(folder), classes=classes, model=str(clip_folder))
        assert result.accuracy is not None and result.accuracy.top1.value == 0
        assert all(p.top[0][0] != p.answer for p in result.predictions)


def test_a_flat_folder_needs_classes(world: Path, clip_folder: Path) -> None:
    with pytest.raises(UsageError, match="no classes were named"):
        classify.run(image_dir=str(world / "images/chart"), model=str(clip_folder))


def long_captions(folder: Path, world: Path) -> Path:
    """A table of pictures whose captions differ in their last word alone."""
    names = [sample.id for sample in read_samples(world / "captions.csv")][:4]
    rows = [f"{world / name},{'in the picture ' * 40}{i}" for i, name in enumerate(names)]
    table = folder / "long.csv"
    table.write_text("\n".join(["image_path,caption", *rows]) + "\n", encoding="utf-8")
    return table


def test_captions_and_classes_beyond_the_context_are_warned_of_once(
    world: Path, clip_folder: Path, tmp_path: Path, capsys
) -> None:
    model = {"model": str(clip_folder), "device": "cpu", "dtype": "float32"}
    table = long_captions(tmp_path, world)
    result = evaluate.run(csv=str(table), img_root=str(world), **model)
    cut = "4 of 4 texts are longer than the context of 24 tokens and are cut; 4 different texts"
    assert sum(cut in warning for warning in result.warnings) == 1
    assert capsys.readouterr().err.count(cut) == 1
    classes = ",".join(f"{'in the picture ' * 40}{i}" for i in range(3)) + ",red"
    found = classify.run(image_dir=str(world / "images"), classes=classes, **model)
    cut = "15 of 20 texts are longer than the context of 24 tokens"  # five templates each
    assert sum(cut in warning for warning in found.warnings) == 1
    assert capsys.readouterr().err.count(cut) == 1
