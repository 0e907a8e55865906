"""Every tab in a real browser: its example runs with one click, and shows what Python gives."""

import functools
import json
import re
import shutil
import time

import numpy as np
import pytest
from PIL import Image
from tests.web.conftest import wait_for_examples

import encoderlab
from encoderlab import TokenSimilarityAnalyzer
from encoderlab.compression.settings import CompressEvaluation, CompressModel, CompressPicture
from encoderlab.core.results import score_text
from encoderlab.web import examples
from encoderlab.web.i18n import phrases
from encoderlab.web.tabs.zero_shot import CLASSES
from encoderlab.zoo import ZOO

pytestmark = pytest.mark.slow

WIDTHS = (1280, 390)
# Samples per type, epochs, and one LLM of two: a test need not learn much.
FEW, EPOCHS, LLMS = 6, 5, ["tiny-llama"]
TABS = (
    "ask", "alignment", "coral", "attention", "tokens", "embedding", "compression", "search",
    "zero_shot", "validation", "speed",
)  # fmt: skip
ROW = ("ask", "align", "inside", "compression", "find", "validation", "speed")
GROUP_OF = {
    "alignment": "align", "coral": "align", "attention": "inside", "tokens": "inside",
    "embedding": "inside", "search": "find", "zero_shot": "find",
}  # fmt: skip


def open_tab(page, name: str) -> None:
    """Shows a tab; on a narrow page it may stand behind the button with the dots."""
    said = phrases("ko" if page.get_attribute("html", "lang") == "ko" else "en")
    if name in GROUP_OF:
        select(page, said[f"{GROUP_OF[name]}_tab"])
    select(page, said[f"{name}_tab"])
    page.locator(f"#{name.replace('_', '-')}-run").wait_for(state="visible")


def select(page, title: str) -> None:
    tab = page.get_by_role("tab", name=title, exact=True)
    tab.or_(page.locator(".overflow-dropdown button", has_text=title)).first.wait_for(
        state="attached"
    )
    if not tab.first.is_visible():
        # A row of tabs within a tab has a button with dots of its own.
        hidden = page.locator(".overflow-dropdown button", has_text=title)
        menu = page.locator(".overflow-menu").filter(has=hidden).first
        menu.locator("> button").first.click()
        menu.locator(".overflow-dropdown button", has_text=title).first.click()
    else:
        tab.first.click()


def run(page, name: str, part: str = "answer") -> str:
    """Presses the button, and gives what is said of this run, not of the tab's example."""
    before = page.locator(f"#{name}-answer .answer")
    last = before.get_attribute("data-run") if before.count() else ""
    page.click(f"#{name}-run")
    page.wait_for_selector(
        f"#{name}-answer .answer:not([data-run='{last}']):not([data-run^='examples/']), "
        f"#{name}-answer .alert"
    )
    return page.inner_text(f"#{name}-{part}")


def unfold(page, name: str) -> None:
    """Opens what a tab keeps folded of an answer."""
    if not page.locator(f"#{name}-files .command").is_visible():
        page.locator(f"#{name}-more > button").click()
    page.locator(f"#{name}-files .command").wait_for(state="visible")


def choose(page, label: str, count: int) -> None:
    """Types a number beside a slider, and sees the slider follow."""
    number = page.locator(f"input[type=number][aria-label*='{label}']:visible")
    slider = page.locator(f"input[type=range][aria-label*='{label}']:visible")
    for _ in range(20):  # a tab that has just opened may put its own value back
        number.fill(str(count))
        page.keyboard.press("Tab")
        page.wait_for_timeout(100)
        if slider.input_value() == str(count):
            return
    raise AssertionError(f"the slider stays at {slider.input_value()}")


