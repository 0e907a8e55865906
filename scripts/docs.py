"""Builds the documentation site, English and Korean, and checks what came out.

    python scripts/docs.py            # build/docs/site/index.html
    python scripts/docs.py --serve    # the same, then http://127.0.0.1:8000

Pages are docs/en/*.md and docs/ko/*.md with the same names; their order and their short titles are
the list SECTIONS below. Files of the repository that a page links to come along: Markdown becomes a
page under more/, anything else is copied to files/. Zensical turns each language into a site of its
own, strictly. What it may overlook is then looked for in the HTML: every link and anchor, pictures
without words, and what a page would load from another host. Needs `pip install "encoderlab[docs]"`.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import os
import posixpath
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml

ROOT = Path(__file__).resolve().parents[1]
LANGUAGES = {"en": "English", "ko": "한국어"}

# (section in English, in Korean): (file, short title in English, in Korean)
SECTIONS: dict[tuple[str, str], tuple[tuple[str, str, str], ...]] = {
    ("Start here", "시작하기"): (
        ("index.md", "Start here", "시작하기"),
        ("from-a-script.md", "Coming from a script", "스크립트에서 옮겨 오기"),
        ("lessons.md", "Five lessons", "다섯 가지 실습"),
        ("faq.md", "Questions and answers", "자주 묻는 질문"),
    ),
    ("How to", "따라 하기"): (
        ("how-to-align.md", "Choose an encoder", "인코더 고르기"),
        ("how-to-look-inside.md", "Look inside", "토큰 들여다보기"),
        ("how-to-compress.md", "Use fewer tokens", "토큰 줄이기"),
        ("how-to-train.md", "Train a CLIP", "CLIP 학습하기"),
        ("how-to-search.md", "Search images", "이미지 검색하기"),
    ),
    ("In depth", "깊이 알기"): (
        ("method.md", "The method", "방법론"),
        ("alignment.md", "Alignment", "정렬"),
        ("tokens.md", "Tokens", "토큰"),
        ("compression.md", "Compression", "압축"),
        ("training.md", "Training", "학습"),
        ("search.md", "Search", "검색"),
        ("encoders.md", "Encoders and features", "인코더와 특징"),
        ("backends.md", "Backends", "백엔드"),
        ("scale.md", "Scale", "규모"),
        ("clusters.md", "Clusters", "클러스터"),
        ("app.md", "The web page", "웹 페이지"),
    ),
    ("Reference", "참조"): (
        ("configuration.md", "Configuration", "설정"),
        ("api.md", "Python", "파이썬 API"),
        ("architecture.md", "Architecture", "구조"),
        ("benchmarks.md", "Benchmarks", "벤치마크"),
    ),
    ("The project", "프로젝트"): (
        ("security.md", "Security", "보안"),
        ("CHANGELOG.md", "What changed", "바뀐 점"),
        ("CONTRIBUTING.md", "Contributing", "기여하기"),
        ("SECURITY.md", "Reporting a weakness", "취약점 신고"),
        ("docs/dependencies.md", "Why each dependency", "의존성과 그 이유"),
    ),
}
ENGLISH_ONLY = {
    "en": "",
    "ko": '!!! note ""\n\n    이 문서는 영어로만 제공합니다.\n\n',
}
FENCE = re.compile(r"^(`{3,}|~{3,}).*?^\1[ ]*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^)\s]+)\)")
# What a reader must never see: ids of headings, LaTeX, the marks of the API page.
UNRENDERED = re.compile(r"\{#[\w-]+\}|\$\$|\\\(|\\frac|^:::.*", re.MULTILINE)
SAME_PAGE = "same-page.html"  # stands in the language switch until the page is known


def pages() -> list[str]:
    """The pages that must be there in both languages."""
    return [name for name in _in_nav() if not _from_the_root(name)]


def root_pages() -> list[str]:
    """Pages of the nav that stay where they are in the repository, in English."""
    return [name for name in _in_nav() if _from_the_root(name)]


def _in_nav() -> list[str]:
    return [name for rows in SECTIONS.values() for name, _, _ in rows]


def _from_the_root(name: str) -> bool:
    return "/" in name or name.split(".")[0].isupper()


# --- staging: a folder per language, with everything that its pages need --------------------------


@dataclass
class Stage:
    """One language's pages on their way into a folder that Zensical can build.

    Args:
        root: the repository.
        language: en or ko.
        folder: where the pages go.
    """

    root: Path
    language: str
    folder: Path
    problems: list[str] = field(default_factory=list)
    _staged: dict[Path, str] = field(default_factory=dict)

    def run(self) -> None:
        """Stages every page of this language, and what they link to."""
        for path in sorted((self.root / "docs" / self.language).glob("*.md")):
            self._staged[path] = path.name
        for name in root_pages():
            path = self.root / name
            if path.exists():
                self._staged[path] = _more(name)
            else:
                self.problems.append(f"{name}: in the nav of scripts/docs.py, but not there")
        missing = set(pages()) - set(self._staged.values())
        self.problems += [
            f"docs/{self.language}/{name}: in the nav of scripts/docs.py, but not there"
            for name in sorted(missing)
        ]
        waiting = list(self._staged)
        for path in waiting:  # grows while it is walked: a page brings those that it links to
            self._write(path, waiting)

    def nav(self) -> list[dict[str, object]]:
        """The navigation of this language, of the pages that are there."""
        which = list(LANGUAGES).index(self.language)
        nav: list[dict[str, object]] = []
        for titles, rows in SECTIONS.items():
            entries = []
            for name, *short in rows:
                to = _more(name) if _from_the_root(name) else name
                if (self.folder / to).exists():
                    entries.append({short[which]: to})
            if entries:
                nav.append({titles[which]: entries})
        return nav

    def _write(self, path: Path, waiting: list[Path]) -> None:
        text = path.read_text(encoding="utf-8")
        staged = self._staged[path]
        rewritten = "".join(
            part if is_code else LINK.sub(lambda m: self._link(m, path, staged, waiting), part)
            for is_code, part in _code_and_prose(text)
        )
        if path.parent != self.root / "docs" / self.language:
            rewritten = ENGLISH_ONLY[self.language] + rewritten
        to = self.folder / staged
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_text(rewritten, encoding="utf-8")

    def _link(self, match: re.Match[str], path: Path, staged: str, waiting: list[Path]) -> str:
        mark, words, target = match.groups()
        words = LINK.sub(lambda m: self._link(m, path, staged, waiting), words)  # a linked picture
        where, _, anchor = target.partition("#")
        if not where or urlsplit(target).scheme:
            return f"{mark}[{words}]({target})"
        real = Path(os.path.normpath(path.parent / unquote(where)))
        if not real.exists() or not real.is_relative_to(self.root):
            self.problems.append(f"{path.relative_to(self.root)}: no such file: {target}")
            return f"{mark}[{words}]({target})"
        if real.is_dir():
            return words  # a site has no folders to show
        if real.suffix == ".md":
            real = self._in_this_language(real)
            if real not in self._staged:
                self._staged[real] = _more(str(real.relative_to(self.root)))
                waiting.append(real)
            to = self._staged[real]
        else:
            to = self._copied(real)
        relative = posixpath.relpath(to, posixpath.dirname(staged) or ".")
        return f"{mark}[{words}]({relative}{'#' + anchor if anchor else ''})"

    def _in_this_language(self, page: Path) -> Path:
        """The same page in the language of this stage, if it is a page of another one."""
        here = self.root / "docs" / self.language / page.name
        return here if page.parent.parent == self.root / "docs" and here.exists() else page

    def _copied(self, real: Path) -> str:
        images = self.root / "docs" / "images"
        if real.is_relative_to(images):
            to = f"images/{real.relative_to(images).as_posix()}"
        else:
            to = f"files/{real.relative_to(self.root).as_posix()}"
        (self.folder / to).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(real, self.folder / to)
        return to


def _more(name: str) -> str:
    """The page that a Markdown file of the repository becomes: src/a/README.md, more/src-a.md."""
    stem = name.removesuffix(".md").removesuffix("/README").removeprefix("docs/")
    return f"more/{stem.replace('/', '-').lower()}.md"


def _code_and_prose(text: str) -> Iterator[tuple[bool, str]]:
    """The text in order, each part with whether it is a fenced block."""
    end = 0
    for fence in FENCE.finditer(text):
        yield False, text[end : fence.start()]
        yield True, fence.group()
        end = fence.end()
    yield False, text[end:]


# --- building ------------------------------------------------------------------------------------


def configuration(stage: Stage, site: Path) -> dict[str, object]:
    """What Zensical is told about one language. Paths are below the folder of the file."""
    korean = stage.language == "ko"
    to_light, to_dark, to_system = (
        ("밝은 화면으로", "어두운 화면으로", "시스템 설정에 맞추기")
        if korean
        else ("Light", "Dark", "As the system")
    )
    return {
        "site_name": "EncoderLab",
        "site_description": (
            "비전-언어 모델의 비전 인코더를 위한 작업대"
            if korean
            else "A workbench for the vision encoder of a vision-language model"
        ),
        "docs_dir": stage.folder.name,
        "site_dir": str(site),
        "use_directory_urls": False,  # pages open from a disk too
        "nav": stage.nav(),
        "theme": {
            "name": "material",
            "language": stage.language,
            "font": False,  # fonts would come from another host
            "features": [
                "content.code.copy",
                "navigation.footer",
                "navigation.sections",
                "navigation.tabs",
                "navigation.top",
                "search.highlight",
                "toc.follow",
            ],
            "icon": {"logo": "lucide/scan-eye"},
            "palette": [
                _palette("(prefers-color-scheme)", None, "lucide/sun-moon", to_light),
                _palette("(prefers-color-scheme: light)", "default", "lucide/sun", to_dark),
                _palette("(prefers-color-scheme: dark)", "slate", "lucide/moon", to_system),
            ],
        },
        "extra_css": ["site.css"],
        "extra": {
            "homepage": "index.html",
            "alternate": [
                {"name": name, "lang": code, "link": f"../{code}/{SAME_PAGE}"}
                for code, name in LANGUAGES.items()
            ],
        },
        "plugins": [
            "search",
            {
                "mkdocstrings": {
                    "default_handler": "python",
                    "handlers": {
                        "python": {
                            "paths": [str(stage.root / "src")],
                            "options": {
                                "docstring_style": "google",
                                "heading_level": 3,
                                "members_order": "source",
                                "separate_signature": True,
                                "show_root_heading": True,
                                "show_root_full_path": False,
                                "show_source": False,
                                "show_signature_annotations": True,
                                "signature_crossrefs": True,
                            },
                        }
                    },
                }
            },
        ],
        # No smart symbols, no carets, no tildes: what is typed is what stands there.
        "markdown_extensions": [
            "admonition",
            "attr_list",
            "def_list",
            "md_in_html",
            "tables",
            {"toc": {"permalink": "#"}},
            {"pymdownx.highlight": {"pygments_lang_class": True}},
            "pymdownx.superfences",
        ],
    }


def _palette(media: str, scheme: str | None, icon: str, name: str) -> dict[str, object]:
    chosen: dict[str, object] = {"media": media, "toggle": {"icon": icon, "name": name}}
    if scheme:
        chosen["scheme"] = scheme
    return chosen


STYLE = """/* Wide tables scroll by themselves, and words of code in them stay whole. */
.md-typeset table:not([class]) { font-size: .7rem; }
.md-typeset table:not([class]) td, .md-typeset table:not([class]) th { min-width: 5rem; }
.md-typeset table:not([class]) code { word-break: normal; overflow-wrap: normal; }
@media (max-width: 44em) {
  .md-typeset table:not([class]) td, .md-typeset table:not([class]) th { padding: .6em .7em; }
  .md-typeset table:not([class]) td:not(:first-child) { min-width: 9rem; }
}
/* Pictures are drawn on white. */
[data-md-color-scheme="slate"] .md-typeset img { background: #fff; border-radius: .2rem; }
/* Korean breaks between words, not within them. */
:lang(ko) .md-typeset, :lang(ko) .md-nav { word-break: keep-all; overflow-wrap: break-word; }
:lang(ko) .md-typeset a { word-break: inherit; }
"""

REDIRECT = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8"><title>EncoderLab</title>
<meta http-equiv="refresh" content="0; url=en/index.html">
</head>
<body><a href="en/index.html">English</a> · <a href="ko/index.html" lang="ko">한국어</a></body>
</html>
"""


def build(root: Path = ROOT, to: Path | None = None) -> tuple[Path, list[str]]:
    """Builds both languages.

    Args:
        root: the repository.
        to: the working folder, emptied first; its site/ is the result. build/docs below the root if
            not given.

    Returns:
        The folder of the site, and what is wrong with it, a line each.
    """
    to = to or root / "build" / "docs"
    shutil.rmtree(to, ignore_errors=True)
    site = to / "site"
    problems: list[str] = []
    for language in LANGUAGES:
        stage = Stage(root, language, to / language)
        stage.folder.mkdir(parents=True)
        stage.run()
        (stage.folder / "site.css").write_text(STYLE, encoding="utf-8")
        about = to / f"mkdocs.{language}.yml"
        told = configuration(stage, Path("site") / language)
        about.write_text(yaml.safe_dump(told, allow_unicode=True, sort_keys=False), "utf-8")
        ran = subprocess.run(
            [sys.executable, "-m", "zensical", "build", "--strict", "-f", str(about)],
            cwd=to, capture_output=True, text=True, check=False,
        )  # fmt: skip
        problems += stage.problems
        if ran.returncode:
            said = re.sub(r"\x1b\[[0-9;]*m", "", f"{ran.stdout}\n{ran.stderr}")
            said = said.partition("Traceback (most recent call last)")[0].strip() or said.strip()
            problems.append(f"zensical ({language}): {said}")
        # Its links begin at the root of a host, where a language never lies.
        (site / language / "404.html").unlink(missing_ok=True)
        _point_the_switch_at_the_same_page(site / language)
    (site / "index.html").write_text(REDIRECT, encoding="utf-8")
    return site, [*problems, *check_site(site)]


def _point_the_switch_at_the_same_page(site: Path) -> None:
    """Zensical finds the same page by a sitemap, which needs an address; here it is written in."""
    for page in site.rglob("*.html"):
        name = page.relative_to(site).as_posix()
        text = page.read_text(encoding="utf-8")
        page.write_text(text.replace(SAME_PAGE, name), encoding="utf-8")


# --- checking what was built ---------------------------------------------------------------------


LOADS = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src"}
LOADED_RELATIONS = {"stylesheet", "icon", "preconnect", "preload", "modulepreload", "manifest"}


class _Page(HTMLParser):
    """Ids, links, pictures and loaded addresses of one page of HTML."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.no_alt: list[str] = []
        self.mermaid = False
        self._code = 0
        self.prose: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        at = {name: value or "" for name, value in attrs}
        self.ids |= {at[name] for name in ("id", "name") if at.get(name)}
        self.mermaid |= "mermaid" in at.get("class", "").split()
        if tag in ("code", "pre", "script", "style"):
            self._code += 1
        if tag == "a" and "href" in at:
            self.links.append(at["href"])
        if tag == "link" and "href" in at:
            relations = set(at.get("rel", "").split())
            (self.loads if relations & LOADED_RELATIONS else self.links).append(at["href"])
        if LOADS.get(tag) in at:
            self.loads.append(at[LOADS[tag]])
        if tag == "img" and not at.get("alt", "").strip():
            self.no_alt.append(at.get("src", ""))

    def handle_endtag(self, tag: str) -> None:
        if tag in ("code", "pre", "script", "style"):
            self._code -= 1

    def handle_data(self, data: str) -> None:
        if not self._code:
            self.prose.append(data)


def check_site(site: Path) -> list[str]:
    """What is wrong with a built site: links that lead nowhere, pictures without words, strangers.

    Args:
        site: the folder with en/ and ko/.
    """
    seen = {path: _Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    problems: list[str] = []
    for path, page in seen.items():
        name = path.relative_to(site).as_posix()
        for target in dict.fromkeys([*page.links, *page.loads]):
            problems += [f"{name}: {said}" for said in _wrong(target, path, site, seen)]
        for target in page.loads:
            if urlsplit(target).netloc:
                problems.append(f"{name}: loads {target} from another host")
        problems += [f"{name}: no alternative text: {picture}" for picture in page.no_alt]
        if page.mermaid:
            problems.append(f"{name}: a mermaid diagram loads its renderer from another host")
        raw = dict.fromkeys(UNRENDERED.findall(" ".join(page.prose)))
        problems += [f"{name}: markup that is not rendered: {found!r}" for found in raw]
    for sheet in site.rglob("*.css"):
        for strange in re.findall(r"url\(\s*['\"]?(https?:[^)'\"]+)", sheet.read_text("utf-8")):
            problems.append(f"{sheet.relative_to(site).as_posix()}: loads {strange}")
    return problems


def _wrong(target: str, path: Path, site: Path, seen: dict[Path, _Page]) -> list[str]:
    parts = urlsplit(target)
    if parts.scheme or parts.netloc:
        return []  # another host's; a build must not depend on it
    if target.startswith("/"):
        return [f"{target} begins at the root of the host"]
    to = path if not parts.path else Path(os.path.normpath(path.parent / unquote(parts.path)))
    if to.is_dir():
        to = to / "index.html"
    if not to.is_relative_to(site) or not to.exists():
        return [f"{target} leads nowhere"]
    anchor = unquote(parts.fragment)
    if anchor and to in seen and anchor not in seen[to].ids:
        return [f"{target}: no such heading"]
    return []


def main(argv: list[str] | None = None) -> int:
    """Builds, says what is wrong, and serves if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--to", type=Path, help="the working folder (build/docs); emptied first")
    parser.add_argument("--serve", action="store_true", help="then show it on 127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    asked = parser.parse_args(argv)
    site, problems = build(to=asked.to.resolve() if asked.to else None)
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"{site / 'index.html'}: {len(problems)} problems")
    if asked.serve:
        handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=site)
        print(f"http://127.0.0.1:{asked.port}")
        http.server.ThreadingHTTPServer(("127.0.0.1", asked.port), handler).serve_forever()
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
