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
from encoderlab.training.loop import Recipe, Trainer
from encoderlab.training.pairs import loader
from tests.small_models import make_clip
from tests.training.test_loop import _pairs

torch.set_num_threads(1)
processes, chunk, loss, out = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[5]
clip = make_clip(trained_steps=0)
recipe = Recipe(epochs=1, batch_size=8, loss=loss, chunk_size=int(chunk) or None)
fabric = make_fabric("cpu", processes, "auto", "fp32")
trainer = Trainer(clip, _pairs(clip), recipe, fabric, Path(out).parent)
batch = next(iter(loader(trainer.pairs, trainer.schedule)))
value = trainer.backward(batch)
if fabric.is_global_zero:
    gradients = {n: p.grad for n, p in clip.named_parameters() if p.grad is not None}
    torch.save({"loss": value, "gradients": gradients}, out)
fabric.barrier()
"""


def _gradients(tmp_path: Path, processes: int, chunk: int, loss: str) -> dict:
    program = tmp_path / "run.py"
    program.write_text(PROGRAM)
    out = tmp_path / f"{processes}-{chunk}-{loss}.pt"
    words = [str(program), str(processes), str(chunk), loss, str(ROOT), str(out)]
    if processes > 1:
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    else:
        launcher = []
    done = subprocess.run(
        [sys.executable, *launcher, *words], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, json.dumps(done.stderr[-3000:])
    return torch.load(out, weights_only=True)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
@pytest.mark.parametrize("chunk", [0, 2])
def test_two_processes_have_the_gradient_of_one(tmp_path: Path, chunk: int, loss: str) -> None:
    one = _gradients(tmp_path, 1, 0, loss)
    two = _gradients(tmp_path, 2, chunk, loss)
    torch.testing.assert_close(one["loss"], two["loss"], atol=1e-6, rtol=1e-6)
    assert one["gradients"].keys() == two["gradients"].keys()
    assert "logit_scale" in one["gradients"]
    for name, gradient in one["gradients"].items():
        # fp32 sums in another order: exact to its digits, relative to the parameter's largest
        off = (two["gradients"][name] - gradient).abs().max() / gradient.abs().max().clamp(1e-3)
        assert off < 3e-6, name
