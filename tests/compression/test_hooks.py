"""VLMs of every family with fewer image tokens, against the plain model with tokens left out."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field, replace

import pytest
import torch
import transformers as hf
from tests.small_checkpoints import (
    LLM,
    NATIVE,
    NATIVE_LLM,
    NATIVE_VIT,
    SQUARE,
    VISION,
    VIT,
    initialised,
)
from transformers.vision_utils import get_vision_window_index

from encoderlab.compression.hooks import FAMILIES, compressed_vision
from encoderlab.errors import UsageError
from encoderlab.patch_tokens.merging import KMeans
from encoderlab.patch_tokens.pooling import AveragePooling, Bilinear, Diverse, Random, Strided

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


def qwen3_vl_moe():
    vision = {"depth": 3, "num_heads": 2, "out_hidden_size": 40, "num_position_embeddings": 16}
    text = {"head_dim": 20, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
    config = hf.Qwen3VLMoeConfig(
        vision_config=NATIVE_VIT | vision | {"deepstack_visual_indexes": [0]},
        text_config=NATIVE_LLM | text,
    )
    return hf.Qwen3VLMoeForConditionalGeneration(config)


MAKE = {
    "llava": llava,
    "qwen2_vl": NATIVE["qwen2_vl"][0],
    "qwen2_5_vl": NATIVE["qwen2_5_vl"][0],
    "qwen3_vl": NATIVE["qwen3_vl"][0],
    "qwen3_vl_moe": qwen3_vl_moe,
    "qwen3_5": NATIVE["qwen3_5"][0],
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


@pytest.mark.parametrize("name", MAKE)
def test_beams_start_from_the_same_tokens(tiny, name):
    model, inputs = tiny(name).model, tiny(name).inputs([[0], [1, 2]])
    settings = {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False}
    with compressed_vision(model, Diverse(), BUDGET) as vision:
        fitted = vision.fit(inputs)
        repeated = {
            key: value.repeat_interleave(2, dim=-2)
            if value.shape[-2:] == fitted["input_ids"].shape
            else value
            for key, value in fitted.items()
        }
        one = model.generate(**fitted, **settings)
        model.generate(**fitted, **settings, num_beams=2)
        both = model.generate(**fitted, **(settings | {"num_return_sequences": 2, "num_beams": 2}))
        prefill = model(**fitted).logits
    assert torch.equal(one[:, : fitted["input_ids"].shape[1]], fitted["input_ids"])
    assert torch.equal(both[:, : fitted["input_ids"].shape[1]], repeated["input_ids"])
    assert torch.equal(one[:, fitted["input_ids"].shape[1]], prefill[:, -1].argmax(dim=-1))


class Seen:
    """What the language model gets."""

    def __init__(self, model):
        self.handle = model.model.language_model.register_forward_pre_hook(
            self._keep, with_kwargs=True
        )

    def _keep(self, module, arguments, named):
        self.named = named

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.handle.remove()


@pytest.mark.parametrize("name", QWEN)
@pytest.mark.parametrize("method", [Random(1), KMeans(), AveragePooling()])
def test_m_rope_has_the_places_of_the_tokens_and_the_text_after_the_whole_image(tiny, name, method):
    model, inputs = tiny(name).model, tiny(name).inputs([[0], [1, 2]])
    plain, deltas = model.model.get_rope_index(**inputs)
    with compressed_vision(model, method, 6) as vision, Seen(model) as seen:
        fitted = vision.fit(inputs)
        model(**fitted)
        positions = seen.named["position_ids"]
        kept, lengths = vision.last, fitted["attention_mask"].sum(dim=1)
    assert [one.tokens.shape[1] for one in kept] == [6, 4, 6]
    # The images stand behind two words, and behind the words between them.
    first = 2
    starts = [(0, first), (1, first), (1, first + 2 + 2)]
    for number, (row, start) in enumerate(starts):
        is_image = fitted["input_ids"][row] == IMAGE
        columns = is_image.nonzero().flatten()
        columns = columns[:4] if number == 1 else columns[-6:]
        place = kept[number].positions[0].round().long()
        got = positions[:, row, columns]
        assert torch.equal(got[0], torch.full_like(got[0], start))
        assert torch.equal(got[1:].T, place + start)
    for row in range(2):
        for ids, axes in ((inputs, plain), (fitted, positions)):
            is_word = (ids["input_ids"][row] != IMAGE) & (ids["attention_mask"][row] == 1)
            ids["words"] = axes[:, row, is_word]
        assert torch.equal(inputs["words"], fitted["words"])
    # A later token without positions comes behind all of the uncompressed inputs.
    whole = inputs["attention_mask"].sum(dim=1)
    assert torch.equal(model.model.rope_deltas[:, 0] + lengths, deltas[:, 0] + whole)


@pytest.mark.parametrize("name", QWEN)
def test_a_later_token_needs_no_positions(tiny, name):
    model, inputs = tiny(name).model, tiny(name).inputs([[0]])
    with compressed_vision(model, Diverse(), BUDGET) as vision:
        fitted = vision.fit(inputs)
        longer = {
            key: torch.cat([value, value[..., -1:] + (key == "position_ids")], dim=-1)
            if value.shape[-2:] == fitted["input_ids"].shape
            else value
            for key, value in fitted.items()
        }
        expected = model(**longer).logits[:, -1]
        cache = model(**fitted, use_cache=True).past_key_values
        got = model(input_ids=longer["input_ids"][:, -1:], past_key_values=cache).logits[:, -1]
        deltas, model.model.rope_deltas = model.model.rope_deltas, None
        model.generate(**fitted, max_new_tokens=2)
    assert torch.allclose(got, expected, atol=1e-5)
    assert torch.equal(model.model.rope_deltas, deltas)


def test_deepstack_is_averaged_over_the_merged_tokens(tiny):
    model, inputs = tiny("qwen3_vl").model, tiny("qwen3_vl").inputs([[0]])
    ((tokens,), ((layer,),)) = tiny("qwen3_vl").features(tiny("qwen3_vl").images([0]))
    with compressed_vision(model, KMeans(), 5) as vision, Seen(model) as seen:
        model(**vision.fit(inputs))
    group = vision.last[0].assignment[0]
    means = torch.stack([layer[group == number].mean(dim=0) for number in range(5)])
    (got,) = seen.named["deepstack_visual_embeds"]
    assert torch.allclose(got, means, atol=1e-6)
    embedded = seen.named["inputs_embeds"][seen.named["visual_pos_masks"]]
    means = torch.stack([tokens[group == number].mean(dim=0) for number in range(5)])
    assert torch.allclose(embedded, means, atol=1e-6)


class Watched(Random):
    """Keeps what it is given."""

    def __init__(self, *needs):
        super().__init__(0)
        self.needs, self.seen = needs, []

    def _compress(self, tokens, grid, budget, side):
        self.seen.append((tokens, side))
        return super()._compress(tokens, grid, budget, side)


def recorded(model, tower, run, monkeypatch):
    """(maps, keys) of every call of the tower's own eager attention."""
    calls = []
    module = importlib.import_module(type(tower).__module__)
    plain = module.eager_attention_forward

    def record(layer, query, key, *rest, **named):
        out, weights = plain(layer, query, key, *rest, **named)
        calls.append((weights, key))
        return out, weights

    monkeypatch.setattr(module, "eager_attention_forward", record)
    tower.set_attn_implementation("eager")
    run()
    tower.set_attn_implementation("sdpa")
    return calls


