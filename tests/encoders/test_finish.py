"""Hidden states put back at their layer give what the whole tower gives, family by family."""

from __future__ import annotations

import pytest
import torch

from encoderlab.encoders.vision import load_vision
from encoderlab.errors import UsageError


@pytest.mark.parametrize(
    "family", ["clip", "clip-tower-alone", "siglip", "dinov2", "dinov2-registers"]
)
@pytest.mark.parametrize("layer", [0, 1])
def test_the_rest_of_the_tower_gives_the_pooled_vector(family, layer, vision_folder, pictures):
    encoder = load_vision(vision_folder(family), "cpu", "float32")
    seen = encoder.encode(pictures, layers=[layer])
    special = seen.layers_special[layer]
    assert special.shape[1] == encoder.special_tokens
    tokens = torch.cat([special, seen.layers[layer]], dim=1)
    assert torch.allclose(encoder.finish(tokens, layer), seen.pooled, atol=1e-4)


@pytest.mark.parametrize("family", ["dinov3", "internvl"])
def test_a_family_that_cannot_says_so(family, vision_folder):
    encoder = load_vision(vision_folder(family), "cpu", "float32")
    with pytest.raises(UsageError, match="cannot be put back into this family"):
        encoder.finish(torch.zeros(1, 5, encoder.width), 1)
