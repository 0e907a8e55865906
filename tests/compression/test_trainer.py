"""Training a compressor: what it reaches, that it resumes to the same numbers, what it refuses."""

from __future__ import annotations

import json
import math

import pytest
import torch

from encoderlab.compression import trainer as module
from encoderlab.compression.compressor import Compressor
from encoderlab.compression.token_source import first_tokens
from encoderlab.compression.trainer import CompressorTrainer, Recipe
from encoderlab.data.digests import digest_of
from encoderlab.errors import MissingError, UsageError, WorkError
from encoderlab.models import checkpoint
from encoderlab.models.token_compressor import AutoencoderShape
from encoderlab.patch_tokens.linear import BlockPCA
from encoderlab.patch_tokens.reducer import normalised_error
from encoderlab.training.devices import make_fabric

GRID, BUDGET = (6, 6), (3, 3)
SHAPE = AutoencoderShape(6, GRID, (BUDGET,), 16)


class TokensInMemory:
    def __init__(self, tokens):
        self.tokens = tokens

    def __len__(self):
        return len(self.tokens)

    def batch(self, indices):
        return self.tokens[list(indices)]

    def fingerprint(self):
        return digest_of(row.contiguous().numpy().tobytes() for row in self.tokens)


@pytest.fixture(scope="module")
def fabric():
    return make_fabric("cpu", precision="fp32")


@pytest.fixture(scope="module")
def tokens():
    """Windows bent out of few numbers: what no linear map can keep."""
    torch.manual_seed(0)
    codes = torch.randn(240, 9, 5)
    blocks = torch.tanh(codes @ torch.randn(5, 40) * 1.5) @ torch.randn(40, 4 * 6) / 4
    image = blocks.reshape(240, 3, 3, 2, 2, 6).permute(0, 1, 3, 2, 4, 5)
    return image.reshape(240, 36, 6) + 1.0


@pytest.fixture(scope="module")
def sets(tokens):
    return TokensInMemory(tokens[:200]), TokensInMemory(tokens[200:])


def trainer(fabric, sets, folder, shape=SHAPE, save_every=None, **recipe):
    recipe = {"epochs": 2, "batch_size": 20, "n_critic": 2, "distribution": "wgan", **recipe}
    return CompressorTrainer(
        shape, *sets, Recipe.of(**recipe), fabric, folder, save_every=save_every
    )


def trained(*arguments, **options):
    run = trainer(*arguments, **options)
    return run, run.run()


@pytest.mark.slow
def test_it_begins_at_block_pca_and_goes_below(fabric, sets, tokens, tmp_path):
    bound = BlockPCA().fit(tokens[:200], GRID, BUDGET)
    held_out = tokens[200:]
    mean = tokens[:200].mean(dim=(0, 1))
    best_linear = normalised_error(
        held_out, bound.decode(bound.compress(held_out, GRID, BUDGET), GRID), mean
    )
    recipe = Recipe.of(
        epochs=25, batch_size=20, wgan_weight=0, lr=5e-3, standardise="all", grad_clip=0
    )
    run = CompressorTrainer(SHAPE, *sets, recipe, fabric, tmp_path)
    assert run.validate()["nmse"] == pytest.approx(best_linear, rel=0.02)
    done = run.run()
    assert done.history[done.best_epoch]["val/nmse"] < 0.95 * best_linear


@pytest.mark.parametrize(
    "recipe",
    [
        {},
        {"distribution": "sliced_wasserstein"},
        {"distribution": "sinkhorn"},
        {"distribution": "mmd"},
        {"distribution": "none"},
        {"ae_weight": 0.0},
        {"balance": False, "standardise": "all", "start": "average"},
    ],
)
def test_every_distribution_trains_and_logs_both_gradients(fabric, sets, tmp_path, recipe):
    run, done = trained(fabric, sets, tmp_path, epochs=1, **recipe)
    row = done.history[-1]
    assert all(math.isfinite(value) for value in row.values())
    assert row["gradient/reconstruction"] > 0 or recipe.get("ae_weight") == 0
    if run.recipe.matches:
        assert row["gradient/distribution"] > 0
    if run.recipe.adversarial:
        assert {"critic/penalty", "critic/corrected", "critic/slope_p50"} <= set(row)
        assert row["critic/corrected"] >= 0
    names = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert names == {
        "checkpoint_epoch_0.pt", "checkpoint_epoch_1.pt", "best_model.pt", "latest.pt",
    }  # fmt: skip


