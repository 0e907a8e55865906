"""`--model` wherever a model is meant, and one answer everywhere to a GPU that is not there."""

import json

import pytest
import torch

from encoderlab.core.commands import COMMANDS
from encoderlab.core.settings import iter_settings


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["--model", "tiny-dinov2"], "tiny-dinov2"),
        (["--model=clip_vit_large_patch14"], "openai/clip-vit-large-patch14"),
        (["model=clip_vit_large_patch14"], "openai/clip-vit-large-patch14"),
        (["model=owner/name@main"], "owner/name@main"),
        (["model=my folder, 1"], "my folder, 1"),
        (["model.name=tiny-siglip"], "tiny-siglip"),
    ],
)
def test_a_model_is_named_by_flag_or_by_key(settings, words, name):
    assert settings("tokens", *words)["model"] == {"name": name}


def test_a_sweep_takes_models_with_and_without_a_file(lab):
    answer = lab("tokens", "-m", "model=clip,dinov2", "--show-config", "--json")
    assert [json.loads(line)["settings"]["model"]["name"] for line in answer.out.splitlines()] == [
        "clip", "dinov2",
    ]  # fmt: skip
    answer = lab("tokens", "-m", "model=clip,owner/name", "--show-config", "--json")
    assert [json.loads(line)["settings"]["model"]["name"] for line in answer.out.splitlines()] == [
        "clip", "owner/name",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "command", ["compress", "evaluate", "classify", "index", "search", "export"]
)
@pytest.mark.parametrize("form", ["--model {}", "model={}"])
def test_flag_and_key_name_the_model_of_every_command(settings, command, form):
    given = settings(command, *form.format("tiny-dinov2").split())["model"]
    assert (given["name"] if command == "compress" else given) == "tiny-dinov2"


def test_commands_of_one_model_call_it_model():
    names = {
        one.key
        for command in COMMANDS.values()
        if command.name != "vlm train"  # makes a model of an --encoder and an --llm
        for one in iter_settings(command.settings)
        if one.names == "encoders" and not one.many
    }
    assert names == {"model", "model.name"}
    assert all(
        "--model" in one.flags
        for command in COMMANDS.values()
        for one in iter_settings(command.settings)
        if one.key in names
    )


def _words(world):
    """What else a command needs before it asks for a device."""
    csv, scores = str(world / "captions.csv"), world / "scores.csv"
    scores.write_text("encoder,benchmark,score\ntiny-clip,mmb,1\n", encoding="utf-8")
    return {
        "train": ["--train-csv", csv],
        "evaluate": ["--csv", csv],
        "classify": ["--image-dir", str(world / "images"), "--classes", "a,b"],
        "stream": [csv],
        "index": [str(world / "images")],
        "search": ["a dog", "--db", "index"],
        "features": ["extract", str(world / "images")],
        "app": ["--port", "0"],
        "validate": ["--compute", "--scores", str(scores)],
        "judge mteb": ["--tasks", "mock"],
        "vlm answer": [str(world / "images" / "none.png"), "--text", "What?"],
    }


def _with_a_device():
    return [
        name
        for name, command in COMMANDS.items()
        if any(one.flags[:1] == ("--device",) for one in iter_settings(command.settings))
    ]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("name", _with_a_device())
def test_a_gpu_that_is_not_there_is_refused_by_every_command(name, lab, world):
    if name == "search":
        assert lab("index", str(world / "images"), "--db", "index", "--device", "cpu").code == 0
    answer = lab(*name.split(), *_words(world).get(name, []), "--device", "cuda:1")
    assert answer.code == 3, answer.err
    assert answer.err.splitlines()[-3:] == [
        "encoderlab: error: the GPU that was asked for is not there",
        "  got:       'cuda:1'",
        "  expected:  cpu: no CUDA device was found",
    ]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize(
    "words",
    [
        ("tokens", "device=1"),
        ("tokens", "--multirun", "device=0,1,2"),
        ("compress", "--cuda-device", "0"),
    ],
)
def test_however_it_is_asked_for_there_is_one_answer(lab, words):
    answer = lab(*words)
    assert answer.code == 3
    assert answer.err.count("the GPU that was asked for is not there") == 1
    assert "Traceback" not in answer.err and answer.out == ""
