"""Text adapters against the transformers call that a reader would write by hand."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from tests.small_checkpoints import BERT, TEXT, save_text, save_tokenizer

from encoderlab.core.progress import collect_warnings
from encoderlab.encoders.checkpoint import resolve
from encoderlab.encoders.manager import LLMManager
from encoderlab.encoders.text import CutTexts, load_text
from encoderlab.encoders.vision import load_vision
from encoderlab.errors import MissingError, UsageError
from encoderlab.feature_store.extract import extract_texts
from encoderlab.models.clip import Tokenizer

FP32 = {"device": "cpu", "dtype": "float32"}
TEXTS = ["w1 w2 w3", "w4", "w5 w6 w7 w8 w9 w10 w11"]
DECODERS = ("llama", "qwen2", "qwen3", "gemma3", "gemma3-text", "gpt2")


def by_hand(family: str, folder, text: str, layer: int = -1) -> torch.Tensor:
    """One sentence alone, without padding: nothing to mask, nothing to go wrong."""
    if family == "gemma3":
        whole = hf.Gemma3ForConditionalGeneration.from_pretrained(folder)
        model = whole.model.language_model
    elif family == "t5":
        model = hf.T5EncoderModel.from_pretrained(folder)
    else:
        model = hf.AutoModel.from_pretrained(folder)
    # Not AutoTokenizer: it puts Qwen's own splitting rules in place of the file's.
    tokenizer = hf.PreTrainedTokenizerFast.from_pretrained(folder)
    with torch.no_grad():
        out = model.eval()(**_ids(tokenizer, text), output_hidden_states=True)
    hidden = out.last_hidden_state if layer == -1 else out.hidden_states[layer]
    return hidden[0].mean(dim=0)


def _ids(tokenizer, text: str) -> dict[str, torch.Tensor]:
    return {"input_ids": torch.tensor([tokenizer(text).input_ids])}


@pytest.mark.parametrize("family", TEXT)
def test_a_batch_is_each_sentence_alone(family, text_folder):
    folder = text_folder(family)
    encoder = load_text(folder, **FP32)
    pooled = encoder.encode(TEXTS).pooled
    assert pooled.shape == (3, encoder.pooled_width)
    for row, text in zip(pooled, TEXTS, strict=True):
        assert torch.allclose(row, by_hand(family, folder, text), atol=1e-5)


@pytest.mark.parametrize("family", TEXT)
def test_the_side_of_the_padding_changes_nothing(family, text_folder):
    encoder = load_text(text_folder(family), **FP32)
    right = encoder.encode(TEXTS, layers=(1,))
    encoder.padding_side = "left"
    left = encoder.encode(TEXTS, layers=(1,))
    assert torch.allclose(left.pooled, right.pooled, atol=1e-5)
    assert torch.allclose(left.layers[1], right.layers[1], atol=1e-5)
    _, mask = encoder.padded(TEXTS)
    assert bool(mask[1, 0]) == (family not in DECODERS), "and it was on the left, for a decoder"


@pytest.mark.parametrize("family", ["llama", "gemma3-text", "bert"])
def test_any_layer_can_be_pooled(family, text_folder):
    encoder = load_text(text_folder(family), **FP32)
    seen = encoder.encode(TEXTS[:1], layers=(0, 1, -1))
    assert list(seen.layers) == [0, 1, 2]
    expected = by_hand(family, text_folder(family), TEXTS[0], layer=1)
    assert torch.allclose(seen.layers[1][0], expected, atol=1e-5)
    with pytest.raises(UsageError, match=r"no such layer.*7.*0 to 2"):
        encoder.encode(TEXTS, layers=(7,))


# family -> the last block, and the norm behind it; BERT's blocks end in a norm of their own.
ENDS = {
    "llama": ("layers.-1", "norm"), "qwen2": ("layers.-1", "norm"), "qwen3": ("layers.-1", "norm"),
    "gemma3": ("layers.-1", "norm"), "gemma3-text": ("layers.-1", "norm"),
    "gpt2": ("h.-1", "ln_f"), "bert": ("encoder.layer.-1", None),
    "t5": ("encoder.block.-1", "encoder.final_layer_norm"),
}  # fmt: skip


def part_of(network: torch.nn.Module, path: str):
    """A module by its path, where a number may count from the end."""
    for name in path.split("."):
        network = network[int(name)] if name.lstrip("-").isdigit() else getattr(network, name)
    return network


@pytest.mark.parametrize("family", TEXT)
def test_the_last_layer_is_what_leaves_the_last_block(family, text_folder):
    block, norm = ENDS[family]
    folder = text_folder(family)
    encoder = load_text(folder, **FP32)
    seen = encoder.encode(TEXTS, layers=(encoder.n_layers, -1))
    assert list(seen.layers) == [encoder.n_layers]
    plain = load_text(folder, **FP32).model
    left = {}
    part_of(plain, block).register_forward_hook(lambda m, i, out: left.update(block=out))
    if norm is not None:
        part_of(plain, norm).register_forward_hook(lambda m, i, out: left.update(norm=out))
    for row, text in enumerate(TEXTS):
        with torch.no_grad():
            plain(**_ids(encoder.tokenizer, text))
        raw = left["block"][0] if isinstance(left["block"], tuple) else left["block"]
        expected = raw.reshape(-1, raw.shape[-1]).mean(dim=0)
        torch.testing.assert_close(seen.layers[encoder.n_layers][row], expected, atol=1e-5, rtol=0)
        normed = left["norm"][0].mean(dim=0) if norm is not None else expected
        torch.testing.assert_close(seen.pooled[row], normed, atol=1e-5, rtol=0)
        assert (norm is None) == torch.allclose(normed, expected, atol=1e-3)


def test_sentences_are_cut_at_max_length(text_folder):
    folder = text_folder("llama")
    short = load_text(folder, **FP32, max_length=4)
    assert short.encode(TEXTS).tokens.tolist() == [4, 2, 4]
    expected = load_text(folder, **FP32).encode(["w5 w6 w7"]).pooled
    assert torch.allclose(short.encode(TEXTS).pooled[2:], expected, atol=1e-5)
    assert load_text(folder, **FP32).max_length == 64, "no further than the positions go"


def counted(texts: list[str], length: int) -> tuple[int, int, int]:
    """Texts cut, all texts, and those made equal, by enumeration; each begins with a token."""
    cut = [text for text in texts if len(text.split()) + 1 > length]
    kept = {text: " ".join(text.split()[: length - 1]) for text in texts}
    equal = {a for a in kept for b in kept if a != b and kept[a] == kept[b]}
    return len(cut), len(texts), len(equal)


@pytest.mark.parametrize("length", [3, 4, 5, 6, 9])
def test_texts_longer_than_the_context_are_counted(length, text_folder):
    encoder = load_text(text_folder("llama"), **FP32, max_length=length)
    rng = np.random.default_rng(0)
    texts = [" ".join(f"w{i}" for i in rng.integers(0, 2, n)) for n in rng.integers(1, 9, 40)]
    found = encoder.count_cut(texts)
    assert (found.cut, found.total, found.made_equal) == counted(texts, length)
    parts = CutTexts(encoder.name, length)
    for start in range(0, len(texts), 7):
        parts.add(texts[start : start + 7], encoder.cut_rows)
    assert parts.sentence() == found.sentence()
    assert (found.sentence() is None) == (found.cut == 0)


def test_a_text_that_is_cut_is_said_by_every_way_to_encode_it(text_folder, tmp_path, capsys):
    folder = text_folder("llama")
    encoder = load_text(folder, **FP32, max_length=4)
    texts = ["w1 w2 w3 w4", "w1 w2 w3 w5", "w1 w2 w3", "w1"]
    said = "2 of 4 texts are longer than the context of 4 tokens and are cut; 3 different texts "
    manager = LLMManager(device="cpu", dtype="float32", max_length=4)
    for encode in (
        lambda: encoder.encode(texts),
        lambda: manager.extract_text_embeddings(str(folder), texts, batch_size=1),
        lambda: extract_texts(encoder, texts, tmp_path, batch_size=1, chunk_size=1),
        lambda: extract_texts(encoder, texts, tmp_path),  # all of them are stored
    ):
        with collect_warnings() as warned:
            encode()
        (sentence,) = warned
        assert said in sentence and capsys.readouterr().err.count(said) == 1
    with collect_warnings() as warned:
        encoder.encode(texts[2:])
    assert warned == []


# family -> its network with 40 rows of positions, and the tokens that they are good for
POSITIONS = {
    "roberta": (hf.RobertaModel, hf.RobertaConfig, 37),
    "xlm-roberta": (hf.XLMRobertaModel, hf.XLMRobertaConfig, 37),
    "camembert": (hf.CamembertModel, hf.CamembertConfig, 37),
    "mpnet": (hf.MPNetModel, hf.MPNetConfig, 38),  # its padding is 1 whatever the tokenizer's
    "bert": (hf.BertModel, hf.BertConfig, 40),
    "opt": (hf.OPTModel, hf.OPTConfig, 40),  # it has two rows more than it says
}


@pytest.mark.parametrize("family", POSITIONS)
def test_a_long_text_is_cut_where_the_positions_end(family, tmp_path):
    network, config, usable = POSITIONS[family]
    more = {"word_embed_proj_dim": 32, "ffn_dim": 48} if family == "opt" else {}
    torch.manual_seed(0)
    network(config(**BERT | {"max_position_embeddings": 40} | more)).save_pretrained(tmp_path)
    save_tokenizer(tmp_path, pad=True)
    encoder = load_text(tmp_path, **FP32, max_length=1000)
    seen = encoder.encode(["w1 " * 100])
    assert encoder.max_length == usable and seen.tokens.tolist() == [usable]
    plain = hf.AutoModel.from_pretrained(tmp_path).eval()
    ids = torch.tensor([[1, *[4] * (usable - 1)]])  # <s> and w1
    with torch.no_grad():
        expected = plain(ids).last_hidden_state.mean(dim=1)
        with pytest.raises((IndexError, RuntimeError)):
            plain(torch.tensor([[4] * (usable + 1)]))  # one more has no position
    torch.testing.assert_close(seen.pooled, expected, atol=1e-5, rtol=0)


def test_an_empty_sentence_has_a_vector_too(tmp_path):
    folder = save_text("qwen2", tmp_path)
    save_tokenizer(folder, start=False)
    seen = load_text(folder, **FP32).encode(["", "w1"])
    assert seen.pooled.isfinite().all() and seen.tokens.tolist() == [1, 1]


def test_a_padding_token_or_none_is_the_same(text_folder, tmp_path):
    without = load_text(text_folder("llama"), **FP32)
    assert without.tokenizer.pad_token is None
    with_one = load_text(save_text("llama", tmp_path, pad=True), **FP32)
    assert torch.allclose(with_one.encode(TEXTS).pooled, without.encode(TEXTS).pooled, atol=1e-6)


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_a_clip_like_text_side_gives_its_projected_embedding(family, vision_folder, tmp_path):
    folder = shutil.copytree(vision_folder(family), tmp_path / family)
    save_tokenizer(folder, pad=True, end=family == "clip")
    encoder = load_text(folder, **FP32)
    tokenizer = hf.AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(
        TEXTS, padding="max_length", max_length=12, truncation=True, return_tensors="pt"
    )
    model = {"clip": hf.CLIPModel, "siglip": hf.SiglipModel}[family].from_pretrained(folder)
    with torch.no_grad():
        expected = model.get_text_features(**batch).pooler_output
    seen = encoder.encode(TEXTS)
    assert torch.allclose(seen.pooled, expected, atol=1e-5)
    assert seen.pooled.shape[1] == encoder.pooled_width
    with pytest.raises(UsageError, match=r"gives its projected embedding alone"):
        encoder.encode(TEXTS, layers=(0,))


def test_bf16_is_near_fp32(text_folder):
    folder = text_folder("qwen3")
    full = load_text(folder, **FP32).encode(TEXTS).pooled
    half = load_text(folder, "cpu", "bfloat16").encode(TEXTS).pooled
    assert half.dtype == torch.float32, "means of a half model are taken in fp32"
    assert float((full - half).norm() / full.norm()) < 0.03


@pytest.mark.parametrize(
    "option, error, words",
    [
        ({"quantize": "3bit"}, UsageError, "unknown quantisation.*3bit.*8bit or 4bit"),
        ({"quantize": "8bit"}, MissingError, "need a GPU.*8bit.*CUDA"),
        ({"max_length": 0}, UsageError, "max_length must be positive.*0"),
        ({"device_map": "auto"}, MissingError, "device_map='auto' needs accelerate"),
    ],
)
def test_an_option_that_cannot_be_met_is_refused(option, error, words, text_folder, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(error, match=words):
        load_text(text_folder("llama"), **FP32, **option)


def test_device_map_gives_the_same_numbers(text_folder):
    pytest.importorskip("accelerate")
    spread = load_text(text_folder("llama"), **FP32, device_map="auto").encode(TEXTS)
    whole = load_text(text_folder("llama"), **FP32).encode(TEXTS)
    assert torch.allclose(spread.pooled, whole.pooled, atol=1e-6)


@pytest.mark.parametrize("texts", [3, ["w1", None], []])
def test_what_is_no_text_is_refused(texts, text_folder):
    encoder = load_text(text_folder("llama"), **FP32)
    with pytest.raises(UsageError, match=r"not a text|no text to encode"):
        encoder.encode(texts)


def test_a_checkpoint_without_a_tokenizer_says_so(tmp_path, text_folder):
    folder = shutil.copytree(text_folder("llama"), tmp_path / "bare")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(UsageError, match=r"no tokenizer that can be used"):
        load_text(folder, **FP32)


def test_a_vision_model_is_no_language_model(vision_folder):
    with pytest.raises(UsageError, match=r"no tokenizer|no language model"):
        load_text(vision_folder("dinov2"), **FP32)


def test_remote_code_of_a_language_model_is_off_too(tmp_path, text_folder):
    folder = shutil.copytree(text_folder("llama"), tmp_path / "internlm")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "internlm2", "auto_map": {"AutoModel": "modeling.InternLM2Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match=r"runs Python of its own.*--trust-remote-code"):
        load_text(folder, **FP32)


def test_an_unknown_name_points_to_the_list_of_llms():
    with pytest.raises(MissingError, match=r"unknown model.*'lama'.*'llama'\?.*ls llms"):
        load_text("lama", **FP32)


def test_a_configuration_of_a_larger_model_is_refused_before_it_takes_memory(text_folder, tmp_path):
    folder = shutil.copytree(text_folder("bert"), tmp_path / "bert")
    (folder / "config.json").write_text(json.dumps({"model_type": "paligemma"}))
    for load in (load_text, load_vision):
        with pytest.raises(UsageError, match="more weights than the checkpoint has"):
            load(folder, **FP32)


def test_a_padding_token_without_a_vector_of_its_own_is_not_read(text_folder):
    folder = text_folder("llama")
    encoder, plain = load_text(folder, **FP32), load_text(folder, **FP32)
    encoder.tokenizer.add_special_tokens({"pad_token": "[added]"})
    assert encoder.tokenizer.pad_token_id >= encoder.model.config.vocab_size
    assert torch.equal(encoder.encode(TEXTS).pooled, plain.encode(TEXTS).pooled)


def test_a_network_that_does_not_run_is_its_checkpoints_fault(text_folder, tmp_path):
    folder = shutil.copytree(text_folder("bert"), tmp_path / "bert")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_dropout_prob": math.nan}))
    with pytest.raises(UsageError, match=r"network does not run.*dropout"):
        load_text(folder, **FP32).encode(TEXTS)


def test_only_the_first_run_is_the_checkpoints(text_folder):
    encoder = load_text(text_folder("llama"), **FP32)
    forward = encoder.model.forward

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("shapes differ")

    encoder.model.forward = broken
    with pytest.raises(UsageError, match=r"the checkpoint's network does not run.*shapes differ"):
        encoder.encode(TEXTS)
    encoder.model.forward = forward
    encoder.encode(TEXTS)
    encoder.model.forward = broken
    with pytest.raises(RuntimeError, match=r"^shapes differ"):
        encoder.encode(TEXTS)


def _write_gguf(file: Path, model: hf.Qwen2ForCausalLM, pipeline: dict[str, Any]) -> None:
    """The model as llama.cpp stores it, with the package that llama.cpp writes files with."""
    gguf = pytest.importorskip("gguf")
    config, writer = model.config, gguf.GGUFWriter(file, "qwen2")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    vocabulary = {token["content"]: token["id"] for token in pipeline["added_tokens"]}
    vocabulary |= pipeline["model"]["vocab"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(sorted(vocabulary, key=vocabulary.__getitem__))
    writer.add_token_merges([" ".join(pair) for pair in pipeline["model"]["merges"]])
    writer.add_eos_token_id(config.vocab_size - 1)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN2, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        writer.add_tensor(names.get_name(name, (".weight", ".bias")), tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_gguf_file_is_the_model_that_was_written(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    tokenizer = Tokenizer.train_bpe(["a large red circle"], vocab_size=270)
    torch.manual_seed(0)
    # Not tied: the head of another file is a tensor of its own.
    config = hf.Qwen2Config(
        vocab_size=tokenizer.vocab_size, hidden_size=32, num_hidden_layers=2, intermediate_size=48,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=64,
        tie_word_embeddings=False,
    )  # fmt: skip
    model = hf.Qwen2ForCausalLM(config).eval()
    folder = tmp_path / "folder"
    folder.mkdir()
    _write_gguf(folder / "small.gguf", model, json.loads(tokenizer.to_json()))
    encoder = load_text(folder / "small.gguf", **FP32)
    text = "a large red circle"
    ids = encoder.tokenizer(text).input_ids
    assert encoder.tokenizer.decode(ids) == text
    with torch.no_grad():
        expected = model.model(torch.tensor([ids])).last_hidden_state[0].mean(dim=0)
    assert torch.allclose(encoder.encode(text).pooled[0], expected, atol=1e-6)
    assert resolve(folder, language=True).path == encoder.checkpoint.path
    (folder / "second.gguf").touch()
    with pytest.raises(UsageError, match="several"):
        load_text(folder, **FP32)


def test_a_damaged_gguf_file_is_refused(tmp_path, monkeypatch):
    pytest.importorskip("gguf")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "small.gguf").write_bytes(b"GGUF and no more")
    with pytest.raises(UsageError):
        load_text(tmp_path / "small.gguf", **FP32)


def test_a_gguf_file_needs_a_package(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (tmp_path / "small.gguf").touch()
    with pytest.raises(MissingError) as caught:
        load_text(tmp_path / "small.gguf", **FP32)
    assert "encoderlab[gguf]" in str(caught.value)
