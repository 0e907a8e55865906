"""What runs the image tower in torch's place gives what torch gives; nothing else is changed."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from encoderlab.encoders.backends import compiled, contract, equip, probe, remembered
from encoderlab.encoders.backends.compiled import Compiled, FixedBatches
from encoderlab.encoders.backends.contract import Engine
from encoderlab.encoders.backends.eager import Eager
from encoderlab.encoders.backends.onnx_runtime import OnnxRuntime
from encoderlab.encoders.backends.open_vino import OpenVINO
from encoderlab.encoders.backends.parity import Parity, ParityReport, Tried
from encoderlab.encoders.dual import load_dual
from encoderlab.encoders.hardware import cpu_has_bf16
from encoderlab.encoders.vision import load_vision
from encoderlab.errors import MissingError, UsageError, WorkError

FP32 = torch.float32


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """No finding of another test, or of the user, is met here."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def _noise(encoder, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    shape = (count, 3, *encoder.preprocess.shape)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


# -- each backend -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "backend"),
    [
        ("clip", "onnxruntime"),
        ("siglip", "openvino"),
        ("dinov2", "onnxruntime"),
        ("vit", "openvino"),
    ],
)
def test_a_backend_gives_torchs_features_at_any_batch(family, backend, vision_folder):
    folder = vision_folder(family)
    plain = load_vision(folder, "cpu", "float32")
    other = load_vision(folder, "cpu", "float32", backend=backend, batch_size=4)
    for count in (1, 4, 7):
        pixels = _noise(plain, count)
        expected, found = plain.encode_pixels(pixels), other.encode_pixels(pixels)
        torch.testing.assert_close(found.patches, expected.patches, atol=2e-4, rtol=1e-4)
        torch.testing.assert_close(found.pooled, expected.pooled, atol=2e-4, rtol=1e-4)
        assert (found.cls is None) == (expected.cls is None)
    assert (plain.ran_in, other.ran_in) == ("float32", f"float32+{backend}")


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_our_own_clip_embeds_the_same_images_and_leaves_text_to_torch(
    backend, clip_folder, pictures
):
    plain = load_dual(str(clip_folder), "cpu", "float32")
    other = load_dual(str(clip_folder), "cpu", "float32", backend=backend, batch_size=4)
    np.testing.assert_allclose(
        other.embed_images(pictures), plain.embed_images(pictures), atol=1e-5
    )
    np.testing.assert_array_equal(other.embed_texts(["a b"]), plain.embed_texts(["a b"]))


@pytest.mark.skipif(not cpu_has_bf16(), reason="this CPU has no bf16")
def test_openvino_runs_in_the_format_of_the_encoder(vision_folder):
    folder = vision_folder("clip")
    half = load_vision(folder, "cpu", "bfloat16", backend="openvino")
    whole = load_vision(folder, "cpu", "float32")
    pixels = _noise(whole, 5)
    found, expected = half.encode_pixels(pixels), whole.encode_pixels(pixels)
    assert half.ran_in == "bfloat16+openvino"
    assert found.patches.dtype == found.pooled.dtype == torch.bfloat16
    cosine = torch.nn.functional.cosine_similarity(found.pooled.float(), expected.pooled)
    assert cosine.min() > 0.999
    # Equal to fp32 it would be, had nobody been told of bf16.
    assert not torch.equal(found.pooled, expected.pooled.bfloat16())


def test_onnxruntime_runs_in_float32_and_says_so(vision_folder, capsys):
    encoder = load_vision(vision_folder("clip"), "cpu", backend="onnxruntime")
    assert (encoder.dtype, encoder.ran_in) == (FP32, "float32+onnxruntime")
    if cpu_has_bf16():
        assert "dtype: float32 (onnxruntime runs in it here)" in capsys.readouterr().err
    with pytest.raises(UsageError, match=r"float32 alone.*'bfloat16'"):
        load_vision(vision_folder("clip"), "cpu", "bfloat16", backend="onnxruntime")


