"""The recipes of CONTRIBUTING.md are files that run."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import encoderlab
from encoderlab.core import extensions
from encoderlab.errors import MissingError, UsageError

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
EXAMPLES = ROOT / "examples"
FILE_AND_BLOCK = re.compile(r"^`(examples/[^`]+)`:\n\n```python\n(.*?)^```", re.M | re.S)
RECIPES = dict(FILE_AND_BLOCK.findall(PAGE))


@pytest.fixture
def extending(monkeypatch):
    """The example's rows are in our tables while the test runs, and out of them after it."""
    from encoderlab.core.commands import COMMANDS
    from encoderlab.encoders.families import FAMILIES
    from encoderlab.metrics.catalogue import METRICS
    from encoderlab.patch_tokens.methods import METHODS
    from encoderlab.web import tabs

    tables = (FAMILIES, METRICS, METHODS, COMMANDS, tabs.ADDED)
    before = [dict(table) for table in tables]
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.setenv(extensions.VARIABLE, "extending")
    monkeypatch.setattr(extensions, "_loaded", set())
    extensions.load()
    yield
    for table, rows in zip(tables, before, strict=True):
        table.clear()
        table.update(rows)
    for name in [name for name in sys.modules if name.partition(".")[0] == "extending"]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def mae_folder(tmp_path_factory) -> Path:
    """A small masked autoencoder, saved as its authors would."""
    import torch
    import transformers as hf

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("mae")
    model = hf.ViTMAEModel(
        hf.ViTMAEConfig(
            hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=48,
            image_size=32, patch_size=8,
        )
    )  # fmt: skip
    torch.nn.init.normal_(model.embeddings.cls_token)
    model.save_pretrained(folder)
    preprocessor = {"size": {"height": 32, "width": 32}, "image_mean": [0.5] * 3}
    preprocessor |= {"image_std": [0.5] * 3, "image_processor_type": "ViTImageProcessor"}
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return folder


# -- the page ------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", RECIPES)
def test_a_block_of_the_page_is_the_file_that_runs(file):
    assert RECIPES[file] == (ROOT / file).read_text(encoding="utf-8")


def test_every_file_of_the_example_is_on_the_page():
    files = {f"examples/extending/{one.name}" for one in (EXAMPLES / "extending").glob("*.py")}
    assert files == set(RECIPES)


def test_an_encoder_takes_ten_lines():
    tree = ast.parse((EXAMPLES / "extending/vit_mae.py").read_text(encoding="utf-8"))
    (adapter,) = (node for node in tree.body if isinstance(node, ast.ClassDef))
    body = ast.unparse(adapter).splitlines()
    assert len([line for line in body if line.strip()]) <= 10


def test_make_targets_and_files_that_the_page_names_are_there():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    named = set(re.findall(r"`make ([a-z-]+)`", PAGE))
    assert {"test", "check"} <= named <= {*targets, "release-check", "audit"}
    for path in re.findall(r"`((?:src|tests|scripts|examples)/[\w./]+)`", PAGE):
        assert (ROOT / path).exists(), path


# -- the encoder ---------------------------------------------------------------------------------


def test_the_encoder_keeps_the_contract_and_agrees_with_transformers(extending, mae_folder):
    import torch
    import transformers as hf
    from PIL import Image

    from encoderlab.encoders import check

    encoder = encoderlab.load_vision(mae_folder, "cpu", "float32")
    assert type(encoder).__name__ == "ViTMAE"
    assert check(encoder).kept
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    plain = hf.ViTMAEModel.from_pretrained(mae_folder, mask_ratio=0.0).eval()
    pixels = (torch.from_numpy(noise).permute(2, 0, 1)[None] / 255 - 0.5) / 0.5
    with torch.no_grad():
        theirs = plain(pixels, noise=torch.arange(16)[None].float()).last_hidden_state
    ours = encoder.encode([Image.fromarray(noise)])
    assert torch.allclose(ours.cls, theirs[:, 0], atol=1e-5)
    assert torch.allclose(ours.patches, theirs[:, 1:], atol=1e-5)


def test_without_its_adapter_the_encoder_breaks_the_contract(mae_folder):
    """Three patches of four are hidden, at random: what the recipe is there for."""
    from encoderlab.encoders import check
    from encoderlab.encoders.model_cache import without_cache

    # A page that another test has opened keeps models: the one with the adapter is not meant.
    with without_cache(), pytest.raises(Exception, match=r"patches|promises|shape"):
        check(encoderlab.load_vision(mae_folder, "cpu", "float32"), strict=True)


