"""Linear CKA of any number of samples in one pass: a state that is updated, merged and saved.

Exact, not averaged over batches: the state keeps the O(d^2) sums that both estimators need, centred
on their own mean (Chan, Golub & LeVeque 1983; Pebay 2008), because raw sums lose all digits on
features with an offset. One state serves every pair of its models.

Letters: m, k models; n samples; d width; g shards; x~ a sample minus the state's mean.
"""

from __future__ import annotations

import itertools
import math
import operator
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from encoderlab.core.atomic_io import atomic_write
from encoderlab.core.score import Score, undefined
from encoderlab.errors import UsageError
from encoderlab.metrics.matrix import Matrix, matrix, require_finite, require_same_count
from encoderlab.metrics.uncertainty import jackknife_interval

BLOCK = 4096
FORMAT = 1


@dataclass
class Moments:
    """Centred sums of n samples.

    Args:
        n: number of samples.
        means: model -> (d,).
        comoments: (m, k) -> sum of x~_m x~_k^T, for m <= k in the order of `means`.
        weighted: (m, k) -> sum of |x~_m|^2 x~_k.
        norms: (m, k) -> sum of |x~_m|^2 |x~_k|^2.
    """

    n: int = 0
    means: dict[str, Tensor] = field(default_factory=dict)
    comoments: dict[tuple[str, str], Tensor] = field(default_factory=dict)
    weighted: dict[tuple[str, str], Tensor] = field(default_factory=dict)
    norms: dict[tuple[str, str], float] = field(default_factory=dict)

    @classmethod
    def of(cls, features: Mapping[str, Matrix]) -> Moments:
        """The state of one set of samples.

        Args:
            features: model -> (n, d), row i of each of sample i.

        Returns:
            The state of the n samples.

        Raises:
            UsageError: values that are not finite, or numbers of rows that differ.
        """
        state = cls()
        state.update(features)
        return state

    def update(self, features: Mapping[str, Matrix]) -> None:
        """Adds samples.

        Args:
            features: as in `of`.

        Raises:
            UsageError: as `of`, or models or widths that differ from those of the state.
        """
        count = require_same_count(features)
        for name, x in features.items():
            require_finite(torch.as_tensor(x), name)
        for start in range(0, count, BLOCK):
            rows = slice(start, start + BLOCK)
            part = {name: matrix(x[rows], name) for name, x in features.items()}
            merged = self.merged(_of_block(part))
            self.__dict__.update(merged.__dict__)

    def merged(self, other: Moments) -> Moments:
        """The state of two sets of samples; their order matters to rounding only.

        Args:
            other: the state of other samples of the same models.

        Returns:
            The state of all samples.

        Raises:
            UsageError: models or widths that differ.
        """
        if not self.n or not other.n:
            return other if not self.n else self
        if {k: v.shape for k, v in self.means.items()} != {
            k: v.shape for k, v in other.means.items()
        }:
            raise UsageError(
                "the states are of other models",
                got=f"{_widths(self)} and {_widths(other)}",
                want="the same models and widths",
            )
        n = self.n + other.n
        # From the two means, not from the sums: no digits are lost to an offset of 10^5.
        means = {
            name: mean + (other.means[name] - mean) * (other.n / n)
            for name, mean in self.means.items()
        }
        return self._combined(other, n, means, operator.add)

    def without(self, part: Moments) -> Moments:
        """The state of all samples but those of `part`; the inverse of `merged`, to rounding.

        Args:
            part: the state of some of these samples.

        Returns:
            The state of the others.

        Raises:
            UsageError: models that differ, or a part with more samples than the whole.
        """
        if not part.n:
            return self
        if part.n > self.n or list(part.means) != list(self.means):
            raise UsageError(
                "the state is no part of this one",
                got=f"{part.n} samples of {_widths(part)}",
                want=f"some of {self.n} samples of {_widths(self)}",
            )
        n = self.n - part.n
        if not n:
            return Moments()
        means = {
            name: mean + (mean - part.means[name]) * (part.n / n)
            for name, mean in self.means.items()
        }
        return self._combined(part, n, means, operator.sub)

    def _combined(
        self, other: Moments, n: int, means: dict[str, Tensor], combine: Callable[[Any, Any], Any]
    ) -> Moments:
        """Sums or differences of both states about `means`."""
        a, b = self._about(means), other._about(means)
        comoments, weighted, norms = (
            {key: combine(value, theirs[key]) for key, value in ours.items()}
            for ours, theirs in (
                (a.comoments, b.comoments), (a.weighted, b.weighted), (a.norms, b.norms)
            )
        )  # fmt: skip
        return Moments(n, means, comoments, weighted, norms)

    def cka(self, a: str, b: str, estimator: str = "debiased") -> float:
        """Linear CKA of two models.

        Args:
            a: name of a model.
            b: name of a model.
            estimator: as in `metrics.cka.cka`.

        Returns:
            A number in the range of the estimator; NaN where it is undefined, for which
            `why_undefined` gives the reason.

        Raises:
            UsageError: the state has no such model.
        """
        if self.why_undefined(a, b, estimator):
            return math.nan
        both = self._hsic(a, b, estimator)
        scale = self._hsic(a, a, estimator) * self._hsic(b, b, estimator)
        return both / math.sqrt(scale) if scale > 0 else math.nan

    def why_undefined(self, a: str, b: str, estimator: str) -> str | None:
        """The reason why CKA of two models is undefined.

        Args:
            a: name of a model.
            b: name of a model.
            estimator: as in `metrics.cka.cka`.

        Returns:
            A sentence; None where CKA is defined.

        Raises:
            UsageError: the state has no such model.
        """
        for name in (a, b):
            if name not in self.means:
                raise UsageError(
                    "the state has no such model", got=name, want=", ".join(self.means)
                )
        least = 4 if estimator == "debiased" else 2
        if self.n < least:
            return f"{estimator} CKA needs at least {least} samples, and there are {self.n}"
        for name in (a, b):
            offset = float(self.means[name].abs().max())
            if self._spread(name) <= self.n * (1e-12 * offset) ** 2:
                return f"the features of {name} are the same for every sample"
        return None

    def save(self, path: str | Path) -> None:
        """Writes the state to an .npz file, atomically.

        Args:
            path: the file.
        """
        arrays: dict[str, np.ndarray] = {"n": np.array([self.n, FORMAT])}
        for name, mean in self.means.items():
            arrays[f"mean|{name}"] = mean.cpu().numpy()
        for kind in ("comoments", "weighted"):
            for (a, b), tensor in getattr(self, kind).items():
                arrays[f"{kind}|{a}|{b}"] = tensor.cpu().numpy()
        for (a, b), number in self.norms.items():
            arrays[f"norms|{a}|{b}"] = np.array(number)
        with atomic_write(Path(path)) as unfinished, unfinished.open("wb") as content:
            np.savez(content, **arrays)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: str | Path) -> Moments:
        """Reads a file of `save`.

        Args:
            path: the file.

        Returns:
            The state that was saved.

        Raises:
            UsageError: it is damaged, or another file.
        """
        state = cls()
        try:
            with np.load(path, allow_pickle=False) as arrays:
                state.n = operator.index(arrays["n"][0])
                for key in arrays.files:
                    kind, *names = key.split("|")
                    if kind == "mean":
                        state.means[names[0]] = torch.from_numpy(arrays[key])
                    elif kind == "norms":
                        state.norms[names[0], names[1]] = float(arrays[key])
                    elif kind in ("comoments", "weighted"):
                        getattr(state, kind)[names[0], names[1]] = torch.from_numpy(arrays[key])
            state._check()
        except (
            OSError, EOFError, ValueError, KeyError, IndexError, TypeError, RuntimeError,
            SyntaxError, MemoryError, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
        ) as error:  # fmt: skip
            # RuntimeError: a zip version that Python does not read. SyntaxError, TokenError: the
            # header of an array is Python source.
            raise UsageError(
                "this is no saved state of moments", got=f"{path}: {error}", want="an .npz of ours"
            ) from error
        return state

    def _check(self) -> None:
        """Raises ValueError or KeyError if the arrays of a file do not fit together."""
        if self.n < 0 or not self.means:
            raise ValueError(f"it is of {self.n} samples of {len(self.means)} models")
        for name, mean in self.means.items():
            if mean.dim() != 1 or not len(mean) or not mean.is_floating_point():
                raise ValueError(f"the means of {name} are {tuple(mean.shape)}")
        for a, b in itertools.product(self.means, repeat=2):
            key = (a, b) if (a, b) in self.comoments else (b, a)
            products, weighted = self.comoments[key], self.weighted[a, b]
            fit = products.shape == tuple(len(self.means[name]) for name in key)
            if not fit or weighted.shape != self.means[b].shape or (a, b) not in self.norms:
                raise ValueError(f"the products of {a} and {b} do not fit their means")

    def _spread(self, name: str) -> float:
        return float(self.comoments[name, name].trace())

    def _hsic(self, a: str, b: str, estimator: str) -> float:
        c = self.comoments[a, b] if (a, b) in self.comoments else self.comoments[b, a]
        whole = float(c.square().sum())
        if estimator == "biased":
            return whole
        n = self.n
        return (
            whole
            - n / (n - 2) * self.norms[a, b]
            + self._spread(a) * self._spread(b) / ((n - 1) * (n - 2))
        )

    def _about(self, means: Mapping[str, Tensor]) -> Moments:
        """The same sums about other means: x~ becomes x~ + shift."""
        shift = {name: self.means[name] - means[name] for name in means}
        square = {name: float(offset @ offset) for name, offset in shift.items()}
        n = self.n
        comoments, weighted, norms = {}, {}, {}
        for (a, b), c in self.comoments.items():
            comoments[a, b] = c + n * torch.outer(shift[a], shift[b])
        for a, b in self.weighted:
            c = self.comoments[a, b] if (a, b) in self.comoments else self.comoments[b, a].T
            p, q, spread_a, spread_b = square[a], square[b], self._spread(a), self._spread(b)
            weighted[a, b] = (
                self.weighted[a, b] + spread_a * shift[b] + 2 * (shift[a] @ c) + n * p * shift[b]
            )
            norms[a, b] = (
                self.norms[a, b]
                + 2 * float(shift[b] @ self.weighted[a, b])
                + 2 * float(shift[a] @ self.weighted[b, a])
                + 4 * float(shift[a] @ c @ shift[b])
                + q * spread_a
                + p * spread_b
                + n * p * q
            )
        return Moments(n, dict(means), comoments, weighted, norms)


