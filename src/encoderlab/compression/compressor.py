"""A trained compressor behind the face that every method has, with its folder on disk.

A folder holds `model.safetensors` and `config.json`: its shape, and which encoder and layer its
tokens are of.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from encoderlab.core.atomic_io import atomic_write, write_text_atomic
from encoderlab.core.json_text import record_in
from encoderlab.core.progress import note
from encoderlab.errors import MissingError, UsageError
from encoderlab.models import checkpoint
from encoderlab.models.token_compressor import AutoencoderShape, TokenAutoencoder
from encoderlab.models.token_grid import Grid, window_of
from encoderlab.patch_tokens.reducer import (
    CompressedTokens,
    SideInputs,
    TokenReducer,
    merged,
)
from encoderlab.zoo import ZOO

MOST_SIDE = 1024  # rows or columns of tokens: more than any encoder gives
CONFIG, WEIGHTS, FORMAT = "config.json", "model.safetensors", "encoderlab-compressor-1"


class Compressor(TokenReducer):
    """A trained network as a method.

    Args:
        about: what is known of its training: encoder, fingerprint, layer, validation numbers.

    Examples:
        >>> Compressor.from_pretrained("tiny-clip-12to6").budgets
        ((6, 6),)
    """

    name = "trained"
    trained = True
    keeps_grid = True

    def __init__(self, model: TokenAutoencoder, about: dict[str, Any] | None = None) -> None:
        self.model, self.about = model.eval(), about or {}
        self.model.requires_grad_(False)

    @property
    def budgets(self) -> tuple[Grid, ...]:
        """The grids that it can compress to."""
        return self.model.shape.budgets

    @property
    def grid(self) -> Grid:
        """The grid that it compresses."""
        return self.model.shape.grid

    def exact(self, grid: Grid, budget: int | Grid) -> Grid:
        shape = super().exact(grid, budget)
        if grid != self.grid or shape not in self.budgets:
            raise UsageError(
                "the compressor was trained for another grid or budget",
                got=f"{shape[0]} x {shape[1]} of {grid[0]} x {grid[1]}",
                want=" or ".join(f"{h} x {w}" for h, w in self.budgets)
                + f" of {self.grid[0]} x {self.grid[1]}",
            )
        return shape

    @torch.no_grad()
    def _compress(
        self, tokens: Float[Tensor, "b n c"], grid: Grid, budget: Grid, side: SideInputs
    ) -> CompressedTokens:
        if tokens.shape[-1] != self.model.shape.channels:
            raise UsageError(
                "the compressor was trained on tokens of another width",
                got=tokens.shape[-1],
                want=f"{self.model.shape.channels} channels ({self.about.get('encoder', '?')})",
            )
        self.model.to(tokens.device)
        kept = self.model.compress(tokens.float(), budget)
        window = window_of(grid, budget).to(tokens.device).expand(len(tokens), -1)
        where = merged(tokens[..., :1], window, budget[0] * budget[1], grid, budget)
        return CompressedTokens(kept, where.positions, where.sizes, window, budget)

    @torch.no_grad()
    def _decode(self, kept: CompressedTokens, grid: Grid) -> Float[Tensor, "b n c"]:
        assert kept.grid is not None
        return self.model.decode(kept.tokens.float(), kept.grid)

    def save_pretrained(self, folder: str | Path, half: bool = False) -> Path:
        """Writes weights and description; the weights last, so a folder that has them is whole.

        Args:
            half: store the weights in fp16; a shipped one is small.
        """
        from safetensors.torch import save_file

        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        shape = self.model.shape
        described = {"format": FORMAT, "shape": asdict(shape), "about": self.about}
        write_text_atomic(place / CONFIG, json.dumps(described, indent=2) + "\n")
        weights = {
            name: (value.half() if half else value.float()).contiguous().cpu()
            for name, value in self.model.state_dict().items()
        }
        with atomic_write(place / WEIGHTS) as unfinished:
            save_file(weights, unfinished)
        return place

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Compressor:
        """The compressor in a folder, or a shipped one by its name; of a run that was interrupted,
        that of its best epoch so far.

        Raises:
            MissingError: nothing is there.
            UsageError: something else is there, or it is damaged.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        best = Path(folder).expanduser() / "checkpoints" / "best_model.pt"
        exported = best.parents[1] / "compressor" / CONFIG
        if str(folder) not in shipped() and best.is_file() and not exported.is_file():
            note(f"{folder}: the run is not finished; its best epoch so far is taken")
            return cls.from_checkpoint(best)
        place = _place(folder)
        try:
            described = record_in(place / CONFIG)
            if described.get("format") != FORMAT:
                raise ValueError(f"its format is {described.get('format')!r}")
            model = _built(described["shape"], load_file(place / WEIGHTS))
            about = described.get("about", {})
            if not isinstance(about, dict):
                raise ValueError(f"what it says about itself is {about!r}")
        except (*_WRONG, SafetensorError) as error:
            raise UsageError(
                "the compressor cannot be read",
                got=f"{place}: {_first_line(error)}",
                want=f"a folder with {CONFIG} and {WEIGHTS} that `encoderlab compress` has written",
            ) from error
        return cls(model, about)

    @classmethod
    def from_checkpoint(cls, path: Path) -> Compressor:
        """The compressor of a training checkpoint, such as best_model.pt.

        Raises:
            MissingError, UsageError: it is not there, or damaged.
        """
        record = checkpoint.read(path, FORMAT)
        names = AutoencoderShape.__dataclass_fields__
        try:
            identity = record["identity"]
            model = _built({name: identity[name] for name in names}, record["weights"])
            last = record["history"][-1] if record["history"] else {}
            found = {name: value for name, value in last.items() if name.startswith("val/")}
            about = {name: value for name, value in identity.items() if name not in names}
            about |= {"steps": record["step"], "validation": found}
        except _WRONG as error:
            raise checkpoint.incomplete(path, error) from error
        return cls(model, about)


