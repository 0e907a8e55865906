"""Every method without training: the contract, closed forms, and published rules read literally."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.fft import dctn, idctn

from encoderlab.compression.neighbour_agreement import max_sim
from encoderlab.compression.token_set import TokenSet
from encoderlab.errors import UsageError
from encoderlab.models.token_grid import window_of
from encoderlab.patch_tokens.linear import BlockPCA, TokenPCA
from encoderlab.patch_tokens.merging import ApET, KMeans, ToMe, VisionZip, bipartite_step
from encoderlab.patch_tokens.pooling import (
    DCT,
    AveragePooling,
    Bilinear,
    CLSAttention,
    Diverse,
    PixelShuffle,
    Random,
    RandomInWindow,
    Strided,
    farthest_points,
)
from encoderlab.patch_tokens.pruning import DPP, CDPruner, VisPruner, greedy_map
from encoderlab.patch_tokens.reducer import (
    CompressedTokens,
    SideInputs,
    grid_of,
    normalised_error,
)
from encoderlab.patch_tokens.statistics import pooling_loss

GRID = (6, 8)
METHODS = [
    AveragePooling(), Bilinear(), Strided(), Random(), RandomInWindow(), CLSAttention(), Diverse(),
    KMeans(), ToMe(), ToMe("checkerboard"), DCT(), PixelShuffle(), DPP(), CDPruner(), VisPruner(),
    VisionZip(), ApET(),
]  # fmt: skip


def named(method):
    return method.name + getattr(method, "split", "")


def tokens(b=3, grid=GRID, c=5, seed=0):
    return torch.from_numpy(
        np.random.default_rng(seed).standard_normal((b, grid[0] * grid[1], c))
    ).float()


def side(x):
    drawn = torch.rand(*x.shape[:2], 6, generator=torch.Generator().manual_seed(0))
    return SideInputs(
        attention=drawn[..., 0], text=2 * drawn[..., 1] - 1, keys=drawn[..., 2:] - 0.5
    )


@pytest.mark.parametrize("method", METHODS, ids=named)
@pytest.mark.parametrize("budget", [1, 4, 12, 48])
def test_every_method_keeps_exactly_its_budget_and_says_where(method, budget):
    x = tokens()
    kept = method.compress(x, GRID, budget, side(x))
    assert kept.tokens.shape == (3, budget, 5 * 48 // budget if method.equal_windows else 5)
    assert kept.tokens.shape[2] == method.width(5, GRID, method.exact(GRID, budget))
    assert kept.positions.shape == (3, budget, 2)
    assert kept.sizes.sum(dim=1).tolist() == [48.0] * 3
    assert kept.assignment.shape == (3, 48)
    assert int(kept.assignment.min()) >= 0 and int(kept.assignment.max()) < budget
    assert (kept.positions >= 0).all() and (kept.positions <= torch.tensor([5.0, 7.0])).all()
    for image in range(3):
        counted = torch.bincount(kept.assignment[image], minlength=budget).float()
        assert torch.equal(counted, kept.sizes[image])
    assert method.decode(kept, GRID).shape == x.shape


@pytest.mark.parametrize("method", METHODS, ids=named)
def test_a_constant_field_loses_nothing(method):
    x = torch.full((2, 48, 4), 1.7)
    kept = method.compress(x, GRID, 12, side(x))
    assert torch.allclose(method.decode(kept, GRID), x, atol=1e-6)


@pytest.mark.parametrize("method", METHODS, ids=named)
def test_all_tokens_kept_lose_nothing(method):
    x = tokens()
    kept = method.compress(x, GRID, 48, side(x))
    assert torch.allclose(method.decode(kept, GRID), x, atol=1e-5)


def test_average_pooling_loses_the_variance_within_windows():
    x = tokens(b=1)
    kept = AveragePooling().compress(x, GRID, (3, 4))
    expected = pooling_loss(x[0].reshape(6, 8, 5), (3, 4))[0]
    assert normalised_error(x, AveragePooling().decode(kept, GRID)) == pytest.approx(expected)


def test_one_random_token_of_a_window_has_twice_the_error_of_the_mean_on_average():
    x = tokens(b=1)
    mean = normalised_error(
        x, AveragePooling().decode(AveragePooling().compress(x, GRID, (3, 4)), GRID)
    )
    errors = []
    for seed in range(400):
        method = RandomInWindow(seed)
        errors.append(normalised_error(x, method.decode(method.compress(x, GRID, (3, 4)), GRID)))
    assert np.mean(errors) == pytest.approx(2 * mean, rel=0.03)


def test_pooling_a_ramp_is_exact_at_the_middle_of_windows():
    rows, columns = torch.meshgrid(torch.arange(6.0), torch.arange(8.0), indexing="ij")
    ramp = torch.stack([rows, 2 * columns, rows - columns], dim=-1).reshape(1, 48, 3)
    kept = AveragePooling().compress(ramp, GRID, (3, 4))
    place = kept.positions[0]
    assert torch.allclose(kept.tokens[0, :, 0], place[:, 0])
    assert torch.allclose(kept.tokens[0, :, 1], 2 * place[:, 1])


def test_strided_takes_the_middle_and_windows_need_not_divide():
    x = tokens(b=1, grid=(9, 9))
    kept = Strided().compress(x, (9, 9), (3, 3))
    assert kept.positions[0].tolist() == [[r, c] for r in (1, 4, 7) for c in (1, 4, 7)]
    assert torch.equal(kept.tokens[0, 0], x[0, 10])
    uneven = AveragePooling().compress(tokens(b=1, grid=(5, 7)), (5, 7), (2, 3))
    assert uneven.sizes.sum() == 35
    assert torch.equal(window_of((5, 7), (2, 3)).bincount(), uneven.sizes[0].long())


def test_cls_attention_takes_what_cls_looks_at():
    x = tokens(b=1)
    attention = torch.zeros(1, 48)
    attention[0, [5, 40, 17]] = torch.tensor([0.2, 0.5, 0.3])
    kept = CLSAttention().compress(x, GRID, 3, SideInputs(attention=attention))
    assert torch.equal(kept.tokens[0], x[0, [5, 17, 40]])
    with pytest.raises(UsageError, match="cls_attention needs the attention of the encoder"):
        CLSAttention().compress(x, GRID, 3)


def test_farthest_points_are_those_of_a_plain_loop():
    x = tokens(b=1)
    unit = torch.nn.functional.normalize(x[0], dim=-1)
    centre = torch.nn.functional.normalize(unit.mean(dim=0), dim=-1)
    chosen = [int((unit @ centre).argmin())]
    while len(chosen) < 7:
        rest = [i for i in range(48) if i not in chosen]
        chosen.append(min(rest, key=lambda i: max(float(unit[i] @ unit[j]) for j in chosen)))
    assert farthest_points(x, 7)[0].tolist() == chosen


def test_kmeans_finds_clusters_that_are_there_and_fills_every_one():
    centres = torch.eye(4) * 10
    x = centres[torch.arange(48) % 4][None] + 0.01 * tokens(b=1, c=4)
    kept = KMeans().compress(x, GRID, 4)
    assert all(len(set(kept.assignment[0, i::4].tolist())) == 1 for i in range(4))
    same = KMeans().compress(torch.ones(1, 48, 3), GRID, 6)
    assert (same.sizes >= 1).all()


def drawn_cases():
    """Two images of each of several widths, with the inputs of every method, as numpy."""
    for seed, c in ((0, 5), (1, 12), (2, 60)):
        x = tokens(b=2, c=c, seed=seed)
        yield x, side(x)


def unit_rows(x):
    return x / np.sqrt((x**2).sum(axis=1, keepdims=True))


def test_pixel_shuffle_puts_windows_side_by_side_and_back():
    x = tokens()
    kept = PixelShuffle().compress(x, GRID, (3, 4))
    for image in range(3):
        for row in range(3):
            for column in range(4):
                places = [(2 * row + i) * 8 + 2 * column + j for i in (0, 1) for j in (0, 1)]
                side_by_side = torch.cat([x[image, place] for place in places])
                assert torch.equal(kept.tokens[image, 4 * row + column], side_by_side)
    assert torch.equal(PixelShuffle().decode(kept, GRID), x)
    with pytest.raises(UsageError, match=r"windows of one size: got '4 x 4 of 6 x 8'"):
        PixelShuffle().compress(x, GRID, (4, 4))


@pytest.mark.parametrize("budget", [(1, 1), (3, 4), (2, 7), (5, 3), (6, 8)])
def test_the_dct_keeps_the_lowest_coefficients(budget):
    x = tokens()
    kept = DCT().compress(x, GRID, budget)
    image = x.reshape(3, *GRID, 5).double().numpy()
    low = dctn(image, axes=(1, 2), norm="ortho")[:, : budget[0], : budget[1]]
    small = idctn(low, axes=(1, 2), norm="ortho") * np.sqrt(budget[0] * budget[1] / 48)
    np.testing.assert_allclose(kept.tokens, small.reshape(3, -1, 5), atol=1e-5)
    filled = np.zeros_like(image)
    filled[:, : budget[0], : budget[1]] = low
    whole = idctn(filled, axes=(1, 2), norm="ortho").reshape(3, 48, 5)
    np.testing.assert_allclose(DCT().decode(kept, GRID), whole, atol=1e-5)


def visionzip_read_literally(x, attention, keys, dominant, contextual):
    """Yang et al. 2024, section 3: groups of places, one list for each kept token."""
    chosen = sorted(sorted(range(len(x)), key=lambda i: -attention[i])[:dominant])
    rest = [i for i in range(len(x)) if i not in chosen]
    step = len(rest) // contextual
    targets = [rest[number * step] for number in range(contextual)]
    groups = {target: [target] for target in targets}
    for i in rest:
        if i in groups:
            continue
        cosines = [
            keys[i] @ keys[t] / np.linalg.norm(keys[i]) / np.linalg.norm(keys[t]) for t in targets
        ]
        groups[targets[int(np.argmax(cosines))]].append(i)
    return [[i] for i in chosen] + [groups[t] for t in targets]


@pytest.mark.parametrize(
    ("budget", "dominant"), [(2, 1), (3, 2), (6, 5), (12, 10), (40, 34), (48, 40)]
)
def test_visionzip_is_the_papers_rule(budget, dominant):
    for x, inputs in drawn_cases():
        kept = VisionZip().compress(x, GRID, budget, inputs)
        for image in range(2):
            groups = visionzip_read_literally(
                x[image].numpy(), inputs.attention[image].numpy(), inputs.keys[image].numpy(),
                dominant, budget - dominant,
            )  # fmt: skip
            for number, group in enumerate(groups):
                members = (kept.assignment[image] == number).nonzero().flatten().tolist()
                assert members == sorted(group)
                mean = x[image].numpy()[group].mean(axis=0)
                np.testing.assert_allclose(kept.tokens[image, number], mean, atol=1e-5)


def test_one_token_of_visionzip_is_the_dominant_one():
    x = tokens()
    inputs = side(x)
    kept = VisionZip().compress(x, GRID, 1, inputs)
    best = inputs.attention.argmax(dim=1)
    assert torch.equal(kept.tokens[:, 0], x[torch.arange(3), best])


def vispruner_read_literally(x, attention, budget):
    """Zhang et al. 2024, section 3: the places that stay."""
    order = sorted(range(len(x)), key=lambda i: -attention[i])
    important, rest = order[: budget // 2], order[budget // 2 :]
    unit = unit_rows(x)
    while len(rest) > budget - budget // 2:
        a, b = rest[0::2], rest[1::2]
        nearest = {i: max(unit[i] @ unit[j] for j in b) for i in a}
        a = sorted(a, key=lambda i: -nearest[i])
        rest = a[min(8, len(rest) - (budget - budget // 2)) :] + b
    return sorted(important + rest)


@pytest.mark.parametrize("budget", [1, 2, 7, 20, 45])
def test_vispruner_is_the_papers_rule(budget):
    for x, inputs in drawn_cases():
        kept = VisPruner().compress(x, GRID, budget, inputs)
        for image in range(2):
            places = vispruner_read_literally(
                x[image].double().numpy(), inputs.attention[image].numpy(), budget
            )
            assert torch.equal(kept.tokens[image], x[image, places])


def greedy_by_determinants(unit, relevance, budget):
    """The next place is that of the largest log-determinant of the kernel's minor."""
    kernel = relevance[:, None] * (unit @ unit.T) * relevance[None, :]
    chosen = []
    for _ in range(budget):
        rest = [i for i in range(len(unit)) if i not in chosen]
        minors = [kernel[np.ix_([*chosen, i], [*chosen, i])] for i in rest]
        # The first one is chosen of those whose determinants are equal but for rounding.
        logs = np.round([np.linalg.slogdet(minor)[1] for minor in minors], 9)
        chosen.append(rest[int(np.argmax(logs))])
    return chosen


