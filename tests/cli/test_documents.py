"""What README and docs tell people to type parses, and their Python runs."""

import ast
import re
import shlex

import pytest
from tests.docs import pages

import encoderlab

EVERY_PAGE = [*sorted(pages.ROOT.glob("*.md")), *sorted((pages.ROOT / "docs").rglob("*.md"))]
# The Korean pages hold the blocks of the English ones (tests/docs holds that).
PAGES = [page for page in EVERY_PAGE if page.parent.name != "ko" and ".ko." not in page.name]


def _blocks(language: str) -> list[tuple[str, str]]:
    return [
        (str(page.relative_to(pages.ROOT)), block.body)
        for page in PAGES
        for block in pages.blocks(page.read_text(encoding="utf-8"))
        if block.language == language
    ]


COMMANDS = [
    line.removeprefix("encoderlab ")
    for _, body in _blocks("")
    for line in body.replace("\\\n", " ").splitlines()
    if line.startswith("encoderlab ")
]


def test_there_are_commands_to_check():
    assert len(COMMANDS) >= 6


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_documents_parses(line, lab):
    answer = lab(*shlex.split(line), "--show-config", "--json")
    assert answer.code == 0, answer.err


@pytest.mark.parametrize(("page", "body"), _blocks("python"))
def test_python_of_the_documents_uses_public_names(page, body):
    for node in ast.walk(ast.parse(body)):
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and (node.value.id == "encoderlab")
        ):
            assert node.attr in encoderlab.__all__, f"{page}: encoderlab.{node.attr}"


@pytest.mark.parametrize("page", EVERY_PAGE, ids=lambda page: str(page.relative_to(pages.ROOT)))
def test_links_inside_the_project_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} -> {target}"


@pytest.mark.parametrize(
    "name", ["README.md", *(f"docs/en/{name}.md" for name in ("encoders", "alignment", "tokens"))]
)
def test_the_python_of_the_documents_runs(name, clip_folder, world, tmp_path, monkeypatch):
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    bodies = [body for page, body in _blocks("python") if page == name]
    assert bodies
    # What a reader has at hand there.
    space = {
        "picture": Image.new("RGB", (50, 40), "red"),
        "my_encoder": encoderlab.load_vision(clip_folder, dtype="float32"),
    }
    for body in bodies:
        for shown, real in (
            ("tiny-clip", str(clip_folder)),
            ("tiny-dinov2", str(clip_folder)),
            ("outputs/train", str(clip_folder)),
            ("photos/", str(world / "images")),
            ("pairs/test.csv", str(world / "captions.csv")),
        ):
            body = body.replace(shown, real)
        exec(compile(body, name, "exec"), space)
