"""`encoderlab export` and `--backend` as a user types them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from encoderlab.encoders import export as exporting
from encoderlab.encoders.dual import load_dual
from encoderlab.encoders.vision import load_vision

TEXTS = ["a large red circle", "파란 별"]


def _run(file: Path, **inputs) -> dict[str, np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_outputs()]
    return dict(zip(names, session.run(None, inputs), strict=True))


def test_exported_files_work_without_us(lab, clip_folder, pictures, tmp_path):
    """With transformers' processors and ONNX Runtime alone: the embeddings of `load_dual`."""
    from transformers import AutoTokenizer
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    answer = lab("export", str(clip_folder), "--json", "--batch-sizes", "1", "3")
    assert answer.code == 0, answer.err
    folder = Path("outputs/export") / clip_folder.name
    assert Path(answer.json["folder"]) == folder
    about = json.loads((folder / "export.json").read_text())
    pixels = CLIPImageProcessorPil.from_pretrained(folder)(pictures, return_tensors="np")
    seen = _run(folder / "vision.onnx", pixels=pixels["pixel_values"])
    ids = AutoTokenizer.from_pretrained(folder)(
        TEXTS, padding="max_length", max_length=about["tokenizer"]["length"], truncation=True,
        return_tensors="np",
    )["input_ids"]  # fmt: skip
    read = _run(folder / "text.onnx", input_ids=ids)
    dual = load_dual(str(clip_folder), "cpu", "float32")
    np.testing.assert_allclose(seen["image_embedding"], dual.embed_images(pictures), atol=1e-5)
    np.testing.assert_allclose(read["text_embedding"], dual.embed_texts(TEXTS), atol=1e-5)
    plain = load_vision(clip_folder, "cpu", "float32").encode(pictures)
    np.testing.assert_allclose(seen["patches"], plain.patches, atol=1e-4)
    np.testing.assert_allclose(seen["pooled"], plain.pooled, atol=1e-4)
    assert about["fingerprint"] == dual.fingerprint
    assert about["logit_scale"] == pytest.approx(dual.logit_scale)
    checks = about["parity"]["checks"]
    assert {one["output"] for one in checks} == {
        "patches", "pooled", "image_embedding", "text_embedding",
    }  # fmt: skip
    assert all(one["cosine"] >= 0.9999 and one["batches"] == [1, 3] for one in checks)
    assert answer.json["checks"] == checks
    assert sorted(path.name for path in Path("outputs/export").iterdir()) == [
        "config.yaml", "run.json", clip_folder.name,
    ]  # fmt: skip


def test_a_tower_without_text_is_exported_alone_and_replaced_by_the_next(lab, vision_folder):
    folder = vision_folder("dinov2")
    words = ("export", str(folder), "--output-dir", "here", "--batch-sizes", "2")
    answer = lab(*words)
    assert answer.code == 0, answer.err
    place = Path("here") / folder.name
    assert "vision.onnx  pooled" in answer.out and "batches of 2" in answer.out
    (place / "stale").touch()
    assert lab(*words).code == 0
    assert sorted(one.name for one in place.iterdir()) == [
        "export.json", "preprocessor_config.json", "vision.onnx",
    ]  # fmt: skip
    assert json.loads((place / "export.json").read_text())["tokenizer"] is None


def test_text_can_be_left_out(lab, clip_folder):
    answer = lab("export", str(clip_folder), "--no-text", "--batch-sizes", "1", "--json")
    assert answer.code == 0, answer.err
    assert "text.onnx" not in answer.json["files"] and "vision.onnx" in answer.json["files"]


def test_a_file_that_gives_something_else_is_not_kept(lab, vision_folder, monkeypatch):
    class Wrong(exporting._Vision):
        def forward(self, pixels):
            patches, pooled = super().forward(pixels)
            return patches, pooled + torch.linspace(-1, 1, pooled.shape[-1])

    write = exporting._write_vision

    def write_wrongly(*given):
        with monkeypatch.context() as meanwhile:
            meanwhile.setattr(exporting, "_Vision", Wrong)
            return write(*given)

    monkeypatch.setattr(exporting, "_write_vision", write_wrongly)
    answer = lab("export", str(vision_folder("vit")), "--output-dir", "out", "--batch-sizes", "2")
    assert answer.code == 1 and "differs from torch" in answer.err, answer.err
    assert "pooled: smallest cosine" in answer.err
    assert not list(Path("out").iterdir())


