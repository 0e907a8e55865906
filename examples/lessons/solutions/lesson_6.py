"""Solutions of lesson 6: each function is the exercise cell of that name."""

import numpy as np
import torch


def exercise_1():
    def answer_loss(logits, labels):
        logits, labels = logits.flatten(0, 1), labels.flatten()
        return torch.nn.functional.cross_entropy(logits, labels, ignore_index=-100)

    return (answer_loss,)


def exercise_2():
    def most_common(questions, answers):
        given = {"": list(answers)}
        for question, answer in zip(questions, answers, strict=True):
            given.setdefault(question, []).append(answer)
        return {question: max(texts, key=texts.count) for question, texts in given.items()}

    return (most_common,)


def exercise_3():
    def share_between(right, blind):
        return (right - blind) / (1 - blind)

    return (share_between,)


def exercise_4():
    def noise_ceiling(by_seed):
        ranks = by_seed.argsort(axis=0).argsort(axis=0).T
        pairs = [(a, b) for b in range(len(ranks)) for a in range(b)]
        return np.mean([np.corrcoef(ranks[a], ranks[b])[0, 1] for a, b in pairs])

    return (noise_ceiling,)


def exercise_5():
    def encoders_needed(metrics, level):
        n, p = 1, 2 * metrics
        while p > level:
            n += 1
            p /= n
        return n

    return (encoders_needed,)
