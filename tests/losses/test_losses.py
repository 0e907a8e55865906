"""Contrastive and sigmoid losses against closed forms and independent computations."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from encoderlab.losses.contrastive import contrastive_loss
from encoderlab.losses.sigmoid import sigmoid_loss


def _embeddings(n: int, d: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    image, text = (torch.randn(n, d, generator=generator, dtype=torch.float64) for _ in range(2))
    return F.normalize(image, dim=-1), F.normalize(text, dim=-1)


@given(n=st.integers(2, 12), d=st.integers(1, 8), seed=st.integers(0, 1000))
def test_contrastive_loss_is_the_mean_of_two_cross_entropies(n, d, seed):
    image, text = _embeddings(n, d, seed)
    scale = torch.tensor(7.0, dtype=torch.float64)
    logits = scale * image @ text.T
    label = torch.arange(n)
    expected = (F.cross_entropy(logits, label) + F.cross_entropy(logits.T, label)) / 2
    assert contrastive_loss(image, text, scale).item() == pytest.approx(expected.item())


def test_contrastive_loss_of_embeddings_that_say_nothing_is_ln_n():
    same = F.normalize(torch.ones(16, 4), dim=-1)
    loss = contrastive_loss(same, same, torch.tensor(100.0))
    assert loss.item() == pytest.approx(math.log(16), abs=1e-5)


def test_two_right_texts_share_the_target_evenly():
    image, text = _embeddings(4, 3, 0)
    right = torch.eye(4, dtype=torch.bool)
    right[0, 1] = right[1, 0] = True
    log_p = F.log_softmax(image @ text.T, dim=1)
    log_q = F.log_softmax(text @ image.T, dim=1)
    rows = [(0, 1), (0, 1), (2,), (3,)]
    by_hand = (
        sum(
            -sum(p[i, j] for j in js) / len(js) for p in (log_p, log_q) for i, js in enumerate(rows)
        )
        / 8
    )
    ours = contrastive_loss(image, text, torch.tensor(1.0, dtype=torch.float64), right)
    assert ours.item() == pytest.approx(float(by_hand))


@given(n=st.integers(2, 10), seed=st.integers(0, 1000), bias=st.floats(-10, 2))
def test_sigmoid_loss_is_binary_cross_entropy_over_all_pairs_divided_by_n(n, seed, bias):
    image, text = _embeddings(n, 5, seed)
    scale, offset = (torch.tensor(v, dtype=torch.float64) for v in (3.0, bias))
    logits = scale * image @ text.T + offset
    target = torch.eye(n, dtype=torch.float64)
    expected = F.binary_cross_entropy_with_logits(logits, target, reduction="sum") / n
    assert sigmoid_loss(image, text, scale, offset).item() == pytest.approx(expected.item())
