"""Compiled torch gives what torch gives; nothing but the plain forward is changed.

Compiling takes long: most tests put something quick in the place of `torch.compile`.
"""

import json

import numpy as np
import pytest
import torch
from torch import Tensor

from encoderlab.encoders import compile
from encoderlab.encoders.compile import BackendTrial
from encoderlab.encoders.dual import load_dual
from encoderlab.encoders.encoder import CompiledImageSide
from encoderlab.encoders.hardware import cpu_has_bf16
from encoderlab.encoders.vision import load_vision
from encoderlab.errors import MissingError, UsageError, WorkError

FP32 = torch.float32


class StandIn:
    """In the place of torch.compile: the module itself, made wrong, slow, fast or broken."""

    def __init__(
        self, times: int = 1, noise: float = 0.0, instant: bool = False, error: str | None = None
    ) -> None:
        self.times, self.noise, self.instant, self.error = times, noise, instant, error
        self.sizes: list[int] = []

    def __call__(self, module, **options):
        if self.error is not None:
            raise RuntimeError(self.error)
        known: tuple[Tensor, ...] = ()

        def run(pixels: Tensor) -> tuple[Tensor, ...]:
            nonlocal known
            self.sizes.append(len(pixels))
            if not known or not self.instant:
                for _ in range(self.times):
                    known = module(pixels)
            if not self.noise:
                return known
            torch.manual_seed(0)
            return tuple(x + self.noise * torch.randn_like(x) for x in known)

        return run


@pytest.fixture
def compiler(monkeypatch):
    """Puts a stand-in in the place of torch.compile; this machine need not have a compiler."""

    def put(stand_in: StandIn) -> StandIn:
        monkeypatch.setattr(torch, "compile", stand_in)
        return stand_in

    monkeypatch.setattr(compile, "require_compiler", lambda device: None)
    return put


