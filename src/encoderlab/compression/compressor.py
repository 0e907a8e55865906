"""A trained compressor as a token reduction method, and its folder on disk.

A folder holds `model.safetensors` and `config.json`: shape, encoder and layer.
"""

from __future__ import annotations

import json
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from encoderlab.core.atomic_io import atomic_write, write_text_atomic
from encoderlab.core.json_text import record_in
from encoderlab.core.progress import note
from encoderlab.data.digests import digest_of
from encoderlab.errors import MissingError, UsageError
from encoderlab.models import checkpoint
from encoderlab.models.token_compressor import AutoencoderShape, TokenAutoencoder
from encoderlab.models.token_grid import Grid
from encoderlab.patch_tokens.reducer import (
    CompressedTokens,
    SideInputs,
    TokenReducer,
    pooled,
)
from encoderlab.zoo import ZOO

MOST_SIDE = 1024  # rows or columns of tokens: more than any encoder has
CONFIG, WEIGHTS, FORMAT = "config.json", "model.safetensors", "encoderlab-compressor-1"


class Compressor(TokenReducer):
    """A trained network as a token reduction method.

    Args:
        model: the network.
        about: facts of its training: encoder, fingerprint, layer, validation numbers.

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
    def label(self) -> str:
        """What the tables call it: by the loss that it was trained with."""
        return "trained_answers" if self.about.get("answers") else "trained"

    def fingerprint(self) -> str:
        """A digest of its weights.

        Returns:
            A text of hexadecimal digits.
        """
        weights = self.model.state_dict().values()
        return digest_of(value.cpu().contiguous().numpy().tobytes() for value in weights)

    def check_tokens(self, name: str, encoder: str, fingerprint: str, layer: int) -> None:
        """Refuses tokens that it was not trained on.

        Args:
            name: of the compressor, as the user gave it.
            encoder: name of the encoder.
            fingerprint: of the encoder.
            layer: of the tokens.

        Raises:
            UsageError: it was trained on tokens of another encoder or layer.
        """
        about = self.about
        if (about.get("fingerprint"), about.get("layer")) != (fingerprint, layer):
            raise UsageError(
                "the compressor was trained on other tokens",
                got=f"{name}: {about.get('encoder')}, layer {about.get('layer')}",
                want=f"{encoder}, layer {layer}",
                hint="choose them with --model and --layer",
            )

    @property
    def budgets(self) -> tuple[Grid, ...]:
        """(rows, columns) of all its outputs."""
        return self.model.shape.budgets

    @property
    def grid(self) -> Grid:
        """(rows, columns) of its input."""
        return self.model.shape.grid

    def exact(self, grid: Grid, budget: int | Grid) -> Grid:
        """The (rows, columns) of the kept tokens, if the network gives so many.

        Args:
            grid: (rows, columns) of all tokens.
            budget: number of kept tokens, or their (rows, columns).

        Returns:
            (rows, columns), one of `budgets`.

        Raises:
            UsageError: it was trained for another grid or budget.
        """
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
        return replace(pooled(tokens[..., :1], grid, budget), tokens=kept)

    @torch.no_grad()
    def _decode(self, kept: CompressedTokens, grid: Grid) -> Float[Tensor, "b n c"]:
        assert kept.grid is not None
        return self.model.decode(kept.tokens.float(), kept.grid)

    def save_pretrained(self, folder: str | Path, half: bool = False) -> Path:
        """Writes the configuration and then the weights, so that a folder with weights is complete.

        Args:
            folder: created if missing.
            half: store the weights in fp16, as the bundled compressors do.

        Returns:
            The folder.
        """
        from safetensors.torch import save_file

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = {"format": FORMAT, "shape": asdict(self.model.shape), "about": self.about}
        write_text_atomic(folder / CONFIG, json.dumps(config, indent=2) + "\n")
        weights = {
            name: (value.half() if half else value.float()).contiguous().cpu()
            for name, value in self.model.state_dict().items()
        }
        with atomic_write(folder / WEIGHTS) as unfinished:
            save_file(weights, unfinished)
        return folder

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Compressor:
        """Loads a compressor.

        Args:
            folder: an exported compressor, a run's folder (of an interrupted run the best epoch so
                far is loaded), or the name of a bundled compressor.

        Returns:
            The compressor, on the CPU.

        Raises:
            MissingError: there is no compressor.
            UsageError: the folder holds something else, or is damaged.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        best = Path(folder).expanduser() / "checkpoints" / "best_model.pt"
        exported = best.parents[1] / "compressor" / CONFIG
        if str(folder) not in shipped() and best.is_file() and not exported.is_file():
            note(f"{folder}: the run is not finished; its best epoch so far is taken")
            return cls.from_checkpoint(best)
        path = _find(folder)
        try:
            config = _config(path)
            model = _build(config["shape"], load_file(path / WEIGHTS))
            about = dict(config.get("about", {}))
        except (OSError, SafetensorError, *checkpoint.WRONG) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UsageError(
                "the compressor cannot be read",
                got=f"{path}: {reason}",
                want=f"a folder with {CONFIG} and {WEIGHTS} that `encoderlab compress` has written",
            ) from error
        return cls(model, about)

    @classmethod
    def from_checkpoint(cls, path: Path) -> Compressor:
        """The compressor in a training checkpoint, such as best_model.pt.

        Args:
            path: the checkpoint.

        Returns:
            The compressor, on the CPU.

        Raises:
            MissingError: there is no such file.
            UsageError: it is damaged, or another file.
        """  # noqa: DOC501
        record = checkpoint.read(path, FORMAT)
        names = [field.name for field in fields(AutoencoderShape)]
        try:
            identity = record["identity"]
            model = _build({name: identity[name] for name in names}, record["weights"])
            last = record["history"][-1] if record["history"] else {}
            validation = {name: value for name, value in last.items() if name.startswith("val/")}
            about = {name: value for name, value in identity.items() if name not in names}
            about |= {"steps": record["step"], "validation": validation}
        except checkpoint.WRONG as error:
            raise checkpoint.incomplete(path, error) from error
        return cls(model, about)


