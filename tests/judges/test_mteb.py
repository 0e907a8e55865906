"""mteb judges our encoders: the vectors that it gets, its own check of a model, and the command."""

import json
import shutil
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import transformers
from PIL import Image
from tests.small_models import make_clip

import encoderlab
from encoderlab.cli.main import main
from encoderlab.core.progress import collect_warnings
from encoderlab.encoders.checkpoint import resolve
from encoderlab.encoders.text import load_text
from encoderlab.encoders.vision import load_vision
from encoderlab.errors import MissingError, UsageError
from encoderlab.judges.mteb_model import MtebModel
from encoderlab.models import checkpoint

mteb = pytest.importorskip("mteb")
TEXTS = ["a red circle above a blue square", "a bar chart of three bars", "a table"]
MEAN = "CQADupstackRetrieval"  # of twelve tasks


@pytest.fixture(autouse=True)
def _no_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers takes a process that has imported marimo, as tests of lessons do, for a
    notebook, and imports IPython."""
    monkeypatch.delitem(sys.modules, "marimo", raising=False)


# Both sides of tiny-clip and tiny-siglip share a space; tiny-dinov2 has no text side.
BUNDLED = {"tiny-clip": True, "tiny-siglip": True, "tiny-dinov2": False}


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    sizes = ((90, 120), (200, 96), (64, 64))
    return [Image.fromarray(rng.integers(0, 256, (*s, 3), dtype=np.uint8)) for s in sizes]


@pytest.fixture(scope="module")
def models() -> dict[str, MtebModel]:
    return {name: MtebModel.load(name, "cpu", "float32") for name in BUNDLED}


class Batches(list):
    """What mteb's loader gives: batches, and a data set whose columns its own wrapper reads."""

    def __init__(self, **columns: list[Any]) -> None:
        rows = range(len(next(iter(columns.values()))))
        super().__init__({name: [column[i]] for name, column in columns.items()} for i in rows)
        self.dataset = SimpleNamespace(features=columns)


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] if text else []) for n, text in BUNDLED.items()],
)
def test_mtebs_own_check_of_a_model_passes(name: str, models: dict[str, MtebModel]) -> None:
    result = mteb.mock_run(models[name])
    run = {task: status for task, status in result.items() if status is not None}
    assert result.all_passed
    assert all(type(status).__name__ == "TaskResult" for status in run.values()), run
    assert "MockImageClassification" in run
    assert ("MockAny2AnyRetrievalT2I" in run) is BUNDLED[name]


@pytest.mark.parametrize("name", BUNDLED)
def test_the_vectors_are_the_pooled_ones_of_our_encoders(
    name: str, models: dict[str, MtebModel], images: list[Image.Image]
) -> None:
    own = load_vision(name, "cpu", "float32").encode(images).pooled
    got = models[name].encode(Batches(image=images))
    np.testing.assert_allclose(got, own, atol=1e-6 * float(own.abs().max()))
    if not BUNDLED[name]:
        assert models[name].modalities == ("image",)
        with pytest.raises(UsageError):
            models[name].encode(Batches(text=TEXTS))
        return
    text = load_text(name, "cpu", "float32").encode(TEXTS).pooled
    np.testing.assert_allclose(
        models[name].encode(Batches(text=TEXTS)), text, atol=1e-6 * float(text.abs().max())
    )
    both = models[name].encode(Batches(image=images, text=TEXTS))
    np.testing.assert_allclose(both, own + text, atol=1e-5 * float(own.abs().max()))


def test_a_clip_gives_what_mtebs_own_wrapper_gives(
    tmp_path: Path, images: list[Image.Image]
) -> None:
    from mteb.models.model_implementations.clip_models import CLIPModel

    # Their wrapper computes in the number format of the file, which is fp16 in the bundled model.
    folder = str(shutil.copytree(resolve("tiny-clip").path, tmp_path / "clip"))
    transformers.CLIPModel.from_pretrained(folder, dtype="float32").save_pretrained(folder)
    ours, theirs = MtebModel.load(folder, "cpu", "float32"), CLIPModel(folder, None, device="cpu")
    task: dict[str, Any] = {"task_metadata": None, "hf_split": "test", "hf_subset": "default"}
    for batches in (Batches(image=images), Batches(text=TEXTS), Batches(image=images, text=TEXTS)):
        want = theirs.encode(batches, **task, show_progress_bar=False).numpy()
        np.testing.assert_allclose(ours.encode(batches, **task), want, atol=1e-4)


