"""Every command line that people know parses, text is literal, and flags are keys."""

import json
import shlex
import sys
from pathlib import Path

import hydra
import pytest
import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins

from encoderlab.core.commands import COMMANDS
from encoderlab.core.settings import iter_settings

LINES = (Path(__file__).parent / "commands.txt").read_text(encoding="utf-8").splitlines()
DESIGNED = [
    "tokens image.path=cat.jpg model=clip_vit_large_patch14_336 device=1 "
    "similarity.metric=dot_product visualization.cmap=hot output.dir=my_results",
    "tokens --multirun image.path=a.jpg,b.jpg,c.jpg",
    "compress model.compressor.output_grid_size=8 training.batch_size=16 hardware.cuda_device=0 "
    "data.imagenet_root=PATH",
    "train --epochs 10 --batch-size 64 --lr 1e-4 --vision-width 768 --vision-layers 12 "
    "--text-width 512 --embed-dim 512",
    'classify --image-dir photos --classes "cat,dog,car"',
    "evaluate --csv data/train.csv --img-root data/images",
    "train --train-csv a.csv --val-csv b.csv --img-root images --image-encoder resnet "
    "--context-length 32 --vocab-size 4000 --wd 0.2 --num-workers 2 --seed 3",
    'attention --image PATH --text "What is shown in this chart?"',
    "index photos/",
    'search "A dog is sleeping" -k 3',
    "search --image a.jpg --where \"caption LIKE '%dog%'\" --html gallery.html",
    "ls encoders",
    "doctor",
    "doctor tiny-clip",
    "rerun outputs/evaluate",
    "features",
    "app",
]
TEXTS = [
    "What is shown in this chart?", "cat,dog,car", "a=b", "이 차트에서 가장 높은 값은?",
    "it's 5\" wide", "path (paren) [x] {y}", "${oops}", "${oc.env:HOME}", "trailing\\",
    "a photo of a {}.", "null", "3", "a\\'b", "n_samples=3", "hydra.run.dir=x", "", " ", "\\${x}",
    "-1", "true", "\n", "日本語、中文", "'", "\\\\'", "~x", "a:b", "#x", "%d", "[1,2]", "-",
]  # fmt: skip


@pytest.mark.parametrize("line", LINES + DESIGNED)
def test_line_composes(line, lab, tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/my_config.yaml").write_text(
        "defaults:\n  - config\n  - _self_\nimage: {path: my_special_image.jpg}\ndevice: 0\n"
    )
    words = shlex.split(line)
    answer = lab(*words, "--show-config", "--json")
    assert answer.code == 0, answer.err
    jobs = [json.loads(row) for row in answer.out.splitlines()]
    assert jobs and all(job["command"] == words[0] for job in jobs)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["configs"]


@pytest.mark.parametrize("text", TEXTS)
def test_text_behind_a_flag_is_taken_literally_with_a_sign_and_without(text, settings):
    found = settings("attention", f"--text={text}", "--image", text)
    assert (found["text"], found["image"]) == (text, text)


@pytest.mark.parametrize("text", ["A dog is sleeping", "두 개의 빨간 원", "it's", "a,b", "${x}"])
def test_bare_words_are_taken_literally(text, settings):
    assert settings("search", text)["query"] == text


@pytest.mark.parametrize("text", TEXTS)
def test_texts_in_lists_are_taken_literally(text, settings):
    given = settings("classify", "--templates", "a {}", f"--templates={text}")["templates"]
    assert given == [text]


def test_flag_and_key_say_the_same(settings):
    by_flag = settings("coral", "--encoders", "clip", "siglip", "--n-samples", "3")
    assert by_flag == settings("coral", "encoders=[clip,siglip]", "n_samples=3")


def test_flags_and_keys_mix_and_the_last_one_wins(settings):
    mixed = settings(
        "coral",
        "--encoders",
        "clip",
        "siglip",
        "n_samples=3",
        "--device",
        "cpu",
        "--n-samples",
        "4",
    )
    assert (mixed["encoders"], mixed["n_samples"]) == (["clip", "siglip"], 4)
    assert mixed["device"] == "cpu"


