"""VLMs of every family with fewer image tokens, against the plain model with tokens left out."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field

import pytest
import torch
import transformers as hf
from tests.small_checkpoints import LLM, NATIVE, SQUARE, VISION, VIT, initialised

from encoderlab.compression.hooks import FAMILIES, compressed_vision
from encoderlab.patch_tokens.merging import KMeans
from encoderlab.patch_tokens.pooling import Diverse, Random, Strided

IMAGE, PAD, EDGE = 97, 0, 32
# Heights and widths of the images 0, 1 and 2: in patches for Qwen, else in pixels.
QWEN_SIZES = ((8, 12), (4, 4), (8, 8))
NEXT_SIZES = ((40, 60), (64, 20), (50, 50))


def llava_next():
    text = LLM | {"model_type": "llama", "pad_token_id": PAD}
    config = hf.LlavaNextConfig(
        vision_config=VIT | {"model_type": "clip_vision_model"}, text_config=text,
        image_token_index=IMAGE, image_grid_pinpoints=[[32, 64], [64, 32], [64, 64], [96, 32]],
    )  # fmt: skip
    return hf.LlavaNextForConditionalGeneration(config)


def llava():
    text = LLM | {"model_type": "llama", "pad_token_id": PAD}
    config = hf.LlavaConfig(
        vision_config=VIT | {"model_type": "clip_vision_model"}, text_config=text,
        image_token_index=IMAGE,
    )  # fmt: skip
    return hf.LlavaForConditionalGeneration(config)


MAKE = {
    "llava": llava,
    "qwen2_vl": NATIVE["qwen2_vl"][0],
    "qwen2_5_vl": NATIVE["qwen2_5_vl"][0],
    "qwen3_vl": NATIVE["qwen3_vl"][0],
    "internvl": VISION["internvl"][0],
    "gemma3": SQUARE["gemma3"][0],
    "paligemma": VISION["paligemma"][0],
    "llava_next": llava_next,
}
QWEN = [name for name in MAKE if name.startswith("qwen")]
# Small enough to leave tokens out of every image but the smallest of Qwen.
BUDGET = 3


@dataclass
class Tiny:
    """A model of random weights and the inputs that its processor would make."""

    name: str
    model: object = field(init=False)

    def __post_init__(self):
        self.model = initialised(MAKE[self.name]).eval()
        config = self.model.config
        config.image_token_id = IMAGE
        if self.name.startswith("qwen"):
            config.video_token_id, config.vision_start_token_id = 96, 95
        config.get_text_config().pad_token_id = PAD
        self.model.generation_config.pad_token_id = PAD

    def images(self, which):
        """What the processor gives for some images."""
        noise = [torch.Generator().manual_seed(10 + i) for i in which]
        if self.name.startswith("qwen"):
            sizes = [QWEN_SIZES[i] for i in which]
            pixels = [
                torch.randn(h * w, 96, generator=g) for (h, w), g in zip(sizes, noise, strict=True)
            ]
            grids = torch.tensor([(1, h, w) for h, w in sizes])
            return {"pixel_values": torch.cat(pixels), "image_grid_thw": grids}
        if self.name != "llava_next":
            pixels = [torch.randn(3, EDGE, EDGE, generator=g) for g in noise]
            return {"pixel_values": torch.stack(pixels)}
        module = importlib.import_module(type(self.model).__module__)
        sizes = torch.tensor([NEXT_SIZES[i] for i in which])
        pinpoints = self.model.config.image_grid_pinpoints
        tiles = [module.image_size_to_num_patches(size, pinpoints, EDGE) for size in sizes]
        pixels = torch.zeros(len(which), max(tiles), 3, EDGE, EDGE)
        for image, count, g in zip(pixels, tiles, noise, strict=True):
            image[:count] = torch.randn(count, 3, EDGE, EDGE, generator=g)
        return {"pixel_values": pixels, "image_sizes": sizes}

    @torch.no_grad()
    def features(self, images):
        """All tokens of each image, as the language model gets them, and those of DeepStack."""
        out = self.model.model.get_image_features(**images, return_dict=True)
        return list(out.pooler_output), getattr(out, "deepstack_features", None)

    def inputs(self, rows, first=0):
        """Rows of text, each with some images; shorter ones are padded on the left. The words
        depend on the number of the row, which starts at `first`."""
        images = self.images([i for row in rows for i in row])
        counts = iter(len(tokens) for tokens in self.features(images)[0])
        ids = []
        for number, row in enumerate(rows, first):
            ids.append([1, 5 + number])
            for _ in row:
                ids[-1] += [*[IMAGE] * next(counts), 7, 8 + number]
            ids[-1] += [11]
        most = max(len(row) for row in ids)
        ids = torch.tensor([[PAD] * (most - len(row)) + row for row in ids])
        given = {"input_ids": ids, "attention_mask": (ids != PAD).long(), **images}
        kinds = {"gemma3": "token_type_ids", "paligemma": "token_type_ids"}
        if self.name.startswith("qwen"):
            kinds[self.name] = "mm_token_type_ids"
        if self.name in kinds:
            is_image = ids == IMAGE if self.name != "paligemma" else torch.zeros_like(ids)
            given[kinds[self.name]] = is_image.long()
        return given


@pytest.fixture(scope="module")
def tiny():
    made = {}
    return lambda name: made.setdefault(name, Tiny(name))


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


def n_hooks(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_every_family_is_tested():
    assert set(MAKE) == set(FAMILIES)


@pytest.mark.parametrize("name", MAKE)
def test_all_tokens_in_order_leave_the_logits_unchanged(tiny, name):
    model, inputs = tiny(name).model, tiny(name).inputs([[0]])
    plain = model(**inputs).logits
    before = n_hooks(model)  # transformers has some of its own
    grid = {"llava_next": 16}.get(name, int((inputs["input_ids"] == IMAGE).sum()))
    with compressed_vision(model, Strided(), grid) as vision:
        fitted = vision.fit(inputs)
        assert torch.equal(fitted["input_ids"], inputs["input_ids"])
        assert torch.equal(model(**fitted).logits, plain)
        assert len(vision.last) == (2 if name == "llava_next" else 1)
        assert n_hooks(model) > before
    assert n_hooks(model) == before and "get_image_features" not in vars(model.model)
    assert torch.equal(model(**inputs).logits, plain)


@pytest.mark.parametrize("name", [*QWEN, "llava_next"])
def test_images_with_fewer_tokens_than_the_budget_are_kept_whole(tiny, name):
    model, inputs = tiny(name).model, tiny(name).inputs([[0], [1, 2]])
    plain = model(**inputs).logits
    budget = 16 if name == "llava_next" else 1000
    with compressed_vision(model, Strided(), budget) as vision:
        assert torch.equal(model(**vision.fit(inputs)).logits, plain)


def chosen_columns(name, vision, inputs):
    """The columns of a row that remain, by the places of the kept tokens."""
    columns = (inputs["input_ids"][0] == IMAGE).nonzero().flatten().tolist()
    keep = set(range(inputs["input_ids"].shape[1])) - set(columns)
    grids = {"llava": (4, 4), "paligemma": (4, 4)}
    if name.startswith("qwen"):
        grids[name] = tuple(s // 2 for s in QWEN_SIZES[0])
    rows, width = grids.get(name, (2, 2))
    if name == "llava_next":
        base, picture = vision.last
        keep |= {columns[int(r * 4 + c)] for r, c in base.positions[0]}
        columns = columns[16:]
        # 40 x 60 pixels lie in 2 x 2 tiles of 4 x 4 tokens as 5 x 8.
        rows, width = 6, 9
        keep |= {columns[int(r * width + c)] for r, c in picture.positions[0]} | {columns[-1]}
    else:
        keep |= {columns[int(r * width + c)] for r, c in vision.last[0].positions[0]}
    assert len(columns) == rows * width
    return sorted(keep)


@pytest.mark.parametrize("name", MAKE)
def test_logits_are_those_of_the_plain_model_with_the_tokens_left_out(tiny, name):
    model, inputs = tiny(name).model, tiny(name).inputs([[0]])
    with compressed_vision(model, Random(3), BUDGET) as vision:
        logits = model(**vision.fit(inputs)).logits
    (tokens,), deepstack = tiny(name).features(tiny(name).images([0]))
    keep = chosen_columns(name, vision, inputs)
    ids = inputs["input_ids"]
    is_image = ids == IMAGE
    embedded = model.get_input_embeddings()(ids.clamp_max(98))
    embedded[is_image] = tokens
    rest = {
        key: value[:, keep]
        for key, value in inputs.items()
        if key != "input_ids" and value.shape == ids.shape and key != "mm_token_type_ids"
    }
    if name.startswith("qwen"):
        rest["position_ids"] = model.model.get_rope_index(**inputs)[0][..., keep]
    if deepstack:
        kept_of_image = is_image[0].cumsum(0)[keep][is_image[0, keep]] - 1
        hidden = model.model.language_model(
            inputs_embeds=embedded[:, keep],
            visual_pos_masks=is_image[:, keep],
            deepstack_visual_embeds=[layer[0][kept_of_image] for layer in deepstack],
            **rest,
        ).last_hidden_state
        expected = model.lm_head(hidden)
    else:
        expected = model(inputs_embeds=embedded[:, keep], **rest).logits
    assert logits.shape == expected.shape
    assert torch.allclose(logits, expected, atol=1e-5)


@pytest.mark.parametrize("method", [Diverse(), KMeans()])
@pytest.mark.parametrize("name", MAKE)
def test_a_batch_equals_its_rows_alone(tiny, name, method):
    model, rows = tiny(name).model, [[0], [1, 2]]
    inputs = tiny(name).inputs(rows)
    singles = [tiny(name).inputs([images], first=row) for row, images in enumerate(rows)]
    with compressed_vision(model, method, BUDGET) as vision:
        fitted = vision.fit(inputs)
        together = model(**fitted).logits
        for row, alone in enumerate(singles):
            logits = model(**vision.fit(alone)).logits[0]
            own = fitted["attention_mask"][row].bool()
            assert torch.allclose(together[row, own], logits, atol=1e-4)


@pytest.mark.parametrize("name", MAKE)
def test_generation_with_a_cache_equals_that_without(tiny, name):
    model = tiny(name).model
    settings = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False}
    inputs = tiny(name).inputs([[0], [1, 2]])
    with compressed_vision(model, Diverse(), BUDGET) as vision:
        fitted = vision.fit(inputs)
        length = fitted["input_ids"].shape[1]
        cached, plain = (
            model.generate(**fitted, **settings, use_cache=use_cache) for use_cache in (True, False)
        )
    assert cached.shape == (2, length + 6)
    assert torch.equal(cached, plain)
