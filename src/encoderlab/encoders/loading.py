"""Loads checkpoints into networks, whole or one part (the vision tower or the language model of a
VLM), with one-sentence errors. Reads only safetensors; a missing weight is an error, never random.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from encoderlab.encoders.checkpoint import Checkpoint
from encoderlab.encoders.load_spec import TRUST_HINT, TRUST_WANT
from encoderlab.errors import EncoderLabError, MissingError, UsageError, WorkError
from encoderlab.models.folder import read_record, weight_files

SIDES = ("vision", "text")
MOST_LAYERS = 10_000
# transformers changes process-wide state while it loads, such as whether weights are tied.
_loading = threading.RLock()
# What a network raises whose configuration has a wrong value.
EXPECTED = (RuntimeError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError)
# Weights that no feature depends on: many checkpoints were saved without them.
UNUSED = ("pooler.", "mask_token", "embeddings.mask_token")


def prepare_for_inference() -> None:
    """Imports what the first loading would import, so that a loading can be timed."""
    from transformers import AutoConfig, PreTrainedModel

    _ = AutoConfig, PreTrainedModel


def read_config(checkpoint: Checkpoint, trust_remote_code: bool = False) -> Any:
    """transformers' configuration of a checkpoint.

    Args:
        checkpoint: where config.json is.
        trust_remote_code: whether Python that comes with the checkpoint may run.

    Returns:
        The configuration object of the family.

    Raises:
        UsageError: a family unknown to transformers, or remote code that was not allowed.
    """
    from transformers import AutoConfig

    require_trust(checkpoint, trust_remote_code)
    try:
        # It warns of defaults of its own classes, such as SigLIP's begin-of-text token.
        with _errors_only():
            config = AutoConfig.from_pretrained(
                checkpoint.path, trust_remote_code=trust_remote_code
            )
    except Exception as error:
        # A wrong value may raise anything in the family's class.
        raise UsageError(
            "the checkpoint's configuration cannot be used",
            got=f"{checkpoint.family} ({checkpoint.name})",
            want="a family that transformers knows, and values that fit it",
            hint=first_line(error),
        ) from error

    for part in (config, *(getattr(config, f"{side}_config", None) for side in SIDES)):
        layers = getattr(part, "num_hidden_layers", None)
        if isinstance(layers, int) and layers > MOST_LAYERS:
            raise UsageError(
                "no network has so many layers",
                got=layers,
                want=f"at most {MOST_LAYERS}",
                hint=f"checkpoint: {checkpoint.name}",
            )
    return config


def built(make: Callable[[], nn.Module], folder: Path) -> nn.Module:
    """The network that `make` gives, once its size was compared with the weights in `folder`."""
    # A configuration without a size gets that of the largest model of its family, which would take
    # that much memory.
    with torch.device("meta"):
        needed = sum(weight.numel() for weight in make().parameters())
    # No format stores a number in less than half a byte.
    held = 2 * sum(file.stat().st_size for file in weight_files(folder))
    if needed > held:
        raise UsageError(
            "the configuration names more weights than the checkpoint has",
            got=f"{needed:,}",
            want=f"at most {held:,}, by the size of the files in {folder}",
        )
    return make()


def first_line(error: Exception) -> str:
    """The first two lines of an error as one, at most 200 letters."""
    text = " ".join(line.strip() for line in str(error).strip().splitlines()[:2] if line.strip())
    return (text or type(error).__name__)[:200]


def pretrained(model_class: Any, folder: Path, **more: Any) -> Any:
    """`model_class.from_pretrained` in fp32; weights may be missing only if in `unused`."""
    unused = (*UNUSED, *more.pop("unused", ()))
    with _loading:
        model, report = model_class.from_pretrained(
            folder,
            use_safetensors=True,
            output_loading_info=True,
            **{"dtype": torch.float32, **more},
        )
    missing = [name for name in sorted(report["missing_keys"]) if not name.startswith(unused)]
    if missing:
        raise UsageError(
            "the checkpoint lacks a weight that its configuration names",
            got=f"no {missing[0]} in {folder}"
            + (f", and {len(missing) - 1} more" if len(missing) > 1 else ""),
            want=f"a complete {model_class.__name__}",
        )
    return model


def causal_lm(folder: Path, device: Any, **more: Any) -> Any:
    """The causal language model of a folder, in eval mode; `more` as of `pretrained`."""
    from transformers import AutoModelForCausalLM

    return pretrained(AutoModelForCausalLM, folder, **more).to(device).eval()


def require_finite(network: nn.Module, checkpoint: Checkpoint) -> None:
    """Refuses a network with a weight that is NaN or infinite in its number format.

    Raises:
        UsageError: naming the checkpoint, its tensor, and how many of its numbers.
    """
    bad = [
        name
        for name, tensor in network.named_parameters()
        if not name.startswith(UNUSED) and not _is_finite(tensor)
    ]
    if not bad:
        return
    name, tensor = bad[0], network.get_parameter(bad[0]).detach()
    hint = "it was damaged, or its training diverged: take another checkpoint"
    if checkpoint.path.is_dir():
        stored = next(_not_finite(checkpoint.path), None)
        if stored is not None:
            name, tensor = stored
        else:
            hint = f"it is too large for {str(tensor.dtype).removeprefix('torch.')}: dtype=float32"
    raise UsageError(
        f"the checkpoint {checkpoint.name} has weights that are not finite",
        got=f"{name} ({int((~tensor.isfinite()).sum()):,} of {tensor.numel():,})",
        want="numbers",
        hint=hint,
    )


def require_finite_output(values: Tensor, what: str, model: str) -> None:
    """Refuses vectors with a number that is NaN or infinite, before they are stored.

    Args:
        values: (b, ...) of a network whose weights are finite.
        what: what they are, such as "pooled".
        model: its name.

    Raises:
        WorkError: naming the model, and how many of the rows.
    """
    if _is_finite(values):
        return
    bad = (~values.isfinite()).flatten(1).any(dim=1)
    raise WorkError(
        f"{model} gives vectors that are not finite, so nothing is kept of them",
        got=f"{what}: {int(bad.sum())} of {len(values)} of a batch",
        want="numbers",
        hint="its number format may be too narrow: try --dtype float32",
    )


def _is_finite(tensor: Tensor) -> bool:
    if tensor.is_meta or not tensor.is_floating_point() or not tensor.numel():
        return True
    if tensor.element_size() == 1:
        return True  # quantised: torch has no reduction of eight bits
    # One pass over memory without a copy: a NaN becomes minimum and maximum.
    return all(bool(end.isfinite()) for end in torch.aminmax(tensor.detach()))


def _not_finite(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Name and value of each tensor in the files that is not finite."""
    for file in weight_files(folder):
        with safe_open(file, framework="pt") as content:
            for name in sorted(content.keys()):
                tensor = content.get_tensor(name)
                if not name.startswith(UNUSED) and not _is_finite(tensor):
                    yield name, tensor