def test_the_balanced_gradients_weigh_what_the_weights_say(fabric, sets, tmp_path):
    run = CompressorTrainer(SHAPE, *sets, Recipe.of(batch_size=20), fabric, tmp_path)
    gradient, push = torch.randn(4, 9, 6), 1e-4 * torch.randn(4, 9, 6)
    scaled = push * run._weight(gradient.norm(), push.norm())
    assert float(scaled.norm() / gradient.norm()) == pytest.approx(0.1, rel=1e-4)


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_to_the_same_numbers(fabric, sets, tmp_path, monkeypatch):
    whole, done = trained(fabric, sets, tmp_path / "whole")
    killed = trainer(fabric, sets, tmp_path / "b", save_every=7)
    step = CompressorTrainer.train_step

    def dies(self, *arguments):
        if self.step == 13:
            raise KeyboardInterrupt
        return step(self, *arguments)

    monkeypatch.setattr(CompressorTrainer, "train_step", dies)
    with pytest.raises(KeyboardInterrupt):
        killed.run()
    monkeypatch.undo()
    again = trainer(fabric, sets, tmp_path / "b")
    again.resume(tmp_path / "b" / "checkpoints" / "latest.pt")
    assert again.step == 10  # the end of the first epoch is the newest state
    resumed = again.run()
    assert resumed.history == done.history
    for ours, theirs in zip(
        whole.model.state_dict().values(), again.model.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs)


def test_a_checkpoint_of_version_0_1_goes_on_to_the_same_numbers(fabric, sets, tmp_path):
    _, done = trained(fabric, sets, tmp_path / "a", wgan_weight=0)
    start = tmp_path / "a" / "checkpoints" / "checkpoint_epoch_1.pt"
    record = checkpoint.read(start, module.FORMAT)
    for key in ("format", "best", "total_steps"):
        record.pop(key)
    checkpoint.write(start, record, module.FORMAT)
    again = trainer(fabric, sets, tmp_path / "b", wgan_weight=0)
    again.resume(start)
    resumed = again.run()
    assert (resumed.history, resumed.best_epoch) == (done.history, done.best_epoch)


@pytest.mark.parametrize("after", [0, 1, 2, 3, 4, 5])
def test_a_run_killed_between_two_files_loses_none(fabric, sets, tmp_path, monkeypatch, after):
    recipe = Recipe.of(epochs=1, batch_size=20, wgan_weight=0)
    write, written = checkpoint.write, []

    def dies(path, *arguments):
        if len(written) == after:
            raise KeyboardInterrupt
        written.append(path.name)
        write(path, *arguments)

    monkeypatch.setattr(checkpoint, "write", dies)
    with pytest.raises(KeyboardInterrupt):
        CompressorTrainer(SHAPE, *sets, recipe, fabric, tmp_path).run()
        raise KeyboardInterrupt  # more files than it writes
    monkeypatch.undo()
    again = CompressorTrainer(SHAPE, *sets, recipe, fabric, tmp_path)
    if "latest.pt" in written:
        again.resume(tmp_path / "checkpoints" / "latest.pt")
    done = again.run()
    best = checkpoint.read(tmp_path / "checkpoints" / "best_model.pt", "encoderlab-compressor-1")
    assert best["history"][-1]["epoch"] == done.best_epoch


def test_the_checks_before_training_leave_no_trace(fabric, sets, tmp_path, monkeypatch):
    checked, _ = trained(fabric, sets, tmp_path / "a", epochs=1)
    assert {"critic/slope_p10", "critic/slope_p90", "critic/corrected"} <= set(checked.checks)
    monkeypatch.setattr(CompressorTrainer, "_check", lambda self: {})
    plain, _ = trained(fabric, sets, tmp_path / "b", epochs=1)
    assert all(
        torch.equal(a, b)
        for a, b in zip(
            checked.critics.state_dict().values(), plain.critics.state_dict().values(), strict=True
        )
    )


def test_a_critic_that_normalises_over_the_batch_is_refused(fabric, sets, tmp_path, monkeypatch):
    class Blind(module.TokenCritic):
        def forward(self, tokens):
            return super().forward((tokens - tokens.mean(dim=0)) / (tokens.std(dim=0) + 1))

    monkeypatch.setattr(module, "TokenCritic", Blind)
    with pytest.raises(WorkError, match=r"depends on the others.*without batch normalisation"):
        trained(fabric, sets, tmp_path)


