"""Writes a VLM as a LLaVA folder of transformers, which answers with the same tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from encoderlab.core.atomic_io import atomic_folder
from encoderlab.encoders.loading import quiet_loading
from encoderlab.errors import UsageError
from encoderlab.vlm.lora import merged
from encoderlab.vlm.model import VLM
from encoderlab.vlm.prompt import MARK

QUESTION = "@@question@@"


def to_llava(model: VLM, folder: str | Path) -> Path:
    """Writes a folder that `transformers.LlavaForConditionalGeneration` and its processor load.

    Args:
        model: of LLaVA's design: one encoder, all its tokens, a linear or mlp projector, no norm in
            front of it.
        folder: to write; an existing one is replaced.

    Returns:
        The folder.

    Raises:
        UsageError: a design that LLaVA does not have.
    """
    import transformers as hf

    _check(model)
    (encoder,), llm, tokenizer = model.encoders, merged(model.llm), model.prompter.tokenizer
    with quiet_loading(model.name):
        image_processor = hf.AutoImageProcessor.from_pretrained(
            encoder.checkpoint.path, use_fast=False
        )
    tokenizer.add_special_tokens({"additional_special_tokens": [MARK]})
    image_id = tokenizer.convert_tokens_to_ids(MARK)
    text_config = type(llm.config).from_dict(llm.config.to_dict())
    known = max(text_config.vocab_size, image_id + 1)
    text_config.vocab_size = known
    if text_config.pad_token_id is None:
        text_config.pad_token_id = model.prompter.fill
    special = encoder.special_tokens
    config = hf.LlavaConfig(
        vision_config=encoder.tower.config,
        text_config=text_config,
        image_token_index=image_id,
        image_seq_length=model.image_tokens,
        projector_hidden_act="gelu" if model.design.projector == "mlp" else "linear",
        vision_feature_layer=model.layers()[0],
        vision_feature_select_strategy="default" if special else "full",
        tie_word_embeddings=bool(getattr(text_config, "tie_word_embeddings", False)),
    )
    network = hf.LlavaForConditionalGeneration(config).eval()
    _copy(network, model, llm)
    processor = hf.LlavaProcessor(
        image_processor=image_processor,
        tokenizer=tokenizer,
        patch_size=encoder.patch_size,
        vision_feature_select_strategy=config.vision_feature_select_strategy,
        num_additional_image_tokens=special,
        chat_template=_template(model),
    )
    with atomic_folder(Path(folder)) as part, quiet_loading(model.name):
        network.save_pretrained(part)
        processor.save_pretrained(part)
        network.generation_config.save_pretrained(part)
    return Path(folder)


def _check(model: VLM) -> None:
    design = model.design
    reasons = {
        "several encoders": len(design.encoders) > 1,
        f"reduce={design.reduce}": design.reduce is not None,
        "a LayerNorm in front of the projector (norm=true)": design.norm,
        f"the projector {design.projector}": design.projector not in ("linear", "mlp"),
        "more than one special token": model.encoders[0].special_tokens > 1,
    }
    refused = [reason for reason, holds in reasons.items() if holds]
    if refused:
        raise UsageError(
            "LLaVA has no such design",
            got=", ".join(refused),
            want="one encoder, --reduce none --no-norm --projector mlp or linear",
            hint="the folder of `vlm train` holds it in our own form",
        )


@torch.no_grad()
def _copy(network: Any, model: VLM, llm: Any) -> None:
    """Copies all weights."""
    tower = network.model.vision_tower
    wanted = tower.state_dict().keys()
    tower.load_state_dict(
        {
            short: weight
            for name, weight in model.encoders[0].tower.state_dict().items()
            # A tower with a projection holds the plain one under a name of its own.
            if (short := name.removeprefix("vision_model.")) in wanted
        }
    )
    # The vocabulary has one row more, of the image token.
    for own, copied in (
        (llm.base_model, network.model.language_model),
        (llm.get_output_embeddings(), network.get_output_embeddings()),
    ):
        weights = copied.state_dict()
        for name, weight in own.state_dict().items():
            weights[name][tuple(map(slice, weight.shape))] = weight.float()
        copied.load_state_dict(weights)
    projector = network.model.multi_modal_projector
    first, last = _linears(model.projector, projector.linear_2.weight.shape[0])
    projector.linear_1.load_state_dict(first.state_dict())
    projector.linear_2.load_state_dict(last.state_dict())


def _linears(projector: nn.Module, width: int) -> tuple[nn.Module, nn.Module]:
    """The two layers of LLaVA's projector; the second is the identity after a linear one."""
    if isinstance(projector, nn.Sequential):
        return projector[0], projector[2]
    identity = nn.Linear(width, width)
    identity.weight.copy_(torch.eye(width))
    identity.bias.zero_()
    return projector, identity


def _template(model: VLM) -> str:
    """The chat template of one question about one image, in the words of our own prompt."""
    text, tokenizer = model.prompter.text(QUESTION), model.prompter.tokenizer
    if tokenizer.bos_token and tokenizer("a").input_ids[:1] == [tokenizer.bos_token_id]:
        text = text.removeprefix(tokenizer.bos_token)  # the processor adds it
    before, _, after = text.partition(QUESTION)
    return (
        f"{{{{ {before!r} }}}}{{% for part in messages[0].content %}}"
        "{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}"
        f"{{{{ {after!r} }}}}"
    )