def require_trust(checkpoint: Checkpoint, trusted: bool) -> None:
    """Refuses a checkpoint with its own code, unless that was allowed.

    Raises:
        UsageError: it needs its own code, and `trusted` is False.
    """
    from transformers import CONFIG_MAPPING

    record = read_record(checkpoint.path / "config.json")
    if "auto_map" in record and checkpoint.family not in CONFIG_MAPPING and not trusted:
        raise UsageError(
            "the checkpoint runs Python of its own, which is off unless asked for",
            got=f"{checkpoint.name} ({checkpoint.family})",
            want=TRUST_WANT,
            hint=TRUST_HINT,
        )


@contextlib.contextmanager
def quiet_loading(name: str | Path) -> Iterator[None]:
    """Loading by transformers without progress bars and reports; errors in one sentence."""
    from safetensors import SafetensorError

    try:
        with _errors_only():
            yield
    except EncoderLabError:
        raise
    except SafetensorError as error:
        raise UsageError(
            "the weights cannot be read",
            got=f"{name}: {error}",
            hint="the file is damaged or cut short: fetch it again",
        ) from error
    except OSError as error:
        raise MissingError(
            "the checkpoint has no weights in safetensors",
            got=f"{name}: {first_line(error)}",
            hint="convert it with transformers' save_pretrained",
        ) from error
    except ImportError:
        raise
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":
            raise
        # A network of a wrong configuration fails where the first wrong value is used.
        raise UsageError(
            "the checkpoint's weights do not fit its configuration",
            got=f"{name}: {first_line(error)}",
        ) from error


class FirstRun:
    """A context for every run of a network. An error in the first run is blamed on the checkpoint,
    whose configuration may have a wrong value; later errors are raised unchanged.

    Raises:
        UsageError: the network does not run.
    """

    def __init__(self, name: str) -> None:
        self.name, self.is_over = name, False

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, error: BaseException | None, where: object) -> None:
        if error is None:
            self.is_over = True
        if self.is_over or isinstance(error, EncoderLabError) or "memory" in str(error):
            return
        if isinstance(error, EXPECTED):
            raise UsageError(
                "the checkpoint's network does not run",
                got=f"{self.name}: {first_line(error)}",
                want="a configuration, weights and an input that fit one another",
                hint="a value in its config.json may be wrong: fetch it again",
            ) from error


@contextlib.contextmanager
def _errors_only() -> Iterator[None]:
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def load_part(module: nn.Module, folder: Path, prefixes: Sequence[str]) -> nn.Module:
    """`module`, filled in fp32 with the part of a checkpoint that a prefix in `prefixes` names."""
    return fill(module, read_part(folder, prefixes), folder)


def fill(module: nn.Module, weights: dict[str, Tensor], folder: Path) -> nn.Module:
    """`module` with all of its weights from `weights`, which were read out of `folder`."""
    missing, extra = module.load_state_dict(weights, strict=False)
    if missing or extra:
        raise UsageError(
            "a part of the checkpoint does not fit its configuration",
            got=f"{folder}: {'no ' + missing[0] if missing else 'also ' + extra[0]}",
            want=type(module).__name__,
        )
    return module.eval()


def read_part(folder: Path, prefixes: Sequence[str]) -> dict[str, Tensor]:
    """The tensors behind the first of `prefixes` that occurs, without the prefix, in fp32."""
    file_of: dict[str, Path] = {}
    for file in weight_files(folder):
        with safe_open(file, framework="pt") as content:
            file_of.update(dict.fromkeys(content.keys(), file))
    for prefix in prefixes:
        names = [name for name in file_of if name.startswith(prefix)]
        weights: dict[str, Tensor] = {}
        for file in sorted({file_of[name] for name in names}):
            with safe_open(file, framework="pt") as content:
                for name in names:
                    if file_of[name] == file:
                        weights[name.removeprefix(prefix)] = content.get_tensor(name).float()
        if weights:
            return weights
    raise UsageError(
        "the checkpoint lacks the part that was asked for",
        got=f"no tensor named {' or '.join(prefix + '*' for prefix in prefixes)} in {folder}",
    )