def test_layers_and_attention_go_through_torch(vision_folder):
    folder = vision_folder("clip")
    plain = load_vision(folder, "cpu", "float32")
    other = load_vision(folder, "cpu", "float32")

    def never(pixels: Tensor) -> tuple[Tensor, ...]:
        raise AssertionError("the backend was asked")

    other.backend = Engine("other", never, FP32)
    pixels = _noise(plain, 2)
    for wanted in ({"layers": (1,)}, {"attention": (-1,)}):
        expected, found = (e.encode_pixels(pixels, **wanted) for e in (plain, other))
        torch.testing.assert_close(found.pooled, expected.pooled)
    with pytest.raises(AssertionError, match="the backend was asked"):
        other.encode_pixels(pixels)


def test_a_moved_encoder_lets_its_backend_go(vision_folder):
    encoder = load_vision(vision_folder("clip"), "cpu", "float32")
    encoder.backend = Engine("other", Eager().build(encoder.image_side(), FP32, 2), FP32)
    encoder.to(dtype=torch.bfloat16)
    assert encoder.ran_in == "bfloat16"


def test_a_family_that_fixes_its_batch_is_refused_in_a_sentence(vision_folder):
    with pytest.raises(UsageError, match=r"cannot be written as an ONNX graph.*siglip2.*batch"):
        load_vision(vision_folder("siglip2"), "cpu", "float32", backend="openvino")


@pytest.mark.slow
def test_compiled_torch_pads_the_last_batch_and_compiles_once(vision_folder):
    from torch._dynamo.utils import counters

    folder = vision_folder("vit")
    plain = load_vision(folder, "cpu", "float32")
    encoder = load_vision(folder, "cpu", "float32", backend="compile", batch_size=4)
    graphs = counters["stats"]["unique_graphs"]
    assert graphs > 0
    for count in (4, 1, 7):
        pixels = _noise(plain, count)
        expected, found = plain.encode_pixels(pixels), encoder.encode_pixels(pixels)
        torch.testing.assert_close(found.patches, expected.patches, atol=2e-4, rtol=1e-4)
        torch.testing.assert_close(found.pooled, expected.pooled, atol=2e-4, rtol=1e-4)
    assert counters["stats"]["unique_graphs"] == graphs


# -- batches of one size ------------------------------------------------------------------------


def test_batches_of_one_size_are_cut_and_filled_up():
    seen: list[int] = []

    def run(pixels: Tensor) -> tuple[Tensor, ...]:
        seen.append(len(pixels))
        return (pixels * 2, pixels.sum(dim=(1, 2, 3)))

    pixels = torch.arange(7.0).reshape(7, 1, 1, 1)
    doubled, sums = FixedBatches(run, 3)(pixels)
    assert seen == [3, 3, 3]
    assert torch.equal(doubled, pixels * 2) and torch.equal(sums, torch.arange(7.0))


def test_out_of_memory_halves_the_size_for_whoever_tries_again():
    def tight(pixels: Tensor) -> tuple[Tensor, ...]:
        if len(pixels) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return (pixels,)

    run = FixedBatches(tight, 4)
    with pytest.raises(torch.OutOfMemoryError):
        run(torch.ones(4, 1, 1, 1))
    assert run.size == 2
    assert len(run(torch.ones(3, 1, 1, 1))[0]) == 3


# -- what is not there -----------------------------------------------------------------------------


def test_a_package_that_is_not_there_is_named_with_its_extra(vision_folder, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n: None if n in ("openvino", "onnxruntime") else find(n)
    )
    for backend, extra in (("openvino", "openvino"), ("onnxruntime", "onnx")):
        with pytest.raises(MissingError, match=rf"not installed.*encoderlab\[{extra}\]"):
            load_vision(vision_folder("clip"), "cpu", "float32", backend=backend)


def test_a_compiler_that_is_not_there_is_named(monkeypatch):
    from torch._inductor import cpp_builder, exc

    def none_found() -> str:
        raise exc.InvalidCxxCompiler

    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", none_found)
    refused = Compiled().refusal(torch.device("cpu"), FP32)
    assert isinstance(refused, MissingError)
    assert "no C++ compiler" in str(refused) and "g++" in str(refused)


def test_backends_of_the_cpu_refuse_a_gpu():
    for kind in (OnnxRuntime(), OpenVINO()):
        assert "on the CPU" in str(kind.refusal(torch.device("cuda", 0), FP32))


