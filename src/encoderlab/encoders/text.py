"""Language models and text encoders: sentences in, one vector each out.

A language model's vector is the mean of its hidden states over the tokens that are text; a
CLIP-like model's is its projected text embedding. Shapes: b batch, t tokens, d width.
"""

from __future__ import annotations

import copy
import importlib.util
import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from encoderlab.core.common_settings import QUANTISED
from encoderlab.core.progress import note, warn
from encoderlab.encoders.checkpoint import TRAINING, Checkpoint, resolve
from encoderlab.encoders.encoder import Encoder, evaluating, ordinary
from encoderlab.encoders.hardware import choose_device, choose_dtype
from encoderlab.encoders.layers import final_norms, layer_numbers
from encoderlab.encoders.load_spec import reloadable
from encoderlab.encoders.loading import (
    built,
    first_line,
    load_part,
    pretrained,
    quiet_loading,
    read_config,
    require_finite,
)
from encoderlab.encoders.model_cache import shareable
from encoderlab.errors import MissingError, UsageError
from encoderlab.models.clip.conversion import warn_of_other_end
from encoderlab.models.folder import read_record

MAX_LENGTH = 128
COUNTED_TOGETHER = 10_000
SIDES = ("right", "left")
# Families whose sentence vector is a projection of the model, not a mean over tokens.
PROJECTED = ("clip", "siglip", "siglip2")


@dataclass(frozen=True)
class TextFeatures:
    """Features of a batch of sentences.

    Args:
        pooled: (b, d) one vector per sentence, in fp32, not normalised; of a language model after
            the final norm.
        layers: the same pooling of the requested hidden states: 0 what enters the first block, k
            what leaves block k, without the final norm.
        tokens: (b,) how many tokens of each sentence were read.
    """

    pooled: Tensor
    layers: Mapping[int, Tensor] = field(default_factory=dict)
    tokens: Tensor | None = None


# Texts -> their token ids without padding, and whether each text was cut.
CutRows = Callable[[Sequence[str]], Sequence[tuple[Sequence[int], bool]]]


class CutTexts:
    """Counts the texts that are longer than a context, and those that cutting makes equal.

    Args:
        model: the name of the model with that context.
        context: how many tokens of a text are read.
        called: what the texts are, in the plural, for the warning.
    """

    def __init__(self, model: str, context: int, called: str = "texts") -> None:
        self.model, self.context, self.called = model, context, called
        self.total = self.cut = 0
        # Hashes: no text of a million is kept.
        self._texts_of: dict[int, set[int]] = {}
        self._cut_rows: set[int] = set()

    def add(self, texts: Sequence[str], cut_rows: CutRows) -> None:
        """Counts texts; a repeated text counts each time."""
        times = Counter(texts)
        distinct = list(times)
        self.total += len(texts)
        for start in range(0, len(distinct), COUNTED_TOGETHER):
            part = distinct[start : start + COUNTED_TOGETHER]
            for text, (ids, is_cut) in zip(part, cut_rows(part), strict=True):
                if len(ids) < self.context:
                    continue
                row = hash(tuple(ids))
                self._texts_of.setdefault(row, set()).add(hash(text))
                if is_cut:
                    self.cut += times[text]
                    self._cut_rows.add(row)

    @property
    def made_equal(self) -> int:
        """How many different texts have the same tokens as another one after cutting."""
        sizes = (len(self._texts_of[row]) for row in self._cut_rows)
        return sum(size for size in sizes if size > 1)

    def warn(self) -> None:
        """Warns if any text was cut."""
        sentence = self.sentence()
        if sentence is not None:
            warn(sentence)

    def sentence(self) -> str | None:
        """The warning; None if no text was cut."""
        if not self.cut:
            return None
        equal = f"; {self.made_equal:,} different {self.called} become equal"
        return (
            f"{self.model}: {self.cut:,} of {self.total:,} {self.called} are longer than the "
            f"context of {self.context} tokens and are cut{equal if self.made_equal else ''}"
        )


