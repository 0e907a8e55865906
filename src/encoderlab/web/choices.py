"""What visitors may choose from: models, data, indexes, and how much they may bring."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from encoderlab.core.aliases import encoder_aliases, llm_aliases
from encoderlab.errors import UsageError
from encoderlab.workbench.ls import embedded

LOOPBACK = ("127.0.0.1", "localhost", "::1")
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w.-]+)?")
DUAL = ("CLIPModel", "SiglipModel")


@dataclass(frozen=True)
class ModelChoices:
    """What this page offers.

    Args:
        duals: the encoders with a text side, for search and zero-shot.
        alone: whether only this machine can reach the page.
        data: name of a data set in the page's words -> `--data-root`; None is the built-in one.
        db: an index of the one who runs the page.
    """

    encoders: tuple[str, ...]
    llms: tuple[str, ...]
    duals: tuple[str, ...]
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
        """The names, where each is one that visitors may choose.

        Raises:
            UsageError: none is named, or one is not on the list.
        """
        listed = {"encoder": self.encoders, "LLM": self.llms, "dual encoder": self.duals}[kind]
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
    *, host: str, share: bool, encoders: Sequence[str], llms: Sequence[str], **more: object
) -> ModelChoices:
    """The offer of a page at `host`: what was named, else the embedded models, and every alias
    where only this machine can reach the page."""
    alone = host in LOOPBACK and not share
    ours = embedded(language=False)
    with_text = [name for name, made_of in ours if made_of in DUAL]
    aliases = list(encoder_aliases()) if alone else []
    seen = list(encoders) or [*(name for name, _ in ours), *aliases]
    read = list(llms) or [
        *(name for name, _ in embedded(language=True)), *(llm_aliases() if alone else ())
    ]  # fmt: skip
    duals = [one for one in seen if one in with_text or re.search("clip|siglip", one.lower())]
    return ModelChoices(tuple(seen), tuple(read), tuple(duals or with_text), alone, **more)  # type: ignore[arg-type]