def merge(states: Iterable[Moments]) -> Moments:
    """The state of several sets of samples.

    Args:
        states: of disjoint sets of samples, with the same models.

    Returns:
        The state of all samples; an empty one for no states.

    Raises:
        UsageError: models or widths that differ.
    """
    total = Moments()
    for state in states:
        total = total.merged(state)
    return total


def cka_of_shards(shards: Sequence[Moments], a: str, b: str, estimator: str = "debiased") -> Score:
    """Linear CKA over all shards, with a delete-one-shard jackknife interval.

    Args:
        shards: states of random parts of about equal size.
        a: name of a model.
        b: name of a model.
        estimator: as in `metrics.cka.cka`.

    Returns:
        The score over all samples.
    """
    whole = merge(shards)
    return score_of(whole, cka_without_each(whole, shards, [(a, b)])[a, b], a, b, estimator)


def cka_without_each(
    whole: Moments, shards: Iterable[Moments], pairs: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], Float[np.ndarray, " g"]]:
    """Debiased CKA without each shard.

    Args:
        whole: the state of all shards.
        shards: read one at a time, so that one more state than shards is in memory.
        pairs: names of models.

    Returns:
        Pair -> the value without shard i, for each i; NaN where no sample is left.
    """
    left_out: dict[tuple[str, str], list[float]] = {pair: [] for pair in pairs}
    for shard in shards:
        rest = whole.without(shard)
        for pair, values in left_out.items():
            values.append(rest.cka(*pair) if rest.n else math.nan)
    return {pair: np.array(values) for pair, values in left_out.items()}


