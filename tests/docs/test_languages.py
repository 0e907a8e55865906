"""The English and the Korean documentation say the same: pages, ids, code, pictures, links."""

import re
from pathlib import Path

import pytest
from scripts import docs
from tests.docs import pages

BOTH = [*(f"docs/en/{name}" for name in docs.PAGES), "README.md"]


def _both(name: str) -> tuple[str, str]:
    english = pages.ROOT / name
    korean = pages.ROOT / "README.ko.md" if name == "README.md" else pages.KOREAN / Path(name).name
    return english.read_text(encoding="utf-8"), korean.read_text(encoding="utf-8")


@pytest.mark.parametrize("folder", [pages.ENGLISH, pages.KOREAN], ids=["en", "ko"])
def test_a_language_has_the_pages_of_the_nav_and_no_others(folder):
    assert sorted(path.name for path in folder.glob("*.md")) == sorted(docs.PAGES)


@pytest.mark.parametrize("name", docs.MORE.values())
def test_the_site_takes_pages_of_the_repository_that_are_there(name):
    assert (pages.ROOT / name).is_file()


@pytest.mark.parametrize("name", BOTH)
def test_code_is_the_same_but_for_comments(name):
    english, korean = map(pages.blocks, _both(name))
    assert [(b.language, b.code) for b in korean] == [(b.language, b.code) for b in english]


@pytest.mark.parametrize("name", BOTH)
def test_headings_have_the_same_ids_in_the_same_order(name):
    english, korean = map(pages.headings, _both(name))
    assert korean == english


@pytest.mark.parametrize("name", BOTH[:-1])
def test_every_heading_names_its_id(name):
    ids = [id for _, id in pages.headings(_both(name)[0])]
    assert all(ids) and len(set(ids)) == len(ids)


@pytest.mark.parametrize("name", BOTH)
def test_pictures_are_the_same_and_have_words_of_their_own(name):
    english, korean = _both(name)
    assert pages.pictures(korean) == pages.pictures(english)
    assert all(re.search("[가-힣]", words) for words in pages.words_of_pictures(korean))


@pytest.mark.parametrize("name", BOTH)
def test_links_lead_to_the_same_places(name):
    english, korean = _both(name)
    # README.md links to English pages and to README.ko.md, README.ko.md the other way round.
    there = [to.replace("docs/ko/", "docs/en/") for to in pages.targets(korean)]
    here = [to.replace("README.ko.md", "README.md") for to in pages.targets(english)]
    assert sorted(there) == sorted(here)


@pytest.mark.parametrize("name", docs.PAGES)
def test_the_same_parts_of_the_package_are_documented(name):
    english, korean = map(pages.objects, _both(f"docs/en/{name}"))
    assert korean == english


@pytest.mark.parametrize("name", BOTH)
def test_the_korean_page_is_in_korean(name):
    korean = pages.prose(_both(name)[1])
    korean = re.sub(r"^:::.*\n(?:    .*\n)*", "", korean, flags=re.M)  # docstrings' names
    words = re.sub(r"`[^`]*`|\]\([^)]*\)|[^\w\s]|\d", " ", korean)
    hangul = len(re.findall("[가-힣]", words))
    assert hangul > len(re.findall("[A-Za-z]", words)), "more Latin letters than Korean ones"


def test_a_difference_in_code_is_noticed_and_one_in_a_comment_is_not():
    english = "```\nencoderlab index photos/  # twice\n```\n"
    assert pages.blocks(english)[0].code == pages.blocks(english.replace("twice", "두 번"))[0].code
    assert pages.blocks(english)[0].code != pages.blocks(english.replace("photos", "사진"))[0].code


def test_a_heading_without_an_id_and_one_on_another_level_are_noticed():
    page = "# Title\n\n## One {#one}\n\n```\n# no heading\n```\n\n### Two {#two}\n"
    assert pages.headings(page) == [(2, "one"), (3, "two")]
    assert pages.headings(page.replace(" {#two}", "")) == [(2, "one"), (3, "")]
