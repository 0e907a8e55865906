"""Two processes that each hold half of a batch have the gradient of one that holds it all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]

PROGRAM = """
import sys, torch
sys.path.insert(0, sys.argv[4])
from pathlib import Path
from encoderlab.training.devices import make_fabric
from encoderlab.contrastive.loop import ContrastiveTrainer, Recipe
from encoderlab.contrastive.dataset import loader
from tests.small_models import make_clip
from tests.contrastive.test_loop import _pairs

torch.set_num_threads(1)
processes, cases, out = int(sys.argv[1]), sys.argv[2].split(), sys.argv[3]
fabric = make_fabric("cpu", processes, "auto", "fp32")
found = {}
for case in cases:
    chunk, loss = case.split("-")
    clip = make_clip(trained_steps=0)
    recipe = Recipe.of(epochs=1, batch_size=8, loss=loss, chunk_size=int(chunk) or None)
    trainer = ContrastiveTrainer(clip, _pairs(clip), recipe, fabric, Path(out).parent, workers=0)
    batch = next(iter(loader(trainer.pairs, trainer.schedule, 0, 0)))
    value = trainer.backward(batch)
    gradients = {n: p.grad for n, p in clip.named_parameters() if p.grad is not None}
    found[case] = {"loss": value, "gradients": gradients}
if fabric.is_global_zero:
    torch.save(found, out)
fabric.barrier()
"""
CASES = [f"{chunk}-{loss}" for chunk in (0, 2) for loss in ("softmax", "sigmoid")]


def _gradients(folder: Path, processes: int, cases: list[str]) -> dict:
    """The loss and gradients of every case, all in one launch: starting takes longest."""
    program = folder / "run.py"
    program.write_text(PROGRAM)
    out = folder / f"{processes}.pt"
    words = [str(program), str(processes), " ".join(cases), str(out), str(ROOT)]
    if processes > 1:
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    else:
        launcher = []
    done = subprocess.run(
        [sys.executable, *launcher, *words], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, json.dumps(done.stderr[-3000:])
    return torch.load(out, weights_only=True)


@pytest.fixture(scope="module")
def gradients(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, dict]:
    """Of one process, and of two."""
    folder = tmp_path_factory.mktemp("gradients")
    return _gradients(folder, 1, ["0-softmax", "0-sigmoid"]), _gradients(folder, 2, CASES)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_processes_have_the_gradient_of_one(gradients: tuple[dict, dict], case: str) -> None:
    one = gradients[0]["0-" + case.split("-")[1]]
    two = gradients[1][case]
    torch.testing.assert_close(one["loss"], two["loss"], atol=1e-6, rtol=1e-6)
    assert one["gradients"].keys() == two["gradients"].keys()
    assert "logit_scale" in one["gradients"]
    for name, gradient in one["gradients"].items():
        # fp32 sums in another order: exact to its digits, relative to the parameter's largest
        off = (two["gradients"][name] - gradient).abs().max() / gradient.abs().max().clamp(1e-3)
        assert off < 3e-6, name