@functools.cache
def expected(name: str, features: str, index: str) -> tuple[str, ...]:
    """Numbers that the page must show, by the Python API with the same settings."""
    picture, caption = examples.samples()[0]
    data = {"llms": LLMS, "n_samples": FEW, "features_dir": features}
    if name == "ask":
        result = encoderlab.vlm_answer(image=picture, text=examples.questions()[0])
        return result.answer, f"({result.probability:.1%})"
    if name == "attention":
        encoders = encoderlab.attention(image=picture, text=caption).encoders
        return tuple(f"{encoder.rollout_entropy:.3f}" for encoder in encoders)
    if name == "alignment":
        rows = encoderlab.compare(**data).rows
        return tuple(score_text(row.scores["cka_linear"].to_json()) for row in rows)
    if name == "embedding":
        scores = encoderlab.embedding(**data).procrustes.values()
        return tuple(score_text(score.to_json()) for score in scores)
    if name == "coral":
        rows = encoderlab.coral(**data).whole.cross_modal
        return tuple(f"{row.coral.spectral_similarity:.3f}" for row in rows)
    if name == "validation":
        result = encoderlab.e2e(epochs=EPOCHS, **data)
        if result.undefined:
            return (result.undefined,)
        scores = [p.retrieval.image_to_text.mrr for p in result.points if p.layer == "pooled"]
        return tuple(score_text(score.to_json()) for score in scores)
    if name == "search":
        hits = encoderlab.search(query="a large red star", db=index, k=6).hits
        return tuple(f"{hit.score:.3f}" for hit in hits)
    if name == "tokens":
        return (f"{encoderlab.tokens(image=picture).statistics['morans_i'].value:.3f}",)
    if name == "compression":
        evaluation = CompressEvaluation(grids=[4], compressors=["tiny-siglip-12to4"])
        image, model = CompressPicture(picture), CompressModel("tiny-siglip")
        result = encoderlab.compress(
            action="show", model=model, evaluation=evaluation, picture=image
        )
        return tuple(f"error {row['nmse']:.3f}" for row in result.rows)
    return ()


@pytest.mark.parametrize("name", TABS)
def test_example_of_a_tab_shows_what_python_gives(name, open_page, site, tmp_path):
    wait_for_examples(site)
    for width in WIDTHS:
        page = open_page(width)
        open_tab(page, name)
        if name in ("alignment", "embedding", "coral", "validation"):
            choose(page, "Samples per data type", FEW)
            drop = page.locator(".token:visible", has_text="tiny-qwen")
            drop.locator(".token-remove").click()
            drop.wait_for(state="detached")
        if name == "validation":
            choose(page, "Training epochs", EPOCHS)
        slug = name.replace("_", "-")
        run(page, slug)
        unfold(page, slug)
        said = page.inner_text(f"#{slug}-answer") + page.inner_text(f"#{slug}-rest")
        assert not page.locator(f"#{slug}-answer .alert").count(), said
        for number in expected(name, site.features, str(site.home / "example-index")):
            assert number in said, (number, said)
        if name == "speed":
            rows = page.locator(f"#{slug}-answer tbody tr").count()
            assert rows == 6 and re.search(r"tiny-clip\s+8\s+\S+\s+[\d.]+", said)
        if name == "zero_shot":
            # Gradio's note of the time stands before the title while it fades.
            chart = page.inner_text("#zero-shot-chances").partition("Probabilities")[2]
            (best, share), *_ = classified(tmp_path / str(width))
            assert chart.strip().startswith(best) and f"{share:.0%}" in chart, chart
        check_what_stands_below(page, slug, site)
        # Nothing of the page is cut off at the side.
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, f"{name} is {wide} pixels wide"


def classified(folder) -> tuple:
    """What Python says of the example, by the same classes."""
    folder.mkdir()
    shutil.copy(examples.samples()[0][0], folder)
    return encoderlab.classify(image_dir=str(folder), classes=CLASSES).predictions[0].top


