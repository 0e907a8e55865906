"""Extraction tasks: how an item is prepared, and what a model computes of a batch.

A task can be sent to another process. Knows models and items; no engine.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from encoderlab.data.sample import Sample
from encoderlab.encoders.dual import DualEncoder
from encoderlab.encoders.layers import layer_numbers
from encoderlab.encoders.load_spec import load_spec_of
from encoderlab.encoders.text import TextEncoder
from encoderlab.encoders.vision import VisionEncoder, VisionFeatures, stack
from encoderlab.errors import UsageError
from encoderlab.feature_store.pipeline import Arrays, Decoded, Task, decode_for
from encoderlab.feature_store.quantise import to_int8
from encoderlab.feature_store.store import FeatureStore, FeatureTable, TableKey

KINDS = "pooled, cls, projected, patches, patches@LAYER, patches@LAYER:int8, mean@LAYER"
EMBEDDING = "embedding"


class ExtractionTask(Task, Protocol):
    """A task whose arrays are stored."""

    @property
    def keys(self) -> dict[str, TableKey]:
        """Name -> where in a store its arrays belong."""
        ...


class _PickledByName:
    """Is pickled with the load specification of its model instead of the model."""

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "encoder": load_spec_of(vars(self)["encoder"])}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, encoder=state["encoder"].model())


@dataclass(frozen=True)
class ImageTask(_PickledByName):
    """Kinds of features of images."""

    encoder: VisionEncoder
    kinds: tuple[Kind, ...]
    needs_decoding: bool = True

    def preparing(self) -> Callable[[Sample], Decoded | str]:
        """Pixels, or why there are none."""
        return functools.partial(decode_for, self.encoder.preprocess)

    @property
    def keys(self) -> dict[str, TableKey]:
        """One table per kind."""
        preprocessing = self.encoder.preprocess.to_dict()
        ran_in = self.encoder.where[1] if self.layers else self.encoder.ran_in
        return _keys(self.encoder, preprocessing, [kind.name for kind in self.kinds], ran_in)

    def compute(self, rows: list[Decoded]) -> dict[str, Tensor]:
        """Every kind of feature of a batch."""
        pixels = stack([row.pixels for row in rows], self.encoder.device)
        features = self.encoder.encode_pixels(pixels, layers=self.layers)
        return {kind.name: kind.of(features) for kind in self.kinds}

    @property
    def layers(self) -> list[int]:
        """The hidden states that are needed; a backend does not give them, torch does."""
        return [kind.layer for kind in self.kinds if kind.layer is not None]


@dataclass(frozen=True)
class EmbeddingTask:
    """Embeddings of images in the space that a dual encoder shares with texts: fp32, unit length.

    A kind of its own: a CLIP's `pooled` comes from another implementation of the same network, and
    differs in the last digits.
    """

    encoder: DualEncoder
    needs_decoding: bool = True

    def preparing(self) -> Callable[[Sample], Decoded | str]:
        """Pixels, or why there are none."""
        return functools.partial(decode_for, self.encoder.preprocess)

    @property
    def keys(self) -> dict[str, TableKey]:
        """The table of embeddings."""
        preprocessing = self.encoder.preprocess.to_dict()
        return _keys(self.encoder, preprocessing, [EMBEDDING], self.encoder.ran_in)

    def compute(self, rows: list[Decoded]) -> dict[str, Tensor]:
        """The embeddings of a batch."""
        pixels = stack([row.pixels for row in rows], self.encoder.device)
        return {EMBEDDING: self.encoder.encode_pixels(pixels)}


@dataclass(frozen=True)
class TextTask(_PickledByName):
    """The pooled vector of texts, and of some hidden states."""

    encoder: TextEncoder
    layers: tuple[int, ...] = ()
    needs_decoding: bool = False

    @property
    def keys(self) -> dict[str, TableKey]:
        """One table per vector."""
        described = {"max_length": self.encoder.max_length}
        ran_in = self.encoder.ran_in
        # Version 0.1 stored the last one behind the final norm: that is another feature.
        raw = {**described, "layers": "before the final norm"}
        layers = [f"mean@{k}" for k in self.layers]
        return {
            **_keys(self.encoder, described, ["pooled"], ran_in),
            **_keys(self.encoder, raw, layers, ran_in),
        }

    def preparing(self) -> Callable[[str], list[str]]:
        """In a list, since a bare text would be a reason."""
        return _in_a_list

    def compute(self, rows: list[list[str]]) -> dict[str, Tensor]:
        """The vectors of a batch."""
        features = self.encoder.encode_batch([row[0] for row in rows], layers=self.layers)
        return {"pooled": features.pooled, **{f"mean@{k}": features.layers[k] for k in self.layers}}


@dataclass(frozen=True)
class Kind:
    """One kind of feature of images: which tensor, of which layer.

    Args:
        name: in the store, with the layer counted from 0.
        part: pooled, cls, projected, patches or mean.
        layer: number of the hidden state.
        coded: whether it is stored as int8 codes.
    """

    name: str
    part: str
    layer: int | None = None
    coded: bool = False

    @classmethod
    def parse(cls, name: str, encoder: VisionEncoder) -> Kind:
        """The kind that a name means."""
        match = re.fullmatch(r"(pooled|cls|projected|patches)|(patches|mean)@(-?\d+)(:int8)?", name)
        if match is None or (match[4] and match[2] == "mean"):
            raise UsageError("unknown kind of feature", got=name, want=KINDS)
        if match[1]:
            return cls(name, match[1])
        (layer,) = layer_numbers([int(match[3])], encoder.n_layers)
        coded = match[4] is not None
        return cls(f"{match[2]}@{layer}{match[4] or ''}", match[2], layer, coded)

    def of(self, features: VisionFeatures) -> Tensor:
        """The tensor of this kind, one row per image."""
        if self.layer is not None:
            patches = features.layers[self.layer]
            if self.part == "mean":
                return patches.float().mean(dim=1)
            return to_int8(patches) if self.coded else patches
        value = getattr(features, self.part)
        if value is None:
            raise UsageError(
                "this family has no such feature", got=self.name, want="pooled or patches"
            )
        return value if value.ndim > 2 else value.float()


@dataclass
class Chunk:
    """Samples that are stored together, and their results so far."""

    digests: list[bytes]
    items: list[Any]
    parts: list[Arrays] = field(default_factory=list)
    good: list[bytes] = field(default_factory=list)
    left_out: dict[bytes, str] = field(default_factory=dict)

    @property
    def done(self) -> int:
        """How many items are decided."""
        return len(self.good) + len(self.left_out)

    def take(self, rows: Sequence[Any], computed: Arrays) -> None:
        """Notes the next rows of the chunk: a text says why an item could not be read."""
        for row in rows:
            digest = self.digests[self.done]
            if isinstance(row, str):
                self.left_out[digest] = row
            else:
                self.good.append(digest)
        if computed:
            self.parts.append(computed)

    def store(self, tables: Mapping[str, FeatureTable]) -> None:
        """Writes the finished chunk to every table that lacks it."""
        for name, table in tables.items():
            if all(digest in table for digest in self.digests):
                continue
            if self.good:
                values = np.concatenate([part[name] for part in self.parts])
            else:
                values = np.zeros((0, 1), dtype=np.float32)
            table.add(self.good, values, self.left_out)
        self.parts.clear()


def tables_of(store: FeatureStore, task: ExtractionTask) -> dict[str, FeatureTable]:
    """Name -> the table of a store that holds it."""
    return {name: store.table(key) for name, key in task.keys.items()}


def _in_a_list(item: str) -> list[str]:
    return [item]


def _keys(
    encoder: VisionEncoder | TextEncoder | DualEncoder,
    preprocessing: Mapping[str, Any],
    names: Sequence[str],
    ran_in: str,
) -> dict[str, TableKey]:
    described = json.dumps(preprocessing, sort_keys=True)
    return {
        name: TableKey(encoder.name, encoder.fingerprint, described, name, ran_in)
        for name in dict.fromkeys(names)
    }
