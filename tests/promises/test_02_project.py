"""`--config-name=my_config` takes a project's YAML: data sets, names of models, defaults."""

import json
import os

import pytest
import torch
from PIL import Image

import encoderlab
from encoderlab.alignment.plots import coral as plots
from encoderlab.core.project import configured_device
from encoderlab.data.vlm_dataset import TypedSet, typed_sets
from encoderlab.encoders.checkpoint import ZOO, resolve
from encoderlab.errors import MissingError, UsageError

WHOLE = """
data: {root: data, sample_dir: sample_data,
       datasets: {chart: {label_file: mine/x.jsonl, image_dir: pictures}}}
models: {vision_encoders: {eye: ZOO/tiny-clip}, llms: {voice: ZOO/tiny-llama}}
defaults: {device: cpu, output_dir: results, n_samples: 2, seed: 42}
""".replace("ZOO", str(ZOO))


AS_PROMISED = """
data:
  root: null
  sample_dir: sample_data
  datasets: {chart: {label_file: label_v2/x.jsonl, image_dir: images/x}}
models: {vision_encoders: {clip: openai/clip-vit-base-patch32}, llms: {qwen: Qwen/Qwen2.5-7B}}
defaults: {device: auto, output_dir: outputs, n_samples: 30, seed: 42}
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with configs/my_config.yaml and the data set that it names."""
    monkeypatch.delenv("VLM_DATA_ROOT", raising=False)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/my_config.yaml").write_text(WHOLE)
    (tmp_path / "data/mine").mkdir(parents=True)
    (tmp_path / "data/pictures").mkdir()
    lines = []
    for i, colour in enumerate(("red", "blue", "green", "white", "black", "pink")):
        Image.new("RGB", (96, 96), colour).save(tmp_path / f"data/pictures/{i}.png")
        content = [{"type": "text", "text": "What colour?"}, {"type": "image", "image": f"{i}.png"}]
        answer = [{"type": "text", "text": f"It is {colour}."}]
        lines.append({"messages": [{"role": "user", "content": content},
                                   {"role": "assistant", "content": answer}]})  # fmt: skip
    (tmp_path / "data/mine/x.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return tmp_path


@pytest.fixture
def undrawn(monkeypatch):
    """Figures take most of the time of a small run."""
    monkeypatch.setattr(plots, "coral", lambda *_: [])


@pytest.mark.parametrize("command", ["compare", "coral", "elas", "layers", "tokens", "compress"])
def test_the_form_as_it_was_promised(command, settings, tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/my_config.yaml").write_text(AS_PROMISED)
    assert settings(command, "--config-name=my_config")["seed"] == 42
    monkeypatch.setenv("ENCODERLAB_CONFIG", "configs/my_config.yaml")
    assert typed_sets()["chart"] == TypedSet("label_v2/x.jsonl", "images/x")
    assert encoderlab.get_data_root() is None and encoderlab.VLMDataset().is_built_in
    assert encoderlab.get_model_id("clip", "vision") == "openai/clip-vit-base-patch32"


def test_a_projects_defaults_stand_below_what_is_typed(project, settings):
    given = settings("coral", "--config-name=my_config")
    assert {k: given[k] for k in ("device", "n_samples", "seed", "output_dir")} == {
        "device": "cpu", "n_samples": 2, "seed": 42, "output_dir": "results/coral",
    }  # fmt: skip
    typed = settings("coral", "--config-name", "my_config", "--n-samples", "7", "seed=1")
    assert (typed["n_samples"], typed["seed"]) == (7, 1)
    assert settings("compress", "--config-name=my_config")["hardware"]["device"] == "cpu"
    assert settings("tokens", "--config-name=my_config")["model"]["name"] == "tiny-clip"


def test_a_project_names_data_and_models(project, lab, undrawn):
    answer = lab("coral", "--config-name=my_config", "--encoders", "eye", "--llms", "voice",
                 "--n-samples", "6", "--json")  # fmt: skip
    assert answer.code == 0, answer.err
    assert answer.json["data"]["types"] == {"chart": 6} and answer.json["data"]["source"] == "data"
    assert [(one["encoder"], one["llm"]) for one in answer.json["eas"]] == [("eye", "voice")]
    assert (project / "results/coral/run.json").is_file()


def test_the_environment_beats_the_yaml(project, lab, monkeypatch):
    monkeypatch.setenv("VLM_DATA_ROOT", str(project / "elsewhere"))
    answer = lab("coral", "--config-name=my_config", "--encoders", "eye", "--llms", "voice")
    assert answer.code == 3 and "elsewhere (from VLM_DATA_ROOT)" in answer.err
    monkeypatch.setenv("VLM_OUTPUT_DIR", "other")
    answer = lab("coral", "--config-name=my_config", "--show-config", "--json")
    assert answer.json["settings"]["output_dir"] == "other/coral"


def test_the_variable_names_a_project_for_every_command(project, lab, settings, monkeypatch):
    monkeypatch.setenv("ENCODERLAB_CONFIG", "configs/my_config.yaml")
    given = settings("coral", "--n-samples", "5")
    assert (given["seed"], given["n_samples"], given["output_dir"]) == (42, 5, "results/coral")
    (project / "configs/quick.yaml").write_text("n_samples: 8\n")
    given = settings("coral", "--config-name", "quick")
    assert (given["seed"], given["n_samples"]) == (42, 8)
    (project / "configs/both.yaml").write_text(WHOLE + "n_samples: 9\n")
    monkeypatch.setenv("ENCODERLAB_CONFIG", "configs/both.yaml")
    answer = lab("coral")
    assert answer.code == 2 and "n_samples" in answer.err


def test_settings_of_a_command_may_stand_beside(project, settings):
    (project / "configs/both.yaml").write_text(WHOLE + "n_samples: 9\nllms: [voice]\n")
    given = settings("coral", "--config-name", "both", "--encoders", "eye")
    assert (given["n_samples"], given["llms"], given["encoders"]) == (9, ["voice"], ["eye"])
    assert given["seed"] == 42


def test_a_sweep_of_a_project_is_one_of_its_values(project, lab):
    answer = lab(
        "coral", "--config-name=my_config", "-m", "n_samples=3,4", "--show-config", "--json"
    )
    jobs = [json.loads(row)["settings"] for row in answer.out.splitlines()]
    assert [(job["n_samples"], job["seed"]) for job in jobs] == [(3, 42), (4, 42)]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("models: {encoders: {}}", "Did you mean `vision_encoders`?"),
        ("models: [clip]", "models is no table"),
        ("models: {llms: {voice: 3}}", "models.llms.voice is no checkpoint"),
        ("defaults: {n_samples: many}", "defaults.n_samples has another form"),
        ("defaults: {sed: 1}", "Did you mean `seed`?"),
        ("data: {datasets: {chart: x.jsonl}}", "label_file and image_dir"),
        ("data: {root: [a]}", "data.root has another form"),
        ("models: {llms: {}}\nepoch: 1", "epoch"),
    ],
)
def test_a_wrong_project_is_one_sentence(text, told, lab, tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/wrong.yaml").write_text(text)
    answer = lab("coral", "--config-name", "wrong")
    assert answer.code == 2 and told in answer.err, answer.err


def test_python_reads_the_same_file(project, monkeypatch):
    monkeypatch.chdir(project)

    def read():
        return encoderlab.get_data_root(), encoderlab.get_output_dir(), configured_device()

    assert torch.device(encoderlab.get_device()).type in ("cpu", "cuda")
    assert read() == (None, "outputs", "auto")
    monkeypatch.setenv("ENCODERLAB_CONFIG", "configs/my_config.yaml")
    assert read() == ("data", "results", "cpu")
    assert encoderlab.get_model_id("voice") == str(ZOO / "tiny-llama")
    assert encoderlab.get_model_id("clip") == "openai/clip-vit-base-patch32"
    assert encoderlab.get_model_id("owner/name") == "owner/name"
    assert resolve("eye").path == ZOO / "tiny-clip"
    config = encoderlab.load_config()
    assert config.defaults["seed"] == 42 and config.data_root == "data"
    assert encoderlab.get_device() == "cpu"
    dataset = encoderlab.VLMDataset()
    assert dataset.data_types == ("chart",) and len(dataset.load_samples("chart")) == 6
    with pytest.raises(MissingError, match=r"none\.yaml"):
        encoderlab.load_config("none.yaml")
    with pytest.raises(UsageError, match="vision or llm"):
        encoderlab.get_model_id("clip", "eyes")


CORAL = ("coral", "--encoders", "eye", "--llms", "voice", "--n-samples", "6", "--json")


def test_a_repeated_run_takes_the_models_and_the_data_of_the_first(project, lab, undrawn):
    assert lab(*CORAL, "--config-name=my_config").code == 0
    (project / "configs/my_config.yaml").unlink()
    answer = lab("rerun", "results/coral", "--json")
    assert answer.code == 0 and answer.json["same"] is True, answer.err
    assert answer.json["result"]["data"]["source"] == "data"
    assert "ENCODERLAB_CONFIG" not in os.environ


def test_a_run_without_a_project_is_repeated_without_one(project, lab, monkeypatch, undrawn):
    words = ("coral", "--encoders", "tiny-clip", "--llms", "tiny-llama", "--n-samples", "3")
    assert lab(*words, "--output-dir", "first").code == 0
    monkeypatch.setenv("ENCODERLAB_CONFIG", "configs/my_config.yaml")
    answer = lab("rerun", "first", "--json")
    assert answer.code == 0 and answer.json["same"] is True, answer.err
    record = json.loads((project / "first/run.json").read_text())
    assert record.pop("project") == {}
    (project / "first/run.json").write_text(json.dumps(record))  # as version 0.1 kept it
    answer = lab("rerun", "first", "--json")
    assert answer.code == 0 and answer.json["result"]["data"]["source"] == "data", answer.err
