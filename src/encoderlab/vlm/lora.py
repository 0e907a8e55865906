"""Low-rank updates of an LLM (LoRA, Hu et al. 2022), by peft."""

from __future__ import annotations

from typing import Any

import torch

from encoderlab.errors import MissingError


def add_lora(llm: Any, rank: int, seed: int) -> Any:
    """The LLM with trainable low-rank updates of all its linear layers but the output head.

    Args:
        llm: a causal language model; its own weights are frozen.
        rank: of the updates; they are scaled by 2 (alpha = 2 rank).
        seed: of the updates' first factor; the second one is zero.

    Returns:
        peft's model around `llm`.

    Raises:
        MissingError: peft is not installed.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ModuleNotFoundError as error:
        raise MissingError(
            "LoRA needs peft", got="train=lora", hint="pip install 'encoderlab[lora]'"
        ) from error
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return get_peft_model(llm, config)


def merged(llm: Any) -> Any:
    """The LLM with its updates added to its weights; one without updates as it is."""
    return llm.merge_and_unload() if hasattr(llm, "merge_and_unload") else llm