def _noise(encoder, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    shape = (count, 3, *encoder.preprocess.shape)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


@pytest.mark.slow
def test_it_pads_the_last_batch_and_compiles_once(vision_folder):
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


@pytest.mark.slow
def test_it_embeds_the_same_images_and_leaves_text_to_torch(clip_folder, pictures):
    plain = load_dual(str(clip_folder), "cpu", "float32")
    other = load_dual(str(clip_folder), "cpu", "float32", backend="compile", batch_size=4)
    np.testing.assert_allclose(
        other.embed_images(pictures), plain.embed_images(pictures), atol=1e-5
    )
    np.testing.assert_array_equal(other.embed_texts(["a b"]), plain.embed_texts(["a b"]))
    assert (plain.ran_in, other.ran_in) == ("float32", "float32+compile")


@pytest.mark.parametrize("family", ["clip", "siglip", "dinov2", "siglip2"])
def test_every_family_gives_its_features_through_the_compiled_forward(
    family, vision_folder, compiler
):
    stand_in = compiler(StandIn())
    folder = vision_folder(family)
    plain = load_vision(folder, "cpu", "float32")
    other = load_vision(folder, "cpu", "float32", backend="compile", batch_size=4)
    for count in (1, 4, 7):
        pixels = _noise(plain, count)
        expected, found = plain.encode_pixels(pixels), other.encode_pixels(pixels)
        torch.testing.assert_close(found.patches, expected.patches, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(found.pooled, expected.pooled, atol=1e-5, rtol=1e-4)
        assert (found.cls is None) == (expected.cls is None)
    assert set(stand_in.sizes) == {4}


@pytest.mark.skipif(not cpu_has_bf16(), reason="this CPU has no bf16")
def test_it_runs_in_the_format_of_the_encoder(vision_folder, compiler):
    compiler(StandIn())
    half = load_vision(vision_folder("clip"), "cpu", backend="compile")
    assert half.ran_in == "bfloat16+compile"
    found = half.encode_pixels(_noise(half, 5))
    assert found.patches.dtype == found.pooled.dtype == torch.bfloat16


def test_another_result_than_torchs_is_refused(vision_folder, compiler):
    compiler(StandIn(noise=1.0))
    with pytest.raises(WorkError) as refused:
        load_vision(vision_folder("clip"), "cpu", "float32", backend="compile")
    assert "smallest cosine" in refused.value.got


def test_layers_and_attention_go_through_torch(vision_folder):
    folder = vision_folder("clip")
    plain = load_vision(folder, "cpu", "float32")
    other = load_vision(folder, "cpu", "float32")

    def never(pixels: Tensor) -> tuple[Tensor, ...]:
        raise AssertionError("the compiled forward was asked")

    other.backend = CompiledImageSide(never, FP32, 2)
    pixels = _noise(plain, 2)
    for wanted in ({"layers": (1,)}, {"attention": (-1,)}):
        expected, found = (e.encode_pixels(pixels, **wanted) for e in (plain, other))
        torch.testing.assert_close(found.pooled, expected.pooled)
    with pytest.raises(AssertionError, match="the compiled forward was asked"):
        other.encode_pixels(pixels)


def test_a_moved_encoder_lets_its_compiled_forward_go(vision_folder):
    encoder = load_vision(vision_folder("clip"), "cpu", "float32")
    encoder.backend = CompiledImageSide(encoder.image_side(), FP32, 2)
    encoder.to(dtype=torch.bfloat16)
    assert encoder.ran_in == "bfloat16"


def test_a_cached_model_is_not_the_one_that_is_changed(vision_folder, compiler):
    from encoderlab.encoders.model_cache import share

    compiler(StandIn())
    before = share(1 << 30)
    try:
        plain = load_vision(vision_folder("clip"), "cpu", "float32")
        load_vision(vision_folder("clip"), "cpu", "bfloat16", backend="auto")
        assert load_vision(vision_folder("clip"), "cpu", "float32") is plain
        assert (plain.ran_in, next(plain.tower.parameters()).dtype) == ("float32", FP32)
    finally:
        share(before)


def test_batches_of_one_size_are_cut_and_padded():
    seen: list[int] = []

    def run(pixels: Tensor) -> tuple[Tensor, ...]:
        seen.append(len(pixels))
        return (pixels * 2, pixels.sum(dim=(1, 2, 3)))

    pixels = torch.arange(7.0).reshape(7, 1, 1, 1)
    doubled, sums = CompiledImageSide(run, FP32, 3)(pixels)
    assert seen == [3, 3, 3]
    assert torch.equal(doubled, pixels * 2) and torch.equal(sums, torch.arange(7.0))


def test_out_of_memory_halves_the_size_for_the_next_try():
    def tight(pixels: Tensor) -> tuple[Tensor, ...]:
        if len(pixels) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return (pixels,)

    run = CompiledImageSide(tight, FP32, 4)
    with pytest.raises(torch.OutOfMemoryError):
        run(torch.ones(4, 1, 1, 1))
    assert run.batch == 2
    assert len(run(torch.ones(3, 1, 1, 1))[0]) == 3


@pytest.fixture
def no_compiler(monkeypatch):
    from torch._inductor import cpp_builder, exc

    def none_found() -> str:
        raise exc.InvalidCxxCompiler

    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", none_found)
    monkeypatch.setattr("torch.utils._triton.has_triton", lambda: False)


def test_a_missing_compiler_is_named(no_compiler, vision_folder):
    with pytest.raises(MissingError) as refused:
        load_vision(vision_folder("clip"), "cpu", "float32", backend="compile")
    assert "no C++ compiler" in refused.value.what and "g++" in refused.value.want
    with pytest.raises(MissingError) as refused:
        compile.require_compiler(torch.device("cuda", 0))
    assert "no Triton" in refused.value.what


def test_auto_without_a_compiler_is_torch(no_compiler, vision_folder, capsys):
    encoder = load_vision(vision_folder("clip"), "cpu", "float32", backend="auto")
    assert encoder.ran_in == "float32" and encoder.trial.chosen == "torch"
    assert "no C++ compiler" in encoder.trial.left_out
    assert encoder.trial.sentence() in capsys.readouterr().err


@pytest.mark.parametrize("name", ["compil", "openvino", "onnxruntime"])
def test_an_unknown_backend_is_met_before_the_model_is_loaded(name):
    with pytest.raises(UsageError) as refused:
        load_vision("no such model", "cpu", backend=name)
    assert name in refused.value.got and "torch, compile, auto" in str(refused.value)


def _auto(folder) -> BackendTrial:
    encoder = load_vision(folder, "cpu", "float32", backend="auto", batch_size=4)
    assert encoder.ran_in == ("float32+compile" if encoder.trial.chosen == "compile" else "float32")
    assert (encoder.trial.batch, encoder.trial.dtype) == (4, "float32")
    return encoder.trial


@pytest.mark.parametrize(
    ("stand_in", "left_out"),
    [
        ({"times": 4}, None),
        ({"noise": 1.0, "instant": True}, "under 0.999"),
        ({"noise": float("nan")}, "cosine nan"),
        ({"error": "no such kernel\nand more lines"}, "it failed: no such kernel"),
    ],
    ids=["slower", "something else", "not a number", "an error"],
)
def test_auto_takes_torch_where_compile_is_slower_or_wrong(
    stand_in, left_out, vision_folder, compiler
):
    compiler(StandIn(**stand_in))
    trial = _auto(vision_folder("clip"))
    assert trial.chosen == "torch"
    if left_out is None:
        assert trial.left_out is None and trial.ratio < 0.8
    else:
        assert left_out in trial.left_out and trial.ratio is None


def test_auto_takes_compile_where_it_gives_the_same_and_is_faster(vision_folder, compiler):
    compiler(StandIn(instant=True))
    trial = _auto(vision_folder("clip"))
    assert trial.chosen == "compile" and trial.ratio > 2
    assert trial.compile_images_per_s > trial.torch_images_per_s > 0
    assert trial.cosine == pytest.approx(1, abs=1e-6) and trial.difference < 1e-5


@pytest.mark.parametrize(
    ("stand_in", "chosen"), [(StandIn(times=4), "torch"), (StandIn(instant=True), "compile")]
)
def test_other_processes_run_what_auto_chose_here(stand_in, chosen, vision_folder, compiler):
    from encoderlab.encoders.load_spec import load_spec_of

    compiler(stand_in)
    encoder = load_vision(vision_folder("clip"), "cpu", "float32", backend="auto", batch_size=4)
    assert load_spec_of(encoder).given["backend"] == chosen


@pytest.mark.parametrize(("ratio", "chosen"), [(0.9, "torch"), (1.04, "torch"), (1.06, "compile")])
def test_compiling_must_be_worth_its_time(ratio, chosen):
    trial = BackendTrial("x", "cpu", 4, "float32", 10.0, 10 * ratio, ratio, 1.0, 0.0, 1.0)
    assert trial.chosen == chosen
    assert json.loads(json.dumps(trial.to_json()))["chosen"] == chosen


def test_parity_is_the_worst_over_images_and_tokens():
    tokens = torch.zeros(2, 3, 4)
    vectors = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    other, turned = tokens.clone(), torch.tensor([[1.0, 0.0], [1.2, 1.6]])
    other[1, 2, 3] = -0.5
    cosine, difference = compile.parity((tokens, vectors), (other, turned))
    assert cosine == pytest.approx(0.8) and difference == 0.5


def test_the_pictures_of_the_check_fill_any_batch(vision_folder):
    encoder = load_vision(vision_folder("clip"), "cpu", "float32")
    pixels = compile.pictures(encoder.preprocess, 40, torch.device("cpu"))
    assert pixels.shape == (40, 3, 32, 32)
    assert torch.equal(pixels[32:], pixels[:8]) and not torch.equal(pixels[0], pixels[1])


def test_compiled_features_have_a_table_of_their_own(vision_folder, world, tmp_path, capsys):
    from encoderlab.data import read_samples
    from encoderlab.feature_store.extract import extract_images
    from encoderlab.feature_store.store import FeatureStore

    encoder = load_vision(vision_folder("clip"), "cpu", "float32")
    samples = read_samples(world / "images")[:5]
    extract_images(encoder, samples, tmp_path)
    encoder.backend = CompiledImageSide(encoder.image_side(), FP32, 4)
    assert extract_images(encoder, samples, tmp_path).computed == 5
    assert {table.key.dtype for table in FeatureStore(tmp_path).tables()} == {
        "float32",
        "float32+compile",
    }
    # With layers everything comes from torch, which has the pooled vectors already.
    capsys.readouterr()
    extract_images(encoder, samples, tmp_path, what=["pooled", "mean@1"])
    assert "hidden layers go through torch, not compile" in capsys.readouterr().err
    kept = {(one.key.what, one.key.dtype) for one in FeatureStore(tmp_path).tables()}
    assert kept == {
        ("pooled", "float32"), ("pooled", "float32+compile"), ("mean@1", "float32"),
    }  # fmt: skip


@pytest.mark.parametrize("later", [0, 1, 2])
def test_results_that_are_fetched_later_are_the_same(
    later, clip_folder, world, tmp_path, monkeypatch
):
    from encoderlab.data import Sample, read_samples
    from encoderlab.feature_store import extract, pipeline

    monkeypatch.setattr(pipeline, "FETCHED_LATER", {"cpu": later})
    good = read_samples(world / "images")
    samples = [*good[:3], Sample("gone", tmp_path / "gone.jpg"), *good[3:]]
    dual, vision = (load(str(clip_folder), "cpu", "float32") for load in (load_dual, load_vision))
    embedded = extract.embed_samples(dual, samples, 4)
    assert embedded.samples == good and [one.id for one in embedded.skipped] == ["gone"]
    stored = extract.extract_images(vision, samples, tmp_path / "store", batch_size=4, chunk_size=7)
    assert stored.samples == good
    for i, sample in enumerate(good):
        alone = vision.encode([sample.load()]).pooled[0]
        np.testing.assert_allclose(stored.array()[i], alone, atol=1e-5)
        unit = torch.nn.functional.normalize(alone, dim=0)
        np.testing.assert_allclose(embedded.vectors[i], unit, atol=1e-5)


@pytest.mark.parametrize("backend", ["compile", "auto"])
def test_speed_times_the_compiled_forward_and_counts_torchs_operations(
    backend, clip_folder, compiler
):
    from encoderlab.alignment import speed

    compiler(StandIn(instant=True))
    name = str(clip_folder)
    plain = speed.run(encoders=[name], batch_sizes=[1, 2], device="cpu", dtype="float32")
    other = speed.run(
        encoders=[name], batch_sizes=[1, 2], device="cpu", dtype="float32", backend=backend
    )
    assert [row.ran_in for row in plain.rows] == ["float32"] * 2
    assert [row.ran_in for row in other.rows] == ["float32+compile"] * 2
    assert other.rows[0].gflop_per_image == plain.rows[0].gflop_per_image > 0
    trials = other.to_json()["backend_trials"]
    assert [(one["encoder"], one["batch"]) for one in trials] == [(name, 2)] * (backend == "auto")
    sentences = [trial.sentence().replace(name, clip_folder.name) for trial in other.backend_trials]
    assert all(sentence in other.to_text() for sentence in sentences)