def test_a_cnn_of_ones_own_keeps_what_can_be_asked_of_it(extending, tmp_path):
    import torch
    from extending.cnn import SmallCNN, SmallCNNConfig
    from safetensors.torch import save_file

    from encoderlab.encoders import check

    torch.manual_seed(0)
    network = SmallCNN(SmallCNNConfig())
    network.config.save_pretrained(tmp_path)
    save_file(network.state_dict(), tmp_path / "model.safetensors", metadata={"format": "pt"})
    encoder = encoderlab.load_vision(tmp_path, "cpu", "float32")
    report = check(encoder, strict=True)
    assert report.kept and None in {finding.kept for finding in report.findings}
    noise = torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        theirs = network.extract_features((noise[None] / 255 - 0.5) / 0.5)
    ours = encoder.encode(noise)
    assert ours.grid == (8, 8) and ours.cls is None
    assert torch.allclose(ours.patches, theirs.flatten(2).mT, atol=1e-5)
    assert torch.allclose(ours.pooled, theirs.mean(dim=(2, 3)), atol=1e-5)


# -- the metric ----------------------------------------------------------------------------------


def test_the_metric_is_spearmans_correlation_of_distances(extending):
    from extending.rsa import rsa
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 6))
    y = x @ rng.normal(size=(6, 9)) + 2 * rng.normal(size=(40, 9))
    above = np.triu_indices(40, 1)
    far = [1 - np.corrcoef(one)[above] for one in (x, y)]
    score = rsa(x, y)
    assert score.value == pytest.approx(spearmanr(*far).statistic)
    assert score.ci_low < score.value < score.ci_high
    assert (score.chance, score.n) == (0.0, 40)
    assert rsa(x, 3 * x + 1).value == pytest.approx(1)
    assert rsa(x[:5], y[:5]).undefined == "needs at least 6 samples, and there are 5"
    assert rsa(x, np.ones_like(y)).undefined


def test_the_metrics_interval_covers_chance_for_unrelated_features(extending):
    from extending.rsa import rsa

    rng = np.random.default_rng(0)
    scores = [rsa(rng.normal(size=(30, 4)), rng.normal(size=(30, 4))) for _ in range(60)]
    covered = np.mean([one.ci_low <= 0 <= one.ci_high for one in scores])
    assert covered >= 0.85
    assert abs(np.mean([one.value for one in scores])) < 0.05


@pytest.mark.slow
def test_encoder_and_metric_work_in_compare(extending, mae_folder, tmp_path):
    result = encoderlab.compare(
        encoders=[str(mae_folder), "tiny-clip"], llms=["tiny-llama"], n_samples=4,
        features_dir=str(tmp_path), out=tmp_path / "run", device="cpu",
    )  # fmt: skip
    assert [row.encoder for row in result.rows] == [str(mae_folder), "tiny-clip"]
    for row in result.rows:
        assert row.scores["rsa"].ci_low <= row.scores["rsa"].value
        assert set(row.by_type["chart"]) >= {"rsa"}
    assert "  RSA" in result.to_text()


# -- the token reduction method -------------------------------------------------------------------


def test_the_method_keeps_the_tokens_with_the_largest_norm(extending):
    import torch

    from encoderlab.patch_tokens.methods import reducers

    torch.manual_seed(0)
    tokens = torch.randn(2, 16, 4)
    (method,) = reducers("largest_norm")
    kept = method.compress(tokens, (4, 4), 5)
    for image, rest in zip(tokens, kept.tokens, strict=True):
        expected = sorted(map(float, image.norm(dim=1)))[-5:]
        assert sorted(map(float, rest.norm(dim=1))) == pytest.approx(expected)
    assert kept.sizes.sum(dim=1).tolist() == [16, 16]


@pytest.mark.slow
def test_the_method_is_compared_and_shown(extending, tmp_path):
    names = ["largest_norm", "random"]
    evaluation = {"methods": names, "n_samples": 20, "n_fit": 40, "grids": [4], "parts": []}
    result = encoderlab.compress(
        action="evaluate", evaluation=evaluation, hardware={"device": "cpu"}, out=tmp_path
    )
    assert [row["method"] for row in result.to_json()["rows"]] == [
        "trained", *names, "average", "smaller_image", "pixel_shuffle",
    ]  # fmt: skip


# -- the command ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_command_runs_as_one_types_it(tmp_path):
    """In a process of its own, as after `export ENCODERLAB_EXTENSIONS=extending`."""
    paths = os.pathsep.join([str(Path(encoderlab.__file__).parents[1]), str(EXAMPLES)])
    given = {**os.environ, "PYTHONPATH": paths, extensions.VARIABLE: "extending"}

    def typed(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "encoderlab", *words],
            capture_output=True, text=True, env=given, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "  spread " in typed("--help")
    said = typed("spread", "--encoders", "tiny-clip", "--n-samples", "3", "--device", "cpu")
    run = json.loads((tmp_path / "outputs/spread/run.json").read_text(encoding="utf-8"))
    (row,) = run["result"]["rows"] if "result" in run else run["results"]["rows"]
    assert 1 < row["effective_rank"] < 9 and row["width"] == 128
    assert re.search(rf"tiny-clip\s+{row['effective_rank']:.1f}\s+128", said)