def test_a_divergence_stops_with_the_last_good_checkpoint(fabric, sets, tmp_path):
    run = CompressorTrainer(SHAPE, *sets, Recipe.of(epochs=2, batch_size=20), fabric, tmp_path)
    run._save("latest.pt")
    with torch.no_grad():
        run.model.decoder.out.weight.fill_(torch.nan)
    with pytest.raises(
        WorkError, match=r"reconstruction loss is nan at step 1.*The last good checkpoint is .*"
    ):
        run.run()


def test_the_best_epoch_is_of_the_lowest_error_then_of_the_nearest_tokens(
    fabric, sets, tmp_path, monkeypatch
):
    found = iter([(0.40, 0.9), (0.30, 0.9), (0.20, 0.8), (0.2000001, 0.5), (0.25, 0.1)])

    def validate(self):
        nmse, apart = next(found)
        return {
            "nmse": nmse, "cosine": 1.0, "sliced_wasserstein": apart,
            "sliced_wasserstein_floor": 0.1,
        }  # fmt: skip

    monkeypatch.setattr(CompressorTrainer, "validate", validate)
    _, done = trained(fabric, sets, tmp_path, epochs=4, wgan_weight=0)
    assert done.best_epoch == 3


def test_one_network_of_several_budgets_trains_them_all(fabric, sets, tmp_path):
    shape = AutoencoderShape(6, GRID, ((3, 3), (2, 2), (4, 4)), 8)
    _, done = trained(fabric, sets, tmp_path, shape=shape, epochs=3, start="average", wgan_weight=0)
    first, last = done.history[0], done.history[-1]
    for budget in ("3x3", "2x2", "4x4"):
        assert last[f"val/nmse/{budget}"] < first[f"val/nmse/{budget}"]
    one = Compressor.from_checkpoint(tmp_path / "checkpoints" / "best_model.pt")
    assert one.budgets == ((3, 3), (2, 2), (4, 4))


def test_other_settings_cannot_be_resumed(fabric, sets, tmp_path):
    trained(fabric, sets, tmp_path, epochs=1)
    other = trainer(fabric, sets, tmp_path, epochs=1, lr=0.1)
    with pytest.raises(UsageError, match=r"other settings.*got 'lr=0.1'; expected lr=0.001"):
        other.resume(tmp_path / "checkpoints" / "latest.pt")


@pytest.mark.parametrize("side", ["training", "validation"])
def test_other_tokens_of_the_same_number_cannot_be_resumed(fabric, sets, tmp_path, side):
    trained(fabric, sets, tmp_path, epochs=1)
    other = [TokensInMemory(one.tokens) for one in sets]
    number = ("training", "validation").index(side)
    other[number] = TokensInMemory(other[number].tokens.flip(0))
    again = trainer(fabric, other, tmp_path, epochs=1)
    with pytest.raises(UsageError) as error:
        again.resume(tmp_path / "checkpoints" / "latest.pt")
    assert error.value.got == f"other {side} images"


def test_a_finished_run_goes_on_for_more_epochs_in_another_folder(fabric, sets, tmp_path):
    run, done = trained(fabric, sets, tmp_path / "a", epochs=1, wgan_weight=0)
    assert run.finished

    def resumed(epochs):
        again = trainer(fabric, sets, tmp_path / f"b{epochs}", epochs=epochs, wgan_weight=0)
        again.resume(tmp_path / "a" / "checkpoints" / "latest.pt")
        return again, again.run()

    same, same_run = resumed(1)
    assert (same.finished, same_run.history) == (True, done.history)
    best = Compressor.from_pretrained(tmp_path / "b1")  # whose export was never written
    kept = Compressor.from_pretrained(tmp_path / "a")
    assert best.about == kept.about
    longer, longer_run = resumed(2)
    assert longer_run.step == 20 and longer_run.history[:2] == done.history
    assert "followed the learning rate of a run of 1 epochs" in longer.warnings[0]


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ({"ae_weight": 0.0, "wgan_weight": 0.0}, "all loss weights are 0"),
        ({"lr": 0.0}, "lr must be positive"),
        ({"batch_size": 500}, "the batch is larger than the data"),
    ],
)
def test_what_cannot_train_is_refused(fabric, sets, tmp_path, recipe, said):
    with pytest.raises(UsageError, match=said):
        trained(fabric, sets, tmp_path, **recipe)


# -- the compressor on disk ----------------------------------------------------------------------


