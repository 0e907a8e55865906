"""Texts to token ids and back, with one interface for all vocabularies.

There are three kinds: byte-level BPE trained on captions, CLIP's original BPE from its files, and
one token per character. All are Hugging Face `tokenizers` pipelines, stored in one JSON file that
transformers reads. Knows no embeddings.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from jaxtyping import Int
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as Pipeline
from torch import Tensor

from encoderlab.core.json_text import record_in
from encoderlab.errors import EncoderLabError, MissingError, UsageError

START, END = "<|startoftext|>", "<|endoftext|>"
UNKNOWN = "<|unknown|>"
KINDS = ("bpe", "char")


class Tokenizer:
    """A vocabulary with a fixed context length; call it with texts to get padded token ids.

    Each row is start-of-text, the truncated text, end-of-text, padding. In a vocabulary made here
    end-of-text has the highest id (never 2, for which Hugging Face's CLIP pools at the largest).

    Args:
        pipeline: of `tokenizers`, with start and end of text.
        context_length: length of a row, at least 3.
        pad_id: id of the padding; end-of-text if None.

    Raises:
        UsageError: no start or end of text, or a context length below 3.

    >>> tokenizer = Tokenizer.train_bpe(["a red circle", "파란 별"], vocab_size=300)
    >>> tokenizer.decode(tokenizer(["파란 별"])[0])
    '파란 별'
    """

    def __init__(self, pipeline: Pipeline, context_length: int, pad_id: int | None = None) -> None:
        start, end = pipeline.token_to_id(START), pipeline.token_to_id(END)
        if start is None or end is None:
            raise UsageError(
                "the tokenizer has no start or end of text",
                got=f"a vocabulary of {pipeline.get_vocab_size()} without {START} and {END}",
                want="the tokenizer of a CLIP checkpoint",
            )
        if context_length < 3:
            raise UsageError(
                "context length is too short",
                got=context_length,
                want="at least 3: start, one token, end",
            )
        self.pipeline = pipeline
        self.start_id, self.end_id = start, end
        self.pad_id = end if pad_id is None else pad_id
        self.context_length = context_length
        pipeline.post_processor = processors.TemplateProcessing(
            single=f"{START} $A {END}", special_tokens=[(START, start), (END, end)]
        )
        pipeline.enable_truncation(context_length)
        pipeline.enable_padding(
            length=context_length, pad_id=self.pad_id, pad_token=pipeline.id_to_token(self.pad_id)
        )

    @property
    def vocab_size(self) -> int:
        """The number of ids, with the special ones."""
        return self.pipeline.get_vocab_size()

    def _checked(self) -> Tokenizer:
        """Itself, after one call: a missing unknown token raises only when it is needed."""
        self(["a 1 가"])
        return self

    def check_fits(self, embeddings: int) -> None:
        """Raises for a vocabulary with ids that have no embedding.

        Args:
            embeddings: number of token embeddings of the model.

        Raises:
            UsageError: naming both numbers.
        """
        highest = max(self.pipeline.get_vocab().values(), default=0)
        if highest >= embeddings:
            raise UsageError(
                "the checkpoint's tokenizer does not fit its model",
                got=f"token {highest}",
                want=f"at most {embeddings - 1}: there are {embeddings} token embeddings",
            )

    def __call__(self, texts: Sequence[str]) -> Int[Tensor, "b context_length"]:
        """Token ids of `texts`, one padded row each."""
        rows = [encoding.ids for encoding in self.pipeline.encode_batch(list(texts))]
        return torch.tensor(rows, dtype=torch.long).reshape(len(rows), self.context_length)

    def cut_rows(self, texts: Sequence[str]) -> list[tuple[list[int], bool]]:
        """Token ids of `texts` without padding, and whether the text was truncated."""
        return [
            (encoding.ids[: sum(encoding.attention_mask)], bool(encoding.overflowing))
            for encoding in self.pipeline.encode_batch(list(texts))
        ]

    def decode(self, ids: Iterable[int] | Tensor) -> str:
        """The text of a row of ids, without special tokens."""
        row = ids.tolist() if isinstance(ids, Tensor) else list(ids)
        return self.pipeline.decode(row, skip_special_tokens=True).strip()

    def to_json(self) -> str:
        """The content of a `tokenizer.json`."""
        return self.pipeline.to_str()

    @classmethod
    def from_json(cls, text: str, context_length: int, pad_id: int | None = None) -> Tokenizer:
        """The tokenizer from the text of `to_json`."""
        try:
            return cls(Pipeline.from_str(text), context_length, pad_id)._checked()
        except Exception as error:
            raise _read_error(error, "a tokenizer's text") from error

    @classmethod
    def train_bpe(
        cls, texts: Iterable[str], vocab_size: int = 4000, context_length: int = 64
    ) -> Tokenizer:
        """Byte-level BPE trained on `texts`: every script can be encoded, without unknown tokens.

        As in the original CLIP, text is NFC-normalised, lower-cased, and white space is collapsed.

        Args:
            texts: read once; blank ones are left out.
            vocab_size: the largest number of tokens.
            context_length: number of ids per text.

        Returns:
            The tokenizer.

        Raises:
            UsageError: no text, or a vocabulary too small for the 256 bytes and two special ids.
        """
        if vocab_size < 258:
            raise UsageError(
                "vocabulary is too small",
                got=vocab_size,
                want="at least 258: 256 bytes, start and end of text",
            )
        pipeline = Pipeline(models.BPE())
        pipeline.normalizer = _normalise_text()
        pipeline.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        pipeline.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size - 2,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        pipeline.train_from_iterator(_not_blank(texts), trainer)
        return cls(_with_ends(pipeline), context_length)

    @classmethod
    def train_characters(
        cls, texts: Iterable[str], vocab_size: int = 4000, context_length: int = 64
    ) -> Tokenizer:
        """One token per character of `texts`.

        Args:
            texts: read once; blank ones are left out.
            vocab_size: the largest number of tokens; rarer characters become unknown.
            context_length: number of ids per text.

        Returns:
            The tokenizer.

        Raises:
            UsageError: no text, or a vocabulary smaller than four.
        """
        if vocab_size < 4:
            raise UsageError(
                "vocabulary is too small",
                got=vocab_size,
                want="at least 4: one character, unknown, start and end of text",
            )
        pipeline = Pipeline(models.WordLevel(unk_token=UNKNOWN))
        pipeline.normalizer = _normalise_text()
        pipeline.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
        pipeline.decoder = decoders.Fuse()
        trainer = trainers.WordLevelTrainer(
            vocab_size=vocab_size - 2, special_tokens=[UNKNOWN], show_progress=False
        )
        pipeline.train_from_iterator(_not_blank(texts), trainer)
        return cls(_with_ends(pipeline), context_length)

    @classmethod
    def train(cls, kind: str, texts: Iterable[str], vocab_size: int, context_length: int):
        """A tokenizer of `kind` ("bpe" or "char") learned from `texts`."""
        if kind not in KINDS:
            raise UsageError(
                "unknown tokenizer",
                got=kind,
                want=" or ".join(KINDS),
                hint="or a folder that holds CLIP's own tokenizer files",
            )
        make = cls.train_bpe if kind == "bpe" else cls.train_characters
        return make(texts, vocab_size, context_length)

    @classmethod
    def from_folder(
        cls, folder: Path, context_length: int = 77, pad_id: int | None = None
    ) -> Tokenizer:
        """The tokenizer of `tokenizer.json`, else of CLIP's `vocab.json` and `merges.txt`."""
        whole = folder / "tokenizer.json"
        try:
            if whole.is_file():
                return cls(Pipeline.from_file(str(whole)), context_length, pad_id)._checked()
            if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
                return cls(_original_clip(folder), context_length, pad_id)
        except Exception as error:
            raise _read_error(error, str(folder)) from error
        raise MissingError(
            "no tokenizer in the folder",
            got=str(folder),
            want="tokenizer.json, or vocab.json and merges.txt",
            hint="download them from where the checkpoint came from",
        )


def _read_error(error: Exception, what: str) -> Exception:
    """The error to raise for an error in reading a tokenizer."""
    # tokenizers raises a plain Exception for malformed files.
    foreign = type(error) is Exception or isinstance(
        error, ValueError | KeyError | TypeError | AttributeError | OverflowError
    )
    if isinstance(error, EncoderLabError | OSError) or not foreign:
        return error
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
    return UsageError(
        "the tokenizer file cannot be read",
        got=what,
        want=f"a Hugging Face tokenizer.json ({reason})",
    )


def _not_blank(texts: Iterable[str]) -> list[str]:
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise UsageError(
            "no text to learn a vocabulary from",
            got="0 captions",
            want="at least one caption that is not blank",
        )
    return texts


def _normalise_text() -> normalizers.Sequence:
    return normalizers.Sequence(
        [
            normalizers.NFC(),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Lowercase(),
            normalizers.Strip(),
        ]
    )


def _with_ends(pipeline: Pipeline) -> Pipeline:
    # Added last, so that end-of-text has the highest id.
    pipeline.add_special_tokens([START, END])
    return pipeline


def _original_clip(folder: Path) -> Pipeline:
    """CLIP's own lower-cased BPE, whose words end in `</w>` (Radford et al. 2021, 2.4)."""
    vocabulary = record_in(folder / "vocab.json")
    lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
    merges = [
        (first, second)
        for first, _, second in (line.partition(" ") for line in lines)
        if second and not first.startswith("#version")
    ]
    pipeline = Pipeline(
        models.BPE(
            vocabulary,
            merges,
            unk_token=END,
            end_of_word_suffix="</w>",
            continuing_subword_prefix="",
            fuse_unk=False,
        )
    )
    pipeline.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    words = Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    pipeline.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(words, behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    pipeline.decoder = decoders.ByteLevel()
    return _with_ends(pipeline)
