"""Vocabularies: any script survives a round trip, rows are well formed, CLIP's files are read."""

import json
import unicodedata

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import CLIPTokenizer

from encoderlab.errors import MissingError, UsageError
from encoderlab.models.clip import Tokenizer

CAPTIONS = ["a red circle", "a blue star under a red circle", "파란 별", "빨간 원 아래의 파란 별"]


@pytest.fixture(scope="module")
def bpe() -> Tokenizer:
    return Tokenizer.train_bpe(CAPTIONS * 10, vocab_size=400, context_length=64)


def _normal(text: str) -> str:
    # Lower-casing can decompose (İ becomes i and a dot), so both sides are composed again.
    return unicodedata.normalize(
        "NFC", " ".join(unicodedata.normalize("NFC", text).lower().split())
    )


hangul = st.text(st.characters(min_codepoint=0xAC00, max_codepoint=0xD7A3), min_size=1, max_size=8)


@given(words=st.lists(hangul, min_size=1, max_size=2))
def test_korean_survives_a_round_trip(bpe, words):
    text = " ".join(words)
    assert bpe.decode(bpe([text])[0]) == text


@given(text=st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), max_size=12))
def test_any_script_survives_a_round_trip(bpe, text):
    assert _normal(bpe.decode(bpe([text])[0])) == _normal(text)


@given(texts=st.lists(st.text(max_size=300), min_size=1, max_size=4))
def test_every_row_is_start_text_end_padding(bpe, texts):
    rows = bpe(texts)
    assert rows.shape == (len(texts), 64)
    ends = (rows == bpe.end_id).int().argmax(dim=1)
    for row, end in zip(rows, ends, strict=True):
        assert row[0] == bpe.start_id
        assert row[end] == bpe.end_id
        assert (row[end:] == bpe.pad_id).all()


@pytest.mark.parametrize("kind", ["bpe", "char"])
def test_end_of_text_has_the_highest_id_and_is_never_two(kind):
    tokenizer = Tokenizer.train(kind, ["ab"], 300, 16)
    assert tokenizer.end_id == tokenizer.vocab_size - 1
    assert tokenizer.end_id != 2


def test_characters_spell_what_they_have_seen():
    tokenizer = Tokenizer.train_characters(CAPTIONS, vocab_size=100, context_length=40)
    assert tokenizer.decode(tokenizer(["파란 원"])[0]) == "파란 원"
    assert int((tokenizer(["파란 원"]) != tokenizer.pad_id).sum()) == 4 + 1


def test_a_vocabulary_survives_as_json(bpe):
    again = Tokenizer.from_json(bpe.to_json(), bpe.context_length, bpe.pad_id)
    assert torch.equal(again(CAPTIONS), bpe(CAPTIONS))


def test_the_original_clip_files_give_the_ids_of_transformers(tmp_path):
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)] + list("0123456789,.!'")
    alphabet = letters + [letter + "</w>" for letter in letters]
    merges = [("r", "e"), ("re", "d</w>"), ("a", "r</w>"), ("c", "i"), ("l", "e</w>")]
    tokens = [*alphabet, *("".join(pair) for pair in merges), "<|startoftext|>", "<|endoftext|>"]
    (tmp_path / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (tmp_path / "merges.txt").write_text("\n".join(lines))
    ours = Tokenizer.from_folder(tmp_path, 24)
    theirs = CLIPTokenizer.from_pretrained(tmp_path)
    texts = ["A red  car, 42 of them!", "it's red", "little red circle"]
    expected = theirs(texts, padding="max_length", max_length=24, truncation=True).input_ids
    assert ours(texts).tolist() == expected


def test_a_vocabulary_too_small_or_without_text_is_refused():
    with pytest.raises(UsageError, match="at least 258"):
        Tokenizer.train_bpe(["a"], vocab_size=100)
    with pytest.raises(UsageError, match="no text to learn"):
        Tokenizer.train_bpe(["", "  "], vocab_size=300)
    with pytest.raises(UsageError, match="context length"):
        Tokenizer.train_bpe(["a"], 300, 2)


def test_a_folder_without_or_with_a_broken_tokenizer(tmp_path):
    with pytest.raises(MissingError, match="no tokenizer in the folder"):
        Tokenizer.from_folder(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{broken")
    with pytest.raises(UsageError, match="cannot be read"):
        Tokenizer.from_folder(tmp_path)
