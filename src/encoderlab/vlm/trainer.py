"""Training of a VLM on questions: the data, one step, and the evaluation of an epoch.

Knows the model and questions; `training.loop` knows epochs, checkpoints and resuming. The image
tokens come from the feature store, so that an encoder runs once per image, not once per epoch.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from encoderlab.core.progress import note
from encoderlab.core.skipped import Skipped
from encoderlab.data.sample import Sample
from encoderlab.encoders.layers import eager_attention
from encoderlab.errors import UsageError
from encoderlab.feature_store.extract import StoredFeatures, extract_images
from encoderlab.feature_store.pipeline import batches_of, is_out_of_memory
from encoderlab.metrics.answers import exact_match
from encoderlab.training.collectives import average_gradients
from encoderlab.training.loop import CheckpointNames, Evaluation, Trainer
from encoderlab.training.optimiser import adamw, learning_rate
from encoderlab.training.schedule import Schedule, check_batch
from encoderlab.vlm.model import VLM
from encoderlab.vlm.prompt import IGNORED, Rows
from encoderlab.vlm.questions import Question

if TYPE_CHECKING:
    from lightning.fabric import Fabric
    from lightning.fabric.loggers.logger import Logger

NAMES = CheckpointNames("best.ckpt", "epoch_{}.ckpt", "latest.ckpt", "encoderlab-vlm-1")
TRAINED = ("projector", "lora", "all")
ANSWERED_TOGETHER = 64


@dataclass(frozen=True)
class Recipe:
    """How a run trains. Two runs with equal recipes and data have equal numbers.

    Args:
        train: projector; lora (projector and low-rank updates of the LLM); all (projector and LLM).
        llm_lr: peak learning rate of the LLM's weights; `lr` is that of the projector.
        blind: train without the image, on the questions alone.
    """

    train: str
    epochs: int
    batch_size: int
    lr: float
    llm_lr: float
    wd: float
    warmup_steps: int | None
    grad_clip: float
    lora_rank: int
    blind: bool
    seed: int


class VisionTokens:
    """The patch tokens of the images of questions, in the feature store.

    Args:
        model: whose encoders run; only missing images are encoded.
        questions: those whose image cannot be read are left out.
        store: the folder of the feature store.
        batch_size: images per forward pass.

    Attributes:
        questions: those with an image.
        skipped: the images that cannot be read, and why.
    """

    def __init__(
        self, model: VLM, questions: Sequence[Question], store: str | Path, batch_size: int = 32
    ) -> None:
        images: dict[str, Sample] = {q.image.id: q.image for q in questions}
        self.model = model
        self.kinds = [f"patches@{layer}" for layer in model.layers()]
        self.stored: list[StoredFeatures] = [
            extract_images(
                encoder, list(images.values()), store, what=[kind], batch_size=batch_size
            )
            for encoder, kind in zip(model.encoders, self.kinds, strict=True)
        ]
        row_of = {sample.id: row for row, sample in enumerate(self.stored[0].samples)}
        self.skipped: list[Skipped] = self.stored[0].skipped
        self.questions = [q for q in questions if q.image.id in row_of]
        self.image = np.array([row_of[q.image.id] for q in self.questions], dtype=np.int64)
        if not self.questions:
            raise UsageError(
                "no image can be read",
                got=f"{len(images)} images; the first: {self.skipped[0].reason}",
                want="images of the questions",
            )

    def of(self, rows: Sequence[int]) -> Float[Tensor, "b n c"]:
        """The tokens of the images of some questions, by number."""
        images = self.image[list(rows)].tolist()
        tokens = [
            stored.batch(images, kind) for stored, kind in zip(self.stored, self.kinds, strict=True)
        ]
        return self.model.joined(tokens)

    def digest(self) -> str:
        """Equal for the same questions, answers and images, in order."""
        digest = hashlib.blake2b(digest_size=12)
        for question, image in zip(self.questions, self.image, strict=True):
            digest.update(self.stored[0].digests[image])
            digest.update(f"{question.text}\n{question.answers}\n".encode())
        return digest.hexdigest()


class VLMTrainer(Trainer[list[int]]):
    """One run of `recipe` over questions.

    Args:
        model: trained in place; its LLM in fp32 where it is trained.
        data: the questions to train on.
        validation: those of the score that chooses the best epoch.
        folder: checkpoints go to `folder/checkpoints`.
        together: questions per forward and backward pass; None: a whole batch. Halved when the
            memory is too small; the numbers of a step stay those of the whole batch.

    Raises:
        UsageError: the batch does not fit the data or the devices.
    """

    names = NAMES
    unit = "question"
    identity_key = "recipe"
    loss_unit: ClassVar[str] = "nats per answer token"

    def __init__(
        self,
        model: VLM,
        data: VisionTokens,
        validation: VisionTokens,
        recipe: Recipe,
        fabric: Fabric,
        folder: Path,
        *,
        together: int | None = None,
        save_every: int | None = None,
        logger: Logger | None = None,
    ) -> None:
        check_batch(recipe.batch_size, len(data.questions), fabric.world_size, "questions")
        schedule = Schedule(
            len(data.questions), recipe.batch_size, recipe.epochs, recipe.seed,
            fabric.global_rank, fabric.world_size,
        )  # fmt: skip
        digests = {"training questions": data.digest(), "validation questions": validation.digest()}
        super().__init__(
            fabric, schedule, recipe, digests, folder, save_every=save_every, logger=logger
        )
        self.questions, self.validation, self.vlm = data, validation, model
        self.together = together or recipe.batch_size
        self.parameters = trainable(model, recipe)
        total = schedule.total_steps
        self.warmup = min(total // 20, 500) if recipe.warmup_steps is None else recipe.warmup_steps
        self.model = fabric.setup_module(model)
        self.optimiser: Any = fabric.setup_optimizers(_optimiser(model, recipe))
        self.losses: list[float] = []

    def identity(self) -> dict[str, Any]:
        """The recipe, the design and the number of questions."""
        return {
            **asdict(self.recipe), "design": asdict(self.vlm.design),
            "questions": len(self.questions.questions),
        }  # fmt: skip

    def state(self) -> dict[str, Any]:
        """The trained weights, the optimiser, and the loss of every step."""
        return {
            "weights": {name: p.detach() for name, p in self.parameters.items()},
            "optimiser": self.optimiser.state_dict(),
            "losses": self.losses,
        }

    def load_state(self, record: dict[str, Any]) -> None:
        """Takes over what `state` gave."""
        self.load_weights(record["weights"])
        self.optimiser.load_state_dict(record["optimiser"])
        self.losses = list(record["losses"])

    @torch.no_grad()
    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """Copies trained weights into the model."""
        for name, parameter in self.parameters.items():
            parameter.copy_(weights[name])

    def train_step(self, batch: list[int]) -> dict[str, float]:
        """Trains on one batch.

        Returns:
            Loss in nats per answer token, learning rate, and norm of the gradient.
        """
        peak = {"projector": self.recipe.lr, "llm": self.recipe.llm_lr}
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(
                self.step, peak[group["part"]], self.warmup, self.schedule.total_steps
            )
        loss = self._backward(batch)
        self.check_finite(loss)
        norm = torch.nn.utils.clip_grad_norm_(
            list(self.parameters.values()), self.recipe.grad_clip or math.inf
        )
        self.optimiser.step()
        self.losses.append(loss)
        return {
            "train/loss": loss,
            "train/lr": self.optimiser.param_groups[0]["lr"],
            "train/grad_norm": float(norm),
        }

    def _backward(self, batch: list[int]) -> float:
        """Accumulates the gradients of a batch; returns its mean loss over all ranks."""
        while True:
            self.optimiser.zero_grad()
            self.model.train()
            mixed = (self.recipe.seed * 1_000_003 + self.step) * 1_009 + self.fabric.global_rank
            torch.manual_seed(mixed % (2**63))
            llm = self.vlm.llm
            on_cpu = self.fabric.device.type == "cpu"  # SDPA's backward pass in bf16 is slower
            eager = eager_attention(llm, llm.config) if on_cpu else contextlib.nullcontext()
            try:
                with eager:
                    return self._backward_in_parts(batch)
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if self.fabric.world_size > 1 or not is_out_of_memory(error) or self.together == 1:
                    raise
                self.together = max(1, min(self.together, len(batch)) // 2)
                note(f"out of memory: going on with {self.together} questions at once")

    def _backward_in_parts(self, batch: list[int]) -> float:
        # Questions of similar length together would change the batch: parts keep its order.
        parts = list(batches_of(batch, self.together))
        rows = [self._rows(part) for part in parts]
        mine = torch.tensor(float(sum(int((r.labels != IGNORED).sum()) for r in rows)))
        count = self._sum(mine)
        total = torch.zeros((), device=self.fabric.device)
        many = self.fabric.world_size > 1
        with self.fabric.no_backward_sync(self.model) if many else contextlib.nullcontext():
            for part, row in zip(parts, rows, strict=True):
                logits = self.model(None if self.recipe.blind else self.questions.of(part), row)
                loss = F.cross_entropy(
                    logits.float().flatten(0, 1), row.labels.to(logits.device).flatten(),
                    ignore_index=IGNORED, reduction="sum",
                ) / count  # fmt: skip
                # Averaged over the ranks below, and meant as a sum.
                self.fabric.backward(loss * self.fabric.world_size)
                total += loss.detach()
        if many:
            average_gradients(self.fabric, iter(self.parameters.values()))
        return self._sum(total)

    def _sum(self, value: Tensor) -> float:
        summed = self.fabric.all_reduce(value, reduce_op="sum")
        assert isinstance(summed, Tensor)
        return float(summed)

    def _rows(self, part: Sequence[int]) -> Rows:
        questions = [self.questions.questions[i] for i in part]
        return self.vlm.prompter.rows(
            [q.text for q in questions],
            [q.answers[0] for q in questions],
            0 if self.recipe.blind else self.vlm.image_tokens,
        )

    def evaluate(self, epoch: int) -> Evaluation:
        """The exact-match accuracy of the validation questions."""
        losses = self.losses[-self.schedule.steps_per_epoch :]
        with self.fabric.autocast():
            texts = answer_all(self.vlm, self.validation, blind=self.recipe.blind)
        right = [
            exact_match(text, q.answers)
            for text, q in zip(texts, self.validation.questions, strict=True)
        ]
        row = {
            "epoch": float(epoch),
            "loss": sum(losses) / max(len(losses), 1),
            "accuracy": float(np.mean(right)),
        }
        self.log({f"val/{name}": value for name, value in row.items() if name != "epoch"})
        text = (
            f"epoch {epoch} of {self.recipe.epochs}: loss {row['loss']:.3f} {self.loss_unit}, "
            f"{row['accuracy']:.1%} of {len(right)} held-out questions right"
        )
        return Evaluation(row, (row["accuracy"], -row["loss"]), row["accuracy"], text)


def answer_all(
    model: VLM,
    data: VisionTokens,
    *,
    blind: bool = False,
    images: Sequence[int] | None = None,
    batch_size: int = ANSWERED_TOGETHER,
    advance: Callable[[int], None] = lambda n: None,
) -> list[str]:
    """The greedy answers to all questions.

    Args:
        model: answers.
        data: questions with stored tokens.
        blind: ask without the image.
        images: for each question, the number of the question whose image it is asked with; None
            for its own.
        batch_size: questions at once.
        advance: called with the number of answered questions after every batch.

    Returns:
        One text per question.
    """
    # Prompts of one length need no padding: the cache of a batch is as long as its longest prompt.
    order = sorted(range(len(data.questions)), key=lambda i: len(data.questions[i].text))
    texts = [""] * len(order)
    for part in batches_of(order, batch_size):
        shown = part if images is None else [images[i] for i in part]
        answers = model.answers(
            None if blind else data.of(shown), [data.questions[i].text for i in part]
        )
        for i, answer in zip(part, answers, strict=True):
            texts[i] = answer.text
        advance(len(part))
    return texts


def trainable(model: VLM, recipe: Recipe) -> dict[str, torch.nn.Parameter]:
    """Prepares the model for training: which weights have gradients.

    Args:
        model: the LLM gets low-rank updates for "lora".
        recipe: what is trained.

    Returns:
        Name -> parameter of all trained weights.

    Raises:
        UsageError: nothing is left to train.
    """
    model.llm.requires_grad_(recipe.train == "all")
    model.projector.requires_grad_(not recipe.blind)
    if recipe.train == "lora":
        from encoderlab.vlm.lora import add_lora

        model.llm = add_lora(model.llm, recipe.lora_rank, recipe.seed)
    model.trained_llm = model.trained_llm or recipe.train != "projector"
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not trained:
        raise UsageError(
            "nothing is trained", got="--blind with --train projector",
            want="--train all or lora: without the image there is no projector",
        )  # fmt: skip
    return trained


def _optimiser(model: VLM, recipe: Recipe) -> torch.optim.Optimizer:
    groups: list[dict[str, Any]] = []
    for part, module in (("projector", model.projector), ("llm", model.llm)):
        groups += [
            {**group, "part": part}
            for group in adamw(module, recipe.lr, recipe.wd).param_groups
            if group["params"]
        ]
    return torch.optim.AdamW(groups, lr=recipe.lr, betas=(0.9, 0.98), eps=1e-6)