def test_the_commands_number_is_the_entropy_of_the_spectrum(extending):
    from extending.spread import run

    from encoderlab.alignment.data import extract_features
    from encoderlab.alignment.settings import OnSamples

    found = run(encoders=["tiny-clip"], n_samples=3, device="cpu")
    settings = OnSamples(encoders=["tiny-clip"], n_samples=3, device="cpu")
    x = extract_features(settings).vision["tiny-clip"].pooled
    shares = np.linalg.svd(x - x.mean(0), compute_uv=False) ** 2
    shares /= shares.sum()
    shares = shares[shares > 1e-15]
    assert found.ranks["tiny-clip"] == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), 1e-4)


def test_the_command_is_as_whole_as_ours(extending):
    """What tests/settings asks of every command of ours."""
    import dataclasses
    import inspect

    from extending.spread import Spread, run

    from encoderlab.core.common_settings import TALK

    offered = {one.name for one in dataclasses.fields(Spread)} - {*TALK, "output_dir"}
    assert set(inspect.signature(run).parameters) - {"out"} == offered


# -- the tab -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_tab_is_built_and_its_button_runs_the_command(extending, tmp_path, monkeypatch):
    pytest.importorskip("gradio")
    from encoderlab.web import i18n, page
    from encoderlab.web.choices import model_choices
    from encoderlab.web.jobs import JobRunner
    from encoderlab.web.tabs import tab
    from encoderlab.web.user_sessions import UserSessions

    jobs = {}
    connect = tab.connect

    def noted(place, job, pressed, where, given, **more):
        jobs[job.name] = job
        connect(place, job, pressed, where, given, **more)

    monkeypatch.setattr(tab, "connect", noted)
    monkeypatch.setattr(i18n, "_added", {})
    offer = model_choices(host="127.0.0.1", share=False, encoders=(), llms=())
    place = JobRunner(offer, UserSessions(tmp_path / "visitors", most_mb=100), tmp_path)
    blocks = page.build(place)
    ids = {getattr(one, "elem_id", None) for one in blocks.blocks.values()}
    assert {"tab-spread", "spread-run", "spread-stop", "spread-answer"} <= ids
    assert i18n.phrases("ko")["spread_tab"] == "퍼짐"

    job, visitor = jobs["spread"], place.visitors.of("a")
    values = {"encoders": ["tiny-clip"], "n_samples": 3}
    monkeypatch.chdir(tmp_path)
    outcome = place.run(
        visitor, job.name, job.command, lambda: job.settings(values, visitor), lambda *seen: None
    )
    assert outcome.error is None and outcome.bug is None
    (row,) = job.records(outcome.done.result.to_json())
    assert row["encoder"] == "tiny-clip"
    i18n.phrases.cache_clear()
    i18n.translations.cache_clear()


def test_words_of_a_tab_are_there_in_every_language(monkeypatch):
    pytest.importorskip("gradio")
    from encoderlab.web import i18n

    monkeypatch.setattr(i18n, "_added", {})
    with pytest.raises(UsageError, match="not there in every language: got 'x_tab'"):
        i18n.add_phrases({"en": {"x_tab": "X"}, "ko": {}})


# -- the tables ----------------------------------------------------------------------------------


def test_a_name_that_is_taken_is_refused(extending):
    from encoderlab.core import commands
    from encoderlab.encoders import families
    from encoderlab.metrics import catalogue

    with pytest.raises(UsageError, match="already an adapter of this name: got 'clip'"):
        families.register("clip", "extending.vit_mae:ViTMAE")
    with pytest.raises(UsageError, match="already a metric of this name: got 'mutual_knn'"):
        catalogue.register("mutual_knn", catalogue.METRICS["rsa"])
    with pytest.raises(UsageError, match="a metric needs a function"):
        catalogue.register("mine", catalogue.Metric("mine", "", ""))
    with pytest.raises(UsageError, match="a command belongs to a job: got 'aline'"):
        commands.register(commands.Command("x", commands.COMMANDS["ls"].settings, "aline", "", ""))


def test_an_extension_that_is_not_there_is_said(monkeypatch):
    monkeypatch.setenv(extensions.VARIABLE, "no_such_module_of_mine")
    with pytest.raises(MissingError, match="a module of ENCODERLAB_EXTENSIONS cannot be imported"):
        extensions.load()