def test_an_unknown_backend_is_met_before_the_model_is_loaded():
    with pytest.raises(UsageError, match=r"unknown backend.*'openvin'.*Did you mean 'openvino'"):
        load_vision("no such model", "cpu", backend="openvin")


# -- the probe -----------------------------------------------------------------------------------


@dataclasses.dataclass
class Made:
    """A backend for tests: torch's own forward, made wrong, slow or broken."""

    name: str
    copies: bool = False
    times: int = 1
    noise: float = 0.0
    breaks: bool = False
    refused: str | None = None

    def format(self, dtype, free):
        return dtype

    def refusal(self, device, dtype):
        return None if self.refused is None else UsageError(self.refused)

    def build(self, side, dtype, batch):
        if self.breaks:
            raise RuntimeError("no such kernel\nand more lines")

        def run(pixels: Tensor) -> tuple[Tensor, ...]:
            for _ in range(self.times):
                found = side(pixels.to(dtype))
            torch.manual_seed(0)
            return tuple(one + self.noise * torch.randn_like(one) for one in found)

        return run


class Instant(Made):
    """Knows the answers by heart."""

    def build(self, side, dtype, batch):
        known: dict[int, tuple[Tensor, ...]] = {}
        slow = super().build(side, dtype, batch)

        def run(pixels: Tensor) -> tuple[Tensor, ...]:
            if len(pixels) not in known:
                known[len(pixels)] = slow(pixels)
            return known[len(pixels)]

        return run


def _probe(folder, *kinds) -> ParityReport:
    encoder = load_vision(folder, "cpu", "float32")
    return probe.probe(encoder, FP32, False, 4, [Eager(), *kinds])


def test_the_fastest_that_gives_the_same_is_chosen(vision_folder):
    report = _probe(
        vision_folder("clip"),
        Instant("wrong", noise=1.0),
        Instant("right", copies=True),
        Made("slow", times=4),
    )
    rows = {row.backend: row for row in report.rows}
    assert list(rows) == ["torch", "wrong", "right", "slow"]
    assert report.chosen == "right"
    assert rows["right"].ratio > 2 and rows["slow"].ratio < 0.8
    assert rows["torch"].ratio == 1 and rows["torch"].cosine == pytest.approx(1, abs=1e-6)
    assert "under 0.999" in rows["wrong"].left_out and rows["wrong"].cosine < 0.999
    assert rows["wrong"].images_per_s is None


def test_what_fails_or_refuses_is_listed_with_the_reason(vision_folder):
    report = _probe(
        vision_folder("clip"), Made("broken", breaks=True), Made("unfit", refused="no GPU here")
    )
    rows = {row.backend: row for row in report.rows}
    assert rows["broken"].left_out == "it failed: no such kernel"
    assert rows["unfit"].left_out == "no GPU here"
    assert report.chosen == "torch"
    assert "nothing else can run here" in report.sentence()
    assert "no such kernel" in report.to_text()


def test_a_backend_that_is_hardly_faster_is_not_worth_its_building():
    def row(name: str, ratio: float, left_out: str | None = None) -> Tried:
        return Tried(name, "float32", 10.0, ratio, 1.0, 0.0, 1.0, left_out)

    assert probe.fastest([row("torch", 1), row("a", 1.04)]) == "torch"
    assert probe.fastest([row("torch", 1), row("a", 1.06), row("b", 1.5)]) == "b"
    assert probe.fastest([row("torch", 1), row("b", 1.5, "wrong")]) == "torch"


def test_not_a_number_is_no_parity():
    good = torch.ones(2, 3), torch.ones(2, 4)
    bad = torch.ones(2, 3), torch.full((2, 4), float("nan"))
    assert Parity.between(good, good).kept and not Parity.between(bad, good).kept


def test_parity_is_the_worst_over_images_and_tokens():
    tokens = torch.zeros(2, 3, 4)
    vectors = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    other, turned = tokens.clone(), torch.tensor([[1.0, 0.0], [1.2, 1.6]])
    other[1, 2, 3] = -0.5
    found = Parity.between((tokens, vectors), (other, turned))
    assert found.cosine == pytest.approx(0.8) and found.difference == 0.5


