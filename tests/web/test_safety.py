"""What a visitor may not do, asked as someone would who does not use the page's own buttons."""

import io
import json
import time

import httpx
import pytest
from benchmarks.bench_web_load import resident_mb
from benchmarks.web_client import WebVisitor
from PIL import Image
from tests.web.conftest import wait_for_examples

from encoderlab.errors import WorkError
from encoderlab.web import render
from encoderlab.web.user_sessions import UserSessions

FILE = {"meta": {"_type": "gradio.FileData"}}


@pytest.fixture
def visitor(site):
    visitor = WebVisitor(site.address)
    yield visitor
    visitor.close()


def picture(size: tuple[int, int] = (32, 32), form: str = "PNG") -> bytes:
    content = io.BytesIO()
    Image.new("RGB", size, "red").save(content, form)
    return content.getvalue()


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "pyproject.toml", "../../etc/passwd", "/proc/self/environ",
     "http://127.0.0.1:1/x", "https://example.com/x.png", "http%3A//example.com"],
)  # fmt: skip
def test_no_file_of_the_machine_and_no_foreign_address_is_served(path, site):
    answer = httpx.get(f"{site.address}/gradio_api/file={path}")
    assert answer.status_code in (403, 404)
    assert "root:" not in answer.text


def test_nothing_is_fetched_for_a_visitor(site):
    assert httpx.get(f"{site.address}/gradio_api/proxy=http://example.com").status_code == 403


def test_a_page_for_this_machine_answers_to_no_other_name(site):
    assert httpx.get(site.address, headers={"host": "evil.example"}).status_code == 403


def test_the_browser_is_told_to_load_nothing_from_elsewhere(site):
    policy = httpx.get(site.address).headers["content-security-policy"]
    assert "default-src 'self'" in policy and "http" not in policy


@pytest.mark.parametrize("path", ["/etc/passwd", "/etc/hostname", "pyproject.toml"])
def test_a_path_in_place_of_an_upload_is_not_opened(path, visitor):
    with pytest.raises(RuntimeError):
        visitor.press("tokens-run", {"tokens-image": {"path": path, **FILE}})


def test_a_path_typed_as_a_model_is_no_model(visitor, clip_folder):
    for name in (str(clip_folder), "../tiny-clip", "openai/clip-vit-base-patch32"):
        with pytest.raises(RuntimeError):
            visitor.press("tokens-run", {"model": name})


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("notes.png", b"no image at all", "no image in a format we read"),
        ("empty.png", b"", "file is empty"),
        ("cut.jpg", picture(form="JPEG")[:300], "damaged or cut short"),
        ("drawing.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        ("page.pdf", b"%PDF-1.4", "a PDF"),
        ("bomb.png", picture((9000, 9000)), "over the limit of 40,000,000"),
    ],
)
def test_a_file_that_is_no_image_gets_a_sentence(name, content, said, visitor, site):
    shown = visitor.press("attention-run", {"attention-image": visitor.upload(name, content)})
    assert said in shown["attention-answer"] and name in shown["attention-answer"]
    assert "Traceback" not in shown["attention-answer"]
    assert str(site.home) not in json.dumps(shown)


def test_an_upload_over_the_limit_is_not_taken(visitor):
    with pytest.raises(httpx.HTTPStatusError) as refused:
        visitor.upload("large.png", b"x" * 1_200_000)
    assert refused.value.response.status_code == 413


def test_more_images_than_allowed_get_a_sentence(visitor):
    images = [visitor.upload(f"{i}.png", picture()) for i in range(6)]
    shown = visitor.press("make-index-run", {"make-index-images": images})
    assert "too many images at once: got 6; expected at most 5" in shown["make-index-answer"]


@pytest.mark.parametrize("k", [0, 51, 10**12, "five", None])
def test_numbers_that_the_page_does_not_offer_are_refused(k, visitor):
    try:
        shown = visitor.press("search-run", {"k": k})
    except RuntimeError:
        return  # Gradio has refused it before us
    assert "a number is out of range" in shown["search-answer"]


def test_markup_in_a_query_is_text(visitor):
    shown = visitor.press("search-run", {"search-query": "<img src=x onerror=alert(1)>"})
    assert "<img src=x" not in shown["search-answer"]
    assert "&lt;img src=x" in shown["search-answer"]


def test_visitors_files_have_names_that_nobody_guesses(visitor, site):
    files = visitor.press("search-run")["search-files"]
    address = files.split("href='")[1].split("'")[0]
    own = httpx.get(f"{site.address}/{address}")
    assert own.json()["hits"]
    part = next(part for part in address.split("/") if part.startswith("visitor-"))
    assert len(part.removeprefix("visitor-")) == 32
    above = address.split(part)[0]
    for guess in (above, above + part, address.replace(part, "visitor-" + "0" * 32)):
        assert httpx.get(f"{site.address}/{guess}").status_code == 403
    # The run's own record names paths of the machine: it is not kept where it would be served.
    assert httpx.get(f"{site.address}/{address.replace('result', 'run')}").status_code == 403


def test_memory_is_where_it_was_after_a_hundred_runs(visitor, site):
    wait_for_examples(site)
    for _ in range(10):
        visitor.press("search-run")
    before = resident_mb(site.process)
    for _ in range(100):
        visitor.press("search-run")
    assert resident_mb(site.process) < before + 30


def test_an_unexpected_error_is_a_number_and_the_traceback_stays_in_the_log(runner, capsys):
    def settings():
        raise ZeroDivisionError("a secret")

    visitor = runner.visitors.of("a")
    outcome = runner.run(visitor, "search", "search", settings, lambda *progress: None)
    page = "".join(render.answer(outcome))
    assert outcome.bug and outcome.bug in page
    assert "secret" not in page and "Traceback" not in page
    log = capsys.readouterr().err
    assert f"error {outcome.bug}:" in log and "a secret" in log


def test_uploads_and_runs_are_refused_when_the_room_is_used_up(tmp_path):
    visitors = UserSessions(tmp_path, most_mb=1)
    visitors.require_room()
    visitors._looked = 0.0
    (tmp_path / "upload.bin").write_bytes(b"x" * 1_500_000)
    with pytest.raises(WorkError):
        visitors.require_room()


def test_unused_files_are_removed(tmp_path, monkeypatch):
    visitors = UserSessions(tmp_path, most_mb=1)
    (tmp_path / "example.png").write_bytes(b"ours")
    visitors.keep_what_is_there()
    (tmp_path / "upload.png").write_bytes(b"theirs")
    gone, here = visitors.of("a").fresh("search"), visitors.of("b").fresh("search")
    visitors.of("a").seen = time.monotonic() - 4000
    later = time.time() + 4000
    monkeypatch.setattr(time, "time", lambda: later)
    assert not visitors.is_full()
    assert not gone.exists() and here.exists() and (tmp_path / "example.png").exists()
    assert not (tmp_path / "upload.png").exists()
    visitors.forget("b")
    assert not here.parent.exists()