@pytest.mark.parametrize("budget", [1, 4, 11])
def test_a_greedy_dpp_takes_the_largest_determinants(budget):
    for x, inputs in drawn_cases():
        # No determinant is other than 0 beyond the rank.
        count = min(budget, x.shape[2])
        for image in range(2):
            unit = unit_rows(x[image].double().numpy())
            text = inputs.text[image].double().numpy()
            relevance = (text - text.min()) / (text.max() - text.min())
            for method, r in ((DPP(), np.ones(48)), (CDPruner(), relevance)):
                places = sorted(greedy_by_determinants(unit, r, count))
                kept = method.compress(x, GRID, count, inputs)
                assert torch.equal(kept.tokens[image], x[image, places])


def test_beyond_the_rank_a_dpp_takes_the_most_relevant_tokens_each_once():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 48, 3, generator=generator) @ torch.randn(3, 9, generator=generator)
    relevance = torch.rand(2, 48, generator=generator)
    for count in (3, 10, 48):
        chosen = greedy_map(x, relevance, count)
        for image in range(2):
            order = chosen[image].tolist()
            assert len(set(order)) == count
            later = relevance[image, order[3:]].tolist()
            assert later == sorted(later, reverse=True)
    same = greedy_map(torch.ones(1, 48, 4), torch.ones(1, 48), 6)
    assert same[0].tolist() == list(range(6))