def test_the_pictures_of_the_probe_fill_any_batch(vision_folder):
    encoder = load_vision(vision_folder("clip"), "cpu", "float32")
    pixels = probe.pictures(encoder.preprocess, 40, torch.device("cpu"))
    assert pixels.shape == (40, 3, 32, 32)
    assert torch.equal(pixels[32:], pixels[:8]) and not torch.equal(pixels[0], pixels[1])


# -- the choice, kept ------------------------------------------------------------------------------


@pytest.fixture
def probed(monkeypatch):
    """Counts probes; each finds that `instant` is fastest."""
    seen = []

    def count(encoder, dtype, free, batch):
        seen.append(batch)
        encoder.to(dtype=torch.bfloat16)  # as a probe does, which uses the encoder up
        rows = (Tried("instant", "float32", 9.0, 3.0, 1.0, 0.0, 0.1),)
        return ParityReport(encoder.name, "cpu", batch, rows, "instant", "2030-01-01")

    monkeypatch.setattr(equip, "probe", count)
    called = contract.backend_called
    monkeypatch.setattr(
        equip, "backend_called", lambda n: Instant("instant") if n == "instant" else called(n)
    )
    return seen


def _auto(folder, batch: int = 4):
    return load_vision(folder, "cpu", "float32", backend="auto", batch_size=batch)


def test_the_choice_is_made_once(vision_folder, probed, capsys):
    first, second = _auto(vision_folder("clip")), _auto(vision_folder("clip"))
    assert probed == [4]
    assert first.ran_in == second.ran_in == "float32+instant"
    assert second.report == first.report
    said = capsys.readouterr().err
    assert said.count("(3.00 x torch, smallest cosine 1.00000)") == 2
    assert said.count("trying those that can run here") == 1


def test_a_finding_holds_for_the_same_weights_under_another_name(
    vision_folder, probed, tmp_path, capsys
):
    import shutil

    _auto(vision_folder("clip"))
    again = _auto(shutil.copytree(vision_folder("clip"), tmp_path / "copied"))
    assert probed == [4] and again.report.encoder == str(tmp_path / "copied")
    assert f"for {tmp_path / 'copied'} (3.00 x torch" in capsys.readouterr().err


def test_the_encoder_is_not_the_one_that_the_probe_has_used_up(vision_folder, probed):
    plain = load_vision(vision_folder("clip"), "cpu", "float32")
    found = dict(_auto(vision_folder("clip")).tower.named_parameters())
    assert all(torch.equal(found[name], one) for name, one in plain.tower.named_parameters())


def test_another_batch_model_or_number_of_threads_is_probed_anew(vision_folder, probed):
    _auto(vision_folder("clip"))
    _auto(vision_folder("clip"), batch=5)
    _auto(vision_folder("vit"))
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        _auto(vision_folder("clip"))
    finally:
        torch.set_num_threads(threads)
    assert len(probed) == 4


def test_another_version_of_a_library_is_probed_anew(vision_folder, probed, monkeypatch):
    _auto(vision_folder("clip"))
    monkeypatch.setattr(remembered, "_version", lambda name: "9.9")
    _auto(vision_folder("clip"))
    assert len(probed) == 2


def test_a_damaged_finding_is_no_finding(vision_folder, probed, cache):
    _auto(vision_folder("clip"))
    (kept,) = (cache / "encoderlab" / "backends").iterdir()
    assert json.loads(kept.read_text())["report"]["chosen"] == "instant"
    kept.write_text('{"report": {"chosen": 3}}')
    _auto(vision_folder("clip"))
    assert len(probed) == 2


def test_a_cache_that_cannot_be_written_is_said_and_costs_a_probe(
    vision_folder, probed, cache, capsys
):
    cache.write_text("a file where the folder would be")
    assert _auto(vision_folder("clip")).ran_in == "float32+instant"
    assert "cannot be kept" in capsys.readouterr().err


def test_a_backend_that_gives_something_else_is_refused(vision_folder, monkeypatch):
    monkeypatch.setattr(equip, "backend_called", lambda name: Made(name, noise=1.0))
    with pytest.raises(WorkError, match=r"does not give what torch gives.*smallest cosine"):
        load_vision(vision_folder("clip"), "cpu", "float32", backend="openvino")