def score_of(
    whole: Moments,
    left_out: Float[np.ndarray, " g"],
    a: str,
    b: str,
    estimator: str = "debiased",
) -> Score:
    """CKA of two models over all samples.

    Args:
        whole: the state of all samples.
        left_out: the values of `cka_without_each`, for the interval.
        a: name of a model.
        b: name of a model.
        estimator: as in `metrics.cka.cka`.

    Returns:
        The score; undefined, with the reason, where CKA is.
    """
    name = f"{estimator} CKA, linear, from moments"
    reason = whole.why_undefined(a, b, estimator)
    if reason:
        return undefined(reason, whole.n, name)
    value = whole.cka(a, b, estimator)
    if estimator == "biased":
        return Score(value, None, None, _floor(whole, a, b), whole.n, name)
    # The variance from pairs of samples is known for unrelated features, which have no other. For
    # related ones it is negligible beside the variance of the samples themselves.
    interaction = 2 / (whole.n * (whole.n - 3))
    interval = jackknife_interval(value, left_out, correlation=True, interaction=interaction)
    z = value * math.sqrt(whole.n * (whole.n - 3) / 2)
    how = f"jackknife over {len(left_out)} shards on Fisher's z"
    return Score(value, *interval, 0.0, whole.n, f"{name}; {how}", z=z)


def _floor(state: Moments, a: str, b: str) -> float:
    """Mean of the biased CKA over all pairings; see `encoderlab.metrics.cka.floor`."""
    spreads = [state._spread(m) ** 2 / float(state.comoments[m, m].square().sum()) for m in (a, b)]
    return math.sqrt(spreads[0] * spreads[1]) / (state.n - 1)


def _of_block(features: Mapping[str, Float[Tensor, "n d"]]) -> Moments:
    means = {name: x.mean(dim=0) for name, x in features.items()}
    offset = {name: x - means[name] for name, x in features.items()}
    square = {name: torch.linalg.vector_norm(x, dim=1).square() for name, x in offset.items()}
    names = list(features)
    state = Moments(len(next(iter(features.values()))), means)
    for a, b in itertools.combinations_with_replacement(names, 2):
        state.comoments[a, b] = offset[a].T @ offset[b]
    for a, b in itertools.product(names, names):
        state.weighted[a, b] = square[a] @ offset[b]
        state.norms[a, b] = float(square[a] @ square[b])
    return state


def _widths(state: Moments) -> str:
    return ", ".join(f"{name} ({len(mean)})" for name, mean in state.means.items())