def test_what_is_no_export_is_not_overwritten(lab, vision_folder):
    folder = vision_folder("vit")
    there = Path("out") / folder.name
    there.mkdir(parents=True)
    (there / "mine.txt").write_text("mine")
    answer = lab("export", str(folder), "--output-dir", "out")
    assert answer.code == 2 and "no export is in the way" in answer.err
    assert (there / "mine.txt").read_text() == "mine"


def test_an_encoder_that_cannot_be_exported_says_so(lab, vision_folder):
    answer = lab("export", str(vision_folder("siglip2")), "--no-text", "--output-dir", "out")
    assert answer.code == 2 and "cannot be written as an ONNX graph" in answer.err, answer.err
    assert not list(Path("out").iterdir())


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("tiny-clip", "tiny-clip"),
        ("openai/clip-vit-base-patch32@main", "clip-vit-base-patch32-main"),
        ("untrained:tiny-dinov2", "untrained-tiny-dinov2"),
        ("runs/best.ckpt", "best"),
    ],
)
def test_every_model_has_a_folder_of_its_own(name, folder):
    assert exporting.folder_name(name) == folder


def test_a_clip_is_written_for_open_clip_and_read_back(lab, clip_folder, pictures, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(Path("cache").absolute()))
    answer = lab("export", str(clip_folder), "--form", "open_clip", "--json")
    assert answer.code == 0, answer.err
    folder = Path("outputs/export") / clip_folder.name
    assert sorted(answer.json["files"]) == [
        "export.json", "open_clip_config.json", "open_clip_model.safetensors",
        "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip
    assert [check["difference"] for check in answer.json["checks"]] == [0, 0]
    here, back = (load_dual(str(one), "cpu", "float32") for one in (clip_folder, folder))
    np.testing.assert_allclose(back.embed_images(pictures), here.embed_images(pictures), atol=1e-6)
    np.testing.assert_allclose(back.embed_texts(TEXTS), here.embed_texts(TEXTS), atol=1e-6)
    assert torch.equal(back.tokenizer(TEXTS), here.tokenizer(TEXTS))


def test_only_a_clip_is_written_for_open_clip(lab):
    answer = lab("export", "tiny-siglip", "--form", "open_clip", "--output-dir", "out")
    assert answer.code == 2 and "siglip" in answer.err, answer.err
    assert not Path("out/tiny-siglip").exists()


# -- --backend -----------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["features", "index", "evaluate", "classify", "speed"])
def test_backends_are_offered_where_images_are_embedded_in_bulk(command, lab, settings):
    assert settings(command)["backend"] == "torch"
    words = ["extract"] if command == "features" else []
    assert settings(command, *words, "--backend", "auto")["backend"] == "auto"
    for gone in ("openvino", "onnxruntime"):
        answer = lab(command, f"backend={gone}")
        assert answer.code == 2, answer.err
        assert gone in answer.err and "torch, compile, auto" in answer.err


@pytest.mark.slow
def test_features_are_extracted_by_the_backend_that_was_asked_for(lab, clip_folder, world):
    words = (
        "features", "extract", str(world / "images"), "--encoders", str(clip_folder),
        "--device", "cpu", "--dtype", "float32",
    )  # fmt: skip
    assert "20 computed now" in lab(*words).out
    answer = lab(*words, "--backend", "compile")
    assert answer.code == 0, answer.err
    assert "20 computed now" in answer.out and "float32+compile" in answer.out
    assert "backend: compile is ready" in answer.err
    assert "0 computed now" in lab(*words, "--backend", "compile").out


@pytest.mark.slow
def test_evaluation_records_the_backend_and_finds_the_same(lab, world):
    # A trained model: random weights give near-ties that the last digits of a backend turn around.
    words = (
        "evaluate", "--csv", str(world / "captions.csv"), "--model", "tiny-clip", "--json",
        "--device", "cpu", "--dtype", "float32",
    )  # fmt: skip
    plain, other = lab(*words).json, lab(*words, "--backend", "compile").json
    assert (plain["dtype"], other["dtype"]) == ("float32", "float32+compile")
    assert {**plain, "dtype": None} == {**other, "dtype": None}


def test_a_missing_package_is_named_with_its_extra(lab, vision_folder, monkeypatch):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n: (n != "onnxscript" and find(n)) or None
    )
    answer = lab("export", str(vision_folder("vit")))
    assert answer.code == 3 and "no onnxscript" in answer.err and "encoderlab[onnx]" in answer.err
