"""Projectors against their equations in numpy."""

import numpy as np
import pytest
import torch
from scipy.special import erf, softmax

from encoderlab.errors import UsageError
from encoderlab.models.projectors import KINDS, create_projector


def gelu(x: np.ndarray) -> np.ndarray:
    return x * 0.5 * (1 + erf(x / np.sqrt(2)))


def by_hand(kind: str, weights: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """The projector's equation, (n, d_v) or (n, tokens, d_v) to (n, d_t)."""

    def linear(name: str, value: np.ndarray) -> np.ndarray:
        prefix = f"{name}." if name else ""
        return value @ weights[f"{prefix}weight"].T + weights[f"{prefix}bias"]

    if kind == "linear":
        return linear("", x)
    if kind == "mlp":
        return linear("2", gelu(linear("0", x)))
    if kind == "mlp_norm":
        h = gelu(linear("0", x))
        mean, var = h.mean(axis=-1, keepdims=True), h.var(axis=-1, keepdims=True)
        h = (h - mean) / np.sqrt(var + 1e-5) * weights["2.weight"] + weights["2.bias"]
        return linear("3", h)
    tokens = x[:, None] if x.ndim == 2 else x
    keys, values, queries = linear("key", tokens), linear("value", tokens), weights["queries"]
    heads = 2
    size = queries.shape[1] // heads
    seen = np.zeros((len(x), queries.shape[1]))
    for h in range(heads):
        part = slice(h * size, (h + 1) * size)
        scores = np.einsum("qc,bnc->bqn", queries[:, part], keys[..., part]) / np.sqrt(size)
        mixed = np.einsum("bqn,bnc->bqc", softmax(scores, axis=-1), values[..., part])
        seen[:, part] = mixed.mean(axis=1)
    return linear("out", seen)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tokens", [None, 3])
def test_every_kind_is_its_equation(kind, tokens):
    if tokens and kind != "cross_attention":
        return
    torch.manual_seed(0)
    projector = create_projector(kind, 6, 128)
    x = torch.randn(*((5, 6) if tokens is None else (5, tokens, 6)))
    weights = {name: value.double().numpy() for name, value in projector.state_dict().items()}
    expected = by_hand(kind, weights, x.double().numpy())
    np.testing.assert_allclose(projector(x).detach(), expected, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("widths", [(1, 1), (7, 3), (128, 192), (5, 97)])
def test_every_width_is_taken(kind, widths):
    assert create_projector(kind, *widths)(torch.zeros(2, widths[0])).shape == (2, widths[1])


def test_a_kind_or_a_width_that_is_wrong_is_named():
    with pytest.raises(UsageError, match=r"unknown projector.*'lineal'.*Did you mean 'linear'"):
        create_projector("lineal", 2, 2)
    with pytest.raises(UsageError, match=r"d_t must be positive.*0"):
        create_projector("mlp", 2, 0)
