"""What a Python function leaves on the disk without `out` is what docs/en/api.md says, and every
page that quotes numbers says in which format they were computed."""

import re
from pathlib import Path

import pytest
from PIL import Image
from tests.docs import pages

import encoderlab

CPU = {"device": "cpu"}
PAIRS = CPU | {"encoders": ["tiny-clip"], "llms": ["tiny-llama"]}
FEW = PAIRS | {"n_samples": 2}
# function -> (its arguments, where everything lies that it leaves without `out`).
LEAVES = {
    "compare": (FEW, "outputs/features"),
    "multi_llm": (FEW, "outputs/features"),
    "coral": (FEW, "outputs/features"),
    "elas": (FEW | {"epochs": 2}, "outputs/features"),
    "e2e": (FEW | {"epochs": 2}, "outputs/features"),
    "complement": (FEW | {"encoders": ["tiny-clip", "tiny-dinov2"]}, "outputs/features"),
    "layers": (FEW, "outputs/features"),
    "embedding": (FEW | {"method": "pca"}, "outputs/features"),
    "stream": (PAIRS | {"data": "pairs.csv"}, "outputs/features"),
    "features": ({"action": "extract", "target": "photos", **CPU}, "outputs/features"),
    "index": ({"source": "photos", **CPU}, "outputs/index"),
    "draw": ({"folder": "drawn", "photos": 2, "pairs": 2}, "drawn"),
    "evaluate": ({"csv": "pairs.csv", **CPU}, None),
    "classify": ({"image_dir": "photos", "classes": "cat,dog", **CPU}, None),
    "attention": ({"encoders": ["tiny-clip"], **CPU}, None),
    "validate": ({}, None),
    "speed": ({"encoders": ["tiny-clip"], "batch_sizes": [1], **CPU}, None),
    "text_size": ({"heights": [24], "n_train": 20, "n_test": 20, **CPU}, None),
    "tokens": ({"image": "photos/0.png", **CPU}, None),
    "words": ({"n": 0, "captions": 5, **CPU}, None),
    "registers": ({"n": 0, "n_images": 2, **CPU}, None),
    "compress": ({"action": "show"}, None),
}


@pytest.fixture
def work(tmp_path, monkeypatch) -> Path:
    """A folder with four images and a CSV of pairs, to work in."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    lines = ["image_path,caption"]
    for number in range(4):
        Image.effect_noise((40, 40), 80).convert("RGB").save(tmp_path / f"photos/{number}.png")
        lines.append(f"photos/{number}.png,picture {number}")
    (tmp_path / "pairs.csv").write_text("\n".join(lines))
    return tmp_path


def files_in(folder: Path) -> set[str]:
    return {str(one.relative_to(folder)) for one in folder.rglob("*") if one.is_file()}


@pytest.mark.parametrize("name", LEAVES)
def test_without_out_a_function_leaves_what_the_documentation_says(name, work):
    arguments, place = LEAVES[name]
    before = files_in(work)
    getattr(encoderlab, name)(**arguments)
    made = files_in(work) - before
    assert bool(made) == (place is not None)
    assert all(one.startswith(f"{place}/") for one in made), sorted(made)


def test_search_leaves_nothing(work):
    encoderlab.index(source="photos", device="cpu")
    before = files_in(work)
    encoderlab.search(query="a cat", device="cpu")
    assert files_in(work) == before


def test_what_is_left_lies_in_the_folder_that_the_environment_names(work, monkeypatch):
    monkeypatch.setenv("VLM_OUTPUT_DIR", "elsewhere")
    before = files_in(work)
    encoderlab.features(action="extract", target="photos", device="cpu")
    encoderlab.multi_llm(**FEW)
    made = files_in(work) - before
    assert made and all(one.startswith("elsewhere/features/") for one in made)


@pytest.mark.slow
def test_train_and_compress_keep_their_checkpoints(work):
    shape = {"image_size": 16, "patch_size": 8, "vision_width": 64, "vision_layers": 1,
             "text_layers": 1, "num_workers": 0}  # fmt: skip
    before = files_in(work)
    encoderlab.train(train_csv="pairs.csv", epochs=1, batch_size=2, device="cpu", **shape)
    made = files_in(work) - before
    assert made and all(one.startswith("outputs/train/") for one in made)


def quotes_numbers(page: Path) -> bool:
    """Whether a page shows a command that prints numbers of a model."""
    shown = [b.body for b in pages.blocks(page.read_text("utf-8")) if b.language == "console"]
    return any(re.search(r"\d\.\d{3}", body) for body in shown)


@pytest.mark.parametrize("language", ["en", "ko"])
def test_a_page_that_quotes_numbers_says_in_which_format_they_were_computed(language):
    found = [page for page in (pages.ROOT / "docs" / language).glob("*.md") if quotes_numbers(page)]
    assert {"index", "how-to-align", "how-to-compress"} <= {page.stem for page in found}
    for page in found:
        text = page.read_text("utf-8")
        # Chance alone is arithmetic.
        assert page.stem == "how-to-train" or re.search("bfloat16|float32", text), page
