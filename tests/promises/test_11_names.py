"""The smallest VLM, and figures in the style of a paper."""

import pytest
import torch

import encoderlab
from encoderlab.data.synthetic import generate
from encoderlab.errors import UsageError


@pytest.fixture(scope="module")
def vlm():
    torch.manual_seed(0)
    return encoderlab.SimpleVLM("tiny-clip", "tiny-llama", device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def pairs():
    drawn = [generate(i, split="test") for i in range(4)]
    return [one.image for one in drawn], [one.captions[0] for one in drawn]


def test_vlm_puts_patches_before_the_text(vlm, pairs):
    images, texts = pairs
    ids, mask = vlm.text.padded([f"{text}</s>" for text in texts])
    with torch.no_grad():
        out = vlm(images, texts)
        assert vlm.encode_image(images[0]).shape == (1, 144, vlm.text.width)
        assert out.logits.shape == (4, 144 + ids.shape[1], vlm.llm.config.vocab_size)
        # The loss by hand: each token of text from the place before it, no patch and no padding.
        logits = out.logits[:, 143:-1].log_softmax(dim=-1)
        each = -logits.gather(2, ids.unsqueeze(2))[..., 0]
    assert out.loss.item() == pytest.approx((each * mask).sum().item() / mask.sum().item(), 1e-4)


def test_vlm_reads_padded_texts_as_alone(vlm, pairs):
    images, texts = pairs
    with torch.no_grad():
        alone = vlm(images[0], "a").logits
        together = vlm(images[:2], ["a", texts[1]]).logits
    assert torch.allclose(together[0, : alone.shape[1]], alone[0], atol=1e-3)


def test_vlm_needs_one_text_per_image(vlm, pairs):
    images, texts = pairs
    with pytest.raises(UsageError, match="4 images, 3 texts"):
        vlm(images, texts[:3])


def test_vlm_trains_its_projector_alone(pairs):
    images, texts = pairs
    torch.manual_seed(0)
    vlm = encoderlab.SimpleVLM("tiny-clip", "tiny-llama", "linear", device="cpu", dtype="float32")
    trained = [name for name, one in vlm.named_parameters() if one.requires_grad]
    assert trained == ["projector.weight", "projector.bias"]
    before = {name: one.clone() for name, one in vlm.state_dict().items()}
    optimiser = torch.optim.Adam(vlm.projector.parameters(), lr=3e-3)
    losses = []
    for _ in range(12):
        optimiser.zero_grad()
        loss = vlm(images, texts).loss
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    changed = {name for name, one in vlm.state_dict().items() if not torch.equal(one, before[name])}
    assert changed == set(trained)


def test_vlm_writes_greedily(vlm, pairs):
    images, _ = pairs
    said = vlm.generate(images[0], "a large", max_new_tokens=4)
    assert said == vlm.generate(images[0], "a large", max_new_tokens=4)
    # By hand: the likeliest next token, four times.
    ids, _ = vlm.text.padded(["a large"])
    with torch.no_grad():
        seen = vlm.encode_image(images[0])
        for _ in range(4):
            words = vlm.llm.get_input_embeddings()(ids)
            logits = vlm.llm(inputs_embeds=torch.cat([seen, words], dim=1)).logits[:, -1]
            ids = torch.cat([ids, logits.argmax(dim=-1, keepdim=True)], dim=1)
    assert said == vlm.text.tokenizer.decode(ids[0, -4:], skip_special_tokens=True)


def test_vlm_with_one_token_per_image(pairs):
    images, texts = pairs
    vlm = encoderlab.SimpleVLM(
        "tiny-clip", "tiny-llama", "cross_attention", device="cpu", dtype="float32"
    )
    assert vlm.encode_image(images).shape == (4, 1, vlm.text.width)
    assert torch.isfinite(vlm(images, texts).loss)


@pytest.mark.slow
def test_figures_in_paper_style_as_typed(lab, tmp_path):
    words = ("speed", "--encoders", "tiny-clip", "--batch-sizes", "1", "--output-dir", "run")
    assert lab(*words).code == 0
    assert lab("figures", "run", "--style", "paper").code == 0
    names = {file.stem for file in (tmp_path / "run").glob("*.png")}
    drawn = {file.stem for file in (tmp_path / "run" / "figures").glob("*.pdf")}
    assert names and drawn == names