def _config(folder: Path) -> dict[str, Any]:
    config = record_in(folder / CONFIG)
    if config.get("format") != FORMAT:
        raise ValueError(f"its format is {config.get('format')!r}")
    return config


def _build(record: dict[str, Any], weights: dict[str, Any]) -> TokenAutoencoder:
    """The network of a shape with its weights; raises one of `WRONG` where they do not match."""
    shape = _shape(record)
    weights = {name: value.float() for name, value in weights.items()}
    for name, value in weights.items():
        if not value.isfinite().all():
            raise ValueError(f"its weight {name} is not finite")
    # Checked before memory is allocated: a network has more than channels^2 and width^2 weights.
    count = sum(value.numel() for value in weights.values())
    if max(shape.channels, shape.width) ** 2 > count or max(shape.grid) > MOST_SIDE:
        raise ValueError(
            f"{shape.channels} channels, width {shape.width} and a grid of {shape.grid} do not go "
            f"with {count:,} numbers"
        )
    # While another thread loads a model, torch's default dtype may be that model's.
    model = TokenAutoencoder(shape).float()
    model.load_state_dict(weights)
    return model


def shipped() -> dict[str, Path]:
    """Name -> folder of the bundled compressors."""
    return {path.parent.name: path.parent for path in sorted(ZOO.glob(f"compressors/*/{CONFIG}"))}


def shipped_for(encoder: str) -> dict[str, list[str]]:
    """The bundled compressors of an encoder's tokens.

    Args:
        encoder: name of the encoder.

    Returns:
        Name in the tables -> names of the compressors, one or more for each budget.
    """
    names: dict[str, list[str]] = {}
    for name in shipped():
        compressor = Compressor.from_pretrained(name)
        if compressor.about.get("encoder") == encoder:
            names.setdefault(compressor.label, []).append(name)
    return names


def _find(folder: str | Path) -> Path:
    bundled = shipped()
    if str(folder) in bundled:
        return bundled[str(folder)]
    path = Path(folder).expanduser()
    for candidate in (path / "compressor", path):
        if (candidate / CONFIG).is_file():
            return candidate
    raise MissingError(
        "no such compressor",
        got=str(folder),
        want="a folder that `encoderlab compress` has written, or one of " + ", ".join(bundled),
    )


def _shape(record: dict[str, Any]) -> AutoencoderShape:
    height, width = record["grid"]
    budgets = tuple((h, w) for h, w in record["budgets"])
    shape = AutoencoderShape(**{**record, "grid": (height, width), "budgets": budgets})
    numbers = [shape.channels, shape.width, height, width, *(n for b in budgets for n in b)]
    if not shape.budgets or not all(type(n) is int and n > 0 for n in numbers):
        raise ValueError(f"its shape is {record}")
    return shape
