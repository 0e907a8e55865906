"""`encoderlab compress` as it is typed: training from a folder, resuming, measuring, mistakes."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import encoderlab
from encoderlab import Compressor
from encoderlab.compression.compress import _learnt
from encoderlab.compression.settings import CompressLoss, CompressTraining
from encoderlab.compression.token_set import TokenSet
from encoderlab.data.decode import open_image
from encoderlab.data.synthetic import generate
from encoderlab.encoders.vision import load_vision
from encoderlab.errors import UsageError
from encoderlab.patch_tokens.pooling import AveragePooling

NETWORK = ("model.compressor.width=16", "training.batch_size=8", "--grid", "4")
SMALL = (*NETWORK, "training.n_critic=1", "loss.distribution=wgan")


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Photographs of two classes, one of them broken."""
    root = tmp_path_factory.mktemp("photos")
    for i in range(48):
        place = root / ("cat" if i % 2 else "dog")
        place.mkdir(exist_ok=True)
        generate(5 * i).image.resize((130, 100)).save(place / f"{i}.jpg", quality=90)
    (root / "cat" / "broken.jpg").write_bytes(b"no image")
    return root


@pytest.fixture(scope="module")
def trained(photos, tmp_path_factory) -> Path:
    """The folder of a finished run."""
    from encoderlab.cli.main import main

    folder = tmp_path_factory.mktemp("run")
    words = ["compress", "training.epochs=1", *SMALL, "--images", str(photos)]
    assert (
        main([*words, "--output-dir", str(folder / "out"), "--store", str(folder / "store")]) == 0
    )
    return folder


def test_one_epoch_on_a_folder_of_photographs_runs_end_to_end(trained):
    out = trained / "out"
    for name in ("config.yaml", "run.json", "curves.png", "compressor/config.json",
                 "compressor/model.safetensors", "checkpoints/checkpoint_epoch_1.pt",
                 "checkpoints/best_model.pt", "checkpoints/latest.pt"):  # fmt: skip
        assert (out / name).is_file(), name
    assert list((trained / "store").glob("*/key.json"))
    compressor = Compressor.from_pretrained(out)
    assert compressor.budgets == ((4, 4),)
    assert compressor.about["encoder"] == "tiny-clip"
    assert compressor.about["layer"] == 3


def test_the_answer_names_the_bounds_and_what_to_do_next(trained, photos, lab):
    answer = lab("compress", "training.epochs=1", *SMALL, "--images", str(photos),
                 "--store", str(trained / "store"))  # fmt: skip
    assert answer.code == 0, answer.err
    assert "extracting" not in answer.err  # the tokens are read from the store
    for words in ("normalised error", "average pooling", "block-PCA", "two draws of real tokens",
                  "1 image left out, the first: cat/broken.jpg", "compress evaluate"):  # fmt: skip
        assert words in answer.out, words


