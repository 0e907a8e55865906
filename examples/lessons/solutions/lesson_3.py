"""Solutions of lesson 3: each function is the exercise cell of that name."""

import itertools

import numpy as np


def exercise_1():
    def linear_cka(x, y):
        x, y = x - x.mean(axis=0), y - y.mean(axis=0)
        norm = np.linalg.norm
        return norm(x.T @ y) ** 2 / (norm(x.T @ x) * norm(y.T @ y))

    return (linear_cka,)


def exercise_2(published_cka):
    def noise_cka(n, d, seed):
        rng = np.random.default_rng(seed)
        return published_cka(rng.normal(size=(n, d)), rng.normal(size=(n, d)))

    return (noise_cka,)


def exercise_3():
    def shuffle_p(score, x, y, rounds, seed):
        rng = np.random.default_rng(seed)
        observed = score(x, y)
        reached = 0
        for _ in range(rounds):
            reached += score(x, rng.permutation(y)) >= observed
        return (1 + reached) / (1 + rounds)

    return (shuffle_p,)


def exercise_4():
    def ignores_pairing(metric, x, y):
        shuffled = np.random.default_rng(1).permutation(y)
        return np.isclose(metric(x, y), metric(x, shuffled))

    return (ignores_pairing,)


def exercise_5():
    def seen_and_unseen(x, y, fit):
        cut = 4 * len(x) // 5
        predict = fit(x[:cut], y[:cut])
        mean = y[:cut].mean(axis=0)

        def r2(x, y):
            return 1 - ((y - predict(x)) ** 2).sum() / ((y - mean) ** 2).sum()

        return r2(x[:cut], y[:cut]), r2(x[cut:], y[cut:])

    return (seen_and_unseen,)


def exercise_6():
    def exact_p(a, b):
        def r(order):
            return abs(np.corrcoef(a, order)[0, 1])

        return np.mean([r(order) >= r(b) - 1e-9 for order in itertools.permutations(b)])

    return (exact_p,)


def exercise_7():
    leader_is_ahead_of: list[str] = []
    fooled_column = "CKA, as published"
    not_ahead_of_untrained = ["tiny-clip", "tiny-siglip"]
    return leader_is_ahead_of, fooled_column, not_ahead_of_untrained
