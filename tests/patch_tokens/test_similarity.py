"""Maps and numbers of tokens: closed forms, and a plain loop over transformers' own tokens."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import encoderlab
from encoderlab.errors import UsageError
from encoderlab.inspection.analyzer import TokenSimilarityAnalyzer
from encoderlab.models import token_grid
from encoderlab.patch_tokens import statistics
from encoderlab.patch_tokens.similarity import (
    comparable,
    neighbour_mean,
    neighbours,
    patch_against_all,
)


def field(h=4, w=6, d=5, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((h, w, d)))


def checkerboard(h=6, w=6):
    place = (torch.arange(h)[:, None] + torch.arange(w)[None, :]) % 2
    return place


# -- closed forms --------------------------------------------------------------------------------


def test_a_constant_field_has_cosine_one_everywhere():
    found = neighbours(comparable(torch.full((1, 4, 5, 3), 0.7)))
    for values in vars(found).values():
        assert torch.allclose(values, torch.ones_like(values))


def test_an_orthogonal_checkerboard_has_zero_beside_and_one_on_the_diagonal():
    tokens = torch.eye(2)[checkerboard()][None]
    found = neighbours(comparable(tokens))
    assert found.right.abs().max() == found.down.abs().max() == 0
    assert found.down_right.min() == found.down_left.min() == 1


def test_a_plus_minus_checkerboard_has_a_rook_morans_i_of_minus_one():
    tokens = (2.0 * checkerboard() - 1)[..., None] * torch.tensor([1.0, -2.0, 0.5])
    assert statistics.morans_i(tokens) == pytest.approx(-1)


def test_morans_i_of_halves_by_hand_and_of_shuffled_places_about_zero():
    # Left half 1, right half -1: of 4 x 4 places 24 pairs, 4 of them between the halves.
    halves = torch.where(torch.arange(4) < 2, 1.0, -1.0).expand(4, 4)[..., None]
    assert statistics.morans_i(halves) == pytest.approx((20 - 4) / 24)
    values = [statistics.morans_i(field(8, 8, 3, seed)) for seed in range(60)]
    assert np.mean(values) == pytest.approx(-1 / 63, abs=0.02)


def test_transposing_the_image_swaps_the_maps():
    tokens = field()
    one = neighbours(comparable(tokens[None]))
    other = neighbours(comparable(tokens.transpose(0, 1)[None]))
    assert torch.equal(one.right[0], other.down[0].T)
    assert torch.equal(one.down_left[0], other.down_left[0].T)


@given(st.integers(0, 10**6))
def test_dot_products_do_not_change_under_a_common_rotation(seed):
    tokens = field(seed=seed).float()
    turn = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(seed)))[0]
    one, other = (neighbours(comparable(t[None], "dot_product")) for t in (tokens, tokens @ turn))
    assert torch.allclose(one.right, other.right, atol=1e-4)


def test_a_patch_against_all_is_one_at_itself_and_refuses_a_place_that_is_none():
    ready = comparable(field())
    found = patch_against_all(ready, 2, 3)
    assert found[2, 3] == pytest.approx(1)
    assert found[0, 1] == pytest.approx(float(ready[0, 1] @ ready[2, 3]))
    with pytest.raises(UsageError, match=r"row 4, column 0.*rows 0 to 3, columns 0 to 5"):
        patch_against_all(ready, 4, 0)


def test_eight_neighbours_are_counted_once_each():
    tokens = field(3, 3)
    ready = comparable(tokens)
    found = neighbour_mean(neighbours(ready[None]))[0]
    flat = ready.reshape(9, -1)
    assert found[1, 1] == pytest.approx(float((flat @ flat[4]).sum() - 1) / 8, abs=1e-6)
    corner = float((ready[0, 0] * (ready[0, 1] + ready[1, 0] + ready[1, 1])).sum()) / 3
    assert found[0, 0] == pytest.approx(corner, abs=1e-6)


def test_effective_rank_of_equal_directions_is_their_number():
    tokens = torch.cat([torch.eye(4), -torch.eye(4)]).reshape(2, 4, 4)
    assert statistics.effective_rank(tokens) == pytest.approx(4)
    assert statistics.effective_rank(torch.ones(3, 3, 2)) == 0


def test_outliers_are_the_long_tokens_and_a_calm_field_has_none():
    length = torch.full((5, 5), 10.0) + 0.1 * torch.rand(5, 5)
    assert not statistics.outliers(length).any()
    length[1, 2] = 80
    assert statistics.outliers(length).nonzero().tolist() == [[1, 2]]
    # Four tokens: the median of 1, 2, 4, 5 is 3, the robust deviation 1.4826 * 1.5.
    edge = 3 + 5 * 1.4826 * 1.5
    assert not statistics.outliers(torch.tensor([[1.0, 2], [4, 5]])).any()
    for longest, found in ((edge - 0.1, False), (edge + 0.1, True)):
        assert bool(statistics.outliers(torch.tensor([[1.0, 2], [4, longest]])).any()) is found


def test_similarity_by_distance_is_the_mean_over_pairs():
    ready = comparable(field(3, 3))
    distance, mean = statistics.by_distance(ready)
    flat = ready.reshape(9, -1)
    pairs = [
        (round(np.hypot(i // 3 - j // 3, i % 3 - j % 3)), float(flat[i] @ flat[j]))
        for i in range(9)
        for j in range(i)
    ]
    for at, value in zip(distance.tolist(), mean.tolist(), strict=True):
        assert value == pytest.approx(np.mean([v for d, v in pairs if d == at]), abs=1e-6)


# -- the token budget ----------------------------------------------------------------------------


@pytest.mark.parametrize("budget", [(2, 3), (1, 1), (4, 6), (2, 2)])
def test_pooling_loss_is_that_of_pooling_and_spreading_out_again(budget):
    tokens = field()
    loss, where = statistics.pooling_loss(tokens, budget)
    pooled = torch.nn.functional.adaptive_avg_pool2d(tokens.permute(2, 0, 1), budget)
    spread = torch.nn.functional.interpolate(pooled[None], size=(4, 6), mode="nearest")[0]
    error = (tokens.permute(2, 0, 1) - spread).square().sum()
    total = (tokens - tokens.mean(dim=(0, 1))).square().sum()
    assert loss == pytest.approx(float(error / total))
    assert float(where.mean()) == pytest.approx(loss)


def test_a_constant_field_loses_nothing_and_one_token_loses_all_variance():
    assert statistics.pooling_loss(torch.ones(4, 4, 3), (1, 1))[0] == 0
    assert statistics.pooling_loss(field(), (1, 1))[0] == pytest.approx(1)
    curve = statistics.compressibility(field())
    assert curve[4, 6] == 0 and curve[1, 1] == pytest.approx(1)


def test_windows_that_do_not_divide_are_as_even_as_can_be():
    assert token_grid.windows(12, 5) == [0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 4, 4]
    with pytest.raises(UsageError, match="the budget does not fit the grid: got '5 x 3'"):
        statistics.pooling_loss(field(), (5, 3))


def test_the_null_is_of_patches_of_other_images():
    ready = comparable(
        torch.cat([torch.eye(2)[[0]].expand(50, 2), torch.eye(2)[[1]].expand(50, 2)])
    )
    image = torch.arange(2).repeat_interleave(50)
    assert statistics.null_of_pairs(ready, image) == (0.0, 0.0)
    with pytest.raises(UsageError, match="at least two images"):
        statistics.null_of_pairs(ready, torch.zeros(100))


# -- any encoder ---------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["clip", "siglip", "dinov2-registers"])
@pytest.mark.parametrize("metric", ["cosine", "dot_product"])
def test_maps_are_those_of_a_plain_loop_over_transformers_tokens(
    family, metric, vision_folder, pictures
):
    from transformers import AutoModel

    folder = vision_folder(family)
    encoder = encoderlab.load_vision(folder, "cpu", "float32")
    analyzer = TokenSimilarityAnalyzer(str(folder), "cpu", metric)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    model = getattr(model, "vision_model", model)
    for picture, result in zip(pictures, analyzer.analyze_batch(pictures), strict=True):
        with torch.no_grad():
            out = model(pixel_values=encoder.preprocess(picture)[None])
        h, w = result.grid
        registers = getattr(model.config, "num_register_tokens", 0)
        special = registers + (0 if family == "siglip" else 1)
        tokens = out.last_hidden_state[0, special:].reshape(h, w, -1).numpy()
        anchor = out.pooler_output[0] if family == "siglip" else out.last_hidden_state[0, 0]
        assert result.anchor == ("pooled embedding" if family == "siglip" else "CLS")

        def alike(a, b):
            value = float(np.dot(a, b))
            return value / np.linalg.norm(a) / np.linalg.norm(b) if metric == "cosine" else value

        # A sum of products is as sure as its terms are large.
        size = 1.0 if metric == "cosine" else float(np.square(tokens).sum(axis=-1).max())
        for i in range(h):
            for j in range(w):
                found = {"cls": (result.cls_similarity[i, j], anchor.numpy())}
                if j + 1 < w:
                    found["right"] = (result.horizontal_right[i, j], tokens[i, j + 1])
                if i + 1 < h:
                    found["down"] = (result.vertical_down[i, j], tokens[i + 1, j])
                for value, other in found.values():
                    assert value == pytest.approx(alike(tokens[i, j], other), abs=1e-6 * size)
        assert result.horizontal_left is not None and result.vertical_up.shape == (h - 1, w)


def test_a_rectangular_grid_has_maps_of_its_shape():
    encoder = encoderlab.load_vision("tiny-dinov2", "cpu", "float32", resolution=(64, 96))
    result = TokenSimilarityAnalyzer(encoder=encoder).analyze(Image.new("RGB", (90, 60), "red"))
    assert result.grid == (8, 12)
    with pytest.raises(UsageError, match="got '8 x 12 patches'"):
        _ = result.grid_size
    assert result.horizontal_right.shape == (8, 11) and result.vertical_down.shape == (7, 12)
    assert result.cls_similarity.shape == result.norms.shape == (8, 12)


@pytest.fixture(scope="module")
def picture():
    from encoderlab.data.synthetic import generate

    return generate(3, split="test").image


@pytest.fixture(scope="module")
def analyzer():
    return TokenSimilarityAnalyzer("tiny-clip", "cpu")


def test_stages_and_layers_are_named_and_are_what_they_say(picture):
    encoder = encoderlab.load_vision("tiny-clip", "cpu", "float32")
    seen = encoder.encode([picture], layers=(2, 4))
    tower = encoder.tower.vision_model
    with torch.no_grad():
        normed = tower.post_layernorm(seen.layers[4])
        projected = encoder.tower.visual_projection(normed)
    for options, named, tokens in (
        ({"layer": 2}, "hidden 2 of 4", seen.layers[2]),
        ({"layer": -1}, "hidden 4 of 4", seen.layers[4]),
        ({"stage": "normed"}, "after the final norm", normed),
        (
            {"stage": "projected"},
            "in the space of the text tower, or of the language model",
            projected,
        ),
        ({}, "last hidden state", seen.patches),
    ):
        result = TokenSimilarityAnalyzer(encoder=encoder, **options).analyze(picture)
        assert result.stage == named
        assert result.anchor == "CLS"
        assert torch.allclose(result.tokens, tokens[0].reshape(12, 12, -1), atol=1e-5)
    projected_result = TokenSimilarityAnalyzer(encoder=encoder, stage="projected").analyze(picture)
    pooled = torch.nn.functional.normalize(seen.pooled[0], dim=0)
    expected = comparable(projected[0]) @ pooled
    assert np.allclose(projected_result.cls_similarity.ravel(), expected, atol=1e-5)
    assert not projected_result.warnings


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"similarity_metric": "l2"},
            "unknown similarity metric: got 'l2'; expected one of cosine",
        ),
        ({"stage": "norm"}, "unknown stage: got 'norm'.*normed"),
        ({"layer": 9}, "no such layer: got 9; expected 0 to 4"),
        ({"layer": 1, "stage": "normed"}, "exclude one another"),
    ],
)
def test_what_there_is_not_is_answered_with_what_there_is(options, words):
    with pytest.raises(UsageError, match=words):
        TokenSimilarityAnalyzer("tiny-clip", "cpu", **options)


def test_a_stage_that_the_family_lacks_is_refused(picture):
    analyzer = TokenSimilarityAnalyzer("tiny-dinov2", "cpu", stage="projected")
    with pytest.raises(UsageError, match="does not have a projection of patches"):
        analyzer.analyze(picture)


def test_z_scores_are_against_patches_of_other_images(analyzer, picture):
    result = analyzer.analyze(picture)
    mean, sd = result.null.mean, result.null.sd
    found = result.z_scores(result.horizontal_right)
    assert np.allclose(found, (result.horizontal_right - mean) / sd)
    alone = next(analyzer.of_pixels(torch.zeros(1, 3, 96, 96, dtype=torch.uint8)))
    with pytest.raises(UsageError, match="no other images to compare with"):
        alone.z_scores(alone.horizontal_right)


def test_mean_centred_maps_are_those_of_tokens_minus_the_mean_of_other_images(analyzer, picture):
    result = analyzer.analyze(picture)
    centred = (result.tokens - result.null.mean_token).numpy()
    a, b = centred[4, 5], centred[4, 6]
    expected = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    assert result.centred.horizontal_right[4, 5] == pytest.approx(expected, abs=1e-5)


def test_a_batch_is_its_images_one_by_one(analyzer, picture):
    other = picture.rotate(90)
    both = analyzer.analyze_batch([picture, other])
    for one, image in zip(both, (picture, other), strict=True):
        alone = analyzer.analyze(image)
        assert np.allclose(one.vertical_down, alone.vertical_down, atol=1e-5)


def test_statistics_without_outliers_leave_them_out(analyzer, picture):
    result = analyzer.analyze(picture)
    result.__dict__["outliers"] = np.zeros((12, 12), dtype=bool)
    result.outliers[0, 0] = True
    plain, without = result.statistics(), result.statistics(without_outliers=True)
    keep = np.ones(result.horizontal_right.shape, dtype=bool)
    keep[0, 0] = False
    down = np.ones(result.vertical_down.shape, dtype=bool)
    down[0, 0] = False
    expected = np.concatenate([result.horizontal_right[keep], result.vertical_down[down]]).mean()
    assert without["neighbour_similarity"] == pytest.approx(expected)
    assert plain["neighbour_similarity"] != without["neighbour_similarity"]


def test_layer_by_layer_ends_where_the_last_layer_is(analyzer, picture):
    rows = analyzer.layer_by_layer(picture)
    assert [row["layer"] for row in rows] == [0, 1, 2, 3, 4]
    last = TokenSimilarityAnalyzer(encoder=analyzer.encoder, layer=-1).analyze(picture)
    assert rows[-1]["morans_i"] == pytest.approx(last.statistics()["morans_i"], abs=1e-5)


def test_a_result_shows_itself_in_a_notebook(analyzer, picture):
    page = analyzer.analyze(picture)._repr_html_()
    assert page.startswith("<img alt='similarity maps of tiny-clip' src='data:image/png;base64,")


# -- where is a text -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tiny-clip", "tiny-siglip"])
def test_raw_patches_are_those_of_the_last_block_as_it_is(name, picture):
    from encoderlab.encoders.patch_text import patches_for_text

    encoder = encoderlab.load_vision(name, "cpu", "float32")
    seen = encoder.encode([picture])
    with torch.no_grad():
        expected = encoder.embed_patches(seen.patches)
    assert torch.allclose(patches_for_text(encoder, [picture], "raw"), expected, atol=1e-4)


def test_ways_differ_by_what_they_leave_out(picture):
    from encoderlab.encoders.patch_text import WAYS, patches_for_text

    encoder = encoderlab.load_vision("tiny-clip", "cpu", "float32")
    found = {way: patches_for_text(encoder, [picture], way)[0] for way in WAYS}
    hidden = encoder.encode([picture], layers=(3,)).layers[3]
    block = encoder.tower.vision_model.encoder.layers[-1]
    with torch.no_grad():
        values = block.self_attn.out_proj(block.self_attn.v_proj(block.layer_norm1(hidden)))
        expected = encoder.embed_patches(values)[0]
    assert torch.allclose(found["value"], expected, atol=1e-4)
    for a in WAYS:
        assert all(a == b or not torch.allclose(found[a], found[b], atol=1e-2) for b in WAYS)


def test_an_encoder_without_a_text_tower_and_an_unknown_way_are_refused(picture):
    from encoderlab.encoders.patch_text import patches_for_text

    with pytest.raises(UsageError, match="no text tower to compare patches with"):
        patches_for_text(encoderlab.load_vision("tiny-dinov2", "cpu"), [picture])
    with pytest.raises(UsageError, match="unknown way to read patches: got 'cls'"):
        patches_for_text(encoderlab.load_vision("tiny-clip", "cpu"), [picture], "cls")


def test_the_view_is_the_crop_that_the_encoder_saw():
    from encoderlab.models.clip import Preprocess

    image = Image.new("RGB", (300, 100), "red")
    image.paste((0, 0, 255), (100, 0, 200, 100))
    seen = np.asarray(Preprocess(32).view(image))
    assert seen.shape == (448, 448, 3) and (seen[:, 5:-5] == (0, 0, 255)).all()
    assert Preprocess(32, fit="squash").view(image).size == (448, 448)