def test_measured_beside_every_method(trained, photos, lab, tmp_path):
    answer = lab(
        "compress", "evaluate", "--images", str(photos), "--grids", "4", "--compressors",
        str(trained / "out"), "--methods", "average", "random", "block_pca", "--n-samples", "30",
        "evaluation.parts=[reinjection,loyalty]", f"evaluation.fit_images=[{photos}]", "--json",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    found = answer.json
    rows = {row["method"]: row for row in found["rows"]}
    assert list(rows) == [
        "trained",
        "average",
        "random",
        "block_pca",
        "smaller_image",
        "pixel_shuffle",
    ]
    assert rows["average"]["training_free"] and not rows["block_pca"]["training_free"]
    assert set(rows["average"]["kept"]) == {
        "zero_shot", "embedding", "zero_shot_hard", "embedding_hard",
    }  # fmt: skip
    tasks = {one["task"] for one in found["verdicts"]}
    assert "embedding" in tasks
    assert found["costs"]["budgets"][0]["visual_tokens"] == 144
    folder = tmp_path / "outputs/compress/evaluate"  # beside, not over, a training run
    for name in ("run.json", "pareto.png", "two_axes.png", "tokens.png", "loss_map.png"):
        assert (folder / name).is_file(), name


@pytest.mark.parametrize("cache", ["int8", "off"])
def test_tokens_in_a_byte_or_not_kept_at_all(cache, photos, lab, tmp_path):
    answer = lab("compress", "training.epochs=1", *NETWORK, "--images", str(photos), "--cache",
                 cache, "training.wgan_weight=0", "--json")  # fmt: skip
    assert answer.code == 0, answer.err
    tables = list((tmp_path / "outputs/features").glob("*/key.json"))
    if cache == "off":
        assert not tables and answer.json["int8_error"] is None
    else:
        assert tables and 0 < answer.json["int8_error"] < 1e-3
    assert answer.json["validation"]["nmse"] <= answer.json["bounds"]["average"] + 1e-6


def test_the_layout_of_imagenet(photos, lab, tmp_path):
    root = tmp_path / "imagenet"
    for split in ("train", "val"):
        (root / split).mkdir(parents=True)
        for name in ("cat", "dog"):
            shutil.copytree(photos / name, root / split / name)
    answer = lab("compress", "training.epochs=1", *NETWORK, f"data.imagenet_root={root}", "--json",
                 "training.wgan_weight=0")  # fmt: skip
    assert answer.code == 0, answer.err
    assert (answer.json["train_images"], answer.json["val_images"]) == (48, 48)


def test_nested_budgets_in_one_network(photos, lab, tmp_path):
    answer = lab("compress", "training.epochs=1", *NETWORK, "model.compressor.nested=[3,5]",
                 "--json", "--images", str(photos),
                 "--distribution", "sliced_wasserstein")  # fmt: skip
    assert answer.code == 0, answer.err
    assert Compressor.from_pretrained(tmp_path / "outputs/compress").budgets == (
        (4, 4), (3, 3), (5, 5),
    )  # fmt: skip


@pytest.mark.slow
def test_two_processes_share_a_batch(photos, trained, lab, tmp_path):
    words = [
        "compress", "training.epochs=1", *NETWORK, "--images", str(photos), "--device", "cpu",
        "--store", str(trained / "store"), "training.wgan_weight=0",
    ]  # fmt: skip
    two = [*words, "hardware.devices=2", "--output-dir", str(tmp_path / "two")]
    done = subprocess.run(
        [sys.executable, "-m", "encoderlab", *two], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert lab(*words, "--output-dir", str(tmp_path / "one")).code == 0
    ours, theirs = (
        Compressor.from_pretrained(tmp_path / name).model.state_dict() for name in ("one", "two")
    )
    for name, value in ours.items():
        assert torch.allclose(value, theirs[name], atol=2e-3), name


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--images", "PHOTOS", "--grid", "13"], 2, "13 x 13 of 12 x 12"),
        (["--images", "nowhere"], 3, "no such data"),
        (["--images", "PHOTOS", "data.imagenet_root=x"], 2, "two sources of images"),
        (["--images", "PHOTOS", "--batch-size", "99"], 2, "the batch is larger than the data"),
        (["--images", "PHOTOS", "--resume", "x"], 3, "nothing to resume from"),
        (["--images", "PHOTOS", "--layer", "9"], 2, "layer"),
        (["--distribution", "gan"], 2, "unknown value for --distribution"),
        (["evaluate", "--methods", "averge"], 2, "Did you mean 'average'"),
        (["evaluate", "--compressors", "nothing"], 3, "no such compressor"),
        (["evaluate", "--llm", "nobody"], 3, "no such LLM for the computation of cost"),
        (["evaluate", "--images", "FEW"], 2, "too few readable images"),
        (["evaluat"], 2, "Did you mean 'evaluate'"),
        (["show", "--image", "no.png"], 3, "no such image"),
        (["show", "--image", "text.png"], 2, "the image cannot be read"),
        (["show", "--image", "."], 2, "one image is shown at a time"),
        (["show", "--methods", "block_pca"], 2, "one image is not enough to fit this method on"),
        (["show", "--grids", "13"], 2, "13"),
    ],
)
def test_mistakes_get_one_sentence(words, code, said, photos, lab, tmp_path):
    few = tmp_path / "few"
    few.mkdir()
    for i in range(3):
        Image.fromarray(np.full((20, 20, 3), i, np.uint8)).save(few / f"{i}.png")
    for name in ("text.png", "other.png"):
        (tmp_path / name).write_text("no image")
    named = {"PHOTOS": str(photos), "FEW": str(few)}
    found = lab("compress", *[named.get(word, word) for word in words])
    assert found.code == code, found.err
    assert said in found.err
    assert "Traceback" not in found.err


def test_a_compressor_of_another_layer_is_refused(trained, photos, lab):
    answer = lab("compress", "evaluate", "--compressors", str(trained / "out"), "--layer", "2",
                 "--images", str(photos))  # fmt: skip
    assert answer.code == 2
    assert "trained on other tokens" in answer.err
    assert "tiny-clip, layer 2" in answer.err


def test_tokens_that_would_not_fit_are_not_begun(photos, lab, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 9, 100_000))
    answer = lab("compress", "training.epochs=1", *SMALL, "--images", str(photos))
    assert answer.code == 1
    assert "would not fit on the disk" in answer.err
    assert "--cache int8 takes about half" in answer.err
    assert not (tmp_path / "outputs/features").exists()


