"""A model on its way to another process: as the words it was loaded with, not as weights.

transformers puts hooks into a model that has been used, and those do not survive a copy; and the
other process may have another device. Knows words; loads nothing itself.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from encoderlab.errors import UsageError

Loader = TypeVar("Loader", bound=Callable[..., Any])


@dataclass(frozen=True)
class LoadSpec:
    """How a model was loaded: the function and what it was given."""

    load: Callable[..., Any]
    given: dict[str, Any]

    def model(self) -> Any:
        """The model, loaded here."""
        return self.load(**self.given)


def reloadable(load: Loader) -> Loader:
    """Lets what `load` gives remember how it was loaded."""
    signature = inspect.signature(load)

    @functools.wraps(load)
    def loaded(*args: Any, **options: Any) -> Any:
        made = load(*args, **options)
        made.loaded_with = LoadSpec(loaded, dict(signature.bind(*args, **options).arguments))
        return made

    return loaded  # type: ignore[return-value]


def load_spec_of(model: Any) -> LoadSpec:
    """What another process says to have the same model on its own device.

    Raises:
        UsageError: the model was put together by hand, or may have been fine-tuned.
    """
    words = getattr(model, "loaded_with", None)
    if words is None or model.handed_out:
        raise UsageError(
            "only a model with the weights that its name stands for can work on other machines",
            got=getattr(model, "name", type(model).__name__),
            want="a model from load_vision or load_text whose module was not handed out",
        )
    name = words.given["name"]
    # A path from here means nothing in another working directory.
    here = model.checkpoint.kind in ("folder", "training")
    own: dict[str, Any] = {"device": "auto", "dtype": model.where[1]}
    if getattr(model, "backend", None) is not None:
        # What a probe has chosen here holds there too: other numbers would be other features.
        own["backend"] = model.backend.name
    if here:
        untrained, _, _ = str(name).rpartition(":")
        prefix = f"{untrained}:" if untrained else ""
        own["name"] = f"{prefix}{model.checkpoint.path.absolute()}"
    return LoadSpec(words.load, {**words.given, **own})