def test_a_dpp_does_not_see_the_length_of_tokens_and_follows_their_order():
    x = tokens(c=60)
    inputs = side(x)
    places = CDPruner().compress(x, GRID, 9, inputs).positions
    longer = x * (1 + torch.rand(3, 48, 1, generator=torch.Generator().manual_seed(1)))
    assert torch.equal(CDPruner().compress(longer, GRID, 9, inputs).positions, places)
    # An affine change of the relevance is none.
    other = SideInputs(text=3 * inputs.text - 5)
    assert torch.equal(CDPruner().compress(x, GRID, 9, other).positions, places)
    order = torch.randperm(48, generator=torch.Generator().manual_seed(2))
    moved = CDPruner().compress(x[:, order], GRID, 9, SideInputs(text=inputs.text[:, order]))
    kept = CDPruner().compress(x, GRID, 9, inputs)
    for a, b in zip(moved.tokens, kept.tokens, strict=True):
        assert {*map(tuple, a.tolist())} == {*map(tuple, b.tolist())}


def apet_read_literally(x, budget):
    """Ma et al. 2026: groups of places, one list for each kept token."""
    unit = unit_rows(x)
    centre = unit.mean(axis=0) / np.linalg.norm(unit.mean(axis=0))
    basis = [int(np.argmin(unit @ centre))]
    while len(basis) < min(10, budget):
        rest = [i for i in range(len(x)) if i not in basis]
        basis.append(min(rest, key=lambda i: max(unit[i] @ unit[j] for j in basis)))
    error = {}
    for i in range(len(x)):
        coefficients = np.linalg.lstsq(x[basis].T, x[i], rcond=None)[0]
        error[i] = np.linalg.norm(x[i] - x[basis].T @ coefficients)
    rest = sorted((i for i in error if i not in basis), key=lambda i: -error[i])
    kept = sorted(basis + rest[: budget - len(basis)])
    groups = {i: [i] for i in kept}
    for i in error:
        if i not in groups:
            groups[kept[int(np.argmax([unit[i] @ unit[j] for j in kept]))]].append(i)
    return [groups[i] for i in kept]