def check_what_stands_below(page, slug: str, site) -> None:
    """The command line, the files and the figures of an answer; no path of the machine in them."""
    ours = str(site.home / "visitors")
    command = page.inner_text(f"#{slug}-files .command pre")
    assert command.startswith("encoderlab ") and ours not in command
    with page.expect_download() as download:
        page.click(f"#{slug}-files a[download='result.json']")
    result = json.loads(download.value.path().read_text(encoding="utf-8"))
    assert result and ours not in json.dumps(result)
    assert page.locator(f"#{slug}-files a[download='result.csv']").count() == 1
    for image in page.locator(f"#{slug}-rest img").all():
        assert image.evaluate("one => one.decode().then(() => one.naturalWidth)") > 100


@pytest.mark.parametrize(("locale", "scheme"), [("en-US", "light"), ("ko-KR", "dark")])
def test_compression_is_one_screen_before_and_after_a_run(locale, scheme, open_page):
    page = open_page(locale=locale, color_scheme=scheme)
    page.wait_for_function(f"document.documentElement.lang.startsWith('{locale[:2]}')")
    open_tab(page, "compression")
    page.locator("#compression-chart img").evaluate("one => one.decode()")

    def ends() -> dict[str, float]:
        parts = {
            part: page.locator(f"#compression-{part}").bounding_box()
            for part in ("advice", "answer", "chart", "run", "more")
        }
        parts["tab"] = page.locator("#tab-compression").bounding_box()
        return {part: box["y"] + box["height"] for part, box in parts.items()}

    assert max(ends().values()) <= 900
    said = run(page, "compression")
    page.locator("#compression-answer img").evaluate("one => one.decode()")
    assert "0.0" in said and max(ends().values()) <= 900
    assert not page.locator("#compression-files .command").is_visible()
    unfold(page, "compression")
    assert ends()["tab"] > 900


def test_the_sentence_follows_the_budget_and_the_chart_names_the_method(open_page):
    stored = json.loads((ZOO / "compressors" / "evaluation.json").read_text())["result"]
    lines = [line.split(": ") for line in stored["answers"]]
    best = {line[0]: line[1] for line in lines if len(line) > 2}  # "16 tokens" -> method
    page = open_page()
    open_tab(page, "compression")
    said = page.inner_text("#compression-advice")
    assert said.startswith(f"With 16 of 144 tokens use {best['16 tokens']}:")
    choose(page, phrases("en")["grid"], 6)
    page.wait_for_function(
        "document.querySelector('#compression-advice').innerText.includes('36 of 144')"
    )
    page.click("button[data-language=ko]")
    page.wait_for_function("document.documentElement.lang === 'ko'")
    assert "36" in (said := page.inner_text("#compression-advice"))
    assert best["36 tokens"] in said and "trained" in said
    page.click("button[data-language=en]")
    method = page.get_by_label(phrases("en")["reduction"], exact=True).locator("visible=true")
    method.click()
    page.get_by_role("option", name="strided", exact=True).click()
    assert "strided: rebuilt from 36 of 144" in run(page, "compression")
    grey = page.inner_text("#compression-chart figcaption")
    assert "bilinear" in grey and "strided" not in grey
    # A trained compressor gives its own budgets only, and says so.
    method.click()
    page.get_by_role("option", name="trained", exact=True).click()
    choose(page, phrases("en")["grid"], 5)
    page.click("#compression-run")
    page.wait_for_selector("#compression-answer .alert")
    assert "5 x 5" in page.inner_text("#compression-answer")


def answered(page, part: str) -> str:
    """The answer in large type, once the rest of the answer contains `part`."""
    page.wait_for_selector("#ask-answer .answer")
    unfold(page, "ask")
    page.wait_for_function(
        "part => document.querySelector('#ask-files')?.innerText.includes(part)", arg=part
    )
    return page.inner_text("#ask-answer .answer > p:first-child")


