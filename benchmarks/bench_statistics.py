"""CKA, mutual k-nearest neighbours and token merging, against how they are usually written.

The n x n CKA of notebooks (numpy, centring by matrix products), the mini-batch CKA of training
scripts (one unbiased value per batch of 256, averaged), neighbours by sorting all similarities, and
ToMe's matching as its paper gives it (Bolya et al. 2023, appendix D). Same inputs, in turns.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from table import Row, report

from encoderlab.metrics.cka import cka
from encoderlab.metrics.neighbours import mutual_knn
from encoderlab.patch_tokens.merging import ToMe


def usual_cka(x: np.ndarray, y: np.ndarray) -> float:
    """tr(KHLH) with H written out."""
    n = len(x)
    centring = np.eye(n) - np.ones((n, n)) / n
    a, b = (centring @ (z @ z.T) @ centring for z in (x, y))
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


def minibatch_cka(x: np.ndarray, y: np.ndarray, size: int = 256) -> float:
    """Unbiased HSIC of each batch, averaged before the ratio (Nguyen et al. 2021)."""

    def hsic(a: torch.Tensor, b: torch.Tensor) -> float:
        n = len(a)
        a, b = a.clone().fill_diagonal_(0), b.clone().fill_diagonal_(0)
        whole = (a * b).sum() + a.sum() * b.sum() / (n - 1) / (n - 2)
        return float((whole - 2 / (n - 2) * (a.sum(0) * b.sum(0)).sum()) / (n * (n - 3)))

    sums = np.zeros(3)
    for start in range(0, len(x) - size + 1, size):
        a, b = (torch.from_numpy(z[start : start + size]) for z in (x, y))
        a, b = a @ a.T, b @ b.T
        sums += hsic(a, b), hsic(a, a), hsic(b, b)
    return float(sums[0] / np.sqrt(sums[1] * sums[2]))


def usual_knn(x: np.ndarray, y: np.ndarray, k: int = 10) -> float:
    """All similarities sorted, and sets compared row by row."""
    lists = []
    for z in (x, y):
        unit = z / np.linalg.norm(z, axis=1, keepdims=True)
        similarity = unit @ unit.T
        np.fill_diagonal(similarity, -np.inf)
        lists.append(np.argsort(-similarity, axis=1)[:, :k])
    return float(np.mean([len(set(a) & set(b)) / k for a, b in zip(*lists, strict=True)]))


def usual_tome(tokens: torch.Tensor, kept: int) -> torch.Tensor:
    """ToMe: alternate tokens matched, the most alike merged, half of them a step at most."""
    size = torch.ones(*tokens.shape[:2], 1)
    while tokens.shape[1] > kept:
        n = tokens.shape[1]
        r = min(n - kept, n // 2)
        unit = tokens / tokens.norm(dim=-1, keepdim=True)
        scores = unit[:, ::2] @ unit[:, 1::2].transpose(1, 2)
        best, where = scores.max(dim=-1)
        order = best.argsort(dim=-1, descending=True)[..., None]
        gone, stay = order[:, :r], order[:, r:]
        target = where[..., None].gather(1, gone)

        summed = _joined(tokens * size, gone, stay, target)
        size = _joined(size, gone, stay, target)
        tokens = summed / size
    return tokens


def _joined(x: torch.Tensor, gone, stay, target) -> torch.Tensor:
    even, odd, width = x[:, ::2], x[:, 1::2], x.shape[-1]
    moved = even.gather(1, gone.expand(-1, -1, width))
    odd = odd.scatter_add(1, target.expand(-1, -1, width), moved)
    return torch.cat([even.gather(1, stay.expand(-1, -1, width)), odd], dim=1)


def compare(
    task: str,
    against: str,
    ours: Callable,
    theirs: Callable,
    rounds: int,
    note: Callable,
    least: float | None = 1,
) -> None:
    """Runs both in turns and reports."""
    spent: dict[str, list[float]] = {"ours": [], "theirs": []}
    found = {}
    for turn in range(rounds + 1):
        for name, work in (("ours", ours), ("theirs", theirs)):
            started = time.perf_counter()
            found[name] = work()
            if turn:
                spent[name].append(time.perf_counter() - started)
    ratios = tuple(t / o for o, t in zip(spent["ours"], spent["theirs"], strict=True))
    mine, other = (f"{np.median(spent[name]):.3g} s" for name in ("ours", "theirs"))
    said = note(found["ours"], found["theirs"])
    met = None if least is None else bool(np.median(ratios) >= least)
    report(Row(task, mine, other, against, ratios, "" if least is None else "1", met, said))


def main() -> None:
    """Prints the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=4000, help="samples")
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    x = rng.standard_normal((given.n, given.width)).astype(np.float32)
    y = x @ rng.standard_normal((given.width, 512)) / 30 + rng.standard_normal((given.n, 512))
    y = y.astype(np.float32)
    size = f"n = {given.n:,}, d = {given.width} and 512"
    x64, y64 = x.astype(np.float64), y.astype(np.float64)
    compare(
        f"biased linear CKA, {size}", "n x n in numpy",
        lambda: float(cka(x, y, estimator="biased")), lambda: usual_cka(x64, y64), given.rounds,
        lambda a, b: f"difference {abs(a - b):.0e}",
    )  # fmt: skip
    exact = float(cka(x, y))
    compare(
        f"debiased linear CKA with interval, {size}", "mini-batches of 256 in torch",
        lambda: float(cka(x, y)), lambda: minibatch_cka(x64, y64), given.rounds,
        lambda a, b: f"ours is exact ({exact:.4f}) and has an interval; theirs, without, is off by "
        f"{abs(b - exact):.0e}",
        None,
    )  # fmt: skip
    compare(
        f"mutual 10-NN with interval, {size}", "all similarities sorted, in numpy",
        lambda: float(mutual_knn(x, y)), lambda: usual_knn(x, y), given.rounds,
        lambda a, b: f"difference {abs(a - b):.0e}",
    )  # fmt: skip
    tokens = torch.randn(64, 576, 256, generator=torch.Generator().manual_seed(0))
    tome = ToMe()
    compare(
        "merge 64 x 576 tokens of width 256 to 144 (ToMe)", "ToMe as its paper gives it",
        lambda: tome.compress(tokens, (24, 24), 144).tokens, lambda: usual_tome(tokens, 144),
        given.rounds, lambda a, b: f"{a.shape[1]} tokens each, and ours say where each token went",
    )  # fmt: skip


if __name__ == "__main__":
    main()
