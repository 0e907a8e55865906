"""Every command that loads a model can load one with code of its own, and every command that loads
an LLM can quantise and spread it; neither happens unless it was asked for."""

import json
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from tests.small_checkpoints import save_own_text, save_own_vision

import encoderlab
from encoderlab import alignment
from encoderlab.core.commands import COMMANDS
from encoderlab.core.settings import iter_settings
from encoderlab.encoders import dual, text, vision
from encoderlab.encoders.load_spec import LoadOptions, options_of
from encoderlab.encoders.vision import load_vision
from encoderlab.errors import UsageError

TRUST = "--trust-remote-code"
# Why a command has no such setting. A new command has it, or is named here.
LOADS_NO_CHECKPOINT = {
    "train": "starts from random weights",
    "draw": "draws pictures",
    "ls": "lists names",
    "doctor": "loads the bundled models only",
    "figures": "draws stored results again",
    "app": "visitors must not run code",
}
LOADS_NO_LLM = {"compress": "reads the LLM's configuration only", "app": "a server's choice",
                "vlm train": "trains it"}  # fmt: skip
ALIGNMENT = [
    name
    for name, row in COMMANDS.items()
    if name not in LOADS_NO_LLM and any(one.names == "llms" for one in iter_settings(row.settings))
]
FEW = ("--n-samples", "2", "--device", "cpu")


@pytest.fixture(scope="module")
def own_vision(tmp_path_factory):
    return str(save_own_vision(tmp_path_factory.mktemp("own_vision")))


@pytest.fixture(scope="module")
def own_llm(tmp_path_factory):
    return str(save_own_text(tmp_path_factory.mktemp("own_llm")))


@pytest.fixture
def here(lab, tmp_path):
    """A folder with thirty images, and a CSV of pairs."""
    (tmp_path / "photos").mkdir()
    lines = ["image_path,caption"]
    for number in range(30):
        Image.effect_noise((40, 40), 80).convert("RGB").save(tmp_path / f"photos/{number}.png")
        lines.append(f"photos/{number}.png,picture {number}")
    (tmp_path / "pairs.csv").write_text("\n".join(lines))
    (tmp_path / "scores.csv").write_text("encoder,benchmark,score\ntiny-clip,mmb,1\n")
    return lab


def settings_of(command):
    return {one.key: one for one in iter_settings(COMMANDS[command].settings)}


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in LOADS_NO_CHECKPOINT])
def test_a_command_that_loads_a_model_has_the_setting_and_it_is_off(command):
    assert settings_of(command)["trust_remote_code"].default is False
    assert settings_of(command)["trust_remote_code"].flags == (TRUST,)


def test_the_alignment_commands_are_those_that_load_an_llm():
    assert len(ALIGNMENT) >= 9
    for command in ALIGNMENT:
        offered = settings_of(command)
        assert offered["quantize"].choices == ("8bit", "4bit")
        assert offered["quantize"].default is None and offered["device_map"].default is None


