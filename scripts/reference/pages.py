"""Which part of which page comes from the code, and whether it is up to date.

A part stands between `<!-- from the code: NAME -->` and `<!-- end -->`. Knows the pages and the
names of the parts, not what is in them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import measured
import settings_tables

ROOT = Path(__file__).parent.parent.parent
LANGUAGES = ("en", "ko")
PART = re.compile(r"(<!-- from the code: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)

# Name of a part -> what makes it, for a language.
PARTS: dict[str, Callable[[str], str]] = {
    "settings-of-all": settings_tables.of_all,
    "settings-by-command": settings_tables.by_command,
    "aliases": settings_tables.aliases,
    "machine": measured.machine,
    "targets": measured.targets,
    "missed": measured.missed,
    "figures": measured.figures,
}


def written(language: str) -> list[Path]:
    """The pages of a language that have such a part."""
    folder = ROOT / "docs" / language
    return [page for page in sorted(folder.glob("*.md")) if PART.search(page.read_text("utf-8"))]


def renewed(page: Path, language: str) -> str:
    """The page with every part made anew."""

    def make(found: re.Match[str]) -> str:
        before, name, after = found.groups()
        return f"{before}\n{PARTS[name](language).strip()}\n\n{after}"

    return PART.sub(make, page.read_text(encoding="utf-8"))


def stale() -> dict[Path, str]:
    """Each page that is not as the code would have it, with the text that it should have."""
    return {
        page: text
        for language in LANGUAGES
        for page in written(language)
        if (text := renewed(page, language)) != page.read_text(encoding="utf-8")
    }
