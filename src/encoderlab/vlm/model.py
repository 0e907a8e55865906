"""The VLM: patch tokens of one or more encoders, reduced and projected, in the input of an LLM.

Builds, loads and saves it, answers questions, and gives the likelihood of answers. Knows no data
set and no training.

Shapes: b images, n patch tokens, c their channels, k image tokens of the LLM, d its width, a tokens
of an answer, v vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from encoderlab.core.atomic_io import atomic_folder
from encoderlab.encoders.checkpoint import LLM_FOLDER, TRAINING, VLM_FAMILY, resolve
from encoderlab.encoders.encoder import evaluating
from encoderlab.encoders.hardware import choose_device, choose_dtype
from encoderlab.encoders.layers import layer_numbers
from encoderlab.encoders.loading import (
    causal_lm,
    quiet_loading,
    read_config,
    require_finite,
)
from encoderlab.encoders.text import positions_of, read_tokenizer
from encoderlab.encoders.vision import VisionEncoder, load_vision
from encoderlab.errors import MissingError, UsageError
from encoderlab.models.folder import read_record
from encoderlab.models.projectors import create_projector
from encoderlab.models.token_grid import Grid
from encoderlab.patch_tokens.pooling import resized
from encoderlab.vlm.lora import merged
from encoderlab.vlm.prompt import IGNORED, IMAGE, Prompter, Rows
from encoderlab.vlm.reduction import Reduction
from encoderlab.vlm.side_by_side import SideBySide

PROJECTOR, COMMON_ANSWERS = "projector.safetensors", "common_answers.json"
ANSWER_TOKENS = 32
CANDIDATES = 5


@dataclass(frozen=True)
class Design:
    """What a VLM is made of.

    Args:
        encoders: names of the image encoders; the channels of several stand side by side on the
            grid of the first.
        llm: name of the causal language model.
        projector: linear, mlp, mlp_norm or cross_attention.
        reduce: "METHOD:TOKENS", "pixel_shuffle:S", or None.
        layer: hidden state of the encoders, from 0; negative from the end, so -2 is the input of
            the last block, as in LLaVA.
        norm: LayerNorm in front of the projector; without it encoders with large tokens fail.
        queries: tokens that cross_attention gives.
    """

    encoders: tuple[str, ...] = ("tiny-clip",)
    llm: str = "tiny-llama"
    projector: str = "mlp"
    reduce: str | None = None
    layer: int = -2
    norm: bool = True
    queries: int = 16


@dataclass(frozen=True)
class Answer:
    """An answer to a question about an image.

    Args:
        text: by greedy decoding.
        probability: of `text`, its end included: the product over its tokens.
        candidates: (text, probability), the most probable first: the greedy continuations of the
            most probable first tokens.
    """

    text: str
    probability: float
    candidates: tuple[tuple[str, float], ...] = ()


class VLM(nn.Module):
    """A vision encoder, a projector and a causal language model that answers questions.

    Build one with `VLM.build`, load one with `VLM.load`.

    Args:
        encoders: of the design, frozen.
        llm: a causal language model of transformers.
        prompter: makes token ids.
        design: names of the parts.
        projector: from the channels of a reduced token to the LLM's width; with its norm.
        trained_llm: whether the LLM's weights differ from those of `design.llm`.
        side_by_side: puts the tokens of the encoders side by side, instead of `joined`.
    """

    def __init__(
        self,
        encoders: Sequence[VisionEncoder],
        llm: Any,
        prompter: Prompter,
        design: Design,
        projector: nn.Module,
        trained_llm: bool = False,
        side_by_side: SideBySide | None = None,
    ) -> None:
        super().__init__()
        self.side_by_side = side_by_side
        self.encoders, self.llm, self.prompter = list(encoders), llm, prompter
        self.design, self.projector, self.trained_llm = design, projector, trained_llm
        self.reduction = Reduction(design.reduce, self.grid)
        self.common_answers: dict[str, str] = {}
        self.record: dict[str, Any] = {}  # what else `save` writes about the training
        # Told of every prompt before the LLM sees it, for what acts inside the LLM.
        self.on_prompt: Callable[[Rows], None] | None = None
        self.name = "+".join(design.encoders) + f" > {design.llm}"

    # -- building, loading, saving ---------------------------------------------------------------

    @classmethod
    def build(
        cls,
        encoder: str | Sequence[str] = "tiny-clip",
        llm: str = "tiny-llama",
        projector: str = "mlp",
        *,
        reduce: str | None = None,
        layer: int = -2,
        norm: bool = True,
        queries: int = 16,
        device: str | int | None = "auto",
        dtype: str = "auto",
        seed: int = 0,
        trust_remote_code: bool = False,
        side_by_side: SideBySide | None = None,
    ) -> VLM:
        """A VLM with a new projector.

        Args:
            encoder: bundled, alias, training run, folder or hub id; "siglip+dinov2" or a list for
                several; "untrained:NAME" for random weights.
            llm: a causal language model, by the same kinds of names.
            projector: linear, mlp, mlp_norm or cross_attention.
            reduce: "METHOD:TOKENS", "pixel_shuffle:S", or None for all tokens.
            layer: hidden state of the encoders; negative from the end.
            norm: LayerNorm in front of the projector.
            queries: tokens that cross_attention gives.
            device: auto, cpu, cuda or cuda:N.
            dtype: of encoder and LLM: auto, float32, bfloat16 or float16; the projector is in fp32.
            seed: of the projector's weights.
            trust_remote_code: whether Python that comes with a checkpoint may run.
            side_by_side: puts the tokens of the encoders side by side, instead of `joined`.

        Returns:
            The VLM, in eval mode.

        Raises:
            MissingError, UsageError: a part is not there, an unknown projector or reduction, an LLM
                whose context is too short for the image tokens.
        """
        names = tuple(encoder.split("+")) if isinstance(encoder, str) else tuple(encoder)
        design = Design(names, llm, projector, reduce or None, layer, norm, queries)
        return cls._assembled(design, llm, device, dtype, seed, trust_remote_code, side_by_side)

    @classmethod
    def load(
        cls,
        name: str | Path,
        device: str | int | None = "auto",
        dtype: str = "auto",
        *,
        trust_remote_code: bool = False,
        side_by_side: SideBySide | None = None,
    ) -> VLM:
        """A trained VLM.

        Args:
            name: a bundled one ("tiny-vlm"), the folder of a run of `vlm train`, or a saved folder.
            device: auto, cpu, cuda or cuda:N.
            dtype: auto, float32, bfloat16 or float16.
            trust_remote_code: whether Python that comes with a checkpoint may run.
            side_by_side: that of its training, which is not saved.

        Returns:
            The VLM, in eval mode.

        Raises:
            MissingError: nothing has that name, or a part of it is not there.
            UsageError: it is no VLM of ours, or its encoder is not the one it was trained with.
        """
        checkpoint = resolve(saved_in(name))
        if checkpoint.family != VLM_FAMILY:
            raise UsageError(
                "the checkpoint is no VLM that `vlm train` wrote",
                got=f"{name}: model_type {checkpoint.family}",
                want="tiny-vlm, or the folder of a run of encoderlab vlm train",
            )
        record = read_record(checkpoint.path / "config.json")
        try:
            fields = {**record["design"], "encoders": tuple(record["design"]["encoders"])}
            design, trained = Design(**fields), bool(record["trained_llm"])
            fingerprints = list(record["fingerprints"])
        except (KeyError, TypeError) as error:
            raise UsageError(
                "the configuration of the VLM is incomplete",
                got=f"{checkpoint.path}: {error}",
                want="config.json as `vlm train` wrote it",
            ) from error
        if record.get("side_by_side", False) and side_by_side is None:
            raise UsageError(
                "the VLM reads tokens that are made only while `complement --answers` runs",
                got=str(name),
                want="a VLM of encoderlab vlm train",
            )
        llm = str(checkpoint.path / LLM_FOLDER) if trained else design.llm
        model = cls._assembled(design, llm, device, dtype, 0, trust_remote_code, side_by_side)
        for encoder, fingerprint in zip(model.encoders, fingerprints, strict=True):
            if encoder.fingerprint != fingerprint:
                raise UsageError(
                    "the encoder is not the one that the VLM was trained with",
                    got=f"{encoder.name} with fingerprint {encoder.fingerprint}",
                    want=fingerprint,
                )
        model.projector.load_state_dict(
            {name: w.float() for name, w in load_file(checkpoint.path / PROJECTOR).items()}
        )
        model.trained_llm, model.name = trained, str(name)
        model.record = dict(record.get("encoderlab", {}))
        common = checkpoint.path / COMMON_ANSWERS
        model.common_answers = read_record(common) if common.is_file() else {}
        return model

    @classmethod
    def _assembled(
        cls, design: Design, llm: str, device: Any, dtype: str, seed: int, trusted: bool,
        side_by_side: SideBySide | None,
    ) -> VLM:  # fmt: skip
        encoders = [
            load_vision(name, device, dtype, trust_remote_code=trusted) for name in design.encoders
        ]
        where = choose_device(device)
        kind = choose_dtype(dtype, where)
        checkpoint = resolve(llm, language=True, code=trusted)
        if checkpoint.family == TRAINING:
            raise UsageError("a training run of a CLIP is no language model", got=llm)
        read_config(checkpoint, trusted)
        options: dict[str, Any] = {"dtype": kind, "trust_remote_code": trusted}
        with quiet_loading(llm):
            network = causal_lm(checkpoint.path, where, **options)
            tokenizer = read_tokenizer(checkpoint, trusted)
        require_finite(network, checkpoint)
        known = network.get_input_embeddings().weight.shape[0]
        ids = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
        fill = next(int(i) for i in ids if i is not None and 0 <= int(i) < known)
        prompter = Prompter(tokenizer, fill, positions_of(network.base_model), design.llm)
        own = (encoders[0].grid, sum(e.width for e in encoders))
        grid, joined = own if side_by_side is None else (side_by_side.grid, side_by_side.width)
        channels = Reduction(design.reduce, grid).width(joined)
        width = network.get_input_embeddings().weight.shape[1]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            queries = design.queries if design.projector == "cross_attention" else None
            projector = create_projector(design.projector, channels, width, queries)
        if design.norm:
            projector = nn.Sequential(nn.LayerNorm(channels), projector)
        model = cls(
            encoders, network, prompter, design, projector.to(where), side_by_side=side_by_side
        ).eval()
        for encoder in encoders:
            encoder.model.requires_grad_(False)
        model.prompter.rows(["?"], None, model.image_tokens)  # the context holds the image
        return model

    def save(self, folder: str | Path) -> Path:
        """Writes the VLM: config.json, the projector, and the LLM where it was trained.

        Args:
            folder: a folder to write; an existing one is replaced.

        Returns:
            The folder; `VLM.load` reads it.
        """
        folder = Path(folder)
        with atomic_folder(folder) as part:
            record = {
                "model_type": VLM_FAMILY,
                "architectures": ["EncoderLabVLM"],
                "design": asdict(self.design),
                "fingerprints": [encoder.fingerprint for encoder in self.encoders],
                "trained_llm": self.trained_llm,
                "encoderlab": self.record,
            }
            if self.side_by_side is not None:
                record["side_by_side"] = True
            _write_json(part / "config.json", record)
            _write_json(part / COMMON_ANSWERS, self.common_answers)
            weights = self.projector.state_dict()
            save_file({k: w.half().contiguous() for k, w in weights.items()}, part / PROJECTOR)
            if self.trained_llm:
                self.llm = merged(self.llm)
                halves: dict[int, Tensor] = {}  # tied weights stay tied
                half = {
                    name: halves.setdefault(w.data_ptr(), w.half())
                    for name, w in self.llm.state_dict().items()
                }
                with quiet_loading(self.name):
                    self.llm.save_pretrained(part / LLM_FOLDER, state_dict=half)
                self.prompter.tokenizer.save_pretrained(part / LLM_FOLDER)
            mode = (part / "config.json").stat().st_mode
            for file in part.rglob("*.safetensors"):  # safetensors lets only their owner read them
                file.chmod(mode)
        return folder

    # -- the image -------------------------------------------------------------------------------

    @property
    def grid(self) -> Grid:
        """(rows, columns) of the patch tokens."""
        return self.encoders[0].grid if self.side_by_side is None else self.side_by_side.grid

    @property
    def device(self) -> torch.device:
        """Where the LLM and the projector run."""
        return self.llm.device

    @property
    def image_tokens(self) -> int:
        """How many tokens of the LLM's input an image takes."""
        cross = self.design.projector == "cross_attention"
        return self.design.queries if cross else self.reduction.tokens

    def layers(self) -> list[int]:
        """The number of the hidden state of each encoder, from 0."""
        return [layer_numbers([self.design.layer], e.n_layers)[0] for e in self.encoders]

    @torch.no_grad()
    def vision_tokens(self, images: Any) -> Float[Tensor, "b n c"]:
        """The encoders' patch tokens, which training reads from the feature store.

        Args:
            images: one image (path, PIL image, array or tensor) or a list of them.

        Returns:
            fp32 tokens on the grid of the first encoder, channels of all encoders side by side.

        Raises:
            UsageError: no image, or something that is no image.
        """
        tokens = [
            encoder.encode(images, layers=[layer]).layers[layer]
            for encoder, layer in zip(self.encoders, self.layers(), strict=True)
        ]
        return self.joined(tokens).to(self.device)

    def joined(self, tokens: Sequence[Tensor]) -> Float[Tensor, "b n c"]:
        """The tokens of several encoders side by side, interpolated to the grid of the first."""
        if self.side_by_side is not None:
            return self.side_by_side(tokens)
        first, *others = tokens
        on_grid = [
            other if encoder.grid == self.grid else resized(other.float(), encoder.grid, self.grid)
            for other, encoder in zip(others, self.encoders[1:], strict=True)
        ]
        return torch.cat([first, *(other.to(first.dtype) for other in on_grid)], dim=-1)

    def image_embeddings(
        self, tokens: Float[Tensor, "b n c"], rows: Rows | None = None
    ) -> Float[Tensor, "b k d"]:
        """The image tokens of the LLM's input, through which gradients flow into the projector.

        Args:
            tokens: as `vision_tokens` gives them.
            rows: the text beside each image, for a reduction that reads the question.

        Returns:
            `image_tokens` rows per image.
        """
        weight = next(self.projector.parameters())
        return self.projector(self.reduction(tokens.to(weight.device, torch.float32), rows))

    # -- the language model ----------------------------------------------------------------------

    def forward(self, tokens: Float[Tensor, "b n c"] | None, rows: Rows) -> Float[Tensor, "b a v"]:
        """The logits of the answers' tokens.

        Args:
            tokens: as `vision_tokens` gives them; None for rows without an image.
            rows: prompts with answers, of `image_tokens` image tokens, or none.

        Returns:
            For each label of `rows`, the logits that predict it.
        """
        rows = rows.to(self.device)
        count = rows.labels.shape[1]
        logits = self.llm(
            inputs_embeds=self._embeddings(tokens, rows),
            attention_mask=rows.mask,
            position_ids=rows.positions,
            logits_to_keep=count + 1,
            use_cache=False,
        ).logits
        return logits[:, -count - 1 : -1]

    def loss(self, tokens: Float[Tensor, "b n c"] | None, rows: Rows) -> Float[Tensor, ""]:
        """The loss to train on; gradients flow into all parameters that take them.

        Args:
            tokens: as of `forward`.
            rows: as of `forward`.

        Returns:
            The sum over the answers' tokens of their negative log-likelihood, in nats.
        """
        logits = self(tokens, rows).float()
        labels = rows.labels.to(logits.device)
        return F.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum"
        )

    @torch.no_grad()
    def log_likelihood(
        self, tokens: Float[Tensor, "b n c"] | None, questions: list[str], answers: list[str]
    ) -> Float[Tensor, " b"]:
        """The log-likelihood of an answer to each question, its end included.

        Args:
            tokens: as `vision_tokens` gives them; None to ask without an image.
            questions: one per image.
            answers: one per image.

        Returns:
            In nats, at most 0.

        Raises:
            UsageError: an empty question or answer, or a prompt that is too long.
        """
        rows = self.prompter.rows(questions, answers, self._count(tokens))
        with evaluating(self):
            logits = self(tokens, rows).float()
        labels = rows.labels.to(logits.device)
        losses = F.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none"
        )
        return -losses.view_as(labels).sum(dim=1)

    @torch.no_grad()
    def answers(
        self,
        tokens: Float[Tensor, "b n c"] | None,
        questions: list[str],
        max_new_tokens: int = ANSWER_TOKENS,
    ) -> list[Answer]:
        """Greedy answers to a batch of questions, with a key-value cache.

        Args:
            tokens: as `vision_tokens` gives them; None to ask without an image.
            questions: one per image.
            max_new_tokens: an answer is cut after that many tokens.

        Returns:
            One answer per question, without candidates.

        Raises:
            UsageError: an empty question, or a prompt that is too long.
        """
        rows = self.prompter.rows(questions, None, self._count(tokens)).to(self.device)
        with evaluating(self):
            return self._generated(self._embeddings(tokens, rows), rows.mask, max_new_tokens)

    def answer(
        self,
        image: Any,
        question: str,
        *,
        candidates: int = CANDIDATES,
        max_new_tokens: int = ANSWER_TOKENS,
    ) -> Answer:
        """The answer to one question about one image.

        Args:
            image: a path, PIL image, array or tensor.
            question: its text.
            candidates: how many other first tokens are followed.
            max_new_tokens: an answer is cut after that many tokens.

        Returns:
            The answer with its probability and the next candidates.

        Raises:
            UsageError: something that is no image, an empty question, or a prompt that is too long.
            ImageError: a file that cannot be read.

        Examples:
            >>> from encoderlab.data.synthetic import generate
            >>> page = generate(3, split="test", kind="document")
            >>> VLM.load("tiny-vlm", "cpu").answer(page.image, page.question).text == page.answer
            True
        """
        tokens = self.vision_tokens(image)
        if len(tokens) != 1:
            raise UsageError("one question is about one image", got=f"{len(tokens)} images")
        (answer,) = self.answers(tokens, [question], max_new_tokens)
        ranked = self._candidates(tokens, question, candidates, max_new_tokens)
        return replace(answer, candidates=tuple(ranked))

    @torch.no_grad()
    def _candidates(
        self, tokens: Tensor, question: str, count: int, max_new_tokens: int
    ) -> list[tuple[str, float]]:
        if count < 1:
            return []
        rows = self.prompter.rows([question], None, self._count(tokens)).to(self.device)
        with evaluating(self):
            prompt = self._embeddings(tokens, rows)
            logits = self.llm(
                inputs_embeds=prompt, attention_mask=rows.mask, position_ids=rows.positions,
                logits_to_keep=1, use_cache=False,
            ).logits[0, -1]  # fmt: skip
            logs, first = logits.float().log_softmax(dim=-1).topk(count)
            longer = torch.cat(
                [prompt.expand(count, -1, -1), self.llm.get_input_embeddings()(first)[:, None]], 1
            )
            mask = F.pad(rows.mask.expand(count, -1), (0, 1), value=1)
            rest = self._generated(longer, mask, max_new_tokens - 1, first.tolist())
        ranked = {
            answer.text: answer.probability * float(log.exp())
            for answer, log in zip(reversed(rest), reversed(logs), strict=True)
        }
        return sorted(ranked.items(), key=lambda pair: -pair[1])

    def _generated(
        self, embeddings: Tensor, mask: Tensor, most: int, first: list[int] | None = None
    ) -> list[Answer]:
        """Greedy continuations; `first` are tokens that `embeddings` already end with."""
        begun = [[] if first is None else [first[row]] for row in range(len(embeddings))]
        ends = self._ends()
        if most < 1:
            return [Answer(self.prompter.decode(ids), 1.0) for ids in begun]
        out = self.llm.generate(
            inputs_embeds=embeddings, attention_mask=mask, do_sample=False, num_beams=1,
            max_new_tokens=most, pad_token_id=self.prompter.fill, eos_token_id=sorted(ends),
            return_dict_in_generate=True, output_logits=True,
        )  # fmt: skip
        new = out.sequences[:, -len(out.logits) :]
        logs = torch.stack([step.float().log_softmax(dim=-1) for step in out.logits], dim=1)
        chosen = logs.gather(2, new[:, :, None])[:, :, 0].tolist()
        answers = []
        for ids, values, start in zip(new.tolist(), chosen, begun, strict=True):
            if start and start[0] in ends:  # the empty answer
                answers.append(Answer("", 1.0))
                continue
            end = next((i for i, token in enumerate(ids) if token in ends), len(ids) - 1)
            probability = float(torch.tensor(values[: end + 1]).sum().exp())
            answers.append(Answer(self.prompter.decode([*start, *ids[: end + 1]]), probability))
        return answers

    def _ends(self) -> set[int]:
        own = getattr(self.llm.generation_config, "eos_token_id", None)
        more = own if isinstance(own, list) else [own]
        return {int(token) for token in (self.prompter.end, *more) if token is not None}

    def _count(self, tokens: Tensor | None) -> int:
        return 0 if tokens is None else self.image_tokens

    def _embeddings(self, tokens: Tensor | None, rows: Rows) -> Float[Tensor, "b t d"]:
        """The LLM's input: the embeddings of the words, and the image's tokens where they go."""
        if self.on_prompt is not None:
            self.on_prompt(rows)
        words = self.llm.get_input_embeddings()(rows.ids.clamp_min(0))
        if tokens is None:
            return words
        images = self.image_embeddings(tokens, rows).to(words.dtype)
        place = (rows.ids == IMAGE)[:, :, None].expand_as(words)
        return words.masked_scatter(place, images)


def saved_in(name: str | Path) -> str | Path:
    """The saved VLM of a run of `vlm train`, where `name` is the folder of one."""
    saved = Path(name).expanduser() / "model"
    if saved.is_dir():
        return saved
    if Path(name).is_dir() and (Path(name) / "checkpoints").is_dir():
        raise MissingError(
            "the run has not ended",
            got=str(name),
            want="a finished run of encoderlab vlm train",
            hint=f"encoderlab vlm train --resume {name}",
        )
    return name


def _write_json(path: Path, record: Any) -> None:
    path.write_text(json.dumps(record, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