def test_example_question_is_answered_when_the_page_opens(open_page):
    page = open_page()
    row = page.get_by_role("tab").all_inner_texts()
    assert row == [phrases("en")[f"{name}_tab"] for name in ROW]
    large = answered(page, examples.questions()[0])
    answer, share = expected("ask", "", "")
    assert large == f"{answer} {share}"
    size = "one => parseFloat(getComputedStyle(one).fontSize)"
    heading = page.locator("#ask-answer .answer > p:first-child").evaluate(size)
    assert heading > 1.5 * page.locator("#ask-answer td").first.evaluate(size)
    assert page.locator("#ask-answer tbody tr").count() > 1
    assert not page.locator("#ask-answer img, #ask-rest img").count()


@pytest.mark.parametrize("name", [name for name in TABS if name != "compression"])
def test_example_of_a_tab_is_there_without_a_click_and_fits_one_screen(name, open_page, site):
    wait_for_examples(site)
    page = open_page()
    before = set(site.home.glob("visitors-*/visitor-*"))
    open_tab(page, name)
    slug = name.replace("_", "-")
    answer = page.locator(f"#{slug}-answer .answer")
    answer.wait_for()
    for image in page.locator(f"#tab-{name} img:visible").all():
        image.evaluate("one => one.decode()")
    more = page.locator(f"#{slug}-more").bounding_box()
    assert more["y"] + more["height"] <= 900
    # Nothing ran for this visitor.
    assert set(site.home.glob("visitors-*/visitor-*")) <= before
    assert "/examples/" in page.inner_html(f"#{slug}-answer") or name != "alignment"


def test_every_visitor_has_the_example_patch_in_the_sliders(open_page):
    for _ in range(2):
        page = open_page()
        open_tab(page, "tokens")
        page.locator("#tokens-answer .answer").wait_for()
        sliders = page.locator("#tab-tokens input[type=range]")
        sliders.nth(1).wait_for()
        assert [one.input_value() for one in sliders.all()] == ["7", "7"]  # the middle patch


def test_progress_stands_above_the_answer_and_takes_no_room_after_it(open_page, site):
    wait_for_examples(site)
    page = open_page()
    open_tab(page, "validation")
    page.locator("#validation-answer .answer").wait_for()
    bar, answer = page.locator("#validation-progress"), page.locator("#validation-answer")
    assert not bar.is_visible()
    with page.expect_response("**/queue/join*"):
        page.click("#validation-run")
    bar.wait_for(state="visible")
    upper, lower = bar.bounding_box(), answer.bounding_box()
    assert upper["height"] >= 40 and upper["y"] + upper["height"] <= lower["y"]
    assert not answer.locator(".progress-text").count()
    page.click("#validation-stop")
    bar.wait_for(state="hidden")
    answer.get_by_text("Stopped").wait_for()


def test_what_an_experiment_says_is_korean_on_a_korean_page(open_page, site):
    wait_for_examples(site)
    page = open_page(locale="ko-KR")
    page.wait_for_function("document.documentElement.lang.startsWith('ko')")
    open_tab(page, "alignment")
    sentence = page.locator("#alignment-answer .answer > p").first
    sentence.wait_for()
    assert "인코더는" in sentence.inner_text()
    korean = re.findall(r"\d+\.\d+", sentence.inner_text())
    page.click("button[data-language=en]")
    page.wait_for_function("document.documentElement.lang === 'en'")
    assert re.search("^[a-z0-9-]+ (aligns|has) ", sentence.inner_text())
    assert sorted(re.findall(r"\d+\.\d+", sentence.inner_text())) == sorted(korean)