class TextEncoder(Encoder):
    """A language model or text encoder.

    Pooled: the mean of the last hidden state, after the final norm, over all tokens but padding;
    special tokens that the tokenizer adds are included. Padding on either side gives the same
    vector.

    Args:
        model: gives `last_hidden_state`.
        tokenizer: one without a padding token is padded with its end-of-text token, masked.
        checkpoint: where the model came from.
        device: where it runs.
        dtype: the number format it runs in.
        max_length: sentences are cut after that many tokens.
        quantize: the format of the weights, "8bit" or "4bit"; None: that of `dtype`.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        checkpoint: Checkpoint,
        device: torch.device,
        dtype: torch.dtype,
        max_length: int = MAX_LENGTH,
        quantize: str | None = None,
    ) -> None:
        super().__init__(model.eval(), checkpoint, device, dtype)
        self.tokenizer, self.quantize = tokenizer, quantize
        if max_length < 1:
            raise UsageError("max_length must be positive", got=max_length)
        self.max_length = min(max_length, positions_of(model) or max_length)
        self.padding_side = "right"
        self.width = int(model.config.hidden_size)
        self.n_layers = int(model.config.num_hidden_layers)
        self._accepted = frozenset(inspect.signature(model.forward).parameters)
        self._causal = _is_causal(model)

    @property
    def ran_in(self) -> str:
        """The part of a stored feature's key that names the number format and the quantisation of
        the weights: `bfloat16+8bit`."""
        return super().ran_in + (f"+{self.quantize}" if self.quantize else "")

    @property
    def pooled_width(self) -> int:
        """Width of the pooled vector."""
        return self.width

    def encode(self, texts: str | Sequence[str], *, layers: Sequence[int] = ()) -> TextFeatures:
        """Vectors of sentences, one batch, in eval mode and without gradients; warns of those that
        are cut.

        Args:
            texts: one sentence or a list of them.
            layers: which hidden states to pool as well, 0 to `n_layers`; negative from the end. -1
                is what leaves the last block, before the final norm; `pooled` is after it.

        Returns:
            A vector per sentence, and per layer, as ordinary fp32 tensors.

        Raises:
            UsageError: no text, something that is no text, or an unknown layer.
        """
        sentences = as_texts(texts)
        self.count_cut(sentences).warn()
        return self.encode_batch(sentences, layers=layers)

    def count_cut(self, texts: Sequence[str]) -> CutTexts:
        """How many of `texts` are longer than `max_length` tokens."""
        counts = CutTexts(self.name, self.max_length)
        counts.add(texts, self.cut_rows)
        return counts

    def cut_rows(self, texts: Sequence[str]) -> list[tuple[list[int], bool]]:
        """Token ids of each text without padding, and whether the text was cut."""
        if not texts:
            return []
        whole = self.tokenizer(list(texts), verbose=False).input_ids
        return [
            (self.tokenizer(text, truncation=True, max_length=self.max_length).input_ids, True)
            if len(ids) > self.max_length
            else (ids, False)
            for text, ids in zip(texts, whole, strict=True)
        ]

    def encode_batch(
        self, texts: str | Sequence[str], *, layers: Sequence[int] = ()
    ) -> TextFeatures:
        """`encode` without a warning, for callers that warn once for all batches."""
        ids, mask = self.padded(as_texts(texts))
        with torch.inference_mode(), evaluating(self.model):
            features = self._features(ids, mask, layers)
        return TextFeatures(**ordinary(vars(features)))

    def forward(
        self,
        input_ids: Int[Tensor, "b t"],
        attention_mask: Int[Tensor, "b t"],
        *,
        layers: Sequence[int] = (),
    ) -> TextFeatures:
        """Vectors through which gradients flow into the parameters of `module`.

        Args:
            input_ids: as `padded` gives them.
            attention_mask: as `padded` gives it.
            layers: as of `encode`.

        Returns:
            Vectors in fp32; in the mode, training or eval, of `module`.

        Raises:
            UsageError: a layer that the model does not have.
        """
        self.handed_out = True
        return self._features(input_ids, attention_mask, layers)

    def _features(self, ids: Tensor, mask: Tensor, layers: Sequence[int]) -> TextFeatures:
        chosen = layer_numbers(layers, self.n_layers)
        more: dict[str, Any] = {"output_hidden_states": True} if chosen else {}
        if self._causal and "position_ids" in self._accepted:
            more["position_ids"] = _positions(mask)
        if "use_cache" in self._accepted:
            more["use_cache"] = False
        with self._first_run, final_norms(self.model, bool(chosen)) as norms:
            out = self.model(input_ids=ids, attention_mask=mask, **more)
        hidden = norms.undone(getattr(out, "hidden_states", None) or ())
        return TextFeatures(
            _masked_mean(out.last_hidden_state, mask),
            {k: _masked_mean(hidden[k], mask) for k in chosen},
            mask.sum(dim=1),
        )

    def padded(self, texts: Sequence[str]) -> tuple[Int[Tensor, "b t"], Int[Tensor, "b t"]]:
        """Token ids and attention mask of texts, padded on `padding_side`.

        A model that is not causal is padded on the right, as its learnt positions expect.

        Args:
            texts: one batch.

        Returns:
            (ids, mask), both on the device; the mask is 1 at tokens and 0 at padding.

        Raises:
            UsageError: `padding_side` is no side.
        """
        if self.padding_side not in SIDES:
            raise UsageError("unknown side", got=self.padding_side, want=" or ".join(SIDES))
        fill = self.fill
        side = self.padding_side if self._causal else "right"
        rows = [
            self.tokenizer(text, truncation=True, max_length=self.max_length).input_ids or [fill]
            for text in texts
        ]
        check_ids(rows, self.model, self.name)
        ids = pad_sequence([torch.tensor(row) for row in rows], True, fill, side)
        mask = pad_sequence([torch.ones(len(row), dtype=torch.long) for row in rows], True, 0, side)
        return ids.to(self.device), mask.to(self.device)

    @property
    def fill(self) -> int:
        """The id of padding, and the one token of an empty sentence where the tokenizer adds none.
        A padding token that was added to a tokenizer often has no embedding of its own."""
        known = _known_ids(self.model)
        for token in (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id):
            if token is not None and 0 <= int(token) < known:
                return int(token)
        return 0


class ProjectedTextEncoder(TextEncoder):
    """The text side of a CLIP or SigLIP.

    Pooled: the text embedding that is trained to match the image embedding. There are no layers.
    """

    @property
    def pooled_width(self) -> int:
        """Width of the space that images and texts share."""
        config = self.model.config
        width = getattr(config, "projection_size", None) or getattr(config, "projection_dim", None)
        return int(width or self.width)

    def padded(self, texts: Sequence[str]) -> tuple[Int[Tensor, "b t"], Int[Tensor, "b t"]]:
        """Token ids, padded to `max_length`, and attention mask, on the device."""
        batch = self.tokenizer(
            list(texts),
            padding="max_length",
            truncation=True,
            max_length=self.max_length,
            return_tensors="pt",
        ).to(self.device)
        ids = batch["input_ids"]
        check_ids(ids.tolist(), self.model, self.name)
        return ids, batch.get("attention_mask", torch.ones_like(ids))

    def _features(self, ids: Tensor, mask: Tensor, layers: Sequence[int]) -> TextFeatures:
        if layers:
            raise UsageError(
                "a CLIP-like text encoder gives its projected embedding alone",
                got=f"layers={list(layers)}",
                want="no layers, or a language model",
            )
        # SigLIP was trained without a mask, and its tokenizer gives none.
        is_masked = "attention_mask" in self.tokenizer.model_input_names
        with self._first_run:
            out = self.model(input_ids=ids, attention_mask=mask if is_masked else None)
        pooled = getattr(out, "text_embeds", None)
        pooled = out.pooler_output if pooled is None else pooled
        return TextFeatures(pooled.float(), {}, mask.sum(dim=1))


@reloadable
@shareable
def load_text(
    name: str | Path,
    device: str | int | None = "auto",
    dtype: str = "auto",
    *,
    max_length: int = MAX_LENGTH,
    device_map: str | None = None,
    quantize: str | None = None,
    trust_remote_code: bool = False,
) -> TextEncoder:
    """The language model or text encoder called `name`.

    Args:
        name: bundled model, alias, folder or hub id.
        device: auto, cpu, cuda or cuda:N.
        dtype: auto, float32, bfloat16 or float16.
        max_length: sentences are cut after that many tokens.
        device_map: "auto" spreads the layers over all GPUs and the memory of the machine (needs
            accelerate).
        quantize: "8bit" or "4bit" weights through bitsandbytes, on a GPU.
        trust_remote_code: whether Python that comes with the checkpoint may run.

    Returns:
        The encoder, in eval mode.

    Raises:
        MissingError: nothing has that name, the hub cannot be reached, or a GPU, accelerate or
            bitsandbytes is needed and missing.
        UsageError: no text model, a damaged checkpoint, or remote code that was not allowed.
    """
    where = check_placement(device, quantize, device_map)
    checkpoint = resolve(name, language=True, code=trust_remote_code)
    if checkpoint.family == TRAINING:
        raise UsageError(
            "a training run of a CLIP is no language model",
            got=str(name),
            want="load_dual for both of its sides, or its export folder here",
        )
    config = read_config(checkpoint, trust_remote_code)
    kind = choose_dtype(dtype, where)
    is_part = checkpoint.family in PROJECTED or _language_part(config) is not None
    if is_part and (quantize or device_map):
        note(f"{checkpoint.name}: device_map and quantize do not reach the part that is loaded")
        quantize = device_map = None
    with quiet_loading(name):
        model = _load(checkpoint, config, kind, device_map, quantize, trust_remote_code)
        tokenizer = read_tokenizer(checkpoint, trust_remote_code)
        if device_map is None and quantize is None:
            model = model.to(where, kind)
        require_finite(model, checkpoint)
        if checkpoint.family in PROJECTED and tokenizer.pad_token is None:
            raise UsageError(
                "the checkpoint's tokenizer names no token to pad with",
                got=str(checkpoint.path),
                want="pad_token in tokenizer_config.json: the model reads sentences of one length",
            )
        if checkpoint.family == "clip":
            _repair_end(model, tokenizer, checkpoint)
        encoder = ProjectedTextEncoder if checkpoint.family in PROJECTED else TextEncoder
        return encoder(model, tokenizer, checkpoint, where, kind, max_length, quantize)


def _language_part(config: Any) -> Any:
    """The language model's configuration in a VLM's (Gemma 3, PaliGemma, InternVL)."""
    is_vlm = getattr(config, "vision_config", None) is not None
    return getattr(config, "text_config", None) if is_vlm else None


def _load(
    checkpoint: Checkpoint,
    config: Any,
    dtype: torch.dtype,
    device_map: str | None,
    quantize: str | None,
    trusted: bool,
) -> nn.Module:
    import transformers
    from transformers import AutoModel
    from transformers.models.auto.modeling_auto import MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES

    folder, family = checkpoint.path, checkpoint.family
    placed: dict[str, Any] = {"dtype": dtype, "trust_remote_code": trusted}
    if device_map is not None:
        placed["device_map"] = device_map
    if quantize is not None:
        placed["quantization_config"] = transformers.BitsAndBytesConfig(
            load_in_8bit=quantize == "8bit", load_in_4bit=quantize == "4bit"
        )
        placed.setdefault("device_map", "auto")
    if family in PROJECTED:
        alone = {
            "clip": transformers.CLIPTextModelWithProjection,
            "siglip": transformers.SiglipTextModel,
            "siglip2": transformers.Siglip2TextModel,
        }[family]
        part = copy.deepcopy(config.text_config)
        if family == "clip":
            # CLIPModel takes the width of its space from the top level, whatever a part says.
            part.projection_dim = config.projection_dim
        return pretrained(alone, folder, dtype=dtype, config=part)
    inner = _language_part(config)
    if inner is not None:
        part = built(lambda: AutoModel.from_config(inner, dtype=dtype), folder)
        # The last is Qwen2-VL's, whose tower is outside of it.
        names = (
            "model.language_model.", "language_model.model.", "language_model.",
            "model.text_model.", "model.",
        )  # fmt: skip
        return load_part(part, folder, names)
    if family in MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES:
        return pretrained(
            getattr(transformers, MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES[family]), folder, **placed
        )
    model = pretrained(AutoModel, folder, **placed)
    if not hasattr(model.config, "hidden_size"):
        raise UsageError(
            "the checkpoint is no language model or text encoder",
            got=f"{family} ({checkpoint.name})",
            want="a causal language model, or a text encoder",
        )
    return model


def read_tokenizer(checkpoint: Checkpoint, trusted: bool) -> Any:
    """The tokenizer of a checkpoint, tried on a text; its own Python runs only if `trusted`."""
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    try:
        if _is_plain_fast(checkpoint.path):
            # AutoTokenizer would replace the file's splitting rules by those of its family.
            tokenizer = PreTrainedTokenizerFast.from_pretrained(checkpoint.path)
        else:
            tokenizer = AutoTokenizer.from_pretrained(checkpoint.path, trust_remote_code=trusted)
        tokenizer("a 1 가")  # one without an unknown token fails at the first unknown word only
        return tokenizer
    except Exception as error:
        # tokenizers raises a bare Exception for a malformed file, transformers anything.
        raise UsageError(
            "the checkpoint has no tokenizer that can be used",
            got=f"{checkpoint.path}: {first_line(error)}",
            want="tokenizer.json, or the files of its tokenizer",
        ) from error


def _is_plain_fast(folder: Path) -> bool:
    """Whether the checkpoint says that its tokenizer.json alone is its tokenizer."""
    config = folder / "tokenizer_config.json"
    if not config.is_file() or not (folder / "tokenizer.json").is_file():
        return False
    name = read_record(config).get("tokenizer_class")
    return name in ("PreTrainedTokenizerFast", "TokenizersBackend")


def _repair_end(model: Any, tokenizer: Any, checkpoint: Checkpoint) -> None:
    """Makes a CLIP pool at its tokenizer's end token; warns if its configuration names another.

    Raises:
        UsageError: the tokenizer puts no end token behind a text.
    """
    looked_for, written = model.config.eos_token_id, tokenizer.eos_token_id
    if (tokenizer("a").input_ids or [None])[-1] != written:
        raise UsageError(
            "the checkpoint's tokenizer does not mark the end of a text, where CLIP pools",
            got=str(checkpoint.path),
            want=f"{tokenizer.eos_token!r} behind every text",
        )
    # 2 stands for "the largest id of each row" (transformers, modeling_clip.py).
    if looked_for not in (2, written):
        warn_of_other_end(checkpoint.path, looked_for, written)
        model.config.eos_token_id = model.text_model.eos_token_id = written


def positions_of(model: Any) -> int | None:
    """How many tokens the model has positions for; None if it has no limit."""
    for name, module in model.named_modules():
        padding, table = (getattr(module, key, None) for key in ("padding_idx", "weight"))
        if "position" in name and padding is not None and table is not None:
            # RoBERTa counts from behind the row of padding: 514 rows, 512 tokens
            return int(table.shape[0]) - padding - 1
    longest = getattr(model.config, "max_position_embeddings", None)
    return int(longest) if longest and longest > 0 else None


def _known_ids(model: Any) -> int:
    return int(model.get_input_embeddings().weight.shape[0])


def check_ids(rows: Sequence[Sequence[int]], model: Any, name: str) -> None:
    """Refuses token ids without an embedding in the model.

    Raises:
        UsageError: the tokenizer is not the model's own.
    """
    known = _known_ids(model)
    highest = max((max(row, default=0) for row in rows), default=0)
    if highest >= known:
        raise UsageError(
            "the checkpoint's tokenizer does not fit its model",
            got=f"token {highest} in {name}",
            want=f"at most {known - 1}: there are {known} token embeddings",
        )


def check_placement(
    device: str | int | None, quantize: str | None, device_map: str | None
) -> torch.device:
    """Checks that weights can be placed as requested, before a run computes anything.

    Args:
        device: as `load_text` takes it.
        quantize: as `load_text` takes it.
        device_map: as `load_text` takes it.

    Returns:
        The device that `device` names.

    Raises:
        UsageError: an unknown quantisation.
        MissingError: a GPU, accelerate or bitsandbytes is needed and missing.
    """
    where = choose_device(device)
    if quantize is not None:
        if quantize not in QUANTISED:
            raise UsageError("unknown quantisation", got=quantize, want=" or ".join(QUANTISED))
        if where.type != "cuda":
            raise MissingError(
                "quantised weights need a GPU",
                got=f"quantize={quantize!r} on the CPU",
                want="a CUDA device, or no quantize",
            )
        _require("bitsandbytes", f"quantize={quantize!r}")
        _require("accelerate", f"quantize={quantize!r}")
    if device_map is not None:
        _require("accelerate", f"device_map={device_map!r}")
    return where


def _require(module: str, what: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise MissingError(
            f"{what} needs {module}, which is not installed",
            hint='pip install "encoderlab[gpu]"',
        )


def as_texts(texts: str | Sequence[str]) -> list[str]:
    """One sentence or several as a list of at least one."""
    sentences = [texts] if isinstance(texts, str) or not isinstance(texts, Iterable) else [*texts]
    wrong = [sentence for sentence in sentences if not isinstance(sentence, str)]
    if wrong:
        raise UsageError("not a text", got=repr(wrong[0])[:80], want="a sentence, or a list")
    if not sentences:
        raise UsageError("no text to encode", got="an empty list", want="at least one")
    return sentences


def _is_causal(model: Any) -> bool:
    """Whether transformers uses the network under a causal head only."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
        MODEL_MAPPING_NAMES,
    )

    return type(model).__name__ in {
        MODEL_MAPPING_NAMES.get(family)
        for family in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
        if family not in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    }


def _positions(mask: Int[Tensor, "b t"]) -> Int[Tensor, "b t"]:
    """Positions that count text tokens only, so that padding on the left does not shift them."""
    return (mask.cumsum(dim=1) - 1).clamp(min=0)


def _masked_mean(hidden: Float[Tensor, "b t d"], mask: Int[Tensor, "b t"]) -> Float[Tensor, "b d"]:
    # Padding may be NaN, which a product with zero would keep.
    text = hidden.float().masked_fill(mask.unsqueeze(-1) == 0, 0.0)
    return text.sum(dim=1) / mask.sum(dim=1, keepdim=True)
