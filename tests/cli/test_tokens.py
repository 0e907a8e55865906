"""`encoderlab tokens` as it is typed: every known line, what it writes, what it refuses."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from encoderlab.encoders.checkpoint import ZOO
from encoderlab.inspection import plots

LINES = [
    line
    for line in (Path(__file__).parent / "commands.txt").read_text(encoding="utf-8").splitlines()
    if line.split()[0] == "tokens"
]
ALIASES = "encoders:\n" + "".join(
    f"  {name}: {ZOO / 'tiny-clip'}\n"
    for name in ("openai/clip-vit-large-patch14", "clip-vit-large-patch14",
                 "clip-vit-large-patch14-336", "openai/clip-vit-large-patch14-336")
)  # fmt: skip


@pytest.fixture
def here(lab, tmp_path, monkeypatch):
    """A folder with the images that the lines name; the large models stand for a small one."""
    (tmp_path / "encoderlab-aliases.yaml").write_text(ALIASES)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/my_config.yaml").write_text(
        "defaults:\n  - config\n  - _self_\nimage: {path: dog.jpg}\n"
    )
    for name in ("your_image", "my_image", "image1", "image2", "image3", "dog", "a", "b"):
        Image.effect_noise((50, 40), 80).convert("RGB").save(tmp_path / f"{name}.jpg")
    return lab


@pytest.mark.parametrize("line", LINES)
def test_every_known_line_runs_on_a_small_model(line, here, tmp_path):
    # As typed, but small: the figures' size is the time it takes.
    words = [
        "visualization.figsize=[8,6]" if "figsize" in word else word for word in shlex.split(line)
    ]
    small = [] if any("figsize" in word for word in words) else ["visualization.figsize=[8,6]"]
    answer = here(*words, *small, "output.dpi=40", "visualization.save_individual=false")
    if any(word.startswith("device=") and "cpu" not in word for word in words):
        # A GPU by name on a machine that has none.
        assert answer.code in (0, 1, 3), answer.err
        assert answer.code == 0 or "the GPU that was asked for is not there" in answer.err
    else:
        assert answer.code == 0, answer.err
        assert list(tmp_path.rglob("similarities.npz"))


def test_it_writes_what_people_know(here, tmp_path):
    answer = here("tokens", "image.path=dog.jpg", "output.dpi=40", "visualization.figsize=[8,6]",
                  "--text", "a dog", "--json")  # fmt: skip
    assert answer.code == 0, answer.err
    folder = tmp_path / "outputs/tokens"
    for name in ("config.yaml", "run.json", "similarities.npz", "similarity_analysis_combined.png",
                 "individual/horizontal_similarity.png", "individual/vertical_similarity.png",
                 "individual/cls_similarity.png", "layers.png", "patch_text.png"):  # fmt: skip
        assert (folder / name).is_file(), name
    with np.load(folder / "similarities.npz") as arrays:
        assert arrays["grid_size"].tolist() == [12, 12]
        assert arrays["horizontal_right"].shape == (12, 11)
        assert arrays["vertical_down"].shape == (11, 12)
        assert arrays["cls_similarity"].shape == (12, 12)
    assert set(answer.json["patch_text"]) == {"raw", "value", "self_self", "clear", "neighbour"}
    assert answer.json["statistics"]["morans_i"]["value"] is not None


def test_a_folder_has_means_intervals_and_ends(here, tmp_path):
    (tmp_path / "photos").mkdir()
    for i in range(5):
        Image.effect_noise((40, 40), 10 + 40 * i).convert("RGB").save(tmp_path / f"photos/{i}.png")
    Image.new("RGB", (40, 40)).save(tmp_path / "photos/flat.png")
    (tmp_path / "photos/broken.png").write_bytes(b"no")
    answer = here("tokens", "image.path=photos", "output.save_visualizations=false", "--json")
    assert answer.code == 0, answer.err
    result = answer.json
    score = result["statistics"]["loss_at_half"]
    assert score["ci_low"] < score["value"] < score["ci_high"] and score["n"] == 6
    assert result["ends"]["loss_at_half"]["lowest"][0].endswith("flat.png") or score["n"] == 6
    assert [Path(one["id"]).name for one in result["skipped"]] == ["broken.png"]
    assert not list((tmp_path / "outputs/tokens").glob("*.png"))
    globbed = here(
        "tokens", "--image", "photos/[01].png", "output.save_visualizations=false", "--json"
    )
    assert len(globbed.json["per_image"]) == 2


def test_copies_of_an_image_count_once_in_the_means(here, tmp_path):
    (tmp_path / "photos").mkdir()
    for i in range(3):
        picture = Image.effect_noise((40, 40), 5 + 60 * i).convert("RGB")
        for copy in "abc"[: i + 1]:
            picture.save(tmp_path / f"photos/{i}{copy}.png")
    words = ["output.save_visualizations=false", "output.save_similarities=false", "--json"]
    found = here("tokens", "image.path=photos", *words).json
    once = here("tokens", "image.path=photos/?a.png", *words).json
    assert len(found["per_image"]) == 6 and len(once["per_image"]) == 3
    for name, score in once["statistics"].items():
        assert found["statistics"][name] == pytest.approx(score), name
    assert found["statistics"]["morans_i"]["n"] == 3
    assert "6 files show 3 images" in found["warnings"][-1]
    assert "means over 3 images" in here("tokens", "image.path=photos", *words[:2]).out


@pytest.mark.slow
def test_of_a_folder_the_maps_of_the_images_at_the_ends_are_drawn(here, tmp_path, monkeypatch):
    def touch(drawn, path, dpi):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    monkeypatch.setattr(plots, "_save", touch)  # which images, not how
    (tmp_path / "photos").mkdir()
    for i in range(14):
        Image.effect_noise((40, 40), 5 + 15 * i).convert("RGB").save(tmp_path / f"photos/{i}.png")
    words = ["tokens", "image.path=photos", "visualization.save_individual=false", "output.dpi=20",
             "visualization.figsize=[6,5]", "--json"]  # fmt: skip
    answer = here(*words)
    ends = {
        Path(image).stem
        for name in ("neighbour_similarity", "loss_at_half")
        for images in answer.json["ends"][name].values()
        for image in images
    }
    folder = tmp_path / "outputs/tokens"
    drawn = {p.parent.name.split("-", 1)[1] for p in folder.glob("*/*combined.png")}
    assert 6 <= len(ends) <= 12 and drawn == ends
    assert f"maps of the {len(ends)} images at the ends" in answer.err
    assert "visualization.images=all draws those of all 14" in answer.err
    assert here(*words, "visualization.images=all").code == 0
    assert len(list(folder.glob("*/*combined.png"))) == 14


def test_what_is_not_wanted_is_not_written(here, tmp_path):
    answer = here("tokens", "output.save_similarities=false", "visualization.save_combined=false",
                  "visualization.save_individual=false", "output.dpi=40")  # fmt: skip
    assert answer.code == 0 and "a built-in chart (none was named)" in answer.err
    folder = tmp_path / "outputs/tokens"
    assert sorted(p.name for p in folder.iterdir()) == [
        "config.yaml", "layers.npz", "layers.png", "run.json",
    ]  # fmt: skip


@pytest.mark.parametrize("format", ["pdf", "svg"])
def test_figures_come_in_other_formats(format, here, tmp_path):
    answer = here("tokens", f"output.format={format}", "visualization.figsize=[8,6]")
    assert answer.code == 0, answer.err
    assert (tmp_path / f"outputs/tokens/similarity_analysis_combined.{format}").is_file()
    assert (tmp_path / f"outputs/tokens/individual/cls_similarity.{format}").is_file()


@pytest.mark.parametrize(
    ("word", "code", "told"),
    [
        ("similarity.metric=l2", 2, "one of cosine, dot_product"),
        ("visualization.cmap=viridiss", 2, "Did you mean 'viridis'?"),
        ("output.format=jpeg", 2, "one of png, pdf, svg"),
        ("device=gpu", 2, "auto, cpu, cuda, cuda:1 or 1"),
        ("device=7", 3, "the GPU that was asked for is not there"),
        ("similarity.layer=9", 2, "0 to 4, or -1 for the last"),
        ("similarity.stage=norm", 2, "one of last, normed, projected"),
        ("image.path=none.jpg", 3, "no such image"),
        ("model=tiny_clipp", 3, "'tiny-clip'"),
        ("--model=tiny_clipp", 3, "'tiny-clip'"),
        ("visualization.figsize=[8]", 2, "figsize is no width and height"),
    ],
)
def test_a_mistake_is_answered_in_one_sentence_that_names_the_choices(
    word, code, told, here, tmp_path
):
    answer = here("tokens", word)
    assert answer.code == code, answer.err
    assert told in answer.err and "Traceback" not in answer.err
    assert not (tmp_path / "outputs/tokens/run.json").exists()


def test_python_takes_a_plain_name_and_path(here, tmp_path):
    import encoderlab

    result = encoderlab.tokens(model="tiny-dinov2", image=str(tmp_path / "dog.jpg"))
    assert result.anchor == "CLS" and result.grid == (12, 12)
    json.dumps(result.to_json())
