"""Builds the documentation site, English and Korean: build/docs/site/index.html.

`docs/site.yaml` says which pages there are and what Zensical is told. Zensical builds strictly: a
page, a heading or a name that a link or `:::` names must exist. It does not look at files, so these
are checked in the HTML: pictures and files that are missing, pictures without alternative text,
markup that is not rendered, and whatever a page would load from another host.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

ROOT = Path(__file__).resolve().parents[1]
SITE = yaml.safe_load((ROOT / "docs/site.yaml").read_text(encoding="utf-8"))
MORE: dict[str, str] = SITE["more"]
PAGES = [
    page
    for section in SITE["settings"]["nav"]
    for entries in section.values()
    for entry in entries
    for page in entry.values()
    if page not in MORE
]
ENGLISH_ONLY = {"en": "", "ko": '!!! note ""\n\n    이 문서는 영어로만 제공합니다.\n\n'}
CODE = re.compile(r"<(pre|code|script|style)\b(?! class=\"?mermaid).*?</\1>", re.DOTALL)
TARGET = re.compile(r"<(\w+)[^>]*? (?:href|src)=\"?([^\s\">]*)[^>]*>")
NO_WORDS = re.compile(r"<img(?![^>]* alt=\"?[^\s\">])[^>]*>")
UNRENDERED = re.compile(r"\{#[\w-]+\}|\$\$|\\\(|\\frac|^:::.*|class=\"?mermaid", re.MULTILINE)


def build(to: Path = ROOT / "build/docs") -> list[str]:
    """Builds both languages below a folder, which is emptied first: the site is its `site`.

    Returns:
        What is wrong, a line each.
    """
    shutil.rmtree(to, ignore_errors=True)
    problems = []
    for language in ENGLISH_ONLY:
        stage(language, to / language)
        config = to / f"{language}.yml"
        config.write_text(yaml.safe_dump(settings(language), allow_unicode=True), "utf-8")
        words = [sys.executable, "-m", "zensical", "build", "--strict", "-f", str(config)]
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode:
            problems.append(f"zensical ({language}): {done.stdout}{done.stderr}")
        site = to / "site" / language
        # Its links begin at the root of a host, where a language never lies.
        (site / "404.html").unlink(missing_ok=True)
        for page in site.rglob("*.html"):
            name = page.relative_to(site).as_posix()
            page.write_text(page.read_text("utf-8").replace("THIS-PAGE", name), "utf-8")
    shutil.copy(ROOT / "docs/site.html", to / "site/index.html")
    return [*problems, *check(to / "site")]


def stage(language: str, folder: Path) -> None:
    """Puts the pages of a language where Zensical finds them, with links that lead there."""
    shutil.copytree(ROOT / "docs" / language, folder)
    shutil.copytree(ROOT / "docs/images", folder / "images")
    shutil.copy(ROOT / "docs/site.css", folder)
    for page in folder.glob("*.md"):
        text = page.read_text("utf-8").replace("](../images/", "](images/")
        for to, source in MORE.items():
            text = text.replace(f"](../../{source}", f"]({to}")
        page.write_text(text, "utf-8")
    (folder / "more").mkdir()
    for to, source in MORE.items():
        text = (ROOT / source).read_text("utf-8").replace("](docs/en/", "](../")
        (folder / to).write_text(ENGLISH_ONLY[language] + text, "utf-8")


def settings(language: str) -> dict[str, Any]:
    """What Zensical is told about a language. Paths are below the folder of the file."""
    texts = SITE.get(language, {})

    def translated(part: Any) -> Any:
        if isinstance(part, dict):
            return {texts.get(key, key): translated(value) for key, value in part.items()}
        if isinstance(part, list):
            return [translated(entry) for entry in part]
        return texts.get(part, part)

    told = translated(SITE["settings"])
    told["theme"]["language"] = language
    return {**told, "docs_dir": language, "site_dir": f"site/{language}"}


def check(site: Path) -> list[str]:
    """What is wrong with the pages of a built site, a line each."""
    problems = []
    for page in sorted(site.rglob("*.html")):
        html = page.read_text("utf-8")
        wrong = [f"no alternative text: {tag}" for tag in NO_WORDS.findall(html)]
        raw = UNRENDERED.findall(CODE.sub("", html))
        wrong += [f"markup that is not rendered: {mark}" for mark in raw]
        for tag, target in dict.fromkeys(TARGET.findall(html)):
            if re.match(r"(\w+:)?//", target):
                wrong += [f"loads {target} from another host"] if tag != "a" else []
            elif not re.match(r"data:|mailto:", target):
                file = unquote(urlsplit(target).path)
                if file.startswith("/") or not (page.parent / file).exists():
                    wrong.append(f"{target} leads nowhere")
        problems += [f"{page.relative_to(site)}: {one}" for one in wrong]
    for sheet in site.rglob("*.css"):
        urls = re.findall(r"url\(['\"]?(https?:[^)'\"]+)", sheet.read_text("utf-8"))
        problems += [f"{sheet.relative_to(site)}: loads {url} from another host" for url in urls]
    return problems


if __name__ == "__main__":
    found = build()
    print("\n".join(found), file=sys.stderr)
    print(f"build/docs/site/index.html: {len(found)} problems")
    sys.exit(bool(found))
