"""Small models and data that tests build themselves, for the fixtures and for other processes."""

import torch

from encoderlab.models.clip import CLIP, CLIPConfig, Preprocess, TextConfig, Tokenizer, ViTConfig


def make_clip(seed: int = 0, trained_steps: int = 5, dim: int = 16) -> CLIP:
    """A CLIP of two thin layers at 32 pixels, with a vocabulary of its own."""
    captions = ["a large red circle above a small blue star", "막대그래프와 파란 별", "a table"]
    tokenizer = Tokenizer.train_bpe(captions, vocab_size=300, context_length=24)
    text = TextConfig(tokenizer.vocab_size, 24, 16, 1, 2, 32, end_token_id=tokenizer.end_id)
    torch.manual_seed(seed)
    config = CLIPConfig(ViTConfig(32, 8, 24, 1, 3, 48), text, dim)
    clip = CLIP(config, tokenizer, Preprocess(32, "squash"), trained_steps=trained_steps)
    if trained_steps:
        # Fresh weights put all inputs nearly in one place, where rounding would decide the order.
        for parameter in clip.parameters():
            if parameter.ndim >= 2:
                torch.nn.init.normal_(parameter, std=0.3)
    return clip.eval()