def test_sweep_makes_one_configuration_per_combination(lab):
    answer = lab(
        "coral", "-m", "n_samples=3,30", "seed=1,2", "--encoders", "clip", "--show-config", "--json"
    )
    jobs = [json.loads(row)["settings"] for row in answer.out.splitlines()]
    assert [(job["n_samples"], job["seed"]) for job in jobs] == [(3, 1), (3, 2), (30, 1), (30, 2)]


def test_a_comma_in_a_text_key_is_a_comma_without_a_sweep(settings):
    assert settings("classify", "classes=cat,dog")["classes"] == "cat,dog"


def test_switches_go_on_and_off(settings):
    assert settings("train", "--no-multi-positive")["multi_positive"] is False
    assert settings("train", "--grad-checkpointing")["grad_checkpointing"] is True
    assert settings("train", "--grad-checkpointing", "false")["grad_checkpointing"] is False


def test_other_names_of_a_setting_work_as_flag_and_key(settings):
    assert settings("train", "--csv", "a.csv")["train_csv"] == "a.csv"
    assert settings("train", "csv=b.csv")["train_csv"] == "b.csv"


def test_group_choice_fills_in_the_model(settings):
    model = settings("tokens", "model=clip_vit_large_patch14_336")["model"]
    assert model["name"] == "openai/clip-vit-large-patch14-336"


def test_own_configuration_is_found_in_the_named_folder(settings, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "quick.yaml").write_text("epochs: 1\n")
    given = settings("train", "--config-dir", "mine", "--config-name=quick", "--lr", "0.1")
    assert (given["epochs"], given["lr"], given["batch_size"]) == (1, 0.1, 64)


def test_own_configuration_can_be_swept(lab, tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "quick.yaml").write_text("batch_size: 8\n")
    answer = lab("train", "--config-name", "quick", "-m", "epochs=1,2", "--show-config", "--json")
    jobs = [json.loads(row)["settings"] for row in answer.out.splitlines()]
    assert [(job["epochs"], job["batch_size"]) for job in jobs] == [(1, 8), (2, 8)]


def test_own_configuration_with_an_unknown_key_is_refused(lab, tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "wrong.yaml").write_text("epoch: 1\n")
    answer = lab("train", "--config-name", "wrong")
    assert answer.code == 2 and "Did you mean `epochs`?" in answer.err


def test_output_folder_follows_the_environment_unless_it_is_named(settings, monkeypatch):
    monkeypatch.setenv("VLM_OUTPUT_DIR", "/elsewhere")
    assert settings("train")["output_dir"] == "/elsewhere/train"
    assert settings("train", "--output-dir", "here")["output_dir"] == "here"


@pytest.mark.parametrize(
    ("words", "there", "not_there"),
    [
        (["--cfg", "job"], {"epochs", "output_dir"}, {"hydra"}),
        (["--cfg", "hydra"], {"hydra"}, {"epochs"}),
        (["--cfg=all", "seed=3"], {"hydra", "epochs"}, set()),
        (["--info", "defaults"], {"hydra/launcher"}, {"epochs"}),
    ],
)
def test_cfg_and_info_show_hydras_view(words, there, not_there, lab, tmp_path):
    answer = lab("train", *words)
    shown = yaml.safe_load(answer.out)
    assert answer.code == 0 and there <= set(shown) and not not_there & set(shown)
    assert not list(tmp_path.iterdir())


def test_hydra_is_left_as_it_was(lab):
    def state():
        plugins = dict(vars(Plugins.instance()))
        return list(sys.argv), hydra.utils.instantiate, plugins, HydraConfig.initialized()

    lab("ls", "--show-config")
    before = state()
    assert lab("ls", "what=llms").code == 0
    assert lab("ls", "-m", "what=llms,metrics").code == 0
    assert state() == before and not GlobalHydra.instance().is_initialized()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_default_survives_composition(name, settings):
    given = settings(name)
    for setting in iter_settings(COMMANDS[name].settings):
        value = given
        for part in setting.key.split("."):
            value = value[part]
        assert value == setting.default or setting.key in ("json", "model.name"), setting.key
