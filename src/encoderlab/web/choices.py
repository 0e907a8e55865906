"""What visitors may choose: models, data and indexes; and the limits of their uploads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from encoderlab.core.aliases import encoder_aliases, llm_aliases
from encoderlab.encoders.checkpoint import bundled_models
from encoderlab.errors import UsageError

LOOPBACK = ("127.0.0.1", "localhost", "::1")
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w.-]+)?")
DUAL = ("CLIPModel", "SiglipModel")


@dataclass(frozen=True)
class ModelChoices:
    """What this page offers.

    Args:
        duals: the encoders with a text side, for search and zero-shot.
        vlms: for questions about an image.
        alone: whether only this machine can reach the page.
        any_model: whether visitors may also name models of the Hugging Face hub.
        data_root: data besides the built-in samples; None for none.
        db: an index besides the built-in one; None for none.
    """

    encoders: tuple[str, ...]
    llms: tuple[str, ...]
    duals: tuple[str, ...]
    vlms: tuple[str, ...]
    alone: bool = True
    any_model: bool = False
    data_root: str | None = None
    db: str | None = None
    device: str = "auto"
    features_dir: str | None = None
    seed: int = 0
    max_upload_mb: int = 10
    max_images: int = 100

    def check(self, kind: str, names: Sequence[str]) -> list[str]:
        """The names, after a check that visitors may choose each; `kind` names their list."""
        listed = {
            "encoder": self.encoders, "LLM": self.llms, "dual encoder": self.duals,
            "VLM": self.vlms,
        }[kind]  # fmt: skip
        if not names:
            raise UsageError(f"no {kind} was chosen", want="at least one")
        for name in names:
            on_hub = self.any_model and HUB_ID.fullmatch(name) and not Path(name).exists()
            if name not in listed and not on_hub:
                raise UsageError(
                    f"this page does not offer the {kind}", got=name, want=", ".join(listed)
                )
        return list(names)


def model_choices(
    *,
    host: str,
    share: bool,
    encoders: Sequence[str] = (),
    llms: Sequence[str] = (),
    vlms: Sequence[str] = (),
    **more: object,
) -> ModelChoices:
    """The choices of a page at `host`, with `more` fields of `ModelChoices`."""
    # Without names, the bundled models, and all aliases too where only this machine can reach the
    # page.
    alone = host in LOOPBACK and not share
    architectures = bundled_models("encoder")
    names = list(encoders) or [*architectures, *(encoder_aliases() if alone else ())]
    llm_names = list(llms) or [*bundled_models("llm"), *(llm_aliases() if alone else ())]
    with_text = [name for name, architecture in architectures.items() if architecture in DUAL]
    duals = [name for name in names if name in with_text or re.search("clip|siglip", name.lower())]
    vlm_names = tuple(vlms) or tuple(bundled_models("vlm"))
    lists = (tuple(names), tuple(llm_names), tuple(duals or with_text), vlm_names)
    return ModelChoices(*lists, alone, **more)  # type: ignore[arg-type]