@pytest.mark.parametrize("budget", [1, 6, 10, 17, 30])
def test_apet_is_the_rule_of_its_summary(budget):
    for x, _ in drawn_cases():
        if budget > 10 and x.shape[2] <= 10:
            continue  # ten tokens span the space: every error is 0
        kept = ApET().compress(x, GRID, budget)
        for image in range(2):
            for number, group in enumerate(apet_read_literally(x[image].double().numpy(), budget)):
                members = (kept.assignment[image] == number).nonzero().flatten().tolist()
                assert members == sorted(group)
                mean = x[image, group].mean(dim=0)
                assert torch.allclose(kept.tokens[image, number], mean, atol=1e-5)


@pytest.mark.parametrize(
    ("method", "needs"),
    [(VisionZip(), "the attention"), (VisPruner(), "the attention"), (CDPruner(), "a question")],
)
def test_a_method_without_its_input_is_refused(method, needs):
    with pytest.raises(UsageError, match=f"{method.name} needs {needs}"):
        method.compress(tokens(), GRID, 6)


def tome_read_literally(x, keep, split, grid):
    """Bolya et al. 2023, section 3, one image, token by token."""
    alive = [
        {"x": x[i].double(), "size": 1.0, "members": [i], "place": (i // grid[1], i % grid[1])}
        for i in range(len(x))
    ]
    for token in alive:
        token["colour"] = sum(token["place"]) % 2
    while len(alive) > keep:
        if split == "parity":
            for i, token in enumerate(alive):
                token["colour"] = i % 2
        a = [t for t in alive if t["colour"] == 0]
        b = [t for t in alive if t["colour"] == 1]
        if not a or not b:
            a, b = alive[0::2], alive[1::2]

        def cosine(s, t):
            return float(s["x"] @ t["x"] / s["x"].norm() / t["x"].norm())

        edges = []
        for s in a:
            partner = max(b, key=lambda t: cosine(s, t))
            edges.append((cosine(s, partner), s, partner))
        edges.sort(key=lambda edge: -edge[0])
        r = min(len(a), len(alive) - keep)
        sums = {id(t): [t["x"] * t["size"], t["size"]] for t in alive}
        for _, s, t in edges[:r]:
            sums[id(t)][0] = sums[id(t)][0] + s["x"] * s["size"]
            sums[id(t)][1] += s["size"]
            t["members"] = t["members"] + s["members"]
        gone = {id(s) for _, s, _ in edges[:r]}
        alive = [t for t in alive if id(t) not in gone]
        for t in alive:
            t["x"], t["size"] = sums[id(t)][0] / sums[id(t)][1], sums[id(t)][1]
    return alive


@pytest.mark.parametrize("split", ["parity", "checkerboard"])
@pytest.mark.parametrize("keep", [40, 20, 7, 1])
def test_tome_is_the_papers_algorithm_token_by_token(split, keep):
    x = tokens(b=2, seed=3)
    kept = ToMe(split).compress(x, GRID, keep)
    for image in range(2):
        expected = tome_read_literally(x[image], keep, split, GRID)
        assert [t["size"] for t in expected] == kept.sizes[image].tolist()
        for number, token in enumerate(expected):
            members = (kept.assignment[image] == number).nonzero().flatten().tolist()
            assert members == sorted(token["members"])
            assert torch.allclose(kept.tokens[image, number].double(), token["x"], atol=1e-5)


def test_parity_never_merges_vertical_neighbours_in_one_step_and_checkerboard_does():
    # Every column is one vector: the tokens most like one are above and below it.
    x = tokens(b=1, grid=(1, 8)).repeat(1, 6, 1)
    for split, merges in (("parity", False), ("checkerboard", True)):
        colour = ToMe(split).colour(GRID)
        number = bipartite_step(x, colour, 24)[0]
        vertical = [
            int(number[first]) == int(number[second]) and (first - second) % 8 == 0
            for first in (colour == 0).nonzero().flatten().tolist()
            for second in (colour == 1).nonzero().flatten().tolist()
        ]
        assert any(vertical) == merges


def test_tome_compares_keys_where_it_is_asked_to():
    x = tokens(b=2, seed=3)
    keys = tokens(b=2, c=3, seed=4)
    by_keys = ToMe(similarity="keys").compress(x, GRID, 20, SideInputs(keys=keys))
    of_keys = ToMe().compress(keys, GRID, 20)
    assert torch.equal(by_keys.assignment, of_keys.assignment)
    assert torch.equal(ToMe().compress(x, GRID, 20, SideInputs(keys=keys)).tokens,
                       ToMe().compress(x, GRID, 20).tokens)  # fmt: skip
    with pytest.raises(UsageError, match="tome needs the keys"):
        ToMe(similarity="keys").compress(x, GRID, 20)


@settings(max_examples=20)
@given(st.integers(1, 48), st.integers(0, 10**6))
def test_sizes_sum_to_the_number_of_tokens_under_any_merging(keep, seed):
    x = tokens(b=2, seed=seed)
    for method in (ToMe(), KMeans()):
        assert method.compress(x, GRID, keep).sizes.sum(dim=1).tolist() == [48.0, 48.0]


def test_token_pca_loses_what_its_eigenvalues_say_and_no_other_mixing_loses_less():
    x = tokens(b=40, c=6) @ torch.randn(6, 6) + torch.randn(48, 1)
    method = TokenPCA().fit(x)
    mean = x.double().mean(dim=0)
    total = (x.double() - mean).square().sum()
    for k in (1, 5, 20):
        decoded = method.decode(method.compress(x, GRID, k), GRID)
        error = float((decoded.double() - x.double()).square().sum() / total)
        expected = 1 - float(method.values[:k].sum() / method.values.sum())
        assert error == pytest.approx(expected, abs=1e-5)


def test_block_pca_is_the_projection_of_whole_windows_and_beats_pooling():
    x = tokens(b=60)
    method = BlockPCA().fit(x, GRID, (3, 4))
    kept = method.compress(x, GRID, (3, 4))
    assert kept.tokens.shape == (60, 12, 5)
    decoded = method.decode(kept, GRID)
    blocks = x.reshape(60, 3, 2, 4, 2, 5).permute(0, 1, 3, 2, 4, 5).reshape(-1, 20).double()
    offset = blocks - blocks.mean(dim=0)
    singular = torch.linalg.svdvals(offset).square()
    expected = float(singular[5:].sum())
    assert float((decoded.double() - x.double()).square().sum()) == pytest.approx(
        expected, rel=1e-5
    )
    pooled = AveragePooling().decode(AveragePooling().compress(x, GRID, (3, 4)), GRID)
    assert normalised_error(x, decoded) < normalised_error(x, pooled)


@pytest.mark.parametrize(
    ("method", "budget", "words"),
    [
        (AveragePooling(), 0, "the budget does not fit the grid: got '0 of 48 tokens'"),
        (Random(), 49, "got '49 of 48 tokens'; expected 1 to 48"),
        (AveragePooling(), 11, "average keeps a grid, and cannot keep exactly so many tokens"),
        (Strided(), (7, 2), "cannot keep exactly so many"),
        (TokenPCA(), 4, "token_pca has not been fitted"),
        (BlockPCA(), (3, 4), "block_pca has not been fitted for this budget"),
    ],
)
def test_a_budget_is_exact_or_refused(method, budget, words):
    with pytest.raises(UsageError, match=words):
        method.compress(tokens(), GRID, budget)


def test_tokens_that_make_no_grid_and_windows_that_do_not_divide_are_refused():
    with pytest.raises(UsageError, match="the tokens do not make the grid"):
        AveragePooling().compress(tokens(), (5, 5), 4)
    with pytest.raises(UsageError, match="block_pca needs windows of one size"):
        BlockPCA().fit(tokens(), GRID, (4, 4))


def test_a_number_becomes_the_grid_nearest_in_shape():
    assert grid_of((12, 12), 36) == (6, 6)
    assert grid_of((6, 8), 12) == (3, 4)
    assert grid_of((6, 8), 11) is None


def test_compressed_tokens_decode_by_their_assignment():
    kept = CompressedTokens(
        torch.tensor([[[1.0], [2.0]]]), torch.zeros(1, 2, 2), torch.tensor([[2.0, 1.0]]),
        torch.tensor([[0, 1, 0]]),
    )  # fmt: skip
    assert AveragePooling().decode(kept, (1, 3))[0, :, 0].tolist() == [1, 2, 1]


HALF = (torch.float16, torch.bfloat16)


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("budget", [1, 9])
@pytest.mark.parametrize("method", METHODS, ids=named)
def test_sixteen_bits_cost_no_more_than_their_rounding(method, budget, dtype):
    """Against float64 on the same tokens, about 1,000 long in every channel."""
    x = (1000 + 50 * tokens(grid=(12, 12))).to(dtype)
    kept = method.compress(x, (12, 12), budget, side(x))
    assert kept.tokens.dtype == dtype
    if isinstance(method, Bilinear | DCT):
        exact = method.compress(x.double(), (12, 12), budget).tokens
    elif isinstance(method, PixelShuffle):
        assert torch.equal(method.decode(kept, (12, 12)), x)
        return
    elif isinstance(method, AveragePooling | KMeans | ToMe | ApET) or (
        isinstance(method, VisionZip) and budget > 1
    ):
        # The means by the method's own assignment: which token goes where may hang on a tie.
        one_hot = torch.nn.functional.one_hot(kept.assignment).double()
        exact = one_hot.mT @ x.double() / one_hot.sum(dim=1).unsqueeze(-1)
    else:
        exact = kept.tokens.double()
        assert all(bool((x == token).all(dim=-1).any()) for token in kept.tokens.flatten(0, 1))
    ulp = torch.finfo(dtype).eps * 1024
    assert float((kept.tokens.double() - exact).abs().max()) <= 0.51 * ulp


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_fitted_methods_on_sixteen_bits_are_the_same_in_fp32(dtype):
    x = (1000 + 50 * tokens()).to(dtype)
    for method in (TokenPCA().fit(x), BlockPCA().fit(x, GRID, (3, 4))):
        kept, exact = (method.compress(one, GRID, (3, 4)) for one in (x, x.double()))
        eps = torch.finfo(dtype).eps
        assert torch.allclose(kept.tokens.double(), exact.tokens, rtol=eps, atol=1e-2)
        wide = CompressedTokens(kept.tokens.double(), *list(vars(kept).values())[1:])
        back, expected = method.decode(kept, GRID), method.decode(wide, GRID)
        assert back.dtype == dtype and torch.allclose(back.double(), expected, rtol=eps)


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_likeness_of_sets_of_sixteen_bits(dtype):
    x = (1000 + 50 * tokens()).to(dtype)
    exact = max_sim(x.float(), x.float().mean(dim=(0, 1)))
    assert torch.allclose(max_sim(x, x.float().mean(dim=(0, 1))), exact, atol=1e-5)
    assert torch.allclose(
        TokenSet(x, x[:, :0], SideInputs()).mean_token.double(),
        x.double().mean(dim=(0, 1)), rtol=1e-6,
    )  # fmt: skip
