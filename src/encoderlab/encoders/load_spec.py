"""How a model is loaded: the options that a command passes on, and the call that loaded it. Loads
nothing itself.

A model is sent to another process as that call, not as weights: transformers puts hooks into a
used model, which cannot be copied, and the other process may have another device.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from encoderlab.core.common_settings import BACKENDS
from encoderlab.errors import UsageError

TRUST_WANT = "--trust-remote-code, in Python trust_remote_code=True"
TRUST_HINT = "it runs the checkpoint's own Python: only for a source you trust"
Loader = TypeVar("Loader", bound=Callable[..., Any])


@dataclass(frozen=True)
class LoadOptions:
    """How the checkpoints of a command are loaded, beside their device and number format.

    Args:
        trust_remote_code: whether Python that comes with a checkpoint may run.
        quantize: "8bit" or "4bit" weights of the LLMs.
        device_map: where the layers of the LLMs go, such as "auto".
    """

    trust_remote_code: bool = False
    quantize: str | None = None
    device_map: str | None = None

    @classmethod
    def of(cls, settings: Any) -> LoadOptions:
        """The options among the settings of a command."""
        names = (field.name for field in dataclasses.fields(cls))
        return cls(**{name: getattr(settings, name) for name in names if hasattr(settings, name)})

    @property
    def vision(self) -> dict[str, Any]:
        """The keyword arguments of `load_vision` and `load_dual`."""
        return {"trust_remote_code": self.trust_remote_code}

    @property
    def text(self) -> dict[str, Any]:
        """The keyword arguments of `load_text`."""
        return dict(vars(self))


NO_OPTIONS = LoadOptions()


@dataclass(frozen=True)
class LoadSpec:
    """How a model was loaded: the function and its arguments."""

    load: Callable[..., Any]
    given: dict[str, Any]

    def model(self) -> Any:
        """The model, loaded here."""
        return self.load(**self.given)


def reloadable(load: Loader) -> Loader:
    """Makes `load` note on its result how it was loaded."""
    signature = inspect.signature(load)

    @functools.wraps(load)
    def loaded(*args: Any, **options: Any) -> Any:
        made = load(*args, **options)
        made.loaded_with = LoadSpec(loaded, dict(signature.bind(*args, **options).arguments))
        return made

    return loaded  # type: ignore[return-value]


def options_of(model: Any) -> LoadOptions:
    """The options with which a model was loaded.

    Args:
        model: from `load_vision`, `load_text` or `load_dual`, or built by hand.

    Returns:
        The options; the defaults for a model built by hand.
    """
    spec = getattr(model, "loaded_with", None)
    given = {} if spec is None else spec.given
    return LoadOptions(**{name: given[name] for name in vars(NO_OPTIONS) if name in given})


def load_spec_of(model: Any) -> LoadSpec:
    """The call that gives another process the same model on its own device.

    Args:
        model: from `load_vision` or `load_text`.

    Returns:
        The call with absolute paths and the settings chosen here.

    Raises:
        UsageError: the model was built by hand, or may have been fine-tuned.
    """
    spec = getattr(model, "loaded_with", None)
    if spec is None or model.handed_out:
        raise UsageError(
            "only a model with the weights that its name stands for can work on other machines",
            got=getattr(model, "name", type(model).__name__),
            want="a model from load_vision or load_text whose module was not handed out",
        )
    name = spec.given["name"]
    own: dict[str, Any] = {"device": "auto", "dtype": model.where[1]}
    if hasattr(model, "backend"):
        # The choice of a trial here holds there too: other digits would be other features.
        own["backend"] = model.backend.name if model.backend else BACKENDS[0]
    # A relative path means nothing in another working directory.
    if model.checkpoint.kind in ("folder", "training"):
        untrained, _, _ = str(name).rpartition(":")
        prefix = f"{untrained}:" if untrained else ""
        path = model.checkpoint.source or model.checkpoint.path
        own["name"] = f"{prefix}{path.absolute()}"
    return LoadSpec(spec.load, {**spec.given, **own})