# What building a network from a record that was spoiled may raise.
_WRONG = (
    OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, IndexError,
    ZeroDivisionError, OverflowError,
)  # fmt: skip


def _built(record: dict[str, Any], weights: dict[str, Any]) -> TokenAutoencoder:
    """The network of a shape, with its weights; one of _WRONG where they do not go together."""
    shape = _shape(record)
    known = {name: value.float() for name, value in weights.items()}
    for name, value in known.items():
        if not value.isfinite().all():
            raise ValueError(f"its weight {name} is not finite")
    # Before any memory is taken: every network holds a square of its channels, and one of its
    # width.
    held = sum(value.numel() for value in known.values())
    if max(shape.channels, shape.width) ** 2 > held or max(shape.grid) > MOST_SIDE:
        raise ValueError(
            f"{shape.channels} channels, width {shape.width} and a grid of {shape.grid} do not go "
            f"with {held:,} numbers"
        )
    model = TokenAutoencoder(shape)
    model.load_state_dict(known)
    return model


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def shipped() -> dict[str, Path]:
    """The compressors that come with the package, by name."""
    return {path.parent.name: path.parent for path in sorted(ZOO.glob(f"compressors/*/{CONFIG}"))}


def _place(folder: str | Path) -> Path:
    own = shipped()
    if str(folder) in own:
        return own[str(folder)]
    place = Path(folder).expanduser()
    if (place / "compressor" / CONFIG).is_file():
        return place / "compressor"
    if not (place / CONFIG).is_file():
        raise MissingError(
            "no such compressor",
            got=str(folder),
            want="a folder that `encoderlab compress` has written, or one of " + ", ".join(own),
        )
    return place


def _shape(record: dict[str, Any]) -> AutoencoderShape:
    height, width = record["grid"]
    shape = AutoencoderShape(
        **{
            **record,
            "grid": (height, width),
            "budgets": tuple((h, w) for h, w in record["budgets"]),
        }
    )
    numbers = [
        shape.channels,
        shape.width,
        height,
        width,
        *(n for one in shape.budgets for n in one),
    ]
    if not shape.budgets or not all(type(n) is int and n > 0 for n in numbers):
        raise ValueError(f"its shape is {record}")
    return shape