# {vision} and {llm} stand for checkpoints with code of their own.
LINES = {
    "coral": "coral --encoders tiny-clip --llms {llm} --n-samples 2 --device cpu",
    "tokens": "tokens --model {vision} --image photos/0.png --device cpu output.dpi=40 "
    "visualization.figsize=[6,5] visualization.save_individual=false",
    "compare": "compare --encoders {vision} --llms tiny-llama --n-samples 2 --projectors "
    "--epochs 2 --device cpu",
    "multi-llm --controls": "multi-llm --encoders {vision} --llms tiny-llama --n-samples 2 "
    "--controls --device cpu",
    "layers": "layers --encoders {vision} --llms tiny-llama --n-samples 2 --device cpu",
    "stream": "stream pairs.csv --encoders {vision} --llms tiny-llama --device cpu",
    "attention": "attention --encoders {vision} --image photos/0.png --text w1 --device cpu",
    "speed": "speed --encoders {vision} --batch-sizes 1 --device cpu",
    "features": "features extract photos --encoders {vision} --device cpu",
    "compress": "compress --model {vision} --layer -1 --grid 2 --epochs 1 --device cpu "
    "data.n_samples=30 --batch-size 8",
    "compress show": "compress show --model {vision} --layer -1 --grids 2 --image photos/0.png "
    "--methods average smaller_image --device cpu",
    "compress evaluate": "compress evaluate --model {vision} --layer -1 --grids 2 --n-samples 20 "
    "--methods average smaller_image evaluation.parts=[loyalty] evaluation.n_fit=20 --device cpu",
}


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_a_model_with_code_of_its_own_is_refused_and_works_when_trusted(
    line, here, own_vision, own_llm
):
    words = line.format(vision=own_vision, llm=own_llm).split()
    refused = here(*words)
    assert refused.code == 2 and TRUST in refused.err, refused.err
    trusted = here(*words, TRUST)
    assert trusted.code == 0, trusted.err


@pytest.mark.parametrize(
    ("line", "loads"),
    [
        ("classify --image-dir photos --classes cat,dog", (dual, "load_dual")),
        ("evaluate --csv pairs.csv", (dual, "load_dual")),
        ("index photos --db other", (dual, "load_dual")),
        ("search cat", (dual, "load_dual")),
        ("all --encoders tiny-clip --llms tiny-llama --n-samples 2", (vision, "load_vision")),
    ],
)
def test_a_command_hands_the_setting_on(line, loads, here, monkeypatch):
    if line == "search cat":
        assert here("index", "photos", "--device", "cpu").code == 0
    asked = []

    def load(name, *where, trust_remote_code, **more):
        asked.append(trust_remote_code)
        raise UsageError("loaded")

    monkeypatch.setattr(*loads, load)
    here(*line.split())
    here(*line.split(), TRUST)
    assert asked == [False, True]  # an index of a trusted model does not trust it by itself


@pytest.mark.parametrize("trust", [False, True])
def test_all_hands_the_setting_on_to_the_parts_that_load_models_again(trust, monkeypatch):
    part = SimpleNamespace(warnings=(), answer="")
    vision = {"clip": SimpleNamespace(layers={1: None})}
    aligned = SimpleNamespace(images=(), texts=(), n=9, facts=dict, vision=vision)
    monkeypatch.setattr(alignment.all, "extract_features", lambda settings, **_: aligned)
    for name in ("compare", "multi_llm", "coral", "elas", "e2e", "layers", "embedding"):
        monkeypatch.setattr(f"encoderlab.alignment.{name}.analyse", lambda *_, **__: part)
    handed = []
    for name in ("attention", "speed"):
        monkeypatch.setattr(
            f"encoderlab.alignment.{name}.run",
            lambda *, trust_remote_code, **_: handed.append(trust_remote_code) or part,
        )
    encoderlab.report(trust_remote_code=trust)
    assert handed == [trust, trust]


def test_a_repeated_run_is_not_trusted_because_the_first_was(here, own_vision):
    words = ("layers", "--encoders", own_vision, "--llms", "tiny-llama", *FEW)
    assert here(*words, TRUST).code == 0
    refused = here("rerun", "outputs/layers")
    assert refused.code == 2 and TRUST in refused.err
    assert here("rerun", "outputs/layers", TRUST).code == 0


