"""Compressor, decoder and critic: shapes of any grid, what they begin as, and that they learn."""

import pytest
import torch
import torch.nn.functional as F

from encoderlab.errors import UsageError
from encoderlab.losses.wgan_gp import check_critic, critic_loss
from encoderlab.models.token_compressor import (
    Standardise,
    TokenCompressor,
    TokenCritic,
    create_decoder,
    start_at_block_pca,
)
from encoderlab.models.token_grid import as_image, as_tokens
from encoderlab.patch_tokens.linear import BlockPCA
from encoderlab.patch_tokens.pooling import AveragePooling


@pytest.mark.parametrize("grid", [(24, 24), (16, 16), (14, 14), (12, 12), (9, 16)])
@pytest.mark.parametrize("out_grid", [(12, 12), (8, 8), (6, 6), (5, 5), (4, 4), (3, 3), (1, 1)])
def test_any_grid_comes_to_any_smaller_one_and_begins_as_average_pooling(grid, out_grid):
    if out_grid[0] > grid[0]:
        with pytest.raises(
            UsageError, match=r"does not fit into the grid: got '12 x 12 of 9 x 16'"
        ):
            TokenCompressor(4, grid, [out_grid], width=8)
        return
    tokens = torch.randn(2, grid[0] * grid[1], 4)
    kept = TokenCompressor(4, grid, [out_grid], width=8)(tokens)
    pooled = AveragePooling().compress(tokens, grid, out_grid).tokens
    assert torch.allclose(kept, pooled, atol=1e-5)


@pytest.mark.parametrize("kind", ["convolution", "attention"])
def test_a_decoder_begins_as_spreading_out(kind):
    kept = torch.randn(2, 9, 4)
    decoder = create_decoder(kind, 4, (12, 12), [(3, 3)], width=8)
    plain = as_tokens(F.interpolate(as_image(kept, (3, 3)), size=(12, 12), mode="nearest"))
    assert torch.allclose(decoder(kept), plain, atol=1e-6)


@pytest.mark.parametrize("kind", ["convolution", "attention"])
def test_together_they_learn_what_pooling_loses(kind):
    torch.manual_seed(0)
    # Tokens that three numbers of a window make: pooling keeps one of them.
    basis = torch.randn(3, 16, 6)
    codes = torch.randn(64, 4, 3)
    blocks = torch.einsum("bkz,znc->bknc", codes, basis)
    tokens = as_tokens(
        blocks.reshape(64, 2, 2, 4, 4, 6).permute(0, 5, 1, 3, 2, 4).reshape(64, 6, 8, 8)
    )
    compressor = TokenCompressor(6, (8, 8), [(2, 2)], width=32)
    decoder = create_decoder(kind, 6, (8, 8), [(2, 2)], width=32)
    weights = [*compressor.parameters(), *decoder.parameters()]
    optimiser = torch.optim.Adam(weights, lr=3e-3)

    @torch.no_grad()
    def error() -> float:
        return float(F.mse_loss(decoder(compressor(tokens)), tokens))

    before = error()
    for _ in range(10):
        for _ in range(20):
            optimiser.zero_grad()
            F.mse_loss(decoder(compressor(tokens)), tokens).backward()
            optimiser.step()
        if error() < 0.6 * before:
            return
    raise AssertionError(f"{before:.3f} has only become {error():.3f}")


def test_edges_are_not_marked():
    torch.manual_seed(0)
    compressor = TokenCompressor(3, (12, 12), [(6, 6)], width=16)
    for parameter in compressor.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    kept = compressor(torch.ones(1, 144, 3))[0]
    assert torch.allclose(kept, kept[0].expand_as(kept), atol=1e-4)


def test_the_critic_sees_each_sample_alone_and_can_be_penalised():
    critic = TokenCritic(4, (3, 3), width=16)
    batch = torch.randn(5, 9, 4)
    check_critic(critic, batch)
    assert critic(batch).shape == (5,)
    critic_loss(critic, batch, torch.randn(5, 9, 4)).loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in critic.parameters())