# -- features know what they were computed by ------------------------------------------------------


def test_features_of_another_backend_have_a_shelf_of_their_own(
    vision_folder, world, tmp_path, capsys
):
    from encoderlab.data import read_samples
    from encoderlab.feature_store.extract import extract_images
    from encoderlab.feature_store.store import FeatureStore

    encoder = load_vision(vision_folder("clip"), "cpu", "float32")
    samples = read_samples(world / "images")[:5]
    extract_images(encoder, samples, tmp_path)
    encoder.backend = Engine("other", Eager().build(encoder.image_side(), FP32, 4), FP32)
    assert extract_images(encoder, samples, tmp_path).computed == 5
    assert {shelf.key.dtype for shelf in FeatureStore(tmp_path).shelves()} == {
        "float32",
        "float32+other",
    }
    # With layers everything comes from torch, which has the pooled vectors already.
    capsys.readouterr()
    extract_images(encoder, samples, tmp_path, what=["pooled", "mean@1"])
    assert "hidden layers go through torch, not other" in capsys.readouterr().err
    kept = {(one.key.what, one.key.dtype) for one in FeatureStore(tmp_path).shelves()}
    assert kept == {
        ("pooled", "float32"), ("pooled", "float32+other"), ("mean@1", "float32"),
    }  # fmt: skip


@pytest.mark.parametrize("later", [0, 1, 2])
def test_results_that_are_fetched_later_are_the_same(
    later, clip_folder, world, tmp_path, monkeypatch
):
    from encoderlab.data import Sample, read_samples
    from encoderlab.feature_store import embed, extract, task

    for module in (embed, task):
        monkeypatch.setattr(module, "FETCHED_LATER", {"cpu": later})
    good = read_samples(world / "images")
    samples = [*good[:3], Sample("gone", tmp_path / "gone.jpg"), *good[3:]]
    dual, vision = (load(str(clip_folder), "cpu", "float32") for load in (load_dual, load_vision))
    embedded = embed.embed_samples(dual, samples, 4)
    assert embedded.samples == good and [one.id for one in embedded.skipped] == ["gone"]
    stored = extract.extract_images(vision, samples, tmp_path / "store", batch_size=4, chunk_size=7)
    assert stored.samples == good
    for i, sample in enumerate(good):
        alone = vision.encode([sample.load()]).pooled[0]
        np.testing.assert_allclose(stored.array()[i], alone, atol=1e-5)
        unit = torch.nn.functional.normalize(alone, dim=0)
        np.testing.assert_allclose(embedded.vectors[i], unit, atol=1e-5)


def test_speed_times_the_backend_and_counts_torchs_operations(clip_folder):
    from encoderlab.alignment import speed

    name = str(clip_folder)
    plain = speed.run(encoders=[name], batch_sizes=[2], device="cpu", dtype="float32")
    other = speed.run(encoders=[name], batch_sizes=[2], device="cpu", backend="onnxruntime")
    assert plain.rows[0].ran_in == "float32"
    assert other.rows[0].ran_in == "float32+onnxruntime"
    assert other.rows[0].gflop_per_image == plain.rows[0].gflop_per_image > 0
    assert "float32+onnxruntime" in other.to_text()


def test_speed_shows_the_report_of_the_probe(vision_folder, probed):
    from encoderlab.alignment import speed

    result = speed.run(
        encoders=[str(vision_folder("clip"))], batch_sizes=[1, 2], device="cpu", dtype="float32",
        backend="auto",
    )  # fmt: skip
    assert probed == [2]
    assert [row.ran_in for row in result.rows] == ["float32+instant"] * 2
    assert "chosen instant" in result.to_text()
    assert result.to_json()["parity"][0]["rows"][0]["ratio"] == 3.0


def test_the_compiler_is_looked_for_where_the_encoder_is(monkeypatch):
    monkeypatch.setattr("torch.utils._triton.has_triton", lambda: False)
    assert compiled._no_compiler(torch.device("cuda", 0))[0] == "no Triton here"