def test_show_compares_methods_on_one_image(lab, tmp_path):
    generate(0, split="test").image.save(tmp_path / "one.png")
    answer = lab("compress", "show", "--image", "one.png", "--grids", "4", "3", "--dtype",
                 "float32", "--json")  # fmt: skip
    assert answer.code == 0, answer.err
    rows = {(row["method"], row["tokens"]): row for row in answer.json["rows"]}
    methods = {name for name, _ in rows}
    assert methods == {"trained", "average", "cls_attention", "kmeans", "tome"}
    tokens = TokenSet.of(
        load_vision("tiny-clip", "cpu", "float32"), [open_image(tmp_path / "one.png")], 3
    ).tokens
    pool = AveragePooling()
    rebuilt = pool.decode(pool.compress(tokens, (12, 12), (4, 4)), (12, 12))
    mean = tokens.mean(dim=1, keepdim=True)
    expected = torch.sum((rebuilt - tokens) ** 2) / torch.sum((tokens - mean) ** 2)
    assert rows["average", 16]["nmse"] == pytest.approx(float(expected), rel=1e-5)
    assert rows["trained", 16]["nmse"] < rows["average", 16]["nmse"]
    folder = tmp_path / "outputs/compress/show"
    assert {one.name for one in folder.glob("*.png")} == {
        "tokens_4x4.png", "tokens_3x3.png", "loss_map.png"
    }  # fmt: skip


def test_show_shows_what_is_named(lab, tmp_path):
    generate(0, split="test").image.save(tmp_path / "one.png")

    def shown(*words):
        answer = lab(
            "compress", "show", "--image", "one.png", "--dtype", "float32", "--json", *words
        )
        assert answer.code == 0, answer.err
        return [row["method"] for row in answer.json["rows"]], answer.json["refused"]

    assert shown("--grids", "4", "--methods", "tome") == (["tome"], {})
    four = ("--compressors", "tiny-clip-12to4")
    assert shown("--grids", "4", *four) == (["trained"], {})
    assert shown("--grids", "4", *four, "--methods", "tome")[0] == ["trained", "tome"]
    rows, refused = shown("--grids", "5", *four)
    assert rows == [] and "5 x 5" in refused["trained, 5 x 5"]


AVERAGE, PCA = "average pooling", "block-PCA"


@pytest.mark.parametrize(
    ("began", "start"),
    [
        ({(5, 5): AVERAGE}, "(average pooling for 5 x 5)"),
        ({(6, 6): PCA, (5, 5): AVERAGE}, "(block-PCA for 6 x 6, average pooling for 5 x 5)"),
    ],
)
def test_a_training_that_taught_nothing_says_so(began, start):
    (said,) = _learnt(0, 83, 10, began)
    assert f"no epoch was better than the start {start}" in said and "83 images in 10 steps" in said
    assert _learnt(3, 83, 10, began) == ()


def test_the_start_that_nothing_was_better_than_is_the_one_there_was(photos, lab):
    answer = lab("compress", "training.epochs=1", *NETWORK, "--grid", "5", "--images", str(photos),
                 "--lr", "1", "--json")  # fmt: skip
    assert answer.code == 0, answer.err
    assert answer.json["best_epoch"] == 0
    assert any("the start (average pooling for 5 x 5)" in one for one in answer.json["warnings"])


@pytest.mark.parametrize(
    ("words", "setting"),
    [
        (["training.lambda_gp=20"], "training.lambda_gp"),
        (["training.n_critic=5"], "training.n_critic"),  # its default, but typed
        (["training.critic_lr=1", "--distribution", "mmd"], "training.critic_lr"),
        (["training.wgan_weight=2", "--distribution", "none"], "training.wgan_weight"),
        (["--distribution", "wgan", "training.wgan_weight=0"], "loss.distribution"),
        (["training.balance=false", "training.ae_weight=0"], "training.balance"),
        (["data.n_samples=40", "--images", "photos"], "data.n_samples"),
        (["data.img_root=photos"], "data.img_root"),
        (["--cache", "off", "--store", "x"], "data.store"),
        (["experiment.wandb_project=x"], "experiment.wandb_project"),
        (["--device", "cpu", "--cuda-device", "1"], "hardware.cuda_device"),
        (["--n-samples", "40"], "evaluation.n_samples"),
        (["evaluate", "--grid", "4"], "model.compressor.output_grid_size"),
        (["evaluate", "--epochs", "4"], "training.epochs"),
        (["show", "--images", "photos"], "data.images"),
        (["show", "--llm", "qwen"], "evaluation.llm"),
    ],
)
def test_a_setting_without_effect_is_refused(words, setting, lab):
    answer = lab("compress", *words)
    assert answer.code == 2, answer.err
    assert "has no effect" in answer.err and f"'{setting}=" in answer.err


def test_a_setting_without_effect_is_refused_in_python():
    with pytest.raises(UsageError, match=r"lambda_gp has no effect.*loss.distribution=mmd"):
        encoderlab.compress(
            training=CompressTraining(lambda_gp=20), loss=CompressLoss(distribution="mmd")
        )