def on_grid(values, side):
    """Means over 2 x 2 of the patches of 4 x 4."""
    return values if side == 4 else torch.nn.functional.avg_pool2d(
        values.view(-1, 4, 4), 2
    ).flatten(1)  # fmt: skip


@pytest.mark.parametrize("name", [name for name in MAKE if not name.startswith("qwen")])
def test_attention_and_keys_are_those_of_the_tower(tiny, name, monkeypatch):
    model, inputs = tiny(name).model, tiny(name).inputs([[0], [1]])
    method = Watched("attention", "keys")
    with compressed_vision(model, method, BUDGET) as vision:
        model(**vision.fit(inputs))
    images = tiny(name).images([0, 1])
    tower = model.model.vision_tower
    calls = recorded(model, tower, lambda: model.model.get_image_features(**images), monkeypatch)
    maps, keys = calls[1 if name in ("llava", "llava_next") else 2]
    has_cls = name in ("llava", "llava_next", "internvl")
    weights = maps.mean(dim=1)[:, 0, 1:] if has_cls else maps.mean(dim=(1, 2))
    keys = keys.mean(dim=1)[:, int(has_cls) :]
    if name != "llava_next":
        ((_, side),) = method.seen
        tokens = 4 if name in ("llava", "paligemma") else 2
        assert torch.allclose(side.attention, on_grid(weights, tokens), atol=1e-6)
        by_channel = keys.permute(2, 0, 1).flatten(0, 1)
        expected = on_grid(by_channel, tokens).unflatten(0, (keys.shape[2], -1)).permute(1, 2, 0)
        assert torch.allclose(side.keys, expected, atol=1e-6)
        return
    # Five tiles of the first image: the base image, and 2 x 2 without the padding of one row.
    (_, base), (_, picture), *_ = method.seen
    assert torch.allclose(base.attention[0], weights[0], atol=1e-6)
    joined = weights[1:5].view(2, 2, 4, 4).permute(0, 2, 1, 3).reshape(8, 8)
    assert torch.allclose(picture.attention.view(6, 8), joined[1:7], atol=1e-6)
    assert torch.allclose(base.keys[0], keys[0], atol=1e-6)