def test_a_compressor_comes_back_from_its_folder(fabric, sets, tokens, tmp_path):
    run, _ = trained(fabric, sets, tmp_path, epochs=1)
    one = Compressor.from_checkpoint(tmp_path / "checkpoints" / "latest.pt")
    kept = one.compress(tokens[:3], GRID, 9)
    assert torch.allclose(kept.tokens, run.model.compress(tokens[:3], BUDGET), atol=1e-5)
    assert kept.sizes.sum() == 3 * 36
    again = Compressor.from_pretrained(one.save_pretrained(tmp_path / "out"))
    assert torch.equal(again.compress(tokens[:3], GRID, BUDGET).tokens, kept.tokens)
    assert torch.equal(again.decode(kept, GRID), one.decode(kept, GRID))
    assert again.about["steps"] == 10
    half = Compressor.from_pretrained(one.save_pretrained(tmp_path / "half", half=True))
    near = half.compress(tokens[:3], GRID, 9).tokens
    assert torch.allclose(near, kept.tokens, atol=0.02)


def test_what_is_no_compressor_is_said(tmp_path, tokens):
    with pytest.raises(MissingError, match="no such compressor: got"):
        Compressor.from_pretrained(tmp_path / "nowhere")
    (tmp_path / "config.json").write_text('{"format": "other"}')
    with pytest.raises(UsageError, match=r"cannot be read.*its format is 'other'"):
        Compressor.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UsageError, match="the compressor cannot be read"):
        Compressor.from_pretrained(tmp_path)
    one = Compressor(module.TokenAutoencoder(SHAPE))
    with pytest.raises(
        UsageError, match=r"another grid or budget: got '2 x 2 of 6 x 6'; expected 3 x"
    ):
        one.compress(tokens[:1], GRID, 4)
    with pytest.raises(UsageError, match="tokens of another width: got 5; expected 6 channels"):
        one.compress(tokens[:1, :, :5], GRID, 9)


def test_a_checkpoint_of_another_program_is_refused(tmp_path):
    checkpoint.write(tmp_path / "x.pt", {"weights": {}}, "something-else")
    with pytest.raises(UsageError, match="expected encoderlab-compressor-1"):
        Compressor.from_checkpoint(tmp_path / "x.pt")


def test_statistics_are_of_images_drawn_from_all():
    source = TokensInMemory(torch.arange(100.0).view(100, 1, 1))
    drawn = first_tokens(source, 20, seed=0).flatten()
    assert len(drawn) == 20
    assert drawn.max() > 60
    assert torch.equal(drawn, first_tokens(source, 20, seed=0).flatten())


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ({"channels": 10**8}, "do not go with"),
        ({"width": 10**8}, "do not go with"),
        ({"grid": [10**6, 10**6]}, "do not go with"),
        ({"channels": -1}, "its shape is"),
        ({"budgets": []}, "its shape is"),
        ({"budgets": [[0, 1]]}, "its shape is"),
    ],
)
def test_a_shape_that_its_weights_cannot_have_is_refused_before_it_takes_memory(
    tmp_path, shape, says
):
    folder = Compressor(module.TokenAutoencoder(SHAPE)).save_pretrained(tmp_path)
    described = json.loads((folder / "config.json").read_text())
    described["shape"] |= shape
    (folder / "config.json").write_text(json.dumps(described))
    with pytest.raises(UsageError, match=f"the compressor cannot be read.*{says}"):
        Compressor.from_pretrained(folder)


def test_a_state_of_training_with_something_gone_is_refused(tmp_path):
    model = module.TokenAutoencoder(SHAPE)
    weights = dict(model.state_dict())
    identity = {"channels": 6, "grid": GRID, "budgets": [[3, 3]], "width": SHAPE.width,
                "decoder": SHAPE.decoder}  # fmt: skip
    record = {"identity": identity, "weights": weights, "history": [], "step": 1}
    weights.pop(next(iter(weights)))
    checkpoint.write(tmp_path / "x.pt", record, "encoderlab-compressor-1")
    with pytest.raises(UsageError, match=r"does not fit together.*x\.pt"):
        Compressor.from_checkpoint(tmp_path / "x.pt")
    del record["identity"]
    checkpoint.write(tmp_path / "x.pt", record, "encoderlab-compressor-1")
    with pytest.raises(UsageError, match="it has no 'identity'"):
        Compressor.from_checkpoint(tmp_path / "x.pt")
