"""What is broken in a built site is said; `make docs` builds the site and runs the check."""

import pytest
from scripts import docs


@pytest.mark.parametrize("language", ["en", "ko"])
def test_links_lead_to_staged_pages(language, tmp_path):
    folder = tmp_path / language
    docs.stage(language, folder)
    staged = {page.relative_to(folder).as_posix() for page in folder.rglob("*.md")}
    assert staged == {*docs.PAGES, *docs.MORE}
    assert "](more/results.md" in (folder / "benchmarks.md").read_text("utf-8")
    assert "](images/app/" in (folder / "app.md").read_text("utf-8")
    assert "](../security.md)" in (folder / "more/security.md").read_text("utf-8")
    changes = (folder / "more/changelog.md").read_text("utf-8")
    assert ("영어로만" in changes) == (language == "ko")


def test_the_korean_site_has_korean_texts():
    told = docs.settings("ko")
    assert {"시작하기": "index.md"} in told["nav"][0]["시작하기"]
    assert told["theme"]["palette"][1]["toggle"]["name"] == "어두운 화면으로"
    assert docs.settings("en")["theme"]["palette"][1]["toggle"]["name"] == "Dark"
    unknown = set(docs.SITE["ko"]) - set(str(docs.SITE["settings"]).split("'"))
    assert unknown == set()


@pytest.mark.parametrize(
    ("html", "said"),
    [
        ('<a href="b.html">b</a>', None),
        ('<a href="https://example.org/x">far</a>', None),
        ("<a href=b.html#two>b</a>", None),
        ('<a href="gone.html">b</a>', "gone.html leads nowhere"),
        ('<a class="x" href=gone.html#a>b</a>', "gone.html#a leads nowhere"),
        ('<a href="../../out.html">b</a>', "../../out.html leads nowhere"),
        ('<a href="/b.html">b</a>', "/b.html leads nowhere"),
        ('<img src="x.png" alt="a picture">', None),
        ("<img alt=picture src=x.png>", None),
        ('<img src="x.png" alt="">', "no alternative text"),
        ('<img src="x.png">', "no alternative text"),
        ('<img src="gone.png" alt="gone">', "gone.png leads nowhere"),
        ('<script src="https://example.org/x.js"></script>', "loads https://example.org/x.js"),
        ('<link rel="stylesheet" href="//example.org/x.css">', "loads //example.org/x.css"),
        ('<pre class="mermaid">graph</pre>', "not rendered"),
        ("<h2>Title {#title}</h2>", "not rendered: {#title}"),
        ("<p><code>{#title}</code> and $5</p>", None),
        ("<p>$$ x^2 $$</p>", "not rendered: $$"),
    ],
)
def test_what_is_wrong_with_a_page_is_said(html, said, tmp_path):
    folder = tmp_path / "site/en"
    folder.mkdir(parents=True)
    (folder / "x.png").touch()
    (folder / "a.html").write_text(html, "utf-8")
    (folder / "b.html").write_text('<h2 id="two">Two</h2>', "utf-8")
    problems = docs.check(tmp_path / "site")
    if said is None:
        assert problems == []
    else:
        assert problems and problems[0].startswith("en/a.html: ") and said in problems[0]


def test_a_style_sheet_that_loads_from_elsewhere_is_said(tmp_path):
    (tmp_path / "a.css").write_text("@font-face { src: url('https://example.org/f.woff') }")
    assert docs.check(tmp_path) == ["a.css: loads https://example.org/f.woff from another host"]