@pytest.mark.parametrize("name", QWEN)
def test_attention_of_qwen_is_that_of_the_last_block_over_the_whole_image(tiny, name, monkeypatch):
    model, inputs = tiny(name).model, tiny(name).inputs([[0], [2]])
    method = Watched("attention")
    with compressed_vision(model, method, BUDGET) as vision:
        method.seen.clear()  # Qwen3-VL tries a method
        model(**vision.fit(inputs))
    images, visual = tiny(name).images([0, 2]), model.model.visual
    calls = recorded(model, visual, lambda: model.model.get_image_features(**images), monkeypatch)
    whole = [maps for maps, _ in calls if maps.shape[-1] in (96, 64)]
    # Of Qwen2.5-VL the middle block alone, else all three; each image apart.
    assert len(whole) == (2 if name == "qwen2_5_vl" else 6)
    for number, (maps, (_, side)) in enumerate(zip(whole[-2:], method.seen, strict=True)):
        expected = maps.mean(dim=(0, 1, 2)).view(-1, 4).mean(dim=1)
        if name == "qwen2_5_vl":
            grid = images["image_grid_thw"][number : number + 1]
            order, _ = get_vision_window_index(grid, 2, 16, 4)
            expected = expected[order.argsort()]
        assert torch.allclose(side.attention[0], expected, atol=1e-6)


@pytest.mark.parametrize("generates", [False, True])
@pytest.mark.parametrize("name", MAKE)
def test_the_question_is_that_of_the_row(tiny, name, generates):
    model, inputs = tiny(name).model, tiny(name).inputs([[0], [1, 2]])
    method = Watched("text")
    with compressed_vision(model, method, BUDGET) as vision:
        method.seen.clear()  # Qwen3-VL tries a method
        fitted = vision.fit(inputs)
        if generates:
            model.generate(**fitted, max_new_tokens=2, do_sample=False)
        else:
            vision._fitted = []  # the forward pass has the words itself
            model(**fitted)
    tokens, _ = tiny(name).features(tiny(name).images([0]))
    words = model.get_input_embeddings()(torch.tensor([5, 7, 8, 11]))
    text = method.seen[0][1].text[0]
    cosines = torch.nn.functional.cosine_similarity(tokens[0][: len(text), None], words, dim=-1)
    assert torch.allclose(text, cosines.mean(dim=1), atol=1e-5)