@pytest.mark.parametrize("command", ALIGNMENT)
def test_an_alignment_command_hands_all_three_to_load_text(command, here, monkeypatch):
    asked = []

    def load(name, *where, **options):
        asked.append(options)
        raise UsageError("loaded")

    monkeypatch.setattr(text, "load_text", load)
    monkeypatch.setattr(text, "check_placement", lambda *_: torch.device("cpu"))
    data = {
        "stream": ("pairs.csv",),
        "validate": ("--compute", "--scores", "scores.csv", "--n-samples", "2"),
    }.get(command, ("--n-samples", "2"))
    encoders = ("tiny-clip", *["tiny-dinov2"] * (command == "complement"))
    words = (command, *data, "--encoders", *encoders, "--llms", "tiny-llama", "--device", "cpu")
    here(*words, "--quantize", "4bit", "--device-map", "auto", TRUST)
    here(*words)
    assert asked == [
        {"trust_remote_code": True, "quantize": "4bit", "device_map": "auto"},
        {"trust_remote_code": False, "quantize": None, "device_map": None},
    ]


def test_load_text_asks_transformers_for_quantised_weights(monkeypatch, text_folder):
    asked = {}
    plain = text.pretrained

    def pretrained(kind, folder, *, quantization_config, device_map, **more):
        asked.update(bits=quantization_config, device_map=device_map)
        return plain(kind, folder, **more)

    class Bits(dict):
        def __init__(self, **given):
            super().__init__(given)

    monkeypatch.setattr("transformers.BitsAndBytesConfig", Bits)
    monkeypatch.setattr(text, "pretrained", pretrained)
    monkeypatch.setattr(text, "check_placement", lambda *_: torch.device("cpu"))
    llm = text.load_text(text_folder("llama"), "cpu", "float32", quantize="4bit")
    assert asked == {"bits": {"load_in_8bit": False, "load_in_4bit": True}, "device_map": "auto"}
    assert options_of(llm) == LoadOptions(quantize="4bit")
    # Other weights give other features: they must not be read back for those of the whole weights.
    from encoderlab.feature_store.task import TextTask

    whole = text.load_text.__wrapped__.__wrapped__  # not the replaced loading
    monkeypatch.setattr(text, "pretrained", plain)
    exact = whole(text_folder("llama"), "cpu", "float32")
    names = {TextTask(one).keys["pooled"].name for one in (llm, exact)}
    assert len(names) == 2 and llm.ran_in == "float32+4bit"


def test_a_model_that_is_sent_elsewhere_keeps_its_options(own_vision):
    from encoderlab.encoders.load_spec import load_spec_of

    encoder = load_vision(own_vision, "cpu", "float32", trust_remote_code=True)
    assert load_spec_of(encoder).given["trust_remote_code"] is True
    assert options_of(encoder) == LoadOptions(trust_remote_code=True)


ALIGN = ("compare", "--encoders", "tiny-clip", "--llms", "tiny-llama", *FEW)


def test_an_unknown_quantisation_names_those_that_there_are(here):
    answer = here(*ALIGN, "--quantize", "3bit")
    assert answer.code == 2 and "8bit" in answer.err and "4bit" in answer.err
    assert here(*ALIGN, "--device-map", "everywhere").code == 2


def test_quantised_weights_on_a_cpu_are_refused_before_anything_is_computed(here):
    answer = here(*ALIGN, "--quantize", "8bit")
    assert answer.code == 3 and "GPU" in answer.err
    assert "extracting" not in answer.err and "Traceback" not in answer.err


@pytest.mark.parametrize("lacking", ["bitsandbytes", "accelerate"])
def test_a_package_that_is_not_installed_is_named_with_its_extra(lacking, here, monkeypatch):
    import importlib.util

    there = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name, *more: None if name == lacking else there(name, *more) or True,
    )
    monkeypatch.setattr(text, "choose_device", lambda _: torch.device("cuda"))
    answer = here(*ALIGN, "--quantize", "8bit")
    assert answer.code == 3 and lacking in answer.err and "encoderlab[gpu]" in answer.err


def test_an_index_keeps_no_permission(here, tmp_path):
    assert here("index", "photos", "--device", "cpu", TRUST).code == 0
    about = [json.loads(one.read_text()) for one in (tmp_path / "outputs/index").rglob("*.json")
             if one.name != "run.json"]  # fmt: skip
    assert about and not any("trust" in json.dumps(one) for one in about)