def test_another_question_gets_another_answer_with_its_explanation(open_page, tmp_path):
    page = open_page()
    first = answered(page, examples.questions()[0])
    page.locator("#tab-ask .gallery-item, .gallery-item:visible").nth(2).click()
    field = page.locator("#ask-text textarea, #ask-text input")
    page.wait_for_function(
        "text => [...document.querySelectorAll('#ask-text textarea, #ask-text input')]"
        ".some(one => one.value === text)",
        arg=examples.questions()[2],
    )
    field.press("Enter")
    second = answered(page, examples.questions()[2])
    assert second != first
    # An image and a question of one's own, asked in the Korean page.
    page.click("button[data-language=ko]")
    page.wait_for_function("document.documentElement.lang === 'ko'")
    Image.open(examples.samples()[0][0]).save(tmp_path / "mine.png")
    page.set_input_files("#ask-image input[type=file]", tmp_path / "mine.png")
    page.wait_for_function("document.querySelector('#ask-image img')?.src.includes('mine')")
    field.fill("How many bars are there?")
    page.get_by_label(phrases("ko")["explain"]).check()
    page.click("#ask-run")
    answered(page, "mine.png --text 'How many bars are there?' --explain")
    assert "지도가 가리키는 곳" in page.inner_text("#ask-answer")
    page.click("button[data-language=en]")
    page.wait_for_function("document.documentElement.lang === 'en'")
    said = page.inner_text("#ask-answer")
    assert "the map does not point" in said or "depends on what the map points at" in said
    assert re.search(r"falls by -?[\d.]+ without the \d+ most attended.* ± [\d.]+ without", said)
    image = page.locator("#ask-answer img")
    assert image.evaluate("one => one.decode().then(() => one.naturalWidth)") > 100
    # The map stands before the files.
    assert image.bounding_box()["y"] < page.locator("#ask-files").bounding_box()["y"]


def test_language_switches_at_once_and_stays(open_page):
    page = open_page()
    open_tab(page, "search")
    run(page, "search")
    page.click("button[data-language=ko]")
    page.wait_for_function("document.documentElement.lang === 'ko'")
    for name in (*ROW, "search", "zero_shot"):
        title = phrases("ko")[f"{name}_tab"]
        page.get_by_role("tab", name=title, exact=True).first.wait_for()
    unfold(page, "search")
    assert page.inner_text("#search-run") == phrases("ko")["find"]
    open_tab(page, "tokens")  # for the first time, and in Korean from the start
    assert page.inner_text("#tokens-run") == phrases("ko")["run"]
    for opened in ("ask", "tokens"):  # a reload would break off a request
        page.locator(f"#{opened}-answer .answer").wait_for(state="attached")
    open_tab(page, "search")
    # What stands inside our own HTML follows too, and the result is still there.
    assert phrases("ko")["files"] in page.inner_text("#search-files")
    assert page.locator("#search-answer tbody tr").count() == 6
    page.reload()
    page.wait_for_selector("#ask-run")
    page.wait_for_function("document.documentElement.lang === 'ko'")
    assert page.inner_text("#ask-run") == phrases("ko")["ask"]
    page.click("button[data-language=en]")
    page.wait_for_function("document.documentElement.lang === 'en'")
    assert page.inner_text("#ask-run") == phrases("en")["ask"]


def test_korean_browser_gets_a_korean_page(open_page):
    page = open_page(locale="ko-KR")
    page.wait_for_function("document.querySelector('#ask-run').innerText === '묻기'")


def test_dark_mode_follows_the_system(open_page):
    page = open_page(color_scheme="dark")
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(map(int, re.findall(r"\d+", colour)[:3])) < 60


def test_every_field_has_a_name_for_a_screen_reader(open_page):
    page = open_page()
    nameless = """() => [...document.querySelectorAll('input, textarea, select, button')]
      .filter(one => one.offsetParent !== null && one.type !== 'file')
      .filter(one => !(one.labels?.length || one.getAttribute('aria-label') ||
        one.getAttribute('aria-labelledby') || one.title || one.innerText?.trim() ||
        one.placeholder || one.querySelector('[aria-label], title')))
      .map(one => one.outerHTML.slice(0, 160))"""
    for name in TABS:
        open_tab(page, name)
        assert page.evaluate(nameless) == [], name


def test_keyboard_alone_finds_an_image(open_page):
    page = open_page()
    open_tab(page, "search")
    page.locator("#search-query textarea, #search-query input").focus()
    page.keyboard.press("Control+A")
    page.keyboard.type("a striped table")
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "search-run":
            break
    page.keyboard.press("Enter")
    page.locator("#search-answer caption", has_text="a striped table").wait_for()