def test_a_labelled_answer_is_no_part_of_the_question(tiny):
    model, inputs = tiny("llava").model, tiny("llava").inputs([[0]])
    method, ids = Watched("text"), inputs["input_ids"]
    labels = torch.where(ids == 11, ids, -100)
    with compressed_vision(model, method, BUDGET) as vision:
        model(**vision.fit({**inputs, "labels": labels}))
    tokens, _ = tiny("llava").features(tiny("llava").images([0]))
    words = model.get_input_embeddings()(torch.tensor([5, 7, 8]))
    cosines = torch.nn.functional.cosine_similarity(tokens[0][:, None], words, dim=-1)
    assert torch.allclose(method.seen[-1][1].text[0], cosines.mean(dim=1), atol=1e-5)


def test_a_question_of_other_inputs_is_refused(tiny):
    model = tiny("llava").model
    first, second = (tiny("llava").inputs([[0]], first=row) for row in (0, 1))
    with compressed_vision(model, Watched("text"), BUDGET) as vision:
        fitted = vision.fit(first)
        vision.fit(second)
        with pytest.raises(UsageError, match="has read the question of other inputs"):
            model.generate(**fitted, max_new_tokens=2)


def test_keys_of_qwen_are_the_means_over_the_merged_patches(tiny):
    model, inputs = tiny("qwen3_vl").model, tiny("qwen3_vl").inputs([[0]])
    method, qkv = Watched("keys"), []
    layer = model.model.visual.blocks[-1].attn.qkv
    hook = layer.register_forward_hook(lambda module, given, out: qkv.append(out))
    with compressed_vision(model, method, BUDGET) as vision:
        model(**vision.fit(inputs))
    hook.remove()
    heads = model.model.visual.blocks[-1].attn.num_heads
    keys = qkv[-1].view(24, 4, 3, heads, -1)[:, :, 1].mean(dim=(1, 2))
    assert torch.allclose(method.seen[-1][1].keys[0], keys, atol=1e-6)


class Mixed(Random):
    """Neither selects nor averages."""

    trained = True


REFUSED = [
    *((name, Watched("cls"), 3, "needs what this model does not give: got 'cls") for name in MAKE),
    *((name, Watched("pixels"), 3, "runs the encoder again") for name in MAKE),
    *((name, Random(), 0, "no number of tokens") for name in MAKE),
    *((name, AveragePooling(), 13, "13 of 4 x 4") for name in ("llava", "paligemma", "llava_next")),
    *((name, Random(), 5, "5 of 4 tokens") for name in ("internvl", "gemma3")),
    ("qwen3_vl", Bilinear(), 3, "DeepStack"),
    ("qwen3_vl", Mixed(), 3, "DeepStack"),
]


@pytest.mark.parametrize(("name", "method", "budget", "said"), REFUSED)
def test_what_cannot_be_is_refused_before_anything_runs(tiny, name, method, budget, said):
    model = tiny(name).model
    before = n_hooks(model)
    with pytest.raises(UsageError, match=said), compressed_vision(model, method, budget):
        pass
    assert n_hooks(model) == before


class Wide(AveragePooling):
    """Gives tokens of twice the channels."""

    def _compress(self, tokens, grid, budget, side):
        kept = super()._compress(tokens, grid, budget, side)
        return replace(kept, tokens=torch.cat([kept.tokens] * 2, dim=-1))


@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl", "llava_next"])
def test_tokens_of_another_width_are_refused(tiny, name):
    model, inputs = tiny(name).model, tiny(name).inputs([[0]])
    with (
        compressed_vision(model, Wide(), 2) as vision,
        pytest.raises(UsageError, match=r"(64|80) channels of (32|40)"),
    ):
        model(**vision.fit(inputs))


