"""Solutions of lesson 4: each function is the exercise cell of that name."""

import torch
import torch.nn.functional as F


def exercise_1():
    def count_tokens(height, width, patch):
        return (height // patch) * (width // patch) + 1

    return (count_tokens,)


def exercise_2():
    def to_grid(tokens, height, width):
        return tokens[1:].reshape(height, width, -1)

    return (to_grid,)


def exercise_3():
    def neighbour_cosines(grid):
        grid = F.normalize(grid, dim=-1)
        right = (grid[:, :-1] * grid[:, 1:]).sum(dim=-1)
        down = (grid[:-1] * grid[1:]).sum(dim=-1)
        return right, down

    return (neighbour_cosines,)


def exercise_4():
    def within(tokens):
        tokens = F.normalize(tokens, dim=-1)
        n = len(tokens)
        # The n pairs of a token with itself have the cosine 1.
        return ((tokens @ tokens.T).sum() - n) / (n * (n - 1))

    def between(tokens, others):
        return (F.normalize(tokens, dim=-1) @ F.normalize(others, dim=-1).T).mean()

    return within, between


def exercise_5():
    def outliers(lengths):
        median = lengths.median()
        s = 1.4826 * (lengths - median).abs().median()
        return (lengths > median + 5 * s) & (lengths > 1.5 * median)

    def mean_without(right, down, drop):
        keep = ~drop
        right = right[keep[:, :-1] & keep[:, 1:]]
        down = down[keep[:-1] & keep[1:]]
        return torch.cat([right, down]).mean()

    return outliers, mean_without


def exercise_6():
    def effective_rank(tokens):
        values = torch.linalg.svdvals(tokens - tokens.mean(dim=0))
        shares = values**2 / (values**2).sum()
        return torch.exp(-torch.xlogy(shares, shares).sum())

    return (effective_rank,)
