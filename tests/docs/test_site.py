"""The site builds strictly, and what is broken is said."""

from __future__ import annotations

from pathlib import Path

import pytest
from scripts import docs

PNG = b"\x89PNG\r\n"


@pytest.mark.slow
def test_the_site_builds_and_nothing_in_it_is_broken(tmp_path: Path) -> None:
    site, problems = docs.build(to=tmp_path / "docs")
    assert problems == []
    for language in docs.LANGUAGES:
        for name in docs.pages():
            assert (site / language / name).with_suffix(".html").exists()


@pytest.mark.slow
def test_zensical_itself_is_asked_strictly(small: Path, tmp_path: Path) -> None:
    """Ours finds a broken anchor in the HTML; so does `--strict`, in the Markdown."""
    (small / "docs/en/index.md").write_text("# Start\n\n[more](index.md#nothing)\n", "utf-8")
    _, problems = docs.build(small, tmp_path / "built")
    assert any(said.startswith("zensical (en)") and "#nothing" in said for said in problems)
    assert "en/index.html: #nothing: no such heading" in problems or (
        "en/index.html: index.html#nothing: no such heading" in problems
    )


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A repository of one page per language."""
    root = tmp_path / "small"
    for language in docs.LANGUAGES:
        (root / "docs" / language).mkdir(parents=True)
        (root / "docs" / language / "index.md").write_text("# Start\n", "utf-8")
    (root / "docs/images").mkdir()
    (root / "docs/images/x.png").write_bytes(PNG)
    (root / "src").mkdir()
    (root / "src/README.md").write_text("# Card\n\n[back](../docs/en/index.md)\n", "utf-8")
    (root / "src/data.csv").write_text("a,b\n", "utf-8")
    return root


def _stage(root: Path, page: str, to: Path) -> docs.Stage:
    (root / "docs/en/index.md").write_text(page, "utf-8")
    stage = docs.Stage(root, "en", to)
    stage.run()
    return stage


def test_pictures_cards_and_files_come_along(small: Path, tmp_path: Path) -> None:
    page = (
        "# Start\n\n![x](../images/x.png) [card](../../src/README.md#card) "
        "[data](../../src/data.csv) [folder](../../src)\n\n```\n[not](a-link.md)\n```\n"
    )
    to = tmp_path / "stage"
    stage = _stage(small, page, to)
    staged = (to / "index.md").read_text("utf-8")
    assert "![x](images/x.png) [card](more/src.md#card) [data](files/src/data.csv) folder" in staged
    assert "[not](a-link.md)" in staged
    assert "[back](../index.md)" in (to / "more/src.md").read_text("utf-8")
    assert (to / "images/x.png").read_bytes() == PNG and (to / "files/src/data.csv").exists()
    assert not [said for said in stage.problems if "no such file" in said]


def test_english_pages_of_the_root_lead_to_the_language_of_the_reader(
    small: Path, tmp_path: Path
) -> None:
    (small / "CHANGELOG.md").write_text("# Changes\n\n[start](docs/en/index.md)\n", "utf-8")
    stage = docs.Stage(small, "ko", tmp_path / "ko")
    stage.run()
    staged = (tmp_path / "ko/more/changelog.md").read_text("utf-8")
    assert "[start](../index.md)" in staged and "영어로만" in staged
    assert sorted(path.name for path in (tmp_path / "ko/more").iterdir()) == ["changelog.md"]


def test_a_link_to_nothing_is_said(small: Path, tmp_path: Path) -> None:
    stage = _stage(
        small, "# Start\n\n[gone](gone.md) ![gone](../images/gone.png)\n", tmp_path / "s"
    )
    assert "docs/en/index.md: no such file: gone.md" in stage.problems
    assert "docs/en/index.md: no such file: ../images/gone.png" in stage.problems


def test_a_page_that_the_nav_names_and_is_not_there_is_said(small: Path, tmp_path: Path) -> None:
    stage = _stage(small, "# Start\n", tmp_path / "s")
    assert "docs/en/faq.md: in the nav of scripts/docs.py, but not there" in stage.problems


@pytest.mark.parametrize(
    ("html", "said"),
    [
        ('<a href="b.html">b</a>', None),
        ('<a href="b.html#two">b</a>', None),
        ('<a href="#one">a</a><h2 id="one">One</h2>', None),
        ('<a href="https://example.org/x">far</a>', None),
        ('<a href="gone.html">b</a>', "gone.html leads nowhere"),
        ('<a href="b.html#three">b</a>', "b.html#three: no such heading"),
        ('<a href="../../out.html">b</a>', "../../out.html leads nowhere"),
        ('<a href="/b.html">b</a>', "/b.html begins at the root of the host"),
        ('<img src="x.png" alt="a picture">', None),
        ('<img src="x.png" alt="">', "no alternative text: x.png"),
        ('<img src="gone.png" alt="gone">', "gone.png leads nowhere"),
        ('<script src="https://example.org/x.js"></script>', "loads https://example.org/x.js"),
        ('<link rel="stylesheet" href="//example.org/x.css">', "loads //example.org/x.css"),
        ('<pre class="mermaid">graph</pre>', "a mermaid diagram"),
        ("<h2>Title {#title}</h2>", "not rendered: '{#title}'"),
        ("<p><code>{#title}</code> and $5</p>", None),
        ("<p>$$ x^2 $$</p>", "not rendered: '$$'"),
    ],
)
def test_what_is_wrong_with_a_page_is_said(html: str, said: str | None, tmp_path: Path) -> None:
    folder = tmp_path / "site" / "en"
    folder.mkdir(parents=True)
    (folder / "x.png").write_bytes(PNG)
    (folder / "a.html").write_text(html, "utf-8")
    (folder / "b.html").write_text('<h2 id="two">Two</h2>', "utf-8")
    problems = docs.check_site(tmp_path / "site")
    if said is None:
        assert problems == []
    else:
        assert len(problems) == 1 and problems[0].startswith("en/a.html: ") and said in problems[0]


def test_a_style_sheet_that_loads_from_elsewhere_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.css").write_text(
        "@font-face { src: url('https://example.org/f.woff') }", "utf-8"
    )
    assert docs.check_site(tmp_path) == ["a.css: loads https://example.org/f.woff"]


def test_the_language_switch_stays_on_the_page(small: Path, tmp_path: Path) -> None:
    site, _ = docs.build(small, tmp_path / "built")
    assert 'href="../ko/index.html" hreflang="ko"' in (site / "en/index.html").read_text("utf-8")
    assert "url=en/index.html" in (site / "index.html").read_text("utf-8")