def test_a_grid_that_a_method_cannot_give_is_refused_by_fit(tiny):
    model, inputs = tiny("qwen2_5_vl").model, tiny("qwen2_5_vl").inputs([[0]])
    with (
        compressed_vision(model, AveragePooling(), 23) as vision,
        pytest.raises(UsageError, match="got '23 of 4 x 6'"),
    ):
        vision.fit(inputs)


@pytest.mark.parametrize("name", MAKE)
def test_a_method_that_reads_the_question_is_refused_without_one(tiny, name):
    model, inputs = tiny(name).model, tiny(name).inputs([[0]])
    ids = inputs["input_ids"]
    inputs["input_ids"] = torch.where(
        ids == IMAGE, IMAGE, model.config.get_text_config().bos_token_id
    )
    with (
        compressed_vision(model, Watched("text"), BUDGET) as vision,
        pytest.raises(UsageError, match="got 'an image without words'"),
    ):
        vision.fit(inputs)


@pytest.mark.parametrize("generates", [False, True])
@pytest.mark.parametrize("name", MAKE)
def test_inputs_that_are_not_fitted_are_refused(tiny, name, generates):
    model, inputs = tiny(name).model, tiny(name).inputs([[0]])
    with (
        compressed_vision(model, Diverse(), BUDGET),
        pytest.raises(UsageError, match="not those of whole images"),
    ):
        model.generate(**inputs, max_new_tokens=2) if generates else model(**inputs)


def test_videos_are_refused(tiny):
    model, inputs = tiny("qwen2_5_vl").model, tiny("qwen2_5_vl").inputs([[0]])
    with compressed_vision(model, Diverse(), BUDGET) as vision:
        with pytest.raises(UsageError, match="videos"):
            vision.fit(inputs | {"pixel_values_videos": inputs["pixel_values"]})
        with pytest.raises(UsageError, match="videos"):
            vision.fit(inputs | {"image_grid_thw": torch.tensor([[2, 8, 6]])})


@pytest.mark.parametrize("name", MAKE)
def test_text_alone_passes_through(tiny, name):
    model = tiny(name).model
    ids = torch.tensor([[1, 5, 7], [1, 8, 11]])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    plain = model(**inputs).logits
    with compressed_vision(model, Diverse(), BUDGET) as vision:
        assert torch.allclose(model(**vision.fit(inputs)).logits, plain, atol=1e-6)


def test_sizes_of_llava_next_are_those_of_transformers(tiny):
    model = tiny("llava_next").model
    vision = FAMILIES["llava_next"](model, Diverse(), BUDGET)
    noise = torch.Generator().manual_seed(0)
    module = importlib.import_module(type(model.model).__module__)
    with pytest.raises(UsageError, match="8 x 190 pixels"):
        vision.pieces({"image_sizes": torch.tensor([[8, 190]])})
    for size in torch.randint(30, 200, (200, 2), generator=noise):
        tiles = module.image_size_to_num_patches(size, model.config.image_grid_pinpoints, EDGE)
        features = torch.zeros(tiles, 16, 32)
        (packed,), _ = model.model.pack_image_features(
            [features], size[None], "default", torch.ones(32)
        )
        base, picture = vision.pieces({"image_sizes": size[None]})
        assert base.whole + picture.whole == len(packed)
        ends = packed[16:].eq(1).all(dim=1).view(picture.grid[0], -1)
        assert ends[:, -1].all() and not ends[:, :-1].any()


@pytest.mark.parametrize("name", MAKE)
def test_gradients_reach_the_tower_and_the_language_model(tiny, name):
    model, inputs = tiny(name).model, tiny(name).inputs([[0]])
    with torch.enable_grad(), compressed_vision(model, AveragePooling(), (1, 2)) as vision:
        fitted = vision.fit(inputs | {"labels": inputs["input_ids"]})
        model(**fitted).loss.backward()
    with_gradient = [n for n, w in model.named_parameters() if w.grad is not None]
    model.zero_grad()
    assert any("vision_tower" in n or "visual" in n for n in with_gradient)
    assert any("language_model" in n for n in with_gradient)