def test_click_on_a_patch_compares_it_with_all_others(open_page):
    page = open_page()
    open_tab(page, "tokens")
    run(page, "tokens")
    picture = page.locator("#tokens-patch img")
    picture.evaluate("one => one.decode()")
    box = picture.bounding_box()
    side = min(box["width"], box["height"])  # the picture is square, and centred in its field
    x, y = (box["width"] - side) / 2, (box["height"] - side) / 2
    # the middle of the patch in the third row and the fifth column of twelve
    picture.click(position={"x": x + side * 4.5 / 12, "y": y + side * 2.5 / 12})
    page.wait_for_function("document.querySelector('#tokens-said').innerText.includes('3, 5')")
    maps = TokenSimilarityAnalyzer("tiny-clip", dtype="float32").analyze(examples.samples()[0][0])
    others = maps.patch_similarity(2, 4)
    others[2, 4] = np.nan
    assert page.inner_text("#tokens-said .mean") == f"{np.nanmean(others):.3f}"


def test_slider_fades_the_maps_without_asking_the_server(open_page):
    page = open_page()
    open_tab(page, "attention")
    run(page, "attention")
    above = page.locator("#attention-maps .above").first
    assert above.evaluate("one => getComputedStyle(one).opacity") == "0.6"
    slider = page.get_by_label("How strongly the maps cover the image").locator("visible=true")
    slider.first.fill("0.2")
    page.keyboard.press("Tab")
    page.wait_for_function(
        "getComputedStyle(document.querySelector('#attention-maps .above')).opacity === '0.2'"
    )


def test_own_images_can_be_searched_and_belong_to_their_visitor(open_page, tmp_path):
    files = [tmp_path / f"{colour}.png" for colour in ("red", "green", "blue")]
    for file in files:
        Image.new("RGB", (96, 96), file.stem).save(file)
    page, other = open_page(), open_page()
    open_tab(page, "search")
    page.get_by_text(phrases("en")["make_index"], exact=True).click()
    page.set_input_files("#make-index-images input[type=file]", files)
    page.wait_for_function(
        "document.querySelector('#make-index-images').innerText.includes('blue')"
    )
    page.click("#make-index-run")
    page.wait_for_selector("#make-index-answer .answer")
    assert "3 images" in page.inner_text("#make-index-answer")
    page.fill("#search-query textarea, #search-query input", "green")
    run(page, "search")
    first = page.locator("#search-answer tbody tr").first.inner_text()
    assert "green.png" in first
    open_tab(other, "search")
    other.get_by_label(phrases("en")["index_own"]).check()
    other.click("#search-run")
    other.wait_for_selector("#search-answer .alert")
    assert "there is no index of your images yet" in other.inner_text("#search-answer")


def test_what_a_visitor_left_goes_with_the_page(chromium, site):
    def folders() -> set:
        return set(site.home.glob("visitors-*/visitor-*"))

    before = folders()
    context = chromium.new_context()
    page = context.new_page()
    page.goto(site.address)
    page.wait_for_selector("#ask-run")
    open_tab(page, "search")
    run(page, "search")
    mine = folders() - before
    assert len(mine) == 1
    context.close()
    for _ in range(300):
        if not mine & folders():
            return
        time.sleep(0.1)
    raise AssertionError("the folder is still there after half a minute")


def test_a_run_can_be_stopped_and_another_started(open_page):
    page = open_page()
    open_tab(page, "validation")
    choose(page, "Samples per data type", 60)
    with page.expect_response("**/queue/join*"):
        page.click("#validation-run")
    page.wait_for_selector("#validation-progress .wrap:not(.hide), .progress-text")
    page.click("#validation-stop")
    page.wait_for_function(
        "document.querySelector('#validation-answer').innerText.includes('Stopped')"
    )
    open_tab(page, "attention")
    assert "entropy" in run(page, "attention")