def test_standardised_tokens_have_mean_zero_and_spread_one_and_come_back():
    tokens = torch.randn(20, 9, 4) * torch.tensor([1.0, 10, 0.1, 3]) + 5
    scale = Standardise(4).fit(tokens)
    ready = scale(tokens).flatten(0, 1)
    assert torch.allclose(ready.mean(dim=0), torch.zeros(4), atol=1e-5)
    assert torch.allclose(ready.std(dim=0), torch.ones(4), atol=1e-4)
    assert torch.allclose(scale.back(scale(tokens)), tokens, atol=1e-5)
    assert set(scale.state_dict()) == {"mean", "spread"}


def test_an_unknown_decoder_and_heads_that_do_not_divide_are_refused():
    with pytest.raises(UsageError, match="unknown decoder: got 'conv'"):
        create_decoder("conv", 4, (4, 4), [(2, 2)])
    with pytest.raises(UsageError, match="heads must divide the width"):
        create_decoder("attention", 4, (4, 4), [(2, 2)], width=6)


@pytest.mark.parametrize("kind", ["convolution", "attention"])
def test_a_start_at_block_pca_is_exactly_that_bound_and_looks_like_tokens(kind):
    torch.manual_seed(0)
    grid, out_grid = (6, 6), (3, 3)
    # Neighbours alike, channels mixed and offset, as tokens are.
    smooth = F.interpolate(torch.randn(300, 5, 4, 4), size=grid, mode="bilinear")
    tokens = as_tokens(smooth) @ torch.randn(5, 5) + torch.randn(300, 36, 5) * 0.3 + 2
    compressor = TokenCompressor(5, grid, [out_grid], width=8)
    decoder = create_decoder(kind, 5, grid, [out_grid], width=8)
    start_at_block_pca(compressor, decoder, tokens, out_grid)
    kept = compressor(tokens)
    bound = BlockPCA().fit(tokens, grid, out_grid)
    best = bound.decode(bound.compress(tokens, grid, out_grid), grid)
    assert torch.allclose(decoder(kept), best, atol=1e-3)
    flat, seen = kept.flatten(0, 1), tokens.flatten(0, 1)
    assert torch.allclose(flat.mean(dim=0), seen.mean(dim=0), atol=1e-3)
    assert torch.allclose(flat.T.cov(), seen.T.cov(), rtol=0.02, atol=0.02)
    # Nearer to the window's mean than the components as they come.
    mean = AveragePooling().compress(tokens, grid, out_grid).tokens
    plain = bound.compress(tokens, grid, out_grid).tokens + mean.mean(dim=(0, 1))
    assert F.mse_loss(kept, mean) < 0.5 * F.mse_loss(plain, mean)


def test_one_network_gives_several_budgets():
    tokens = torch.randn(2, 144, 4)
    budgets = [(6, 6), (5, 4), (3, 3)]
    compressor = TokenCompressor(4, (12, 12), budgets, width=8)
    decoder = create_decoder("convolution", 4, (12, 12), budgets, width=8)
    for budget in budgets:
        kept = compressor(tokens, budget)
        assert torch.allclose(
            kept, AveragePooling().compress(tokens, (12, 12), budget).tokens, atol=1e-5
        )
        assert decoder(kept, budget).shape == tokens.shape


def test_windows_of_several_sizes_have_no_principal_components():
    compressor = TokenCompressor(4, (12, 12), [(5, 5)], width=8)
    decoder = create_decoder("convolution", 4, (12, 12), [(5, 5)], width=8)
    with pytest.raises(UsageError, match=r"no common principal components: got '5 x 5 of 12 x 12'"):
        start_at_block_pca(compressor, decoder, torch.randn(3, 144, 4), (5, 5))