def test_a_language_model_is_judged_by_texts() -> None:
    model = MtebModel.load("tiny-llama", "cpu", "float32")
    want = load_text("tiny-llama", "cpu", "float32").encode(TEXTS).pooled
    assert model.modalities == ("text",)
    np.testing.assert_allclose(model.encode(Batches(text=TEXTS)), want, atol=1e-5)


def test_a_training_run_is_judged_by_both_sides(tmp_path: Path, images: list[Image.Image]) -> None:
    clip = make_clip()
    clip.save_pretrained(tmp_path / "export")
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    record = {"model": checkpoint.describe(clip), "weights": clip.state_dict(), "step": 3}
    checkpoint.write(tmp_path / "run/checkpoints/best.ckpt", {**record, "average": None})
    run = MtebModel.load(str(tmp_path / "run"), "cpu", "float32")
    export = MtebModel.load(str(tmp_path / "export"), "cpu", "float32")
    for batches in (Batches(image=images), Batches(text=["a table", "a blue star"])):
        np.testing.assert_allclose(run.encode(batches), export.encode(batches), atol=1e-5)


def test_untrained_images_are_other_images(images: list[Image.Image]) -> None:
    model = MtebModel.load("untrained:tiny-clip", "cpu", "float32")
    trained = MtebModel.load("tiny-clip", "cpu", "float32")
    assert model.modalities == ("image",)
    assert model.mteb_model_meta.revision != trained.mteb_model_meta.revision
    other = model.encode(Batches(image=images)) - trained.encode(Batches(image=images))
    assert np.abs(other).max() > 0.1


def test_texts_that_are_cut_are_warned_of(models: dict[str, MtebModel]) -> None:
    with collect_warnings() as warned:
        models["tiny-clip"].encode(Batches(text=["a red circle " * 200, "a table"]))
    assert any("1 of 2 texts" in text for text in warned)


def test_the_command_keeps_scores_and_mtebs_own_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["judge", "mteb", "--model", "tiny-dinov2", "--tasks", "mock", "--device", "cpu"]
    words += ["--dtype", "float32", "--output-dir", str(tmp_path), "--json", "--quiet"]
    assert main(words) == 0
    printed = json.loads(capsys.readouterr().out)
    assert json.loads((tmp_path / "run.json").read_text())["result"] == printed
    assert printed["modalities"] == ["image"] and printed["mteb"] == version("mteb")
    scores = {score["task"]: score for score in printed["scores"]}
    assert scores["MockVisualSTS"]["score"] is None  # of a constant: undefined, not NaN
    files = {path.stem: path for path in Path(printed["results"]).glob("results/*/*/Mock*.json")}
    assert set(files) == set(scores)
    theirs = json.loads(files["MockImageClassification"].read_text())
    (split,) = theirs["scores"]["test"]
    ours = scores["MockImageClassification"]
    assert ours["metric"] == "accuracy" and ours["score"] == pytest.approx(split["main_score"])


def test_scores_of_the_same_folder_are_not_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"model": "tiny-dinov2", "tasks": ["mock"], "device": "cpu"}
    first = encoderlab.judge_mteb(**given, dtype="float32", out=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(MtebModel, "encode", None)
        again = encoderlab.judge_mteb(**given, dtype="float32", out=tmp_path)
        assert again.scores == first.scores
        # Another number format gives other vectors.
        with pytest.raises(TypeError):
            encoderlab.judge_mteb(**given, dtype="bfloat16", out=tmp_path)


def test_the_tasks_of_a_mean_are_loaded_one_by_one(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--model", "tiny-llama", "--tasks", MEAN]
    assert main(["judge", "mteb", "--device", "cpu", *words]) == 3
    said = capsys.readouterr().err
    (first, *_) = mteb.get_task(MEAN).tasks
    assert f"the task {first.metadata.name} cannot be loaded" in said


def test_mistakes_end_in_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    for words, code, text in (
        ([], 2, "no task"),
        (["--tasks", "CIFAR1O"], 2, "'CIFAR10'"),
        (["--tasks", "CIFAR10ZeroShot", "--model", "tiny-dinov2"], 2, "needs text"),
        (["--tasks", "CIFAR10", "--model", "tiny-llama"], 2, "needs image"),
        (["--tasks", "CIFAR10"], 3, "CIFAR10 cannot be loaded"),  # tests have no network
    ):
        assert main(["judge", "mteb", "--device", "cpu", *words]) == code
        said = capsys.readouterr().err
        assert text in said and "Traceback" not in said


def test_without_mteb_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mteb", None)
    with pytest.raises(MissingError) as caught:
        encoderlab.judge_mteb(tasks=["mock"])
    assert "encoderlab[judges]" in str(caught.value)


def test_mteb_needs_no_torchvision() -> None:
    assert find_spec("torchvision") is None
